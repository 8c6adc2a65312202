//! One transaction of the log: new events, deaths, checkpoints and decisions, all or nothing.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DbErr, Statement, TransactionTrait};

use super::{
    Store, dead_events, decide, deliveries, events, retries,
    seen::Cameras,
    statements::{Transaction, is_repeated},
};
use crate::{
    domain::{
        calendar::Calendar,
        camera::CameraSighting,
        clock::{self, Timestamp},
        delivery::{DecideError, Decided, Decision, Resent, SettledRange},
        event::DetectionEvent,
        event_log::{Receipt, StoredEvent},
        ids::{CameraId, EventId, Seq},
        links::Links,
    },
    store::dead_events::DeadEvent,
};

/// What one commit writes.
#[derive(Debug, Default)]
pub struct Batch {
    /// New events, in the order of their acceptance.
    pub events: Vec<DetectionEvent>,
    /// Events that died.
    pub deaths: Vec<DeadEvent>,
    /// What the cursor has passed.
    pub ranges: Vec<SettledRange>,
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
    pub seen: Vec<CameraSighting>,
    /// A camera that could not be registered, because as many are known as may be.
    pub unregistered: Option<CameraId>,
    /// One answer for each decision of the batch, in its order.
    pub decided: Vec<Result<Decided, DecideError>>,
    /// What is dead and what waits to be sent again, after a commit whose outcome was not known.
    pub afterlife: Option<DeadAndRetrying>,
}

impl Committed {
    fn new(batch: &Batch, last_seq: Seq) -> Self {
        Self {
            receipts: Vec::with_capacity(batch.events.len()),
            stored: Vec::with_capacity(batch.events.len()),
            last_seq,
            seen: Vec::new(),
            unregistered: None,
            decided: Vec::with_capacity(batch.decisions.len()),
            afterlife: None,
        }
    }
}

/// What became of dead events, as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadAndRetrying {
    /// How many are dead, and not dismissed.
    pub dead: u64,
    /// Those that wait to be sent again.
    pub again: Vec<Seq>,
}

impl DeadAndRetrying {
    /// Reads it.
    pub async fn read(db: &impl ConnectionTrait) -> Result<Self, DbErr> {
        Ok(Self { dead: dead_events::count(db).await?, again: retries::open(db).await? })
    }
}

impl Batch {
    /// Whether it is what nearly all are: new events and checkpoints.
    fn is_plain(&self) -> bool {
        self.deaths.is_empty() && self.resent.is_empty() && self.decisions.is_empty()
    }
}

/// Whether so many events and what comes with them are written in one go. More would gain little, and would be so many texts
/// that few of them stay prepared.
pub fn is_small(events: usize) -> bool {
    events <= SMALL
}

const SMALL: usize = 64;

/// Writes the batch in one transaction, synced to disk when this returns. `last_seq` is the last place given so far, when
/// that is known: after a commit whose outcome is not known it is not, and is read again.
pub async fn commit(
    store: &Store,
    batch: &Batch,
    last_seq: Option<Seq>,
    context: &Context,
) -> Result<Committed, DbErr> {
    let plain = last_seq.filter(|_| batch.is_plain());
    let committed = match plain {
        Some(last_seq) => plainly(store, batch, last_seq, context).await,
        None => Ok(None),
    };
    let committed = match committed {
        Ok(Some(committed)) => Ok(committed),
        Ok(None) => step_by_step(store, batch, last_seq, context).await,
        Err(error) => Err(error),
    };
    if committed.is_err() {
        store.known.forget_all();
    }
    committed
}

/// Commits a plain batch, asking the database nothing; `None`, and nothing is written, when there is something to ask: a
/// camera that is not known, an event that the log holds already. Both are rare.
async fn plainly(
    store: &Store,
    batch: &Batch,
    last_seq: Seq,
    context: &Context,
) -> Result<Option<Committed>, DbErr> {
    let mut transaction = Transaction::new(&store.write).await?;
    let now = clock::now();
    let Some(mut cameras) = Cameras::known(&store.known, &batch.events, context.calendar, now) else {
        return Ok(None);
    };
    let mut committed = Committed::new(batch, last_seq);
    let new = place(&mut committed, &batch.events, &HashMap::new(), &mut cameras, now, &context.links);
    let mut writing = cameras.writing();
    let mut last: Vec<Statement> = Vec::new();
    for events in events::inserting(&committed.stored, &new) {
        if is_small(batch.events.len()) {
            last.push(events);
        } else if let Err(error) = transaction.carry_out(vec![events]).await {
            return if is_repeated(&error) { Ok(None) } else { Err(error) };
        }
    }
    last.append(&mut writing.statements);
    last.extend(deliveries::inserting(&batch.ranges, now));
    store.known.learn(writing.cameras());
    match transaction.carry_out_and_commit(last).await {
        Ok(answers) => {
            committed.seen = writing.written(&answers)?;
            Ok(Some(committed))
        }
        Err(error) if is_repeated(&error) => {
            store.known.forget_all();
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Commits any batch.
async fn step_by_step(
    store: &Store,
    batch: &Batch,
    last_seq: Option<Seq>,
    context: &Context,
) -> Result<Committed, DbErr> {
    let txn = store.write.begin().await?;
    let now = clock::now();
    let last = match last_seq {
        Some(seq) => seq,
        None => events::last_seq(&txn).await?,
    };
    let mut committed = Committed::new(batch, last);
    if !batch.events.is_empty() {
        let ids: Vec<EventId> = batch.events.iter().map(|event| event.event_id().clone()).collect();
        let known = events::find_ids(&txn, &ids).await?.into_iter().collect();
        let mut cameras =
            Cameras::of(&txn, &batch.events, context.calendar, context.max_cameras, now).await?;
        let new = place(&mut committed, &batch.events, &known, &mut cameras, now, &context.links);
        committed.unregistered = cameras.unregistered.first().cloned();
        for events in events::inserting(&committed.stored, &new) {
            txn.execute_raw(events).await?;
        }
        let mut writing = cameras.writing();
        let mut answers = Vec::new();
        for statement in std::mem::take(&mut writing.statements) {
            answers.extend(txn.query_all_raw(statement).await?);
        }
        store.known.learn(writing.cameras());
        committed.seen = writing.written(&answers)?;
    }
    if let Some(ranges) = deliveries::inserting(&batch.ranges, now) {
        txn.execute_raw(ranges).await?;
    }
    dead_events::insert(&txn, &batch.deaths).await?;
    retries::forget(&txn, batch.deaths.iter().map(|death| death.seq)).await?;
    retries::delivered(&txn, &batch.resent, now).await?;
    // After the deaths: what a commit noted whose outcome was not known is noted again before it is decided about.
    for (event_id, decision) in &batch.decisions {
        committed.decided.push(decide::decide(&txn, event_id, *decision, now).await?);
    }
    if last_seq.is_none() {
        committed.afterlife = Some(DeadAndRetrying::read(&txn).await?);
    }
    txn.commit().await?;
    Ok(committed)
}

/// Gives each new event the next place, and each repeated one the receipt of the first. Answers the ids of the new ones.
fn place<'a>(
    committed: &mut Committed,
    batch: &'a [DetectionEvent],
    known: &HashMap<EventId, Seq>,
    cameras: &mut Cameras,
    now: Timestamp,
    links: &Links,
) -> Vec<&'a EventId> {
    let mut new = Vec::with_capacity(batch.len());
    let mut placed = HashMap::with_capacity(batch.len());
    for event in batch {
        let event_id = event.event_id();
        if let Some(seq) = known.get(event_id).or_else(|| placed.get(event_id)) {
            committed.receipts.push(Receipt { event_id: event_id.clone(), seq: *seq, duplicate: true });
            continue;
        }
        let seq = committed.last_seq.next();
        committed.last_seq = seq;
        let payload = event.payload(&cameras.of_event(event), seq, &links.url(event_id, now));
        cameras.take(event, seq);
        committed.stored.push(StoredEvent {
            seq,
            camera_id: event.camera_id().clone(),
            occurred_at: event.timestamp(),
            received_at: now,
            payload: payload.into(),
        });
        placed.insert(event_id, seq);
        committed.receipts.push(Receipt { event_id: event_id.clone(), seq, duplicate: false });
        new.push(event_id);
    }
    new
}
