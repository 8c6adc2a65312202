//! MQTT 5 with rumqttc.

use std::{sync::Arc, time::Duration};

use rumqttc::{
    AsyncClient, ConnectionError, EventLoop, MqttOptions, PublishOptions,
    mqttbytes::{
        self,
        v5::{ConnAck, ConnectReturnCode, LastWill, Packet, PublishProperties, SubscribeReasonCode},
    },
};

use super::{
    Accepted, Answer, BATCH, Ended, Event, Limits, Message, Overrun, SessionOptions,
    packet_filter::{PacketFilter, Traffic},
    v5_reason,
};
use crate::{
    connection::dial,
    domain::{
        mqtt_version::Version,
        settings::{MqttSettings, QoS},
    },
};

#[derive(Debug)]
pub struct Client(AsyncClient);

/// A session. It makes progress only while it is polled.
pub struct Session {
    event_loop: Box<EventLoop>,
    /// Taken when the login is accepted.
    client: Option<Client>,
    settings: Arc<MqttSettings>,
    traffic: Traffic,
}

pub fn open(settings: &Arc<MqttSettings>, options: SessionOptions) -> Session {
    let capacity = options.queue_capacity();
    let traffic = Traffic::default();
    let mqtt = mqtt_options(settings, options, capacity, &traffic);
    let (client, event_loop) = AsyncClient::builder(mqtt).capacity(capacity.into()).build();
    let (event_loop, settings) = (Box::new(event_loop), Arc::clone(settings));
    Session { event_loop, client: Some(Client(client)), settings, traffic }
}

fn mqtt_options(
    settings: &Arc<MqttSettings>,
    session: SessionOptions,
    capacity: u16,
    traffic: &Traffic,
) -> MqttOptions {
    let mut options =
        MqttOptions::new(session.client_id, (settings.broker_host.clone(), settings.broker_port));
    // The outbox knows what must be sent again; the broker's session is not needed.
    options.set_clean_start(true);
    options.set_keep_alive(settings.keep_alive_seconds);
    // One timeout for the network connection and one for the login. `dial` has its own timeout, with a
    // better message.
    options.set_connect_timeout(dial::connect_timeout(settings) * 2);
    options.set_max_request_batch(BATCH);
    options.set_read_batch_size(BATCH);
    options.set_outgoing_inflight_upper_limit(capacity);
    if let Some(username) = &settings.username {
        match settings.exposed_password() {
            Some(password) => {
                options.set_credentials(username.clone(), password.to_owned().into_bytes());
            }
            None => {
                options.set_username(username.clone());
            }
        }
    } else if let Some(password) = settings.exposed_password() {
        options.set_password(password.to_owned().into_bytes());
    }
    if let Some(will) = session.will {
        let will =
            LastWill::new(will.topic, will.payload.to_vec(), to_client_qos(will.qos), will.retain, None);
        options.set_last_will(will);
    }
    let connector = (Arc::clone(settings), session.transport, traffic.clone());
    options.set_socket_connector(move |_, _| {
        let (settings, transport, traffic) = connector.clone();
        async move {
            let stream = dial::dial(&settings, &transport).await?;
            Ok(PacketFilter::new(stream, Version::V5, traffic))
        }
    });
    options
}

impl Session {
    /// Returns the next event. Must not be called again after an error, because the event loop would
    /// reconnect.
    pub async fn next(&mut self) -> Option<Result<Event, Ended>> {
        loop {
            match self.event_loop.poll().await {
                Ok(event) => return Some(Ok(self.handle(event))),
                Err(ConnectionError::RequestsDone) => return None,
                Err(ConnectionError::ConnectionRefused(code))
                    if lower_will(&mut self.event_loop.options, code) => {}
                Err(error) => {
                    let accepted = self.client.is_none();
                    return Some(Err(v5_reason::connection_error(&error, &self.settings, accepted)));
                }
            }
        }
    }

    fn handle(&mut self, event: rumqttc::Event) -> Event {
        match event {
            rumqttc::Event::Outgoing(rumqttc::Outgoing::Publish(packet_id)) => Event::Sent(packet_id),
            rumqttc::Event::Outgoing(rumqttc::Outgoing::PingReq) => Event::Ping,
            rumqttc::Event::Incoming(Packet::ConnAck(ack)) => self.on_accepted(&ack),
            rumqttc::Event::Incoming(packet) => packet_to_event(packet, &self.traffic),
            rumqttc::Event::Outgoing(_) | rumqttc::Event::Auth(_) => Event::Ignored,
        }
    }

    fn on_accepted(&mut self, ack: &ConnAck) -> Event {
        let Some(client) = self.client.take() else { return Event::Alive };
        let (client, limits) = (super::Client::V5(client), limits(ack));
        let traffic = self.traffic.clone();
        Event::Accepted(Accepted { client, version: Version::V5, refused: None, limits, traffic })
    }
}

/// Reduces the will to what the broker supports. A broker reports its limits only after the login, and it
/// refuses a login with a will beyond them (MQTT 5 section 3.2.2.2). Returns whether the login should be
/// tried again, which happens at most once per reason.
fn lower_will(options: &mut MqttOptions, code: ConnectReturnCode) -> bool {
    let Some(mut will) = options.last_will() else { return false };
    match code {
        ConnectReturnCode::QoSNotSupported if will.qos != mqttbytes::QoS::AtMostOnce => {
            will.qos = mqttbytes::QoS::AtMostOnce;
        }
        ConnectReturnCode::RetainNotSupported if will.retain => will.retain = false,
        _ => return false,
    }
    options.set_last_will(will);
    true
}

fn packet_to_event(packet: Packet, traffic: &Traffic) -> Event {
    let too_large = |packet_id| traffic.take_too_large(packet_id);
    match packet {
        Packet::PubAck(ack) => {
            let answer = v5_reason::puback_answer(ack.reason);
            Event::Answered(ack.pkid, v5_reason::explained(answer, || too_large(ack.pkid)))
        }
        Packet::PubRec(rec) => {
            match v5_reason::explained(v5_reason::pubrec_answer(rec.reason), || too_large(rec.pkid)) {
                Answer::Accepted { unheard } => Event::Received { packet_id: rec.pkid, unheard },
                refused => Event::Answered(rec.pkid, refused),
            }
        }
        // The reason code does not matter: the broker already has the message.
        Packet::PubComp(comp) => Event::Answered(comp.pkid, Answer::Accepted { unheard: false }),
        Packet::SubAck(ack) => Event::Subscribed(
            ack.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))),
        ),
        Packet::Publish(publish) => {
            Event::Arrived { topic: publish.topic, payload: publish.payload, retained: publish.retain }
        }
        _ => Event::Alive,
    }
}

fn limits(ack: &ConnAck) -> Limits {
    let properties = ack.properties.as_ref();
    Limits {
        receive_maximum: properties.and_then(|p| p.receive_max).unwrap_or(u16::MAX),
        maximum_qos: properties
            .and_then(|p| p.max_qos)
            .map_or(QoS::ExactlyOnce, |level| QoS::from_level(level.into())),
        retain_available: properties.and_then(|p| p.retain_available) != Some(0),
        maximum_packet_size: properties.and_then(|p| p.max_packet_size),
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
        let mut options = PublishOptions::new(to_client_qos(message.qos)).retain(message.retain);
        if let Some(seconds) = message.expiry_seconds {
            options = options.properties(PublishProperties {
                message_expiry_interval: Some(seconds),
                ..PublishProperties::default()
            });
        }
        self.0.try_publish(message.topic, message.payload, options).map_err(|_| Overrun)
    }

    pub fn subscribe(&self, topic: &str) -> Result<(), Overrun> {
        self.0.try_subscribe(topic, mqttbytes::QoS::AtLeastOnce).map_err(|_| Overrun)
    }

    pub fn disconnect(&self, timeout: Duration) -> Result<(), Overrun> {
        self.0.try_disconnect_with_timeout(timeout).map_err(|_| Overrun)
    }
}
