//! Messages that may be the reason why a broker ended the connection.

use std::collections::BTreeSet;

use crate::domain::ids::Seq;

/// A message between us and the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageRef {
    /// An event.
    Event(Seq),
    /// Anything else.
    State {
        /// Where it goes.
        topic: String,
        /// The length of its payload.
        bytes: usize,
    },
}

/// What was in flight when a link ended over a protocol error, and has not been answered since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspects {
    events: BTreeSet<Seq>,
    topics: BTreeSet<String>,
}

impl Suspects {
    pub(crate) fn add(&mut self, what: &MessageRef) {
        match what {
            MessageRef::Event(seq) => self.events.insert(*seq),
            MessageRef::State { topic, .. } => self.topics.insert(topic.clone()),
        };
    }

    pub(crate) fn remove(&mut self, what: &MessageRef) {
        match what {
            MessageRef::Event(seq) => self.events.remove(seq),
            MessageRef::State { topic, .. } => self.topics.remove(topic),
        };
    }

    pub(crate) fn contain(&self, what: &MessageRef) -> bool {
        match what {
            MessageRef::Event(seq) => self.events.contains(seq),
            MessageRef::State { topic, .. } => self.topics.contains(topic),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.topics.is_empty()
    }
}
