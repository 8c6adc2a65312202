//! The table `events`: the event log itself.

use std::collections::HashMap;

use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select, Statement,
    Value, entity::prelude::*,
};

use super::{
    StoreError,
    dialect::{self, Existing, Insert, Type},
};
use crate::domain::{
    clock::{self, LogTime},
    delivery::EventTimes,
    event_log::{LogRow, StoredEvent},
    ids::{CameraId, EventId, Seq},
};

/// SQLite allows about 32,000 variables per statement, but more rows than this are not faster.
const ROWS_PER_STATEMENT: usize = 256;
const IDS_PER_STATEMENT: usize = 500;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "events")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub seq: i64,
    pub event_id: String,
    pub camera_id: String,
    pub occurred_at: i64,
    pub received_at: i64,
    pub payload: Vec<u8>,
    /// The log time at which the event was accepted. NULL in rows of earlier versions.
    pub log_time: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Inserts events. Fails if the log already contains one of them.
pub const INSERT: Insert<7> = Insert {
    table: "events",
    columns: [
        ("seq", Type::Number),
        ("event_id", Type::Text),
        ("camera_id", Type::Text),
        ("occurred_at", Type::Number),
        ("received_at", Type::Number),
        ("payload", Type::Bytes),
        ("log_time", Type::Number),
    ],
    existing: Existing::Fails,
};

/// Returns statements that insert events with these ids. The positions of the events follow [`last_seq`]. If
/// the log already contains one of the events, the statement fails and the transaction is rolled back.
pub fn insert_statements(
    backend: DbBackend,
    events: &[StoredEvent],
    ids: &[&EventId],
) -> impl Iterator<Item = Statement> {
    let chunks = events.chunks(ROWS_PER_STATEMENT).zip(ids.chunks(ROWS_PER_STATEMENT));
    chunks.map(move |(events, ids)| INSERT.statement(backend, rows(events, ids)))
}

/// Returns the rows of events with these ids.
pub fn rows<'a>(
    events: &'a [StoredEvent],
    ids: &'a [&EventId],
) -> impl ExactSizeIterator<Item = [Value; 7]> + use<'a> {
    events.iter().zip(ids).map(|(event, event_id)| {
        [
            Value::from(event.seq.0),
            event_id.as_str().into(),
            event.camera_id.as_str().into(),
            clock::to_micros(event.times.occurred_at).into(),
            clock::to_micros(event.times.received_at).into(),
            event.payload.to_vec().into(),
            event.times.accepted.0.into(),
        ]
    })
}

/// Finds the events that the log already contains. Returns their ids and positions.
pub async fn find_ids(db: &impl ConnectionTrait, ids: &[EventId]) -> Result<Vec<(EventId, Seq)>, DbErr> {
    let mut found = Vec::new();
    for chunk in ids.chunks(IDS_PER_STATEMENT) {
        let rows: Vec<(String, i64)> = Entity::find()
            .select_only()
            .columns([Column::EventId, Column::Seq])
            .filter(Column::EventId.is_in(chunk.iter().map(EventId::as_str)))
            .into_tuple()
            .all(db)
            .await?;
        // The table's contents were checked when they were accepted.
        found.extend(rows.into_iter().filter_map(|(id, seq)| Some((EventId::parse(id).ok()?, Seq(seq)))));
    }
    Ok(found)
}

/// Returns the ids of the events at these positions, in order.
pub async fn ids_at(db: &impl ConnectionTrait, seqs: &[i64]) -> Result<Vec<(Seq, EventId)>, StoreError> {
    let mut found = Vec::with_capacity(seqs.len());
    for chunk in seqs.chunks(IDS_PER_STATEMENT) {
        let rows: Result<Vec<(i64, String)>, DbErr> = Entity::find()
            .select_only()
            .columns([Column::Seq, Column::EventId])
            .filter(Column::Seq.is_in(chunk.iter().copied()))
            .order_by_asc(Column::Seq)
            .into_tuple()
            .all(db)
            .await;
        let rows = match rows.map_err(StoreError::from) {
            Ok(rows) => rows,
            Err(error) if error.is_corruption() => ids_from_index(db, chunk).await?,
            Err(error) => return Err(error),
        };
        found.extend(rows.into_iter().filter_map(|(seq, id)| Some((Seq(seq), EventId::parse(id).ok()?))));
    }
    Ok(found)
}

/// Reads the ids at these positions from the index alone, because rows are damaged. This reads the whole index.
async fn ids_from_index(db: &impl ConnectionTrait, seqs: &[i64]) -> Result<Vec<(i64, String)>, StoreError> {
    // These are numbers, so they can safely be part of the statement.
    let seqs: Vec<String> = seqs.iter().map(ToString::to_string).collect();
    let sql = format!(
        "SELECT seq, event_id FROM events INDEXED BY sqlite_autoindex_events_1 WHERE seq IN ({}) ORDER BY seq",
        seqs.join(",")
    );
    let rows = db.query_all_raw(dialect::statement(db, sql, [])).await?;
    let ids = rows.iter().map(|row| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?)));
    Ok(ids.collect::<Result<_, DbErr>>()?)
}

/// The position, the camera and the time of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its position in the event log.
    pub seq: Seq,
    /// The camera that saw it.
    pub camera_id: CameraId,
    /// When it happened and when it was accepted.
    pub times: EventTimes,
}

/// Finds the position of an event. Reads only the index, so that this works even if the row is damaged.
pub async fn find_seq(db: &impl ConnectionTrait, id: &EventId) -> Result<Option<Seq>, DbErr> {
    let found = find_ids(db, std::slice::from_ref(id)).await?;
    Ok(found.into_iter().map(|(_, seq)| seq).next())
}

/// Finds an event.
pub async fn find(db: &impl ConnectionTrait, id: &EventId) -> Result<Option<Place>, DbErr> {
    let row: Option<(i64, String, i64, i64, Option<i64>)> = Entity::find()
        .select_only()
        .columns([Column::Seq, Column::CameraId])
        .columns(TIMES)
        .filter(Column::EventId.eq(id.as_str()))
        .into_tuple()
        .one(db)
        .await?;
    // The table's contents were checked when they were accepted.
    Ok(row.and_then(|(seq, camera_id, occurred_at, received_at, log_time)| {
        let camera_id = CameraId::parse(camera_id).ok()?;
        Some(Place { seq: Seq(seq), camera_id, times: times(occurred_at, received_at, log_time) })
    }))
}

/// Returns the last position that was ever assigned, even if its row was removed, because a position is never
/// reused. Only events up to the last position in `deliveries` are removed.
pub async fn last_seq(db: &impl ConnectionTrait) -> Result<Seq, DbErr> {
    match last_seq_with(db, "SELECT MAX(seq) FROM events").await {
        // The end of the table is damaged. This reads the whole index.
        Err(error) if StoreError::from(error.clone()).is_corruption() => {
            last_seq_with(db, "SELECT MAX(seq) FROM events INDEXED BY events_camera_id_seq").await
        }
        found => found,
    }
}

async fn last_seq_with(db: &impl ConnectionTrait, in_events: &str) -> Result<Seq, DbErr> {
    // SQLite databases of earlier versions contain the last position in `sqlite_sequence`, too.
    let sequence = match db.get_database_backend() {
        DbBackend::Sqlite => "COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)",
        _ => "0",
    };
    let sql = format!(
        "SELECT MAX(COALESCE(({in_events}), 0), {sequence}, \
           COALESCE((SELECT MAX(up_to_seq) FROM deliveries), 0), \
           COALESCE((SELECT MAX(last_seq) FROM seq_gaps), 0)) AS last"
    );
    let row = db.query_one_raw(dialect::statement(db, sql, [])).await?;
    Ok(Seq(row.map_or(Ok(0), |row| row.try_get("", "last"))?))
}

const TIMES: [Column; 3] = [Column::OccurredAt, Column::ReceivedAt, Column::LogTime];

/// Converts the columns [`TIMES`].
pub fn times(occurred_at: i64, received_at: i64, log_time: Option<i64>) -> EventTimes {
    EventTimes {
        occurred_at: clock::from_micros(occurred_at),
        received_at: clock::from_micros(received_at),
        accepted: LogTime(log_time.unwrap_or(received_at)),
    }
}

/// Returns when the event at this position happened and when it was accepted.
pub async fn times_of(db: &impl ConnectionTrait, seq: Seq) -> Result<Option<EventTimes>, DbErr> {
    let row: Option<(i64, i64, Option<i64>)> =
        Entity::find_by_id(seq.0).select_only().columns(TIMES).into_tuple().one(db).await?;
    Ok(row.map(|(occurred_at, received_at, log_time)| times(occurred_at, received_at, log_time)))
}

/// Returns the position of the first event from `from` to `last` that was accepted at `since` or later. The times do
/// not decrease with the positions, so this is a binary search.
pub async fn first_accepted_since(
    db: &impl ConnectionTrait,
    since: LogTime,
    from: Seq,
    last: Seq,
) -> Result<Option<Seq>, DbErr> {
    const SQL: &str =
        "SELECT seq, COALESCE(log_time, received_at) FROM events WHERE seq >= ? ORDER BY seq LIMIT 1";
    // All events before `low` were accepted earlier, and those from `high` on were not, or are after `last`.
    let (mut low, mut high, mut found) = (from.0, last.0.saturating_add(1), None);
    while low < high {
        let middle = low + (high - low) / 2;
        let statement = dialect::statement(db, SQL, [middle.into()]);
        let row = db.query_one_raw(statement).await?;
        let event =
            row.map(|row| Ok::<(i64, i64), DbErr>((row.try_get_by_index(0)?, row.try_get_by_index(1)?)));
        match event.transpose()?.filter(|(seq, _)| *seq <= last.0) {
            Some((seq, accepted)) if accepted < since.0 => low = seq + 1,
            event => {
                found = event.map(|(seq, _)| Seq(seq)).or(found);
                high = middle;
            }
        }
    }
    Ok(found)
}

/// Reads up to `limit` events from this position on, in order.
pub async fn from(db: &impl ConnectionTrait, seq: Seq, limit: u64) -> Result<Vec<LogRow>, DbErr> {
    read_all(select_stored().filter(Column::Seq.gte(seq.0)).limit(limit), db).await
}

/// Reads the events at these positions, in order.
pub async fn at(db: &impl ConnectionTrait, seqs: &[Seq]) -> Result<Vec<LogRow>, DbErr> {
    let positions = seqs.iter().map(|seq| seq.0);
    read_all(select_stored().filter(Column::Seq.is_in(positions)), db).await
}

/// Returns the camera of each event at these positions.
pub async fn cameras_at(
    db: &impl ConnectionTrait,
    seqs: impl Iterator<Item = Seq>,
) -> Result<HashMap<Seq, String>, DbErr> {
    let rows: Vec<(i64, String)> = Entity::find()
        .select_only()
        .columns([Column::Seq, Column::CameraId])
        .filter(Column::Seq.is_in(seqs.map(|seq| seq.0)))
        .into_tuple()
        .all(db)
        .await?;
    Ok(rows.into_iter().map(|(seq, camera_id)| (Seq(seq), camera_id)).collect())
}

/// Selects the columns that [`read_all`] reads, in order of position. The columns are read by index: looking
/// up their names would take longer than everything else.
fn select_stored() -> Select<Entity> {
    let columns = [Column::Seq, Column::CameraId, Column::Payload];
    Entity::find().select_only().columns(columns).columns(TIMES).order_by_asc(Column::Seq)
}

/// The columns of [`select_stored`].
type StoredRow = (i64, String, Vec<u8>, i64, i64, Option<i64>);

async fn read_all(select: Select<Entity>, db: &impl ConnectionTrait) -> Result<Vec<LogRow>, DbErr> {
    let rows: Vec<StoredRow> = select.into_tuple().all(db).await?;
    let stored = |(seq, camera_id, payload, occurred_at, received_at, log_time): (_, _, Vec<u8>, _, _, _)| {
        let Ok(camera_id) = CameraId::parse(camera_id) else { return LogRow::Unreadable(Seq(seq)) };
        LogRow::Event(StoredEvent {
            seq: Seq(seq),
            camera_id,
            times: times(occurred_at, received_at, log_time),
            payload: payload.into(),
        })
    };
    Ok(rows.into_iter().map(stored).collect())
}
