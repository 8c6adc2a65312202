//! Determines since when each warning of the status applies. The page shows a hidden warning again when it has begun
//! again.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use liveobject_actors::{
    domain::{
        clock::{self, Timestamp},
        status::{Warning, WarningKind},
    },
    ticks,
};
use serde::Serialize;
use tokio::time::sleep;
use utoipa::ToSchema;

use super::{mqtt, state::ApiState};

/// How often it is determined which warnings there are, even if nobody asks for the status.
const CHECK_EVERY: Duration = Duration::from_secs(15);
/// A warning that is absent in this many checks in a row is gone. A new connection has no warnings for a moment, so one
/// check is not enough.
const GONE_AFTER: u8 = 2;

/// A warning, and since when it applies.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CurrentWarning {
    #[serde(flatten)]
    #[schema(inline)]
    warning: Warning,
    /// Since when the condition has existed without interruption, as far as the service has seen it: it looks every
    /// 15 s. Interruptions of less than 15 s do not count.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
}

/// A warning that exists, or did a moment ago.
#[derive(Debug)]
struct Known {
    kind: WarningKind,
    subject: String,
    since: Timestamp,
    /// The number of checks in a row in which it was absent.
    absent: u8,
}

impl Known {
    fn new(warning: &Warning, since: Timestamp) -> Self {
        Self { kind: warning.kind, subject: subject(warning), since, absent: 0 }
    }

    fn is(&self, warning: &Warning) -> bool {
        self.kind == warning.kind && self.subject == subject(warning)
    }
}

/// When each warning began. Cheap to clone; clones share the times.
#[derive(Debug, Clone, Default)]
pub(super) struct WarningTimes(Arc<Mutex<Vec<Known>>>);

impl WarningTimes {
    /// Returns the warnings with their times. One that is not known yet begins now.
    pub(super) fn of(&self, warnings: Vec<Warning>, now: Timestamp) -> Vec<CurrentWarning> {
        let mut known = self.known();
        let current = |warning| {
            let since = known.iter_mut().find(|known| known.is(&warning)).map(|known| {
                // The clock may have been set back.
                known.since = known.since.min(now);
                known.since
            });
            let since = since.unwrap_or_else(|| {
                known.push(Known::new(&warning, now));
                now
            });
            CurrentWarning { warning, since }
        };
        warnings.into_iter().map(current).collect()
    }

    /// Records which warnings there are now, and forgets those that are gone.
    fn check(&self, warnings: Vec<Warning>, now: Timestamp) {
        self.known().retain_mut(|known| {
            let is_there = warnings.iter().any(|warning| known.is(warning));
            known.absent = if is_there { 0 } else { known.absent + 1 };
            known.absent < GONE_AFTER
        });
        self.of(warnings, now);
    }

    fn known(&self) -> MutexGuard<'_, Vec<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns what distinguishes warnings of the same kind. Numbers in the message change all the time.
fn subject(warning: &Warning) -> String {
    match warning.kind {
        WarningKind::TopicRefused
        | WarningKind::MessagesLeftOut
        | WarningKind::TooManyConnections
        | WarningKind::NodeAway
        | WarningKind::NodeUnable
        | WarningKind::NodeKeysDiffer
        | WarningKind::NodeClockDiffers => {
            let words = warning.message.split(' ').filter(|word| !is_count(word));
            words.collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

/// Returns whether a word is a number, which changes all the time, unlike one in a topic or an address.
fn is_count(word: &str) -> bool {
    word.trim_matches(|c: char| c.is_ascii_punctuation()).bytes().all(|b| b.is_ascii_digit() || b == b',')
}

/// Determines regularly which warnings there are. Runs forever.
pub(super) async fn watch(state: &ApiState) -> Infallible {
    loop {
        sleep(ticks::until_next(CHECK_EVERY)).await;
        if let Ok((connection, outbox)) = mqtt::current(state).await {
            let warnings = connection.warnings.into_iter().chain(outbox.warnings).collect();
            state.warning_times.check(warnings, clock::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        clock::from_micros(second * 1_000_000)
    }

    fn unheard(events: u64) -> Warning {
        Warning::new(WarningKind::NoSubscribers, format!("{events} events")).with_severity(events)
    }

    fn since(times: &WarningTimes, warning: Warning, now: i64) -> i64 {
        let current = times.of(vec![warning], second(now));
        clock::to_micros(current[0].since) / 1_000_000
    }

    #[test]
    fn a_warning_keeps_its_time_while_its_numbers_change() {
        let times = WarningTimes::default();
        assert_eq!(since(&times, unheard(1), 10), 10);
        times.check(vec![unheard(2)], second(20));
        assert_eq!(since(&times, unheard(3), 30), 10);
    }

    #[test]
    fn a_warning_that_was_gone_for_two_checks_begins_again() {
        let times = WarningTimes::default();
        times.check(vec![unheard(1)], second(0));
        times.check(vec![], second(15));
        assert_eq!(since(&times, unheard(1), 16), 0, "a short interruption");
        times.check(vec![unheard(1)], second(30));
        times.check(vec![], second(45));
        times.check(vec![], second(60));
        assert_eq!(since(&times, unheard(1), 61), 61);
        assert_eq!(times.known().len(), 1, "nothing accumulates");
    }

    #[test]
    fn a_clock_that_is_set_back_leaves_no_warning_that_begins_in_the_future() {
        let times = WarningTimes::default();
        assert_eq!(since(&times, unheard(1), 1000), 1000);
        assert_eq!(since(&times, unheard(1), 10), 10);
        assert_eq!(since(&times, unheard(1), 20), 10);
    }

    #[test]
    fn numbers_in_topics_and_addresses_distinguish_warnings() {
        let times = WarningTimes::default();
        let refused = |topic: &str, count: u64| {
            let message = format!("The broker refuses {topic} (and {count} more).");
            Warning::new(WarningKind::TopicRefused, message)
        };
        assert_eq!(since(&times, refused("a/cam1/event", 2), 1), 1);
        assert_eq!(since(&times, refused("a/cam2/event", 2), 2), 2);
        assert_eq!(since(&times, refused("a/cam1/event", 1000), 3), 1);
        let crowded =
            |address: &str| Warning::new(WarningKind::TooManyConnections, format!("{address} has 32 open"));
        assert_eq!(since(&times, crowded("10.0.0.1"), 4), 4);
        assert_eq!(since(&times, crowded("10.0.0.2"), 5), 5);
    }

    #[test]
    fn another_refused_topic_is_another_warning() {
        let refused = |topic: &str| Warning::new(WarningKind::TopicRefused, format!("refuses {topic}"));
        let times = WarningTimes::default();
        assert_eq!(since(&times, refused("a/event"), 1), 1);
        assert_eq!(since(&times, refused("b/event"), 2), 2);
        assert_eq!(since(&times, refused("a/event"), 3), 1);
    }
}
