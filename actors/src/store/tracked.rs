//! Cameras as of the last commit. To write less to the disk, most commits do not write the rows of their cameras and
//! their counts: what the newest events of a camera change is in the event log, too, in the same transaction. A reader
//! of a camera adds these events to it, which gives exactly what the commits would have written.
//!
//! A commit leaves a row as it is if its events only change the newest event of the camera, its revision and its
//! counts, if the camera was in memory, and if fewer than [`MAX_UNCOUNTED`] events are then missing in the row.
//! `counted_up_to` is the position up to which the row and the counts contain all events of the camera.

use std::collections::{BTreeMap, HashMap};

use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Value};
use serde::Deserialize;

use super::{Store, StoreError, camera_days, camera_days::Counts, cameras, dialect, events};
use crate::domain::{
    calendar::{Calendar, Day},
    camera::{Camera, LastEvent},
    causes::with_causes,
    clock::{self, LogTime},
    delivery::EventTimes,
    ids::{CameraId, EventId, Seq},
    numbers::saturate,
};

/// The number of events of a camera with which its row is written. The first read of the cameras after a start reads
/// fewer than that for each camera.
const MAX_UNCOUNTED: u64 = 32;
/// The number of cameras whose rows are written in one transaction. It delays commits by some milliseconds.
const CAMERAS_PER_STEP: usize = 100;
/// The maximum number of days of a camera in memory.
const MAX_DAYS: usize = 8;

/// A camera as of the last commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackedCamera {
    /// The camera, with all of its events.
    pub camera: Camera,
    /// The time zone in which events that are not in the row are counted. `None` if none may be missing.
    pub zone: Option<String>,
    /// The events that are not in the row and in the counts.
    pub uncounted: BTreeMap<Day, u64>,
    /// The number of all events on some days.
    pub totals: BTreeMap<Day, u64>,
}

impl TrackedCamera {
    /// Returns a camera whose row contains all events, or which has no row.
    pub fn new(camera: Camera, zone: Option<String>) -> Self {
        Self { camera, zone, uncounted: BTreeMap::new(), totals: BTreeMap::new() }
    }

    /// Counts an event.
    pub fn count(&mut self, day: Day) {
        self.camera.revision += 1;
        *self.uncounted.entry(day).or_default() += 1;
        *self.totals.entry(day).or_default() += 1;
    }

    /// Returns whether the row need not be written now. `stored` is the camera as it was read or as it was after the
    /// previous commit, and `calendar` determines the days of the new events.
    pub fn can_wait(&self, stored: &Camera, calendar: Calendar) -> bool {
        let Camera { last_event, revision, .. } = &self.camera;
        let with_new_event = Camera { last_event: last_event.clone(), revision: *revision, ..stored.clone() };
        self.zone.as_deref() == Some(calendar.zone())
            && self.uncounted.values().sum::<u64>() < MAX_UNCOUNTED
            && self.camera == with_new_event
    }

    /// Records that the row and the counts will be written. Returns what must be added to the counts.
    pub fn write(&mut self, calendar: Calendar) -> BTreeMap<Day, u64> {
        self.zone = Some(calendar.zone().to_owned());
        std::mem::take(&mut self.uncounted)
    }

    /// Forgets totals of early days.
    pub fn shorten(&mut self) {
        while self.totals.len() > MAX_DAYS {
            self.totals.pop_first();
        }
    }

    /// Adds an event that is not in the row.
    fn add(&mut self, event: LoggedEvent) {
        let LoggedEvent { event_id, seq, times, payload } = event;
        let happened_at = times.occurred_at.min(times.received_at);
        if !self.camera.has_newer_event(times.happened(), times.accepted) {
            // The payload was written by the service; a damaged one leaves both empty.
            let text = serde_json::from_slice::<Text>(&payload).unwrap_or_default();
            self.camera.last_event = Some(LastEvent {
                event_id,
                seq,
                timestamp: times.occurred_at,
                happened_at,
                happened: times.happened(),
                description: LastEvent::shortened(&text.description),
                smart_detection_type: text.smart_detection_type,
            });
        }
        let zone = self.zone.as_deref().unwrap_or("UTC");
        let calendar = Calendar::named(zone).unwrap_or_else(|_| Calendar::new(chrono_tz::Tz::UTC));
        self.count(calendar.day(happened_at));
    }
}

/// The part of an event's payload that is shown with its camera.
#[derive(Debug, Default, Deserialize)]
struct Text {
    description: String,
    smart_detection_type: Option<String>,
}

/// An event of the log that is not in the row of its camera.
struct LoggedEvent {
    event_id: EventId,
    seq: Seq,
    times: EventTimes,
    payload: Vec<u8>,
}

impl LoggedEvent {
    /// Reads an event and the id of its camera. Returns `None` if the row is damaged.
    fn read(row: &QueryResult) -> Option<(CameraId, Self)> {
        let received_at: i64 = row.try_get("", "received_at").ok()?;
        let log_time: Option<i64> = row.try_get("", "log_time").ok()?;
        let event = Self {
            event_id: EventId::parse(row.try_get::<String>("", "event_id").ok()?).ok()?,
            seq: Seq(row.try_get("", "seq").ok()?),
            times: EventTimes {
                occurred_at: clock::from_micros(row.try_get("", "occurred_at").ok()?),
                received_at: clock::from_micros(received_at),
                accepted: LogTime(log_time.unwrap_or(received_at)),
            },
            payload: row.try_get("", "payload").ok()?,
        };
        Some((CameraId::parse(row.try_get::<String>("", "camera_id").ok()?).ok()?, event))
    }
}

/// Selects the events that are not in the rows of all cameras, or of those in the list `?1`. SQLite joins in this order
/// because of `CROSS JOIN`, and PostgreSQL because of `OFFSET`: otherwise, either may read the whole log.
fn uncounted_sql(backend: DbBackend, has_list: bool) -> String {
    let events = match backend {
        DbBackend::Postgres => {
            "SELECT e.* FROM cameras c, LATERAL \
             (SELECT camera_id, seq, event_id, occurred_at, received_at, log_time, payload FROM events \
              WHERE camera_id = c.camera_id AND seq > c.counted_up_to OFFSET 0) e"
        }
        _ => {
            "SELECT e.camera_id, e.seq, e.event_id, e.occurred_at, e.received_at, e.log_time, e.payload \
             FROM cameras c CROSS JOIN events e ON e.camera_id = c.camera_id AND e.seq > c.counted_up_to"
        }
    };
    let list = if has_list { " WHERE c.camera_id IN (SELECT value FROM json_each(?1) texts)" } else { "" };
    format!("{events}{list} ORDER BY e.seq")
}

/// Adds to cameras, as they are in their rows, their events that are not.
async fn with_events(
    db: &impl ConnectionTrait,
    mut cameras: Vec<TrackedCamera>,
    ids: Option<&[CameraId]>,
) -> Result<Vec<TrackedCamera>, DbErr> {
    let ids = ids.map(|ids| ids.iter().map(CameraId::as_str).collect::<serde_json::Value>().to_string());
    let sql = uncounted_sql(db.get_database_backend(), ids.is_some());
    let rows = db.query_all_raw(dialect::statement(db, sql, ids.map(Value::from))).await?;
    let position = |(number, tracked): (usize, &TrackedCamera)| (tracked.camera.camera_id.clone(), number);
    let positions: HashMap<_, _> = cameras.iter().enumerate().map(position).collect();
    for row in &rows {
        let Some((camera_id, event)) = LoggedEvent::read(row) else { continue };
        if let Some(position) = positions.get(&camera_id) {
            cameras[*position].add(event);
        }
    }
    Ok(cameras)
}

/// Returns all cameras, ordered by id. Other connections must not write at the same time.
pub async fn all(db: &impl ConnectionTrait) -> Result<Vec<TrackedCamera>, DbErr> {
    with_events(db, cameras::all_rows(db).await?, None).await
}

/// Returns the known cameras among `ids`. Other connections must not write at the same time.
pub async fn find(db: &impl ConnectionTrait, ids: &[CameraId]) -> Result<Vec<TrackedCamera>, DbErr> {
    with_events(db, cameras::find_rows(db, ids).await?, Some(ids)).await
}

/// Adds the events that are not in the counts of these cameras, from this day on.
pub fn add_uncounted(counts: &mut Counts, cameras: &[TrackedCamera], first: Day) {
    for TrackedCamera { camera, uncounted, .. } in cameras {
        for (day, events) in uncounted.range(first..) {
            *counts.entry(camera.camera_id.clone()).or_default().entry(*day).or_default() += events;
        }
    }
}

/// Writes the rows and the counts of all cameras with events that they do not contain, so that the events that are now
/// in the log can be removed. If the events of a camera cannot be read because the database is damaged there, gives
/// them up.
pub async fn write_all(store: &Store) -> Result<(), StoreError> {
    let ids = cameras::ids(&store.write).await?;
    for ids in ids.chunks(CAMERAS_PER_STEP) {
        match write_these(store, ids).await.map_err(StoreError::from) {
            Err(error) if error.is_corruption() => {
                for id in ids {
                    write_or_give_up(store, id).await?;
                }
            }
            written => written?,
        }
    }
    Ok(())
}

async fn write_or_give_up(store: &Store, id: &CameraId) -> Result<(), StoreError> {
    match write_these(store, std::slice::from_ref(id)).await.map_err(StoreError::from) {
        Err(error) if error.is_corruption() => {
            tracing::warn!(
                error = %with_causes(&error),
                camera_id = %id,
                "the newest events of a camera cannot be read; they may be missing in its counts"
            );
            Ok(give_up(store, id).await?)
        }
        written => written,
    }
}

async fn write_these(store: &Store, ids: &[CameraId]) -> Result<(), DbErr> {
    let txn = store.begin().await?;
    let mut cameras = find(&txn, ids).await?;
    cameras.retain(|tracked| !tracked.uncounted.is_empty());
    if cameras.is_empty() {
        return txn.rollback().await;
    }
    for tracked in &cameras {
        store.known.forget(&tracked.camera.camera_id);
    }
    write(&txn, &cameras, events::last_seq(&txn).await?).await?;
    txn.commit().await
}

/// Records that the row contains all events of the camera, although it may not. The revision becomes higher than any
/// that the camera had with these events.
async fn give_up(store: &Store, id: &CameraId) -> Result<(), DbErr> {
    let txn = store.begin().await?;
    store.known.forget(id);
    let up_to = events::last_seq(&txn).await?;
    let sql = "UPDATE cameras SET counted_up_to = ?, revision = revision + ? WHERE camera_id = ?";
    let values = [up_to.0.into(), saturate::<_, i64>(MAX_UNCOUNTED).into(), id.as_str().into()];
    txn.execute_raw(dialect::statement(&txn, sql, values)).await?;
    txn.commit().await
}

/// Writes the rows of cameras and their counts. `up_to` is the last position in the log.
pub async fn write(db: &impl ConnectionTrait, cameras: &[TrackedCamera], up_to: Seq) -> Result<(), DbErr> {
    let backend = db.get_database_backend();
    let rows: Vec<_> = cameras
        .iter()
        .map(|TrackedCamera { camera, zone, .. }| cameras::Row { camera, up_to, zone: zone.as_deref() })
        .collect();
    let increments = |TrackedCamera { camera, uncounted, .. }: &TrackedCamera| {
        camera_days::increments(&camera.camera_id, uncounted)
    };
    let increments: Vec<_> = cameras.iter().flat_map(increments).collect();
    let counts = camera_days::increment_statements(backend, &increments);
    let statements: Vec<_> = cameras::upsert_statements(backend, &rows).chain(counts).collect();
    for statement in statements {
        db.execute_raw(statement).await?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "tracked_tests.rs"]
mod tests;
