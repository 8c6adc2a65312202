//! The event log without its actor, for benchmarks.

use std::{error::Error, path::Path};

use crate::{
    domain::{
        clock::LogTime,
        delivery::{DeadReason, SettledRange, Settlement},
        event::DetectionEvent,
        event_log::LogRow,
        ids::Seq,
    },
    store::{Batch, CommitContext, DeadEvent, IndexProgress, Store, StoreError},
};

pub use crate::outbox::window::{Lane, Window};

/// An open event log. It is written by the same code as in the outbox.
#[derive(Debug)]
pub struct Log {
    store: Store,
    context: CommitContext,
    last_seq: Seq,
}

impl Log {
    /// Opens the event log in a file. Creates the file if it is missing.
    pub async fn open(path: &Path) -> Result<Self, Box<dyn Error>> {
        let store = Store::open_file(path).await?;
        let last_seq = store.last_seq().await?;
        Ok(Self { store, context: super::commit_context(), last_seq })
    }

    /// Returns the last position assigned so far.
    pub fn last_seq(&self) -> Seq {
        self.last_seq
    }

    /// Returns the position of the oldest event.
    pub async fn first_seq(&self) -> Result<Seq, StoreError> {
        let first = self.store.read_page(Seq(0), 1, self.last_seq).await?.rows;
        Ok(first.first().map_or(self.last_seq.next(), LogRow::seq))
    }

    /// Commits pending events.
    pub async fn append(&mut self, events: Vec<DetectionEvent>) -> Result<(), StoreError> {
        self.commit(Batch { events, ..Batch::default() }).await
    }

    /// Commits events that are already settled: dead if `is_dead` returns true for their position, otherwise
    /// delivered.
    pub async fn append_settled(
        &mut self,
        events: Vec<DetectionEvent>,
        is_dead: impl Fn(Seq) -> bool,
    ) -> Result<(), StoreError> {
        let (mut up_to, at, mut deaths) = (self.last_seq, self.store.clock().now(), Vec::new());
        for _ in &events {
            up_to = up_to.next();
            if is_dead(up_to) {
                deaths.push(DeadEvent { seq: up_to, reason: DeadReason::RefusedRepeatedly, at });
            }
        }
        let ranges = vec![SettledRange { up_to, settlement: Settlement::unpublished(at) }];
        self.commit(Batch { events, deaths, ranges, ..Batch::default() }).await
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        let committed = self.store.commit(&batch, Some(self.last_seq), &self.context).await;
        let committed = committed.map_err(|failed| failed.error)?;
        self.last_seq = committed.last_seq;
        Ok(())
    }

    /// Turns off the syncing of commits, to fill a log for a benchmark faster.
    pub async fn disable_sync(&self) -> Result<(), StoreError> {
        self.store.execute("PRAGMA synchronous = OFF").await
    }

    /// Returns the current log time.
    pub fn now(&self) -> LogTime {
        self.store.clock().now().log
    }

    /// Removes the events that were settled before `before`, as the outbox does once an hour. Returns their
    /// number.
    pub fn sweep(&self, before: LogTime) -> impl Future<Output = Result<u64, StoreError>> + use<> {
        let store = self.store.clone();
        async move {
            match store.find_old(before).await? {
                Some(old) => Ok(store.remove_old(&old).await?.events),
                None => Ok(0),
            }
        }
    }

    /// Adds all events to the index for the search, as the service does once a minute. Returns the number of blocks of
    /// 2,048 events.
    pub fn index(&self) -> impl Future<Output = Result<u64, StoreError>> + use<> {
        let store = self.store.clone();
        async move { store.index_events(&mut IndexProgress::default()).await }
    }

    /// Closes the event log.
    pub async fn close(self) {
        self.store.close().await;
    }
}
