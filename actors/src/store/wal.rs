//! The write-ahead log: what it holds goes to its place in the file between two commits, so that no event waits for that.
//! Under a load that leaves no time between two, SQLite does it by itself at the end of one, as `CHECKPOINT_PAGES` says.

use sea_orm::{ConnectionTrait as _, DbErr};

use super::Store;
use crate::domain::event_log::StoredEvent;

const PAGE_BYTES: usize = 4096;
/// What changes with every commit: the counts, the cursor, the ends of the log and of its indexes.
const PAGES_A_COMMIT: usize = 8;
/// Of an event, beside its payload: its columns and its entries in the indexes.
const EVENT_BYTES: usize = 250;
/// Half of what SQLite waits for, since what a commit takes is only reckoned.
const ENOUGH_PAGES: usize = 2000;

/// How much was written to the log since it was last merged into the file, about.
#[derive(Debug, Default)]
pub struct Unmerged(usize);

impl Unmerged {
    /// A commit wrote these.
    pub fn add(&mut self, events: &[StoredEvent]) {
        let bytes: usize = events.iter().map(|event| event.payload.len() + EVENT_BYTES).sum();
        self.0 = self.0.saturating_add(PAGES_A_COMMIT + bytes.div_ceil(PAGE_BYTES));
    }

    /// Whether it is worth being merged; then it counts from the beginning.
    pub fn is_due(&mut self) -> bool {
        let due = self.0 >= ENOUGH_PAGES;
        if due {
            self.0 = 0;
        }
        due
    }
}

/// Brings what the log holds to its place in the file, without waiting for those who still read it.
pub async fn merge(store: &Store) -> Result<(), DbErr> {
    store.write.execute_unprepared("PRAGMA wal_checkpoint(PASSIVE)").await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        clock,
        ids::{CameraId, Seq},
    };

    fn event(bytes: usize) -> StoredEvent {
        let now = clock::now();
        StoredEvent {
            seq: Seq(1),
            camera_id: CameraId::parse("door".to_owned()).unwrap(),
            occurred_at: now,
            received_at: now,
            payload: vec![b' '; bytes].into(),
        }
    }

    #[test]
    fn small_commits_and_large_ones_come_to_the_same_size() {
        let mut unmerged = Unmerged::default();
        let mut commits = 0;
        while !unmerged.is_due() {
            unmerged.add(&[event(600)]);
            commits += 1;
        }
        assert_eq!(commits, 223);
        unmerged.add(&vec![event(600); 10_000]);
        assert!(unmerged.is_due());
        assert!(!unmerged.is_due(), "it counts from the beginning");
    }
}
