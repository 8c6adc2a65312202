//! The contents of the page's cookie: who is signed in, and until when, with a signature.
//!
//! The server stores no sessions, so a restart signs nobody out. The signing key is the admin token;
//! replacing it ends all sessions. For other tokens, the ticket contains the token's hash, which every
//! request looks up; a revoked token has no access. No cookie contains a token itself.

use hmac::{Hmac, KeyInit as _, Mac as _};
use liveobject_actors::domain::{clock::Timestamp, hex, token::TokenHash};
use sha2::Sha256;

use crate::token::ApiToken;

/// How long a session lasts.
pub(super) const LIFETIME_SECONDS: i64 = 30 * 86_400;

const ADMINISTRATOR: &str = "admin";

/// Who signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// The holder of the admin token.
    Administrator,
    /// The holder of the token with this hash.
    Of(TokenHash),
}

/// Issues a ticket for `holder` that is valid for [`LIFETIME_SECONDS`].
pub(super) fn issue(key: &ApiToken, holder: Holder, now: Timestamp) -> String {
    let expires = now.timestamp().saturating_add(LIFETIME_SECONDS);
    let name = match holder {
        Holder::Administrator => ADMINISTRATOR.to_owned(),
        Holder::Of(hash) => to_hex(hash.as_bytes()),
    };
    let signature = to_hex(&mac(key, expires, &name).finalize().into_bytes());
    format!("{expires}.{name}.{signature}")
}

/// Returns the holder of this ticket, or `None` if it was not issued here or has expired. The signature is
/// compared in constant time.
pub(super) fn open(key: &ApiToken, ticket: &str, now: Timestamp) -> Option<Holder> {
    let mut parts = ticket.split('.');
    let (expires, name, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let expires: i64 = expires.parse().ok()?;
    mac(key, expires, name).verify(&hex::read(signature)?.into()).ok()?;
    if now.timestamp() >= expires {
        return None;
    }
    match name {
        ADMINISTRATOR => Some(Holder::Administrator),
        hash => TokenHash::from_bytes(&hex::read(hash)?).map(Holder::Of),
    }
}

/// Returns the signature. The parts contain no line break, so that different tickets never sign the same
/// text.
fn mac(key: &ApiToken, expires: i64, name: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose().as_bytes()).expect("HMAC takes any key");
    mac.update(format!("liveobject session\n{expires}\n{name}").as_bytes());
    mac
}

fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    hex::push(&mut text, bytes);
    text
}

#[cfg(test)]
mod tests {
    use liveobject_actors::domain::clock;

    use super::*;

    fn key() -> ApiToken {
        ApiToken::load_or_create(tempfile::tempdir().unwrap().path()).unwrap()
    }

    fn second(seconds: i64) -> Timestamp {
        clock::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_ticket_identifies_its_holder_until_it_expires() {
        let key = key();
        for holder in [Holder::Administrator, Holder::Of(TokenHash::of("lo_x"))] {
            let ticket = issue(&key, holder, second(0));
            assert_eq!(open(&key, &ticket, second(LIFETIME_SECONDS - 1)), Some(holder));
            assert_eq!(open(&key, &ticket, second(LIFETIME_SECONDS)), None);
        }
    }

    #[test]
    fn a_ticket_contains_no_token_and_is_valid_only_where_it_was_issued() {
        let (key, other) = (key(), key());
        let ticket = issue(&key, Holder::Administrator, second(0));
        assert!(!ticket.contains(key.expose()));
        assert_eq!(open(&other, &ticket, second(0)), None);
    }

    #[test]
    fn a_modified_ticket_is_not_valid() {
        let key = key();
        let ticket = issue(&key, Holder::Of(TokenHash::of("lo_x")), second(0));
        let (_, signature) = ticket.rsplit_once('.').unwrap();
        let later = ticket.replacen(&LIFETIME_SECONDS.to_string(), "9999999999", 1);
        let admin = format!("{LIFETIME_SECONDS}.admin.{signature}");
        let short = &ticket[..ticket.len() - 2];
        for invalid in
            ["", "..", "1.admin.", &later, &admin, short, &format!("{ticket}.x"), &ticket.to_uppercase()]
        {
            assert_eq!(open(&key, invalid, second(0)), None, "{invalid}");
        }
    }
}
