//! What a connection reports to the actors that publish over it.

use actix::{Message, Recipient};

use crate::{
    domain::{
        delivery::Outcome,
        ids::{LinkId, Seq},
        status::FailureKind,
        suspects::MessageRef,
    },
    messages::connection::{Deliver, PublishState, Subscribe},
};

/// Fact from the connection: events can be delivered on this link.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct LinkUp {
    /// Which link.
    pub link: LinkId,
    /// How many unacknowledged events the broker accepts (MQTT 5 Receive Maximum).
    pub receive_maximum: u16,
    /// Whether what is more than that waits in the client.
    pub may_queue: bool,
    /// Takes events to send.
    pub deliver: Recipient<Deliver>,
    /// `host:port` of the broker.
    pub broker: String,
    /// Publishes what is not an event.
    pub publish: Recipient<PublishState>,
    /// Subscribes to a topic.
    pub subscribe: Recipient<Subscribe>,
}

/// Fact from the connection: the link is gone; what was in flight on it is not acknowledged.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct LinkDown {
    /// Which link.
    pub link: LinkId,
    /// Why; `None` when it was closed as asked.
    pub failure: Option<FailureKind>,
    /// The only message that was in flight when the link ended over a protocol error.
    pub alone: Option<MessageRef>,
}

/// Fact from the connection: answers of the broker, in the order in which they came.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Answered {
    /// On which link.
    pub link: LinkId,
    /// Which event, and how.
    pub outcomes: Vec<(Seq, Outcome)>,
}
