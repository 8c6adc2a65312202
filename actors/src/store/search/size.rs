//! The number of events in the log. The index knows it for each of its blocks; the few other events are counted.

use sea_orm::{ConnectionTrait, DbErr};

use super::{BLOCK_BITS, first_of, last_of, statement};
use crate::{
    domain::{clock, event_log::LogSize},
    store::StoreError,
};

/// How many events are counted one by one. After an upgrade, until old events are in the index, there are more.
const MAX_COUNTED: i64 = 4 << BLOCK_BITS;
/// How many ranges of blocks that are not in the index are looked into.
const MAX_RANGES: usize = 16;

/// Returns the number of events, if it can be determined quickly, and when the oldest one was accepted.
pub async fn log_size(db: &impl ConnectionTrait) -> Result<LogSize, StoreError> {
    const OLDEST: &str = "SELECT received_at FROM events ORDER BY seq LIMIT 1";
    let oldest = db.query_one_raw(statement(db, OLDEST, [])).await?;
    let oldest = oldest.map(|row| row.try_get_by_index(0)).transpose()?;
    Ok(LogSize { events: count(db).await?, oldest: oldest.map(clock::from_micros) })
}

async fn count(db: &impl ConnectionTrait) -> Result<Option<u64>, DbErr> {
    const INDEXED: &str = "SELECT CAST(COALESCE(SUM(events), 0) AS BIGINT), MIN(block) FROM event_blocks";
    let row = db.query_one_raw(statement(db, INDEXED, [])).await?;
    let (mut events, first): (i64, Option<i64>) = match row {
        Some(row) => (row.try_get_by_index(0)?, row.try_get_by_index(1)?),
        None => (0, None),
    };
    let mut ranges = vec![(0, first.map_or(i64::MAX, |block| first_of(block) - 1))];
    ranges.extend(ranges_after_blocks(db).await?);
    if ranges.len() > MAX_RANGES {
        return Ok(None);
    }
    let mut budget = MAX_COUNTED;
    for (from, to) in ranges {
        let counted = count_range(db, from, to, budget + 1).await?;
        budget -= counted;
        if budget < 0 {
            return Ok(None);
        }
        events += counted;
    }
    Ok(u64::try_from(events).ok())
}

/// Returns the ranges of positions that follow a block of the index and are not in it, one more than are looked into.
async fn ranges_after_blocks(db: &impl ConnectionTrait) -> Result<Vec<(i64, i64)>, DbErr> {
    const RANGES: &str = "SELECT b.block + 1, (SELECT MIN(n.block) - 1 FROM event_blocks n WHERE n.block > b.block) \
        FROM event_blocks b WHERE NOT EXISTS (SELECT 1 FROM event_blocks n WHERE n.block = b.block + 1) \
        ORDER BY b.block LIMIT ?";
    let limit = i64::try_from(MAX_RANGES).unwrap_or(i64::MAX);
    let rows = db.query_all_raw(statement(db, RANGES, [limit.into()])).await?;
    let range = |row: &sea_orm::QueryResult| {
        let (first, last): (i64, Option<i64>) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        Ok((first_of(first), last.map_or(i64::MAX, last_of)))
    };
    rows.iter().map(range).collect()
}

/// Counts the events from a position to another one, up to `max`.
async fn count_range(db: &impl ConnectionTrait, from: i64, to: i64, max: i64) -> Result<i64, DbErr> {
    const COUNT: &str =
        "SELECT COUNT(*) FROM (SELECT 1 FROM events WHERE seq >= ? AND seq <= ? LIMIT ?) AS counted";
    let row = db.query_one_raw(statement(db, COUNT, [from.into(), to.into(), max.into()])).await?;
    row.map_or(Ok(0), |row| row.try_get_by_index(0))
}
