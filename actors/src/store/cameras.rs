//! The table `cameras`: the state of each camera. A row may lack the newest events of its camera, see [`tracked`].

use std::collections::BTreeMap;

use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, EntityTrait, PaginatorTrait as _, QueryFilter, QueryOrder,
    QuerySelect as _, Statement, Value, entity::prelude::*,
};

use super::{
    Store, camera_days,
    dialect::{Existing, Insert, Type},
    events,
    tracked::{self, TrackedCamera},
};
use crate::domain::{
    camera::{Camera, CameraStatus, ImageType, LastEvent, Thumbnail},
    clock::{self, LogTime},
    ids::{CameraId, EventId, Seq},
};

const IDS_PER_STATEMENT: usize = 500;
/// Each row has 23 columns.
const ROWS_PER_STATEMENT: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "cameras")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub camera_id: String,
    pub camera_name: String,
    pub source_type: String,
    pub is_doorbell: bool,
    pub enabled: bool,
    pub status: String,
    pub status_at: i64,
    pub last_seq: Option<i64>,
    pub last_event_id: Option<String>,
    pub last_timestamp: Option<i64>,
    pub last_happened_at: Option<i64>,
    pub last_description: Option<String>,
    pub last_detection_type: Option<String>,
    pub event_types: String,
    pub thumbnail_seq: Option<i64>,
    pub thumbnail_happened_at: Option<i64>,
    pub thumbnail_format: Option<String>,
    pub revision: i64,
    pub last_log_time: Option<i64>,
    pub thumbnail_log_time: Option<i64>,
    pub reported_name: Option<String>,
    /// The position up to which the row contains the events of the camera.
    pub counted_up_to: i64,
    /// The time zone in which later events are counted.
    pub counted_zone: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Returns the rows of all cameras, ordered by id.
pub async fn all_rows(db: &impl ConnectionTrait) -> Result<Vec<TrackedCamera>, DbErr> {
    let rows = Entity::find().order_by_asc(Column::CameraId).all(db).await?;
    Ok(rows.into_iter().filter_map(camera).collect())
}

/// Returns the ids of all cameras.
pub async fn ids(db: &impl ConnectionTrait) -> Result<Vec<CameraId>, DbErr> {
    let ids = Entity::find().select_only().column(Column::CameraId).order_by_asc(Column::CameraId);
    let ids: Vec<String> = ids.into_tuple().all(db).await?;
    // The table's contents were checked when they were accepted.
    Ok(ids.into_iter().filter_map(|id| CameraId::parse(id).ok()).collect())
}

/// Returns the rows of the known cameras among `ids`.
pub async fn find_rows(db: &impl ConnectionTrait, ids: &[CameraId]) -> Result<Vec<TrackedCamera>, DbErr> {
    let mut found = Vec::new();
    for chunk in ids.chunks(IDS_PER_STATEMENT) {
        let rows =
            Entity::find().filter(Column::CameraId.is_in(chunk.iter().map(CameraId::as_str))).all(db).await?;
        found.extend(rows.into_iter().filter_map(camera));
    }
    Ok(found)
}

/// Returns the number of known cameras.
pub async fn count(db: &impl ConnectionTrait) -> Result<u64, DbErr> {
    Entity::find().count(db).await
}

/// What is written about a camera.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    pub camera: &'a Camera,
    /// The position up to which the row contains the events of the camera: the last one in the log.
    pub up_to: Seq,
    /// The time zone in which later events are counted.
    pub zone: Option<&'a str>,
}

/// Inserts or updates cameras.
pub const UPSERT: Insert<23> = Insert {
    table: "cameras",
    columns: [
        ("camera_id", Type::Text),
        ("camera_name", Type::Text),
        ("source_type", Type::Text),
        ("is_doorbell", Type::Truth),
        ("enabled", Type::Truth),
        ("status", Type::Text),
        ("status_at", Type::Number),
        ("last_seq", Type::Number),
        ("last_event_id", Type::Text),
        ("last_timestamp", Type::Number),
        ("last_happened_at", Type::Number),
        ("last_description", Type::Text),
        ("last_detection_type", Type::Text),
        ("event_types", Type::Text),
        ("thumbnail_seq", Type::Number),
        ("thumbnail_happened_at", Type::Number),
        ("thumbnail_format", Type::Text),
        ("revision", Type::Number),
        ("last_log_time", Type::Number),
        ("thumbnail_log_time", Type::Number),
        ("reported_name", Type::Text),
        ("counted_up_to", Type::Number),
        ("counted_zone", Type::Text),
    ],
    existing: Existing::IsReplaced(1),
};

/// Returns statements that insert or update cameras. Each camera may occur once.
pub fn upsert_statements(backend: DbBackend, cameras: &[Row<'_>]) -> impl Iterator<Item = Statement> {
    cameras.chunks(ROWS_PER_STATEMENT).map(move |chunk| UPSERT.statement(backend, chunk.iter().map(row)))
}

/// Returns the row of a camera.
pub fn row(Row { camera, up_to, zone }: &Row<'_>) -> [Value; 23] {
    let last = camera.last_event.as_ref();
    [
        camera.camera_id.as_str().into(),
        camera.camera_name.as_str().into(),
        camera.source_type.as_str().into(),
        camera.is_doorbell.into(),
        camera.enabled.into(),
        camera.status.as_str().into(),
        clock::to_micros(camera.status_at).into(),
        last.map(|event| event.seq.0).into(),
        last.map(|event| event.event_id.as_str()).into(),
        last.map(|event| clock::to_micros(event.timestamp)).into(),
        last.map(|event| clock::to_micros(event.happened_at)).into(),
        last.map(|event| event.description.as_str()).into(),
        last.and_then(|event| event.smart_detection_type.as_deref()).into(),
        serde_json::to_string(&camera.event_types).expect("strings always serialize").into(),
        camera.thumbnail.map(|thumbnail| thumbnail.seq.0).into(),
        camera.thumbnail.map(|thumbnail| thumbnail.happened.0).into(),
        camera.thumbnail.map(|thumbnail| thumbnail.format.media_type()).into(),
        camera.revision.into(),
        last.map(|event| event.happened.0).into(),
        camera.thumbnail.map(|thumbnail| thumbnail.happened.0).into(),
        camera.reported_name.as_deref().into(),
        up_to.0.into(),
        (*zone).into(),
    ]
}

/// Changes one camera in its own transaction. `change` receives the camera, or `None` if it is unknown, and
/// whether there is room for another camera. It returns the changed camera or an error. Returns the camera as
/// it is stored afterwards.
pub async fn change<E: From<DbErr>>(
    store: &Store,
    id: &CameraId,
    max_cameras: u32,
    change: impl FnOnce(Option<Camera>, bool) -> Result<Camera, E>,
) -> Result<Camera, E> {
    let txn = store.begin().await?;
    let known = tracked::find(&txn, std::slice::from_ref(id)).await?.pop();
    let room = known.is_some() || count(&txn).await? < u64::from(max_cameras);
    let unchanged = known.as_ref().map(|tracked| tracked.camera.clone());
    let mut camera = change(unchanged.clone(), room)?;
    if unchanged.as_ref() == Some(&camera) {
        // A server ends the session of a transaction that is left open.
        txn.rollback().await?;
        return Ok(camera);
    }
    camera.revision += 1;
    store.known.forget(id);
    let tracked = match known {
        Some(known) => TrackedCamera { camera: camera.clone(), ..known },
        None => TrackedCamera::new(camera.clone(), None),
    };
    tracked::write(&txn, &[tracked], events::last_seq(&txn).await?).await?;
    txn.commit().await?;
    Ok(camera)
}

/// Records the newest pictures of cameras in one transaction. Skips unknown cameras, and pictures of events
/// that happened before the event of the current picture. Returns the cameras whose newest picture is the
/// given one.
pub async fn note_pictures(
    store: &Store,
    pictures: &BTreeMap<CameraId, Thumbnail>,
) -> Result<Vec<Camera>, DbErr> {
    let txn = store.begin().await?;
    let ids: Vec<_> = pictures.keys().cloned().collect();
    let up_to = events::last_seq(&txn).await?;
    let mut cameras = Vec::new();
    for mut tracked in tracked::find(&txn, &ids).await? {
        let camera = &mut tracked.camera;
        let Some(picture) = pictures.get(&camera.camera_id) else { continue };
        if camera.thumbnail.is_some_and(|known| picture.is_older_than(&known)) {
            continue;
        }
        if camera.thumbnail.replace(*picture) != Some(*picture) {
            camera.revision += 1;
            store.known.forget(&camera.camera_id);
            tracked::write(&txn, std::slice::from_ref(&tracked), up_to).await?;
        }
        cameras.push(tracked.camera);
    }
    txn.commit().await?;
    Ok(cameras)
}

/// Removes a camera and its counts. Returns whether it existed.
pub async fn delete(store: &Store, id: &CameraId) -> Result<bool, DbErr> {
    let txn = store.begin().await?;
    store.known.forget(id);
    let deleted = Entity::delete_by_id(id.as_str()).exec(&txn).await?.rows_affected;
    camera_days::delete_camera(&txn, id).await?;
    txn.commit().await?;
    Ok(deleted > 0)
}

fn camera(row: Model) -> Option<TrackedCamera> {
    let last_event = match (row.last_seq, row.last_event_id, row.last_timestamp, row.last_happened_at) {
        (Some(seq), Some(id), Some(timestamp), Some(happened_at)) => Some(LastEvent {
            event_id: EventId::parse(id).ok()?,
            seq: Seq(seq),
            timestamp: clock::from_micros(timestamp),
            happened_at: clock::from_micros(happened_at),
            happened: LogTime(row.last_log_time.unwrap_or(happened_at)),
            description: row.last_description.unwrap_or_default(),
            smart_detection_type: row.last_detection_type,
        }),
        _ => None,
    };
    let format = row.thumbnail_format.as_deref().and_then(ImageType::from_media_type);
    let camera = Camera {
        // The table's contents were checked when they were accepted.
        camera_id: CameraId::parse(row.camera_id).ok()?,
        camera_name: row.camera_name,
        reported_name: row.reported_name,
        source_type: row.source_type,
        is_doorbell: row.is_doorbell,
        enabled: row.enabled,
        status: CameraStatus::parse(&row.status).unwrap_or_default(),
        status_at: clock::from_micros(row.status_at),
        last_event,
        event_types: serde_json::from_str(&row.event_types).unwrap_or_default(),
        thumbnail: match (row.thumbnail_seq, row.thumbnail_happened_at, format) {
            (Some(seq), Some(happened_at), Some(format)) => {
                let happened = LogTime(row.thumbnail_log_time.unwrap_or(happened_at));
                Some(Thumbnail { seq: Seq(seq), happened, format })
            }
            _ => None,
        },
        revision: row.revision,
    };
    Some(TrackedCamera::new(camera, row.counted_zone))
}
