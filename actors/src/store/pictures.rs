//! The table `pictures`, which exists only on a server: the pictures of events, so that they survive the loss of a
//! node. A picture is staged under the id of its event before the event is committed, and gets the event's position
//! afterwards. That changes only the row: the picture itself is stored outside of it, and is not written again.
//!
//! Pictures are written on a connection of their own, with the fence of the writing connection, so that no commit waits
//! for a large picture.

use std::collections::BTreeSet;

use bytes::Bytes;
use sea_orm::{ConnectionTrait, DbErr, QueryResult};
use serde_json::json;

use super::{Engine, Store, connection::Connection, dialect::statement};
use crate::domain::{
    ids::{EventId, Seq},
    image::PictureVersion,
    numbers::saturate,
};

/// Maximum number of pictures that one statement removes. It must end before its deadline.
const MAX_REMOVED: i64 = 200;
/// Enough of a picture to detect its format.
const HEAD_BYTES: i32 = 64;

/// Pictures that were removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Their number. Staged ones are not counted.
    pub pictures: u64,
    /// Their size, in bytes.
    pub bytes: u64,
}

/// The connection that writes pictures.
fn writer(store: &Store) -> &Connection {
    match &store.engine {
        Engine::Postgres { pictures } => pictures,
        Engine::Sqlite(_) => unreachable!("next to a file, the pictures are files"),
    }
}

fn ids(event_ids: &[EventId]) -> sea_orm::Value {
    json!(event_ids.iter().map(EventId::as_str).collect::<Vec<_>>()).to_string().into()
}

fn bytes_of(image: &Bytes) -> sea_orm::Value {
    sea_orm::Value::Bytes(Some(image.to_vec()))
}

/// Versions are random, so that no two are equal.
fn new_version() -> sea_orm::Value {
    rand::random::<i64>().into()
}

fn version(row: &QueryResult, column: &str) -> Result<PictureVersion, DbErr> {
    Ok(PictureVersion(row.try_get::<i64>("", column)?.cast_unsigned()))
}

fn unsigned(row: &QueryResult, column: &str) -> Result<u64, DbErr> {
    Ok(u64::try_from(row.try_get::<i64>("", column)?).unwrap_or(0))
}

/// Stores the picture of an event that is about to be committed. Returns the size of the staged picture that it
/// replaces, or 0.
pub async fn stage(store: &Store, event_id: &EventId, image: &Bytes) -> Result<u64, DbErr> {
    const STAGE: &str = "WITH old AS (SELECT size FROM pictures WHERE event_id = ?1 AND seq IS NULL) \
        INSERT INTO pictures (event_id, version, size, image) VALUES (?1, ?2, ?3, ?4) \
        ON CONFLICT (event_id) WHERE seq IS NULL DO UPDATE SET version = excluded.version, \
          size = excluded.size, image = excluded.image \
        RETURNING COALESCE((SELECT size FROM old), 0) AS replaced";
    let size = saturate::<_, i64>(image.len());
    let values = [event_id.as_str().into(), new_version(), size.into(), bytes_of(image)];
    let db = writer(store);
    let row = db.query_one_raw(statement(db, STAGE, values)).await?;
    row.map_or(Ok(0), |row| unsigned(&row, "replaced"))
}

/// Stores the picture of the event at this position. Returns the size of the picture that it replaces; `None` if there
/// was none.
pub async fn put(store: &Store, event_id: &EventId, seq: Seq, image: &Bytes) -> Result<Option<u64>, DbErr> {
    put_with(writer(store), event_id, seq, image).await
}

/// Like [`put`], with this connection.
pub async fn put_with(
    db: &impl ConnectionTrait,
    event_id: &EventId,
    seq: Seq,
    image: &Bytes,
) -> Result<Option<u64>, DbErr> {
    const PUT: &str = "WITH old AS (SELECT size FROM pictures WHERE seq = ?2) \
        INSERT INTO pictures (event_id, seq, version, size, image) VALUES (?1, ?2, ?3, ?4, ?5) \
        ON CONFLICT (seq) DO UPDATE SET version = excluded.version, size = excluded.size, \
          image = excluded.image \
        RETURNING COALESCE((SELECT size FROM old), -1) AS replaced";
    let size = saturate::<_, i64>(image.len());
    let values = [event_id.as_str().into(), seq.0.into(), new_version(), size.into(), bytes_of(image)];
    let row = db.query_one_raw(statement(db, PUT, values)).await?;
    let replaced = row.map_or(Ok(-1), |row| row.try_get::<i64>("", "replaced"))?;
    Ok(u64::try_from(replaced).ok())
}

/// Makes staged pictures those of their events, unless these have one. Returns the events whose picture was adopted.
/// The others stay staged.
pub async fn adopt(store: &Store, events: &[(EventId, Seq)]) -> Result<BTreeSet<EventId>, DbErr> {
    const ADOPT: &str = "UPDATE pictures SET seq = v.seq \
        FROM json_to_recordset(?1::json) AS v(event_id text, seq bigint) \
        WHERE pictures.event_id = v.event_id AND pictures.seq IS NULL \
          AND NOT EXISTS (SELECT 1 FROM pictures p WHERE p.seq = v.seq) \
        RETURNING pictures.event_id AS event_id";
    let rows = events.iter().map(|(event_id, seq)| json!({"event_id": event_id.as_str(), "seq": seq.0}));
    let values = [json!(rows.collect::<Vec<_>>()).to_string().into()];
    let db = writer(store);
    let rows = db.query_all_raw(statement(db, ADOPT, values)).await?;
    rows.iter().map(event_id).collect()
}

fn event_id(row: &QueryResult) -> Result<EventId, DbErr> {
    EventId::parse(row.try_get::<String>("", "event_id")?).map_err(DbErr::Type)
}

/// Removes the staged pictures of these events.
pub async fn discard(store: &Store, event_ids: &[EventId]) -> Result<Removed, DbErr> {
    const DISCARD: &str = "DELETE FROM pictures WHERE seq IS NULL \
        AND event_id IN (SELECT value FROM json_each(?1) texts) RETURNING seq, size";
    remove(store, DISCARD, vec![ids(event_ids)]).await
}

/// At the start: adopts the staged pictures of the events in the log, unless these have one, and removes the others.
/// Returns the events, and the beginnings of the pictures.
pub async fn recover(store: &Store) -> Result<Vec<(EventId, Vec<u8>)>, DbErr> {
    const RECOVER: &str = "UPDATE pictures SET seq = e.seq FROM events e \
        WHERE e.event_id = pictures.event_id AND pictures.seq IS NULL \
          AND NOT EXISTS (SELECT 1 FROM pictures p WHERE p.seq = e.seq) \
        RETURNING pictures.event_id AS event_id, substring(pictures.image FROM 1 FOR ?1) AS head";
    let db = writer(store);
    let values = [sea_orm::Value::Int(Some(HEAD_BYTES))];
    let rows = db.query_all_raw(statement(db, RECOVER, values)).await?;
    let recovered = rows.iter().map(|row| Ok((event_id(row)?, row.try_get("", "head")?)));
    let recovered = recovered.collect::<Result<_, DbErr>>()?;
    remove(store, "DELETE FROM pictures WHERE seq IS NULL RETURNING seq, size", Vec::new()).await?;
    Ok(recovered)
}

/// Returns the versions of the pictures at these positions, as far as there are any.
pub async fn versions(store: &Store, seqs: &[Seq]) -> Result<Vec<(Seq, PictureVersion)>, DbErr> {
    const VERSIONS: &str = "SELECT seq, version FROM pictures WHERE seq IN (SELECT value FROM json_each(?1))";
    let seqs = json!(seqs.iter().map(|seq| seq.0).collect::<Vec<_>>()).to_string();
    let rows = store.read.query_all_raw(statement(&store.read, VERSIONS, [seqs.into()])).await?;
    rows.iter().map(|row| Ok((Seq(row.try_get("", "seq")?), version(row, "version")?))).collect()
}

/// Returns the positions of pictures after this one, in order.
pub async fn list(store: &Store, after: Seq, limit: usize) -> Result<Vec<Seq>, DbErr> {
    const LIST: &str = "SELECT seq FROM pictures WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let values = [after.0.into(), saturate::<_, i64>(limit).into()];
    let rows = store.read.query_all_raw(statement(&store.read, LIST, values)).await?;
    rows.iter().map(|row| Ok(Seq(row.try_get("", "seq")?))).collect()
}

/// Returns the ids of the events at these positions, as far as there are any.
pub async fn event_ids(store: &Store, seqs: &[Seq]) -> Result<Vec<(Seq, EventId)>, DbErr> {
    const IDS: &str = "SELECT seq, event_id FROM events WHERE seq IN (SELECT value FROM json_each(?1))";
    let seqs = json!(seqs.iter().map(|seq| seq.0).collect::<Vec<_>>()).to_string();
    let rows = store.read.query_all_raw(statement(&store.read, IDS, [seqs.into()])).await?;
    rows.iter().map(|row| Ok((Seq(row.try_get("", "seq")?), event_id(row)?))).collect()
}

/// Returns the picture at this position and its version; only the version if it is `known`.
pub async fn load(
    store: &Store,
    seq: Seq,
    known: Option<PictureVersion>,
) -> Result<Option<(Option<Bytes>, PictureVersion)>, DbErr> {
    const LOAD: &str = "SELECT version, CASE WHEN version = ?2 THEN NULL ELSE image END AS image \
        FROM pictures WHERE seq = ?1";
    let known = known.map(|PictureVersion(version)| version.cast_signed());
    let values = [seq.0.into(), sea_orm::Value::BigInt(known)];
    let row = store.read.query_one_raw(statement(&store.read, LOAD, values)).await?;
    let picture = |row: QueryResult| {
        let image = row.try_get::<Option<Vec<u8>>>("", "image")?;
        Ok((image.map(Bytes::from), version(&row, "version")?))
    };
    row.map(picture).transpose()
}

/// Returns the number and the size of all pictures.
pub async fn measure(store: &Store) -> Result<Removed, DbErr> {
    const MEASURE: &str =
        "SELECT COUNT(seq) AS pictures, CAST(COALESCE(SUM(size), 0) AS BIGINT) AS bytes FROM pictures";
    let row = store.read.query_one_raw(statement(&store.read, MEASURE, [])).await?;
    row.map_or_else(
        || Ok(Removed::default()),
        |row| Ok(Removed { pictures: unsigned(&row, "pictures")?, bytes: unsigned(&row, "bytes")? }),
    )
}

/// Removes the oldest pictures of at least this size together, or a part of them. Returns what was removed.
pub async fn remove_oldest(store: &Store, bytes: u64) -> Result<Removed, DbErr> {
    const OLDEST: &str = "DELETE FROM pictures WHERE seq IN (SELECT seq FROM (SELECT seq, \
          CAST(SUM(size) OVER (ORDER BY seq) AS BIGINT) - size AS before FROM pictures \
          WHERE seq IS NOT NULL ORDER BY seq LIMIT ?1) AS oldest WHERE before < ?2) RETURNING seq, size";
    remove(store, OLDEST, vec![MAX_REMOVED.into(), saturate::<_, i64>(bytes).into()]).await
}

/// Removes pictures up to this position, except for those that are kept. Returns what was removed; there may be more.
pub async fn remove_up_to(store: &Store, up_to: Seq, kept: &BTreeSet<Seq>) -> Result<Removed, DbErr> {
    const OLD: &str = "DELETE FROM pictures WHERE seq IN (SELECT seq FROM pictures WHERE seq <= ?1 \
          AND seq NOT IN (SELECT value FROM json_each(?2)) ORDER BY seq LIMIT ?3) RETURNING seq, size";
    let kept = json!(kept.iter().map(|seq| seq.0).collect::<Vec<_>>()).to_string();
    remove(store, OLD, vec![up_to.0.into(), kept.into(), MAX_REMOVED.into()]).await
}

async fn remove(store: &Store, sql: &str, values: Vec<sea_orm::Value>) -> Result<Removed, DbErr> {
    let db = writer(store);
    let rows = db.query_all_raw(statement(db, sql, values)).await?;
    rows.iter().try_fold(Removed::default(), |sum, row| {
        let is_staged = row.try_get::<Option<i64>>("", "seq")?.is_none();
        Ok(Removed {
            pictures: sum.pictures + u64::from(!is_staged),
            bytes: sum.bytes + unsigned(row, "size")?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::database::TestDatabase;

    fn id(text: &str) -> EventId {
        EventId::parse(text).unwrap()
    }

    fn image(size: usize) -> Bytes {
        vec![7; size].into()
    }

    async fn seqs(store: &Store) -> Vec<i64> {
        let all: Vec<_> = (0..2000).map(Seq).collect();
        let mut found: Vec<_> = versions(store, &all).await.unwrap().iter().map(|(seq, _)| seq.0).collect();
        found.sort_unstable();
        found
    }

    #[tokio::test]
    async fn a_staged_picture_is_adopted_once_or_discarded() {
        let store = TestDatabase::postgres().open().await;
        assert_eq!(stage(&store, &id("a"), &image(10)).await.unwrap(), 0);
        assert_eq!(stage(&store, &id("a"), &image(5000)).await.unwrap(), 10, "it replaces the first one");
        assert_eq!(load(&store, Seq(1), None).await.unwrap(), None);
        assert_eq!(adopt(&store, &[(id("a"), Seq(1)), (id("b"), Seq(2))]).await.unwrap(), [id("a")].into());
        let (found, version) = load(&store, Seq(1), None).await.unwrap().unwrap();
        assert_eq!(found, Some(image(5000)));
        stage(&store, &id("a"), &image(20)).await.unwrap();
        assert!(adopt(&store, &[(id("a"), Seq(1))]).await.unwrap().is_empty(), "the first one is kept");
        assert_eq!(load(&store, Seq(1), Some(version)).await.unwrap(), Some((None, version)));
        let discarded = discard(&store, &[id("a"), id("b")]).await.unwrap();
        assert_eq!(discarded, Removed { pictures: 0, bytes: 20 });
        assert_eq!(measure(&store).await.unwrap(), Removed { pictures: 1, bytes: 5000 });
    }

    #[tokio::test]
    async fn a_replaced_picture_has_another_version() {
        let store = TestDatabase::postgres().open().await;
        assert_eq!(put(&store, &id("a"), Seq(1), &image(10)).await.unwrap(), None);
        let (_, first) = load(&store, Seq(1), None).await.unwrap().unwrap();
        assert_eq!(put(&store, &id("a"), Seq(1), &image(30)).await.unwrap(), Some(10));
        let (found, second) = load(&store, Seq(1), Some(first)).await.unwrap().unwrap();
        assert_eq!((found, first == second), (Some(image(30)), false));
        assert_eq!(versions(&store, &[Seq(1), Seq(2)]).await.unwrap(), [(Seq(1), second)]);
    }

    #[tokio::test]
    async fn old_pictures_are_removed_by_position_and_by_size() {
        let store = TestDatabase::postgres().open().await;
        for seq in 1..=6 {
            put(&store, &id(&seq.to_string()), Seq(seq), &image(100)).await.unwrap();
        }
        stage(&store, &id("staged"), &image(1)).await.unwrap();
        let removed = remove_up_to(&store, Seq(3), &[Seq(2)].into()).await.unwrap();
        assert_eq!((removed, seqs(&store).await), (Removed { pictures: 2, bytes: 200 }, vec![2, 4, 5, 6]));
        let removed = remove_oldest(&store, 101).await.unwrap();
        assert_eq!((removed, seqs(&store).await), (Removed { pictures: 2, bytes: 200 }, vec![5, 6]));
        assert_eq!(remove_oldest(&store, u64::MAX).await.unwrap().pictures, 2);
        assert_eq!(measure(&store).await.unwrap(), Removed { pictures: 0, bytes: 1 });
    }
}
