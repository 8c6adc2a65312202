//! The MQTT client, behind one door: the rest of the code does not know which one runs below.
//!
//! A [`Client`] takes what is to be sent; the [`Events`] tell what happened, in order, and end with a [`Failure`]. One
//! pair is one session over one network connection; it never reconnects.

mod v5;
mod v5_reason;

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::Stream;

use crate::{
    connection::dial::Line,
    outbox::DeadReason,
    settings::{MqttSettings, QoS},
    status::Failure,
};

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
    pub line: Line,
}

/// What the broker permits on this connection (MQTT 5 section 3.2.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many unacknowledged messages it accepts.
    pub receive_maximum: u16,
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

/// What happened on the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The broker accepted the login.
    Accepted {
        /// What it speaks, `"5"` or `"3.1.1"`.
        protocol: &'static str,
        /// What it permits.
        limits: Limits,
    },
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

/// What happened, in order. After a failure nothing more comes; the end without one is a disconnect as asked.
pub type Events = Pin<Box<dyn Stream<Item = Result<Event, Failure>>>>;

/// Takes what is to be sent. Nothing waits: what does not fit is refused.
#[derive(Debug)]
pub struct Client(v5::Client);

/// More messages wait in the client than it was opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many messages wait in the MQTT client")]
pub struct Overrun;

/// A session with these settings; it begins to connect when the events are polled.
pub fn open(settings: &Arc<MqttSettings>, options: SessionOptions) -> (Client, Events) {
    let (client, events) = v5::open(settings, options);
    (Client(client), events)
}

impl Client {
    /// Sends a message after those that were given before.
    pub fn publish(&self, message: Message) -> Result<(), Overrun> {
        self.0.publish(message)
    }

    /// Subscribes to one topic.
    pub fn subscribe(&self, topic: &str) -> Result<(), Overrun> {
        self.0.subscribe(topic)
    }

    /// Disconnects cleanly once everything sent is answered, or after `patience` without a clean end. The will is not
    /// published then.
    pub fn disconnect(&self, patience: Duration) -> Result<(), Overrun> {
        self.0.disconnect(patience)
    }
}

/// How many bytes a message takes as a packet (MQTT 5 section 3.3).
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
