//! The only place that reads the wall clock.
//!
//! Wall-clock time is kept in whole microseconds, so that a time read back from the database equals the
//! stored one.

use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};

/// A point in time, in UTC and with microsecond precision.
pub type Timestamp = DateTime<Utc>;

/// A function that returns the current time: [`now`], except in tests.
pub type Clock = fn() -> Timestamp;

/// Returns the current time, truncated to microseconds.
pub fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the only place that reads the clock")]
    let now = Utc::now();
    truncated(now)
}

/// Truncates a time to microseconds.
pub fn truncated(time: Timestamp) -> Timestamp {
    time.trunc_subsecs(6)
}

/// Formats a time as RFC 3339, in UTC with `Z`, with as many decimal places as it needs (0, 3 or 6).
pub fn rfc3339(time: Timestamp) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Converts a time to microseconds since 1970, the representation in the database.
pub fn to_micros(time: Timestamp) -> i64 {
    time.timestamp_micros()
}

/// Converts microseconds since 1970 to a time. A number outside chrono's range, which only a damaged database
/// can contain, becomes the epoch.
pub fn from_micros(micros: i64) -> Timestamp {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_the_same_after_a_round_trip_through_the_database() {
        let time = now();
        assert_eq!(from_micros(to_micros(time)), time);
    }

    #[test]
    fn times_are_formatted_in_utc_with_z() {
        assert_eq!(rfc3339(from_micros(1_000_000)), "1970-01-01T00:00:01Z");
        assert_eq!(rfc3339(from_micros(1_500_000)), "1970-01-01T00:00:01.500Z");
    }
}
