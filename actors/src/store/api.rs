//! The methods of [`Store`], grouped by table. Each runs a query from the file of its table on the right
//! connection.
//!
//! Reads that may lag behind a commit in progress use the reading connections. Reads that must see the last
//! commit, and all writes, use the writing one.

mod camera_rows;
pub(super) mod charts;
mod picture_rows;
mod settings;

use std::path::Path;

use super::{
    Batch, CommitContext, CommitError, Committed, DeadAndRetrying, Found, IndexProgress, Matching, NotesFile,
    OldEvents, Place, QueryContext, RetryingEvent, Store, StoreError, Swept, commit, connection::Connection,
    dead_events, deliveries, deliveries_ahead, delivery_notes, delivery_notes::DeliveryNotes, event_log,
    events, file::OpenFile, log_clock, mqtt_config, ownership::Ownership, page, postgres, replays, retries,
    search, seq_gaps, seq_mark::SeqMark, sweep, wal,
};
use crate::domain::{
    causes::with_causes,
    clock::{Clock, JumpDetector, LogTime, Moment, Timestamp},
    delivery::{DeadFilter, EventTimes},
    event_log::{EventList, EventPage, EventQuery, EventRecord, LogPart, LogQuery, LogRow, LogSize, SeqGap},
    ids::{EventId, Seq},
    replay::{ReplayRecord, ReplayRequest},
    search::{Density, DensityQuery},
};

/// The clock.
impl Store {
    /// Returns the clock, whose log time continues that of the previous run.
    pub(crate) fn clock(&self) -> Clock {
        self.clocks.clock
    }

    /// Returns the detector of changes to the wall clock since the previous run.
    pub(crate) fn jumps(&self) -> JumpDetector {
        self.clocks.jumps
    }

    /// Stores both clocks, so that the next run can continue from here.
    pub(crate) async fn note_clock(&self, now: Moment) -> Result<(), StoreError> {
        let txn = self.begin().await?;
        log_clock::note(&txn, now).await?;
        Ok(txn.commit().await?)
    }
}

/// The ownership of the event log.
impl Store {
    /// Returns the ownership that the writes depend on; `None` if the database is a file.
    pub(crate) fn ownership(&self) -> Option<&Ownership> {
        match &self.write {
            Connection::Writer(held) => held.ownership(),
            Connection::File(_) | Connection::FileReaders(_) | Connection::Readers(_) => None,
        }
    }

    /// Checks with a commit of its own that no other node owned the log when this was called. Fails with
    /// [`StoreError::NotOwner`] if one does.
    pub(crate) async fn confirm(&self) -> Result<(), StoreError> {
        if let Connection::Writer(held) = &self.write {
            held.begin().await?.commit().await?;
        }
        Ok(())
    }
}

/// The event log: writing and recovery.
impl Store {
    /// Writes the batch in one transaction, which is synced to disk when this returns. `last_seq` is the last
    /// seq that was assigned, or `None` after a commit with an unknown outcome: it is then read from the
    /// database.
    pub(crate) async fn commit(
        &self,
        batch: &Batch,
        last_seq: Option<Seq>,
        context: &CommitContext,
    ) -> Result<Committed, CommitError> {
        let committed = commit::commit(self, batch, last_seq, context).await.map_err(StoreError::from)?;
        // Afterwards, because the file may be replaced at any time before.
        match self.check_file() {
            Ok(()) => {
                self.search.note_last(committed.last_seq);
                if let Some(mark) = self.mark.get() {
                    mark.raise(committed.last_seq);
                }
                Ok(committed)
            }
            Err(error) => Err(CommitError { error, written: Some(Box::new(committed)) }),
        }
    }

    /// Checks that the database can be written to, without changing anything.
    pub(crate) async fn check_writable(&self) -> Result<(), StoreError> {
        mqtt_config::touch(&self.write).await?;
        self.check_file()
    }

    /// Checks that the database file, if there is one, is still where it was opened.
    pub(crate) fn check_file(&self) -> Result<(), StoreError> {
        let is_in_place = self.file().is_none_or(OpenFile::is_in_place);
        if is_in_place { Ok(()) } else { Err(StoreError::Replaced) }
    }

    /// Returns the size of the database on its server, in bytes; `None` if it is a file.
    pub(crate) async fn size_on_server(&self) -> Result<Option<u64>, StoreError> {
        if self.file().is_some() {
            return Ok(None);
        }
        Ok(Some(postgres::size(&self.read).await?))
    }

    /// Returns the number of the server's standbys that can lack commits that were confirmed; 0 if it is a file.
    pub(crate) async fn asynchronous_standbys(&self) -> Result<u64, StoreError> {
        match self.file() {
            Some(_) => Ok(0),
            None => Ok(postgres::count_asynchronous(&self.read).await?),
        }
    }

    /// Copies the contents of SQLite's write-ahead log into the database file, without waiting for readers.
    pub(crate) async fn merge_wal(&self) -> Result<(), StoreError> {
        Ok(wal::merge(self).await?)
    }

    /// Returns which events were settled before `before`, or `None` if there are none.
    pub(crate) async fn find_old(&self, before: LogTime) -> Result<Option<OldEvents>, StoreError> {
        Ok(sweep::find(self, before).await?)
    }

    /// Removes these events.
    pub(crate) async fn remove_old(&self, old: &OldEvents) -> Result<Swept, StoreError> {
        sweep::remove(self, old).await
    }

    /// Continues after the last position that was ever given to an event, even if this database is older than the
    /// one that was used last. Returns the positions of the events that are then not in the log. Called once, before
    /// the first commit.
    pub(crate) async fn resume_positions(&self) -> Result<Option<SeqGap>, StoreError> {
        let last = events::last_seq(&self.write).await?;
        let Some(path) = self.path() else { return Ok(None) };
        let (mark, marked) = SeqMark::open(path);
        let gap =
            marked.filter(|marked| *marked > last).map(|marked| SeqGap { first: last.next(), last: marked });
        if let Some(gap) = gap {
            seq_gaps::insert(&self.write, gap).await?;
        }
        mark.raise(last);
        mark.sync();
        // It is set already if several outboxes use the same database one after the other, as some tests do.
        let _only_once = self.mark.set(mark);
        Ok(gap)
    }

    /// Adds to the database what a service that did not stop cleanly has noted about deliveries. Called once, before
    /// the cursor is read.
    pub(crate) async fn resume_deliveries(&self) -> Result<(), StoreError> {
        let Some(path) = self.path() else { return Ok(()) };
        let notes = self.notes.get_or_init(|| NotesFile::of(path));
        match notes.read() {
            Some(notes) => Ok(delivery_notes::add(&self.write, notes).await?),
            None => Ok(()),
        }
    }

    /// Notes the newest deliveries in a file next to the database, so that they survive the end of the process. Returns
    /// whether that succeeded; otherwise, they must be written to the database.
    pub(crate) fn note_deliveries(&self, notes: &DeliveryNotes) -> bool {
        self.notes.get().is_some_and(|file| match file.write(notes) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(
                    error = %with_causes(&error),
                    "deliveries were not noted; they are written to the database"
                );
                false
            }
        })
    }

    /// Returns the gaps in the log above the cursor.
    pub(crate) async fn gaps_above(&self, cursor: Seq) -> Result<Vec<SeqGap>, StoreError> {
        Ok(seq_gaps::above(&self.read, cursor).await?)
    }

    /// Syncs the file with the last position to disk. Blocks.
    pub(crate) fn sync_mark(&self) {
        if let Some(mark) = self.mark.get() {
            mark.sync();
        }
    }

    /// Returns the path of the file with the last position if it could not be written.
    pub(crate) fn failed_mark(&self) -> Option<&Path> {
        self.mark.get()?.failed()
    }

    /// Returns the cursor: every event up to it is settled.
    pub(crate) async fn cursor(&self) -> Result<Seq, StoreError> {
        Ok(deliveries::cursor(&self.read).await?)
    }

    /// Returns the last seq that was ever assigned, even if its event has been removed.
    pub(crate) async fn last_seq(&self) -> Result<Seq, StoreError> {
        Ok(events::last_seq(&self.read).await?)
    }

    /// Returns the ranges of events above the cursor that were delivered ahead of it.
    pub(crate) async fn ahead_of(&self, cursor: Seq) -> Result<Vec<(Seq, Seq)>, StoreError> {
        Ok(deliveries_ahead::above(&self.read, cursor).await?)
    }

    /// Returns the dead events above the cursor.
    pub(crate) async fn dead_above(&self, cursor: Seq) -> Result<Vec<Seq>, StoreError> {
        Ok(dead_events::above(&self.read, cursor).await?)
    }

    /// Returns the events above the cursor that were dead and were, or will be, sent again.
    pub(crate) async fn retries_above(&self, cursor: Seq) -> Result<Vec<Seq>, StoreError> {
        Ok(retries::above(&self.read, cursor).await?)
    }

    /// Returns the number of dead events whose rows are damaged and that are not dismissed.
    pub(crate) async fn count_unreadable(&self) -> Result<u64, StoreError> {
        Ok(dead_events::count_unreadable(&self.write).await?)
    }

    /// Returns the number of dead events, and the events that are waiting to be sent again.
    pub(crate) async fn dead_and_retrying(&self) -> Result<DeadAndRetrying, StoreError> {
        Ok(DeadAndRetrying::read(&self.read).await?)
    }
}

/// The event log: queries.
impl Store {
    /// Returns up to `limit` rows in order, starting at `from`; `last` is the last position in the log.
    pub(crate) async fn read_page(&self, from: Seq, limit: u64, last: Seq) -> Result<EventPage, StoreError> {
        page::read(&self.read, from, limit, last).await
    }

    /// Returns the events at these positions that are waiting to be sent again, in order. Leaves out those that
    /// are damaged or missing.
    pub(crate) async fn read_retries(&self, seqs: &[Seq]) -> Result<Vec<RetryingEvent>, StoreError> {
        retries::read(&self.read, seqs).await
    }

    /// Returns when an event happened and when it was accepted.
    pub(crate) async fn event_times(&self, seq: Seq) -> Result<Option<EventTimes>, StoreError> {
        Ok(events::times_of(&self.read, seq).await?)
    }

    /// Returns the position of the first event from `from` to `last` that was accepted at `since` or later, or
    /// `None` if there is none. Takes about as long however many events there are.
    pub(crate) async fn first_accepted_since(
        &self,
        since: LogTime,
        from: Seq,
        last: Seq,
    ) -> Result<Option<Seq>, StoreError> {
        Ok(events::first_accepted_since(&self.read, since, from, last).await?)
    }

    /// Returns the positions of those events that are in the log.
    pub(crate) async fn find_seqs(&self, ids: &[EventId]) -> Result<Vec<(EventId, Seq)>, StoreError> {
        Ok(events::find_ids(&self.read, ids).await?)
    }

    /// Returns the first dead events that match the filter, in order. Dismissed ones do not match.
    pub(crate) async fn find_dead(
        &self,
        filter: &DeadFilter,
        limit: u64,
    ) -> Result<Vec<(Seq, EventId)>, StoreError> {
        dead_events::find(&self.read, filter, limit).await
    }

    /// Returns the position, the camera and the times of an event.
    pub(crate) async fn find_event(&self, id: &EventId) -> Result<Option<Place>, StoreError> {
        Ok(events::find(&self.read, id).await?)
    }

    /// Lists events, newest first.
    pub(crate) async fn list_events(
        &self,
        query: &EventQuery,
        context: &QueryContext,
    ) -> Result<EventList, StoreError> {
        event_log::list(&self.read, &self.search, query, context).await
    }

    /// Counts the events in each step of a period.
    pub(crate) async fn density(&self, query: &DensityQuery) -> Result<Density, StoreError> {
        search::count(&self.read, &self.search, query).await
    }

    /// Returns how many events the log has, and since when. Reads little, however many there are.
    pub(crate) async fn log_size(&self) -> Result<LogSize, StoreError> {
        search::log_size(&self.read).await
    }

    /// Adds events to the index for the search, unless that was done. Takes long if there are many, but does not delay
    /// commits. Returns the number of added blocks, of 2,048 events each.
    pub(crate) async fn index_events(&self, progress: &mut IndexProgress) -> Result<u64, StoreError> {
        search::add_missing(self, progress).await
    }

    /// Returns one event.
    pub(crate) async fn get_event(
        &self,
        id: &EventId,
        context: &QueryContext,
    ) -> Result<Option<EventRecord>, StoreError> {
        Ok(event_log::get(&self.read, id, context).await?)
    }

    /// Returns the new contents of the log.
    pub(crate) async fn read_log(
        &self,
        query: LogQuery,
        context: &QueryContext,
    ) -> Result<LogPart, StoreError> {
        Ok(event_log::part(&self.read, query, context).await?)
    }

    /// Returns how many events were delivered since `at`.
    pub(crate) async fn delivered_since(&self, at: Timestamp) -> Result<u64, StoreError> {
        Ok(deliveries::delivered_since(&self.read, at).await?)
    }
}

/// Replays.
impl Store {
    /// Returns every replay, oldest first.
    pub(crate) async fn list_replays(&self) -> Result<Vec<ReplayRecord>, StoreError> {
        Ok(replays::all(&self.write).await?)
    }

    /// Counts the requested events. Takes about a second for a million events in the log.
    pub(crate) async fn count_events(&self, request: &ReplayRequest) -> Result<Matching, StoreError> {
        replays::count(self, request).await
    }

    /// Adds a replay. Returns its id.
    pub(crate) async fn insert_replay(&self, record: &ReplayRecord) -> Result<i64, StoreError> {
        Ok(replays::insert(&self.write, record).await?)
    }

    /// Stores the progress of these replays, and removes others.
    pub(crate) async fn write_replays(
        &self,
        changed: &[ReplayRecord],
        removed: &[i64],
    ) -> Result<(), StoreError> {
        Ok(replays::write(self, changed, removed).await?)
    }

    /// Finds requested events in the next part of the log, after this position and at most up to `last`.
    pub(crate) async fn find_events(
        &self,
        request: &ReplayRequest,
        after: Seq,
        last: Seq,
    ) -> Result<Found, StoreError> {
        replays::find(&self.read, request, after, last).await
    }

    /// Reads the events at these positions, in order. Leaves out missing ones.
    pub(crate) async fn read_events(&self, seqs: &[Seq]) -> Result<Vec<LogRow>, StoreError> {
        page::read_at(&self.read, seqs).await
    }
}

/// Raw access for tests and benchmarks.
#[cfg(any(test, feature = "testing"))]
impl Store {
    /// Executes SQL on the writing connection. Bytes are written as for SQLite, such as `x'7b7d'`.
    pub(crate) async fn execute(&self, sql: &str) -> Result<(), StoreError> {
        let sql = match &self.engine {
            super::Engine::Sqlite(_) => sql.into(),
            super::Engine::Postgres { .. } => {
                std::borrow::Cow::from(sql.replace(",x'", ",'\\x").replace(" x'", " '\\x"))
            }
        };
        sea_orm::ConnectionTrait::execute_unprepared(&self.write, &sql).await?;
        Ok(())
    }

    /// Occupies the writing connection until the returned guard is dropped.
    #[cfg(test)]
    pub(crate) async fn occupy_writer(&self) -> Result<impl Sized + use<>, StoreError> {
        Ok(self.begin().await?)
    }
}
