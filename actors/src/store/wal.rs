//! The write-ahead log. It is merged into the database file between two commits, so that no event waits for
//! the merge. If the load leaves no time between commits, SQLite merges it at the end of a commit, when it
//! has grown to `CHECKPOINT_PAGES`.

use sea_orm::{ConnectionTrait as _, DbErr};

use super::Store;
use crate::domain::event_log::StoredEvent;

const PAGE_BYTES: usize = 4096;
/// Pages that every commit changes: the counts, the cursor, the ends of the event log and of its indexes.
const PAGES_PER_COMMIT: usize = 8;
/// The size of an event without its payload: its columns and its entries in the indexes.
const EVENT_BYTES: usize = 250;
/// Half of SQLite's own limit, because the commit size is only an estimate.
const ENOUGH_PAGES: usize = 2000;

/// An estimate of the pages that were written to the write-ahead log since the last merge.
#[derive(Debug, Default)]
pub struct Unmerged(usize);

impl Unmerged {
    /// Adds a commit of these events.
    pub fn add(&mut self, events: &[StoredEvent]) {
        let bytes: usize = events.iter().map(|event| event.payload.len() + EVENT_BYTES).sum();
        self.0 = self.0.saturating_add(PAGES_PER_COMMIT + bytes.div_ceil(PAGE_BYTES));
    }

    /// Returns whether a merge is due, and if so, resets the estimate.
    pub fn is_due(&mut self) -> bool {
        let due = self.0 >= ENOUGH_PAGES;
        if due {
            self.0 = 0;
        }
        due
    }
}

/// Merges the write-ahead log into the database file, as far as possible without waiting for readers.
pub async fn merge(store: &Store) -> Result<(), DbErr> {
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
        assert_eq!(commits, 223);
        unmerged.add(&vec![event(600); 10_000]);
        assert!(unmerged.is_due());
        assert!(!unmerged.is_due(), "the estimate was reset");
    }
}
