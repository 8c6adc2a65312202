//! The table `retries`: dead events that somebody wants to be sent again. A row takes the place of the event's death: while
//! `acked_at` is not known the event waits, afterwards it is delivered. When it dies again the row goes, and the death is
//! back.

use sea_orm::{
    ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    entity::prelude::*,
    sea_query::{Expr, OnConflict},
};

use super::events;
use crate::domain::{
    clock::{self, Timestamp},
    delivery::Resent,
    event_log::StoredEvent,
    ids::Seq,
};

const ROWS_PER_STATEMENT: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "retries")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i64,
    pub asked_at: i64,
    pub acked_at: Option<i64>,
    pub late: bool,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// An event that is to be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryingEvent {
    /// The event.
    pub event: StoredEvent,
    /// When that was asked for.
    pub asked_at: Timestamp,
}

/// Notes that an event waits to be sent again.
pub async fn insert(db: &impl ConnectionTrait, seq: Seq, asked_at: Timestamp) -> Result<(), DbErr> {
    let model = Model { seq: seq.0, asked_at: clock::to_micros(asked_at), acked_at: None, late: false };
    // One that was delivered after an earlier retry cannot have died since; a row that is there all the same is replaced.
    let again = OnConflict::column(Column::Seq)
        .update_columns([Column::AskedAt, Column::AckedAt, Column::Late])
        .to_owned();
    Entity::insert(ActiveModel::from(model).reset_all())
        .on_conflict(again)
        .exec_without_returning(db)
        .await?;
    Ok(())
}

/// Notes which of them were acknowledged.
pub async fn delivered(
    db: &impl ConnectionTrait,
    resent: &[Resent],
    acked_at: Timestamp,
) -> Result<(), DbErr> {
    for Resent { seq, late } in resent {
        Entity::update_many()
            .col_expr(Column::AckedAt, Expr::value(clock::to_micros(acked_at)))
            .col_expr(Column::Late, Expr::value(*late))
            .filter(Column::Seq.eq(seq.0))
            .exec(db)
            .await?;
    }
    Ok(())
}

/// Removes the rows of events that died again.
pub async fn forget(db: &impl ConnectionTrait, dead: impl Iterator<Item = Seq>) -> Result<(), DbErr> {
    let dead: Vec<i64> = dead.map(|seq| seq.0).collect();
    for chunk in dead.chunks(ROWS_PER_STATEMENT) {
        Entity::delete_many().filter(Column::Seq.is_in(chunk.iter().copied())).exec(db).await?;
    }
    Ok(())
}

/// The places of those that wait.
pub async fn open(db: &impl ConnectionTrait) -> Result<Vec<Seq>, DbErr> {
    let rows = Entity::find()
        .select_only()
        .column(Column::Seq)
        .filter(Column::AckedAt.is_null())
        .order_by_asc(Column::Seq);
    let rows: Vec<i64> = rows.into_tuple().all(db).await?;
    Ok(rows.into_iter().map(Seq).collect())
}

/// The places above `cursor`, of those that wait and those that were delivered.
pub async fn above(db: &impl ConnectionTrait, cursor: Seq) -> Result<Vec<Seq>, DbErr> {
    let rows = Entity::find().select_only().column(Column::Seq).filter(Column::Seq.gt(cursor.0));
    let rows: Vec<i64> = rows.into_tuple().all(db).await?;
    Ok(rows.into_iter().map(Seq).collect())
}

/// The events at these places that wait, in order.
pub async fn read(db: &impl ConnectionTrait, seqs: &[Seq]) -> Result<Vec<RetryingEvent>, DbErr> {
    let waiting = Entity::find()
        .filter(Column::Seq.is_in(seqs.iter().map(|seq| seq.0)))
        .filter(Column::AckedAt.is_null())
        .order_by_asc(Column::Seq)
        .all(db)
        .await?;
    let places: Vec<Seq> = waiting.iter().map(|row| Seq(row.seq)).collect();
    let events = events::at(db, &places).await?;
    let asked_at = |seq: Seq| waiting.iter().find(|row| row.seq == seq.0).map(|row| row.asked_at);
    let again = |event: StoredEvent| {
        Some(RetryingEvent { asked_at: clock::from_micros(asked_at(event.seq)?), event })
    };
    Ok(events.into_iter().filter_map(again).collect())
}

/// Removes up to `limit` rows up to `up_to` of those that were delivered; answers how many.
pub async fn delete_up_to(db: &impl ConnectionTrait, up_to: Seq, limit: u64) -> Result<u64, DbErr> {
    let rows: Vec<i64> = Entity::find()
        .select_only()
        .column(Column::Seq)
        .filter(Column::Seq.lte(up_to.0))
        .filter(Column::AckedAt.is_not_null())
        .order_by_asc(Column::Seq)
        .limit(limit)
        .into_tuple()
        .all(db)
        .await?;
    let Some(last) = rows.last() else { return Ok(0) };
    let done = Entity::delete_many().filter(Column::Seq.lte(*last)).filter(Column::AckedAt.is_not_null());
    Ok(done.exec(db).await?.rows_affected)
}
