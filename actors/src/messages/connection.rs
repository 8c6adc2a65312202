//! What can be said to the [`ConnectionActor`](super::ConnectionActor), and what it reports.

use actix::{Message, Recipient};
use bytes::Bytes;

use crate::domain::{
    ids::{LinkId, Seq},
    settings::QoS,
    status::Failure,
};

/// One event on its way to the broker: everything that was decided when it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its place in the log.
    pub seq: Seq,
    /// Where it goes.
    pub topic: String,
    /// What subscribers get.
    pub payload: Bytes,
    /// How it is acknowledged.
    pub qos: QoS,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
    /// For how many seconds a broker may keep it (MQTT 5).
    pub expiry_seconds: Option<u32>,
}

/// From the outbox: send these events, in this order. Each is answered by an
/// [`Answered`](crate::messages::link::Answered), or by the end of the link.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Deliver(pub Vec<Outgoing>);

/// From the supervisor: publish one message that is not an event (a test, a state), and answer when the broker has
/// acknowledged it.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), Failure>")]
pub struct PublishState {
    /// Where it goes.
    pub topic: String,
    /// What it says.
    pub payload: Bytes,
    /// Whether the broker keeps it.
    pub retain: bool,
}

/// From the `DiscoveryActor`: subscribe to this topic, and tell what arrives there while the link lasts.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Subscribe {
    /// Without wildcards.
    pub topic: String,
    /// Told what arrives.
    pub to: Recipient<Arrived>,
}

/// Fact: a message arrived on a topic that was subscribed to.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Arrived {
    /// On which link.
    pub link: LinkId,
    /// Where.
    pub topic: String,
    /// What it says.
    pub payload: Bytes,
}

/// From the supervisor: say `offline`, disconnect cleanly and end.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Close;
