//! The actor with a paused clock and recorders as peers.

use actix::{Addr, MessageResult};
use tokio::{sync::mpsc, time::Instant};

use super::*;
use crate::{
    domain::{
        clock::{self, Moment},
        ids::LinkId,
        settings::SettingsChange,
    },
    messages::retained::Republished,
    testing::{FakeConnection, Recorded, Recorder, settle},
};

const BIRTH: &str = "homeassistant/status";

/// Stands in for the `RetainedActor`: records the requests, and replies with the value that the test has set.
struct Broker {
    reply: Option<Republished>,
    requested: Vec<Instant>,
}

impl Actor for Broker {
    type Context = Context<Self>;
}

impl Handler<Republish> for Broker {
    type Result = MessageResult<Republish>;

    fn handle(&mut self, Republish(kind): Republish, _: &mut Self::Context) -> Self::Result {
        assert_eq!(kind, Kind::Discovery);
        self.requested.push(Instant::now());
        MessageResult(self.reply.clone())
    }
}

/// Sent by a test: sets the reply, and returns the times of the requests since the last `SetReply`.
#[derive(actix::Message)]
#[rtype(result = "Vec<Instant>")]
struct SetReply(Option<Republished>);

impl Handler<SetReply> for Broker {
    type Result = Vec<Instant>;

    fn handle(&mut self, SetReply(reply): SetReply, _: &mut Self::Context) -> Self::Result {
        self.reply = reply;
        std::mem::take(&mut self.requested)
    }
}

/// An outbox with this number of pending events.
struct Outbox(u64);

impl Actor for Outbox {
    type Context = Context<Self>;
}

impl Handler<GetOutbox> for Outbox {
    type Result = MessageResult<GetOutbox>;

    fn handle(&mut self, _: GetOutbox, _: &mut Self::Context) -> Self::Result {
        MessageResult(OutboxStatus { pending: self.0, ..OutboxStatus::default() })
    }
}

struct Scene {
    actor: Addr<DiscoveryActor>,
    broker: Addr<Broker>,
    one: Recorded<Retain>,
    all: Recorded<RetainAll>,
}

impl Scene {
    /// Starts the actor and sends it all cameras.
    async fn start(cameras: &[Camera]) -> Self {
        let scene = Self::without_cameras().await;
        let known = CamerasChanged { all: true, changed: cameras.to_vec(), gone: Vec::new() };
        scene.actor.send(known).await.unwrap();
        settle().await;
        scene
    }

    async fn without_cameras() -> Self {
        tokio::time::pause();
        let (retain, one) = Recorder::start_new();
        let (retain_all, all) = Recorder::start_new();
        let broker = Broker { reply: None, requested: Vec::new() }.start();
        let peers = DiscoveryPeers {
            retain: retain.recipient(),
            retain_all: retain_all.recipient(),
            republish: broker.clone().recipient(),
            outbox: Outbox(3).start().recipient(),
        };
        let settings = Arc::new(MqttSettings::defaults("c"));
        let crashed = mpsc::unbounded_channel().0;
        let actor = DiscoveryActor::new(settings, "http://here".to_owned(), peers, crashed).start();
        settle().await;
        Self { actor, broker, one, all }
    }

    async fn change(&self, settings: MqttSettings) {
        let changed =
            SettingsChanged { settings: Arc::new(settings), change: SettingsChange::Other, unusable: None };
        self.actor.send(changed).await.unwrap();
        settle().await;
    }

    async fn arrives(&self, topic: &str, payload: &'static str) {
        let (topic, payload) = (topic.to_owned(), payload.into());
        let arrived = Arrived { link: LinkId(1), topic, payload, retained: false };
        self.actor.send(arrived).await.unwrap();
    }

    /// Returns the result of `PublishDiscovery` when the `RetainedActor` sends this reply.
    async fn published(&self, reply: Option<Republished>) -> Result<DiscoveryPublished, DiscoveryError> {
        self.broker.send(SetReply(reply)).await.unwrap();
        self.actor.send(PublishDiscovery).await.unwrap()
    }
}

fn camera(id: &str) -> Camera {
    Camera::new(CameraId::parse(id).unwrap(), Moment::at(clock::from_micros(0)))
}

/// Returns the names of the groups that want at least one topic.
fn wanted_groups(all: &[RetainAll]) -> Vec<String> {
    let groups = all.iter().flat_map(|all| &all.groups).filter(|group| !group.wanted.is_empty());
    groups.map(|group| group.name.to_string()).collect()
}

fn names(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

#[actix_rt::test(system = "crate::System")]
async fn nothing_is_announced_before_all_cameras_are_known() {
    let scene = Scene::without_cameras().await;
    scene.change(MqttSettings::defaults("c")).await;
    tokio::time::sleep(POLL_OUTBOX_EVERY * 2).await;
    assert!(scene.one.take().is_empty() && scene.all.take().is_empty());
    let known = CamerasChanged { all: true, changed: vec![camera("door")], gone: Vec::new() };
    scene.actor.send(known).await.unwrap();
    settle().await;
    assert_eq!(wanted_groups(&scene.all.take()), ["liveobject_door", "liveobject-service", "/outbox"]);
}

#[actix_rt::test(system = "crate::System")]
async fn a_changed_camera_is_announced_and_a_removed_or_disabled_one_is_cleared() {
    let scene = Scene::start(&[camera("door"), camera("yard")]).await;
    let off = Camera { enabled: false, ..camera("yard") };
    let gone = vec![CameraId::parse("door").unwrap()];
    scene.actor.send(CamerasChanged { all: false, changed: vec![off, camera("pool")], gone }).await.unwrap();
    settle().await;
    let sent = scene.one.take();
    let sent: Vec<_> = sent.iter().map(|one| (&*one.group.name, one.group.wanted.len())).collect();
    assert_eq!(sent, [("liveobject_yard", 0), ("liveobject_pool", 1), ("liveobject_door", 0)]);
}

#[actix_rt::test(system = "crate::System")]
async fn disabled_discovery_clears_everything() {
    let scene = Scene::start(&[camera("door")]).await;
    let _before = scene.all.take();
    scene.change(MqttSettings { discovery_enabled: false, ..MqttSettings::defaults("c") }).await;
    let all = scene.all.take();
    assert_eq!((all.len(), wanted_groups(&all)), (1, Vec::new()));
    assert_eq!(scene.published(None).await, Err(DiscoveryError::Disabled));
}

#[actix_rt::test(system = "crate::System")]
async fn the_topics_of_the_other_format_are_previous_topics() {
    let scene = Scene::start(&[camera("door")]).await;
    let door = || {
        let groups = scene.all.take().into_iter().flat_map(|all| all.groups);
        groups.filter(|group| &*group.name == "liveobject_door").last().unwrap()
    };
    let mut before = door();
    for (format, topics) in [(DiscoveryFormat::Component, 8), (DiscoveryFormat::Device, 1)] {
        scene.change(MqttSettings { discovery_format: format, ..MqttSettings::defaults("c") }).await;
        let now = door();
        assert_eq!(now.wanted.len(), topics);
        let migrates = |wanted: &Wanted| {
            now.previous.iter().any(|previous| previous.migrates && previous.topic == wanted.topic)
        };
        assert!(before.wanted.iter().all(migrates), "{format:?}");
        before = now;
    }
}

#[actix_rt::test(system = "crate::System")]
async fn everything_is_announced_once_shortly_after_home_assistant_starts() {
    let scene = Scene::start(&[]).await;
    let connection = FakeConnection::start_new();
    scene.actor.send(connection.link_up(LinkId(1), "b")).await.unwrap();
    settle().await;
    assert_eq!(connection.subscribed.take().iter().map(|it| it.topic.as_str()).collect::<Vec<_>>(), [BIRTH]);
    let requested = async || {
        tokio::time::sleep(Duration::from_secs(10)).await;
        scene.broker.send(SetReply(None)).await.unwrap()
    };
    for (topic, payload) in [(BIRTH, "offline"), ("other/status", "online")] {
        scene.arrives(topic, payload).await;
    }
    assert_eq!(requested().await, []);
    for _ in 0..2 {
        let started = Instant::now();
        for _ in 0..3 {
            scene.arrives(BIRTH, "online").await;
        }
        let requested = requested().await;
        assert_eq!(requested.len(), 1, "once");
        let after = requested[0] - started;
        assert!(
            after >= ANNOUNCE_AFTER && after <= ANNOUNCE_AFTER + ANNOUNCE_JITTER + Duration::from_millis(2),
            "{after:?}"
        );
    }
}

#[actix_rt::test(system = "crate::System")]
async fn publish_discovery_returns_the_answers_from_the_broker() {
    let scene = Scene::start(&[camera("door"), camera("yard")]).await;
    let acknowledged = names(&["liveobject-service", "liveobject_door"]);
    assert_eq!(scene.published(None).await, Err(DiscoveryError::NotConnected));
    let all = Republished {
        acknowledged: [acknowledged.clone(), names(&["liveobject_yard"])].concat(),
        ..Republished::default()
    };
    assert_eq!(scene.published(Some(all)).await, Ok(DiscoveryPublished { cameras: 2 }));
    let refused = names(&["liveobject_yard"]);
    let some = Republished { acknowledged: acknowledged.clone(), refused, ..Republished::default() };
    let error = scene.published(Some(some)).await.unwrap_err();
    let example = "liveobject_yard".to_owned();
    let prefix = MqttSettings::defaults("c").discovery_prefix;
    assert_eq!(error, DiscoveryError::Refused { devices: 1, example, prefix, cameras: 1 });
    assert_eq!(
        error.to_string(),
        "The broker refused the announcement of the device liveobject_yard. Let this user publish to \
         `homeassistant/#`; liveobject retries on the next connection."
    );
    let unanswered = names(&["liveobject_yard"]);
    let slow = Republished { acknowledged, unanswered, ..Republished::default() };
    let error = scene.published(Some(slow)).await.unwrap_err();
    assert_eq!(error, DiscoveryError::Unanswered { cameras: 1 });
    assert!(error.to_string().contains("within 8 s"), "{error}");
}
