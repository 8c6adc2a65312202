//! The only place that reads the clocks.
//!
//! The *wall clock* shows what time it is, but it can be set: by an administrator, by NTP after a start without
//! a battery-backed clock, or by a snapshot of a virtual machine. It is therefore only shown to people and
//! compared with other readings of the same moment. Every age is a difference of two *log times*: the
//! machine's uptime plus an offset that is constant until the next boot. Log time cannot be set and never
//! goes back.
//!
//! Times are kept in whole microseconds, so that a time read back from the database equals the stored one.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

/// A point in time, in UTC and with microsecond precision, according to the wall clock.
pub type Timestamp = DateTime<Utc>;

/// A log time, in microseconds. It began as the wall-clock time of the first start, and has since advanced
/// with the machine's uptime. The time for which the machine is off counts up to a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogTime(pub i64);

impl LogTime {
    /// Returns the log time this much earlier.
    #[must_use]
    pub fn before(self, duration: TimeDelta) -> Self {
        Self(self.0.saturating_sub(duration.num_microseconds().unwrap_or(i64::MAX)))
    }

    /// Returns the log time in whole seconds.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }
}

/// One moment, as all clocks show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock.
    pub wall: Timestamp,
    /// The log time.
    pub log: LogTime,
    /// When the machine's current boot began. Ages are known only since then: before, the machine was off for
    /// an unknown time.
    pub boot_began: LogTime,
}

impl Moment {
    /// Returns the moment at which both the wall clock and the log time show this time.
    #[cfg(any(test, feature = "testing"))]
    pub fn at(time: Timestamp) -> Self {
        Self { wall: time, log: LogTime(to_micros(time)), boot_began: LogTime(i64::MIN) }
    }

    /// Returns how long ago `time` was, or `None` if that is unknown: it was before the machine's last boot,
    /// or it is ahead of this moment, which only a damaged or foreign database contains.
    pub fn age(&self, time: LogTime) -> Option<Duration> {
        if time < self.boot_began {
            return None;
        }
        u64::try_from(self.log.0.saturating_sub(time.0)).ok().map(Duration::from_micros)
    }

    /// Returns the moment this much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self { wall: self.wall + duration, log: LogTime(self.log.0.saturating_add(micros)), ..self }
    }

    /// Returns the later one of two moments, according to the log time.
    #[must_use]
    pub fn later(self, other: Self) -> Self {
        if self.log > other.log { self } else { other }
    }

    /// Like [`Moment::age`], but estimates an unknown age from the wall-clock time `wall` of the same moment.
    /// For display only.
    pub fn estimated_age(&self, time: LogTime, wall: Timestamp) -> Duration {
        self.age(time).unwrap_or_else(|| (self.wall - wall).to_std().unwrap_or_default())
    }
}

/// The service's clock. Cheap to copy.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    read: fn() -> (Timestamp, i64),
    /// Log time minus uptime, in microseconds.
    offset: i64,
    boot_began: LogTime,
}

impl Clock {
    /// Creates a clock whose log time is the machine's uptime plus `offset` microseconds.
    pub fn new(offset: i64, boot_began: LogTime) -> Self {
        Self { read: || (now(), uptime()), offset, boot_began }
    }

    /// Creates a clock that shows what `read` returns, as wall-clock time and as log time.
    #[cfg(any(test, feature = "testing"))]
    pub fn following(read: fn() -> (Timestamp, i64)) -> Self {
        Self { read, offset: 0, boot_began: LogTime(i64::MIN) }
    }

    /// Returns the current time.
    pub fn now(&self) -> Moment {
        let (wall, uptime) = (self.read)();
        Moment { wall, log: LogTime(uptime.saturating_add(self.offset)), boot_began: self.boot_began }
    }
}

/// Returns the machine's uptime in microseconds, including the time for which it was suspended.
#[cfg(target_os = "linux")]
pub fn uptime() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1000)
}

/// Returns the time since the process first asked, in microseconds.
#[cfg(not(target_os = "linux"))]
pub fn uptime() -> i64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let elapsed = START.get_or_init(std::time::Instant::now).elapsed();
    i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
}

/// A change of the wall clock that is not explained by the passing of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jump {
    /// How far the clock was set forward; negative if it was set back.
    pub by: TimeDelta,
    /// The wall-clock time afterwards.
    pub to: Timestamp,
}

/// Deviations up to this size are not reported as a jump.
const TOLERANCE: TimeDelta = TimeDelta::seconds(2);

/// Notices when the wall clock is set.
#[derive(Debug, Clone, Copy)]
pub struct JumpDetector {
    /// Wall-clock time minus log time, in microseconds.
    difference: i64,
}

impl JumpDetector {
    /// Creates a detector. `difference` is the wall-clock time minus the log time when they were last
    /// compared.
    pub fn new(difference: i64) -> Self {
        Self { difference }
    }

    /// Compares the clocks. Returns how far the wall clock was set since the last comparison, or `None` if it
    /// was not.
    pub fn check(&mut self, now: Moment) -> Option<Jump> {
        let difference = difference(now);
        let by = TimeDelta::microseconds(difference.saturating_sub(self.difference));
        self.difference = difference;
        (by.abs() > TOLERANCE).then_some(Jump { by, to: now.wall })
    }
}

/// Returns the wall-clock time minus the log time, in microseconds.
pub fn difference(now: Moment) -> i64 {
    to_micros(now.wall).saturating_sub(now.log.0)
}

/// Returns the current time, truncated to microseconds.
pub fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the only place that reads the clock")]
    let now = Utc::now();
    truncated(now)
}

/// Truncates a time to microseconds. A leap second becomes the next second, as in the database.
pub fn truncated(time: Timestamp) -> Timestamp {
    from_micros(to_micros(time))
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
        let leap_second = DateTime::parse_from_rfc3339("2016-12-31T23:59:60.5Z").unwrap().to_utc();
        assert_eq!(rfc3339(truncated(leap_second)), "2017-01-01T00:00:00.500Z");
    }

    fn moment(wall: i64, log: i64) -> Moment {
        Moment { wall: from_micros(wall), log: LogTime(log), boot_began: LogTime(1000) }
    }

    #[test]
    fn setting_the_wall_clock_changes_no_age() {
        for wall in [0, 5_000_000, 1_780_000_000_000_000] {
            assert_eq!(moment(wall, 5000).age(LogTime(2000)), Some(Duration::from_millis(3)));
        }
    }

    #[test]
    fn an_age_from_before_the_boot_or_ahead_of_now_is_unknown() {
        assert_eq!(moment(5000, 5000).age(LogTime(999)), None);
        assert_eq!(moment(5000, 5000).age(LogTime(5001)), None);
        assert_eq!(moment(5000, 5000).estimated_age(LogTime(999), from_micros(4000)).as_micros(), 1000);
        assert_eq!(moment(5000, 5000).estimated_age(LogTime(999), from_micros(9000)), Duration::ZERO);
    }

    #[test]
    fn the_uptime_advances() {
        let before = uptime();
        std::thread::sleep(Duration::from_millis(2));
        assert!(uptime() >= before + 2000);
    }

    #[test]
    fn a_jump_of_the_wall_clock_is_reported_once() {
        const SECOND: i64 = 1_000_000;
        let mut detector = JumpDetector::new(0);
        assert_eq!(detector.check(moment(10 * SECOND, 10 * SECOND)), None);
        assert_eq!(detector.check(moment(12 * SECOND, 11 * SECOND)), None, "small steps are not reported");
        let forward = detector.check(moment(3613 * SECOND, 12 * SECOND)).unwrap();
        assert_eq!(forward.by, TimeDelta::hours(1));
        assert_eq!(detector.check(moment(3614 * SECOND, 13 * SECOND)), None);
        let back = detector.check(moment(0, 14 * SECOND)).unwrap();
        assert_eq!(back.by, TimeDelta::seconds(-3615));
    }

    #[test]
    fn times_are_formatted_in_utc_with_z() {
        assert_eq!(rfc3339(from_micros(1_000_000)), "1970-01-01T00:00:01Z");
        assert_eq!(rfc3339(from_micros(1_500_000)), "1970-01-01T00:00:01.500Z");
    }
}
