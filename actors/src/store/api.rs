//! The methods of [`Store`], grouped by table. Each runs a query from the file of its table on the right
//! connection.
//!
//! Reads that may lag behind a commit in progress use the reading connections. Reads that must see the last
//! commit, and all writes, use the writing one.

use std::{collections::BTreeMap, path::Path};

use tokio::sync::SemaphorePermit;

use super::{
    Batch, CommitContext, CommitError, Committed, DeadAndRetrying, Found, IndexProgress, Inserted, Matching,
    MqttConfigRow, OldEvents, Place, QueryContext, RetryingEvent, SecretColumn, Store, StoreError, Swept,
    camera_days, cameras, commit, connection::Connection, dead_events, deliveries, deliveries_ahead,
    discovery_topics, event_log, events, file::OpenFile, heard_topics, history, log_clock, mqtt_config,
    outages, ownership::Ownership, page, postgres, replays, retries, search, seq_gaps, seq_mark::SeqMark,
    sweep, tokens, tracked, wal,
};
use crate::domain::{
    calendar::Day,
    camera::{Camera, Thumbnail},
    clock::{Clock, JumpDetector, LogTime, Moment, Timestamp},
    delivery::{DeadFilter, EventTimes, Unwritten},
    event_log::{EventList, EventPage, EventQuery, EventRecord, LogPart, LogQuery, LogRow, LogSize, SeqGap},
    history::{MINUTES_KEPT, Period},
    ids::{CameraId, EventId, Seq},
    outage::{Facts, Instant, Outage},
    replay::{ReplayRecord, ReplayRequest},
    retained::Kind,
    search::{Density, DensityQuery},
    token::{
        TokenRecord,
        secret::{TokenHash, TokenName},
    },
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
            Connection::Sqlite(_) | Connection::Readers(_) => None,
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

/// Cameras and their counts.
impl Store {
    /// Returns every camera as of the last commit, sorted by id.
    pub(crate) async fn list_cameras(&self) -> Result<Vec<Camera>, StoreError> {
        let txn = self.begin().await?;
        let cameras = tracked::all(&txn).await?;
        txn.rollback().await?;
        Ok(cameras.into_iter().map(|tracked| tracked.camera).collect())
    }

    /// Returns the registered cameras among `ids`, as of the last commit.
    pub(crate) async fn find_cameras(&self, ids: &[CameraId]) -> Result<Vec<Camera>, StoreError> {
        let txn = self.begin().await?;
        let cameras = tracked::find(&txn, ids).await?;
        txn.rollback().await?;
        Ok(cameras.into_iter().map(|tracked| tracked.camera).collect())
    }

    /// Changes one camera in a transaction. `change` receives the camera, or `None` if it is not registered,
    /// and whether another one may be registered. Returns the camera as it is stored afterwards.
    pub(crate) async fn change_camera<E: From<StoreError>>(
        &self,
        id: &CameraId,
        max_cameras: u32,
        change: impl FnOnce(Option<Camera>, bool) -> Result<Camera, E>,
    ) -> Result<Camera, E> {
        enum Failure<E> {
            Change(E),
            Database(sea_orm::DbErr),
        }
        impl<E> From<sea_orm::DbErr> for Failure<E> {
            fn from(error: sea_orm::DbErr) -> Self {
                Self::Database(error)
            }
        }
        let change = |camera, has_room| change(camera, has_room).map_err(Failure::Change);
        cameras::change(self, id, max_cameras, change).await.map_err(|failure| match failure {
            Failure::Change(error) => error,
            Failure::Database(error) => StoreError::from(error).into(),
        })
    }

    /// Stores the newest picture of each camera. Skips pictures that are older than the stored one, and
    /// unknown cameras. Returns the cameras whose newest picture is the given one.
    pub(crate) async fn note_pictures(
        &self,
        pictures: &BTreeMap<CameraId, Thumbnail>,
    ) -> Result<Vec<Camera>, StoreError> {
        Ok(cameras::note_pictures(self, pictures).await?)
    }

    /// Removes a camera and its counts. Returns whether it was registered.
    pub(crate) async fn delete_camera(&self, id: &CameraId) -> Result<bool, StoreError> {
        Ok(cameras::delete(self, id).await?)
    }

    /// Returns the counts of all cameras as of the last commit, starting with this day.
    pub(crate) async fn days_since(&self, day: Day) -> Result<camera_days::Counts, StoreError> {
        let txn = self.begin().await?;
        let mut counts = camera_days::since(&txn, day).await?;
        tracked::add_uncounted(&mut counts, &tracked::all(&txn).await?, day);
        txn.rollback().await?;
        Ok(counts)
    }

    /// Returns the counts of these cameras as of the last commit, starting with this day.
    pub(crate) async fn days_of_cameras(
        &self,
        ids: &[CameraId],
        day: Day,
    ) -> Result<camera_days::Counts, StoreError> {
        let txn = self.begin().await?;
        let mut counts = camera_days::of_since(&txn, ids, day).await?;
        tracked::add_uncounted(&mut counts, &tracked::find(&txn, ids).await?, day);
        txn.rollback().await?;
        Ok(counts)
    }

    /// Removes the counts of all days before this one.
    pub(crate) async fn delete_days_before(&self, day: Day) -> Result<u64, StoreError> {
        let txn = self.begin().await?;
        self.known.forget_all();
        let deleted = camera_days::delete_before(&txn, day).await?;
        txn.commit().await?;
        Ok(deleted)
    }
}

/// Topics that may have a retained message.
impl Store {
    /// Returns the topics on this broker.
    pub(crate) async fn list_topics(&self, broker: &str) -> Result<Vec<(String, Kind)>, StoreError> {
        Ok(discovery_topics::of_broker(&self.read, broker).await?)
    }

    /// Removes the topics that were cleared, then adds the new ones, in one transaction.
    pub(crate) async fn change_topics(
        &self,
        broker: &str,
        cleared: &[String],
        new: &[(String, Kind)],
    ) -> Result<(), StoreError> {
        Ok(discovery_topics::change(self, broker, cleared, new).await?)
    }
}

/// The topics that had a subscriber.
impl Store {
    /// Returns at most `limit` topics that had a subscriber on this broker, with the log time of the last one, the
    /// latest first.
    pub(crate) async fn heard_topics(
        &self,
        broker: &str,
        limit: u64,
    ) -> Result<Vec<(String, LogTime)>, StoreError> {
        Ok(heard_topics::of_broker(&self.read, broker, limit).await?)
    }

    /// Adds topics on this broker, or sets when they last had a subscriber.
    pub(crate) async fn note_heard_topics(
        &self,
        broker: &str,
        topics: &[(String, LogTime)],
    ) -> Result<(), StoreError> {
        Ok(heard_topics::note(self, broker, topics).await?)
    }

    /// Removes the topics, on every broker, that last had a subscriber before this time.
    pub(crate) async fn forget_heard_topics(&self, before: LogTime) -> Result<(), StoreError> {
        Ok(heard_topics::forget(&self.write, before).await?)
    }
}

/// Outages, and the figures of the charts.
impl Store {
    /// Returns the outages that overlap a period, oldest first, and since when outages are recorded.
    pub(crate) async fn outages_between(
        &self,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<(Vec<Outage>, Option<Timestamp>), StoreError> {
        let outages = outages::between(&self.read, from, to).await?;
        Ok((outages, outages::recorded_from(&self.read).await?))
    }

    /// Returns the outages that have not ended and the latest one, oldest first.
    pub(crate) async fn latest_outages(&self) -> Result<Vec<Outage>, StoreError> {
        Ok(outages::latest(&self.write).await?)
    }

    /// Returns the latest moment for which there is proof that the service was running.
    pub(crate) async fn last_alive(&self) -> Result<Option<Instant>, StoreError> {
        Ok(outages::last_alive(&self.write).await?)
    }

    /// Returns when the figures of the charts end, if that is before this minute since 1970.
    pub(crate) async fn history_until(&self, now: i64) -> Result<Option<Timestamp>, StoreError> {
        Ok(history::until(&self.write, now).await?)
    }

    /// Waits for the turn to read what became of the events of outages, which shares the reading connections with
    /// searches, and returns a reader for it.
    pub(crate) async fn read_outages(&self) -> Result<OutageReader<'_>, StoreError> {
        let turn = self.search.turn().await?;
        Ok(OutageReader { store: self, cursor: outages::cursor(&self.read).await?, _turn: turn })
    }

    /// Marks the outages whose events are among these as incomplete.
    pub(crate) async fn mark_missing(&self, first: Seq, last: Seq) -> Result<(), StoreError> {
        Ok(outages::mark_missing(&self.write, first, last).await?)
    }

    /// Stores outages and figures in one transaction that is not synced to disk; the next commit of an event syncs it,
    /// too. Joins the figures of minutes that are older than a day to quarters of an hour. `now` is in log time,
    /// `minute` the current one since 1970.
    pub(crate) async fn write_history(
        &self,
        outages: &[Outage],
        minutes: &[Period],
        now: LogTime,
        minute: i64,
    ) -> Result<(), StoreError> {
        let mut periods = minutes.to_vec();
        if !minutes.is_empty() {
            let old = history::minutes_before(&self.write, minute - MINUTES_KEPT).await?;
            periods.extend(history::quarters(&self.write, &old).await?);
        }
        let backend = sea_orm::ConnectionTrait::get_database_backend(&self.write);
        let mut statements = outages::write_statements(backend, outages, now);
        statements.extend(history::write_statements(backend, &periods, minute));
        if !statements.is_empty() {
            self.write_unsynced(statements).await?;
        }
        Ok(())
    }

    /// Returns the figures of the periods that begin at this minute since 1970 or later.
    pub(crate) async fn history_since(&self, minute: i64) -> Result<Vec<Period>, StoreError> {
        Ok(history::since(&self.read, minute).await?)
    }
}

/// MQTT settings.
impl Store {
    /// Returns the settings row. If there is none, creates it with only this client id.
    pub(crate) async fn load_or_create_settings(
        &self,
        new_client_id: impl FnOnce() -> String,
    ) -> Result<MqttConfigRow, StoreError> {
        mqtt_config::load_or_create(self, new_client_id).await
    }

    /// Returns the settings row as of the last commit, or `None` if there is none yet.
    pub(crate) async fn load_settings(&self) -> Result<Option<MqttConfigRow>, StoreError> {
        mqtt_config::load(self).await
    }

    /// Replaces the settings, and the secrets that change, in one transaction.
    pub(crate) async fn save_settings(
        &self,
        settings: String,
        password: SecretColumn,
        client_key: SecretColumn,
        updated_at: i64,
    ) -> Result<(), StoreError> {
        mqtt_config::save(self, settings, password, client_key, updated_at).await
    }

    /// Replaces the ciphertexts of the same secrets, and stores their recipients, in one transaction. Returns
    /// `false` and changes nothing if the settings were replaced since the row was `seen`.
    pub(crate) async fn save_ciphertexts(
        &self,
        seen: &MqttConfigRow,
        password: SecretColumn,
        client_key: SecretColumn,
        recipients: String,
    ) -> Result<bool, StoreError> {
        mqtt_config::save_ciphertexts(self, seen, password, client_key, recipients).await
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

/// API tokens.
impl Store {
    /// Returns every token, sorted by name.
    pub(crate) async fn list_tokens(&self) -> Result<Vec<(TokenHash, TokenRecord)>, StoreError> {
        Ok(tokens::all(self).await?)
    }

    /// Adds a token in one transaction, unless its name is taken or there are already `max` tokens.
    pub(crate) async fn insert_token(
        &self,
        record: &TokenRecord,
        hash: &TokenHash,
        max: u64,
    ) -> Result<Inserted, StoreError> {
        Ok(tokens::insert(self, record, hash, max).await?)
    }

    /// Removes a token. Returns whether it existed.
    pub(crate) async fn delete_token(&self, name: &TokenName) -> Result<bool, StoreError> {
        Ok(tokens::delete(self, name).await?)
    }

    /// Stores when a token was used.
    pub(crate) async fn note_token_use(&self, name: &TokenName, at: Timestamp) -> Result<(), StoreError> {
        Ok(tokens::note_use(self, name, at).await?)
    }
}

/// Raw access for tests and benchmarks.
#[cfg(any(test, feature = "testing"))]
impl Store {
    /// Executes SQL on the writing connection. Bytes are written as for SQLite, such as `x'7b7d'`.
    pub(crate) async fn execute(&self, sql: &str) -> Result<(), StoreError> {
        let sql = match &self.engine {
            super::Engine::Sqlite(_) => sql.into(),
            super::Engine::Postgres => {
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

/// Reads what became of the events of outages. No search runs while it exists, so it must not exist for long.
#[derive(Debug)]
pub(crate) struct OutageReader<'a> {
    store: &'a Store,
    /// The position up to which deliveries were recorded in the database when the turn began.
    pub(crate) cursor: Seq,
    _turn: SemaphorePermit<'a>,
}

impl OutageReader<'_> {
    /// Reads the facts of the next part of an outage's events, which begins after a position. Returns the end of the
    /// part, too. `unwritten` is what the outbox knew before.
    pub(crate) async fn part(
        &self,
        outage: &Outage,
        after: Seq,
        unwritten: &Unwritten,
    ) -> Result<(Facts, Seq), StoreError> {
        Ok(outages::part(&self.store.read, outage, after, unwritten).await?)
    }

    /// Returns whether the log still has the events of an outage.
    pub(crate) async fn has_events(&self, outage: &Outage) -> Result<bool, StoreError> {
        Ok(outages::has_events(&self.store.read, outage).await?)
    }
}
