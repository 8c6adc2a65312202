//! The MQTT client, behind one door: the rest of the code does not know which one runs below.
//!
//! The [`Events`] tell what happened, in order, and how it [`Ended`]; with the accepted login comes the [`Client`],
//! which takes what is to be sent. One pair is one session over one network connection; it never reconnects. Before a
//! login is accepted it may be tried a second time, with the other MQTT version (see [`VersionPolicy`]).

mod ended;
mod v4;
mod v4_reason;
mod v5;
mod v5_reason;

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};

pub use self::ended::Ended;
use crate::{
    connection::dial::SessionTransport,
    domain::{
        delivery::DeadReason,
        mqtt_version::{Refusal, Version, VersionPolicy},
        settings::{MqttSettings, QoS},
    },
};

/// Requests and reads in batches of this size were measured as the fastest.
const BATCH: usize = 64;

/// Beside the events there are the birth message, states and tests: room for them in the client's queue.
const SPARE_CAPACITY: u16 = 64;

/// Something to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it goes.
    pub topic: String,
    /// What it says.
    pub payload: Bytes,
    /// How it is acknowledged.
    pub qos: QoS,
    /// Whether the broker keeps it.
    pub retain: bool,
    /// For how many seconds a broker may keep it (MQTT 5).
    pub expiry_seconds: Option<u32>,
}

/// What makes this session different from another one with the same settings.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// The client id to use.
    pub client_id: String,
    /// Published by the broker when the connection is lost.
    pub will: Option<Message>,
    /// How many messages may wait in the client, sent or not.
    pub capacity: u16,
    /// What carries it.
    pub line: SessionTransport,
}

impl SessionOptions {
    /// How long the client's queue is to be.
    fn queue(&self) -> u16 {
        self.capacity.saturating_add(SPARE_CAPACITY)
    }
}

/// What the broker permits on this connection (MQTT 5 section 3.2.2.3; with MQTT 3.1.1 it does not tell).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many unacknowledged messages it accepts.
    pub receive_maximum: u16,
    /// Whether the client keeps to that by itself: what is more waits in it.
    pub is_kept: bool,
    /// The highest QoS.
    pub maximum_qos: QoS,
    /// Whether it keeps retained messages.
    pub retain_available: bool,
    /// The largest packet, in bytes.
    pub maximum_packet_size: Option<u32>,
}

/// How the broker answered one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It took responsibility for it.
    Accepted {
        /// It said that nobody subscribes to the topic.
        unheard: bool,
    },
    /// It refused it for good.
    Refused(DeadReason),
    /// It refused it for now.
    Deferred {
        /// Its reason.
        reason: &'static str,
        /// How often this may happen to one message; `None`: without limit.
        attempts: Option<u32>,
    },
}

/// The broker accepted the login.
#[derive(Debug)]
pub struct Accepted {
    /// Takes what is to be sent.
    pub client: Client,
    /// What is spoken.
    pub version: Version,
    /// How the other version had been turned down before, if it had.
    pub refused: Option<Refusal>,
    /// What the broker permits.
    pub limits: Limits,
}

/// What happened on the connection.
#[derive(Debug)]
pub enum Event {
    /// The broker accepted the login. Comes once, before everything else.
    Accepted(Accepted),
    /// The oldest message that was not sent yet went out, under this packet id (0: QoS 0, which has none).
    Sent(u16),
    /// QoS 2, first half: the broker has the message; whether anybody hears it is known only now.
    Received {
        /// Which message.
        packet_id: u16,
        /// Whether nobody subscribes to the topic.
        unheard: bool,
    },
    /// The broker's last word on a message.
    Answered(u16, Answer),
    /// We asked whether the broker is still there.
    Ping,
    /// The broker answered a subscription: whether it is granted.
    Subscribed(bool),
    /// A message of a subscription.
    Arrived {
        /// Where it was published.
        topic: Bytes,
        /// What it says.
        payload: Bytes,
    },
    /// The broker said something else: it is alive.
    Alive,
    /// Something that nobody needs to know.
    Nothing,
}

/// What happened, in order. After an [`Ended`] nothing more comes; the end without one is a disconnect as asked.
pub type Events = Pin<Box<dyn Stream<Item = Result<Event, Ended>>>>;

/// Takes what is to be sent. Nothing waits: what does not fit is refused.
#[derive(Debug)]
pub enum Client {
    /// MQTT 5.
    V5(v5::Client),
    /// MQTT 3.1.1.
    V311(v4::Client),
}

/// More messages wait in the client than it was opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many messages wait in the MQTT client")]
pub struct Overrun;

/// A session with these settings; it begins to connect when the events are polled.
pub fn open(settings: &Arc<MqttSettings>, options: SessionOptions, approach: VersionPolicy) -> Events {
    // Boxed, since every event moves it.
    let attempt = Box::new(Attempt {
        session: Session::open(settings, options.clone(), approach, approach.first()),
        version: approach.first(),
        refused: None,
        settings: Arc::clone(settings),
        options,
        approach,
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
        approach: VersionPolicy,
        version: Version,
    ) -> Self {
        match version {
            Version::V5 => Self::V5(v5::open(settings, options)),
            Version::V311 => Self::V311(v4::open(settings, options, approach.maximum_qos())),
        }
    }

    async fn next(&mut self) -> Option<Result<Event, Ended>> {
        match self {
            Self::V5(session) => session.next().await,
            Self::V311(session) => session.next().await,
        }
    }
}

/// A session, and what is needed to begin it anew with the other version.
struct Attempt {
    session: Session,
    version: Version,
    refused: Option<Refusal>,
    settings: Arc<MqttSettings>,
    options: SessionOptions,
    approach: VersionPolicy,
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
                    if let Err(ended) = self.try_other(ended) {
                        return Some((Err(ended), None));
                    }
                }
            }
        }
    }

    /// Begins anew with the other version, if that is what this end calls for.
    fn try_other(&mut self, ended: Ended) -> Result<(), Ended> {
        let broker = self.settings.broker();
        let next =
            ended.refusal.and_then(|refusal| Some((refusal, self.approach.after(self.version, refusal)?)));
        let Some((refusal, version)) = next else { return Err(ended.after(self.refused, &broker)) };
        let (refused, trying) = (self.version.as_str(), version.as_str());
        tracing::info!(broker, refused, how = %refusal, trying, "trying the other version of MQTT");
        self.refused = Some(refusal);
        self.version = version;
        self.session = Session::open(&self.settings, self.options.clone(), self.approach, version);
        Ok(())
    }
}

impl Client {
    /// Sends a message after those that were given before.
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

    /// Disconnects cleanly once everything sent is answered, or after `patience` without a clean end. The will is not
    /// published then.
    pub fn disconnect(&self, patience: Duration) -> Result<(), Overrun> {
        match self {
            Self::V5(client) => client.disconnect(patience),
            Self::V311(client) => client.disconnect(patience),
        }
    }
}

/// How many bytes a message takes as a packet (MQTT 5 section 3.3; with MQTT 3.1.1 it is a little less).
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
