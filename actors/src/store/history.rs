//! The table `history`: the figures of the charts. A row covers one minute, or, after a day, a quarter of an hour.
//! There is no row for a period in which nothing happened.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, Value};

use super::dialect::{self, Existing, Insert, Type};
use crate::domain::{
    clock::{self, Timestamp},
    history::{Figures, MINUTES_KEPT, Period, QUARTER, QUARTERS_KEPT},
    numbers::saturate,
};

/// SQLite limits the number of parameters of a statement.
const ROWS_PER_STATEMENT: usize = 64;

fn period(row: &QueryResult) -> Result<Period, DbErr> {
    let count = |column: &str| row.try_get::<i64>("", column).map(saturate::<i64, u64>);
    let times: Vec<u8> = row.try_get("", "delivery_times")?;
    Ok(Period {
        at: row.try_get("", "at")?,
        span: row.try_get("", "span")?,
        log_time: row.try_get("", "log_time")?,
        figures: Figures {
            accepted: count("accepted")?,
            late: count("late")?,
            dead: count("dead")?,
            pending: count("pending")?,
            deliveries: decoded(&times),
        },
    })
}

/// Encodes numbers in as few bytes as possible: seven bits in each, the lowest first.
fn encoded(numbers: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let used = numbers.iter().rposition(|number| *number > 0).map_or(0, |last| last + 1);
    for mut number in numbers.iter().take(used).copied() {
        while number > 0x7f {
            bytes.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
            number >>= 7;
        }
        bytes.push(u8::try_from(number).unwrap_or(0));
    }
    bytes
}

fn decoded(bytes: &[u8]) -> Vec<u64> {
    let (mut numbers, mut number, mut shift) = (Vec::new(), 0u64, 0u32);
    for byte in bytes {
        number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        shift += 7;
        if byte & 0x80 == 0 {
            numbers.push(number);
            (number, shift) = (0, 0);
        }
    }
    numbers
}

/// Returns the periods that begin at `from` or later, in minutes since 1970.
pub async fn since(db: &impl ConnectionTrait, from: i64) -> Result<Vec<Period>, DbErr> {
    // The span comes first in the key, so each has its own search.
    const SQL: &str = "SELECT * FROM history WHERE span = 1 AND at >= ?1 \
        UNION ALL SELECT * FROM history WHERE span = 15 AND at >= ?1";
    let statement = dialect::statement(db, SQL, [from.into()]);
    db.query_all_raw(statement).await?.iter().map(period).collect()
}

/// Returns when the last period ends that begins before this minute.
pub async fn until(db: &impl ConnectionTrait, minute: i64) -> Result<Option<Timestamp>, DbErr> {
    const SQL: &str = "SELECT MAX(at + span) AS last FROM history WHERE at < ?";
    let statement = dialect::statement(db, SQL, [minute.into()]);
    let row = db.query_one_raw(statement).await?;
    let last: Option<i64> = row.map(|row| row.try_get("", "last")).transpose()?.flatten();
    Ok(last.map(|last| clock::from_micros(last.saturating_mul(60_000_000))))
}

/// Returns the minutes that begin before this one.
pub async fn minutes_before(db: &impl ConnectionTrait, minute: i64) -> Result<Vec<Period>, DbErr> {
    const SQL: &str = "SELECT * FROM history WHERE span = 1 AND at < ?";
    let statement = dialect::statement(db, SQL, [minute.into()]);
    db.query_all_raw(statement).await?.iter().map(period).collect()
}

/// Joins minutes to quarters of an hour, together with those that are stored.
pub async fn quarters(db: &impl ConnectionTrait, minutes: &[Period]) -> Result<Vec<Period>, DbErr> {
    const SQL: &str = "SELECT * FROM history WHERE span = 15 AND at >= ?";
    let Some(first) = minutes.iter().map(|minute| minute.at).min() else { return Ok(Vec::new()) };
    let start = first - first.rem_euclid(QUARTER);
    let statement = dialect::statement(db, SQL, [start.into()]);
    let stored = db.query_all_raw(statement).await?;
    let stored = stored.iter().map(period).collect::<Result<Vec<_>, _>>()?;
    let mut joined = std::collections::BTreeMap::<i64, Period>::new();
    for part in stored.into_iter().chain(minutes.iter().cloned()) {
        let at = part.at - part.at.rem_euclid(QUARTER);
        let empty = Period { at, span: QUARTER, log_time: part.log_time, figures: Figures::default() };
        let quarter = joined.entry(at).or_insert(empty);
        quarter.log_time = quarter.log_time.max(part.log_time);
        quarter.figures.add(&part.figures);
    }
    Ok(joined.into_values().filter(|quarter| !quarter.figures.is_zero()).collect())
}

/// Inserts or replaces periods.
const UPSERT: Insert<8> = Insert {
    table: "history",
    columns: [
        ("span", Type::Number),
        ("at", Type::Number),
        ("log_time", Type::Number),
        ("accepted", Type::Number),
        ("late", Type::Number),
        ("dead", Type::Number),
        ("pending", Type::Number),
        ("delivery_times", Type::Bytes),
    ],
    existing: Existing::IsReplaced(2),
};

/// Returns the statements that store these periods, and remove those that are too old or, because the clock was set
/// back, in the future. `now` is in minutes since 1970.
pub fn write_statements(backend: DbBackend, periods: &[Period], now: i64) -> Vec<Statement> {
    if periods.is_empty() {
        return Vec::new();
    }
    let row = |Period { at, span, log_time, figures }: &Period| {
        let Figures { accepted, late, dead, pending, deliveries } = figures;
        let count = |count: &u64| Value::from(saturate::<u64, i64>(*count));
        let times = Value::from(encoded(deliveries));
        let (span, at, log_time) = ((*span).into(), (*at).into(), (*log_time).into());
        [span, at, log_time, count(accepted), count(late), count(dead), count(pending), times]
    };
    let chunks = periods.chunks(ROWS_PER_STATEMENT);
    let inserts = chunks.map(|chunk| UPSERT.statement(backend, chunk.iter().map(row)));
    let remove = |span: i64, kept: i64| {
        const SQL: &str = "DELETE FROM history WHERE span = ? AND (at < ? OR at > ?)";
        let values = [span.into(), (now - kept).into(), now.into()];
        dialect::statement_for(backend, SQL, values)
    };
    inserts.chain([remove(1, MINUTES_KEPT), remove(QUARTER, QUARTERS_KEPT)]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_the_same_after_a_round_trip(numbers in proptest::collection::vec(any::<u64>(), 0..20)) {
            let mut decoded = decoded(&encoded(&numbers));
            decoded.resize(numbers.len(), 0);
            prop_assert_eq!(decoded, numbers);
        }
    }
}
