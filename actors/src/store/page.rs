//! Reads a page of the event log. With SQLite, it is a single row: passing a row from the database's thread to the
//! caller's takes longer than reading it.

use bytes::Bytes;
use sea_orm::{ConnectionTrait, DbBackend};

use super::{StoreError, dialect, events};

use crate::domain::{
    event_log::{EventPage, LogRow, StoredEvent},
    ids::{CameraId, Seq},
};

/// For each event, returns a line of numbers, followed by the two columns whose lengths are in that line. The
/// result is a blob, because a payload need not be valid text for SQLite. A row with a column that is NULL would
/// be left out silently; instead it makes the page malformed.
const SQL: &str = "SELECT CAST(group_concat(COALESCE(\
        seq || ' ' || occurred_at || ' ' || received_at || ' ' || COALESCE(log_time, received_at) || ' ' \
        || octet_length(camera_id) || ' ' || octet_length(payload) || char(10) \
        || camera_id || CAST(payload AS TEXT), 'damaged'), '') AS BLOB) \
    FROM (SELECT * FROM events WHERE seq >= ? ORDER BY seq LIMIT ?)";

/// Reads up to `limit` rows from the position `from` on, in order. Their payloads share one allocation.
///
/// If the database is damaged there, the rows are read one at a time instead, so that only the damaged ones
/// are unreadable. `last` is the last position in the log.
pub async fn read(
    db: &impl ConnectionTrait,
    from: Seq,
    limit: u64,
    last: Seq,
) -> Result<EventPage, StoreError> {
    match read_all(db, from, limit).await {
        Ok(Some(rows)) => {
            let is_full = u64::try_from(rows.len()).is_ok_and(|rows| rows >= limit);
            let end = rows.last().filter(|_| is_full).map(LogRow::seq);
            Ok(EventPage { rows, end })
        }
        Ok(None) => read_one_by_one(db, from, limit, last).await,
        Err(error) if error.is_corruption() => read_one_by_one(db, from, limit, last).await,
        Err(error) => Err(error),
    }
}

/// Returns `None` if the page cannot be split into rows.
async fn read_all(
    db: &impl ConnectionTrait,
    from: Seq,
    limit: u64,
) -> Result<Option<Vec<LogRow>>, StoreError> {
    if db.get_database_backend() == DbBackend::Postgres {
        return Ok(Some(events::from(db, from, limit).await?));
    }
    let values = [from.0.into(), limit.into()];
    let statement = dialect::statement(db, SQL, values);
    let row = db.query_one_raw(statement).await?;
    let page: Option<Vec<u8>> = row.map_or(Ok(None), |row| row.try_get_by_index(0))?;
    let Some(page) = page else { return Ok(Some(Vec::new())) };
    let Some(mut rows) = unpack(page.into()) else { return Ok(None) };
    // In practice they are in order, but SQLite does not guarantee it.
    rows.sort_by_key(LogRow::seq);
    Ok(Some(rows))
}

async fn read_one_by_one(
    db: &impl ConnectionTrait,
    from: Seq,
    limit: u64,
    last: Seq,
) -> Result<EventPage, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let end = Seq(from.0.saturating_add(limit - 1)).min(last);
    let mut rows = Vec::new();
    for seq in from.0..=end.0 {
        rows.extend(read_one(db, Seq(seq)).await?);
    }
    Ok(EventPage { rows, end: Some(end).filter(|end| *end < last) })
}

/// Reads the rows at these positions, in order. Missing rows are left out.
pub async fn read_at(db: &impl ConnectionTrait, seqs: &[Seq]) -> Result<Vec<LogRow>, StoreError> {
    match events::at(db, seqs).await.map_err(StoreError::from) {
        Err(error) if error.is_damaged_row() => {
            let mut rows = Vec::new();
            for seq in seqs {
                rows.extend(read_one(db, *seq).await?);
            }
            Ok(rows)
        }
        rows => rows,
    }
}

/// Reads the row at a position. Returns `None` if there is none.
async fn read_one(db: &impl ConnectionTrait, seq: Seq) -> Result<Option<LogRow>, StoreError> {
    match events::at(db, &[seq]).await.map_err(StoreError::from) {
        Ok(rows) => Ok(rows.into_iter().next()),
        Err(error) if error.is_damaged_row() => Ok(Some(LogRow::Unreadable(seq))),
        Err(error) => Err(error),
    }
}

/// Splits a page into its rows. Returns `None` if the page does not have the format of [`SQL`]. A row with an
/// invalid camera id is unreadable: ids are checked on acceptance, so the row was changed since.
fn unpack(mut page: Bytes) -> Option<Vec<LogRow>> {
    let mut rows = Vec::new();
    while !page.is_empty() {
        let end = page.iter().position(|byte| *byte == b'\n')?;
        let line = page.split_to(end + 1);
        let mut numbers = std::str::from_utf8(&line).ok()?.trim_end().split(' ').map(str::parse::<i64>);
        let mut number = || numbers.next()?.ok();
        let (seq, occurred_at, received_at, log_time) = (number()?, number()?, number()?, number()?);
        let mut column = || {
            let length = usize::try_from(number()?).ok()?;
            (length <= page.len()).then(|| page.split_to(length))
        };
        let (camera_id, payload) = (column()?, column()?);
        let camera_id = std::str::from_utf8(&camera_id).ok().and_then(|id| CameraId::parse(id).ok());
        let event = camera_id.map(|camera_id| StoredEvent {
            seq: Seq(seq),
            camera_id,
            times: events::times(occurred_at, received_at, Some(log_time)),
            payload,
        });
        rows.push(event.map_or(LogRow::Unreadable(Seq(seq)), LogRow::Event));
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock;
    use crate::{store::Store, testing::database::TestDatabase};

    /// Creates a log of these rows, with payloads as in SQLite.
    async fn store_of(database: &TestDatabase, rows: &str) -> Store {
        let store = database.open().await;
        let insert =
            "INSERT INTO events(seq, event_id, camera_id, occurred_at, received_at, payload) VALUES ";
        store.execute(&format!("{insert}{rows}")).await.unwrap();
        store
    }

    async fn page(store: &Store, from: i64, limit: u64) -> Vec<StoredEvent> {
        let page = read(&store.read, Seq(from), limit, Seq(100)).await.unwrap();
        let readable = |row| match row {
            LogRow::Event(event) => event,
            LogRow::Unreadable(seq) => panic!("{seq:?} is unreadable"),
        };
        page.rows.into_iter().map(readable).collect()
    }

    fn seen(page: &[StoredEvent]) -> Vec<(i64, &str, i64, i64, &[u8])> {
        let micros = clock::to_micros;
        let row = |event: &'_ StoredEvent| {
            (event.seq.0, micros(event.times.occurred_at), micros(event.times.received_at))
        };
        page.iter()
            .map(|event| {
                let (seq, occurred_at, received_at) = row(event);
                (seq, event.camera_id.as_str(), occurred_at, received_at, event.payload.as_ref())
            })
            .collect()
    }

    #[tokio::test]
    async fn a_page_is_in_order_and_has_the_requested_length() {
        for database in TestDatabase::each() {
            let rows = "(9,'e9','c',7,-8,x''), (2,'e2','a_b-C',1,2,x'7b7d'), \
                (5,'e5','x',3,4,x'7b2261223a22c3bc200a227d')";
            let store = store_of(&database, rows).await;
            let all = page(&store, 1, 10).await;
            let text = "{\"a\":\"ü \n\"}".as_bytes();
            assert_eq!(
                seen(&all),
                [(2, "a_b-C", 1, 2, b"{}".as_slice()), (5, "x", 3, 4, text), (9, "c", 7, -8, b"")]
            );
            assert_eq!(seen(&page(&store, 3, 1).await), [(5, "x", 3, 4, text)]);
            assert_eq!(page(&store, 10, 10).await, []);
        }
    }

    #[tokio::test]
    async fn an_event_without_a_log_time_has_that_of_its_wall_clock() {
        for database in TestDatabase::each() {
            let store = store_of(&database, "(1,'a','c',1,2,x''), (2,'b','c',1,2,x'')").await;
            store.write.execute_unprepared("UPDATE events SET log_time = 7 WHERE seq = 2").await.unwrap();
            let all = page(&store, 0, 10).await;
            assert_eq!(all.iter().map(|event| event.times.accepted.0).collect::<Vec<_>>(), [2, 7]);
        }
    }

    #[tokio::test]
    async fn payloads_may_contain_any_bytes() {
        for database in TestDatabase::each() {
            let store =
                store_of(&database, "(1,'a','c',1,1,x'00ff0a0031203120310a'), (2,'b','c',1,1,x'0a')").await;
            let all = page(&store, 0, 10).await;
            assert_eq!(all[0].payload.as_ref(), b"\0\xff\n\x001 1 1\n");
            assert_eq!(all[1].payload.as_ref(), b"\n");
        }
    }

    #[tokio::test]
    async fn only_rows_with_an_invalid_camera_id_are_unreadable() {
        for database in TestDatabase::each() {
            let store =
                store_of(&database, "(1,'a','',1,1,x''), (2,'b','no id\n',1,1,x''), (3,'c','c',1,1,x'')")
                    .await;
            let EventPage { rows, end } = read(&store.read, Seq(0), 10, Seq(3)).await.unwrap();
            assert_eq!(rows[..2], [LogRow::Unreadable(Seq(1)), LogRow::Unreadable(Seq(2))]);
            assert!(matches!(&rows[2..], [LogRow::Event(event)] if event.seq == Seq(3)), "{rows:?}");
            assert_eq!(end, None);
            let full = read(&store.read, Seq(0), 2, Seq(3)).await.unwrap();
            assert_eq!((full.rows.len(), full.end), (2, Some(Seq(2))), "there may be more");
        }
    }

    #[tokio::test]
    async fn rows_that_are_read_one_at_a_time_are_the_same() {
        for database in TestDatabase::each() {
            let store =
                store_of(&database, "(2,'a','c',1,1,x'31'), (3,'b','-',1,1,x''), (9,'c','c',1,1,x'')").await;
            let all = read(&store.read, Seq(1), 10, Seq(9)).await.unwrap();
            assert_eq!(read_one_by_one(&store.read, Seq(1), 10, Seq(9)).await.unwrap(), all);
            let part = read_one_by_one(&store.read, Seq(1), 3, Seq(9)).await.unwrap();
            assert_eq!((part.rows.as_slice(), part.end), (&all.rows[..2], Some(Seq(3))));
        }
    }

    #[tokio::test]
    async fn invariant_12_a_row_with_a_missing_column_is_unreadable() {
        for column in ["camera_id", "occurred_at", "received_at", "payload"] {
            let rows = "(1,'a','c',1,1,x'31'), (2,'b','c',1,1,x'32'), (3,'c','c',1,1,x'33')";
            let database = TestDatabase::sqlite();
            let store = store_of(&database, rows).await;
            // As if the file was damaged: the schema does not permit it.
            let damage = format!(
                "PRAGMA writable_schema = ON; \
                 UPDATE sqlite_schema SET sql = replace(sql, 'NOT NULL', '') WHERE name = 'events'; \
                 PRAGMA writable_schema = RESET; UPDATE events SET {column} = NULL WHERE seq = 2"
            );
            store.write.execute_unprepared(&damage).await.unwrap();
            let page = read(&store.read, Seq(0), 10, Seq(3)).await.unwrap();
            assert!(
                matches!(&page.rows[..], [LogRow::Event(_), LogRow::Unreadable(Seq(2)), LogRow::Event(_)]),
                "{column}: {page:?}"
            );
        }
    }

    #[test]
    fn a_malformed_page_is_rejected() {
        for text in ["1", "1 2\n", "1 2 3 4 1 1\nc", "1 2 3 4 1 -1\nc", "1 2 3 x 0 0\n"] {
            assert_eq!(unpack(Bytes::from_static(text.as_bytes())), None, "{text:?}");
        }
    }
}
