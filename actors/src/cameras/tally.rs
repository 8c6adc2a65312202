//! The event counts of a camera, and whether it is active. Pure: the time is an argument.

use std::{collections::BTreeMap, time::Duration};

use crate::domain::{
    calendar::{Calendar, Day},
    camera::Camera,
    clock::{Moment, Timestamp},
};

/// Maximum number of days whose counts are kept in memory.
const MAX_DAYS: usize = 62;

/// A camera's number of events per day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    days: BTreeMap<Day, u64>,
    /// When an event was last counted.
    counted_at: Option<Timestamp>,
}

/// The counts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Events that happened today.
    pub today: u64,
    /// Events that happened since Monday.
    pub this_week: u64,
    /// When one of the counts last changed.
    pub changed_at: Timestamp,
}

impl Tally {
    /// Creates a tally from the counts in the database.
    pub fn new(days: BTreeMap<Day, u64>, counted_at: Option<Timestamp>) -> Self {
        Self { days, counted_at }
    }

    /// Sets the total counts of the given days. `at` is the time of the change.
    pub fn count(&mut self, days: &[(Day, u64)], at: Timestamp) {
        for (day, count) in days {
            self.days.insert(*day, *count);
        }
        // Days of earlier weeks are kept for a while: the clock may be set back.
        while self.days.len() > MAX_DAYS {
            self.days.pop_first();
        }
        self.counted_at = Some(at);
    }

    /// Returns the counts at `now`.
    pub fn counts(&self, calendar: Calendar, now: Timestamp) -> Counts {
        let today = calendar.day(now);
        let monday = Calendar::monday(today);
        let started = calendar.start(today);
        Counts {
            today: self.days.get(&today).copied().unwrap_or(0),
            this_week: self.days.range(monday..=today).map(|(_, count)| count).sum(),
            changed_at: self.counted_at.map_or(started, |at| at.max(started)),
        }
    }
}

/// Returns whether the camera had an event within the last `activity_seconds` before `now`.
pub fn is_active(camera: &Camera, activity_seconds: u32, now: Moment) -> bool {
    let period = Duration::from_secs(activity_seconds.into());
    let age = camera.last_event.as_ref().and_then(|last| now.age(last.happened));
    age.is_some_and(|age| age < period)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;

    fn timestamp(text: &str) -> Timestamp {
        DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Utc)
    }

    fn tally(calendar: Calendar, events: &[&str]) -> Tally {
        let mut days = BTreeMap::new();
        for event in events {
            *days.entry(calendar.day(timestamp(event))).or_default() += 1;
        }
        Tally::new(days, None)
    }

    fn counts(zone: &str, events: &[&str], now: &str) -> (u64, u64) {
        let calendar = Calendar::named(zone).unwrap();
        let counts = tally(calendar, events).counts(calendar, timestamp(now));
        (counts.today, counts.this_week)
    }

    #[test]
    fn days_begin_at_local_midnight() {
        let events = ["2026-11-24T22:30:00Z", "2026-11-24T23:30:00Z"];
        assert_eq!(counts("UTC", &events, "2026-11-24T23:59:59Z"), (2, 2));
        assert_eq!(counts("Europe/Berlin", &events, "2026-11-24T23:59:59Z"), (1, 2));
        assert_eq!(counts("UTC", &events, "2026-11-25T00:00:00Z"), (0, 2));
        assert_eq!(counts("America/New_York", &events, "2026-11-25T04:59:59Z"), (2, 2));
        assert_eq!(counts("America/New_York", &events, "2026-11-25T05:00:00Z"), (0, 2));
    }

    #[test]
    fn weeks_begin_on_monday_at_local_midnight() {
        // Sunday evening in New York, Monday in Tokyo.
        let events = ["2026-11-22T20:00:00Z", "2026-11-23T01:00:00Z"];
        assert_eq!(counts("America/New_York", &events, "2026-11-23T02:00:00Z"), (2, 2));
        assert_eq!(counts("America/New_York", &events, "2026-11-23T05:00:00Z"), (0, 0));
        assert_eq!(counts("Asia/Tokyo", &events, "2026-11-23T02:00:00Z"), (2, 2));
        assert_eq!(counts("UTC", &events, "2026-11-23T02:00:00Z"), (1, 1));
    }

    #[test]
    fn days_with_23_or_25_hours_count_as_one_day() {
        // Summer time begins on 29 March, a Sunday, and ends on 25 October.
        let spring = ["2026-03-28T23:00:00Z", "2026-03-29T21:59:59Z"];
        assert_eq!(counts("Europe/Berlin", &spring, "2026-03-29T21:59:59Z"), (2, 2));
        assert_eq!(counts("Europe/Berlin", &spring, "2026-03-29T22:00:00Z"), (0, 0));
        let autumn = ["2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z"];
        assert_eq!(counts("Europe/Berlin", &autumn, "2026-10-25T22:59:59Z"), (2, 2));
        assert_eq!(counts("Europe/Berlin", &autumn, "2026-10-25T23:00:00Z"), (0, 0));
    }

    #[test]
    fn the_counts_of_this_week_survive_a_clock_that_is_wrong_for_a_while() {
        let calendar = Calendar::named("UTC").unwrap();
        let mut tally = tally(calendar, &["2026-11-23T10:00:00Z", "2026-11-24T10:00:00Z"]);
        let wrong = timestamp("2027-11-24T12:00:00Z");
        tally.count(&[(calendar.day(wrong), 1)], wrong);
        assert_eq!(tally.counts(calendar, wrong).this_week, 1);
        let counts = tally.counts(calendar, timestamp("2026-11-24T12:00:00Z"));
        assert_eq!((counts.today, counts.this_week), (1, 2));
    }

    #[test]
    fn a_late_event_counts_on_the_day_it_happened() {
        let calendar = Calendar::named("UTC").unwrap();
        let mut tally = tally(calendar, &["2026-11-24T10:00:00Z"]);
        tally.count(&[("2026-11-23".parse().unwrap(), 3)], timestamp("2026-11-24T12:00:00Z"));
        let counts = tally.counts(calendar, timestamp("2026-11-24T12:00:01Z"));
        assert_eq!((counts.today, counts.this_week), (1, 4));
    }

    #[test]
    fn counts_last_changed_at_the_last_count_or_at_midnight() {
        let calendar = Calendar::named("UTC").unwrap();
        let mut tally = Tally::default();
        tally.count(&[("2026-11-24".parse().unwrap(), 1)], timestamp("2026-11-24T12:00:00Z"));
        assert_eq!(
            tally.counts(calendar, timestamp("2026-11-24T13:00:00Z")).changed_at,
            timestamp("2026-11-24T12:00:00Z")
        );
        assert_eq!(
            tally.counts(calendar, timestamp("2026-11-25T13:00:00Z")).changed_at,
            timestamp("2026-11-25T00:00:00Z")
        );
    }
}
