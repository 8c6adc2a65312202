//! The cameras of a commit: their newest events, and the number of their events per day. What the commit does not write
//! about them is in its events, so that counts are exact.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

use super::{
    camera_days::{self, Counts, DayIncrement},
    cameras::{self, Row},
    commit::Context,
    known::KnownCameras,
    tracked::{self, TrackedCamera},
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
    /// Whether the rows of cameras may be written later. Cameras that are not in the cache are written at once, so that
    /// few events must be read with them if there are more cameras than the cache can hold.
    rows_can_wait: bool,
    /// The number of cameras that can still be registered.
    room: u64,
    /// Cameras above the limit. Their events are stored and published, but the cameras themselves are not
    /// stored.
    pub unregistered: BTreeSet<CameraId>,
}

#[derive(Debug)]
struct CameraDraft {
    tracked: TrackedCamera,
    stored: Option<Camera>,
    /// The days of its new events.
    days: BTreeSet<Day>,
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
        let mut known = tracked::find(db, &ids).await?;
        let first_day = events.iter().map(|event| day(event, context.calendar, now)).min();
        let mut totals = match first_day {
            Some(first_day) => camera_days::of_since(db, &ids, first_day).await?,
            None => Counts::new(),
        };
        tracked::add_uncounted(&mut totals, &known, first_day.unwrap_or_default());
        for TrackedCamera { camera, totals: of_camera, .. } in &mut known {
            *of_camera = totals.remove(&camera.camera_id).unwrap_or_default();
        }
        let room = if known.len() == ids.len() {
            0
        } else {
            u64::from(context.max_cameras).saturating_sub(cameras::count(db).await?)
        };
        Ok(Self { rows_can_wait: false, ..Self::new(known, room, context, now) })
    }

    /// Reads the cameras of these events from the cache. Returns `None` unless the cache contains all of
    /// them, with the counts of the days of these events.
    pub fn known(
        known: &KnownCameras,
        events: &[DetectionEvent],
        context: &Context,
        now: Moment,
    ) -> Option<Self> {
        let cameras = Self::new(known.all(ids(events).into_iter())?, 0, context, now);
        let has_total = |event: &DetectionEvent| {
            let draft = cameras.known.get(event.camera_id());
            let day = day(event, context.calendar, now);
            draft.is_some_and(|draft| draft.tracked.totals.contains_key(&day))
        };
        events.iter().all(has_total).then_some(cameras)
    }

    fn new(known: Vec<TrackedCamera>, room: u64, context: &Context, now: Moment) -> Self {
        let draft = |tracked: TrackedCamera| {
            let camera = &tracked.camera;
            let (id, stored) = (camera.camera_id.clone(), Some(camera.clone()));
            (id, CameraDraft { tracked, stored, days: BTreeSet::new() })
        };
        let known = known.into_iter().map(draft).collect();
        let Context { calendar, late_after_seconds, .. } = *context;
        let (rows_can_wait, unregistered) = (true, BTreeSet::new());
        Self { calendar, late_after_seconds, now, known, rows_can_wait, room, unregistered }
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
            let tracked = TrackedCamera::new(camera, None);
            self.known.insert(id.clone(), CameraDraft { tracked, stored: None, days: BTreeSet::new() });
        }
        Cow::Borrowed(&self.known.get(id).expect("it was inserted above").tracked.camera)
    }

    /// Updates the event's camera and counts the event.
    pub fn record(&mut self, event: &DetectionEvent, seq: Seq) {
        let Some(draft) = self.known.get_mut(event.camera_id()) else { return };
        event.update_camera(&mut draft.tracked.camera, seq, self.now, self.late_after_seconds);
        let day = day(event, self.calendar, self.now);
        draft.tracked.count(day);
        draft.days.insert(day);
    }

    /// Returns the rows that contain the changes. `up_to` is the position of the last event of the commit.
    pub fn into_writes(self, up_to: Seq) -> PendingWrites {
        let (mut cameras, mut sightings, mut changed, mut increments) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (calendar, rows_can_wait, mut came_online) = (self.calendar, self.rows_can_wait, false);
        for CameraDraft { mut tracked, stored, days } in self.known.into_values() {
            if days.is_empty() {
                continue;
            }
            let was_online = stored.as_ref().is_none_or(|stored| stored.status == CameraStatus::Online);
            came_online |= !was_online && tracked.camera.status == CameraStatus::Online;
            let can_wait = |stored: Camera| rows_can_wait && tracked.can_wait(&stored, calendar);
            if !stored.is_some_and(can_wait) {
                let days = tracked.write(calendar);
                increments.extend(camera_days::increments(&tracked.camera.camera_id, &days));
                changed.push(tracked.camera.clone());
            }
            let days = days.into_iter().map(|day| (day, tracked.totals[&day])).collect();
            sightings.push(CameraSighting { camera: tracked.camera.clone(), days });
            tracked.shorten();
            cameras.push(tracked);
        }
        PendingWrites { changed, increments, came_online, up_to, zone: calendar.zone(), cameras, sightings }
    }
}

/// Returns the day on which an event is counted.
fn day(event: &DetectionEvent, calendar: Calendar, now: Moment) -> Day {
    calendar.day(event.happened_at(now.wall))
}

fn ids(events: &[DetectionEvent]) -> BTreeSet<&CameraId> {
    events.iter().map(DetectionEvent::camera_id).collect()
}

/// What a commit writes about its cameras.
#[derive(Debug)]
pub struct PendingWrites {
    /// The cameras whose rows are written.
    changed: Vec<Camera>,
    /// What is added to the counts.
    pub increments: Vec<DayIncrement>,
    /// Whether the events set a camera online that was not.
    pub came_online: bool,
    up_to: Seq,
    zone: &'static str,
    cameras: Vec<TrackedCamera>,
    sightings: Vec<CameraSighting>,
}

impl PendingWrites {
    /// Returns the statements, in the order of execution. There are few of them even if there are many cameras: a
    /// commit of a thousand events can have a thousand cameras.
    pub fn statements(&self, backend: DbBackend) -> impl Iterator<Item = Statement> {
        let rows: Vec<_> = self.rows().collect();
        let rows: Vec<_> = cameras::upsert_statements(backend, &rows).collect();
        rows.into_iter().chain(camera_days::increment_statements(backend, &self.increments))
    }

    /// Returns the rows of the cameras that are written.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        let (up_to, zone) = (self.up_to, Some(self.zone));
        self.changed.iter().map(move |camera| Row { camera, up_to, zone })
    }

    /// Returns the cameras after the commit.
    pub fn cameras(&self) -> impl Iterator<Item = &TrackedCamera> {
        self.cameras.iter()
    }

    /// Returns the cameras after the commit, with the counts of the days on which they have new events.
    pub fn into_sightings(self) -> Vec<CameraSighting> {
        self.sightings
    }
}
