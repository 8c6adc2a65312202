//! One-time codes of the links that sign in to the page. Performs no I/O.

use std::{collections::VecDeque, time::Duration};

use liveobject_actors::domain::token::TokenHash;
use tokio::time::Instant;

use super::ticket::Holder;

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
    /// Who requested the link. The session belongs to the same holder, and ends when the holder's token is revoked.
    holder: Holder,
    /// The admin token when the code was issued. Replacing the token makes the code of the administrator invalid.
    admin: TokenHash,
    expires: Instant,
}

impl SignInCodes {
    /// Adds a code that signs in this holder once. `admin` is the current admin token.
    pub(super) fn add(&mut self, code: &str, holder: Holder, admin: TokenHash, now: Instant) {
        if self.0.len() >= MAX_CODES {
            self.0.pop_front();
        }
        self.0.push_back(Code { hash: TokenHash::of(code), holder, admin, expires: now + LIFETIME });
    }

    /// Uses a code up. Returns whom it signs in, or `None` if it was not valid. The caller checks the holder's token.
    pub(super) fn take(&mut self, code: &str, admin: TokenHash, now: Instant) -> Option<Holder> {
        let is_current = |code: &Code| code.holder != Holder::Administrator || code.admin == admin;
        self.0.retain(|code| now < code.expires && is_current(code));
        let hash = TokenHash::of(code);
        let position = self.0.iter().position(|code| code.hash == hash)?;
        self.0.remove(position).map(|code| code.holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_valid_once_for_a_few_minutes_and_for_one_admin_token() {
        let (admin, other, now) = (TokenHash::of("a"), TokenHash::of("b"), Instant::now());
        let mut codes = SignInCodes::default();
        let holder = Holder::Administrator;
        codes.add("x", holder, admin, now);
        assert_eq!(codes.take("y", admin, now), None);
        assert_eq!(codes.take("x", admin, now), Some(holder));
        assert_eq!(codes.take("x", admin, now), None, "it was used");
        codes.add("x", holder, admin, now);
        assert_eq!(codes.take("x", admin, now + LIFETIME), None, "it has expired");
        codes.add("x", holder, admin, now);
        assert_eq!(codes.take("x", other, now), None, "the admin token was replaced");
        for i in 0..=MAX_CODES {
            codes.add(&i.to_string(), holder, admin, now);
        }
        assert_eq!(codes.0.len(), MAX_CODES);
        assert_eq!(codes.take("0", admin, now), None);
        assert_eq!(codes.take("1", admin, now), Some(holder));
    }

    #[test]
    fn the_code_of_a_token_signs_in_its_holder() {
        let (admin, other, now) = (TokenHash::of("a"), TokenHash::of("b"), Instant::now());
        let (mut codes, holder) = (SignInCodes::default(), Holder::Of(TokenHash::of("lo_x")));
        codes.add("x", holder, admin, now);
        assert_eq!(codes.take("x", other, now), Some(holder), "the admin token is another one");
    }
}
