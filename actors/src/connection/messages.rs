//! What can be said to the [`ConnectionActor`](super::ConnectionActor), and what it reports.

use actix::{Message, Recipient};
use bytes::Bytes;

use super::{Refusal, Suspects, Version};
use crate::{
    clock::Timestamp,
    ids::{LinkId, Seq},
    settings::QoS,
    status::{Failure, Warning},
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
/// [`Answered`](crate::outbox::Answered), or by the end of the link.
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

/// Fact, to the supervisor: the broker accepted the login.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Connected {
    /// Which link.
    pub link: LinkId,
    /// What is spoken.
    pub version: Version,
    /// How the other version had been turned down before, if it had.
    pub refused: Option<Refusal>,
    /// What the broker cannot do as the settings ask.
    pub warnings: Vec<Warning>,
    /// When the broker's certificate expires; `None` without TLS.
    pub certificate_ends: Option<Timestamp>,
}

/// Fact, to the supervisor: this connection is over. Told exactly once, whatever the cause.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct ConnectionEnded {
    /// Which link.
    pub link: LinkId,
    /// Why; `None` when it was closed as asked.
    pub failure: Option<Failure>,
    /// The broker closed it after the login, in good order and without a word.
    pub closed: bool,
    /// MQTT 3.1.1: the broker closed the connection instead of an answer to the first QoS 2 event. A broker that does not
    /// take QoS 2 has no other way to say so.
    pub balked: bool,
    /// What the next connection is to send alone.
    pub suspects: Suspects,
}
