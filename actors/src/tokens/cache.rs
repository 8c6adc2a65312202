//! What the table held when it was last read, and for how long that is believed. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{
    clock::Timestamp,
    token::{
        TokenRecord,
        secret::{TokenHash, TokenName},
    },
};

/// For how long what was read is believed: so long a token that another process revoked may still open.
const BELIEVED: Duration = Duration::from_secs(1);
/// How exactly the last use is noted: a write a minute for each token that is in use, not one for each call.
const NOTED_EVERY: chrono::Duration = chrono::Duration::minutes(1);

/// The tokens, as they were read.
#[derive(Debug, Default)]
pub(super) struct TokenCache {
    tokens: Vec<(TokenHash, TokenRecord)>,
    read_at: Option<Instant>,
    changes: u64,
}

impl TokenCache {
    /// How many changes are known of; to be asked before the table is read.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// This is what the table held. Passed over when it was changed since the reading began.
    pub(super) fn read(&mut self, tokens: &[(TokenHash, TokenRecord)], changes: u64, now: Instant) {
        if changes == self.changes {
            self.tokens = tokens.to_vec();
            self.read_at = Some(now);
        }
    }

    /// The table was changed: it is to be read again.
    pub(super) fn outdate(&mut self) {
        self.read_at = None;
        self.changes += 1;
    }

    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.read_at.is_some_and(|at| now.duration_since(at) < BELIEVED)
    }

    /// Whose token it is.
    pub(super) fn find(&self, hash: &TokenHash) -> Option<&TokenRecord> {
        find(&self.tokens, hash)
    }

    /// Forgets a token at once.
    pub(super) fn remove(&mut self, name: &TokenName) {
        self.tokens.retain(|(_, record)| record.name != *name);
    }

    /// Notes that a token was shown; whether that is to be written down.
    pub(super) fn note_use(&mut self, name: &TokenName, now: Timestamp) -> bool {
        let record = self.tokens.iter_mut().map(|(_, record)| record).find(|record| record.name == *name);
        record.is_some_and(|record| {
            let due = record.last_used_at.is_none_or(|last| now - last >= NOTED_EVERY || now < last);
            if due {
                record.last_used_at = Some(now);
            }
            due
        })
    }
}

/// Whose token it is. Takes the same time wherever it stands.
pub(super) fn find<'a>(tokens: &'a [(TokenHash, TokenRecord)], hash: &TokenHash) -> Option<&'a TokenRecord> {
    tokens.iter().fold(None, |found, (known, record)| if known == hash { Some(record) } else { found })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{clock, token::scope::Scopes};

    fn book(name: &str) -> (TokenCache, TokenName) {
        let mut book = TokenCache::default();
        let name = TokenName::parse(name).unwrap();
        let record = TokenRecord {
            name: name.clone(),
            scopes: Scopes::admin(),
            created_at: clock::from_micros(0),
            last_used_at: None,
        };
        book.read(&[(TokenHash::of("a"), record)], 0, Instant::now());
        (book, name)
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_is_believed_for_a_second() {
        let (mut book, _) = book("a");
        assert!(book.is_fresh(Instant::now()));
        tokio::time::advance(Duration::from_millis(999)).await;
        assert!(book.is_fresh(Instant::now()));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!book.is_fresh(Instant::now()));
        book.read(&[], 0, Instant::now());
        book.outdate();
        assert!(!book.is_fresh(Instant::now()));
        book.read(&[], 0, Instant::now());
        assert!(!book.is_fresh(Instant::now()), "what was read before the change is not believed");
        book.read(&[], book.changes(), Instant::now());
        assert!(book.is_fresh(Instant::now()));
    }

    #[tokio::test]
    async fn a_token_is_found_by_its_hash_until_it_is_removed() {
        let (mut book, name) = book("a");
        assert_eq!(book.find(&TokenHash::of("a")).unwrap().name, name);
        assert_eq!(book.find(&TokenHash::of("b")), None);
        book.remove(&name);
        assert_eq!(book.find(&TokenHash::of("a")), None);
    }

    #[tokio::test]
    async fn a_use_is_written_down_once_a_minute() {
        let (mut book, name) = book("a");
        let at = |seconds: i64| clock::from_micros(seconds * 1_000_000);
        let due: Vec<_> =
            [100, 101, 159, 160, 161, 50].map(|seconds| book.note_use(&name, at(seconds))).to_vec();
        assert_eq!(due, [true, false, false, true, false, true]);
        assert!(!book.note_use(&TokenName::parse("other").unwrap(), at(100)));
    }
}
