//! Removing what is settled and older than the retention, in small steps so that appends are not held up.

use std::time::Duration;

use sea_orm::{DbErr, TransactionTrait};

use super::{Store, dead_events, deliveries, events, retries};
use crate::domain::{clock::Timestamp, ids::Seq};

/// Rows a step: some milliseconds of the one writing connection.
const STEP: u64 = 500;
/// Between steps the writing connection is free for appends.
const PAUSE: Duration = Duration::from_millis(20);

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Everything up to this place is gone, now or by an earlier sweep; `None`: nothing is so old.
    pub up_to: Option<Seq>,
    /// Events.
    pub events: u64,
    /// Of them, dead ones that nobody had dismissed.
    pub dead: u64,
}

/// Removes events that were settled before `before`, with their deaths and checkpoints; those that wait to be sent again
/// stay.
pub async fn run(store: &Store, before: Timestamp) -> Result<Swept, DbErr> {
    let Some(up_to) = deliveries::settled_before(&store.read, before).await? else {
        return Ok(Swept::default());
    };
    let mut swept = Swept { up_to: Some(up_to), ..Swept::default() };
    loop {
        let step = events::delete_up_to(&store.write, up_to, STEP).await?;
        swept.events += step;
        if step == 0 {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    loop {
        let txn = store.write.begin().await?;
        let step = dead_events::delete_up_to(&txn, up_to, STEP).await?;
        txn.commit().await?;
        swept.dead += step.listed;
        if step.rows == 0 {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    while retries::delete_up_to(&store.write, up_to, STEP).await? > 0 {
        tokio::time::sleep(PAUSE).await;
    }
    while deliveries::delete_before(&store.write, up_to, STEP).await? > 0 {
        tokio::time::sleep(PAUSE).await;
    }
    Ok(swept)
}
