//! One transaction of the log: new events, deaths, checkpoints and decisions, all or nothing.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, TransactionTrait};

use super::{dead_events, decide, deliveries, events, retries, seen::Cameras};
use crate::{
    calendar::Calendar,
    cameras::Seen,
    clock::{self, Timestamp},
    event::DetectionEvent,
    ids::{CameraId, EventId, Seq},
    outbox::{DecideError, Decided, Decision, Receipt, Resent, Run, StoredEvent},
    store::dead_events::Death,
    thumbnails::Links,
};

/// What one commit writes.
#[derive(Debug, Default)]
pub struct Batch {
    /// New events, in the order of their acceptance.
    pub events: Vec<DetectionEvent>,
    /// Events that died.
    pub deaths: Vec<Death>,
    /// What the cursor has passed.
    pub runs: Vec<Run>,
    /// Events that were delivered after they had been dead.
    pub resent: Vec<Resent>,
    /// What somebody decided about dead events.
    pub decisions: Vec<(EventId, Decision)>,
}

/// What a commit has to know beside the batch.
#[derive(Debug, Clone)]
pub struct Context {
    /// Makes the links to pictures.
    pub links: Links,
    /// Which day it is where the cameras are.
    pub calendar: Calendar,
    /// How many cameras may be known.
    pub max_cameras: u32,
}

/// What one commit wrote.
#[derive(Debug)]
pub struct Committed {
    /// One receipt for each event of the batch, in its order.
    pub receipts: Vec<Receipt>,
    /// The events that were new, in the order of their places.
    pub stored: Vec<StoredEvent>,
    /// The last place given so far.
    pub last_seq: Seq,
    /// What the new events told of their cameras.
    pub seen: Vec<Seen>,
    /// A camera that could not be registered, because as many are known as may be.
    pub unregistered: Option<CameraId>,
    /// One answer for each decision of the batch, in its order.
    pub decided: Vec<Result<Decided, DecideError>>,
    /// What is dead and what waits to be sent again, after a commit whose outcome was not known.
    pub afterlife: Option<Afterlife>,
}

/// What became of dead events, as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Afterlife {
    /// How many are dead, and not dismissed.
    pub dead: u64,
    /// Those that wait to be sent again.
    pub again: Vec<Seq>,
}

impl Afterlife {
    /// Reads it.
    pub async fn read(db: &impl ConnectionTrait) -> Result<Self, DbErr> {
        Ok(Self { dead: dead_events::count(db).await?, again: retries::open(db).await? })
    }
}

/// Writes the batch in one transaction, synced to disk when this returns. `last_seq` is the last place given so far, when
/// that is known: after a commit whose outcome is not known it is not, and is read again.
pub async fn commit(
    db: &DatabaseConnection,
    batch: &Batch,
    last_seq: Option<Seq>,
    context: &Context,
) -> Result<Committed, DbErr> {
    // Events are seldom sent again: that they are new is tried before it is asked.
    if let Some(committed) = attempt(db, batch, HashMap::new(), last_seq, context).await? {
        return Ok(committed);
    }
    let ids: Vec<EventId> = batch.events.iter().map(|event| event.event_id().clone()).collect();
    // The one connection that writes: nothing comes between.
    let known = events::find_ids(db, &ids).await?.into_iter().collect();
    let again = attempt(db, batch, known, last_seq, context).await?;
    again.ok_or_else(|| DbErr::Custom("an event came into the log from elsewhere".to_owned()))
}

/// [`commit`], with the places of those of the events that the log holds already; `None`, and nothing is written, when it
/// holds others of them.
async fn attempt(
    db: &DatabaseConnection,
    batch: &Batch,
    known: HashMap<EventId, Seq>,
    last_seq: Option<Seq>,
    context: &Context,
) -> Result<Option<Committed>, DbErr> {
    let txn = db.begin().await?;
    let now = clock::now();
    let mut committed = Committed {
        receipts: Vec::with_capacity(batch.events.len()),
        stored: Vec::with_capacity(batch.events.len()),
        last_seq: match last_seq {
            Some(seq) => seq,
            None => events::last_seq(&txn).await?,
        },
        seen: Vec::new(),
        unregistered: None,
        decided: Vec::with_capacity(batch.decisions.len()),
        afterlife: None,
    };
    let backend = txn.get_database_backend();
    let runs = deliveries::inserting(backend, &batch.runs, now);
    if batch.events.is_empty() {
        if let Some(runs) = runs {
            txn.execute_raw(runs).await?;
        }
    } else {
        let mut cameras =
            Cameras::of(&txn, &batch.events, context.calendar, context.max_cameras, now).await?;
        let rows = place(&mut committed, &batch.events, known, &mut cameras, now, &context.links);
        committed.unregistered = cameras.unregistered.first().cloned();
        let mut writing = cameras.writing(backend);
        writing.statements.extend(runs);
        let Some(answers) = events::insert(&txn, &rows, std::mem::take(&mut writing.statements)).await?
        else {
            txn.rollback().await?;
            return Ok(None);
        };
        committed.seen = writing.written(&answers)?;
    }
    dead_events::insert(&txn, &batch.deaths).await?;
    retries::forget(&txn, batch.deaths.iter().map(|death| death.seq)).await?;
    retries::delivered(&txn, &batch.resent, now).await?;
    // After the deaths: what a commit noted whose outcome was not known is noted again before it is decided about.
    for (event_id, decision) in &batch.decisions {
        committed.decided.push(decide::decide(&txn, event_id, *decision, now).await?);
    }
    if last_seq.is_none() {
        committed.afterlife = Some(Afterlife::read(&txn).await?);
    }
    txn.commit().await?;
    Ok(Some(committed))
}

/// Gives each new event the next place, and each repeated one the receipt of the first.
fn place(
    committed: &mut Committed,
    batch: &[DetectionEvent],
    mut known: HashMap<EventId, Seq>,
    cameras: &mut Cameras,
    now: Timestamp,
    links: &Links,
) -> Vec<events::NewRow> {
    let mut rows = Vec::with_capacity(batch.len());
    for event in batch {
        let event_id = event.event_id().clone();
        if let Some(seq) = known.get(&event_id) {
            committed.receipts.push(Receipt { event_id, seq: *seq, duplicate: true });
            continue;
        }
        let seq = committed.last_seq.next();
        committed.last_seq = seq;
        let payload = event.payload(&cameras.of_event(event), seq, &links.url(&event_id, now));
        cameras.take(event, seq);
        let stored = StoredEvent {
            seq,
            camera_id: event.camera_id().clone(),
            occurred_at: event.timestamp(),
            received_at: now,
            payload: payload.into(),
        };
        known.insert(event_id.clone(), seq);
        committed.receipts.push(Receipt { event_id: event_id.clone(), seq, duplicate: false });
        committed.stored.push(stored.clone());
        rows.push(events::NewRow { event: stored, event_id });
    }
    rows
}
