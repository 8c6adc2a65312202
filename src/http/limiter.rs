//! Limits the failed logins per address. Performs no I/O.
//!
//! After too many failed logins, new tokens from the address are rejected for the rest of a minute. Tokens
//! that have worked from the address keep working: there may be a whole network or a proxy behind one
//! address, and a client with an old token must not lock out the others. An attacker gains nothing from that,
//! because guesses are rejected unchecked.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use liveobject_actors::domain::token::TokenHash;
use tokio::time::Instant;

use super::connections::network;

/// The period of the limit.
const WINDOW: Duration = Duration::from_mins(1);
/// Maximum number of addresses, about 300 bytes each. The one that was inactive longest is dropped first.
const MAX_ADDRESSES: usize = 1024;
/// Maximum number of known tokens per address.
const MAX_KNOWN: usize = 8;

/// Whether a token may be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// Not for this long.
    Closed {
        seconds: u32,
    },
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
    /// Tokens that have worked, the latest one last.
    known: Vec<TokenHash>,
}

impl Limiter {
    /// Allows this many failed logins per minute from each address.
    pub(super) fn new(per_window: u32) -> Self {
        Self { per_window, callers: HashMap::new() }
    }

    /// Returns whether this token may be checked.
    pub(super) fn gate(&mut self, from: IpAddr, token: &TokenHash, now: Instant) -> Gate {
        let Some(caller) = self.callers.get_mut(&network(from)) else { return Gate::Open };
        let end = caller.window + WINDOW;
        if caller.failures < self.per_window || now >= end || caller.known.contains(token) {
            return Gate::Open;
        }
        // Further attempts prolong the burst.
        caller.last_failure = Some(now);
        caller.last_seen = now;
        Gate::Closed { seconds: u32::try_from((end - now).as_secs()).unwrap_or(u32::MAX).saturating_add(1) }
    }

    /// Records a failed login.
    pub(super) fn failed(&mut self, from: IpAddr, now: Instant) -> Option<Notice> {
        let per_window = self.per_window;
        let caller = self.caller(from, now);
        let is_new_burst = caller.last_failure.is_none_or(|last| now.duration_since(last) >= WINDOW);
        if now.duration_since(caller.window) >= WINDOW {
            (caller.window, caller.failures) = (now, 0);
        }
        if caller.failures == 0 {
            caller.window = now;
        }
        caller.failures += 1;
        caller.last_failure = Some(now);
        if is_new_burst {
            caller.limit_reported = false;
        }
        if caller.failures >= per_window && !caller.limit_reported {
            caller.limit_reported = true;
            return Some(Notice::TooMany);
        }
        is_new_burst.then_some(Notice::First)
    }

    /// Records a successful login.
    pub(super) fn succeeded(&mut self, from: IpAddr, token: TokenHash, now: Instant) {
        let caller = self.caller(from, now);
        if caller.known.last() == Some(&token) {
            return;
        }
        caller.known.retain(|known| *known != token);
        if caller.known.len() == MAX_KNOWN {
            caller.known.remove(0);
        }
        caller.known.push(token);
    }

    fn caller(&mut self, from: IpAddr, now: Instant) -> &mut Caller {
        let from = network(from);
        if !self.callers.contains_key(&from) && self.callers.len() >= MAX_ADDRESSES {
            let oldest = self.callers.iter().min_by_key(|(_, caller)| caller.last_seen).map(|(ip, _)| *ip);
            oldest.and_then(|oldest| self.callers.remove(&oldest));
        }
        let new = || Caller {
            window: now,
            failures: 0,
            last_failure: None,
            last_seen: now,
            limit_reported: false,
            known: Vec::new(),
        };
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

    fn closed(gate: Gate) -> bool {
        matches!(gate, Gate::Closed { .. })
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    /// Returns a limiter with a limit of 3, after 3 failed logins from `HERE`.
    fn exhausted() -> (Limiter, Instant) {
        let (mut limiter, now) = (Limiter::new(3), Instant::now());
        let notices: Vec<_> = (0..3).map(|_| limiter.failed(HERE, now)).collect();
        assert_eq!(notices, [Some(Notice::First), None, Some(Notice::TooMany)]);
        (limiter, now)
    }

    #[test]
    fn too_many_failed_logins_close_the_gate_for_the_rest_of_a_minute() {
        let (mut limiter, start) = exhausted();
        let token = TokenHash::of("x");
        assert_eq!(limiter.gate(HERE, &token, after(start, 1)), Gate::Closed { seconds: 60 });
        assert!(closed(limiter.gate(HERE, &token, after(start, 59))));
        assert_eq!(limiter.gate(HERE, &token, after(start, 60)), Gate::Open);
        assert_eq!(limiter.gate(THERE, &token, start), Gate::Open, "another address is another caller");
    }

    #[test]
    fn failed_logins_below_the_limit_close_nothing() {
        let (mut limiter, now) = (Limiter::new(3), Instant::now());
        for minute in 0..5 {
            for _ in 0..2 {
                limiter.failed(HERE, after(now, minute * 60));
            }
            assert_eq!(limiter.gate(HERE, &TokenHash::of("x"), after(now, minute * 60)), Gate::Open);
        }
    }

    #[test]
    fn a_token_that_has_worked_from_the_address_keeps_working() {
        let (mut limiter, now) = (Limiter::new(3), Instant::now());
        let (good, guess) = (TokenHash::of("good"), TokenHash::of("guess"));
        limiter.succeeded(HERE, good, now);
        for _ in 0..3 {
            limiter.failed(HERE, now);
        }
        assert_eq!(limiter.gate(HERE, &good, now), Gate::Open);
        assert!(closed(limiter.gate(HERE, &guess, now)));
    }

    #[test]
    fn a_burst_is_logged_at_most_twice() {
        let (mut limiter, start) = exhausted();
        let token = TokenHash::of("x");
        for second in 1..600 {
            let now = after(start, second);
            if limiter.gate(HERE, &token, now) == Gate::Open {
                assert_eq!(limiter.failed(HERE, now), None, "after {second} s");
            }
        }
        assert_eq!(
            limiter.failed(HERE, after(start, 659)),
            Some(Notice::First),
            "after a minute without failed logins"
        );
    }

    #[test]
    fn a_limit_of_one_closes_with_the_first() {
        let (mut limiter, now) = (Limiter::new(1), Instant::now());
        assert_eq!(limiter.failed(HERE, now), Some(Notice::TooMany));
        assert!(closed(limiter.gate(HERE, &TokenHash::of("x"), now)));
    }

    #[test]
    fn the_number_of_remembered_addresses_and_tokens_is_bounded() {
        let (mut limiter, start) = exhausted();
        let address = |i: u32| IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a00_0000 + i));
        for i in 0..5000 {
            limiter.failed(address(i), start);
            limiter.gate(HERE, &TokenHash::of("x"), after(start, 1));
        }
        assert_eq!(limiter.callers.len(), MAX_ADDRESSES);
        assert!(
            closed(limiter.gate(HERE, &TokenHash::of("x"), after(start, 2))),
            "an active address is not dropped"
        );
        for i in 0..100 {
            limiter.succeeded(THERE, TokenHash::of(&i.to_string()), start);
        }
        assert_eq!(limiter.callers[&THERE].known.len(), MAX_KNOWN);
        assert!(limiter.callers[&THERE].known.contains(&TokenHash::of("99")));
    }
}
