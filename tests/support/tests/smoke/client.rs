//! An MQTT client that a test drives step by step, one connection at a time.

use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnAck, ConnectionError, Event, EventLoop, MqttOptions, Outgoing, Packet, PublishOptions,
    QoS,
};
use tokio::time::timeout;

pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct Client {
    pub(crate) queue: AsyncClient,
    pub(crate) events: EventLoop,
    pub(crate) connack: ConnAck,
}

pub(crate) fn options(port: u16) -> MqttOptions {
    let mut options = MqttOptions::new("smoke", ("127.0.0.1", port));
    options.set_keep_alive(5).set_connect_timeout(Duration::from_secs(2));
    options
}

impl Client {
    pub(crate) async fn connect(port: u16) -> Self {
        Self::try_connect(options(port)).await.expect("connected")
    }

    pub(crate) async fn try_connect(options: MqttOptions) -> Result<Self, ConnectionError> {
        let (client, mut events) = AsyncClient::builder(options).capacity(1000).build();
        loop {
            if let Event::Incoming(Packet::ConnAck(connack)) = in_time(events.poll()).await? {
                return Ok(Self { queue: client, events, connack });
            }
        }
    }

    pub(crate) async fn queue(&self, topic: &str, payload: &str, qos: QoS) {
        self.queue.publish(topic, payload.to_owned(), PublishOptions::new(qos)).await.expect("queued");
    }

    /// Publishes and waits for the broker's PUBACK or PUBCOMP.
    pub(crate) async fn publish(&mut self, topic: &str, payload: &str, qos: QoS) {
        self.queue(topic, payload, qos).await;
        self.until(|event| match event {
            Event::Outgoing(Outgoing::Publish(_)) => qos == QoS::AtMostOnce,
            Event::Incoming(Packet::PubAck(_)) => qos == QoS::AtLeastOnce,
            Event::Incoming(Packet::PubComp(_)) => qos == QoS::ExactlyOnce,
            _ => false,
        })
        .await;
    }

    pub(crate) async fn retain(&mut self, topic: &str, payload: &str) {
        let options = PublishOptions::new(QoS::AtLeastOnce).retained();
        self.queue.publish(topic, payload.to_owned(), options).await.expect("queued");
        self.until(|event| matches!(event, Event::Incoming(Packet::PubAck(_)))).await;
    }

    pub(crate) async fn until(&mut self, mut wanted: impl FnMut(&Event) -> bool) -> Event {
        loop {
            let event = in_time(self.events.poll()).await.expect("the connection stays open");
            if wanted(&event) {
                return event;
            }
        }
    }

    /// Polls until the connection ends.
    pub(crate) async fn end(&mut self) -> ConnectionError {
        loop {
            if let Err(error) = in_time(self.events.poll()).await {
                return error;
            }
        }
    }
}

pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(TIMEOUT, future).await.expect("within 10 s")
}
