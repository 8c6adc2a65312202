//! The table `retries`: dead events that a user wants to send again. The row replaces the one in
//! `dead_events`. While `acked_at` is null, the event is pending; afterwards, it is delivered. If it dies
//! again, the row is removed and the event returns to `dead_events`.

use sea_orm::{
    ConnectionTrait, DbErr, EntityTrait, Iterable as _, QueryFilter, QueryOrder, QuerySelect,
    entity::prelude::*,
    sea_query::{Expr, OnConflict},
};

use super::{StoreError, page};
use crate::domain::{
    clock::{self, LogTime, Moment},
    delivery::{Resent, Settlement},
    event_log::{LogRow, StoredEvent},
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
    pub asked_log_time: Option<i64>,
    pub acked_log_time: Option<i64>,
    pub heard: Option<bool>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// An event that is waiting for a retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryingEvent {
    /// The event.
    pub event: StoredEvent,
    /// When the retry was requested.
    pub asked: LogTime,
}

/// Adds an event that is waiting for a retry.
pub async fn insert(db: &impl ConnectionTrait, seq: Seq, now: Moment) -> Result<(), DbErr> {
    let model = Model {
        seq: seq.0,
        asked_at: clock::to_micros(now.wall),
        acked_at: None,
        late: false,
        asked_log_time: Some(now.log.0),
        acked_log_time: None,
        heard: None,
    };
    // An event that was delivered by an earlier retry cannot die again. If a row exists nevertheless, it is
    // replaced.
    let replace = OnConflict::column(Column::Seq)
        .update_columns(Column::iter().filter(|column| !matches!(column, Column::Seq)))
        .to_owned();
    Entity::insert(ActiveModel::from(model).reset_all())
        .on_conflict(replace)
        .exec_without_returning(db)
        .await?;
    Ok(())
}

/// Marks retried events as acknowledged.
pub async fn mark_delivered(db: &impl ConnectionTrait, resent: &[Resent]) -> Result<(), DbErr> {
    for Resent { seq, settlement: Settlement { at, late, heard } } in resent {
        Entity::update_many()
            .col_expr(Column::AckedAt, Expr::value(clock::to_micros(at.wall)))
            .col_expr(Column::AckedLogTime, Expr::value(at.log.0))
            .col_expr(Column::Late, Expr::value(*late))
            .col_expr(Column::Heard, Expr::value(*heard))
            .filter(Column::Seq.eq(seq.0))
            .exec(db)
            .await?;
    }
    Ok(())
}

/// Removes the rows of events that died again.
pub async fn delete(db: &impl ConnectionTrait, dead: impl Iterator<Item = Seq>) -> Result<(), DbErr> {
    let dead: Vec<i64> = dead.map(|seq| seq.0).collect();
    for chunk in dead.chunks(ROWS_PER_STATEMENT) {
        Entity::delete_many().filter(Column::Seq.is_in(chunk.iter().copied())).exec(db).await?;
    }
    Ok(())
}

/// Returns the positions of the events that are waiting for a retry.
pub async fn waiting(db: &impl ConnectionTrait) -> Result<Vec<Seq>, DbErr> {
    let rows = Entity::find()
        .select_only()
        .column(Column::Seq)
        .filter(Column::AckedAt.is_null())
        .order_by_asc(Column::Seq);
    let rows: Vec<i64> = rows.into_tuple().all(db).await?;
    Ok(rows.into_iter().map(Seq).collect())
}

/// Returns the positions above `cursor` of all retried events, both waiting and delivered.
pub async fn above(db: &impl ConnectionTrait, cursor: Seq) -> Result<Vec<Seq>, DbErr> {
    let rows = Entity::find().select_only().column(Column::Seq).filter(Column::Seq.gt(cursor.0));
    let rows: Vec<i64> = rows.into_tuple().all(db).await?;
    Ok(rows.into_iter().map(Seq).collect())
}

/// Reads the events at these positions that are waiting for a retry, in order. Leaves out those that are
/// damaged or missing.
pub async fn read(db: &impl ConnectionTrait, seqs: &[Seq]) -> Result<Vec<RetryingEvent>, StoreError> {
    let waiting = Entity::find()
        .filter(Column::Seq.is_in(seqs.iter().map(|seq| seq.0)))
        .filter(Column::AckedAt.is_null())
        .order_by_asc(Column::Seq)
        .all(db)
        .await?;
    let positions: Vec<Seq> = waiting.iter().map(|row| Seq(row.seq)).collect();
    let retrying = |row: LogRow| {
        let LogRow::Event(event) = row else { return None };
        let retry = waiting.iter().find(|retry| retry.seq == event.seq.0)?;
        Some(RetryingEvent { asked: LogTime(retry.asked_log_time.unwrap_or(retry.asked_at)), event })
    };
    Ok(page::read_at(db, &positions).await?.into_iter().filter_map(retrying).collect())
}
