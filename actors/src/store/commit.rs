//! Commits: each one writes new events, dead events, checkpoints and decisions in one transaction.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

use super::{
    Store, StoreError,
    connection::Connection,
    dead_events, decide, deliveries, deliveries_ahead, events, postgres, retries,
    seen::{Cameras, PendingWrites},
    statements::{Transaction, is_duplicate},
    tracked,
};
use crate::{
    domain::{
        calendar::Calendar,
        camera::CameraSighting,
        clock::Moment,
        delivery::{DecideError, Decided, Decision, Resent, SettledAhead, SettledRange},
        event::DetectionEvent,
        event_log::{Receipt, StoredEvent},
        ids::{CameraId, EventId, Seq},
        links::Links,
    },
    store::dead_events::DeadEvent,
};

/// The data that one commit writes.
#[derive(Debug, Default)]
pub struct Batch {
    /// New events, in the order of their acceptance.
    pub events: Vec<DetectionEvent>,
    /// Events that died.
    pub deaths: Vec<DeadEvent>,
    /// The ranges that the cursor has passed.
    pub ranges: Vec<SettledRange>,
    /// The events that were delivered ahead of the cursor.
    pub ahead: Vec<SettledAhead>,
    /// Dead events that were retried and delivered.
    pub resent: Vec<Resent>,
    /// Users' decisions about dead events.
    pub decisions: Vec<(EventId, Decision)>,
    /// Whether the commit may return before it is on disk. It then survives the end of the process, but a power
    /// failure only after the next synced commit, or when the operating system has written it. Allowed only for
    /// `ranges` and `ahead`: without them, events are sent again.
    pub skips_sync: bool,
}

/// The parameters of a commit, in addition to the batch.
#[derive(Debug, Clone)]
pub struct Context {
    /// Creates the links to pictures.
    pub links: Links,
    /// Determines the day on which an event is counted.
    pub calendar: Calendar,
    /// The maximum number of cameras.
    pub max_cameras: u32,
    /// The setting `late_after_seconds`. An event that is not late sets its camera online.
    pub late_after_seconds: u32,
}

/// The result of a commit.
#[derive(Debug)]
pub struct Committed {
    /// One receipt for each event of the batch, in the same order.
    pub receipts: Vec<Receipt>,
    /// The events that were new, in the order of their positions.
    pub stored: Vec<StoredEvent>,
    /// The last position assigned so far.
    pub last_seq: Seq,
    /// The cameras of the new events, as these events changed them.
    pub seen: Vec<CameraSighting>,
    /// Whether the new events set a camera online that was not.
    pub came_online: bool,
    /// A camera that could not be registered because the maximum number of cameras was reached.
    pub unregistered: Option<CameraId>,
    /// One result for each decision of the batch, in the same order.
    pub decided: Vec<Result<Decided, DecideError>>,
    /// The dead and the retrying events. Read only if the outcome of the previous commit was unknown.
    pub dead_and_retrying: Option<DeadAndRetrying>,
}

/// Why a commit failed.
#[derive(Debug)]
pub struct CommitError {
    /// The cause.
    pub error: StoreError,
    /// What was written, if the commit itself succeeded, but the database file is not in place. It is lost unless
    /// the file is put back.
    pub written: Option<Box<Committed>>,
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> Self {
        Self { error, written: None }
    }
}

impl Committed {
    fn new(batch: &Batch, last_seq: Seq) -> Self {
        Self {
            receipts: Vec::with_capacity(batch.events.len()),
            stored: Vec::with_capacity(batch.events.len()),
            last_seq,
            seen: Vec::new(),
            came_online: false,
            unregistered: None,
            decided: Vec::with_capacity(batch.decisions.len()),
            dead_and_retrying: None,
        }
    }
}

/// The dead events and those that are waiting for a retry, as stored in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadAndRetrying {
    /// The number of dead events that are not dismissed.
    pub dead: u64,
    /// The events that are waiting for a retry.
    pub again: Vec<Seq>,
}

impl DeadAndRetrying {
    /// Reads both from the database.
    pub async fn read(db: &impl ConnectionTrait) -> Result<Self, DbErr> {
        Ok(Self { dead: dead_events::count(db).await?, again: retries::waiting(db).await? })
    }
}

impl Batch {
    /// Returns whether the batch contains nothing but the progress of delivery.
    pub fn has_only_checkpoints(&self) -> bool {
        self.events.is_empty() && self.is_plain()
    }

    /// Returns whether the batch contains only new events and checkpoints, as nearly all do.
    fn is_plain(&self) -> bool {
        self.deaths.is_empty() && self.resent.is_empty() && self.decisions.is_empty()
    }
}

/// Returns whether a commit of this many events is sent to the database in one call. For larger commits, this
/// would gain little, and would need too many different statements to keep them all prepared.
pub fn is_small(events: usize) -> bool {
    events <= MAX_SMALL
}

const MAX_SMALL: usize = 64;

/// Writes the batch in one transaction, which is synced to disk when this returns, unless the batch skips that.
/// `last_seq` is the last seq that was assigned, or `None` after a commit with an unknown outcome: it is then read
/// from the database.
///
/// There are two implementations with the same result. Nearly all batches contain only new events of known
/// cameras, and checkpoints: [`commit_without_queries`] commits these, unless it turns out that a query is
/// needed. [`commit_with_queries`] commits all others.
pub async fn commit(
    store: &Store,
    batch: &Batch,
    last_seq: Option<Seq>,
    context: &Context,
) -> Result<Committed, DbErr> {
    let plain = last_seq.filter(|_| batch.is_plain());
    let committed = match plain {
        Some(last_seq) => commit_without_queries(store, batch, last_seq, context).await,
        None => Ok(None),
    };
    let committed = match committed {
        Ok(Some(committed)) => Ok(committed),
        Ok(None) => match commit_with_queries(store, batch, last_seq, context).await {
            Err(error) if !batch.events.is_empty() && StoreError::from(error.clone()).is_corruption() => {
                Box::pin(commit_despite_damage(store, batch, last_seq, context, error)).await
            }
            committed => committed,
        },
        Err(error) => Err(error),
    };
    if committed.is_err() {
        store.known.forget_all();
    }
    committed
}

/// Repeats a commit that failed with this error, in case it could not read events that are missing in the rows of
/// cameras.
async fn commit_despite_damage(
    store: &Store,
    batch: &Batch,
    last_seq: Option<Seq>,
    context: &Context,
    error: DbErr,
) -> Result<Committed, DbErr> {
    match tracked::write_all(store).await {
        Ok(()) => commit_with_queries(store, batch, last_seq, context).await,
        Err(_) => Err(error),
    }
}

/// Commits new events of cameras that are in memory, and checkpoints, without querying the database. Returns
/// `None` and writes nothing if a query is needed, because a camera is not in memory or an event is already in
/// the log. Both are rare.
async fn commit_without_queries(
    store: &Store,
    batch: &Batch,
    last_seq: Seq,
    context: &Context,
) -> Result<Option<Committed>, DbErr> {
    let connection = Writer::acquire(store).await?;
    let now = store.clock().now();
    let Some(mut cameras) = Cameras::known(&store.known, &batch.events, context, now) else {
        return Ok(None);
    };
    let mut committed = Committed::new(batch, last_seq);
    let new =
        assign_positions(&mut committed, &batch.events, &HashMap::new(), &mut cameras, now, &context.links);
    let writes = cameras.into_writes(committed.last_seq);
    store.known.learn(writes.cameras());
    let rows = Rows {
        events: &committed.stored,
        ids: &new,
        writes: &writes,
        ranges: &batch.ranges,
        ahead: &batch.ahead,
    };
    match connection.commit(&rows, batch.skips_sync && batch.events.is_empty()).await {
        Ok(()) => {
            committed.came_online = writes.came_online;
            committed.seen = writes.into_sightings();
            Ok(Some(committed))
        }
        Err(error) if is_duplicate(&error) || postgres::is_duplicate_event(&error) => {
            store.known.forget_all();
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The rows of a commit that needs no queries.
#[derive(Debug)]
pub struct Rows<'a> {
    /// The new events.
    pub events: &'a [StoredEvent],
    /// Their ids.
    pub ids: &'a [&'a EventId],
    /// What the commit writes about cameras.
    pub writes: &'a PendingWrites,
    /// The ranges that the cursor has passed.
    pub ranges: &'a [SettledRange],
    /// The events that were delivered ahead of the cursor.
    pub ahead: &'a [SettledAhead],
}

/// The writing connection, for one commit.
enum Writer<'a> {
    Sqlite(Transaction<'a>),
    Postgres(postgres::Writer),
}

impl<'a> Writer<'a> {
    /// Waits for the connection.
    async fn acquire(store: &'a Store) -> Result<Self, DbErr> {
        match &store.write {
            Connection::File(kept) => Transaction::new(kept).await.map(Self::Sqlite),
            // Boxed, so that the future of a commit to SQLite is not larger because of it.
            Connection::Writer(held) => Box::pin(postgres::Writer::acquire(held)).await.map(Self::Postgres),
            Connection::FileReaders(_) | Connection::Readers(_) => {
                unreachable!("these connections do not write")
            }
        }
    }

    /// Writes all rows in one transaction.
    async fn commit(self, rows: &Rows<'_>, skips_sync: bool) -> Result<(), DbErr> {
        match self {
            Self::Sqlite(transaction) => commit_to_sqlite(transaction, rows, skips_sync).await,
            Self::Postgres(writer) => Box::pin(writer.commit(rows, skips_sync)).await,
        }
    }
}

/// If there are few events, everything from BEGIN to COMMIT is submitted in one call. A commit of one event then wakes
/// the database's thread once instead of four times, which saves about 150 µs (50 µs per wake-up).
async fn commit_to_sqlite(
    mut transaction: Transaction<'_>,
    rows: &Rows<'_>,
    skips_sync: bool,
) -> Result<(), DbErr> {
    const SQLITE: DbBackend = DbBackend::Sqlite;
    let Rows { events, ids, writes, ranges, ahead } = rows;
    let mut last: Vec<Statement> = Vec::new();
    for statement in events::insert_statements(SQLITE, events, ids) {
        if is_small(events.len()) {
            last.push(statement);
        } else {
            transaction.execute(vec![statement]).await?;
        }
    }
    last.extend(writes.statements(SQLITE));
    last.extend(deliveries::insert_statements(SQLITE, ranges));
    last.extend(deliveries_ahead::insert_statements(SQLITE, ahead));
    let committed = if skips_sync {
        transaction.execute_and_commit_unsynced(last).await
    } else if let ([_], false) = (last.as_slice(), transaction.has_begun()) {
        transaction.execute_alone(last.remove(0)).await
    } else {
        transaction.execute_and_commit(last).await
    };
    committed.map(drop)
}

/// Commits any batch: queries cameras and known event ids, and executes the statements one at a time.
async fn commit_with_queries(
    store: &Store,
    batch: &Batch,
    last_seq: Option<Seq>,
    context: &Context,
) -> Result<Committed, DbErr> {
    let txn = store.begin().await?;
    let backend = txn.get_database_backend();
    let now = store.clock().now();
    let last = match last_seq {
        Some(seq) => seq,
        None => events::last_seq(&txn).await?,
    };
    let mut committed = Committed::new(batch, last);
    if !batch.events.is_empty() {
        let ids: Vec<EventId> = batch.events.iter().map(|event| event.event_id().clone()).collect();
        let known = events::find_ids(&txn, &ids).await?.into_iter().collect();
        let mut cameras = Cameras::load(&txn, &batch.events, context, now).await?;
        let new = assign_positions(&mut committed, &batch.events, &known, &mut cameras, now, &context.links);
        committed.unregistered = cameras.unregistered.first().cloned();
        for events in events::insert_statements(backend, &committed.stored, &new) {
            txn.execute_raw(events).await?;
        }
        let writes = cameras.into_writes(committed.last_seq);
        for statement in writes.statements(backend) {
            txn.execute_raw(statement).await?;
        }
        store.known.learn(writes.cameras());
        committed.came_online = writes.came_online;
        committed.seen = writes.into_sightings();
    }
    for ranges in deliveries::insert_statements(backend, &batch.ranges) {
        txn.execute_raw(ranges).await?;
    }
    for ahead in deliveries_ahead::insert_statements(backend, &batch.ahead) {
        txn.execute_raw(ahead).await?;
    }
    dead_events::insert(&txn, &batch.deaths).await?;
    retries::delete(&txn, batch.deaths.iter().map(|death| death.seq)).await?;
    retries::mark_delivered(&txn, &batch.resent).await?;
    // Decisions are applied after the deaths are written: if the outcome of the previous commit is unknown,
    // its deaths are written again, and a decision may be about one of them.
    for (event_id, decision) in &batch.decisions {
        committed.decided.push(decide::decide(&txn, event_id, *decision, now).await?);
    }
    if last_seq.is_none() {
        committed.dead_and_retrying = Some(DeadAndRetrying::read(&txn).await?);
    }
    txn.commit().await?;
    Ok(committed)
}

/// Assigns the next position to each new event, and gives each duplicate the receipt of the first one.
/// Returns the ids of the new events.
fn assign_positions<'a>(
    committed: &mut Committed,
    batch: &'a [DetectionEvent],
    known: &HashMap<EventId, Seq>,
    cameras: &mut Cameras,
    now: Moment,
    links: &Links,
) -> Vec<&'a EventId> {
    let mut new = Vec::with_capacity(batch.len());
    let mut assigned = HashMap::with_capacity(batch.len());
    for event in batch {
        let event_id = event.event_id();
        if let Some(seq) = known.get(event_id).or_else(|| assigned.get(event_id)) {
            committed.receipts.push(Receipt { event_id: event_id.clone(), seq: *seq, duplicate: true });
            continue;
        }
        let seq = committed.last_seq.next();
        committed.last_seq = seq;
        let payload = event.payload(&cameras.of_event(event), seq, &links.url(event_id, now.log));
        cameras.record(event, seq);
        committed.stored.push(StoredEvent {
            seq,
            camera_id: event.camera_id().clone(),
            times: event.times(now),
            payload: payload.into(),
        });
        assigned.insert(event_id, seq);
        committed.receipts.push(Receipt { event_id: event_id.clone(), seq, duplicate: false });
        new.push(event_id);
    }
    new
}
