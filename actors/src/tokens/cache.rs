//! The tokens as they were last read from the table, and how long they may be used.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    domain::{
        clock::Timestamp,
        token::{
            TokenRecord,
            secret::{TokenHash, TokenName},
        },
    },
    messages::tokens::Authenticated,
};

/// How long the cache is fresh. A token that another process revoked may be accepted for this long.
const MAX_AGE: Duration = Duration::from_secs(1);
/// How often the last use of a token is stored, so that there is one write per minute and token, not one per
/// request.
const USE_INTERVAL: chrono::Duration = chrono::Duration::minutes(1);

/// The tokens in the database.
#[derive(Debug, Clone, Default)]
pub(super) struct Tokens {
    pub tokens: Vec<(TokenHash, TokenRecord)>,
    /// The admin tokens of the nodes that use the database.
    pub admins: Vec<TokenHash>,
}

impl Tokens {
    /// Returns the token with this hash. Takes the same time wherever the token is in the list.
    pub(super) fn find(&self, hash: &TokenHash) -> Option<Authenticated> {
        let is_admin = self.admins.iter().filter(|admin| *admin == hash).count() > 0;
        let tokens = self.tokens.iter();
        let found =
            tokens.fold(None, |found, (known, record)| if known == hash { Some(record) } else { found });
        let token = found.cloned().map(Authenticated::Token);
        if is_admin { Some(Authenticated::Administrator) } else { token }
    }
}

/// The tokens as they were last read.
#[derive(Debug, Default)]
pub(super) struct TokenCache {
    known: Tokens,
    read_at: Option<Instant>,
    /// Number of known changes to the table.
    changes: u64,
}

impl TokenCache {
    /// Returns the number of known changes. Must be called before the table is read.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Stores what was read from the table, unless the table was changed since the read began.
    pub(super) fn fill(&mut self, tokens: &Tokens, changes: u64, now: Instant) {
        if changes == self.changes {
            self.known = tokens.clone();
            self.read_at = Some(now);
        }
    }

    /// Records that the table was changed and must be read again.
    pub(super) fn invalidate(&mut self) {
        self.read_at = None;
        self.changes += 1;
    }

    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.read_at.is_some_and(|read_at| now.duration_since(read_at) < MAX_AGE)
    }

    /// Returns the token with this hash.
    pub(super) fn find(&self, hash: &TokenHash) -> Option<Authenticated> {
        self.known.find(hash)
    }

    /// Removes a token immediately.
    pub(super) fn remove(&mut self, name: &TokenName) {
        self.known.tokens.retain(|(_, record)| record.name != *name);
    }

    /// Records that a token was used. Returns whether the use should be stored.
    pub(super) fn record_use(&mut self, name: &TokenName, now: Timestamp) -> bool {
        let mut records = self.known.tokens.iter_mut().map(|(_, record)| record);
        let record = records.find(|record| record.name == *name);
        record.is_some_and(|record| {
            let due = record.last_used_at.is_none_or(|last| now - last >= USE_INTERVAL || now < last);
            if due {
                record.last_used_at = Some(now);
            }
            due
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{clock, token::scope::Scopes};

    fn cache_with(name: &str) -> (TokenCache, TokenName) {
        let mut cache = TokenCache::default();
        let name = TokenName::parse(name).unwrap();
        let record = TokenRecord {
            name: name.clone(),
            scopes: Scopes::admin(),
            created_at: clock::from_micros(0),
            last_used_at: None,
        };
        let known =
            Tokens { tokens: vec![(TokenHash::of("a"), record)], admins: vec![TokenHash::of("node")] };
        cache.fill(&known, 0, Instant::now());
        (cache, name)
    }

    #[tokio::test(start_paused = true)]
    async fn the_cache_is_fresh_for_a_second() {
        let (mut cache, _) = cache_with("a");
        assert!(cache.is_fresh(Instant::now()));
        tokio::time::advance(Duration::from_millis(999)).await;
        assert!(cache.is_fresh(Instant::now()));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!cache.is_fresh(Instant::now()));
        let none = Tokens::default();
        cache.fill(&none, 0, Instant::now());
        cache.invalidate();
        assert!(!cache.is_fresh(Instant::now()));
        cache.fill(&none, 0, Instant::now());
        assert!(!cache.is_fresh(Instant::now()), "what was read before the change is ignored");
        cache.fill(&none, cache.changes(), Instant::now());
        assert!(cache.is_fresh(Instant::now()));
    }

    #[tokio::test]
    async fn a_token_is_found_by_its_hash_until_it_is_removed() {
        let (mut cache, name) = cache_with("a");
        let found = cache.find(&TokenHash::of("a"));
        assert!(matches!(found, Some(Authenticated::Token(record)) if record.name == name));
        assert_eq!(cache.find(&TokenHash::of("node")), Some(Authenticated::Administrator));
        assert_eq!(cache.find(&TokenHash::of("b")), None);
        cache.remove(&name);
        assert_eq!(cache.find(&TokenHash::of("a")), None);
    }

    #[tokio::test]
    async fn the_use_of_a_token_is_stored_once_a_minute() {
        let (mut cache, name) = cache_with("a");
        let time = |seconds: i64| clock::from_micros(seconds * 1_000_000);
        let due: Vec<_> =
            [100, 101, 159, 160, 161, 50].map(|seconds| cache.record_use(&name, time(seconds))).to_vec();
        assert_eq!(due, [true, false, false, true, false, true]);
        assert!(!cache.record_use(&TokenName::parse("other").unwrap(), time(100)));
    }
}
