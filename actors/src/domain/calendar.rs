//! Calendar days and weeks in the local time zone. A week starts on Monday.

mod system_zone;

use std::sync::OnceLock;

use chrono::{
    DateTime, Datelike as _, Days, MappedLocalTime, NaiveDate, NaiveTime, TimeDelta, TimeZone as _, Utc,
};
use chrono_tz::Tz;

use crate::domain::clock::Timestamp;

/// A day in the local time zone.
pub type Day = NaiveDate;

/// The calendar of the cameras' time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calendar {
    zone: Tz,
}

impl Calendar {
    /// Creates the calendar of a time zone.
    pub fn new(zone: Tz) -> Self {
        Self { zone }
    }

    /// Creates the calendar of the zone with this IANA name, such as `Europe/Berlin`.
    pub fn named(zone: &str) -> Result<Self, String> {
        zone.parse().map(Self::new).map_err(|_| {
            format!("{zone:?} is not the name of a time zone, such as \"Europe/Berlin\" or \"UTC\"")
        })
    }

    /// Returns the calendar of the system's time zone, as determined by the first call. If the zone cannot be
    /// determined, returns UTC and the reason.
    pub fn system() -> (Self, Option<String>) {
        static SYSTEM: OnceLock<(Calendar, Option<String>)> = OnceLock::new();
        SYSTEM
            .get_or_init(|| match system_zone::detect() {
                Ok(zone) => (Self::new(zone), None),
                Err(reason) => (Self::new(Tz::UTC), Some(reason)),
            })
            .clone()
    }

    /// Returns the zone's IANA name.
    pub fn zone(&self) -> &'static str {
        self.zone.name()
    }

    /// Returns the local day of a point in time.
    pub fn day(&self, time: Timestamp) -> Day {
        time.with_timezone(&self.zone).date_naive()
    }

    /// Returns the Monday of the week that contains `day`.
    pub fn monday(day: Day) -> Day {
        day - Days::new(u64::from(day.weekday().num_days_from_monday()))
    }

    /// Returns the first moment of a day. If midnight does not exist (daylight saving time begins at
    /// midnight), this is the first moment after it; if midnight occurs twice, the first one.
    pub fn start(&self, day: Day) -> Timestamp {
        let midnight = day.and_time(NaiveTime::MIN);
        let start = |local| match self.zone.from_local_datetime(&local) {
            MappedLocalTime::Single(time) | MappedLocalTime::Ambiguous(time, _) => {
                Some(time.with_timezone(&Utc))
            }
            MappedLocalTime::None => None,
        };
        // Time zones have skipped as much as a whole day, in recent decades always a multiple of half an
        // hour.
        (0..=48)
            .find_map(|half_hours| start(midnight + TimeDelta::minutes(30 * half_hours)))
            .unwrap_or_else(|| DateTime::from_naive_utc_and_offset(midnight, Utc))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Utc)
    }

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    #[test]
    fn the_same_time_falls_on_different_days_in_different_zones() {
        let moment = time("2026-03-29T23:30:00Z");
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
    fn a_day_has_23_or_25_hours_when_the_clocks_change() {
        let berlin = Calendar::named("Europe/Berlin").unwrap();
        let length =
            |first: &str, next: &str| (berlin.start(day(next)) - berlin.start(day(first))).num_hours();
        assert_eq!(length("2026-03-29", "2026-03-30"), 23);
        assert_eq!(length("2026-10-25", "2026-10-26"), 25);
        assert_eq!(length("2026-06-01", "2026-06-02"), 24);
    }

    #[test]
    fn a_day_has_a_start_even_if_midnight_is_skipped_or_occurs_twice() {
        let beirut = Calendar::named("Asia/Beirut").unwrap();
        assert_eq!(
            beirut.start(day("2022-03-27")),
            time("2022-03-26T22:00:00Z"),
            "the clock was set forward from 0:00 to 1:00"
        );
        let havana = Calendar::named("America/Havana").unwrap();
        assert_eq!(
            havana.start(day("2026-11-01")),
            time("2026-11-01T04:00:00Z"),
            "0:00 occurs twice; the first one counts"
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
    fn an_unknown_zone_is_rejected() {
        assert!(Calendar::named("Europe/Atlantis").is_err());
    }
}
