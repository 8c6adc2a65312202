//! What a commit tells of cameras: who they are, what they saw last, how many events they had on a day. Written in the
//! transaction of the commit, so that counts are exact.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use sea_orm::{ConnectionTrait, DbErr, QueryResult, Statement};

use super::{
    camera_days::{self, DayIncrement},
    cameras,
    known::KnownCameras,
};
use crate::domain::{
    calendar::{Calendar, Day},
    camera::{Camera, CameraSighting},
    clock::Timestamp,
    event::DetectionEvent,
    ids::{CameraId, Seq},
};

/// The cameras of one commit.
#[derive(Debug)]
pub struct Cameras {
    calendar: Calendar,
    now: Timestamp,
    known: BTreeMap<CameraId, CameraDraft>,
    /// How many more may be registered.
    room: u64,
    /// Cameras that are one too many: their events are kept and published, but nothing else is known of them.
    pub unregistered: BTreeSet<CameraId>,
}

#[derive(Debug)]
struct CameraDraft {
    camera: Camera,
    stored: Option<Camera>,
    days: BTreeMap<Day, u64>,
}

impl Cameras {
    /// What the database holds of the cameras of these events.
    pub async fn of(
        db: &impl ConnectionTrait,
        events: &[DetectionEvent],
        calendar: Calendar,
        max_cameras: u32,
        now: Timestamp,
    ) -> Result<Self, DbErr> {
        let ids: Vec<CameraId> = ids(events).into_iter().cloned().collect();
        let known = cameras::find(db, &ids).await?;
        let room = if known.len() == ids.len() {
            0
        } else {
            u64::from(max_cameras).saturating_sub(cameras::count(db).await?)
        };
        Ok(Self::new(known, room, calendar, now))
    }

    /// The same without asking it, if all of them are known.
    pub fn known(
        known: &KnownCameras,
        events: &[DetectionEvent],
        calendar: Calendar,
        now: Timestamp,
    ) -> Option<Self> {
        Some(Self::new(known.all(ids(events).into_iter())?, 0, calendar, now))
    }

    fn new(known: Vec<Camera>, room: u64, calendar: Calendar, now: Timestamp) -> Self {
        let sighted = |camera: Camera| {
            let stored = Some(camera.clone());
            (camera.camera_id.clone(), CameraDraft { camera, stored, days: BTreeMap::new() })
        };
        let known = known.into_iter().map(sighted).collect();
        Self { calendar, now, known, room, unregistered: BTreeSet::new() }
    }

    /// The camera of an event, as it is before the event tells of it.
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
        Cow::Borrowed(&self.known.get(id).expect("it was put there above").camera)
    }

    /// Takes in what a new event tells.
    pub fn take(&mut self, event: &DetectionEvent, seq: Seq) {
        let Some(sighted) = self.known.get_mut(event.camera_id()) else { return };
        event.tell(&mut sighted.camera, seq, self.now);
        *sighted.days.entry(self.calendar.day(event.happened_at(self.now))).or_default() += 1;
    }

    /// What writes down what has changed. In few statements however many cameras it are: a commit of a thousand events can have
    /// a thousand.
    pub fn writing(self) -> PendingWrites {
        let (mut cameras, mut changed, mut more) = (Vec::new(), Vec::new(), Vec::new());
        for CameraDraft { mut camera, stored, days } in self.known.into_values() {
            if days.is_empty() {
                continue;
            }
            if stored.as_ref() != Some(&camera) {
                camera.revision += 1;
                changed.push(camera.clone());
            }
            let camera_id = &camera.camera_id;
            more.extend(days.into_iter().map(|(day, events)| DayIncrement {
                camera_id: camera_id.clone(),
                day,
                events,
            }));
            cameras.push(camera);
        }
        let statements = cameras::writing(&changed).chain(camera_days::adding(&more)).collect();
        PendingWrites { statements, cameras }
    }
}

fn ids(events: &[DetectionEvent]) -> BTreeSet<&CameraId> {
    events.iter().map(DetectionEvent::camera_id).collect()
}

/// What is to be carried out, and of whom it tells.
#[derive(Debug)]
pub struct PendingWrites {
    /// In this order; what they answer is for [`PendingWrites::written`].
    pub statements: Vec<Statement>,
    cameras: Vec<Camera>,
}

impl PendingWrites {
    /// The cameras as they are then.
    pub fn cameras(&self) -> impl Iterator<Item = &Camera> {
        self.cameras.iter()
    }

    /// What was written.
    pub fn written(self, answers: &[QueryResult]) -> Result<Vec<CameraSighting>, DbErr> {
        let mut counts = camera_days::counted(answers)?;
        let seen = |camera: Camera| {
            let days = counts.remove(&camera.camera_id).unwrap_or_default().into_iter().collect();
            CameraSighting { camera, days }
        };
        Ok(self.cameras.into_iter().map(seen).collect())
    }
}
