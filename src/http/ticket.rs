//! What the page's cookie holds: who signed in and until when, signed. Pure.
//!
//! Nothing is kept here, so a restart signs nobody out. The key is the administrator's token: whoever replaces that ends
//! all sessions. A ticket of another token names that token's hash, which is asked for at every call: what was revoked
//! opens nothing. The tokens themselves are in no cookie.

use hmac::{Hmac, KeyInit as _, Mac as _};
use liveobject_actors::domain::{clock::Timestamp, hex, token::TokenHash};
use sha2::Sha256;

use crate::token::ApiToken;

/// How long a sign-in lasts.
pub(super) const LIFETIME_SECONDS: i64 = 30 * 86_400;

const ADMINISTRATOR: &str = "admin";

/// Who signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// With the administrator's token.
    Administrator,
    /// With another token.
    Of(TokenHash),
}

/// A ticket for `holder`: good for [`LIFETIME_SECONDS`].
pub(super) fn issue(key: &ApiToken, holder: Holder, now: Timestamp) -> String {
    let expires = now.timestamp().saturating_add(LIFETIME_SECONDS);
    let name = match holder {
        Holder::Administrator => ADMINISTRATOR.to_owned(),
        Holder::Of(hash) => digits(hash.as_bytes()),
    };
    let signature = digits(&mac(key, expires, &name).finalize().into_bytes());
    format!("{expires}.{name}.{signature}")
}

/// Who holds this ticket; `None` when it was not issued here or is too old. Takes the same time wherever the signatures
/// differ.
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

/// Neither part can hold the line break between them, so that no two tickets sign the same text.
fn mac(key: &ApiToken, expires: i64, name: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose().as_bytes()).expect("HMAC takes any key");
    mac.update(format!("liveobject session\n{expires}\n{name}").as_bytes());
    mac
}

fn digits(bytes: &[u8]) -> String {
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

    fn at(seconds: i64) -> Timestamp {
        clock::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_ticket_says_who_signed_in_until_it_is_too_old() {
        let key = key();
        for holder in [Holder::Administrator, Holder::Of(TokenHash::of("lo_x"))] {
            let ticket = issue(&key, holder, at(0));
            assert_eq!(open(&key, &ticket, at(LIFETIME_SECONDS - 1)), Some(holder));
            assert_eq!(open(&key, &ticket, at(LIFETIME_SECONDS)), None);
        }
    }

    #[test]
    fn a_ticket_holds_no_token_and_opens_only_where_it_was_issued() {
        let (key, other) = (key(), key());
        let ticket = issue(&key, Holder::Administrator, at(0));
        assert!(!ticket.contains(key.expose()));
        assert_eq!(open(&other, &ticket, at(0)), None);
    }

    #[test]
    fn a_ticket_that_was_changed_opens_nothing() {
        let key = key();
        let ticket = issue(&key, Holder::Of(TokenHash::of("lo_x")), at(0));
        let (_, signature) = ticket.rsplit_once('.').unwrap();
        let later = ticket.replacen(&LIFETIME_SECONDS.to_string(), "9999999999", 1);
        let admin = format!("{LIFETIME_SECONDS}.admin.{signature}");
        let short = &ticket[..ticket.len() - 2];
        for wrong in
            ["", "..", "1.admin.", &later, &admin, short, &format!("{ticket}.x"), &ticket.to_uppercase()]
        {
            assert_eq!(open(&key, wrong, at(0)), None, "{wrong}");
        }
    }
}
