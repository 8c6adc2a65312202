//! What a [`ScriptedBroker`](super::ScriptedBroker) can be told.

use std::fmt;

use crate::mqtt5::{ConnAck, Publish, Version};

/// How QoS 1 and 2 messages are acknowledged (PUBACK or PUBREC) when no [`Rule`] fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// Each at once.
    #[default]
    All,
    /// None, until released.
    Withhold,
    /// Gathers so many on a connection, then acknowledges them newest first. Fewer than that wait until released:
    /// the number must not exceed the client's window.
    ReverseWithin(usize),
}

/// What happens to a message that a [`Rule`] fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is acknowledged with this reason code: 0 success, 0x10 no matching subscribers, 0x87 not authorised,
    /// 0x97 quota exceeded, …
    Reason(u8),
    /// Its acknowledgement is withheld until released.
    Withhold,
    /// The client is thrown out with a DISCONNECT of this reason code.
    Disconnect(u8),
    /// The connection is closed without a word.
    Close,
}

/// How a CONNECT of a version is turned down that the broker does not speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// These bytes are answered, and the connection is closed.
    Answer(&'static [u8]),
    /// The connection is closed without a word.
    Close,
    /// The connection is reset.
    Reset,
}

/// A reply to chosen messages.
pub struct Rule {
    fits: Box<dyn Fn(&Publish) -> bool + Send>,
    pub(super) reply: Reply,
    times: usize,
}

impl fmt::Debug for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Rule({:?}, {} times)", self.reply, self.times)
    }
}

impl Rule {
    /// Fits the messages for which `fits` answers true.
    pub fn when(fits: impl Fn(&Publish) -> bool + Send + 'static, reply: Reply) -> Self {
        Self { fits: Box::new(fits), reply, times: usize::MAX }
    }

    /// Fits messages to exactly this topic.
    #[must_use]
    pub fn topic(topic: &str, reply: Reply) -> Self {
        let topic = topic.to_owned();
        Self::when(move |publish| publish.topic == topic, reply)
    }

    /// Fits messages whose payload contains this text.
    #[must_use]
    pub fn payload(text: &str, reply: Reply) -> Self {
        let text = text.as_bytes().to_vec();
        Self::when(move |publish| publish.payload.windows(text.len().max(1)).any(|part| part == text), reply)
    }

    /// Fits the event of this id, live or late; not the states that name it.
    #[must_use]
    pub fn event(id: &str, reply: Reply) -> Self {
        let Self { fits: names_it, .. } = Self::payload(&format!("\"event_id\":\"{id}\""), reply);
        Self::when(move |publish| publish.is_event() && names_it(publish), reply)
    }

    /// Fits only so many messages; afterwards the rule is spent.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    pub(super) fn apply(&mut self, publish: &Publish) -> Option<Reply> {
        let fits = self.times > 0 && (self.fits)(publish);
        fits.then(|| {
            self.times -= 1;
            self.reply
        })
    }
}

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the broker's behaviour")]
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
