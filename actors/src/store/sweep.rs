//! Removes events that are settled and older than the retention period. Works in small steps, so that commits
//! are not delayed.

use std::time::Duration;

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, QueryTrait as _, TransactionTrait,
};

use super::{Store, dead_events, deliveries, events, retries};
use crate::domain::{clock::Timestamp, ids::Seq};

/// Rows per step. A step occupies the writing connection for a few milliseconds.
const STEP: u64 = 500;
/// The pause between two steps, in which the writing connection is free for commits.
const PAUSE: Duration = Duration::from_millis(20);

/// The result of a sweep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// All events up to this position are removed, by this or by an earlier sweep. `None` if no event is old
    /// enough.
    pub up_to: Option<Seq>,
    /// The number of events removed.
    pub events: u64,
    /// The number of dead events among them that were not dismissed.
    pub dead: u64,
}

/// Removes events that were settled before `before`, with their rows in the other tables. Events that are
/// waiting for a retry are kept.
pub async fn run(store: &Store, before: Timestamp) -> Result<Swept, DbErr> {
    let Some(up_to) = deliveries::settled_before(&store.read, before).await? else {
        return Ok(Swept::default());
    };
    let mut swept = Swept { up_to: Some(up_to), ..Swept::default() };
    loop {
        let step = delete_events(&store.write, up_to, STEP).await?;
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

/// Removes up to `limit` of the oldest events up to `up_to`, except those that are waiting for a retry.
/// Returns their number.
async fn delete_events(db: &impl ConnectionTrait, up_to: Seq, limit: u64) -> Result<u64, DbErr> {
    use events::{Column, Entity};

    let retrying = retries::Entity::find()
        .select_only()
        .column(retries::Column::Seq)
        .filter(retries::Column::AckedAt.is_null())
        .into_query();
    let last: Option<i64> = Entity::find()
        .select_only()
        .column(Column::Seq)
        .filter(Column::Seq.lte(up_to.0))
        .filter(Column::Seq.not_in_subquery(retrying.clone()))
        .order_by_asc(Column::Seq)
        .limit(limit)
        .into_tuple()
        .all(db)
        .await?
        .into_iter()
        .last();
    let Some(last) = last else { return Ok(0) };
    let old =
        Entity::delete_many().filter(Column::Seq.lte(last)).filter(Column::Seq.not_in_subquery(retrying));
    Ok(old.exec(db).await?.rows_affected)
}
