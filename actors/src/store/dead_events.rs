//! The table `dead_events`: events that will never be published, and why.

use sea_orm::{
    ActiveValue::Set, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, entity::prelude::*, sea_query::OnConflict,
};

use super::events;
use crate::domain::{
    clock::{self, Timestamp},
    delivery::DeadReason,
    ids::Seq,
};

const ROWS_PER_STATEMENT: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "dead_events")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i64,
    pub reason: String,
    pub at: i64,
    /// When somebody had seen it; it is not listed any more since.
    pub dismissed_at: Option<i64>,
    /// As in `events`, so that those of one camera are found.
    pub camera_id: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// One death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadEvent {
    /// Of which event.
    pub seq: Seq,
    /// Why.
    pub reason: DeadReason,
    /// When.
    pub at: Timestamp,
}

/// Notes deaths.
pub async fn insert(db: &impl ConnectionTrait, deaths: &[DeadEvent]) -> Result<(), DbErr> {
    for chunk in deaths.chunks(ROWS_PER_STATEMENT) {
        let mut cameras = events::cameras_at(db, chunk.iter().map(|death| death.seq)).await?;
        let models = chunk.iter().map(|death| ActiveModel {
            seq: Set(death.seq.0),
            reason: Set(death.reason.as_str().to_owned()),
            at: Set(clock::to_micros(death.at)),
            dismissed_at: Set(None),
            camera_id: Set(cameras.remove(&death.seq)),
        });
        // A commit whose outcome was not known is written again.
        let again = OnConflict::column(Column::Seq).do_nothing().to_owned();
        Entity::insert_many(models).on_conflict(again).exec_without_returning(db).await?;
    }
    Ok(())
}

/// How many there are that nobody has dismissed.
pub async fn count(db: &impl ConnectionTrait) -> Result<u64, DbErr> {
    Entity::find().filter(Column::DismissedAt.is_null()).count(db).await
}

/// The dead events above a place.
pub async fn above(db: &impl ConnectionTrait, cursor: Seq) -> Result<Vec<Seq>, DbErr> {
    let rows: Vec<i64> = Entity::find()
        .select_only()
        .column(Column::Seq)
        .filter(Column::Seq.gt(cursor.0))
        .order_by_asc(Column::Seq)
        .into_tuple()
        .all(db)
        .await?;
    Ok(rows.into_iter().map(Seq).collect())
}

/// What one step removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Deaths.
    pub rows: u64,
    /// Those of them that nobody had dismissed.
    pub listed: u64,
}

/// Removes up to `limit` of the deaths up to `up_to`; to be called in a transaction.
pub async fn delete_up_to(db: &impl ConnectionTrait, up_to: Seq, limit: u64) -> Result<Removed, DbErr> {
    let rows: Vec<(i64, Option<i64>)> = Entity::find()
        .select_only()
        .columns([Column::Seq, Column::DismissedAt])
        .filter(Column::Seq.lte(up_to.0))
        .order_by_asc(Column::Seq)
        .limit(limit)
        .into_tuple()
        .all(db)
        .await?;
    let Some((last, _)) = rows.last() else { return Ok(Removed::default()) };
    Entity::delete_many().filter(Column::Seq.lte(*last)).exec(db).await?;
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let listed = rows.iter().filter(|(_, dismissed_at)| dismissed_at.is_none()).count();
    Ok(Removed { rows: count(rows.len()), listed: count(listed) })
}
