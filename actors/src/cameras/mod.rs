//! Cameras: their metadata, their last event, their event counts and their activity.
//!
//! The `CameraActor` owns the data of each camera, in memory and in the database. The outbox writes the
//! changes by an event in the event's own commit; this actor writes the changes by users and classifiers. It
//! does not publish states itself: it sends them to the `RetainedActor`.
//!
//! It guarantees:
//!
//! - Counts are exact, use the local time zone and survive restarts.
//! - Every change reaches the retained states and discovery.

mod change;
mod publish;
mod state;
mod tally;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, AtomicResponse, Context, Handler, MessageResult,
    Recipient, WrapFuture as _,
};
use chrono::Days;
use tokio::{sync::mpsc::UnboundedSender, time::Instant};

use self::{
    change::storage_error,
    tally::{Tally, is_active},
};
use crate::{
    domain::{
        calendar::{Calendar, Day},
        camera::{Camera, CameraSighting, Thumbnail},
        causes::with_causes,
        clock::{self, Clock},
        ids::CameraId,
        settings::MqttSettings,
    },
    lifecycle::{CrashGuard, stops_on_request},
    messages::{
        cameras::{
            CameraError, CameraView, CamerasSeen, DeleteCamera, GetCamera, ListCameras, PutCamera,
            SetCameraStatus, ThumbnailStored,
        },
        config::SettingsChanged,
        discovery::CamerasChanged,
        retained::{Retain, RetainAll},
    },
    store::{Store, StoreError},
    ticks,
};

/// Maximum number of requests in the mailbox. Facts bypass this limit; their senders limit their number.
const MAILBOX: usize = 256;

/// How often to check whether a camera's activity or the day has ended.
const TICK: Duration = Duration::from_secs(1);

/// How many days of counts are kept. Only this week's are used; the others are for users who query the
/// database.
const KEEP_DAYS: u64 = 31;

/// The actors that the `CameraActor` sends messages to.
#[derive(Debug, Clone)]
pub struct CameraPeers {
    /// Receives the state of one camera.
    pub retain: Recipient<Retain>,
    /// Receives the states of all cameras.
    pub retain_all: Recipient<RetainAll>,
    /// Notified when something changes that discovery announces.
    pub discovery: Recipient<CamerasChanged>,
}

/// A camera with its counts and the values that were last published.
#[derive(Debug)]
struct Known {
    camera: Camera,
    tally: Tally,
    /// The revision at which the camera and its counts were read. An earlier revision is already included in
    /// them, or belongs to a removed camera with the same id.
    read_at: i64,
    /// The picture's version, which changes with every new picture, even one of the same event.
    picture: u64,
    /// Whether the camera was last published as active.
    active: bool,
    /// When a change caused by an event was last published.
    published_at: Option<Instant>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct CameraActor {
    store: Store,
    settings: Arc<MqttSettings>,
    calendar: Calendar,
    clock: Clock,
    max_cameras: u32,
    peers: CameraPeers,
    cameras: BTreeMap<CameraId, Known>,
    /// Cameras with changes that have not been published yet.
    unpublished: BTreeSet<CameraId>,
    /// The newest picture of each camera, not yet written to the database.
    new_pictures: BTreeMap<CameraId, Thumbnail>,
    today: Day,
    _crash_guard: CrashGuard,
}

impl CameraActor {
    /// Reads all cameras from the database. The time this takes depends on the number of cameras, not on the
    /// number of events.
    pub async fn open(
        store: Store,
        settings: Arc<MqttSettings>,
        calendar: Calendar,
        clock: Clock,
        max_cameras: u32,
        peers: CameraPeers,
        crashed: UnboundedSender<&'static str>,
    ) -> Result<Self, StoreError> {
        let today = calendar.day(clock.now().wall);
        let mut days = store.days_since(today - Days::new(KEEP_DAYS)).await?;
        let known = |camera: Camera| {
            let counted_at = camera.last_event.as_ref().map(|last| last.happened_at);
            let tally = Tally::new(days.remove(&camera.camera_id).unwrap_or_default(), counted_at);
            (camera.camera_id.clone(), Known::new(camera, tally))
        };
        let cameras = store.list_cameras().await?.into_iter().map(known).collect();
        let (unpublished, new_pictures) = (BTreeSet::new(), BTreeMap::new());
        Ok(Self {
            store,
            settings,
            calendar,
            clock,
            max_cameras,
            peers,
            cameras,
            unpublished,
            new_pictures,
            today,
            _crash_guard: CrashGuard::new("cameras", crashed),
        })
    }

    /// Returns the first day whose counts are read from the database.
    fn first_day(&self) -> Day {
        self.today - Days::new(KEEP_DAYS)
    }

    fn view(&self, id: &CameraId) -> Option<CameraView> {
        let known = self.cameras.get(id)?;
        let counts = known.tally.counts(self.calendar, self.clock.now().wall);
        let camera = known.camera.clone();
        Some(CameraView { camera, events_today: counts.today, events_this_week: counts.this_week })
    }

    /// Applies a camera at one revision of the database, unless a newer revision is known. Returns the camera
    /// whose state must be published.
    fn apply(&mut self, camera: Camera, days: &[(Day, u64)]) -> Option<CameraId> {
        let now = self.clock.now().wall;
        let id = camera.camera_id.clone();
        let known = self.cameras.get_mut(&id)?;
        if camera.revision < known.read_at {
            return None;
        }
        if !days.is_empty() {
            known.tally.count(days, now);
        }
        if camera.revision > known.camera.revision {
            let must_announce = !same_announcement(&camera, &known.camera);
            known.camera = camera;
            if must_announce {
                let changed = vec![known.camera.clone()];
                self.notify_discovery(CamerasChanged { changed, ..CamerasChanged::default() });
            }
        }
        Some(id)
    }

    /// Adds a camera that this actor did not know.
    fn register(&mut self, camera: Camera, days: BTreeMap<Day, u64>) {
        let id = camera.camera_id.clone();
        let tally = Tally::new(days, Some(self.clock.now().wall));
        self.cameras.insert(id.clone(), Known::new(camera.clone(), tally));
        self.publish(&id);
        self.notify_discovery(CamerasChanged { changed: vec![camera], ..CamerasChanged::default() });
    }

    /// Reads the new cameras of a commit from the database and adds them: a camera may have been removed
    /// since the commit, or removed and registered again.
    fn register_new(&mut self, new: Vec<CameraSighting>, ctx: &mut Context<Self>) {
        let (store, first_day) = (self.store.clone(), self.first_day());
        let ids: Vec<_> = new.iter().map(|seen| seen.camera.camera_id.clone()).collect();
        let found = async move {
            let found = store.find_cameras(&ids).await?;
            Ok::<_, StoreError>((found, store.days_of_cameras(&ids, first_day).await?))
        };
        ctx.wait(found.into_actor(self).map(|found, act, _| {
            let (found, mut days) = found.unwrap_or_else(|error| {
                tracing::warn!(
                    error = %with_causes(&error),
                    "cannot check whether new cameras still exist; assuming that they do"
                );
                let as_seen = |CameraSighting { camera, days }: CameraSighting| {
                    let id = camera.camera_id.clone();
                    (camera, (id, days.into_iter().collect()))
                };
                new.into_iter().map(as_seen).unzip()
            });
            for camera in found {
                let days = days.remove(&camera.camera_id).unwrap_or_default();
                let Camera { camera_id, camera_name, .. } = &camera;
                tracing::info!(%camera_id, camera_name, "camera registered");
                act.register(camera, days);
            }
        }));
    }

    /// Writes the new pictures to the database. Later ones wait until this is done; only the newest of each
    /// camera is kept.
    fn write_pictures(&mut self, ctx: &mut Context<Self>) {
        let (store, pictures) = (self.store.clone(), std::mem::take(&mut self.new_pictures));
        let written = async move { store.note_pictures(&pictures).await };
        ctx.wait(written.into_actor(self).map(|written, act, ctx| match written {
            Ok(changed) => {
                for camera in changed {
                    if let Some(known) = act.cameras.get_mut(&camera.camera_id) {
                        known.picture += 1;
                        if let Some(id) = act.apply(camera, &[]) {
                            act.publish_soon(&id, ctx);
                        }
                    }
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = %with_causes(&error),
                    "cannot write new pictures; their cameras keep the previous ones"
                );
            }
        }));
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        let today = self.calendar.day(now.wall);
        if today != self.today {
            self.today = today;
            self.publish_all();
            self.forget_old_days(ctx);
            return;
        }
        let activity_seconds = self.settings.activity_seconds;
        let has_flipped = |known: &Known| is_active(&known.camera, activity_seconds, now) != known.active;
        let ids: Vec<_> =
            self.cameras.iter().filter(|(_, known)| has_flipped(known)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.publish(&id);
        }
    }

    fn forget_old_days(&mut self, ctx: &mut Context<Self>) {
        // The earlier of the two days, so that a wall clock that is wrong for a while deletes no counts.
        let log_day = self.calendar.day(clock::from_micros(self.clock.now().log.0));
        let (store, before) = (self.store.clone(), self.today.min(log_day) - Days::new(KEEP_DAYS));
        let forget = async move { store.delete_days_before(before).await };
        ctx.spawn(forget.into_actor(self).map(|deleted, _, _| {
            if let Err(error) = deleted {
                tracing::warn!(
                    error = %with_causes(&error),
                    "cannot remove old counts; retrying tomorrow"
                );
            }
        }));
    }
}

impl Known {
    fn new(camera: Camera, tally: Tally) -> Self {
        Self { read_at: camera.revision, camera, tally, picture: 0, active: false, published_at: None }
    }
}

/// Returns whether both cameras have the same discovery announcement.
fn same_announcement(a: &Camera, b: &Camera) -> bool {
    // Without `..`, so that each new field needs a decision.
    let Camera {
        camera_id: _,
        camera_name,
        reported_name: _,
        source_type,
        is_doorbell,
        enabled,
        status: _,
        status_at: _,
        last_event: _,
        event_types,
        thumbnail,
        revision: _,
    } = a;
    let format = |thumbnail: &Option<Thumbnail>| thumbnail.map(|thumbnail| thumbnail.format);
    (camera_name, source_type, is_doorbell, enabled, event_types, format(thumbnail))
        == (&b.camera_name, &b.source_type, &b.is_doorbell, &b.enabled, &b.event_types, format(&b.thumbnail))
}

impl Actor for CameraActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ticks::run(ctx, TICK, Self::tick);
        self.publish_all();
        let changed = self.cameras.values().map(|known| known.camera.clone()).collect();
        self.notify_discovery(CamerasChanged { all: true, changed, gone: Vec::new() });
        tracing::info!(cameras = self.cameras.len(), time_zone = self.calendar.zone(), "cameras loaded");
    }
}

stops_on_request!(CameraActor);

impl Handler<CamerasSeen> for CameraActor {
    type Result = ();

    fn handle(&mut self, CamerasSeen(seen): CamerasSeen, ctx: &mut Self::Context) {
        let is_known = |seen: &CameraSighting| self.cameras.contains_key(&seen.camera.camera_id);
        let (known, new): (Vec<_>, Vec<_>) = seen.into_iter().partition(is_known);
        for CameraSighting { camera, days } in known {
            let status = |act: &Self| act.cameras.get(&camera.camera_id).map(|known| known.camera.status);
            let before = status(self);
            let (after, id) = (camera.status, self.apply(camera, &days));
            match id {
                // The outbox holds the camera's events back until the new status is published.
                Some(id) if before != Some(after) => self.publish(&id),
                Some(id) => self.publish_soon(&id, ctx),
                None => {}
            }
        }
        if !new.is_empty() {
            self.register_new(new, ctx);
        }
    }
}

impl Handler<ThumbnailStored> for CameraActor {
    type Result = ();

    fn handle(&mut self, ThumbnailStored { camera_id, thumbnail }: ThumbnailStored, ctx: &mut Self::Context) {
        if self.new_pictures.is_empty() {
            // Runs after the messages that are already in the mailbox, so that all their pictures
            // are written together.
            ctx.spawn(actix::fut::ready(()).into_actor(self).map(|(), act, ctx| act.write_pictures(ctx)));
        }
        let newest = self.new_pictures.entry(camera_id).or_insert(thumbnail);
        if !thumbnail.is_older_than(newest) {
            *newest = thumbnail;
        }
    }
}

impl Handler<SettingsChanged> for CameraActor {
    type Result = ();

    fn handle(&mut self, SettingsChanged { settings, .. }: SettingsChanged, _: &mut Self::Context) {
        self.settings = settings;
        self.publish_all();
    }
}

impl Handler<ListCameras> for CameraActor {
    type Result = MessageResult<ListCameras>;

    fn handle(&mut self, _: ListCameras, _: &mut Self::Context) -> Self::Result {
        let ids: Vec<_> = self.cameras.keys().cloned().collect();
        MessageResult(ids.iter().filter_map(|id| self.view(id)).collect())
    }
}

impl Handler<GetCamera> for CameraActor {
    type Result = MessageResult<GetCamera>;

    fn handle(&mut self, GetCamera(id): GetCamera, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.view(&id))
    }
}

impl Handler<PutCamera> for CameraActor {
    type Result = AtomicResponse<Self, Result<CameraView, CameraError>>;

    fn handle(&mut self, PutCamera { camera_id, update }: PutCamera, _: &mut Self::Context) -> Self::Result {
        let (id, max, now) = (camera_id.clone(), self.max_cameras, self.clock.now());
        self.change(camera_id, move |known, room| {
            let mut camera = match known {
                Some(camera) => camera,
                None if room => Camera::new(id, now),
                None => return Err(CameraError::TooMany { max }),
            };
            update.apply(&mut camera);
            Ok(camera)
        })
    }
}

impl Handler<SetCameraStatus> for CameraActor {
    type Result = AtomicResponse<Self, Result<CameraView, CameraError>>;

    fn handle(&mut self, msg: SetCameraStatus, _: &mut Self::Context) -> Self::Result {
        let SetCameraStatus { camera_id, status } = msg;
        let now = self.clock.now().wall;
        self.change(camera_id, move |known, _| {
            let mut camera = known.ok_or(CameraError::Unknown)?;
            if camera.status != status {
                (camera.status, camera.status_at) = (status, now);
            }
            Ok(camera)
        })
    }
}

impl Handler<DeleteCamera> for CameraActor {
    type Result = AtomicResponse<Self, Result<(), CameraError>>;

    fn handle(&mut self, DeleteCamera(id): DeleteCamera, _: &mut Self::Context) -> Self::Result {
        let (store, camera_id) = (self.store.clone(), id.clone());
        let deleted = async move { store.delete_camera(&camera_id).await.map_err(storage_error) };
        AtomicResponse::new(Box::pin(deleted.into_actor(self).map(move |deleted, act, _| {
            if !deleted? {
                return Err(CameraError::Unknown);
            }
            act.cameras.remove(&id);
            // Discovery is notified first, so that Home Assistant no longer uses the states when they are
            // cleared.
            act.notify_discovery(CamerasChanged { gone: vec![id.clone()], ..CamerasChanged::default() });
            act.publish(&id);
            tracing::info!(camera_id = %id, "camera removed");
            Ok(())
        })))
    }
}
