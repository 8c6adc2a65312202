//! MQTT 3.1.1, using rumqttc. The protocol has no reason codes and no message expiry, and a broker cannot
//! report its limits.

use std::{sync::Arc, time::Duration};

use rumqttc_v4::{
    AsyncClient, ConnectionError, EventLoop, MqttOptions, PublishOptions,
    mqttbytes::{
        self,
        v4::{LastWill, Packet, SubscribeReasonCode},
    },
};

use super::{
    Accepted, Answer, BATCH, Ended, Event, Limits, Message, Overrun, SessionOptions,
    packet_filter::{PacketFilter, Traffic},
    v4_reason,
};
use crate::{
    connection::dial,
    domain::{
        mqtt_version::Version,
        settings::{MqttSettings, QoS},
    },
};

/// The largest packet that the protocol allows (section 2.2.3). A broker may have a lower limit but cannot
/// report it.
const MAX_PACKET_SIZE: usize = 268_435_455;

/// How long it may take to send the messages that the client has, while there is progress.
const SEND_TIMEOUT: Duration = Duration::from_hours(1);

/// Incoming messages are small: Home Assistant's status and our test messages. The client has the same limit
/// for MQTT 5.
const MAX_INCOMING_SIZE: usize = 10 * 1024;

/// Returns conservative limits, because the broker cannot report its own. Exceeding Mosquitto's
/// `max_inflight_messages`, which can be as low as 1, loses messages: Mosquitto acknowledges QoS 2 messages
/// above that limit and drops them. So at most one QoS 2 message is in flight.
fn limits(qos: QoS, maximum_qos: QoS) -> Limits {
    Limits {
        receive_maximum: if qos.min(maximum_qos) == QoS::ExactlyOnce { 1 } else { u16::MAX },
        maximum_qos,
        retain_available: true,
        maximum_packet_size: None,
    }
}

#[derive(Debug)]
pub struct Client(AsyncClient);

/// A session. It makes progress only while it is polled.
pub struct Session {
    event_loop: Box<EventLoop>,
    /// Taken when the login is accepted.
    client: Option<Client>,
    settings: Arc<MqttSettings>,
    maximum_qos: QoS,
    traffic: Traffic,
}

pub fn open(settings: &Arc<MqttSettings>, options: SessionOptions, maximum_qos: QoS) -> Session {
    let capacity = options.queue_capacity();
    let traffic = Traffic::default();
    let mqtt = mqtt_options(settings, options, capacity, &traffic);
    let (client, mut event_loop) = AsyncClient::builder(mqtt).capacity(capacity.into()).build();
    // Allows one timeout for the network connection and one for the login. `dial` has its own timeout, with a
    // better message.
    let timeout = dial::connect_timeout(settings) * 2;
    event_loop.network_options.set_connection_timeout(timeout.as_secs());
    let (event_loop, settings) = (Box::new(event_loop), Arc::clone(settings));
    Session { event_loop, client: Some(Client(client)), settings, maximum_qos, traffic }
}

fn mqtt_options(
    settings: &Arc<MqttSettings>,
    session: SessionOptions,
    capacity: u16,
    traffic: &Traffic,
) -> MqttOptions {
    let broker = (settings.broker_host.clone(), settings.broker_port);
    let mut options = MqttOptions::new(session.client_id, broker);
    // The outbox knows what must be sent again; the broker's session is not needed.
    options.set_clean_session(true);
    options.set_keep_alive(settings.keep_alive_seconds);
    options.set_max_packet_size(MAX_INCOMING_SIZE, MAX_PACKET_SIZE);
    options.set_max_request_batch(BATCH);
    options.set_read_batch_size(BATCH);
    options.set_inflight(capacity);
    match (settings.username.clone(), settings.exposed_password()) {
        (username, Some(password)) => {
            // A password without a user name violates the protocol (section 3.1.2.9).
            let username = username.unwrap_or_default();
            options.set_credentials(username, password.to_owned().into_bytes());
        }
        (Some(username), None) => {
            options.set_username(username);
        }
        (None, None) => {}
    }
    if let Some(will) = session.will {
        options.set_last_will(LastWill::new(
            will.topic,
            will.payload.to_vec(),
            to_client_qos(will.qos),
            will.retain,
        ));
    }
    let connector = (Arc::clone(settings), session.transport, traffic.clone());
    options.set_socket_connector(move |_, _| {
        let (settings, transport, traffic) = connector.clone();
        async move {
            let stream = dial::dial(&settings, &transport).await?;
            Ok(PacketFilter::new(stream, Version::V311, traffic))
        }
    });
    options
}

impl Session {
    /// Returns the next event. It must not be called again after an error: the event loop would reconnect.
    pub async fn next(&mut self) -> Option<Result<Event, Ended>> {
        match self.event_loop.poll().await {
            Ok(event) => Some(Ok(self.handle(event))),
            Err(ConnectionError::RequestsDone) => None,
            Err(error) => {
                let accepted = self.client.is_none();
                Some(Err(v4_reason::connection_error(&error, &self.settings, accepted)))
            }
        }
    }

    fn handle(&mut self, event: rumqttc_v4::Event) -> Event {
        match event {
            rumqttc_v4::Event::Outgoing(rumqttc_v4::Outgoing::Publish(packet_id)) => Event::Sent(packet_id),
            rumqttc_v4::Event::Outgoing(rumqttc_v4::Outgoing::PingReq) => Event::Ping,
            rumqttc_v4::Event::Incoming(Packet::ConnAck(_)) => self.on_accepted(),
            rumqttc_v4::Event::Incoming(packet) => packet_to_event(packet),
            rumqttc_v4::Event::Outgoing(_) => Event::Ignored,
        }
    }

    fn on_accepted(&mut self) -> Event {
        let Some(client) = self.client.take() else { return Event::Alive };
        // From now on, this timeout limits how long the client may take to send what it has, which can be a
        // picture on a slow line. The connection checks whether it makes progress.
        self.event_loop.network_options.set_connection_timeout(SEND_TIMEOUT.as_secs());
        let (client, limits) = (super::Client::V311(client), limits(self.settings.qos, self.maximum_qos));
        let traffic = self.traffic.clone();
        Event::Accepted(Accepted { client, version: Version::V311, refused: None, limits, traffic })
    }
}

fn packet_to_event(packet: Packet) -> Event {
    const ACCEPTED: Answer = Answer::Accepted { unheard: false };
    match packet {
        Packet::PubAck(ack) => Event::Answered(ack.pkid, ACCEPTED),
        Packet::PubRec(rec) => Event::Received { packet_id: rec.pkid, unheard: false },
        Packet::PubComp(comp) => Event::Answered(comp.pkid, ACCEPTED),
        Packet::SubAck(ack) => Event::Subscribed(
            ack.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))),
        ),
        Packet::Publish(publish) => {
            Event::Arrived { topic: publish.topic, payload: publish.payload, retained: publish.retain }
        }
        _ => Event::Alive,
    }
}

fn to_client_qos(qos: QoS) -> mqttbytes::QoS {
    match qos {
        QoS::AtMostOnce => mqttbytes::QoS::AtMostOnce,
        QoS::AtLeastOnce => mqttbytes::QoS::AtLeastOnce,
        QoS::ExactlyOnce => mqttbytes::QoS::ExactlyOnce,
    }
}

impl Client {
    pub fn publish(&self, message: Message) -> Result<(), Overrun> {
        let options = PublishOptions::new(to_client_qos(message.qos)).retain(message.retain);
        self.0.try_publish(message.topic, message.payload, options).map_err(|_| Overrun)
    }

    pub fn subscribe(&self, topic: &str) -> Result<(), Overrun> {
        self.0.try_subscribe(topic, mqttbytes::QoS::AtLeastOnce).map_err(|_| Overrun)
    }

    pub fn disconnect(&self, timeout: Duration) -> Result<(), Overrun> {
        self.0.try_disconnect_with_timeout(timeout).map_err(|_| Overrun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qos_2_messages_are_sent_one_at_a_time_because_brokers_cannot_report_their_limit() {
        use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
        let in_flight = |qos, maximum_qos| limits(qos, maximum_qos).receive_maximum;
        assert_eq!(in_flight(ExactlyOnce, ExactlyOnce), 1);
        assert_eq!(in_flight(ExactlyOnce, AtLeastOnce), u16::MAX);
        assert_eq!(in_flight(AtLeastOnce, ExactlyOnce), u16::MAX);
        assert_eq!(in_flight(AtMostOnce, ExactlyOnce), u16::MAX);
    }
}
