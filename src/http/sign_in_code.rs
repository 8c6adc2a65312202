//! One-time codes of the links that sign in to the page. Performs no I/O.

use std::{collections::VecDeque, time::Duration};

use liveobject_actors::domain::token::TokenHash;
use tokio::time::Instant;

/// How long a code is valid.
pub(super) const LIFETIME: Duration = Duration::from_mins(10);
/// Maximum number of codes; the oldest one is dropped first.
const MAX_CODES: usize = 16;

/// The codes that have not been used.
#[derive(Debug, Default)]
pub(super) struct SignInCodes(VecDeque<Code>);

#[derive(Debug)]
struct Code {
    hash: TokenHash,
    /// The admin token when the code was issued. Replacing the token makes the code invalid.
    admin: TokenHash,
    expires: Instant,
}

impl SignInCodes {
    /// Adds a code that signs in the holder of this admin token once.
    pub(super) fn add(&mut self, code: &str, admin: TokenHash, now: Instant) {
        if self.0.len() >= MAX_CODES {
            self.0.pop_front();
        }
        self.0.push_back(Code { hash: TokenHash::of(code), admin, expires: now + LIFETIME });
    }

    /// Uses a code up. Returns whether it was valid.
    pub(super) fn take(&mut self, code: &str, admin: TokenHash, now: Instant) -> bool {
        self.0.retain(|code| now < code.expires && code.admin == admin);
        let hash = TokenHash::of(code);
        let before = self.0.len();
        self.0.retain(|code| code.hash != hash);
        self.0.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_valid_once_for_a_few_minutes_and_for_one_admin_token() {
        let (admin, other, now) = (TokenHash::of("a"), TokenHash::of("b"), Instant::now());
        let mut codes = SignInCodes::default();
        codes.add("x", admin, now);
        assert!(!codes.take("y", admin, now));
        assert!(codes.take("x", admin, now));
        assert!(!codes.take("x", admin, now), "it was used");
        codes.add("x", admin, now);
        assert!(!codes.take("x", admin, now + LIFETIME), "it has expired");
        codes.add("x", admin, now);
        assert!(!codes.take("x", other, now), "the admin token was replaced");
        for i in 0..=MAX_CODES {
            codes.add(&i.to_string(), admin, now);
        }
        assert_eq!(codes.0.len(), MAX_CODES);
        assert!(!codes.take("0", admin, now) && codes.take("1", admin, now));
    }
}
