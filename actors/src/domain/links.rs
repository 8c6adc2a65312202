//! Links to pictures that can be opened without a token. They are signed and remain valid as long as the
//! picture is kept.

use std::{
    fmt::{self, Write as _},
    sync::Arc,
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::domain::{clock::LogTime, hex, ids::EventId, link_key::LinkKey, node_key::NodeKey};

const SECONDS_PER_DAY: i64 = 86_400;

/// An upper bound on the length of a link without the service's address and the event's id.
const REST_OF_URL: usize = 128;

/// Creates and verifies links. Cheap to clone.
#[derive(Clone)]
pub struct Links(Arc<Inner>);

struct Inner {
    public_url: String,
    lifetime: i64,
    key: LinkKey,
}

impl fmt::Debug for Links {
    /// Does not print the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("public_url", &self.0.public_url).finish_non_exhaustive()
    }
}

impl Links {
    /// Creates links to the service at `public_url` (without a trailing `/`). They are valid for
    /// `retention_days` after the event was accepted.
    pub fn new(public_url: &str, retention_days: u32, key: LinkKey) -> Self {
        let lifetime = i64::from(retention_days) * SECONDS_PER_DAY;
        Self(Arc::new(Inner { public_url: public_url.to_owned(), lifetime, key }))
    }

    /// Returns the key with which other nodes prove what they are. It is the same as the one that signs links.
    pub fn node_key(&self) -> NodeKey {
        NodeKey::new(self.0.key.clone())
    }

    /// Returns the link to the picture of an event that was accepted at this log time. The link of an event is
    /// always the same.
    pub fn url(&self, event_id: &EventId, accepted: LogTime) -> String {
        let Inner { public_url, lifetime, .. } = &*self.0;
        let expires = accepted.seconds().saturating_add(*lifetime);
        let mut url = String::with_capacity(public_url.len() + event_id.as_str().len() + REST_OF_URL);
        // Writing to a string does not fail.
        let _ = write!(url, "{public_url}/api/v1/events/{event_id}/thumbnail?expires={expires}&signature=");
        hex::push(&mut url, &self.mac(event_id, expires).finalize().into_bytes());
        url
    }

    /// Returns whether a link with this expiry time (log time in seconds) and signature (hex digits) was
    /// created here for this event and has not expired. Compares the signatures in constant time.
    pub fn verify(&self, event_id: &EventId, expires: i64, signature: &str, now: LogTime) -> bool {
        let is_authentic = hex::read(signature)
            .is_some_and(|given| self.mac(event_id, expires).verify(&given.into()).is_ok());
        is_authentic && now.seconds() < expires
    }

    /// Computes the signature. Neither part can contain the line break that separates them, so that no two
    /// links sign the same text.
    fn mac(&self, event_id: &EventId, expires: i64) -> Hmac<Sha256> {
        let key = self.0.key.expose();
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC accepts keys of any length");
        for part in ["thumbnail\n", &expires.to_string(), "\n", event_id.as_str()] {
            mac.update(part.as_bytes());
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000;

    fn id(text: &str) -> EventId {
        EventId::parse(text).unwrap()
    }

    fn links() -> Links {
        Links::new("http://nvr.local:8080", 7, LinkKey::generate().unwrap())
    }

    fn parts(url: &str) -> (i64, String) {
        let (_, query) = url.split_once("?expires=").unwrap();
        let (expires, signature) = query.split_once("&signature=").unwrap();
        (expires.parse().unwrap(), signature.to_owned())
    }

    #[test]
    fn a_link_is_valid_until_the_picture_is_removed() {
        let links = links();
        let accepted = LogTime(1_000_000);
        let url = links.url(&id("a"), accepted);
        assert!(url.starts_with("http://nvr.local:8080/api/v1/events/a/thumbnail?expires=604801&signature="));
        assert_eq!(url, links.url(&id("a"), accepted), "the link is the same each time");
        let (expires, signature) = parts(&url);
        let is_valid = |micros: i64| links.verify(&id("a"), expires, &signature, LogTime(micros));
        assert!(is_valid(1_000_000) && is_valid(1_000_000 + 7 * DAY - 1));
        assert!(!is_valid(1_000_000 + 7 * DAY));
        assert!(links.clone().verify(&id("a"), expires, &signature.to_uppercase(), accepted));
    }

    #[test]
    fn an_altered_link_is_invalid() {
        let links = links();
        let now = LogTime(0);
        let (expires, signature) = parts(&links.url(&id("a"), now));
        for other in ["b", "A", "a.", "aa"] {
            assert!(!links.verify(&id(other), expires, &signature, now), "{other}");
        }
        for altered in [expires + 1, expires - 1, i64::MAX, 0] {
            assert!(!links.verify(&id("a"), altered, &signature, now), "{altered}");
        }
        for i in 0..signature.len() {
            let mut altered = signature.clone().into_bytes();
            altered[i] = if altered[i] == b'0' { b'1' } else { b'0' };
            assert!(!links.verify(&id("a"), expires, std::str::from_utf8(&altered).unwrap(), now), "{i}");
        }
        let not_ascii = format!("{}é", &signature[..62]);
        for invalid in ["", "0", &signature[1..], &format!("{signature}0"), &"g".repeat(64), &not_ascii] {
            assert!(!links.verify(&id("a"), expires, invalid, now), "{invalid}");
        }
    }

    #[test]
    fn the_link_of_another_installation_is_invalid() {
        let now = LogTime(0);
        let (expires, signature) = parts(&links().url(&id("a"), now));
        assert!(!links().verify(&id("a"), expires, &signature, now));
    }

    /// Links remain valid after an upgrade.
    #[test]
    fn signatures_do_not_change_between_versions() {
        let links = Links::new("", 0, LinkKey::from_bytes([7; 32]));
        let (_, signature) = parts(&links.url(&id("evt-1"), LogTime(0)));
        assert_eq!(signature, "3a29d045e33883d9fafa4c02fd5ea1cb4c02a816c7d075ffc722c26a7cbcae41");
    }
}
