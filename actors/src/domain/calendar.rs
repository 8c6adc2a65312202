//! Days and weeks as people count them: in the local time zone, the week starting on Monday. Pure.

use chrono::{
    DateTime, Datelike as _, Days, MappedLocalTime, NaiveDate, NaiveTime, TimeDelta, TimeZone as _, Utc,
};
use chrono_tz::Tz;

use crate::domain::clock::Timestamp;

/// A day in the local time zone.
pub type Day = NaiveDate;

/// Knows which day it is where the cameras are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calendar {
    zone: Tz,
}

impl Calendar {
    /// The calendar of this time zone.
    pub fn new(zone: Tz) -> Self {
        Self { zone }
    }

    /// The calendar of the zone with this IANA name, such as `Europe/Berlin`.
    pub fn named(zone: &str) -> Result<Self, String> {
        zone.parse().map(Self::new).map_err(|_| {
            format!("{zone:?} is not the name of a time zone, such as \"Europe/Berlin\" or \"UTC\"")
        })
    }

    /// The calendar of the system's zone; UTC, and the reason, where that cannot be told.
    pub fn of_system() -> (Self, Option<String>) {
        let name = std::env::var("TZ").ok().map(|name| name.trim_start_matches(':').to_owned());
        let name = match name.filter(|name| !name.is_empty()) {
            Some(name) => Ok(name),
            None => iana_time_zone::get_timezone().map_err(|error| error.to_string()),
        };
        match name.and_then(|name| Self::named(&name)) {
            Ok(calendar) => (calendar, None),
            Err(why) => (Self::new(Tz::UTC), Some(why)),
        }
    }

    /// The zone's IANA name.
    pub fn zone(&self) -> &'static str {
        self.zone.name()
    }

    /// The day of this moment.
    pub fn day(&self, at: Timestamp) -> Day {
        at.with_timezone(&self.zone).date_naive()
    }

    /// The Monday of this day's week.
    pub fn monday(day: Day) -> Day {
        day - Days::new(u64::from(day.weekday().num_days_from_monday()))
    }

    /// The first moment of this day. Where midnight is left out (summer time beginning at midnight), the first one after
    /// it; where it comes twice, the first one.
    pub fn start(&self, day: Day) -> Timestamp {
        let midnight = day.and_time(NaiveTime::MIN);
        let start = |local| match self.zone.from_local_datetime(&local) {
            MappedLocalTime::Single(at) | MappedLocalTime::Ambiguous(at, _) => Some(at.with_timezone(&Utc)),
            MappedLocalTime::None => None,
        };
        // Zones have skipped up to a whole day; half hours are the finest step that any has taken in living memory.
        (0..=48)
            .find_map(|halves| start(midnight + TimeDelta::minutes(30 * halves)))
            .unwrap_or_else(|| DateTime::from_naive_utc_and_offset(midnight, Utc))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Utc)
    }

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    #[test]
    fn a_moment_is_on_different_days_in_different_zones() {
        let moment = at("2026-03-29T23:30:00Z");
        for (zone, expected) in [
            ("UTC", "2026-03-29"),
            ("Europe/Berlin", "2026-03-30"),
            ("America/New_York", "2026-03-29"),
            ("Pacific/Kiritimati", "2026-03-30"),
            ("Pacific/Niue", "2026-03-29"),
        ] {
            assert_eq!(Calendar::named(zone).unwrap().day(moment), day(expected), "{zone}");
        }
    }

    #[test]
    fn days_are_23_or_25_hours_long_when_the_clocks_change() {
        let berlin = Calendar::named("Europe/Berlin").unwrap();
        let length =
            |first: &str, next: &str| (berlin.start(day(next)) - berlin.start(day(first))).num_hours();
        assert_eq!(length("2026-03-29", "2026-03-30"), 23);
        assert_eq!(length("2026-10-25", "2026-10-26"), 25);
        assert_eq!(length("2026-06-01", "2026-06-02"), 24);
    }

    #[test]
    fn a_day_begins_even_where_its_midnight_is_left_out_or_comes_twice() {
        let beirut = Calendar::named("Asia/Beirut").unwrap();
        assert_eq!(
            beirut.start(day("2022-03-27")),
            at("2022-03-26T22:00:00Z"),
            "the clock went from 0:00 to 1:00"
        );
        let havana = Calendar::named("America/Havana").unwrap();
        assert_eq!(
            havana.start(day("2026-11-01")),
            at("2026-11-01T04:00:00Z"),
            "0:00 comes twice; the first"
        );
    }

    #[test]
    fn weeks_start_on_monday() {
        for (any, monday) in
            [("2026-11-23", "2026-11-23"), ("2026-11-29", "2026-11-23"), ("2027-01-01", "2026-12-28")]
        {
            assert_eq!(Calendar::monday(day(any)), day(monday));
        }
    }

    #[test]
    fn a_zone_that_does_not_exist_is_refused() {
        assert!(Calendar::named("Europe/Atlantis").is_err());
    }
}
