//! The facts that a connection reports to the actors that publish over it.

use actix::{Message, Recipient};

use crate::{
    domain::{
        delivery::Outcome,
        ids::{LinkId, Seq},
    },
    messages::connection::{Deliver, PublishReplay, PublishState, Subscribe},
};

/// Fact, from the connection: events can be delivered on this link.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct LinkUp {
    /// The link.
    pub link: LinkId,
    /// How many unacknowledged events the broker accepts (MQTT 5 Receive Maximum).
    pub receive_maximum: u16,
    /// Whether the broker reports, for QoS 1 and 2, that a message has no subscribers (MQTT 5).
    pub reports_subscribers: bool,
    /// How many of the next events must be sent alone, because they may have ended earlier connections.
    pub suspected_events: usize,
    /// Sends events.
    pub deliver: Recipient<Deliver>,
    /// `host:port` of the broker.
    pub broker: String,
    /// Publishes messages that are not events.
    pub publish: Recipient<PublishState>,
    /// Publishes events of the log again.
    pub replay: Recipient<PublishReplay>,
    /// Subscribes to a topic.
    pub subscribe: Recipient<Subscribe>,
}

/// Fact, from the connection: the link is down. Nothing that is still in flight on it will be acknowledged.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct LinkDown {
    /// The link.
    pub link: LinkId,
}

/// Fact, from the connection: the broker's answers, in the order in which they arrived.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Answered {
    /// The link.
    pub link: LinkId,
    /// Each answered event, with its outcome.
    pub outcomes: Vec<(Seq, Outcome)>,
}

impl Answered {
    /// Returns whether any of these events must be sent again, which makes the outbox pause.
    pub fn pauses(&self) -> bool {
        let is_sent_again =
            |outcome: &Outcome| matches!(outcome, Outcome::Deferred { .. } | Outcome::Returned);
        self.outcomes.iter().any(|(_, outcome)| is_sent_again(outcome))
    }
}
