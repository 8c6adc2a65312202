//! One transaction of the log: new events, deaths and checkpoints, all or nothing.

use std::collections::HashMap;

use sea_orm::{DatabaseConnection, DbErr, TransactionTrait};

use super::{dead_events, deliveries, events};
use crate::{
    clock::{self, Timestamp},
    event::DetectionEvent,
    ids::{EventId, Seq},
    outbox::{Receipt, Run, StoredEvent},
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
}

/// Writes the batch in one transaction, synced to disk when this returns. `last_seq` is the last place given so far, when
/// that is known: after a commit whose outcome is not known it is not, and is read again.
pub async fn commit(
    db: &DatabaseConnection,
    batch: &Batch,
    last_seq: Option<Seq>,
    links: &Links,
) -> Result<Committed, DbErr> {
    let txn = db.begin().await?;
    let now = clock::now();
    let mut committed = Committed {
        receipts: Vec::with_capacity(batch.events.len()),
        stored: Vec::with_capacity(batch.events.len()),
        last_seq: match last_seq {
            Some(seq) => seq,
            None => events::last_seq(&txn).await?,
        },
    };
    if !batch.events.is_empty() {
        let ids: Vec<EventId> = batch.events.iter().map(|event| event.event_id().clone()).collect();
        let known = events::find_ids(&txn, &ids).await?.into_iter().collect();
        let rows = place(&mut committed, &batch.events, known, now, links);
        events::insert(&txn, &rows).await?;
    }
    dead_events::insert(&txn, &batch.deaths).await?;
    deliveries::insert(&txn, &batch.runs, now).await?;
    txn.commit().await?;
    Ok(committed)
}

/// Gives each new event the next place, and each repeated one the receipt of the first.
fn place(
    committed: &mut Committed,
    batch: &[DetectionEvent],
    mut known: HashMap<EventId, Seq>,
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
        let stored = StoredEvent {
            seq,
            camera_id: event.camera_id().clone(),
            occurred_at: event.timestamp(),
            received_at: now,
            payload: event.payload(seq, &links.url(&event_id, now)).into(),
        };
        known.insert(event_id.clone(), seq);
        committed.receipts.push(Receipt { event_id: event_id.clone(), seq, duplicate: false });
        committed.stored.push(stored.clone());
        rows.push(events::NewRow { event: stored, event_id });
    }
    rows
}
