//! Messages that may have made the broker end the connection (see docs/architecture.md, Poison messages).

use std::collections::BTreeSet;

use crate::domain::ids::Seq;

/// Identifies a message that is sent to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageRef {
    /// An event.
    Event(Seq),
    /// Any other message, such as a camera's state.
    State {
        /// Its topic.
        topic: String,
        /// The length of its payload.
        bytes: usize,
    },
}

/// The messages that were in flight when a connection ended with a protocol error, and that the broker has
/// not acknowledged since then. A state message is identified by its topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspects {
    events: BTreeSet<Seq>,
    topics: BTreeSet<String>,
}

impl Suspects {
    pub(crate) fn insert(&mut self, message: &MessageRef) {
        match message {
            MessageRef::Event(seq) => self.events.insert(*seq),
            MessageRef::State { topic, .. } => self.topics.insert(topic.clone()),
        };
    }

    pub(crate) fn remove(&mut self, message: &MessageRef) {
        match message {
            MessageRef::Event(seq) => self.events.remove(seq),
            MessageRef::State { topic, .. } => self.topics.remove(topic),
        };
    }

    pub(crate) fn contains(&self, message: &MessageRef) -> bool {
        match message {
            MessageRef::Event(seq) => self.events.contains(seq),
            MessageRef::State { topic, .. } => self.topics.contains(topic),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.topics.is_empty()
    }
}
