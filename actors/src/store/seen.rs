//! The cameras of a commit: their newest events, and the number of their events per day. They are written in
//! the transaction of the commit, so that counts are exact.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement};

use super::{
    camera_days::{self, DayIncrement},
    cameras,
    commit::Context,
    known::KnownCameras,
};
use crate::domain::{
    calendar::{Calendar, Day},
    camera::{Camera, CameraSighting, CameraStatus},
    clock::Moment,
    event::DetectionEvent,
    ids::{CameraId, Seq},
};

/// The cameras of one commit.
#[derive(Debug)]
pub struct Cameras {
    calendar: Calendar,
    late_after_seconds: u32,
    now: Moment,
    known: BTreeMap<CameraId, CameraDraft>,
    /// The number of cameras that can still be registered.
    room: u64,
    /// Cameras above the limit. Their events are stored and published, but the cameras themselves are not
    /// stored.
    pub unregistered: BTreeSet<CameraId>,
}

#[derive(Debug)]
struct CameraDraft {
    camera: Camera,
    stored: Option<Camera>,
    days: BTreeMap<Day, u64>,
}

impl Cameras {
    /// Reads the cameras of these events from the database.
    pub async fn load(
        db: &impl ConnectionTrait,
        events: &[DetectionEvent],
        context: &Context,
        now: Moment,
    ) -> Result<Self, DbErr> {
        let ids: Vec<CameraId> = ids(events).into_iter().cloned().collect();
        let known = cameras::find(db, &ids).await?;
        let room = if known.len() == ids.len() {
            0
        } else {
            u64::from(context.max_cameras).saturating_sub(cameras::count(db).await?)
        };
        Ok(Self::new(known, room, context, now))
    }

    /// Reads the cameras of these events from the cache. Returns `None` unless the cache contains all of
    /// them.
    pub fn known(
        known: &KnownCameras,
        events: &[DetectionEvent],
        context: &Context,
        now: Moment,
    ) -> Option<Self> {
        Some(Self::new(known.all(ids(events).into_iter())?, 0, context, now))
    }

    fn new(known: Vec<Camera>, room: u64, context: &Context, now: Moment) -> Self {
        let draft = |camera: Camera| {
            let stored = Some(camera.clone());
            (camera.camera_id.clone(), CameraDraft { camera, stored, days: BTreeMap::new() })
        };
        let known = known.into_iter().map(draft).collect();
        let Context { calendar, late_after_seconds, .. } = *context;
        Self { calendar, late_after_seconds, now, known, room, unregistered: BTreeSet::new() }
    }

    /// Returns the camera of an event, as it was before this event. Registers the camera if it is new.
    pub fn of_event(&mut self, event: &DetectionEvent) -> Cow<'_, Camera> {
        let id = event.camera_id();
        if !self.known.contains_key(id) {
            let camera = Camera::new(id.clone(), self.now);
            if self.room == 0 {
                self.unregistered.insert(id.clone());
                return Cow::Owned(camera);
            }
            self.room -= 1;
            self.known.insert(id.clone(), CameraDraft { camera, stored: None, days: BTreeMap::new() });
        }
        Cow::Borrowed(&self.known.get(id).expect("it was inserted above").camera)
    }

    /// Updates the event's camera and counts the event.
    pub fn record(&mut self, event: &DetectionEvent, seq: Seq) {
        let Some(draft) = self.known.get_mut(event.camera_id()) else { return };
        event.update_camera(&mut draft.camera, seq, self.now, self.late_after_seconds);
        *draft.days.entry(self.calendar.day(event.happened_at(self.now.wall))).or_default() += 1;
    }

    /// Returns the rows that contain the changes.
    pub fn into_writes(self) -> PendingWrites {
        let (mut cameras, mut changed, mut increments) = (Vec::new(), Vec::new(), Vec::new());
        let mut came_online = false;
        for CameraDraft { mut camera, stored, days } in self.known.into_values() {
            if days.is_empty() {
                continue;
            }
            let was_online = stored.as_ref().is_none_or(|stored| stored.status == CameraStatus::Online);
            came_online |= !was_online && camera.status == CameraStatus::Online;
            if stored.as_ref() != Some(&camera) {
                camera.revision += 1;
                changed.push(camera.clone());
            }
            let camera_id = &camera.camera_id;
            increments.extend(days.into_iter().map(|(day, events)| DayIncrement {
                camera_id: camera_id.clone(),
                day,
                events,
            }));
            cameras.push(camera);
        }
        PendingWrites { changed, increments, came_online, cameras }
    }
}

fn ids(events: &[DetectionEvent]) -> BTreeSet<&CameraId> {
    events.iter().map(DetectionEvent::camera_id).collect()
}

/// What a commit writes about its cameras.
#[derive(Debug)]
pub struct PendingWrites {
    /// The cameras that have changed.
    pub changed: Vec<Camera>,
    /// What is added to the counts.
    pub increments: Vec<DayIncrement>,
    /// Whether the events set a camera online that was not.
    pub came_online: bool,
    cameras: Vec<Camera>,
}

impl PendingWrites {
    /// Returns the statements, in the order of execution. Their rows are the input of
    /// [`PendingWrites::into_sightings`]. There are few of them even if there are many cameras: a commit of a thousand
    /// events can have a thousand cameras.
    pub fn statements(&self, backend: DbBackend) -> impl Iterator<Item = Statement> {
        cameras::upsert_statements(backend, &self.changed)
            .chain(camera_days::increment_statements(backend, &self.increments))
    }

    /// Returns the cameras after the commit.
    pub fn cameras(&self) -> impl Iterator<Item = &Camera> {
        self.cameras.iter()
    }

    /// Combines the cameras with their counts, which are in the rows that the statements returned.
    pub fn into_sightings(self, rows: &[QueryResult]) -> Result<Vec<CameraSighting>, DbErr> {
        let mut counts = camera_days::counts_from_rows(rows)?;
        let sighting = |camera: Camera| {
            let days = counts.remove(&camera.camera_id).unwrap_or_default().into_iter().collect();
            CameraSighting { camera, days }
        };
        Ok(self.cameras.into_iter().map(sighting).collect())
    }
}
