//! The table `deliveries`: the cursor, one row a checkpoint. A row covers the events from the row before it up to its own
//! `up_to_seq`.

use sea_orm::{
    ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Statement, Value,
    entity::prelude::*,
};

use super::statements::insertion;
use crate::domain::{
    clock::{self, Timestamp},
    delivery::SettledRange,
    ids::Seq,
};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "deliveries")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub up_to_seq: i64,
    pub acked_at: i64,
    /// Whether the events that the row covers went to `history`.
    pub late: bool,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Notes that the cursor has passed these runs.
pub fn inserting(ranges: &[SettledRange], acked_at: Timestamp) -> Option<Statement> {
    // A commit whose outcome was not known is written again.
    const INTO: &str = "INSERT OR IGNORE INTO deliveries (up_to_seq, acked_at, late)";
    let acked_at = clock::to_micros(acked_at);
    let rows = ranges.iter().map(|run| [Value::from(run.up_to.0), acked_at.into(), run.late.into()]);
    (!ranges.is_empty()).then(|| insertion(INTO, rows, ""))
}

/// The place up to which all events are settled.
pub async fn cursor(db: &impl ConnectionTrait) -> Result<Seq, DbErr> {
    let last: Option<Option<i64>> =
        Entity::find().select_only().column_as(Column::UpToSeq.max(), "last").into_tuple().one(db).await?;
    Ok(Seq(last.flatten().unwrap_or(0)))
}

/// The last place that was settled before `at`.
pub async fn settled_before(db: &impl ConnectionTrait, at: Timestamp) -> Result<Option<Seq>, DbErr> {
    let last: Option<Option<i64>> = Entity::find()
        .select_only()
        .column_as(Column::UpToSeq.max(), "last")
        .filter(Column::AckedAt.lt(clock::to_micros(at)))
        .into_tuple()
        .one(db)
        .await?;
    Ok(last.flatten().map(Seq))
}

/// How many events were delivered since `at`. Places are given without a gap, so that no event is read: only what was noted
/// since then.
pub async fn delivered_since(db: &impl ConnectionTrait, at: Timestamp) -> Result<u64, DbErr> {
    const SQL: &str = "WITH passed(first, last) AS (SELECT \
        COALESCE((SELECT up_to_seq FROM deliveries WHERE acked_at < ?1 ORDER BY up_to_seq DESC LIMIT 1), 0), \
        COALESCE((SELECT MAX(up_to_seq) FROM deliveries), 0)) \
        SELECT last - first \
        - (SELECT COUNT(*) FROM dead_events x WHERE x.seq > first AND x.seq <= last) \
        - (SELECT COUNT(*) FROM retries r WHERE r.seq > first AND r.seq <= last) \
        + (SELECT COUNT(*) FROM retries WHERE acked_at >= ?1) AS delivered FROM passed";
    let statement =
        Statement::from_sql_and_values(db.get_database_backend(), SQL, [clock::to_micros(at).into()]);
    let row = db.query_one_raw(statement).await?;
    let delivered: i64 = row.map(|row| row.try_get("", "delivered")).transpose()?.unwrap_or(0);
    Ok(u64::try_from(delivered).unwrap_or(0))
}

/// Removes up to `limit` rows before `up_to`, whose events are gone; the row of `up_to` itself stays, so that the cursor
/// does. Answers how many.
pub async fn delete_before(db: &impl ConnectionTrait, up_to: Seq, limit: u64) -> Result<u64, DbErr> {
    let rows: Vec<i64> = Entity::find()
        .select_only()
        .column(Column::UpToSeq)
        .filter(Column::UpToSeq.lt(up_to.0))
        .order_by_asc(Column::UpToSeq)
        .limit(limit)
        .into_tuple()
        .all(db)
        .await?;
    let Some(last) = rows.last() else { return Ok(0) };
    Ok(Entity::delete_many().filter(Column::UpToSeq.lte(*last)).exec(db).await?.rows_affected)
}
