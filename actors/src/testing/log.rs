//! The log without its actor: what benchmarks fill and measure.

use std::{error::Error, path::Path};

use sea_orm::{ConnectionTrait as _, DbErr};

use crate::{
    domain::{
        clock::{self, Timestamp},
        delivery::{DeadReason, SettledRange},
        event::DetectionEvent,
        ids::Seq,
    },
    store::{
        Store,
        commit::{self, Batch},
        dead_events::DeadEvent,
        events, page, sweep,
    },
};

pub use crate::outbox::window::Window;

/// An open log, with the store's own way to write it.
#[derive(Debug)]
pub struct Log {
    store: Store,
    context: commit::Context,
    last_seq: Seq,
}

impl Log {
    /// Opens the log in this file, which is made when it is missing.
    pub async fn open(path: &Path) -> Result<Self, Box<dyn Error>> {
        let store = Store::open_file(path).await?;
        let last_seq = events::last_seq(&store.read).await?;
        Ok(Self { store, context: super::commit_context(), last_seq })
    }

    /// The last place given so far.
    pub fn last_seq(&self) -> Seq {
        self.last_seq
    }

    /// The first place that still holds an event.
    pub async fn first_seq(&self) -> Result<Seq, DbErr> {
        let first = page::read(&self.store.read, Seq(0), 1).await?;
        Ok(first.first().map_or(self.last_seq.next(), |event| event.seq))
    }

    /// Commits events that wait, as the outbox does.
    pub async fn append(&mut self, events: Vec<DetectionEvent>) -> Result<(), DbErr> {
        self.commit(Batch { events, ..Batch::default() }).await
    }

    /// Commits events that are settled already: dead where `is_dead` says so, delivered otherwise.
    pub async fn append_settled(
        &mut self,
        events: Vec<DetectionEvent>,
        is_dead: impl Fn(Seq) -> bool,
    ) -> Result<(), DbErr> {
        let (mut up_to, at, mut deaths) = (self.last_seq, clock::now(), Vec::new());
        for _ in &events {
            up_to = up_to.next();
            if is_dead(up_to) {
                deaths.push(DeadEvent { seq: up_to, reason: DeadReason::RefusedRepeatedly, at });
            }
        }
        let ranges = vec![SettledRange { up_to, late: false }];
        self.commit(Batch { events, deaths, ranges, ..Batch::default() }).await
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), DbErr> {
        let committed = commit::commit(&self.store, &batch, Some(self.last_seq), &self.context).await?;
        self.last_seq = committed.last_seq;
        Ok(())
    }

    /// Gives up the safety of what is committed from now on, to fill a log that nobody will miss.
    pub async fn hurry(&self) -> Result<(), DbErr> {
        self.store.write.execute_unprepared("PRAGMA synchronous = OFF").await.map(drop)
    }

    /// Removes what was settled before `before`, as the outbox does once an hour; answers how many events it were.
    pub fn sweep(&self, before: Timestamp) -> impl Future<Output = Result<u64, DbErr>> + use<> {
        let store = self.store.clone();
        async move { Ok(sweep::run(&store, before).await?.events) }
    }

    /// Closes the file.
    pub async fn close(self) {
        self.store.close().await;
    }
}
