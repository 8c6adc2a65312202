//! The contents of the page's cookie: who is signed in, until when, and which session it is, with a signature.
//!
//! The signature also covers the admin token for a session of the administrator, so that replacing that token ends the
//! session. If several nodes share the sessions, each has its own admin token, and the ticket contains its hash. For
//! other tokens, the ticket contains the token's hash, which every request looks up; a revoked token has no access. No
//! cookie contains a token itself.

use hmac::Mac as _;
use liveobject_actors::domain::{clock::LogTime, hex, token::TokenHash};

use crate::{sessions::Sessions, token::ApiToken};

/// How long a session lasts.
pub(super) const LIFETIME_SECONDS: i64 = 30 * 86_400;

const ADMINISTRATOR: &str = "admin";

/// Who signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// The holder of the admin token.
    Administrator,
    /// The holder of the token with this hash, which may be the admin token of another node.
    Of(TokenHash),
}

impl Holder {
    /// Returns whose token has this hash, if it is valid. `admin` is the hash of this node's admin token.
    pub(super) fn of(hash: TokenHash, admin: TokenHash) -> Self {
        if hash == admin { Self::Administrator } else { Self::Of(hash) }
    }
}

/// A session that a ticket belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) holder: Holder,
    /// Identifies the session.
    pub(super) id: String,
    /// When it expires, as log time in seconds.
    pub(super) expires: i64,
}

/// Issues the ticket of a new session that lasts for [`LIFETIME_SECONDS`].
pub(super) fn issue(sessions: &Sessions, admin: &ApiToken, holder: Holder, now: LogTime) -> String {
    let expires = now.seconds().saturating_add(LIFETIME_SECONDS);
    let name = match holder {
        // Other nodes have another admin token, but know the hash of this one.
        Holder::Administrator if sessions.is_shared() => to_hex(TokenHash::of(admin.expose()).as_bytes()),
        Holder::Administrator => ADMINISTRATOR.to_owned(),
        Holder::Of(hash) => to_hex(hash.as_bytes()),
    };
    let id = to_hex(&rand::random::<[u8; 16]>());
    let signature = sessions.mac(&signed(admin, expires, &name, &id)).finalize().into_bytes();
    format!("{expires}.{name}.{id}.{}", to_hex(&signature))
}

/// Returns the session of this ticket, or `None` if it was not issued here, has expired or was ended. The
/// signature is compared in constant time.
pub(super) fn open(sessions: &Sessions, admin: &ApiToken, ticket: &str, now: LogTime) -> Option<Session> {
    let mut parts = ticket.split('.');
    let (expires, name, id, signature) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let expires: i64 = expires.parse().ok()?;
    sessions.mac(&signed(admin, expires, name, id)).verify(&hex::read(signature)?.into()).ok()?;
    let holder = match name {
        ADMINISTRATOR => Holder::Administrator,
        hash => Holder::of(TokenHash::from_bytes(&hex::read(hash)?)?, TokenHash::of(admin.expose())),
    };
    let session = Session { holder, id: id.to_owned(), expires };
    (!has_ended(sessions, &session, now)).then_some(session)
}

/// Returns whether a session has expired or was ended.
pub(super) fn has_ended(sessions: &Sessions, session: &Session, now: LogTime) -> bool {
    now.seconds() >= session.expires || sessions.is_ended(&session.id)
}

/// Returns the text that is signed. The parts contain no line break, so that different tickets never sign the
/// same text.
fn signed(admin: &ApiToken, expires: i64, name: &str, id: &str) -> Vec<u8> {
    let mut text = format!("liveobject session\n{expires}\n{name}\n{id}\n").into_bytes();
    if name == ADMINISTRATOR {
        text.extend_from_slice(TokenHash::of(admin.expose()).as_bytes());
    }
    text
}

fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    hex::push(&mut text, bytes);
    text
}

#[cfg(test)]
mod tests {
    use liveobject_actors::{SharedSessions, domain::session_key::SessionKey};

    use super::*;

    fn keys() -> (Sessions, ApiToken) {
        let dir = tempfile::tempdir().unwrap();
        (Sessions::load_or_create(dir.path()).unwrap(), ApiToken::load_or_create(dir.path()).unwrap())
    }

    fn second(seconds: i64) -> LogTime {
        LogTime(seconds * 1_000_000)
    }

    #[test]
    fn a_ticket_identifies_its_holder_until_it_expires() {
        let (sessions, admin) = keys();
        for holder in [Holder::Administrator, Holder::Of(TokenHash::of("lo_x"))] {
            let ticket = issue(&sessions, &admin, holder, second(0));
            let open = |at| open(&sessions, &admin, &ticket, second(at)).map(|session| session.holder);
            assert_eq!(open(LIFETIME_SECONDS - 1), Some(holder));
            assert_eq!(open(LIFETIME_SECONDS), None);
        }
    }

    #[test]
    fn a_session_of_the_administrator_is_valid_on_another_node_as_that_of_its_admin_token() {
        let ((_, here), (_, there)) = (keys(), keys());
        let key = SessionKey::generate().unwrap();
        let [one, other] =
            [0, 1].map(|_| Sessions::shared(SharedSessions { key: key.clone(), ended: Vec::new() }));
        let ticket = issue(&one, &here, Holder::Administrator, second(0));
        let holder = |sessions, admin| open(sessions, admin, &ticket, second(1)).unwrap().holder;
        assert_eq!(holder(&one, &here), Holder::Administrator);
        assert_eq!(holder(&other, &there), Holder::Of(TokenHash::of(here.expose())));
        assert!(!ticket.contains(here.expose()));
    }

    #[test]
    fn ending_a_session_leaves_the_others_of_its_holder() {
        let (sessions, admin) = keys();
        let [one, other] = [0, 1].map(|_| issue(&sessions, &admin, Holder::Administrator, second(0)));
        let session = open(&sessions, &admin, &one, second(0)).unwrap();
        sessions.end(&session.id, session.expires, second(0));
        assert_eq!(open(&sessions, &admin, &one, second(0)), None);
        assert!(open(&sessions, &admin, &other, second(0)).is_some());
    }

    #[test]
    fn another_admin_token_ends_the_administrators_sessions_only() {
        let ((sessions, admin), (_, other)) = (keys(), keys());
        let of_admin = issue(&sessions, &admin, Holder::Administrator, second(0));
        let of_token = issue(&sessions, &admin, Holder::Of(TokenHash::of("lo_x")), second(0));
        assert_eq!(open(&sessions, &other, &of_admin, second(0)), None);
        assert!(open(&sessions, &other, &of_token, second(0)).is_some());
    }

    #[test]
    fn a_ticket_contains_no_token_and_is_valid_only_where_it_was_issued() {
        let ((sessions, admin), (other, _)) = (keys(), keys());
        let ticket = issue(&sessions, &admin, Holder::Administrator, second(0));
        assert!(!ticket.contains(admin.expose()));
        assert_eq!(open(&other, &admin, &ticket, second(0)), None);
    }

    #[test]
    fn a_modified_ticket_is_not_valid() {
        let (sessions, admin) = keys();
        let ticket = issue(&sessions, &admin, Holder::Of(TokenHash::of("lo_x")), second(0));
        let parts: Vec<_> = ticket.split('.').collect();
        let later = ticket.replacen(&LIFETIME_SECONDS.to_string(), "9999999999", 1);
        let as_admin = format!("{}.admin.{}.{}", parts[0], parts[2], parts[3]);
        let another = format!("{}.{}.00.{}", parts[0], parts[1], parts[3]);
        let short = &ticket[..ticket.len() - 2];
        for invalid in [
            "",
            "...",
            "1.admin.00.",
            &later,
            &as_admin,
            &another,
            short,
            &format!("{ticket}.x"),
            &ticket.to_uppercase(),
        ] {
            assert_eq!(open(&sessions, &admin, invalid, second(0)), None, "{invalid}");
        }
    }
}
