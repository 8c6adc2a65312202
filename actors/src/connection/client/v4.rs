//! MQTT 3.1.1 over rumqttc. It has no reason codes, no expiry and no limits that a broker could tell.

use std::{sync::Arc, time::Duration};

use rumqttc_v4::{
    AsyncClient, ConnectionError, EventLoop, MqttOptions, PublishOptions,
    mqttbytes::{
        self,
        v4::{LastWill, Packet, SubscribeReasonCode},
    },
};

use super::{Accepted, Answer, BATCH, Ended, Event, Limits, Message, Overrun, SessionOptions, v4_reason};
use crate::{
    connection::dial,
    domain::{
        mqtt_version::Version,
        settings::{MqttSettings, QoS},
    },
};

/// The largest packet of the protocol (section 2.2.3): what is too large for a broker only the broker knows.
const MAX_PACKET_SIZE: usize = 268_435_455;

/// What comes in are a few words of Home Assistant and tests of ours; the client's own bound, which also holds for MQTT 5.
const MAX_INCOMING_SIZE: usize = 10 * 1024;

/// The broker has limits, and no way to tell them. Where going beyond one loses messages, it is not tried: Mosquitto
/// acknowledges QoS 2 messages above its `max_inflight_messages`, which may be 1, and drops them.
fn limits(qos: QoS, maximum_qos: QoS) -> Limits {
    Limits {
        receive_maximum: if qos.min(maximum_qos) == QoS::ExactlyOnce { 1 } else { u16::MAX },
        is_kept: false,
        maximum_qos,
        retain_available: true,
        maximum_packet_size: None,
    }
}

#[derive(Debug)]
pub struct Client(AsyncClient);

/// One session: to be polled until it ends.
pub struct Session {
    event_loop: Box<EventLoop>,
    /// Given away when the login is accepted.
    client: Option<Client>,
    settings: Arc<MqttSettings>,
    maximum_qos: QoS,
}

pub fn open(settings: &Arc<MqttSettings>, options: SessionOptions, maximum_qos: QoS) -> Session {
    let capacity = options.queue();
    let mqtt = mqtt_options(settings, options, capacity);
    let (client, mut event_loop) = AsyncClient::builder(mqtt).capacity(capacity.into()).build();
    // Twice: once for the network, which the dialler bounds by itself with a better message, once for the login.
    let timeout = dial::connect_timeout(settings) * 2;
    event_loop.network_options.set_connection_timeout(timeout.as_secs());
    let (event_loop, settings) = (Box::new(event_loop), Arc::clone(settings));
    Session { event_loop, client: Some(Client(client)), settings, maximum_qos }
}

fn mqtt_options(settings: &Arc<MqttSettings>, session: SessionOptions, capacity: u16) -> MqttOptions {
    let broker = (settings.broker_host.clone(), settings.broker_port);
    let mut options = MqttOptions::new(session.client_id, broker);
    // What has to be sent again is known here, not in the broker's session.
    options.set_clean_session(true);
    options.set_keep_alive(settings.keep_alive_seconds);
    options.set_max_packet_size(MAX_INCOMING_SIZE, MAX_PACKET_SIZE);
    options.set_max_request_batch(BATCH);
    options.set_read_batch_size(BATCH);
    options.set_inflight(capacity);
    match (settings.username.clone(), settings.exposed_password()) {
        (username, Some(password)) => {
            // A password alone is against the protocol (section 3.1.2.9).
            let username = username.unwrap_or_default();
            options.set_credentials(username, password.to_owned().into_bytes());
        }
        (Some(username), None) => {
            options.set_username(username);
        }
        (None, None) => {}
    }
    if let Some(will) = session.will {
        options.set_last_will(LastWill::new(will.topic, will.payload.to_vec(), qos(will.qos), will.retain));
    }
    let dialled = (Arc::clone(settings), session.line);
    options.set_socket_connector(move |_, _| {
        let (settings, line) = dialled.clone();
        async move { dial::dial(&settings, &line).await }
    });
    options
}

impl Session {
    /// What happens next. After a failure the event loop would reconnect by itself if it were polled again.
    pub async fn next(&mut self) -> Option<Result<Event, Ended>> {
        match self.event_loop.poll().await {
            Ok(event) => Some(Ok(self.told(event))),
            Err(ConnectionError::RequestsDone) => None,
            Err(error) => {
                let accepted = self.client.is_none();
                Some(Err(v4_reason::of_connection_error(&error, &self.settings, accepted)))
            }
        }
    }

    fn told(&mut self, event: rumqttc_v4::Event) -> Event {
        match event {
            rumqttc_v4::Event::Outgoing(rumqttc_v4::Outgoing::Publish(packet_id)) => Event::Sent(packet_id),
            rumqttc_v4::Event::Outgoing(rumqttc_v4::Outgoing::PingReq) => Event::Ping,
            rumqttc_v4::Event::Incoming(Packet::ConnAck(_)) => self.accepted(),
            rumqttc_v4::Event::Incoming(packet) => arrived(packet),
            rumqttc_v4::Event::Outgoing(_) => Event::Nothing,
        }
    }

    fn accepted(&mut self) -> Event {
        let Some(client) = self.client.take() else { return Event::Alive };
        // From now on it bounds how long the broker may take nothing in; the silence is noticed before.
        let patience = u64::from(self.settings.ack_timeout_seconds) * 2;
        self.event_loop.network_options.set_connection_timeout(patience);
        let (client, limits) = (super::Client::V311(client), limits(self.settings.qos, self.maximum_qos));
        Event::Accepted(Accepted { client, version: Version::V311, refused: None, limits })
    }
}

fn arrived(packet: Packet) -> Event {
    const ACCEPTED: Answer = Answer::Accepted { unheard: false };
    match packet {
        Packet::PubAck(ack) => Event::Answered(ack.pkid, ACCEPTED),
        Packet::PubRec(rec) => Event::Received { packet_id: rec.pkid, unheard: false },
        Packet::PubComp(comp) => Event::Answered(comp.pkid, ACCEPTED),
        Packet::SubAck(ack) => Event::Subscribed(
            ack.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))),
        ),
        Packet::Publish(publish) => Event::Arrived { topic: publish.topic, payload: publish.payload },
        _ => Event::Alive,
    }
}

fn qos(qos: QoS) -> mqttbytes::QoS {
    match qos {
        QoS::AtMostOnce => mqttbytes::QoS::AtMostOnce,
        QoS::AtLeastOnce => mqttbytes::QoS::AtLeastOnce,
        QoS::ExactlyOnce => mqttbytes::QoS::ExactlyOnce,
    }
}

impl Client {
    pub fn publish(&self, message: Message) -> Result<(), Overrun> {
        let options = PublishOptions::new(qos(message.qos)).retain(message.retain);
        self.0.try_publish(message.topic, message.payload, options).map_err(|_| Overrun)
    }

    pub fn subscribe(&self, topic: &str) -> Result<(), Overrun> {
        self.0.try_subscribe(topic, mqttbytes::QoS::AtLeastOnce).map_err(|_| Overrun)
    }

    pub fn disconnect(&self, patience: Duration) -> Result<(), Overrun> {
        self.0.try_disconnect_with_timeout(patience).map_err(|_| Overrun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qos_2_is_sent_one_at_a_time_since_brokers_cannot_say_how_many_they_take() {
        use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
        let window = |qos, maximum_qos| limits(qos, maximum_qos).receive_maximum;
        assert_eq!(window(ExactlyOnce, ExactlyOnce), 1);
        assert_eq!(window(ExactlyOnce, AtLeastOnce), u16::MAX);
        assert_eq!(window(AtLeastOnce, ExactlyOnce), u16::MAX);
        assert_eq!(window(AtMostOnce, ExactlyOnce), u16::MAX);
    }
}
