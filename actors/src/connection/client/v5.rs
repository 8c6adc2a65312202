//! MQTT 5 over rumqttc.

use std::{sync::Arc, time::Duration};

use futures_util::stream;
use rumqttc::{
    AsyncClient, ConnectionError, EventLoop, MqttOptions, PublishOptions,
    mqttbytes::{
        self,
        v5::{ConnAck, ConnectReturnCode, LastWill, Packet, PublishProperties, SubscribeReasonCode},
    },
};

use super::{Answer, Event, Events, Limits, Message, Overrun, SessionOptions, v5_reason};
use crate::{
    connection::{dial, reason},
    settings::{MqttSettings, QoS},
    status::Failure,
};

/// Requests and reads in batches of this size were measured as the fastest.
const BATCH: usize = 64;

/// Beside the events there are the birth message, states and tests: room for them in the client's queue.
const SPARE_CAPACITY: u16 = 64;

#[derive(Debug)]
pub struct Client(AsyncClient);

pub fn open(settings: &Arc<MqttSettings>, options: SessionOptions) -> (Client, Events) {
    let capacity = options.capacity.saturating_add(SPARE_CAPACITY);
    let mqtt = mqtt_options(settings, options, capacity);
    let (client, event_loop) = AsyncClient::builder(mqtt).capacity(capacity.into()).build();
    (Client(client), Box::pin(events(event_loop, Arc::clone(settings))))
}

fn mqtt_options(settings: &Arc<MqttSettings>, session: SessionOptions, capacity: u16) -> MqttOptions {
    let mut options =
        MqttOptions::new(session.client_id, (settings.broker_host.clone(), settings.broker_port));
    // What has to be sent again is known here, not in the broker's session.
    options.set_clean_start(true);
    options.set_keep_alive(settings.keep_alive_seconds);
    // Twice: once for the network, which the dialler bounds by itself with a better message, once for the login.
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
        let will = LastWill::new(will.topic, will.payload.to_vec(), qos(will.qos), will.retain, None);
        options.set_last_will(will);
    }
    let dialled = (Arc::clone(settings), session.line);
    options.set_socket_connector(move |_, _| {
        let (settings, line) = dialled.clone();
        async move { dial::dial(&settings, &line).await }
    });
    options
}

/// Polls the event loop until it fails; it would reconnect by itself if it were polled again.
fn events(
    event_loop: EventLoop,
    settings: Arc<MqttSettings>,
) -> impl stream::Stream<Item = Result<Event, Failure>> {
    struct State {
        event_loop: Box<EventLoop>,
        settings: Arc<MqttSettings>,
        accepted: bool,
    }
    let state = State { event_loop: Box::new(event_loop), settings, accepted: false };
    stream::unfold(Some(state), |state| async {
        let mut state = state?;
        loop {
            match state.event_loop.poll().await {
                Ok(event) => {
                    let event = told(event);
                    state.accepted |= matches!(event, Event::Accepted { .. });
                    return Some((Ok(event), Some(state)));
                }
                Err(ConnectionError::RequestsDone) => return None,
                Err(ConnectionError::ConnectionRefused(code))
                    if lower_will(&mut state.event_loop.options, code) => {}
                Err(error) => {
                    return Some((Err(failure(&error, &state.settings, state.accepted)), None));
                }
            }
        }
    })
}

/// A broker's limits are known only after the login, and a will that goes beyond them is a reason to refuse it (MQTT 5
/// section 3.2.2.2). Answers whether the login is worth another try with a lesser will; never twice for one reason.
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

fn failure(error: &ConnectionError, settings: &MqttSettings, accepted: bool) -> Failure {
    match error {
        ConnectionError::Timeout(_) => {
            reason::timed_out(&settings.broker(), settings.connect_timeout_seconds, Some("login"))
        }
        error => v5_reason::of_connection_error(error, settings, accepted),
    }
}

fn told(event: rumqttc::Event) -> Event {
    match event {
        rumqttc::Event::Outgoing(rumqttc::Outgoing::Publish(packet_id)) => Event::Sent(packet_id),
        rumqttc::Event::Outgoing(rumqttc::Outgoing::PingReq) => Event::Ping,
        rumqttc::Event::Incoming(packet) => arrived(packet),
        rumqttc::Event::Outgoing(_) | rumqttc::Event::Auth(_) => Event::Nothing,
    }
}

fn arrived(packet: Packet) -> Event {
    match packet {
        Packet::ConnAck(ack) => Event::Accepted { protocol: "5", limits: limits(&ack) },
        Packet::PubAck(ack) => Event::Answered(ack.pkid, v5_reason::of_puback(ack.reason)),
        Packet::PubRec(rec) => match v5_reason::of_pubrec(rec.reason) {
            Answer::Accepted { unheard } => Event::Received { packet_id: rec.pkid, unheard },
            refused => Event::Answered(rec.pkid, refused),
        },
        // Whatever it says: the broker had the message already.
        Packet::PubComp(comp) => Event::Answered(comp.pkid, Answer::Accepted { unheard: false }),
        Packet::SubAck(ack) => Event::Subscribed(
            ack.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))),
        ),
        Packet::Publish(publish) => Event::Arrived { topic: publish.topic, payload: publish.payload },
        _ => Event::Alive,
    }
}

fn limits(ack: &ConnAck) -> Limits {
    let properties = ack.properties.as_ref();
    Limits {
        receive_maximum: properties.and_then(|p| p.receive_max).unwrap_or(u16::MAX),
        maximum_qos: properties
            .and_then(|p| p.max_qos)
            .map_or(QoS::ExactlyOnce, |level| QoS::of_level(level.into())),
        retain_available: properties.and_then(|p| p.retain_available) != Some(0),
        maximum_packet_size: properties.and_then(|p| p.max_packet_size),
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
        let mut options = PublishOptions::new(qos(message.qos)).retain(message.retain);
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

    pub fn disconnect(&self, patience: Duration) -> Result<(), Overrun> {
        self.0.try_disconnect_with_timeout(patience).map_err(|_| Overrun)
    }
}
