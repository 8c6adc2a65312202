//! The table `deliveries_ahead`: ranges of events that were delivered before the cursor reached them, because they
//! were live and a backlog was late. Their rows take precedence over those in `deliveries`.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement, Value};

use super::dialect::{self, Existing, Insert, Type};
use crate::domain::{
    clock,
    delivery::{SettledAhead, Settlement},
    ids::Seq,
};

/// SQLite limits the number of parameters of a statement.
const ROWS_PER_STATEMENT: usize = 256;

/// Records ranges. A commit with an unknown outcome is repeated, and its last range may have become longer.
pub const INSERT: Insert<5> = Insert {
    table: "deliveries_ahead",
    columns: [
        ("first_seq", Type::Number),
        ("last_seq", Type::Number),
        ("acked_at", Type::Number),
        ("late", Type::Truth),
        ("heard", Type::Truth),
    ],
    existing: Existing::Changes(
        " ON CONFLICT (first_seq) DO UPDATE SET last_seq = MAX(deliveries_ahead.last_seq, excluded.last_seq)",
    ),
};

/// Returns the statements that record these ranges; none if there are none.
pub fn insert_statements(backend: DbBackend, ranges: &[SettledAhead]) -> impl Iterator<Item = Statement> {
    ranges.chunks(ROWS_PER_STATEMENT).map(move |chunk| INSERT.statement(backend, chunk.iter().map(row)))
}

/// Returns the row of a range.
pub fn row(range: &SettledAhead) -> [Value; 5] {
    let SettledAhead { first, last, settlement: Settlement { at, late, heard } } = range;
    let acked_at = clock::to_micros(at.wall);
    [Value::from(first.0), last.0.into(), acked_at.into(), (*late).into(), (*heard).into()]
}

/// Returns the ranges above `cursor`, in order.
pub async fn above(db: &impl ConnectionTrait, cursor: Seq) -> Result<Vec<(Seq, Seq)>, DbErr> {
    const SQL: &str = "SELECT first_seq, last_seq FROM deliveries_ahead WHERE last_seq > ?1 AND first_seq >= \
        COALESCE((SELECT MAX(first_seq) FROM deliveries_ahead WHERE first_seq <= ?1), 0) ORDER BY first_seq";
    let statement = dialect::statement(db, SQL, [cursor.0.into()]);
    let rows = db.query_all_raw(statement).await?;
    rows.iter().map(|row| Ok((Seq(row.try_get_by_index(0)?), Seq(row.try_get_by_index(1)?)))).collect()
}

/// Removes up to `limit` ranges up to this position, whose events are removed. Returns the number of removed rows.
pub async fn delete_up_to(db: &impl ConnectionTrait, up_to: Seq, limit: u64) -> Result<u64, DbErr> {
    const SQL: &str = "DELETE FROM deliveries_ahead WHERE first_seq IN \
        (SELECT first_seq FROM deliveries_ahead WHERE first_seq <= ?1 AND last_seq <= ?1 ORDER BY first_seq LIMIT ?2)";
    let values = [up_to.0.into(), limit.into()];
    let statement = dialect::statement(db, SQL, values);
    Ok(db.execute_raw(statement).await?.rows_affected())
}
