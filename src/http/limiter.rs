//! How often an address may show a wrong token, decided purely.
//!
//! An address that showed too many may not try others for the rest of a minute. A token that has worked from there stays
//! good meanwhile: behind one address there may be a whole network, or a proxy, and one caller with an old token must not
//! lock out the others. Whoever guesses gains nothing by that: a guess is not looked at.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use liveobject_actors::domain::token::TokenHash;
use tokio::time::Instant;

/// What the limit counts in.
const WINDOW: Duration = Duration::from_mins(1);
/// How many addresses are kept in mind, some 300 bytes each; the one that was quiet longest is forgotten first.
const MAX_ADDRESSES: usize = 1024;
/// How many tokens are kept in mind that worked from one address.
const MAX_GOOD: usize = 8;

/// Whether a token may be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// Not for so long.
    Closed {
        seconds: u32,
    },
}

/// What is worth a line in the log: the first wrong token of a burst, and that there were too many. A burst ends with a
/// quiet minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    First,
    TooMany,
}

/// What is known of every address.
#[derive(Debug)]
pub(super) struct Limiter {
    per_window: u32,
    callers: HashMap<IpAddr, Caller>,
}

#[derive(Debug)]
struct Caller {
    window: Instant,
    failures: u32,
    last_wrong: Option<Instant>,
    last_seen: Instant,
    told_too_many: bool,
    /// The newest last.
    good: Vec<TokenHash>,
}

impl Limiter {
    /// So many wrong tokens a minute, from each address.
    pub(super) fn new(per_window: u32) -> Self {
        Self { per_window, callers: HashMap::new() }
    }

    /// Whether this token may be looked at.
    pub(super) fn gate(&mut self, from: IpAddr, token: &TokenHash, now: Instant) -> Gate {
        let Some(caller) = self.callers.get_mut(&network(from)) else { return Gate::Open };
        let over = caller.window + WINDOW;
        if caller.failures < self.per_window || now >= over || caller.good.contains(token) {
            return Gate::Open;
        }
        // Who goes on is not quiet.
        caller.last_wrong = Some(now);
        caller.last_seen = now;
        Gate::Closed { seconds: u32::try_from((over - now).as_secs()).unwrap_or(u32::MAX).saturating_add(1) }
    }

    /// This token was nobody's.
    pub(super) fn failed(&mut self, from: IpAddr, now: Instant) -> Option<Notice> {
        let per_window = self.per_window;
        let caller = self.caller(from, now);
        let quiet = caller.last_wrong.is_none_or(|last| now.duration_since(last) >= WINDOW);
        if now.duration_since(caller.window) >= WINDOW {
            (caller.window, caller.failures) = (now, 0);
        }
        if caller.failures == 0 {
            caller.window = now;
        }
        caller.failures += 1;
        caller.last_wrong = Some(now);
        if quiet {
            caller.told_too_many = false;
        }
        if caller.failures >= per_window && !caller.told_too_many {
            caller.told_too_many = true;
            return Some(Notice::TooMany);
        }
        quiet.then_some(Notice::First)
    }

    /// This token was somebody's.
    pub(super) fn succeeded(&mut self, from: IpAddr, token: TokenHash, now: Instant) {
        let caller = self.caller(from, now);
        if caller.good.last() == Some(&token) {
            return;
        }
        caller.good.retain(|good| *good != token);
        if caller.good.len() == MAX_GOOD {
            caller.good.remove(0);
        }
        caller.good.push(token);
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
            last_wrong: None,
            last_seen: now,
            told_too_many: false,
            good: Vec::new(),
        };
        let caller = self.callers.entry(from).or_insert_with(new);
        caller.last_seen = now;
        caller
    }
}

/// What one caller has: an IPv4 address, or an IPv6 network of 64 bits, in which every host has as many addresses as it
/// likes.
fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        v4 @ IpAddr::V4(_) => v4,
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

    /// A limiter of 3 that has met 3 wrong tokens from here.
    fn exhausted() -> (Limiter, Instant) {
        let (mut limiter, now) = (Limiter::new(3), Instant::now());
        let notices: Vec<_> = (0..3).map(|_| limiter.failed(HERE, now)).collect();
        assert_eq!(notices, [Some(Notice::First), None, Some(Notice::TooMany)]);
        (limiter, now)
    }

    #[test]
    fn too_many_wrong_tokens_close_the_gate_for_the_rest_of_a_minute() {
        let (mut limiter, start) = exhausted();
        let token = TokenHash::of("x");
        assert_eq!(limiter.gate(HERE, &token, after(start, 1)), Gate::Closed { seconds: 60 });
        assert!(closed(limiter.gate(HERE, &token, after(start, 59))));
        assert_eq!(limiter.gate(HERE, &token, after(start, 60)), Gate::Open);
        assert_eq!(limiter.gate(THERE, &token, start), Gate::Open, "another address is another caller");
    }

    #[test]
    fn fewer_close_nothing() {
        let (mut limiter, now) = (Limiter::new(3), Instant::now());
        for minute in 0..5 {
            for _ in 0..2 {
                limiter.failed(HERE, after(now, minute * 60));
            }
            assert_eq!(limiter.gate(HERE, &TokenHash::of("x"), after(now, minute * 60)), Gate::Open);
        }
    }

    #[test]
    fn a_token_that_worked_from_there_stays_good() {
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
    fn a_burst_is_told_twice_however_long_it_is() {
        let (mut limiter, start) = exhausted();
        let token = TokenHash::of("x");
        for second in 1..600 {
            let now = after(start, second);
            if limiter.gate(HERE, &token, now) == Gate::Open {
                assert_eq!(limiter.failed(HERE, now), None, "after {second} s");
            }
        }
        assert_eq!(limiter.failed(HERE, after(start, 659)), Some(Notice::First), "after a quiet minute");
    }

    #[test]
    fn a_limit_of_one_closes_with_the_first() {
        let (mut limiter, now) = (Limiter::new(1), Instant::now());
        assert_eq!(limiter.failed(HERE, now), Some(Notice::TooMany));
        assert!(closed(limiter.gate(HERE, &TokenHash::of("x"), now)));
    }

    #[test]
    fn what_is_kept_in_mind_is_bounded() {
        let (mut limiter, start) = exhausted();
        let address = |i: u32| IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a00_0000 + i));
        for i in 0..5000 {
            limiter.failed(address(i), start);
            limiter.gate(HERE, &TokenHash::of("x"), after(start, 1));
        }
        assert_eq!(limiter.callers.len(), MAX_ADDRESSES);
        assert!(
            closed(limiter.gate(HERE, &TokenHash::of("x"), after(start, 2))),
            "the busy one is not forgotten"
        );
        for i in 0..100 {
            limiter.succeeded(THERE, TokenHash::of(&i.to_string()), start);
        }
        assert_eq!(limiter.callers[&THERE].good.len(), MAX_GOOD);
        assert!(limiter.callers[&THERE].good.contains(&TokenHash::of("99")));
    }

    #[test]
    fn an_ipv6_network_is_one_caller_and_ipv4_is_itself_in_any_form() {
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        assert_eq!(network(ip("2001:db8:1:2:3:4:5:6")), network(ip("2001:db8:1:2::1")));
        assert_ne!(network(ip("2001:db8:1:2::1")), network(ip("2001:db8:1:3::1")));
        assert_eq!(network(ip("::ffff:192.168.1.20")), HERE);
        assert_ne!(network(HERE), network(THERE));
    }
}
