//! The table `seq_gaps`: positions that were given to events that are not in this database, because it is older than
//! the one that was used last. There is a row for each time that this happened, until retention removes it.

use sea_orm::{ConnectionTrait, DbErr};

use super::dialect;
use crate::domain::{event_log::SeqGap, ids::Seq};

/// Adds a gap. It is part of the log from then on: the next event follows it.
pub async fn insert(db: &impl ConnectionTrait, gap: SeqGap) -> Result<(), DbErr> {
    const SQL: &str = "INSERT INTO seq_gaps (first_seq, last_seq) VALUES (?, ?) ON CONFLICT DO NOTHING";
    let values = [gap.first.0.into(), gap.last.0.into()];
    db.execute_raw(dialect::statement(db, SQL, values)).await.map(drop)
}

/// Returns the gaps above `cursor`, in order.
pub async fn above(db: &impl ConnectionTrait, cursor: Seq) -> Result<Vec<SeqGap>, DbErr> {
    const SQL: &str = "SELECT first_seq, last_seq FROM seq_gaps WHERE last_seq > ? ORDER BY first_seq";
    let statement = dialect::statement(db, SQL, [cursor.0.into()]);
    let rows = db.query_all_raw(statement).await?;
    let gap = |row: &sea_orm::QueryResult| {
        Ok(SeqGap { first: Seq(row.try_get_by_index(0)?), last: Seq(row.try_get_by_index(1)?) })
    };
    rows.iter().map(gap).collect()
}

/// Removes the gaps before this position, whose neighbors are removed.
pub async fn delete_before(db: &impl ConnectionTrait, up_to: Seq) -> Result<(), DbErr> {
    const SQL: &str = "DELETE FROM seq_gaps WHERE last_seq < ?";
    let statement = dialect::statement(db, SQL, [up_to.0.into()]);
    db.execute_raw(statement).await.map(drop)
}
