//! Where the live lane starts: the first event that has not become late while it waited. It is looked up
//! in the database, so that a long backlog need not be read. No clock, no I/O.

use chrono::TimeDelta;

use crate::domain::{
    clock::{LogTime, Moment},
    delivery::{EventTimes, is_late},
    ids::Seq,
    settings::MqttSettings,
};

/// How many events in a row are passed one by one before the rest is looked up.
const PASS_ONE_BY_ONE: usize = 256;

/// The state of the lookup.
#[derive(Debug, Clone, Copy, Default)]
pub struct LiveStart {
    /// The event that needs a lookup, and a time: events that were accepted before it are late.
    wanted: Option<(Seq, LogTime)>,
    looking_up: bool,
    /// Identifies the lookups since the latest restart.
    generation: u64,
    /// Number of late events that were passed one after another.
    passed: usize,
}

/// A lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveStartRequest {
    /// The seq to start at.
    pub from: Seq,
    /// The late event that needs the lookup. It may have been sent in the meantime.
    pub late: Seq,
    /// Find the first event that was accepted at this time or later.
    pub since: LogTime,
    generation: u64,
}

impl LiveStart {
    /// Returns the state after the position of the live lane was reset. Earlier lookups do not count any more.
    #[must_use]
    pub fn restarted(self) -> Self {
        Self { generation: self.generation + 1, ..Self::default() }
    }

    /// Records that the next event is not late.
    pub fn reached_live(&mut self) {
        self.passed = 0;
    }

    /// Decides about the next event, which is late. Returns whether to pass it, instead of waiting for a lookup.
    pub fn passes(
        &mut self,
        seq: Seq,
        event: EventTimes,
        is_split: bool,
        settings: &MqttSettings,
        now: Moment,
    ) -> bool {
        let on_arrival = EventTimes { occurred_at: event.received_at, ..event };
        if !is_late(settings, on_arrival, now) {
            // It was late on arrival, so those after it need not be late.
            return true;
        }
        if is_split && self.passed < PASS_ONE_BY_ONE {
            self.passed += 1;
            return true;
        }
        let limit = now.log.before(TimeDelta::seconds(settings.late_after_seconds.into()));
        self.wanted = Some((seq, limit.max(now.boot_began)));
        false
    }

    /// Takes the lookup to carry out now, if one is needed; `from` is the position of the live lane.
    pub fn wanted(&mut self, from: Option<Seq>) -> Option<LiveStartRequest> {
        if self.looking_up {
            return None;
        }
        let (from, (late, since)) = (from?, self.wanted.take()?);
        self.looking_up = true;
        Some(LiveStartRequest { from, late, since, generation: self.generation })
    }

    /// Records that a lookup has ended. Returns whether its result counts.
    pub fn ended(&mut self, request: LiveStartRequest) -> bool {
        let counts = request.generation == self.generation;
        if counts {
            (self.looking_up, self.passed, self.wanted) = (false, 0, None);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::clock;

    const NOON: i64 = 1_780_000_000_000_000;

    fn moment(seconds: u64) -> Moment {
        Moment::at(clock::from_micros(NOON) + Duration::from_secs(seconds))
    }

    #[test]
    fn an_event_that_was_late_on_arrival_is_passed_and_one_that_waited_too_long_is_looked_up() {
        let settings = MqttSettings::defaults("c");
        let (mut start, now) = (LiveStart::default(), moment(1000));
        let on_arrival = EventTimes::new(moment(0).wall, moment(999));
        assert!(start.passes(Seq(7), on_arrival, false, &settings, now));
        assert_eq!(start.wanted(Some(Seq(7))), None);
        let waited = EventTimes::new(moment(0).wall, moment(0));
        assert!(!start.passes(Seq(7), waited, false, &settings, now));
        let request = start.wanted(Some(Seq(7))).unwrap();
        assert_eq!((request.from, request.since), (Seq(7), moment(700).log));
        assert!(!start.passes(Seq(7), waited, false, &settings, now));
        assert_eq!(start.wanted(Some(Seq(7))), None, "one at a time");
        assert!(start.ended(request));
    }

    #[test]
    fn events_that_become_late_one_after_another_are_passed_without_a_lookup() {
        let settings = MqttSettings::defaults("c");
        let (mut start, now) = (LiveStart::default(), moment(1000));
        let waited = EventTimes::new(moment(0).wall, moment(0));
        for _ in 0..3 {
            let passed = (0..1000).take_while(|_| start.passes(Seq(7), waited, true, &settings, now)).count();
            assert_eq!(passed, PASS_ONE_BY_ONE);
            start.reached_live();
        }
    }

    #[test]
    fn a_lookup_from_before_a_restart_does_not_count() {
        let settings = MqttSettings::defaults("c");
        let mut start = LiveStart::default();
        start.passes(Seq(7), EventTimes::new(moment(0).wall, moment(0)), false, &settings, moment(1000));
        let request = start.wanted(Some(Seq(7))).unwrap();
        assert!(!start.restarted().ended(request));
    }
}
