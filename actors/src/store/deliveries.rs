//! The table `deliveries`: the checkpoints of the cursor. A row covers the events after the previous row's
//! `up_to_seq`, up to its own. Its time is that of the acknowledgements. It can be earlier than that of the row
//! before it, because a broker may acknowledge events in any order.

use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Statement, Value,
    entity::prelude::*,
};

use super::dialect::{self, Existing, Insert, Type};
use crate::domain::{
    clock::{self, LogTime, Timestamp},
    delivery::{SettledRange, Settlement},
    ids::Seq,
};

/// SQLite limits the number of parameters of a statement.
const ROWS_PER_STATEMENT: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "deliveries")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub up_to_seq: i64,
    pub acked_at: i64,
    /// Whether the events that the row covers were published to the history topic.
    pub late: bool,
    pub log_time: Option<i64>,
    /// Whether they had a subscriber; null if that is not known.
    pub heard: Option<bool>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Records that the cursor has passed ranges. A commit with an unknown outcome is repeated, so that the rows may
/// already exist.
pub const INSERT: Insert<5> = Insert {
    table: "deliveries",
    columns: [
        ("up_to_seq", Type::Number),
        ("acked_at", Type::Number),
        ("late", Type::Truth),
        ("log_time", Type::Number),
        ("heard", Type::Truth),
    ],
    existing: Existing::Stays,
};

/// Returns the statements that record that the cursor has passed these ranges; none if there are no ranges.
pub fn insert_statements(backend: DbBackend, ranges: &[SettledRange]) -> impl Iterator<Item = Statement> {
    ranges.chunks(ROWS_PER_STATEMENT).map(move |chunk| INSERT.statement(backend, chunk.iter().map(row)))
}

/// Returns the row of a range.
pub fn row(range: &SettledRange) -> [Value; 5] {
    let SettledRange { up_to, settlement: Settlement { at, late, heard } } = range;
    let (acked_at, log_time) = (clock::to_micros(at.wall), at.log.0);
    [Value::from(up_to.0), acked_at.into(), (*late).into(), log_time.into(), (*heard).into()]
}

/// Returns the position up to which all events are settled.
pub async fn cursor(db: &impl ConnectionTrait) -> Result<Seq, DbErr> {
    let last: Option<Option<i64>> =
        Entity::find().select_only().column_as(Column::UpToSeq.max(), "last").into_tuple().one(db).await?;
    Ok(Seq(last.flatten().unwrap_or(0)))
}

/// Returns the last position such that it and all before it were settled before `time`. Of rows that were
/// written before log times were stored, the wall-clock time counts.
pub async fn settled_before(db: &impl ConnectionTrait, time: LogTime) -> Result<Option<Seq>, DbErr> {
    const SQL: &str = "SELECT MAX(up_to_seq) AS last FROM deliveries WHERE up_to_seq < COALESCE( \
        (SELECT up_to_seq FROM deliveries WHERE COALESCE(log_time, acked_at) >= ? ORDER BY up_to_seq LIMIT 1), \
        9223372036854775807)";
    let statement = dialect::statement(db, SQL, [time.0.into()]);
    let row = db.query_one_raw(statement).await?;
    let last: Option<i64> = row.map(|row| row.try_get("", "last")).transpose()?.flatten();
    Ok(last.map(Seq))
}

/// Returns the number of events that were delivered since `time`. Because all gaps between positions are known,
/// this reads only the checkpoints, deaths and retries since then, what was delivered ahead of the cursor, and no
/// events. Events that the broker acknowledged out of order around `time` may be missing.
pub async fn delivered_since(db: &impl ConnectionTrait, time: Timestamp) -> Result<u64, DbErr> {
    const SQL: &str = "WITH passed(first, last) AS (SELECT \
        COALESCE((SELECT up_to_seq FROM deliveries WHERE acked_at < ?1 ORDER BY up_to_seq DESC LIMIT 1), 0), \
        COALESCE((SELECT MAX(up_to_seq) FROM deliveries), 0)) \
        SELECT last - first \
        - (SELECT COUNT(*) FROM dead_events x WHERE x.seq > first AND x.seq <= last) \
        - (SELECT COUNT(*) FROM retries r WHERE r.seq > first AND r.seq <= last) \
        - CAST((SELECT COALESCE(SUM(MIN(g.last_seq, last) - MAX(g.first_seq - 1, first)), 0) FROM seq_gaps g \
           WHERE g.last_seq > first AND g.first_seq <= last) AS BIGINT) \
        - CAST((SELECT COALESCE(SUM(MIN(a.last_seq, last) - MAX(a.first_seq - 1, first)), 0) \
           FROM deliveries_ahead a WHERE a.last_seq > first AND a.first_seq <= last) AS BIGINT) \
        + CAST((SELECT COALESCE(SUM(last_seq - first_seq + 1), 0) FROM deliveries_ahead WHERE acked_at >= ?1) \
          AS BIGINT) \
        + (SELECT COUNT(*) FROM retries WHERE acked_at >= ?1) AS delivered FROM passed";
    let statement = dialect::statement(db, SQL, [clock::to_micros(time).into()]);
    let row = db.query_one_raw(statement).await?;
    let delivered: i64 = row.map(|row| row.try_get("", "delivered")).transpose()?.unwrap_or(0);
    Ok(u64::try_from(delivered).unwrap_or(0))
}

/// Removes up to `limit` rows before `up_to`, whose events are removed. The row of `up_to` itself is kept,
/// because it may be the cursor. Returns the number of removed rows.
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
