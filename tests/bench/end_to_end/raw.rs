//! The yardstick: a bare publisher over the same MQTT client. It keeps nothing; what it sends is acknowledged by the
//! broker, and its packet ids are matched.

use std::time::Duration;

use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, NetworkOptions, Outgoing, PublishOptions,
    mqttbytes::{QoS, v5::Packet},
};
use tokio::time::Instant;

use crate::events;

/// As the service's own.
const BATCH: usize = 64;

/// A publisher that is connected.
pub struct Publisher {
    client: AsyncClient,
    events: EventLoop,
    window: usize,
    /// Which packet ids are on their way.
    flying: Vec<bool>,
}

/// A client of the broker on this port; what it sends leaves at once.
pub fn options(client_id: &str, port: u16) -> MqttOptions {
    let mut options = MqttOptions::new(client_id, ("127.0.0.1", port));
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    options
}

impl Publisher {
    pub async fn connect(port: u16, window: u16) -> Self {
        let mut options = options("bare", port);
        options.set_clean_start(true);
        options.set_max_request_batch(BATCH);
        options.set_read_batch_size(BATCH);
        options.set_outgoing_inflight_upper_limit(window);
        let (client, mut events) = AsyncClient::builder(options).capacity(usize::from(window) * 2).build();
        while !matches!(
            events.poll().await.expect("the broker is there"),
            Event::Incoming(Packet::ConnAck(_))
        ) {}
        Self { client, events, window: window.into(), flying: vec![false; 65_536] }
    }

    fn publish(&self, number: usize, qos: QoS) {
        let (topic, payload) = (events::topic(number), events::bare_payload(number));
        let sent = self.client.try_publish(topic, payload, PublishOptions::new(qos));
        sent.expect("the queue is twice as long as the window");
    }

    /// Publishes so many as fast as it can. How long until the last one was acknowledged (QoS 0: was written).
    pub async fn publish_all(&mut self, count: usize, qos: QoS) -> Duration {
        let started = Instant::now();
        let (mut given, mut done) = (0, 0);
        while done < count {
            // Refilled by batches: one by one they would be written one by one.
            if given - done <= self.window.saturating_sub(BATCH) {
                let room = self.window - (given - done);
                for number in given..(given + room).min(count) {
                    self.publish(number, qos);
                }
                given = (given + room).min(count);
            }
            done += usize::from(self.next().await);
        }
        started.elapsed()
    }

    /// Waits for what happens next; whether it ends a message.
    async fn next(&mut self) -> bool {
        match self.events.poll().await.expect("the connection holds") {
            Event::Outgoing(Outgoing::Publish(0)) => true,
            Event::Outgoing(Outgoing::Publish(id)) => {
                self.flying[usize::from(id)] = true;
                false
            }
            Event::Incoming(Packet::PubAck(ack)) => self.landed(ack.pkid),
            Event::Incoming(Packet::PubComp(comp)) => self.landed(comp.pkid),
            _ => false,
        }
    }

    fn landed(&mut self, id: u16) -> bool {
        std::mem::take(&mut self.flying[usize::from(id)])
    }

    /// Publishes at a steady pace, one every `every`; tells when each was begun.
    pub async fn publish_paced(&mut self, numbers: std::ops::Range<usize>, every: Duration) -> Vec<Instant> {
        let mut begun = Vec::new();
        let mut clock = tokio::time::interval(every);
        let (mut done, count) = (0, numbers.len());
        let mut numbers = numbers;
        while done < count {
            tokio::select! {
                _ = clock.tick(), if !numbers.is_empty() => {
                    begun.push(Instant::now());
                    self.publish(numbers.next().expect("it is not empty"), QoS::AtLeastOnce);
                }
                ended = self.next() => done += usize::from(ended),
            }
        }
        begun
    }
}
