//! Home Assistant discovery: which devices and entities exist.
//!
//! The `DiscoveryActor` keeps the entities in Home Assistant in sync with the cameras. It decides which
//! messages the discovery topics should retain, and requests that all of them be published again when Home
//! Assistant comes online. The messages themselves are pure functions of a camera and the settings, in
//! `payload`.

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
        home_assistant,
        ids::CameraId,
        retained::{Content, Group, Kind, Owner, PreviousTopic, Wanted},
        settings::{DiscoveryFormat, MqttSettings, SettingsChange},
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
    ticks,
};

/// Maximum number of requests in the mailbox. Facts bypass this limit; their senders limit their number.
const MAILBOX: usize = 256;

/// How long to wait before everything is announced again to a Home Assistant instance that has just started.
/// It is busy then, because every service with MQTT discovery announces its devices. The delay is
/// `ANNOUNCE_AFTER` plus a random part of `ANNOUNCE_JITTER`.
const ANNOUNCE_AFTER: Duration = Duration::from_millis(500);
const ANNOUNCE_JITTER: Duration = Duration::from_millis(2500);

/// How often to read the event counts of the outbox.
const POLL_OUTBOX_EVERY: Duration = Duration::from_secs(2);

/// The group with the event counts. A camera id never contains a `/`.
const OUTBOX_GROUP: &str = "/outbox";

/// The actors that the `DiscoveryActor` sends messages to.
#[derive(Debug, Clone)]
pub struct DiscoveryPeers {
    /// Receives the discovery of one device when it changes.
    pub retain: Recipient<Retain>,
    /// Receives the discovery of all devices.
    pub retain_all: Recipient<RetainAll>,
    /// Publishes all discovery messages again.
    pub republish: Recipient<Republish>,
    /// Returns the event counts.
    pub outbox: Recipient<GetOutbox>,
}

/// See the module documentation.
#[derive(Debug)]
pub struct DiscoveryActor {
    settings: Arc<MqttSettings>,
    about: About,
    peers: DiscoveryPeers,
    cameras: BTreeMap<CameraId, Camera>,
    /// Whether the `CameraActor` has sent all cameras. Nothing is published before that.
    complete: bool,
    /// The latest event counts: pending and dead.
    outbox_counts: Option<(u64, u64)>,
    /// The scheduled announcement to a Home Assistant instance that has just started.
    announcement: Option<SpawnHandle>,
    _crash_guard: CrashGuard,
}

impl DiscoveryActor {
    /// Returns an actor that waits for the cameras. `public_url` is the URL at which other machines reach
    /// this service.
    pub fn new(
        settings: Arc<MqttSettings>,
        public_url: String,
        peers: DiscoveryPeers,
        crashed: UnboundedSender<&'static str>,
    ) -> Self {
        let about = About { version: env!("CARGO_PKG_VERSION"), public_url };
        let (cameras, complete, outbox_counts, announcement) = (BTreeMap::new(), false, None, None);
        Self {
            settings,
            about,
            peers,
            cameras,
            complete,
            outbox_counts,
            announcement,
            _crash_guard: CrashGuard::new("discovery", crashed),
        }
    }

    /// Returns the discovery of a camera. It is empty if the camera is unknown or disabled, or if discovery
    /// is off.
    fn camera_group(&self, id: &CameraId) -> Group {
        let name: Arc<str> = Arc::from(payload::camera_device_id(&self.settings.topic_prefix, id));
        let camera = self.cameras.get(id).filter(|camera| camera.enabled && self.settings.discovery_enabled);
        match camera {
            None => Group { kind: Kind::Discovery, name, wanted: Vec::new(), previous: Vec::new() },
            Some(camera) => {
                let device = |settings: &MqttSettings| payload::camera_device(camera, settings, &self.about);
                let mut group = self.device_group(name, device);
                let legacy = payload::legacy_topics(&self.settings, id).into_iter();
                group.previous.extend(legacy.map(|legacy| PreviousTopic {
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
            Group { kind: Kind::Discovery, name, wanted: Vec::new(), previous: Vec::new() }
        }
    }

    fn device_group(&self, name: Arc<str>, device: impl Fn(&MqttSettings) -> payload::Device) -> Group {
        let settings = &*self.settings;
        let wanted = device(settings).announcements(settings).into_iter().map(|announcement| Wanted {
            topic: announcement.topic,
            content: Content::Bytes(announcement.payload),
        });
        let other =
            MqttSettings { discovery_format: other_format(settings.discovery_format), ..settings.clone() };
        let previous = device(&other).topics(&other).into_iter();
        let previous = previous.map(|topic| PreviousTopic { topic, migrates: true, foreign: false });
        Group { kind: Kind::Discovery, name, wanted: wanted.collect(), previous: previous.collect() }
    }

    fn retain(&self, group: Group) {
        #[expect(clippy::disallowed_methods, reason = "one message for each camera that changes")]
        self.peers.retain.do_send(Retain { owner: Owner::Discovery, group });
    }

    fn retain_all(&self) {
        let mut groups: Vec<_> = self.cameras.keys().map(|id| self.camera_group(id)).collect();
        groups.push(self.service_group());
        groups.push(self.outbox_group());
        #[expect(
            clippy::disallowed_methods,
            reason = "one message at startup and after each settings change"
        )]
        self.peers.retain_all.do_send(RetainAll { owner: Owner::Discovery, groups });
    }

    /// Returns the event counts, which are the state of the service's entities.
    fn outbox_group(&self) -> Group {
        let counts = self.outbox_counts.filter(|_| self.settings.discovery_enabled);
        let wanted = counts.map(|(pending, dead)| Wanted {
            topic: self.settings.topic_prefix.outbox(),
            content: Content::Bytes(serde_json::json!({"pending": pending, "dead": dead}).to_string().into()),
        });
        let name = Arc::from(OUTBOX_GROUP);
        Group { kind: Kind::State, name, wanted: wanted.into_iter().collect(), previous: Vec::new() }
    }

    fn poll_outbox(&mut self, ctx: &mut Context<Self>) {
        let status = self.peers.outbox.send(GetOutbox).into_actor(self);
        ctx.spawn(status.map(|answer, act, _| {
            // An outbox that does not reply is stopping.
            let Ok(OutboxStatus { pending, dead, .. }) = answer else { return };
            if act.outbox_counts.replace((pending, dead)) != Some((pending, dead)) && act.complete {
                act.retain(act.outbox_group());
            }
        }));
    }

    /// Schedules all discovery messages to be published again, because Home Assistant has started.
    fn schedule_announcement(&mut self, ctx: &mut Context<Self>) {
        if self.announcement.is_some() {
            return;
        }
        let wait = ANNOUNCE_AFTER + ANNOUNCE_JITTER.mul_f64(rand::random());
        self.announcement = Some(ctx.run_later(wait, |act, ctx| {
            act.announcement = None;
            let republished = act.peers.republish.send(Republish(Kind::Discovery)).into_actor(act);
            ctx.spawn(republished.map(|answer, _, _| {
                if let Ok(Some(Republished { acknowledged, .. })) = answer {
                    tracing::info!(
                        devices = acknowledged.len(),
                        "announced all devices again to Home Assistant"
                    );
                }
            }));
        }));
    }

    fn outcome(&self, republished: &Republished) -> Result<DiscoveryPublished, DiscoveryError> {
        let Republished { acknowledged, refused, unanswered } = republished;
        let devices: BTreeSet<&str> = acknowledged.iter().map(|name| &**name).collect();
        let prefix = &self.settings.topic_prefix;
        let is_announced = |id: &&CameraId| devices.contains(payload::camera_device_id(prefix, id).as_str());
        let cameras = self.cameras.keys().filter(is_announced).count();
        match (refused.first(), unanswered.is_empty()) {
            (None, true) => Ok(DiscoveryPublished { cameras }),
            (None, false) => Err(DiscoveryError::Unanswered { cameras }),
            (Some(example), _) => {
                let (devices, example) = (refused.len(), example.to_string());
                let prefix = self.settings.discovery_prefix.clone();
                Err(DiscoveryError::Refused { devices, example, prefix, cameras })
            }
        }
    }

    /// Returns the topic where Home Assistant announces that it is online.
    fn birth_topic(&self) -> String {
        home_assistant::status_topic(&self.settings.discovery_prefix)
    }
}

fn other_format(format: DiscoveryFormat) -> DiscoveryFormat {
    match format {
        DiscoveryFormat::Device => DiscoveryFormat::Component,
        DiscoveryFormat::Component => DiscoveryFormat::Device,
    }
}

impl Actor for DiscoveryActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.poll_outbox(ctx);
        ticks::run(ctx, POLL_OUTBOX_EVERY, Self::poll_outbox);
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
            self.retain_all();
        } else {
            for id in ids {
                self.retain(self.camera_group(&id));
            }
        }
    }
}

impl Handler<SettingsChanged> for DiscoveryActor {
    type Result = ();

    fn handle(&mut self, SettingsChanged { settings, change, .. }: SettingsChanged, _: &mut Self::Context) {
        self.settings = settings;
        if self.complete && change != SettingsChange::Outbox {
            self.retain_all();
        }
    }
}

impl Handler<LinkUp> for DiscoveryActor {
    type Result = ();

    fn handle(&mut self, LinkUp { subscribe, .. }: LinkUp, ctx: &mut Self::Context) {
        if self.settings.discovery_enabled {
            let subscription = Subscribe { topic: self.birth_topic(), to: ctx.address().recipient() };
            #[expect(clippy::disallowed_methods, reason = "one message per connection")]
            subscribe.do_send(subscription);
        }
    }
}

impl Handler<Arrived> for DiscoveryActor {
    type Result = ();

    fn handle(&mut self, Arrived { topic, payload, .. }: Arrived, ctx: &mut Self::Context) {
        if topic == self.birth_topic() && &*payload == home_assistant::ONLINE {
            self.schedule_announcement(ctx);
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
            act.outcome(&republished)
        }))
    }
}
