//! The script of a [`ScriptedBroker`](super::ScriptedBroker).

use std::fmt;

use crate::mqtt5::{ConnAck, Publish, Version};

/// How QoS 1 and 2 messages are acknowledged (PUBACK or PUBREC) if no [`Rule`] matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// Acknowledge each message at once.
    #[default]
    All,
    /// Acknowledge nothing until released.
    Withhold,
    /// Collect this many messages on a connection, then acknowledge them newest first. Fewer messages wait
    /// until released, so the number must not exceed the client's window.
    ReverseWithin(usize),
}

/// What happens to a message that a [`Rule`] matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Acknowledge with this reason code: 0 success, 0x10 no matching subscribers, 0x87 not authorized, 0x97
    /// quota exceeded, …
    Reason(u8),
    /// Withhold the acknowledgement until released.
    Withhold,
    /// Disconnect the client with a DISCONNECT of this reason code.
    Disconnect(u8),
    /// Disconnect the client with a DISCONNECT that consists of this reason code only, without properties.
    ShortDisconnect(u8),
    /// Close the connection without a DISCONNECT.
    Close,
    /// Acknowledge with this reason code and close the connection, in one packet of the network.
    AcknowledgeAndClose(u8),
    /// Acknowledge with this reason code and reset the connection, as a broker does that closes it before it has
    /// read everything.
    AcknowledgeAndReset(u8),
    /// Acknowledge and disconnect with a DISCONNECT of this reason code, in one packet of the network.
    AcknowledgeAndDisconnect(u8),
    /// Acknowledge twice.
    AcknowledgeTwice,
}

/// How to refuse a CONNECT of a version that the broker does not support.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Send these bytes and close the connection.
    Answer(&'static [u8]),
    /// Close the connection without a response.
    Close,
    /// Reset the connection.
    Reset,
}

/// A reply to selected messages.
pub struct Rule {
    matches: Box<dyn Fn(&Publish) -> bool + Send>,
    pub(super) reply: Reply,
    times: usize,
}

impl fmt::Debug for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Rule({:?}, {} times)", self.reply, self.times)
    }
}

impl Rule {
    /// Creates a rule for the messages for which `matches` returns true.
    pub fn when(matches: impl Fn(&Publish) -> bool + Send + 'static, reply: Reply) -> Self {
        Self { matches: Box::new(matches), reply, times: usize::MAX }
    }

    /// Creates a rule for messages to exactly this topic.
    #[must_use]
    pub fn topic(topic: &str, reply: Reply) -> Self {
        let topic = topic.to_owned();
        Self::when(move |publish| publish.topic == topic, reply)
    }

    /// Creates a rule for messages whose payload contains this text.
    #[must_use]
    pub fn payload(text: &str, reply: Reply) -> Self {
        let text = text.as_bytes().to_vec();
        Self::when(move |publish| publish.payload.windows(text.len().max(1)).any(|part| part == text), reply)
    }

    /// Creates a rule for the event with this id, live or late, but not for states that mention it.
    #[must_use]
    pub fn event(id: &str, reply: Reply) -> Self {
        let Self { matches: mentions_id, .. } = Self::payload(&format!("\"event_id\":\"{id}\""), reply);
        Self::when(move |publish| publish.is_event() && mentions_id(publish), reply)
    }

    /// Limits how many messages the rule matches.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    pub(super) fn apply(&mut self, publish: &Publish) -> Option<Reply> {
        let matches = self.times > 0 && (self.matches)(publish);
        matches.then(|| {
            self.times -= 1;
            self.reply
        })
    }
}

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the broker's behavior")]
pub(super) struct Script {
    pub(super) refused: Vec<(Version, Refusal)>,
    pub(super) connack: ConnAck,
    pub(super) acks: Acks,
    pub(super) rules: Vec<Rule>,
    pub(super) grant_subscriptions: bool,
    pub(super) answer_connect: bool,
    pub(super) answer_pings: bool,
    pub(super) answer_pubrel: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            refused: Vec::new(),
            connack: ConnAck::default(),
            acks: Acks::All,
            rules: Vec::new(),
            grant_subscriptions: true,
            answer_connect: true,
            answer_pings: true,
            answer_pubrel: true,
        }
    }
}

impl Script {
    pub(super) fn refusal(&self, version: Version) -> Option<Refusal> {
        self.refused.iter().find(|(refused, _)| *refused == version).map(|(_, refusal)| *refusal)
    }

    pub(super) fn reply(&mut self, publish: &Publish) -> Option<Reply> {
        self.rules.iter_mut().find_map(|rule| rule.apply(publish))
    }
}
