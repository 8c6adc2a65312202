//! The poison rule: which message makes the broker end the connection, or is never acknowledged, and how to
//! go on without it. docs/architecture.md describes the whole rule. No clock, no I/O.
//!
//! The connection reports to [`Poison`] what the broker answered and how the connection ended. It asks how
//! each message should be sent ([`Poison::treatment`]), and whether it is left out ([`Poison::verdict`]). The rule
//! is the same for events, retained states, discovery messages, pictures and the availability.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::domain::{
    clock::LogTime,
    delivery::DeadReason,
    ids::Seq,
    settings::MqttSettings,
    status::{Warning, WarningKind},
    topic_use::{self, Prefixes, Rejection},
};

/// How many connections in a row must end while the same event is alone in flight before it is dead. For an
/// event this is a loss, so it is tried more often than a state, which a later state replaces.
const EVENT_STRIKES: u32 = 3;
const STATE_STRIKES: u32 = 2;

/// A connection on which the broker accepted nothing proves less: the broker may accept nothing at all. So
/// it counts half for an event.
const FULL: u32 = 2;
const HALF: u32 = 1;

/// After this many dead events in a row on a topic, the topic is at fault: for a while, further events to it
/// are dead at once.
const TOPIC_VERDICTS: u32 = 2;
const EVENTS_LEFT_OUT_FOR: Duration = Duration::from_mins(1);

/// How long a state is left out. By then, somebody may have changed the broker's rules.
pub const STATES_LEFT_OUT_FOR: Duration = Duration::from_hours(1);

/// If this many topics of a family are left out, the whole family is.
const FAMILY_TOPICS: usize = 3;

/// How long the broker must have been quiet before a message that has a strike is sent. A broker that ends
/// every connection does so in this time as well.
pub const QUIET: Duration = Duration::from_millis(500);

/// How long a message that was ignored once may remain unacknowledged while later ones are acknowledged, or while
/// it is the only one in flight. Short enough that a topic that the broker ignores delays others by less than a
/// minute: `ack_timeout_seconds` (30 s), and then four messages that are sent alone.
pub const PATIENCE: Duration = Duration::from_secs(4);

/// A state is left out if the connection ends after its refusal twice within this time. A single end may be a
/// coincidence: an administrator who sees a refusal may correct the rules of the broker and restart it.
const REFUSED_TWICE_WITHIN: Duration = Duration::from_mins(1);

/// A broker that refuses a message of this size closes the connection while it is still being sent, and this
/// looks like a network failure. It is larger than any event.
pub const LARGE: usize = 64 * 1024;

/// How long a large message may delay events.
pub const MAX_DELAY: Duration = Duration::from_secs(20);

/// Maximum number of topics that are remembered.
const MAX_TOPICS: usize = 1000;

/// A message, as evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRef {
    /// Its position in the event log, if it is an event.
    pub seq: Option<Seq>,
    /// Its topic.
    pub topic: String,
    /// The length of its payload.
    pub bytes: usize,
}

/// What a suspicion is about: one event, or all states of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Event(Seq),
    Topic(String),
}

impl MessageRef {
    fn key(&self) -> Key {
        self.seq.map_or_else(|| Key::Topic(self.topic.clone()), Key::Event)
    }

    /// Returns whether it is a late event, which is handed over independently of live ones.
    fn is_late(&self) -> bool {
        self.seq.is_some() && self.topic.ends_with("/history")
    }

    fn required_strikes(&self) -> u32 {
        FULL * if self.seq.is_some() { EVENT_STRIKES } else { STATE_STRIKES }
    }
}

/// How an established connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The broker ended it: it closed it, disconnected us, or violated the protocol.
    ByBroker,
    /// The broker refused this message and then ended the connection.
    AfterRefusal(MessageRef, DeadReason),
    /// The broker acknowledged later messages but not this one.
    Ignored(MessageRef),
    /// This message was sent too slowly and delayed events.
    TooSlow(MessageRef),
    /// The broker acknowledged nothing any more.
    Stalled,
    /// The network failed.
    Network,
    /// For a reason that no message is the cause of: on request, for example, or because the broker stops.
    Unrelated,
}

/// Everything about the end of a connection.
#[derive(Debug, Clone)]
pub struct Ending {
    /// How it ended.
    pub end: End,
    /// The messages that were sent and not answered.
    pub in_flight: Vec<MessageRef>,
    /// Whether the broker accepted any message on this connection.
    pub accepted_any: bool,
}

/// How a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// Like any other.
    Normal,
    /// Nothing else is in flight.
    Alone,
    /// Nothing else is in flight, and the broker has been quiet for [`QUIET`].
    AloneAfterQuiet,
    /// With others, but it must be acknowledged within [`PATIENCE`] once a later one is.
    Watched,
}

/// What a message has done to earlier connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Suspicion {
    strikes: u32,
    /// Whether it was ignored while later messages were acknowledged.
    ignored: bool,
    /// Whether it was in flight when the broker acknowledged nothing any more.
    silent: bool,
}

/// Why messages are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The broker ends the connection over them.
    Closes,
    /// The broker refuses them and then ends the connection.
    Refuses(DeadReason),
    /// The broker does not acknowledge them.
    Ignores,
    /// The connection is too slow for them.
    Slow,
}

impl Cause {
    /// Returns the reason for which an event dies.
    pub fn dead_reason(self) -> DeadReason {
        match self {
            Self::Closes => DeadReason::ConnectionClosedByBroker,
            Self::Refuses(reason) => reason,
            // Events are not large, so they are never too slow.
            Self::Ignores | Self::Slow => DeadReason::IgnoredByBroker,
        }
    }

    fn rejection(self) -> Rejection {
        match self {
            Self::Closes => Rejection::Closes,
            Self::Refuses(reason) => Rejection::RefusesAndCloses(reason),
            Self::Ignores => Rejection::Ignores,
            Self::Slow => Rejection::TooSlow,
        }
    }
}

/// What is known about the messages of a topic or of a family.
#[derive(Debug, Clone)]
struct Record {
    cause: Cause,
    /// Whether they are events.
    events: bool,
    /// How many messages in a row were found to be at fault.
    verdicts: u32,
    /// The length of the shortest one. The limit may be one of size, so shorter ones are tried.
    shortest: usize,
    /// Until when they are left out.
    until: Instant,
}

impl Record {
    fn applies(&self, bytes: usize, now: Instant) -> bool {
        let enough = !self.events || self.verdicts >= TOPIC_VERDICTS;
        enough && bytes >= self.shortest && now < self.until
    }
}

#[derive(Debug, Clone, Default)]
struct Family {
    /// The topics that are left out.
    topics: BTreeSet<String>,
    /// The length of the shortest message that is at fault.
    shortest: usize,
    record: Option<Record>,
}

/// See the module's documentation.
#[derive(Debug, Clone, Default)]
pub struct Poison {
    prefixes: Prefixes,
    suspects: BTreeMap<Key, Suspicion>,
    condemned: BTreeMap<Seq, Cause>,
    /// The events that were dead and are sent again, and when a user asked for it.
    asked: BTreeMap<Seq, LogTime>,
    /// The events among them that were last sent as late ones.
    late: BTreeSet<Seq>,
    topics: BTreeMap<String, Record>,
    families: BTreeMap<String, Family>,
    /// The states after whose refusal a connection ended, and when.
    ends_after_refusal: BTreeMap<Key, Instant>,
    /// What was in flight when the network last failed.
    at_network_end: BTreeSet<Key>,
    /// The message that the current end shows to be at fault.
    found: Option<(MessageRef, Cause)>,
}

/// What the end of a connection shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lesson {
    /// Whether the next connection should follow soon, because it will show which message is at fault.
    pub retry_soon: bool,
    /// The message that is now known to be at fault, and why.
    pub found: Option<(MessageRef, Cause)>,
}

impl Poison {
    /// Returns the rule without any knowledge, for a broker that is used with these settings.
    pub fn new(settings: &MqttSettings) -> Self {
        Self { prefixes: Prefixes::of(settings), ..Self::default() }
    }

    /// Returns whether every message is sent normally.
    pub fn is_empty(&self) -> bool {
        self.suspects.is_empty()
            && self.condemned.is_empty()
            && self.asked.is_empty()
            && self.topics.is_empty()
            && self.families.is_empty()
            && self.at_network_end.is_empty()
    }

    /// Returns whether no message is suspected.
    pub fn suspects_nobody(&self) -> bool {
        self.suspects.is_empty()
    }

    /// Returns how many events are sent alone.
    pub fn suspected_events(&self) -> usize {
        let alone =
            |(key, suspicion): &(&Key, &Suspicion)| matches!(key, Key::Event(_)) && !suspicion.ignored;
        self.suspects.iter().filter(alone).count()
    }

    /// Returns how a message should be sent.
    pub fn treatment(&self, message: &MessageRef) -> Treatment {
        if self.suspects.is_empty() {
            return Treatment::Normal;
        }
        match self.suspects.get(&message.key()) {
            None => Treatment::Normal,
            Some(Suspicion { ignored: true, .. }) => Treatment::Watched,
            Some(Suspicion { strikes: 0, .. }) => Treatment::Alone,
            Some(_) => Treatment::AloneAfterQuiet,
        }
    }

    /// Returns how long a message may remain unacknowledged while it is the only one in flight, on a
    /// connection on which the broker has accepted another one. `None` means: as long as any other.
    pub fn patience(&self, message: &MessageRef) -> Option<Duration> {
        let suspicion = self.suspects.get(&message.key())?;
        (suspicion.ignored || suspicion.silent).then_some(PATIENCE)
    }

    /// Returns why the message is left out, if it is.
    pub fn verdict(&self, message: &MessageRef, now: Instant) -> Option<Cause> {
        if let Some(cause) = message.seq.and_then(|seq| self.condemned.get(&seq)) {
            return Some(*cause);
        }
        let applies = |record: &&Record| record.applies(message.bytes, now);
        let of_topic = || self.topics.get(&message.topic).filter(applies);
        let of_family = || {
            if self.families.is_empty() {
                return None;
            }
            let family = self.families.get(&self.family_of(message)?)?;
            family.record.as_ref().filter(applies)
        };
        of_topic().or_else(of_family).map(|record| record.cause)
    }

    /// Records that an event that was dead is sent again because a user asked for it at this time. What is known
    /// from before that time does not count: the event may have died for another reason, such as its age.
    pub fn sent_again(&mut self, seq: Seq, asked: LogTime) {
        if self.asked.insert(seq, asked) != Some(asked) {
            self.suspects.remove(&Key::Event(seq));
            self.condemned.remove(&seq);
        }
    }

    /// Records that an event is settled because of its verdict.
    pub fn executed(&mut self, seq: Seq) {
        self.condemned.remove(&seq);
        self.asked.remove(&seq);
    }

    /// Records the broker's answer to a message, and whether it accepted the message. Returns whether
    /// messages that were left out are permitted again.
    pub fn answered(&mut self, message: &MessageRef, accepted: bool) -> bool {
        self.at_network_end.remove(&message.key());
        self.suspects.remove(&message.key());
        if let Some(seq) = message.seq {
            self.asked.remove(&seq);
            // Live and late events are each handed over in order, so those before it were settled in another way.
            let (late, is_late) = (&self.late, message.is_late());
            let is_settled = |other: Seq| other < seq && late.contains(&other) == is_late;
            self.suspects.retain(|key, suspicion| {
                suspicion.ignored || !matches!(key, Key::Event(other) if is_settled(*other))
            });
            self.condemned.retain(|other, _| !is_settled(*other));
        }
        if !accepted || self.topics.is_empty() {
            return false;
        }
        let before = (self.topics.len(), self.families.len());
        if self.topics.get(&message.topic).is_some_and(|record| message.bytes >= record.shortest) {
            self.topics.remove(&message.topic);
        }
        if let Some(name) = self.family_of(message)
            && self.families.get(&name).is_some_and(|family| message.bytes >= family.shortest)
        {
            self.families.remove(&name);
        }
        before != (self.topics.len(), self.families.len())
    }

    /// Learns from the end of a connection.
    pub fn ended(&mut self, ending: Ending, now: Instant) -> Lesson {
        let Ending { end, in_flight, accepted_any } = ending;
        if end != End::Network {
            self.at_network_end.clear();
        }
        self.found = None;
        for (seq, is_late) in in_flight.iter().filter_map(|message| Some((message.seq?, message.is_late()))) {
            if is_late {
                self.late.insert(seq);
            } else {
                self.late.remove(&seq);
            }
        }
        let retry_soon = match end {
            End::AfterRefusal(message, reason) => {
                self.suspects.remove(&message.key());
                if message.seq.is_some() || self.has_ended_after_refusal_before(&message, now) {
                    self.condemn(&message, Cause::Refuses(reason), now);
                }
                true
            }
            End::TooSlow(message) => {
                self.condemn(&message, Cause::Slow, now);
                true
            }
            End::Ignored(message) => {
                self.ignored(&message, &in_flight, now);
                true
            }
            End::ByBroker => self.ended_by_broker(&in_flight, accepted_any, now),
            End::Stalled => self.stalled(&in_flight, accepted_any, now),
            End::Network => self.network_failed(&in_flight, now),
            End::Unrelated => false,
        };
        let Self { asked, late, suspects, condemned, .. } = self;
        let is_known = |seq: &Seq| suspects.contains_key(&Key::Event(*seq)) || condemned.contains_key(seq);
        asked.retain(|seq, _| is_known(seq));
        late.retain(is_known);
        Lesson { retry_soon, found: self.found.take() }
    }

    /// Records that a connection ended after this state was refused. Returns whether another one did shortly before.
    fn has_ended_after_refusal_before(&mut self, message: &MessageRef, now: Instant) -> bool {
        self.ends_after_refusal.retain(|_, at| now.saturating_duration_since(*at) < REFUSED_TWICE_WITHIN);
        if self.ends_after_refusal.remove(&message.key()).is_some() {
            return true;
        }
        if self.ends_after_refusal.len() < MAX_TOPICS {
            self.ends_after_refusal.insert(message.key(), now);
        }
        false
    }

    fn ended_by_broker(&mut self, in_flight: &[MessageRef], accepted_any: bool, now: Instant) -> bool {
        match in_flight {
            [] => {
                // The broker ends connections without any message, so no message caused the earlier ends.
                for suspicion in self.suspects.values_mut().filter(|suspicion| !suspicion.ignored) {
                    suspicion.strikes = 0;
                }
                false
            }
            [alone] => {
                let weight = if accepted_any || alone.seq.is_none() { FULL } else { HALF };
                self.strike(alone, weight, Cause::Closes, now);
                weight == FULL
            }
            several => self.suspect(several.iter().map(MessageRef::key)),
        }
    }

    /// If other events of its topic are in flight, the broker may ignore the whole topic. They would soon be all
    /// that is in flight, so they are sent alone from then on.
    fn ignored(&mut self, message: &MessageRef, in_flight: &[MessageRef], now: Instant) {
        self.strike(message, FULL, Cause::Ignores, now);
        let others = || in_flight.iter().filter(|other| other.topic == message.topic && *other != message);
        if others().next().is_some() {
            let is_condemned = !self.suspects.contains_key(&message.key());
            self.suspect_of_silence(others().chain((!is_condemned).then_some(message)));
        }
    }

    /// Several ignored messages hide each other, so they are no longer sent together.
    fn suspect_of_silence<'a>(&mut self, messages: impl Iterator<Item = &'a MessageRef>) {
        for message in messages {
            let suspicion = self.suspects.entry(message.key()).or_default();
            (suspicion.silent, suspicion.ignored) = (true, false);
        }
    }

    /// If the broker acknowledges nothing on the whole connection, no message is suspected. But if it has
    /// acknowledged something before, the messages in flight are sent alone from then on, and the one that is still not
    /// acknowledged is ignored.
    fn stalled(&mut self, in_flight: &[MessageRef], accepted_any: bool, now: Instant) -> bool {
        if let Some(soon) = self.large_at_fault(in_flight, Cause::Slow, now) {
            return soon;
        }
        if accepted_any {
            self.suspect_of_silence(in_flight.iter());
        }
        false
    }

    /// A large message that ends two connections is left out, even if it looks like a network failure.
    fn large_at_fault(&mut self, in_flight: &[MessageRef], cause: Cause, now: Instant) -> Option<bool> {
        if let [alone] = in_flight
            && alone.bytes >= LARGE
        {
            self.strike(alone, FULL, cause, now);
            return Some(true);
        }
        let large: Vec<_> = in_flight.iter().filter(|message| message.bytes >= LARGE).collect();
        (!large.is_empty()).then(|| self.suspect(large.into_iter().map(MessageRef::key)))
    }

    /// A network failure makes no message a suspect, with two exceptions. If the network fails twice while
    /// the same messages are in flight, they are sent alone from then on: a broker that closes a connection
    /// before it has read everything causes a reset, which looks like a network failure. And a large message
    /// that ends two connections is left out.
    fn network_failed(&mut self, in_flight: &[MessageRef], now: Instant) -> bool {
        if let Some(soon) = self.large_at_fault(in_flight, Cause::Closes, now) {
            return soon;
        }
        if in_flight.is_empty() {
            return false;
        }
        let keys: BTreeSet<Key> = in_flight.iter().map(MessageRef::key).collect();
        let again: Vec<Key> = keys.intersection(&self.at_network_end).cloned().collect();
        self.at_network_end = keys;
        self.suspect(again.into_iter())
    }

    /// Returns whether any of them was not suspected before.
    fn suspect(&mut self, keys: impl Iterator<Item = Key>) -> bool {
        let before = self.suspects.len();
        for key in keys {
            self.suspects.entry(key).or_default();
        }
        self.suspects.len() > before
    }

    fn strike(&mut self, message: &MessageRef, weight: u32, cause: Cause, now: Instant) {
        let suspicion = self.suspects.entry(message.key()).or_default();
        suspicion.strikes += weight;
        suspicion.ignored = cause == Cause::Ignores;
        // A topic that was left out for an hour is tried only once more, and so is the second event in a row that
        // is ignored on a topic, because each attempt takes as long as a time-out.
        let again = self.topics.get(&message.topic).is_some_and(|record| match message.seq {
            Some(_) => (cause, record.cause) == (Cause::Ignores, Cause::Ignores),
            None => true,
        });
        if suspicion.strikes >= message.required_strikes() || again {
            self.suspects.remove(&message.key());
            self.condemn(message, cause, now);
        }
    }

    fn condemn(&mut self, message: &MessageRef, cause: Cause, now: Instant) {
        let topic = message.topic.as_str();
        if message.seq.is_none() && self.prefixes.is_history(topic) {
            // It is a replayed event. The replay ends; late events are not left out because of it.
            return;
        }
        // A shorter message may be accepted, unless the broker refuses them for another reason than their size.
        let is_sized = !matches!(cause, Cause::Refuses(reason) if reason != DeadReason::PacketTooLarge);
        let bytes = if is_sized { message.bytes } else { 0 };
        let events = message.seq.is_some();
        self.found = Some((message.clone(), cause));
        // An event that the broker refused is dead already.
        if let Some(seq) = message.seq
            && !matches!(cause, Cause::Refuses(_))
        {
            self.condemned.insert(seq, cause);
        }
        let until = now + if events { EVENTS_LEFT_OUT_FOR } else { STATES_LEFT_OUT_FOR };
        let record = self.topics.entry(topic.to_owned()).or_insert_with(|| Record {
            cause,
            events,
            verdicts: 0,
            shortest: bytes,
            until,
        });
        record.verdicts = record.verdicts.saturating_add(1);
        (record.cause, record.until) = (cause, until);
        record.shortest = record.shortest.min(bytes);
        self.condemn_family(message, bytes, cause, until);
        self.forget_some();
    }

    /// Returns the family of the message's topic. Events have none.
    fn family_of(&self, message: &MessageRef) -> Option<String> {
        message.seq.is_none().then(|| self.prefixes.family(&message.topic)).flatten()
    }

    fn condemn_family(&mut self, message: &MessageRef, bytes: usize, cause: Cause, until: Instant) {
        let Some(name) = self.family_of(message) else { return };
        let family = self.families.entry(name).or_default();
        let is_first = family.topics.is_empty();
        family.shortest = if is_first { bytes } else { family.shortest.min(bytes) };
        if family.topics.len() < FAMILY_TOPICS {
            family.topics.insert(message.topic.clone());
        }
        if family.topics.len() >= FAMILY_TOPICS {
            let (verdicts, shortest) = (TOPIC_VERDICTS, family.shortest);
            family.record = Some(Record { cause, events: false, verdicts, shortest, until });
        }
    }

    fn forget_some(&mut self) {
        while self.topics.len() > MAX_TOPICS {
            let oldest = self.topics.iter().min_by_key(|(_, record)| record.until);
            let Some(oldest) = oldest.map(|(topic, _)| topic.clone()) else { return };
            self.topics.remove(&oldest);
        }
    }

    /// Returns what is left out, for the status: states until the broker accepts one, events for as long as
    /// they are dead at once.
    pub fn left_out(&self) -> Vec<LeftOut> {
        let families = self.families.iter().filter_map(|(name, family)| {
            let record = family.record.as_ref()?;
            Some(LeftOut::new(name, record))
        });
        let is_in_family = |topic: &String| {
            let family = self.prefixes.family(topic).and_then(|name| self.families.get(&name));
            family.is_some_and(|family| family.record.is_some())
        };
        let alone = self.topics.iter().filter(|(topic, record)| record.events || !is_in_family(topic));
        families.chain(alone.map(|(topic, record)| LeftOut::new(topic, record))).collect()
    }
}

/// Messages that are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Their topic, or a filter with wildcards.
    pub topic: String,
    /// Why.
    pub cause: Cause,
    /// Whether they are events.
    pub events: bool,
    /// Until when.
    pub until: Instant,
}

impl LeftOut {
    fn new(topic: &str, record: &Record) -> Self {
        Self { topic: topic.to_owned(), cause: record.cause, events: record.events, until: record.until }
    }

    /// Returns whether the status still shows it. Whether a state is accepted again shows only when it is
    /// sent.
    pub fn is_current(&self, now: Instant) -> bool {
        !self.events || now < self.until
    }

    /// Returns the warning for the status.
    pub fn warning(&self, settings: &MqttSettings) -> Warning {
        let Self { topic, cause, events, .. } = self;
        let description = topic_use::describe(cause.rejection(), topic, settings);
        let until = if *events {
            "Events on this topic become dead; send them again once the cause is fixed."
        } else {
            "These messages are left out for an hour."
        };
        let message = format!("{description} {until} To try again at once, save the MQTT settings.");
        Warning::new(WarningKind::MessagesLeftOut, message)
    }
}

#[cfg(test)]
#[path = "poison_tests.rs"]
mod tests;
