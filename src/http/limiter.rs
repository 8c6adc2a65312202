//! Limits the failed logins per address. Performs no I/O.
//!
//! A valid token is always accepted: there may be a whole network or a proxy behind one address, and a client
//! with an old token must not lock out the others. After too many failed logins, the address is asked to wait
//! for the rest of a minute, and its failures are no longer logged.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use tokio::time::Instant;

use super::connections::network;

/// The period of the limit.
const WINDOW: Duration = Duration::from_mins(1);
/// Maximum number of addresses, about 300 bytes each. The one that was inactive longest is dropped first.
const MAX_ADDRESSES: usize = 1024;

/// How to answer a failed login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The token is invalid.
    Counted(Option<Notice>),
    /// The address has to wait for this long.
    TooMany { seconds: u32 },
}

/// What to log: the first failed login of a burst, and reaching the limit. A burst ends with a minute without
/// failed logins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    First,
    TooMany,
}

/// The recent logins of each address.
#[derive(Debug)]
pub(super) struct Limiter {
    per_window: u32,
    callers: HashMap<IpAddr, Caller>,
}

#[derive(Debug)]
struct Caller {
    window: Instant,
    failures: u32,
    last_failure: Option<Instant>,
    last_seen: Instant,
    limit_reported: bool,
}

impl Limiter {
    /// Allows this many failed logins per minute from each address.
    pub(super) fn new(per_window: u32) -> Self {
        Self { per_window, callers: HashMap::new() }
    }

    /// Records a failed login. Logins that fail at the same time are counted one after the other.
    pub(super) fn failed(&mut self, from: IpAddr, now: Instant) -> Failure {
        let per_window = self.per_window;
        let caller = self.caller(from, now);
        let is_new_burst = caller.last_failure.is_none_or(|last| now.duration_since(last) >= WINDOW);
        // Further attempts prolong the burst.
        caller.last_failure = Some(now);
        let end = caller.window + WINDOW;
        if caller.failures >= per_window && now < end {
            let seconds = u32::try_from((end - now).as_secs()).unwrap_or(u32::MAX).saturating_add(1);
            return Failure::TooMany { seconds };
        }
        if caller.failures == 0 || now >= end {
            (caller.window, caller.failures) = (now, 0);
        }
        caller.failures += 1;
        if is_new_burst {
            caller.limit_reported = false;
        }
        if caller.failures >= per_window && !caller.limit_reported {
            caller.limit_reported = true;
            return Failure::Counted(Some(Notice::TooMany));
        }
        Failure::Counted(is_new_burst.then_some(Notice::First))
    }

    fn caller(&mut self, from: IpAddr, now: Instant) -> &mut Caller {
        let from = network(from);
        if !self.callers.contains_key(&from) && self.callers.len() >= MAX_ADDRESSES {
            let oldest = self.callers.iter().min_by_key(|(_, caller)| caller.last_seen).map(|(ip, _)| *ip);
            oldest.and_then(|oldest| self.callers.remove(&oldest));
        }
        let new =
            || Caller { window: now, failures: 0, last_failure: None, last_seen: now, limit_reported: false };
        let caller = self.callers.entry(from).or_insert_with(new);
        caller.last_seen = now;
        caller
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 20));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 21));

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn is_closed(failure: Failure) -> bool {
        matches!(failure, Failure::TooMany { .. })
    }

    /// Returns a limiter with a limit of 3, after 3 failed logins from `HERE`.
    fn exhausted() -> (Limiter, Instant) {
        let (mut limiter, now) = (Limiter::new(3), Instant::now());
        let failures: Vec<_> = (0..3).map(|_| limiter.failed(HERE, now)).collect();
        assert_eq!(failures, [Some(Notice::First), None, Some(Notice::TooMany)].map(Failure::Counted));
        (limiter, now)
    }

    #[test]
    fn too_many_failed_logins_are_refused_for_the_rest_of_a_minute() {
        let (mut limiter, start) = exhausted();
        assert_eq!(limiter.failed(HERE, after(start, 1)), Failure::TooMany { seconds: 60 });
        assert!(is_closed(limiter.failed(HERE, after(start, 59))));
        assert_eq!(limiter.failed(THERE, start), Failure::Counted(Some(Notice::First)));
        assert!(!is_closed(limiter.failed(HERE, after(start, 60))));
    }

    #[test]
    fn failed_logins_below_the_limit_are_counted_for_a_minute_only() {
        let (mut limiter, now) = (Limiter::new(3), Instant::now());
        for minute in 0..5 {
            for _ in 0..2 {
                assert!(!is_closed(limiter.failed(HERE, after(now, minute * 60))));
            }
        }
    }

    #[test]
    fn a_burst_is_logged_at_most_twice() {
        let (mut limiter, start) = exhausted();
        for second in 1..600 {
            let failure = limiter.failed(HERE, after(start, second));
            assert!(is_closed(failure) || failure == Failure::Counted(None), "after {second} s");
        }
        let later = limiter.failed(HERE, after(start, 659));
        assert_eq!(later, Failure::Counted(Some(Notice::First)), "after a minute without failed logins");
    }

    #[test]
    fn a_limit_of_one_is_reached_with_the_first() {
        let (mut limiter, now) = (Limiter::new(1), Instant::now());
        assert_eq!(limiter.failed(HERE, now), Failure::Counted(Some(Notice::TooMany)));
        assert!(is_closed(limiter.failed(HERE, now)));
    }

    #[test]
    fn the_number_of_remembered_addresses_is_bounded() {
        let (mut limiter, start) = exhausted();
        let address = |i: u32| IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a00_0000 + i));
        for i in 0..5000 {
            limiter.failed(address(i), start);
            limiter.failed(HERE, after(start, 1));
        }
        assert_eq!(limiter.callers.len(), MAX_ADDRESSES);
        assert!(is_closed(limiter.failed(HERE, after(start, 2))), "an active address is not dropped");
    }
}
