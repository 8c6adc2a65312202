//! Outages: the periods in which the service had no connection to the broker, and what became of the events that
//! waited.
//!
//! What an outage claims about its events is not stored. [`outcome`] decides it from the log whenever somebody asks, so
//! that a claim cannot outlive the facts.

use chrono::TimeDelta;
use serde::Serialize;

use crate::domain::{
    clock::{LogTime, Moment, Timestamp},
    ids::Seq,
    status::FailureKind,
};

/// How long an outage must last to be recorded, so that a reconnection after a change of settings is none.
pub const RECORDED_AFTER: TimeDelta = TimeDelta::seconds(1);

/// Outages with less time than this in between are one outage.
pub const JOINED_WITHIN: TimeDelta = TimeDelta::seconds(30);

/// For how long outages are kept.
pub const KEPT: TimeDelta = TimeDelta::days(7);

/// Maximum number of outages that are kept.
pub const MAX_OUTAGES: u64 = 1000;

/// Why there was no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OutageKind {
    /// The broker could not be reached or did not accept the connection; see `reason`.
    BrokerAway,
    /// The connection was disabled in the settings.
    Disabled,
    /// The service was stopped.
    NotRunning,
    /// The service ended without an orderly shutdown, or the clock skipped this time. The service may have run for a
    /// part of it.
    Unknown,
}

impl OutageKind {
    /// All kinds, for parsing.
    pub const ALL: [Self; 4] = [Self::BrokerAway, Self::Disabled, Self::NotRunning, Self::Unknown];

    /// Returns the kind's name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BrokerAway => "broker_away",
            Self::Disabled => "disabled",
            Self::NotRunning => "not_running",
            Self::Unknown => "unknown",
        }
    }

    /// Parses the name of a kind; `None` if there is none of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// One moment, according to both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant {
    /// The wall clock.
    pub wall: Timestamp,
    /// The log time.
    pub log: LogTime,
}

impl From<Moment> for Instant {
    fn from(Moment { wall, log, .. }: Moment) -> Self {
        Self { wall, log }
    }
}

/// How far the log and its delivery have come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogExtent {
    /// Every event up to this one is settled.
    pub cursor: Seq,
    /// The last event in the log.
    pub last: Seq,
    /// Number of events above the cursor that are not settled.
    pub pending: u64,
}

/// A period without a connection to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// Its number. Later outages have higher ones.
    pub id: i64,
    /// Why there was no connection.
    pub kind: OutageKind,
    /// Why the broker was away, if that is known.
    pub reason: Option<FailureKind>,
    /// When it began.
    pub began: Instant,
    /// When it ended; `None` if it has not.
    pub ended: Option<Instant>,
    /// How far the log had come when it began.
    pub before: LogExtent,
    /// The last event that was accepted while it lasted.
    pub last: Seq,
    /// Whether rows of its events were removed from the database by another program before they were sent.
    pub missing: bool,
    /// Of an outage that began with a crash: until when the charts are known.
    pub charts_until: Option<Timestamp>,
}

impl Outage {
    /// Returns the number of events that waited because of it: those that were pending when it began, and those that
    /// were accepted while it lasted.
    pub fn events(&self) -> u64 {
        self.before.pending + self.last.since(self.before.last)
    }

    /// Returns whether the events in its range can still be in the log: an event is removed only when it was settled
    /// for longer than the retention period, and none of these was settled before the outage. They may have been
    /// removed nevertheless, while a shorter retention period applied.
    pub fn is_in_log(&self, now: Moment, retention: TimeDelta) -> bool {
        self.began.log >= now.log.before(retention)
    }
}

/// What is known of the events of an outage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// Events in its range that are neither delivered nor dead, including those that are sent again.
    pub waiting: u64,
    /// Events in its range that died since it began, including those that were dismissed.
    pub dead: u64,
    /// Events in its range that were delivered to the history topic.
    pub late: u64,
    /// Events in its range that were dead and were sent again, so that later ones may have arrived before them.
    pub retried: u64,
    /// Whether everything above can be known: all rows of the range are, or were, in this database.
    pub complete: bool,
}

impl Facts {
    /// Returns the facts of two ranges together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            waiting: self.waiting.saturating_add(other.waiting),
            dead: self.dead.saturating_add(other.dead),
            late: self.late.saturating_add(other.late),
            retried: self.retried.saturating_add(other.retried),
            complete: self.complete && other.complete,
        }
    }
}

/// What became of the events of an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// No event waited.
    NothingWaited,
    /// Some events still wait.
    Waiting,
    /// None waits, but some were not delivered: they are dead, or were dismissed.
    Failed,
    /// All were delivered, but dead ones were sent again, so that later events may have arrived before them.
    Delivered,
    /// All were delivered, on each topic in the order in which they were accepted.
    DeliveredInOrder,
    /// It is not known: the events are no longer in the log or are missing in it, or not all of them are counted yet.
    /// The next request goes on counting.
    Unknown,
}

/// Decides what may be claimed of the events of an outage.
pub fn outcome(events: u64, facts: Facts) -> Outcome {
    match facts {
        Facts { waiting: 1.., .. } => Outcome::Waiting,
        Facts { dead: 1.., .. } => Outcome::Failed,
        _ if events == 0 => Outcome::NothingWaited,
        Facts { complete: false, .. } => Outcome::Unknown,
        Facts { retried: 1.., .. } => Outcome::Delivered,
        _ => Outcome::DeliveredInOrder,
    }
}

/// An outage, with what became of its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutageReport {
    /// The outage.
    pub outage: Outage,
    /// Number of events that waited because of it.
    pub events: u64,
    /// What is known of them.
    pub facts: Facts,
    /// What may be claimed of them.
    pub outcome: Outcome,
}

impl OutageReport {
    /// Creates the report of an outage whose events have these facts.
    pub fn new(outage: Outage, facts: Facts) -> Self {
        let events = outage.events();
        // A repeated or old row may count an event that did not wait.
        let late = facts.late.min(events.saturating_sub(facts.waiting).saturating_sub(facts.dead));
        let outcome = outcome(events, facts);
        Self { outage, events, facts: Facts { late, ..facts }, outcome }
    }

    /// Returns whether nothing can change any more: the outage is over, and all of its events are delivered.
    pub fn is_final(&self) -> bool {
        let is_over = self.outage.ended.is_some();
        is_over && matches!(self.outcome, Outcome::DeliveredInOrder | Outcome::NothingWaited)
    }
}

/// The outages of a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outages {
    /// Since when outages are recorded; nothing is known of the time before.
    pub recorded_from: Timestamp,
    /// The outages that overlap the period, oldest first.
    pub reports: Vec<OutageReport>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Fate {
        Live,
        Late,
        Waiting,
        Dead,
        Retrying,
        Retried,
    }

    fn fates() -> impl Strategy<Value = Vec<Fate>> {
        let fate = prop_oneof![
            8 => Just(Fate::Live),
            4 => Just(Fate::Late),
            1 => Just(Fate::Waiting),
            1 => Just(Fate::Dead),
            1 => Just(Fate::Retrying),
            1 => Just(Fate::Retried),
        ];
        proptest::collection::vec(fate, 0..12)
    }

    proptest! {
        #[test]
        fn delivered_in_order_is_claimed_exactly_if_every_event_was_delivered_the_first_time(
            fates in fates(),
            complete in any::<bool>(),
        ) {
            let count = |wanted: &[Fate]| fates.iter().filter(|fate| wanted.contains(fate)).count() as u64;
            let facts = Facts {
                waiting: count(&[Fate::Waiting, Fate::Retrying]),
                dead: count(&[Fate::Dead]),
                late: count(&[Fate::Late]),
                retried: count(&[Fate::Retrying, Fate::Retried]),
                complete,
            };
            let outcome = outcome(fates.len() as u64, facts);
            let all = |wanted: &[Fate]| fates.iter().all(|fate| wanted.contains(fate));
            let in_order = complete && !fates.is_empty() && all(&[Fate::Live, Fate::Late]);
            prop_assert_eq!(outcome == Outcome::DeliveredInOrder, in_order);
            let delivered = complete && !fates.is_empty() && all(&[Fate::Live, Fate::Late, Fate::Retried]);
            prop_assert_eq!(matches!(outcome, Outcome::Delivered | Outcome::DeliveredInOrder), delivered);
            if facts.waiting > 0 {
                prop_assert_eq!(outcome, Outcome::Waiting);
            } else if facts.dead > 0 {
                prop_assert_eq!(outcome, Outcome::Failed);
            }
        }
    }

    #[test]
    fn every_name_can_be_parsed() {
        for kind in OutageKind::ALL {
            assert_eq!(OutageKind::parse(kind.as_str()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        for kind in FailureKind::ALL {
            assert_eq!(FailureKind::parse(kind.as_str()), Some(kind));
        }
    }
}
