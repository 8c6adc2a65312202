//! The MQTT client. Its interface is the same for MQTT 5 and 3.1.1.
//!
//! [`Events`] is the stream of everything that happens, in order. The last item describes how the session
//! [`Ended`]. [`Event::Accepted`] contains the [`Client`], which sends messages. Both belong to one session
//! over one network connection, which never reconnects. If the broker refuses the first MQTT version,
//! the login is retried once with the other one (see [`VersionPolicy`]).

mod ended;
mod packet_filter;
mod v4;
mod v4_reason;
mod v5;
mod v5_reason;

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};

pub use self::{
    ended::{By, Ended},
    packet_filter::Traffic,
};
use crate::{
    connection::dial::SessionTransport,
    domain::{
        delivery::DeadReason,
        mqtt_version::{Refusal, Version, VersionPolicy},
        settings::{MqttSettings, QoS},
    },
};

/// Batch size for requests and reads. This value was the fastest in measurements.
pub const BATCH: usize = 64;

/// Room in the client's queue for the birth message, states and test messages, in addition to the events.
const SPARE_CAPACITY: u16 = 64;

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
    /// The quality of service.
    pub qos: QoS,
    /// Whether the broker retains it.
    pub retain: bool,
    /// The number of seconds after which the broker discards it (MQTT 5).
    pub expiry_seconds: Option<u32>,
}

/// The options of a session that are not settings.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// The client id to use.
    pub client_id: String,
    /// The message that the broker publishes when the connection is lost.
    pub will: Option<Message>,
    /// Maximum number of events in the client, queued or in flight.
    pub capacity: u16,
    /// The network connection.
    pub transport: SessionTransport,
}

impl SessionOptions {
    /// Returns the capacity of the client's queue.
    fn queue_capacity(&self) -> u16 {
        self.capacity.saturating_add(SPARE_CAPACITY)
    }
}

/// The broker's limits on this connection (MQTT 5 section 3.2.2.3; with MQTT 3.1.1 a broker cannot report
/// them).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of unacknowledged messages.
    pub receive_maximum: u16,
    /// The highest supported QoS.
    pub maximum_qos: QoS,
    /// Whether retained messages are supported.
    pub retain_available: bool,
    /// Maximum packet size, in bytes.
    pub maximum_packet_size: Option<u32>,
}

/// The broker's answer to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The broker accepted it.
    Accepted {
        /// Whether the broker reported that nobody subscribes to the topic.
        unheard: bool,
    },
    /// The broker refused it permanently.
    Refused(DeadReason),
    /// The broker refused it temporarily.
    Deferred {
        /// The broker's reason.
        reason: &'static str,
        /// Maximum number of attempts to send the message; `None` means no limit.
        attempts: Option<u32>,
    },
}

/// The result of an accepted login.
#[derive(Debug)]
pub struct Accepted {
    /// What passes over the network connection.
    pub traffic: Traffic,
    /// Sends messages.
    pub client: Client,
    /// The MQTT version in use.
    pub version: Version,
    /// How the broker refused the other version earlier, if it did.
    pub refused: Option<Refusal>,
    /// The broker's limits.
    pub limits: Limits,
}

/// Something that happened in the session.
#[derive(Debug)]
pub enum Event {
    /// The broker accepted the login. This is the first event, and occurs once.
    Accepted(Accepted),
    /// The oldest unsent message was sent, with this packet id (0 for QoS 0, which has none).
    Sent(u16),
    /// The broker received a QoS 2 message (PUBREC). Only this packet reports whether anyone subscribes to
    /// the topic.
    Received {
        /// The message's packet id.
        packet_id: u16,
        /// Whether nobody subscribes to the topic.
        unheard: bool,
    },
    /// The broker's final answer to a message, by packet id.
    Answered(u16, Answer),
    /// The client sent a ping.
    Ping,
    /// The broker's answer to a subscription: whether it was granted.
    Subscribed(bool),
    /// A message arrived on a subscribed topic.
    Arrived {
        /// The topic.
        topic: Bytes,
        /// The payload.
        payload: Bytes,
        /// Whether the broker had retained it.
        retained: bool,
    },
    /// Another packet arrived, so the broker is alive.
    Alive,
    /// An event that does not matter here.
    Ignored,
}

/// The events of a session, in order. An [`Ended`] is the last item. If the stream ends without one, the
/// disconnect was requested.
pub type Events = Pin<Box<dyn Stream<Item = Result<Event, Ended>>>>;

/// Sends messages without waiting. A message that does not fit into the queue is refused.
#[derive(Debug)]
pub enum Client {
    /// MQTT 5.
    V5(v5::Client),
    /// MQTT 3.1.1.
    V311(v4::Client),
}

/// The client's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the MQTT client's queue is full")]
pub struct Overrun;

/// Creates a session with these settings. It connects when the returned stream is polled.
pub fn open(settings: &Arc<MqttSettings>, options: SessionOptions, version_policy: VersionPolicy) -> Events {
    // Boxed, because each event moves the attempt.
    let attempt = Box::new(Attempt {
        session: Session::open(settings, options.clone(), version_policy, version_policy.first()),
        version: version_policy.first(),
        refused: None,
        settings: Arc::clone(settings),
        options,
        version_policy,
    });
    Box::pin(stream::unfold(Some(attempt), async |attempt| attempt?.next().await))
}

enum Session {
    V5(v5::Session),
    V311(v4::Session),
}

impl Session {
    fn open(
        settings: &Arc<MqttSettings>,
        options: SessionOptions,
        version_policy: VersionPolicy,
        version: Version,
    ) -> Self {
        match version {
            Version::V5 => Self::V5(v5::open(settings, options)),
            Version::V311 => Self::V311(v4::open(settings, options, version_policy.maximum_qos())),
        }
    }

    async fn next(&mut self) -> Option<Result<Event, Ended>> {
        match self {
            Self::V5(session) => session.next().await,
            Self::V311(session) => session.next().await,
        }
    }
}

/// A session, and everything that is needed to retry with the other version.
struct Attempt {
    session: Session,
    version: Version,
    refused: Option<Refusal>,
    settings: Arc<MqttSettings>,
    options: SessionOptions,
    version_policy: VersionPolicy,
}

impl Attempt {
    async fn next(mut self: Box<Self>) -> Option<(Result<Event, Ended>, Option<Box<Self>>)> {
        loop {
            match self.session.next().await? {
                Ok(Event::Accepted(accepted)) => {
                    let event = Event::Accepted(Accepted { refused: self.refused, ..accepted });
                    return Some((Ok(event), Some(self)));
                }
                Ok(event) => return Some((Ok(event), Some(self))),
                Err(ended) => {
                    if let Err(ended) = self.try_other_version(ended) {
                        return Some((Err(ended), None));
                    }
                }
            }
        }
    }

    /// Starts again with the other version if the broker may have refused this one; otherwise returns the
    /// error.
    fn try_other_version(&mut self, ended: Ended) -> Result<(), Ended> {
        let broker = self.settings.broker();
        let fallback = ended
            .refusal
            .and_then(|refusal| Some((refusal, self.version_policy.fallback(self.version, refusal)?)));
        let Some((refusal, version)) = fallback else {
            return Err(ended.after_refusal(self.refused, &broker));
        };
        let (refused, trying) = (self.version.as_str(), version.as_str());
        tracing::info!(broker, refused, how = %refusal, trying, "trying the other MQTT version");
        self.refused = Some(refusal);
        self.version = version;
        self.session = Session::open(&self.settings, self.options.clone(), self.version_policy, version);
        Ok(())
    }
}

impl Client {
    /// Publishes a message, in the order of the calls.
    pub fn publish(&self, message: Message) -> Result<(), Overrun> {
        match self {
            Self::V5(client) => client.publish(message),
            Self::V311(client) => client.publish(message),
        }
    }

    /// Subscribes to one topic.
    pub fn subscribe(&self, topic: &str) -> Result<(), Overrun> {
        match self {
            Self::V5(client) => client.subscribe(topic),
            Self::V311(client) => client.subscribe(topic),
        }
    }

    /// Disconnects cleanly once everything in flight is acknowledged, or after `timeout`. After a clean
    /// disconnect, the broker does not publish the will.
    pub fn disconnect(&self, timeout: Duration) -> Result<(), Overrun> {
        match self {
            Self::V5(client) => client.disconnect(timeout),
            Self::V311(client) => client.disconnect(timeout),
        }
    }
}

/// Returns the size of a message's packet in bytes (MQTT 5 section 3.3; slightly less with MQTT 3.1.1).
pub fn packet_size(message: &Message) -> usize {
    let packet_id = if message.qos == QoS::AtMostOnce { 0 } else { 2 };
    let properties = 1 + message.expiry_seconds.map_or(0, |_| 5);
    let remaining = 2 + message.topic.len() + packet_id + properties + message.payload.len();
    let length_bytes = match remaining {
        0..128 => 1,
        128..16_384 => 2,
        16_384..2_097_152 => 3,
        _ => 4,
    };
    1 + length_bytes + remaining
}
