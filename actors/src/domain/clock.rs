//! The one place that asks what time it is.
//!
//! Wall-clock time is kept in whole microseconds, so that a time read back from the database equals the one stored.

use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};

/// A moment in UTC, in microseconds.
pub type Timestamp = DateTime<Utc>;

/// Tells what time it is: [`now`], but for tests.
pub type Clock = fn() -> Timestamp;

/// The current time, truncated to microseconds.
pub fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks")]
    let now = Utc::now();
    truncated(now)
}

/// The time, truncated to microseconds.
pub fn truncated(at: Timestamp) -> Timestamp {
    at.trunc_subsecs(6)
}

/// RFC 3339, in UTC with `Z`, with as many decimals as the time has (0, 3 or 6).
pub fn rfc3339(at: Timestamp) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Microseconds since 1970, as the database keeps a time.
pub fn to_micros(at: Timestamp) -> i64 {
    at.timestamp_micros()
}

/// The time of so many microseconds since 1970; the epoch itself for a number out of chrono's range, which only a
/// damaged database can hold.
pub fn from_micros(micros: i64) -> Timestamp {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_the_database() {
        let at = now();
        assert_eq!(from_micros(to_micros(at)), at);
    }

    #[test]
    fn texts_are_utc_with_z() {
        assert_eq!(rfc3339(from_micros(1_000_000)), "1970-01-01T00:00:01Z");
        assert_eq!(rfc3339(from_micros(1_500_000)), "1970-01-01T00:00:01.500Z");
    }
}
