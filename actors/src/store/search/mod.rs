//! The search in the event log: the tables `event_blocks` and `event_index`.
//!
//! The log is divided into blocks of [`BLOCK`] positions. The index has a row for each word, object and camera of a
//! block, with the positions of its events in the block, and one with their times. Commits of events do not write to
//! it: a block is added once it is complete ([`build`]), and removed before its events are ([`forget_up_to`]). What is
//! not in the index is read from the log, so a search ([`find`]) always has the same result with and without it. So is
//! a block whose rows in the index are damaged, which is then added again if that is possible.
//!
//! The rows of a block are next to each other. Adding a block therefore writes few pages, unlike an index that is
//! sorted by word. In return, a search looks into every block: a few microseconds for 2,048 events.

mod build;
mod density;
mod find;
mod part;
mod positions;
mod size;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use sea_orm::{ConnectionTrait, Statement, Value};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use super::{Store, StoreError, dialect};
use crate::domain::{causes::with_causes, ids::Seq};

pub use self::{
    build::{Progress, add_missing},
    density::count,
    find::{Found, find},
    size::log_size,
};

/// The number of positions in a block. With larger blocks, a search has fewer to look into, but more events that are
/// not in the index yet. Tests of this crate use small ones, so that a few events are several blocks.
const BLOCK: usize = if cfg!(test) { 128 } else { 2048 };
const BLOCK_BITS: u32 = BLOCK.trailing_zeros();
/// The term of the row with the times of a block.
const TIMES: &str = "";

/// Rows per transaction, which occupies the writing connection for a few milliseconds.
const STEP: usize = 512;
/// The pause between two transactions, in which the writing connection is free for commits.
const PAUSE: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_millis(20) };

/// How long a search waits for those before it. A client may repeat it after that.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Less than all positions.
const UNKNOWN: i64 = -1;

/// What searches and the index have in common while the database is open.
#[derive(Debug)]
pub struct Shared {
    /// The first block that may be in the index; those before it contain events that were removed.
    first_indexed: AtomicI64,
    /// The last position that was given to an event, or [`UNKNOWN`].
    last_seq: AtomicI64,
    /// The blocks whose rows in the index are damaged.
    damaged: Mutex<BTreeSet<i64>>,
    /// Permits one search at a time, so that one of the reading connections is always free for the delivery of events.
    turn: Semaphore,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            first_indexed: AtomicI64::default(),
            last_seq: AtomicI64::new(UNKNOWN),
            damaged: Mutex::default(),
            turn: Semaphore::new(1),
        }
    }
}

impl Shared {
    /// Waits until no other search is running. Fails if that takes too long, so that requests whose senders have given
    /// up do not accumulate.
    pub async fn turn(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        match timeout(MAX_WAIT, self.turn.acquire()).await {
            Ok(turn) => Ok(turn.expect("it is never closed")),
            Err(_) => Err(StoreError::timeout()),
        }
    }

    /// Records the last position that was given to an event.
    pub fn note_last(&self, seq: Seq) {
        let _before = self.last_seq.fetch_max(seq.0, Ordering::Relaxed);
    }

    /// Returns the last position that was given to an event; `None` if it is not known yet.
    fn last_seq(&self) -> Option<Seq> {
        Some(Seq(self.last_seq.load(Ordering::Relaxed))).filter(|last| last.0 != UNKNOWN)
    }

    fn first_indexed(&self) -> i64 {
        self.first_indexed.load(Ordering::Relaxed)
    }

    /// Records that the rows of a block are damaged. [`add_missing`] adds it again.
    fn note_damaged(&self, block: i64) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(block);
    }

    fn take_damaged(&self) -> BTreeSet<i64> {
        std::mem::take(&mut self.damaged.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Returns the block of a position.
fn block_of(seq: i64) -> i64 {
    seq >> BLOCK_BITS
}

/// Returns the first position of a block.
fn first_of(block: i64) -> i64 {
    block << BLOCK_BITS
}

/// Returns the last position of a block.
fn last_of(block: i64) -> i64 {
    first_of(block + 1) - 1
}

/// Returns the term for an object.
fn object_term(object: &str) -> String {
    format!("={object}")
}

/// Returns the term for a camera.
fn camera_term(camera_id: &str) -> String {
    format!("@{camera_id}")
}

fn statement<const N: usize>(db: &impl ConnectionTrait, sql: &'static str, values: [Value; N]) -> Statement {
    dialect::statement(db, sql, values)
}

/// Takes the blocks that contain positions up to this one out of the index, and keeps them from being added again. They
/// are few: what is left of their events is read from the log. [`remove_rows`] removes what they leave behind.
pub async fn forget_up_to(store: &Store, up_to: Seq) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM event_blocks WHERE block <= ?";
    let last = block_of(up_to.0);
    store.search.first_indexed.fetch_max(last + 1, Ordering::Relaxed);
    delete(store, statement(&store.write, SQL, [last.into()])).await.map(drop)
}

/// Removes some rows of the blocks up to this position, which are not in the index any more. Returns their number.
pub async fn remove_rows(store: &Store, up_to: Seq) -> Result<u64, StoreError> {
    // At most 1,000 rows of the first block: an event has one or two, apart from those that it shares with others.
    // The bounds let SQLite read nothing else. No term comes after U+10FFFF.
    const SQL: &str = "DELETE FROM event_index \
        WHERE block = (SELECT MIN(block) FROM event_index WHERE block <= ?1) AND term <= COALESCE(\
          (SELECT term FROM event_index WHERE block = (SELECT MIN(block) FROM event_index WHERE block <= ?1) \
           ORDER BY term LIMIT 1 OFFSET 999), char(1114111))";
    delete(store, statement(&store.write, SQL, [block_of(up_to.0).into()])).await
}

/// Deletes rows of the index. Returns their number. Where the index is damaged, its rows stay: that must not keep old
/// events from being removed.
async fn delete(store: &Store, delete: Statement) -> Result<u64, StoreError> {
    match store.write.execute_raw(delete).await.map_err(StoreError::from) {
        Ok(deleted) => Ok(deleted.rows_affected()),
        Err(error) if error.is_corruption() => {
            tracing::warn!(
                error = %with_causes(&error),
                "the search index is damaged, so old rows of it were not removed"
            );
            Ok(0)
        }
        Err(error) => Err(error),
    }
}
