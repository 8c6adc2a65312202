//! The write-ahead log. It is merged into the database file between two commits, so that no event waits for
//! the merge. If the load leaves no time between commits, SQLite merges it at the end of a commit, when it
//! has grown to `CHECKPOINT_BYTES`.

use sea_orm::{ConnectionTrait as _, DbErr};

use super::{CHECKPOINT_BYTES, Engine, PAGE_BYTES, Store};
use crate::domain::{event_log::StoredEvent, numbers::saturate};

/// Pages that every commit of events changes: the ends of the event log and of its indexes.
const PAGES_PER_COMMIT: usize = 5;
/// The size of an event without its payload: its columns and its entries in the indexes.
const EVENT_BYTES: usize = 250;
/// Half of SQLite's own limit, because the commit size is only an estimate.
const ENOUGH_BYTES: u32 = CHECKPOINT_BYTES / 2;

/// An estimate of the pages that were written to the write-ahead log since the last merge.
#[derive(Debug)]
pub struct Unmerged {
    pages: usize,
    page_bytes: usize,
}

impl Default for Unmerged {
    fn default() -> Self {
        Self::with_pages_of(PAGE_BYTES)
    }
}

impl Unmerged {
    /// Creates the estimate for the write-ahead log of this database.
    ///
    /// A server merges its own log, so the estimate has no effect then.
    pub fn of(store: &Store) -> Self {
        match &store.engine {
            Engine::Sqlite(sqlite) => Self::with_pages_of(sqlite.page_bytes),
            Engine::Postgres { .. } => Self::default(),
        }
    }

    fn with_pages_of(bytes: u32) -> Self {
        Self { pages: 0, page_bytes: saturate(bytes) }
    }

    /// Adds a commit of these events, or of a checkpoint only.
    pub fn add(&mut self, events: &[StoredEvent]) {
        let bytes: usize = events.iter().map(|event| event.payload.len() + EVENT_BYTES).sum();
        let pages = if events.is_empty() { 1 } else { PAGES_PER_COMMIT + bytes.div_ceil(self.page_bytes) };
        self.pages = self.pages.saturating_add(pages);
    }

    /// Returns whether a merge is due, and if so, resets the estimate.
    pub fn is_due(&mut self) -> bool {
        let due = self.pages.saturating_mul(self.page_bytes) >= saturate(ENOUGH_BYTES);
        if due {
            self.pages = 0;
        }
        due
    }
}

/// Merges the write-ahead log into the database file, as far as possible without waiting for readers.
pub async fn merge(store: &Store) -> Result<(), DbErr> {
    if store.is_on_server() {
        return Ok(());
    }
    store.write.execute_unprepared("PRAGMA wal_checkpoint(PASSIVE)").await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        clock::{self, Moment},
        delivery::EventTimes,
        ids::{CameraId, Seq},
    };

    fn event(bytes: usize) -> StoredEvent {
        let now = clock::now();
        StoredEvent {
            seq: Seq(1),
            camera_id: CameraId::parse("door".to_owned()).unwrap(),
            times: EventTimes::new(now, Moment::at(now)),
            payload: vec![b' '; bytes].into(),
        }
    }

    #[test]
    fn a_merge_is_due_after_many_small_commits_or_one_large_one() {
        let mut unmerged = Unmerged::default();
        let mut commits = 0;
        while !unmerged.is_due() {
            unmerged.add(&[event(600)]);
            commits += 1;
        }
        assert_eq!(commits, 683);
        unmerged.add(&vec![event(600); 10_000]);
        assert!(unmerged.is_due());
        assert!(!unmerged.is_due(), "the estimate was reset");
        for _ in 0..4095 {
            unmerged.add(&[]);
        }
        assert!(!unmerged.is_due(), "a checkpoint writes one page");
        let mut with_large_pages = Unmerged::with_pages_of(4096);
        (0..342).for_each(|_| with_large_pages.add(&[event(600)]));
        assert!(with_large_pages.is_due());
    }
}
