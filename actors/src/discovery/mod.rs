//! Home Assistant discovery: which devices and entities there are.
//!
//! Keeps Home Assistant's entities in step with the cameras: says what is to stand on the discovery topics, and has it
//! published again when Home Assistant announces itself. The messages themselves are pure functions of a camera and the
//! settings.

mod payload;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, Context, Handler, Recipient, ResponseActFuture,
    SpawnHandle, WrapFuture as _,
};
use tokio::sync::mpsc::UnboundedSender;

use self::payload::About;
use crate::{
    domain::{
        camera::Camera,
        ids::CameraId,
        retained::{Content, Group, Kind, Owner, PreviousTopic, Wanted},
        settings::{DiscoveryFormat, MqttSettings},
    },
    lifecycle::{CrashGuard, stops_on_request},
    messages::{
        config::SettingsChanged,
        connection::{Arrived, Subscribe},
        discovery::{CamerasChanged, DiscoveryError, DiscoveryPublished, PublishDiscovery},
        link::LinkUp,
        outbox::{GetOutbox, OutboxStatus},
        retained::{Republish, Republished, Retain, RetainAll},
    },
};

/// Requests that may wait in the mailbox; facts are bounded by their senders.
const MAILBOX: usize = 256;

/// After Home Assistant has started it is busy, and everybody who announces something does so at once: a random wait
/// within these bounds.
const GREET_AFTER: Duration = Duration::from_millis(500);
const GREET_WITHIN: Duration = Duration::from_millis(2500);

/// How often to look how the log of events stands.
const WATCH_EVERY: Duration = Duration::from_secs(2);

/// The group of the log's state; no camera's id has a `/`.
const OUTBOX_GROUP: &str = "/outbox";

/// Whom discovery works with.
#[derive(Debug, Clone)]
pub struct DiscoveryPeers {
    /// Told what is to stand of one device.
    pub retain: Recipient<Retain>,
    /// The same, of all devices.
    pub retain_all: Recipient<RetainAll>,
    /// Publishes everything again.
    pub republish: Recipient<Republish>,
    /// Tells how the log of events stands.
    pub outbox: Recipient<GetOutbox>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct DiscoveryActor {
    settings: Arc<MqttSettings>,
    about: About,
    peers: DiscoveryPeers,
    cameras: BTreeMap<CameraId, Camera>,
    /// Whether all cameras are known: before, nothing is said of what is to stand.
    complete: bool,
    /// What was told last of the log: what waits, what is dead.
    told_outbox: Option<(u64, u64)>,
    greeting: Option<SpawnHandle>,
    _crash_guard: CrashGuard,
}

impl DiscoveryActor {
    /// An actor that waits for the cameras. `public_url` is where this service is reached from elsewhere.
    pub fn new(
        settings: Arc<MqttSettings>,
        public_url: String,
        peers: DiscoveryPeers,
        crashed: UnboundedSender<&'static str>,
    ) -> Self {
        let about = About { version: env!("CARGO_PKG_VERSION"), public_url };
        let (cameras, complete, told_outbox, greeting) = (BTreeMap::new(), false, None, None);
        Self {
            settings,
            about,
            peers,
            cameras,
            complete,
            told_outbox,
            greeting,
            _crash_guard: CrashGuard::new("discovery", crashed),
        }
    }

    /// What is to stand of a camera's discovery; nothing, when there is no such camera (any more).
    fn camera_group(&self, id: &CameraId) -> Group {
        let name: Arc<str> = Arc::from(payload::camera_device_id(id));
        let camera = self.cameras.get(id).filter(|camera| camera.enabled && self.settings.discovery_enabled);
        match camera {
            None => Group { kind: Kind::Discovery, name, wanted: Vec::new(), former: Vec::new() },
            Some(camera) => {
                let device = |settings: &MqttSettings| payload::camera_device(camera, settings, &self.about);
                let mut group = self.device_group(name, device);
                let legacy = payload::legacy_topics(&self.settings.discovery_prefix, id).into_iter();
                group.former.extend(legacy.map(|legacy| PreviousTopic {
                    topic: legacy.topic,
                    migrates: legacy.migrates,
                    foreign: true,
                }));
                group
            }
        }
    }

    fn service_group(&self) -> Group {
        let name: Arc<str> = Arc::from(payload::service_device_id(&self.settings));
        if self.settings.discovery_enabled {
            self.device_group(name, |settings| payload::service_device(settings, &self.about))
        } else {
            Group { kind: Kind::Discovery, name, wanted: Vec::new(), former: Vec::new() }
        }
    }

    fn device_group(&self, name: Arc<str>, device: impl Fn(&MqttSettings) -> payload::Device) -> Group {
        let settings = &*self.settings;
        let wanted = device(settings).announcements(settings).into_iter().map(|announcement| Wanted {
            topic: announcement.topic,
            content: Content::Bytes(announcement.payload),
        });
        let other = MqttSettings { discovery_format: other(settings.discovery_format), ..settings.clone() };
        let former = device(&other).topics(&other).into_iter();
        let former = former.map(|topic| PreviousTopic { topic, migrates: true, foreign: false });
        Group { kind: Kind::Discovery, name, wanted: wanted.collect(), former: former.collect() }
    }

    fn tell(&self, group: Group) {
        #[expect(clippy::disallowed_methods, reason = "one for each camera that changes")]
        self.peers.retain.do_send(Retain { owner: Owner::Discovery, group });
    }

    fn tell_all(&self) {
        let mut groups: Vec<_> = self.cameras.keys().map(|id| self.camera_group(id)).collect();
        groups.push(self.service_group());
        groups.push(self.outbox_group());
        #[expect(clippy::disallowed_methods, reason = "one at the start and one a change of settings")]
        self.peers.retain_all.do_send(RetainAll { owner: Owner::Discovery, groups });
    }

    /// How the log of events stands, for the entities of the service.
    fn outbox_group(&self) -> Group {
        let state = self.told_outbox.filter(|_| self.settings.discovery_enabled);
        let wanted = state.map(|(pending, dead)| Wanted {
            topic: self.settings.topic_prefix.outbox(),
            content: Content::Bytes(serde_json::json!({"pending": pending, "dead": dead}).to_string().into()),
        });
        let name = Arc::from(OUTBOX_GROUP);
        Group { kind: Kind::State, name, wanted: wanted.into_iter().collect(), former: Vec::new() }
    }

    fn watch(&mut self, ctx: &mut Context<Self>) {
        let asked = self.peers.outbox.send(GetOutbox).into_actor(self);
        ctx.spawn(asked.map(|answer, act, _| {
            // An outbox that does not answer is stopping.
            let Ok(OutboxStatus { pending, dead, .. }) = answer else { return };
            if act.told_outbox.replace((pending, dead)) != Some((pending, dead)) && act.complete {
                act.tell(act.outbox_group());
            }
        }));
    }

    /// Home Assistant has started: it is told everything again, a little later.
    fn greet(&mut self, ctx: &mut Context<Self>) {
        if self.greeting.is_some() {
            return;
        }
        let wait = GREET_AFTER + GREET_WITHIN.mul_f64(rand::random());
        self.greeting = Some(ctx.run_later(wait, |act, ctx| {
            act.greeting = None;
            let republished = act.peers.republish.send(Republish(Kind::Discovery)).into_actor(act);
            ctx.spawn(republished.map(|answer, _, _| {
                if let Ok(Some(Republished { stand, .. })) = answer {
                    tracing::info!(devices = stand.len(), "announced again to Home Assistant");
                }
            }));
        }));
    }

    fn published(&self, republished: &Republished) -> Result<DiscoveryPublished, DiscoveryError> {
        let Republished { stand, refused, unanswered } = republished;
        let devices: BTreeSet<&str> = stand.iter().map(|name| &**name).collect();
        let stands = |id: &&CameraId| devices.contains(payload::camera_device_id(id).as_str());
        let cameras = self.cameras.keys().filter(stands).count();
        match (refused.first(), unanswered.is_empty()) {
            (None, true) => Ok(DiscoveryPublished { cameras }),
            (None, false) => Err(DiscoveryError::Unanswered { cameras }),
            (Some(example), _) => {
                let (devices, example) = (refused.len(), example.to_string());
                Err(DiscoveryError::Refused { devices, example, cameras })
            }
        }
    }

    fn home_assistant_status(&self) -> String {
        format!("{}/status", self.settings.discovery_prefix)
    }
}

fn other(format: DiscoveryFormat) -> DiscoveryFormat {
    match format {
        DiscoveryFormat::Device => DiscoveryFormat::Component,
        DiscoveryFormat::Component => DiscoveryFormat::Device,
    }
}

impl Actor for DiscoveryActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.watch(ctx);
        ctx.run_interval(WATCH_EVERY, Self::watch);
    }
}

stops_on_request!(DiscoveryActor);

impl Handler<CamerasChanged> for DiscoveryActor {
    type Result = ();

    fn handle(&mut self, CamerasChanged { all, changed, gone }: CamerasChanged, _: &mut Self::Context) {
        let ids: Vec<_> = changed.iter().map(|camera| camera.camera_id.clone()).chain(gone.clone()).collect();
        for camera in changed {
            self.cameras.insert(camera.camera_id.clone(), camera);
        }
        for id in gone {
            self.cameras.remove(&id);
        }
        if all {
            self.complete = true;
            self.tell_all();
        } else {
            for id in ids {
                self.tell(self.camera_group(&id));
            }
        }
    }
}

impl Handler<SettingsChanged> for DiscoveryActor {
    type Result = ();

    fn handle(&mut self, SettingsChanged { settings, .. }: SettingsChanged, _: &mut Self::Context) {
        self.settings = settings;
        if self.complete {
            self.tell_all();
        }
    }
}

impl Handler<LinkUp> for DiscoveryActor {
    type Result = ();

    fn handle(&mut self, LinkUp { subscribe, .. }: LinkUp, ctx: &mut Self::Context) {
        if self.settings.discovery_enabled {
            let subscription =
                Subscribe { topic: self.home_assistant_status(), to: ctx.address().recipient() };
            #[expect(clippy::disallowed_methods, reason = "one message a connection")]
            subscribe.do_send(subscription);
        }
    }
}

impl Handler<Arrived> for DiscoveryActor {
    type Result = ();

    fn handle(&mut self, Arrived { topic, payload, .. }: Arrived, ctx: &mut Self::Context) {
        if topic == self.home_assistant_status() && &*payload == b"online" {
            self.greet(ctx);
        }
    }
}

impl Handler<PublishDiscovery> for DiscoveryActor {
    type Result = ResponseActFuture<Self, Result<DiscoveryPublished, DiscoveryError>>;

    fn handle(&mut self, _: PublishDiscovery, _: &mut Self::Context) -> Self::Result {
        if !self.settings.discovery_enabled {
            return Box::pin(std::future::ready(Err(DiscoveryError::Disabled)).into_actor(self));
        }
        let republished = self.peers.republish.send(Republish(Kind::Discovery)).into_actor(self);
        Box::pin(republished.map(|answer, act, _| {
            let republished = answer.ok().flatten().ok_or(DiscoveryError::NotConnected)?;
            act.published(&republished)
        }))
    }
}
