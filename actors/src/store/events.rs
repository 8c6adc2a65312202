//! The table `events`: the log itself.

use std::collections::HashMap;

use sea_orm::{
    ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select, Statement,
    Value, entity::prelude::*,
};

use super::{retries, statements::insertion};
use crate::domain::{
    clock::{self, Timestamp},
    event_log::StoredEvent,
    ids::{CameraId, EventId, Seq},
};

/// SQLite takes some 32,000 variables a statement; more rows than this gain nothing.
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
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// What writes events with these ids, whose places were given by [`last_seq`] and counting on. When the log holds one of these events already
/// it fails, and the transaction is rolled back.
pub fn inserting(events: &[StoredEvent], ids: &[&EventId]) -> impl Iterator<Item = Statement> {
    const INTO: &str =
        "INSERT OR ROLLBACK INTO events (seq, event_id, camera_id, occurred_at, received_at, payload)";
    let chunks = events.chunks(ROWS_PER_STATEMENT).zip(ids.chunks(ROWS_PER_STATEMENT));
    chunks.map(|(events, ids)| {
        let rows = events.iter().zip(ids).map(|(event, event_id)| {
            [
                Value::from(event.seq.0),
                event_id.as_str().into(),
                event.camera_id.as_str().into(),
                clock::to_micros(event.occurred_at).into(),
                clock::to_micros(event.received_at).into(),
                event.payload.to_vec().into(),
            ]
        });
        insertion(INTO, rows, "")
    })
}

/// The places of those of these events that the log holds already.
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
        // What the table holds was checked when it was accepted.
        found.extend(rows.into_iter().filter_map(|(id, seq)| Some((EventId::parse(id).ok()?, Seq(seq)))));
    }
    Ok(found)
}

/// Where an event is, who saw it, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its place in the log.
    pub seq: Seq,
    /// The camera that saw it.
    pub camera_id: CameraId,
    /// When it happened, or when it was accepted if that was earlier.
    pub happened_at: Timestamp,
}

/// The place of one event.
pub async fn find(db: &impl ConnectionTrait, id: &EventId) -> Result<Option<Place>, DbErr> {
    let row: Option<(i64, String, i64, i64)> = Entity::find()
        .select_only()
        .columns([Column::Seq, Column::CameraId, Column::OccurredAt, Column::ReceivedAt])
        .filter(Column::EventId.eq(id.as_str()))
        .into_tuple()
        .one(db)
        .await?;
    // What the table holds was checked when it was accepted.
    Ok(row.and_then(|(seq, camera_id, occurred_at, received_at)| {
        let camera_id = CameraId::parse(camera_id).ok()?;
        let happened_at = clock::from_micros(occurred_at.min(received_at));
        Some(Place { seq: Seq(seq), camera_id, happened_at })
    }))
}

/// The last place that was ever given, also when its row is gone: a place is never used twice.
pub async fn last_seq(db: &impl ConnectionTrait) -> Result<Seq, DbErr> {
    let statement = Statement::from_string(
        db.get_database_backend(),
        "SELECT MAX(\
           COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0), \
           COALESCE((SELECT MAX(up_to_seq) FROM deliveries), 0)) AS last",
    );
    let row = db.query_one_raw(statement).await?;
    Ok(Seq(row.map_or(Ok(0), |row| row.try_get("", "last"))?))
}

/// When the event at this place was accepted.
pub async fn received_at(db: &impl ConnectionTrait, seq: Seq) -> Result<Option<clock::Timestamp>, DbErr> {
    let at: Option<i64> =
        Entity::find_by_id(seq.0).select_only().column(Column::ReceivedAt).into_tuple().one(db).await?;
    Ok(at.map(clock::from_micros))
}

/// The events at these places, in order.
pub async fn at(db: &impl ConnectionTrait, seqs: &[Seq]) -> Result<Vec<StoredEvent>, DbErr> {
    let places = seqs.iter().map(|seq| seq.0);
    all_stored(stored_columns().filter(Column::Seq.is_in(places)), db).await
}

/// Whose events are at these places.
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

/// Removes up to `limit` of the oldest events up to `up_to`, except those that wait to be sent again; answers how many.
pub async fn delete_up_to(db: &impl ConnectionTrait, up_to: Seq, limit: u64) -> Result<u64, DbErr> {
    let waiting = retries::Entity::find()
        .select_only()
        .column(retries::Column::Seq)
        .filter(retries::Column::AckedAt.is_null())
        .into_query();
    let last: Option<i64> = Entity::find()
        .select_only()
        .column(Column::Seq)
        .filter(Column::Seq.lte(up_to.0))
        .filter(Column::Seq.not_in_subquery(waiting.clone()))
        .order_by_asc(Column::Seq)
        .limit(limit)
        .into_tuple()
        .all(db)
        .await?
        .into_iter()
        .last();
    let Some(last) = last else { return Ok(0) };
    let old =
        Entity::delete_many().filter(Column::Seq.lte(last)).filter(Column::Seq.not_in_subquery(waiting));
    Ok(old.exec(db).await?.rows_affected)
}

/// What [`all_stored`] reads, in order. By the places of the columns: a backlog is read so, and looking up names takes longer
/// than the rest.
fn stored_columns() -> Select<Entity> {
    let columns = [Column::Seq, Column::CameraId, Column::OccurredAt, Column::ReceivedAt, Column::Payload];
    Entity::find().select_only().columns(columns).order_by_asc(Column::Seq)
}

async fn all_stored(select: Select<Entity>, db: &impl ConnectionTrait) -> Result<Vec<StoredEvent>, DbErr> {
    let rows: Vec<(i64, String, i64, i64, Vec<u8>)> = select.into_tuple().all(db).await?;
    let stored = |(seq, camera_id, occurred_at, received_at, payload): (_, _, _, _, Vec<u8>)| {
        Some(StoredEvent {
            seq: Seq(seq),
            // What the table holds was checked when it was accepted.
            camera_id: CameraId::parse(camera_id).ok()?,
            occurred_at: clock::from_micros(occurred_at),
            received_at: clock::from_micros(received_at),
            payload: payload.into(),
        })
    };
    Ok(rows.into_iter().filter_map(stored).collect())
}
