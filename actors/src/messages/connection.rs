//! The messages that the [`ConnectionActor`](crate::connection::ConnectionActor) handles, and the messages
//! that it forwards.

use actix::{Message, Recipient};
use bytes::Bytes;

use crate::domain::{
    clock::LogTime,
    ids::{LinkId, Seq},
    settings::QoS,
    status::Failure,
};

/// An event to send to the broker, with everything that was decided when it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its position in the event log.
    pub seq: Seq,
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
    /// The quality of service.
    pub qos: QoS,
    /// Whether the broker retains it for later subscribers.
    pub retain: bool,
    /// After how many seconds the broker discards it (MQTT 5).
    pub expiry_seconds: Option<u32>,
    /// When a user asked to send it again, if it is a retry of a dead event.
    pub asked: Option<LogTime>,
}

/// From the outbox: sends these events, in this order. For each, an
/// [`Answered`](crate::messages::link::Answered) follows, unless the link ends first.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Deliver {
    /// The events.
    pub events: Vec<Outgoing>,
    /// The number of reports of this link that the outbox has handled and for which
    /// [`Answered::pauses`](crate::messages::link::Answered::pauses) is true. If another one is still on its
    /// way, the connection gives these events back, because they would overtake the events in that report.
    pub pauses: u64,
}

/// From the retained actor, the supervisor and the outbox: publishes one message that is not an event (a state, a
/// test message). The response arrives when the broker has acknowledged the message. It contains whether the message
/// had a subscriber, or `None` if the broker does not report this.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Option<bool>, Failure>")]
pub struct PublishState {
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
    /// Whether the broker retains it.
    pub retain: bool,
}

/// From the replay actor: publishes an event of the log again, with the QoS of events. The response arrives when the
/// broker has acknowledged the message. The delivery of the event is not affected.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Result<Option<bool>, Failure>")]
pub struct PublishReplay {
    /// The topic. Never one for live events.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
}

/// From the discovery, supervisor and outbox actors: subscribes to a topic, and forwards its messages until the link
/// ends.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Subscribe {
    /// The topic, without wildcards.
    pub topic: String,
    /// Receives the messages.
    pub to: Recipient<Arrived>,
}

/// Fact, from the connection: a message arrived on a topic that was subscribed to.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Arrived {
    /// The link on which it arrived.
    pub link: LinkId,
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
    /// Whether the broker had retained it, so that it may be old.
    pub retained: bool,
}

/// From the supervisor: disconnects and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum Close {
    /// Publishes `offline` and disconnects cleanly. If another node may own the event log, the connection is dropped
    /// instead: the broker then publishes `offline` unless the other node has connected.
    Offline,
    /// Disconnects cleanly, without `offline`: another node owns the event log and publishes `online`.
    Silent,
}
