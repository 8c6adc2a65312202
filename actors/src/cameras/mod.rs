//! The cameras: who they are, what they saw last, how many events they had, whether they are active.
//!
//! Owns what is known of each camera, in memory as in the database: the outbox writes what events tell of it in their own
//! commit, this actor what people and sources say. Promises: counts are exact, in the local time zone, also over a
//! restart; every change is told to the broker's states and to discovery. It does not publish: it says what is to stand.

mod change;
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
    change::storage,
    tally::{Tally, is_active},
};
use crate::{
    domain::{
        calendar::{Calendar, Day},
        camera::{Camera, CameraSighting, Thumbnail},
        clock::{Clock, Timestamp},
        ids::CameraId,
        retained::{Content, Group, Kind, Owner, Wanted},
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
};

/// Requests that may wait in the mailbox; facts are bounded by their senders.
const MAILBOX: usize = 256;

/// How often to look whether an activity is over or a day.
const TICK: Duration = Duration::from_secs(1);

/// What the events of a camera change is told at most so often: no more of it leaves (see the pace of
/// [`retained`](crate::retained)), and under load it would be work for each event.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// Days before this week are of no use to anybody here; they are kept a little for whoever looks into the database.
const KEEP_DAYS: u64 = 31;

/// Whom the cameras tell.
#[derive(Debug, Clone)]
pub struct CameraPeers {
    /// Told what is to stand of a camera's state.
    pub retain: Recipient<Retain>,
    /// The same, of all cameras.
    pub retain_all: Recipient<RetainAll>,
    /// Told when something changes that discovery tells of.
    pub discovery: Recipient<CamerasChanged>,
}

/// What is known of one camera.
#[derive(Debug)]
struct Known {
    camera: Camera,
    tally: Tally,
    /// The revision at which it was read with its counts: what an earlier one tells is among them, or of another camera of
    /// the same name.
    read_at: i64,
    /// Another one for each picture, also of the same event.
    picture: u64,
    /// What was told last.
    active: bool,
    /// When something that an event changed was told last.
    told_at: Option<Instant>,
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
    /// Those that have changed since they were told.
    untold: BTreeSet<CameraId>,
    /// Pictures that are to be noted.
    pictures: BTreeMap<CameraId, Thumbnail>,
    today: Day,
    _crash_guard: CrashGuard,
}

impl CameraActor {
    /// Reads what is known of the cameras. Takes their number in time, not that of their events.
    pub async fn open(
        store: Store,
        settings: Arc<MqttSettings>,
        calendar: Calendar,
        clock: Clock,
        max_cameras: u32,
        peers: CameraPeers,
        crashed: UnboundedSender<&'static str>,
    ) -> Result<Self, StoreError> {
        let today = calendar.day(clock());
        let mut days = store.days_since(Calendar::monday(today)).await?;
        let known = |camera: Camera| {
            let counted_at = camera.last_event.as_ref().map(|last| last.happened_at);
            let tally = Tally::new(days.remove(&camera.camera_id).unwrap_or_default(), counted_at);
            (camera.camera_id.clone(), Known::new(camera, tally))
        };
        let cameras = store.list_cameras().await?.into_iter().map(known).collect();
        let (untold, pictures) = (BTreeSet::new(), BTreeMap::new());
        Ok(Self {
            store,
            settings,
            calendar,
            clock,
            max_cameras,
            peers,
            cameras,
            untold,
            pictures,
            today,
            _crash_guard: CrashGuard::new("cameras", crashed),
        })
    }

    fn view(&mut self, id: &CameraId) -> Option<CameraView> {
        let known = self.cameras.get_mut(id)?;
        let counts = known.tally.counts(self.calendar, (self.clock)());
        let camera = known.camera.clone();
        Some(CameraView { camera, events_today: counts.today, events_this_week: counts.this_week })
    }

    /// What is to stand of a camera's state.
    fn group(&mut self, id: &CameraId, now: Timestamp) -> Group {
        let Some(known) = self.cameras.get_mut(id) else {
            let name = Arc::from(id.as_str());
            return Group { kind: Kind::State, name, wanted: Vec::new(), former: Vec::new() };
        };
        let counts = known.tally.counts(self.calendar, now);
        known.active = is_active(&known.camera, self.settings.activity_seconds, now);
        state::group(&known.camera, counts, known.active, known.picture, &self.settings)
    }

    /// Tells of a camera: at once, unless that was done lately; then in a while, whatever changes until then in one.
    fn tell_soon(&mut self, id: &CameraId, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let Some(known) = self.cameras.get_mut(id) else { return };
        if known.told_at.is_none_or(|told_at| told_at + TELL_EVERY <= now) {
            known.told_at = Some(now);
            self.tell(id);
            return;
        }
        if self.untold.is_empty() {
            ctx.run_later(TELL_EVERY, Self::tell_untold);
        }
        self.untold.insert(id.clone());
    }

    fn tell_untold(&mut self, _: &mut Context<Self>) {
        for id in std::mem::take(&mut self.untold) {
            if let Some(known) = self.cameras.get_mut(&id) {
                known.told_at = Some(Instant::now());
                self.tell(&id);
            }
        }
    }

    fn tell(&mut self, id: &CameraId) {
        let group = self.group(id, (self.clock)());
        #[expect(
            clippy::disallowed_methods,
            reason = "one for each camera of a commit, a request or a second"
        )]
        self.peers.retain.do_send(Retain { owner: Owner::Cameras, group });
    }

    fn tell_all(&mut self) {
        let (now, ids) = ((self.clock)(), self.cameras.keys().cloned().collect::<Vec<_>>());
        let mut groups: Vec<_> = ids.iter().map(|id| self.group(id, now)).collect();
        // The connection publishes it; it is to be cleared where it is not used any more.
        let (topic, content) = (self.settings.availability_topic(), Content::External { stays: true });
        let availability = Wanted { topic, content };
        let name = Arc::from("/availability");
        groups.push(Group { kind: Kind::State, name, wanted: vec![availability], former: Vec::new() });
        #[expect(clippy::disallowed_methods, reason = "one at the start, a change of settings or a new day")]
        self.peers.retain_all.do_send(RetainAll { owner: Owner::Cameras, groups });
    }

    fn tell_discovery(&self, changes: CamerasChanged) {
        #[expect(
            clippy::disallowed_methods,
            reason = "one for each request, or commit that changes a camera"
        )]
        self.peers.discovery.do_send(changes);
    }

    /// Takes in what the database held of a camera at some time; what is known newer is passed over. Answers whose
    /// state is to be told.
    fn learn(&mut self, camera: Camera, days: &[(Day, u64)]) -> Option<CameraId> {
        let now = (self.clock)();
        let id = camera.camera_id.clone();
        let known = self.cameras.get_mut(&id)?;
        if camera.revision < known.read_at {
            return None;
        }
        if !days.is_empty() {
            known.tally.count(days, now);
        }
        if camera.revision > known.camera.revision {
            let announced = !same_announcement(&camera, &known.camera);
            known.camera = camera;
            if announced {
                let changed = vec![known.camera.clone()];
                self.tell_discovery(CamerasChanged { changed, ..CamerasChanged::default() });
            }
        }
        Some(id)
    }

    /// Takes in a camera that was not known here.
    fn register(&mut self, camera: Camera, days: BTreeMap<Day, u64>) {
        let id = camera.camera_id.clone();
        let tally = Tally::new(days, Some((self.clock)()));
        self.cameras.insert(id.clone(), Known::new(camera.clone(), tally));
        self.tell(&id);
        self.tell_discovery(CamerasChanged { changed: vec![camera], ..CamerasChanged::default() });
    }

    /// Takes in cameras that are not known here, as the database has them: new ones, unless they were removed since that
    /// commit, or removed and registered anew.
    fn meet(&mut self, new: Vec<CameraSighting>, ctx: &mut Context<Self>) {
        let (store, monday) = (self.store.clone(), Calendar::monday(self.today));
        let ids: Vec<_> = new.iter().map(|seen| seen.camera.camera_id.clone()).collect();
        let found = async move {
            let found = store.find_cameras(&ids).await?;
            Ok::<_, StoreError>((found, store.days_of_cameras(&ids, monday).await?))
        };
        ctx.wait(found.into_actor(self).map(|found, act, _| {
            let (found, mut days) = found.unwrap_or_else(|error| {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "whether a new camera is still there could not be read; taken for yes"
                );
                let as_seen = |CameraSighting { camera, days }: CameraSighting| {
                    let id = camera.camera_id.clone();
                    (camera, (id, days.into_iter().collect()))
                };
                new.into_iter().map(as_seen).unzip()
            });
            for camera in found {
                let days = days.remove(&camera.camera_id).unwrap_or_default();
                tracing::info!(camera_id = %camera.camera_id, camera_name = camera.camera_name, "new camera");
                act.register(camera, days);
            }
        }));
    }

    /// Notes the pictures that came; those that come meanwhile wait, and of each camera only the newest.
    fn note_pictures(&mut self, ctx: &mut Context<Self>) {
        let (store, pictures) = (self.store.clone(), std::mem::take(&mut self.pictures));
        let noted = async move { store.note_pictures(&pictures).await };
        ctx.wait(noted.into_actor(self).map(|noted, act, ctx| match noted {
            Ok(noted) => {
                for camera in noted {
                    if let Some(known) = act.cameras.get_mut(&camera.camera_id) {
                        known.picture += 1;
                        if let Some(id) = act.learn(camera, &[]) {
                            act.tell_soon(&id, ctx);
                        }
                    }
                }
            }
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "new pictures are not shown as their cameras' newest"
            ),
        }));
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let now = (self.clock)();
        let today = self.calendar.day(now);
        if today != self.today {
            self.today = today;
            self.tell_all();
            self.forget_old_days(ctx);
            return;
        }
        let activity_seconds = self.settings.activity_seconds;
        let flipped = |known: &Known| is_active(&known.camera, activity_seconds, now) != known.active;
        let ids: Vec<_> =
            self.cameras.iter().filter(|(_, known)| flipped(known)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.tell(&id);
        }
    }

    fn forget_old_days(&mut self, ctx: &mut Context<Self>) {
        let (store, before) = (self.store.clone(), self.today - Days::new(KEEP_DAYS));
        let forget = async move { store.delete_days_before(before).await };
        ctx.spawn(forget.into_actor(self).map(|deleted, _, _| {
            if let Err(error) = deleted {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "old counts could not be removed; tried again tomorrow"
                );
            }
        }));
    }
}

impl Known {
    fn new(camera: Camera, tally: Tally) -> Self {
        Self { read_at: camera.revision, camera, tally, picture: 0, active: false, told_at: None }
    }
}

/// Whether discovery says the same of both.
fn same_announcement(a: &Camera, b: &Camera) -> bool {
    let format = |camera: &Camera| camera.thumbnail.map(|thumbnail| thumbnail.format);
    (&a.camera_name, &a.source_type, a.is_doorbell, a.enabled, &a.event_types, format(a))
        == (&b.camera_name, &b.source_type, b.is_doorbell, b.enabled, &b.event_types, format(b))
}

impl Actor for CameraActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(TICK, Self::tick);
        self.tell_all();
        let changed = self.cameras.values().map(|known| known.camera.clone()).collect();
        self.tell_discovery(CamerasChanged { all: true, changed, gone: Vec::new() });
        tracing::info!(cameras = self.cameras.len(), time_zone = self.calendar.zone(), "cameras known");
    }
}

stops_on_request!(CameraActor);

impl Handler<CamerasSeen> for CameraActor {
    type Result = ();

    fn handle(&mut self, CamerasSeen(seen): CamerasSeen, ctx: &mut Self::Context) {
        let is_known = |seen: &CameraSighting| self.cameras.contains_key(&seen.camera.camera_id);
        let (known, new): (Vec<_>, Vec<_>) = seen.into_iter().partition(is_known);
        for CameraSighting { camera, days } in known {
            if let Some(id) = self.learn(camera, &days) {
                self.tell_soon(&id, ctx);
            }
        }
        if !new.is_empty() {
            self.meet(new, ctx);
        }
    }
}

impl Handler<ThumbnailStored> for CameraActor {
    type Result = ();

    fn handle(&mut self, ThumbnailStored { camera_id, thumbnail }: ThumbnailStored, ctx: &mut Self::Context) {
        if self.pictures.is_empty() {
            // After whatever is in the mailbox already.
            ctx.spawn(actix::fut::ready(()).into_actor(self).map(|(), act, ctx| act.note_pictures(ctx)));
        }
        let newest = self.pictures.entry(camera_id).or_insert(thumbnail);
        if !thumbnail.is_older_than(newest) {
            *newest = thumbnail;
        }
    }
}

impl Handler<SettingsChanged> for CameraActor {
    type Result = ();

    fn handle(&mut self, SettingsChanged { settings, .. }: SettingsChanged, _: &mut Self::Context) {
        self.settings = settings;
        self.tell_all();
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
        let (id, max, now) = (camera_id.clone(), self.max_cameras, (self.clock)());
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
        let now = (self.clock)();
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
        let (store, gone) = (self.store.clone(), id.clone());
        let deleted = async move { store.delete_camera(&gone).await.map_err(storage) };
        AtomicResponse::new(Box::pin(deleted.into_actor(self).map(move |deleted, act, _| {
            if !deleted? {
                return Err(CameraError::Unknown);
            }
            act.cameras.remove(&id);
            // First discovery, so that nobody listens any more when the states go.
            act.tell_discovery(CamerasChanged { gone: vec![id.clone()], ..CamerasChanged::default() });
            act.tell(&id);
            tracing::info!(camera_id = %id, "camera removed");
            Ok(())
        })))
    }
}
