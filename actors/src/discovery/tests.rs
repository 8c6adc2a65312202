//! The actor with a paused clock and peers that record.

use actix::{Addr, MessageResult};
use tokio::{sync::mpsc, time::Instant};

use super::*;
use crate::{
    domain::{clock, ids::LinkId, settings::SettingsChange},
    messages::retained::Republished,
    testing::{FakeConnection, Recorded, Recorder, settle},
};

const BIRTH: &str = "homeassistant/status";

/// Publishes nothing again, and answers what it was told to.
struct Broker {
    answer: Option<Republished>,
    asked: Vec<Instant>,
}

impl Actor for Broker {
    type Context = Context<Self>;
}

impl Handler<Republish> for Broker {
    type Result = MessageResult<Republish>;

    fn handle(&mut self, Republish(kind): Republish, _: &mut Self::Context) -> Self::Result {
        assert_eq!(kind, Kind::Discovery);
        self.asked.push(Instant::now());
        MessageResult(self.answer.clone())
    }
}

/// From a test: answer this from now on; answered with when it was asked since the last time.
#[derive(actix::Message)]
#[rtype(result = "Vec<Instant>")]
struct Answer(Option<Republished>);

impl Handler<Answer> for Broker {
    type Result = Vec<Instant>;

    fn handle(&mut self, Answer(answer): Answer, _: &mut Self::Context) -> Self::Result {
        self.answer = answer;
        std::mem::take(&mut self.asked)
    }
}

/// A log with so many events that wait.
struct Log(u64);

impl Actor for Log {
    type Context = Context<Self>;
}

impl Handler<GetOutbox> for Log {
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
    /// With all cameras known.
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
        let broker = Broker { answer: None, asked: Vec::new() }.start();
        let peers = DiscoveryPeers {
            retain: retain.recipient(),
            retain_all: retain_all.recipient(),
            republish: broker.clone().recipient(),
            outbox: Log(3).start().recipient(),
        };
        let settings = Arc::new(MqttSettings::defaults("c"));
        let crashed = mpsc::unbounded_channel().0;
        let actor = DiscoveryActor::new(settings, "http://here".to_owned(), peers, crashed).start();
        settle().await;
        Self { actor, broker, one, all }
    }

    async fn change(&self, settings: MqttSettings) {
        let changed =
            SettingsChanged { settings: Arc::new(settings), change: SettingsChange::Other, unreadable: None };
        self.actor.send(changed).await.unwrap();
        settle().await;
    }

    async fn arrives(&self, topic: &str, payload: &'static str) {
        let arrived = Arrived { link: LinkId(1), topic: topic.to_owned(), payload: payload.into() };
        self.actor.send(arrived).await.unwrap();
    }

    /// What the next request to publish all again is answered, when the broker does this.
    async fn published(&self, answer: Option<Republished>) -> Result<DiscoveryPublished, DiscoveryError> {
        self.broker.send(Answer(answer)).await.unwrap();
        self.actor.send(PublishDiscovery).await.unwrap()
    }
}

fn camera(id: &str) -> Camera {
    Camera::new(CameraId::parse(id).unwrap(), clock::from_micros(0))
}

/// The names of the groups of which something is to stand.
fn standing(all: &[RetainAll]) -> Vec<String> {
    let groups = all.iter().flat_map(|all| &all.groups).filter(|group| !group.wanted.is_empty());
    groups.map(|group| group.name.to_string()).collect()
}

fn names(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

#[actix::test]
async fn nothing_is_said_before_all_cameras_are_known() {
    let scene = Scene::without_cameras().await;
    scene.change(MqttSettings::defaults("c")).await;
    tokio::time::sleep(WATCH_EVERY * 2).await;
    assert!(scene.one.take().is_empty() && scene.all.take().is_empty());
    let known = CamerasChanged { all: true, changed: vec![camera("door")], gone: Vec::new() };
    scene.actor.send(known).await.unwrap();
    settle().await;
    assert_eq!(standing(&scene.all.take()), ["liveobject_door", "liveobject-service", "/outbox"]);
}

#[actix::test]
async fn a_camera_that_changes_is_told_and_one_that_is_gone_or_off_wants_nothing() {
    let scene = Scene::start(&[camera("door"), camera("yard")]).await;
    let off = Camera { enabled: false, ..camera("yard") };
    let gone = vec![CameraId::parse("door").unwrap()];
    scene.actor.send(CamerasChanged { all: false, changed: vec![off, camera("pool")], gone }).await.unwrap();
    settle().await;
    let told = scene.one.take();
    let told: Vec<_> = told.iter().map(|one| (&*one.group.name, one.group.wanted.len())).collect();
    assert_eq!(told, [("liveobject_yard", 0), ("liveobject_pool", 1), ("liveobject_door", 0)]);
}

#[actix::test]
async fn discovery_that_is_switched_off_wants_nothing() {
    let scene = Scene::start(&[camera("door")]).await;
    let _before = scene.all.take();
    scene.change(MqttSettings { discovery_enabled: false, ..MqttSettings::defaults("c") }).await;
    let all = scene.all.take();
    assert_eq!((all.len(), standing(&all)), (1, Vec::new()));
    assert_eq!(scene.published(None).await, Err(DiscoveryError::Disabled));
}

#[actix::test]
async fn the_other_form_is_where_a_device_was_announced_before() {
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
        let moves =
            |wanted: &Wanted| now.former.iter().any(|former| former.migrates && former.topic == wanted.topic);
        assert!(before.wanted.iter().all(moves), "{format:?}");
        before = now;
    }
}

#[actix::test]
async fn home_assistant_is_told_once_a_little_after_it_came() {
    let scene = Scene::start(&[]).await;
    let connection = FakeConnection::start_new();
    scene.actor.send(connection.link_up(LinkId(1), "b")).await.unwrap();
    settle().await;
    assert_eq!(connection.subscribed.take().iter().map(|it| it.topic.as_str()).collect::<Vec<_>>(), [BIRTH]);
    let asked = async || {
        tokio::time::sleep(Duration::from_secs(10)).await;
        scene.broker.send(Answer(None)).await.unwrap()
    };
    for (topic, payload) in [(BIRTH, "offline"), ("other/status", "online")] {
        scene.arrives(topic, payload).await;
    }
    assert_eq!(asked().await, []);
    for _ in 0..2 {
        let came = Instant::now();
        for _ in 0..3 {
            scene.arrives(BIRTH, "online").await;
        }
        let asked = asked().await;
        assert_eq!(asked.len(), 1, "once");
        let after = asked[0] - came;
        assert!(
            after >= GREET_AFTER && after <= GREET_AFTER + GREET_WITHIN + Duration::from_millis(2),
            "{after:?}"
        );
    }
}

#[actix::test]
async fn a_request_is_answered_with_what_the_broker_did() {
    let scene = Scene::start(&[camera("door"), camera("yard")]).await;
    let stand = names(&["liveobject-service", "liveobject_door"]);
    assert_eq!(scene.published(None).await, Err(DiscoveryError::NotConnected));
    let all = Republished {
        stand: [stand.clone(), names(&["liveobject_yard"])].concat(),
        ..Republished::default()
    };
    assert_eq!(scene.published(Some(all)).await, Ok(DiscoveryPublished { cameras: 2 }));
    let refused = names(&["liveobject_yard"]);
    let some = Republished { stand: stand.clone(), refused, ..Republished::default() };
    let error = scene.published(Some(some)).await.unwrap_err();
    let example = "liveobject_yard".to_owned();
    assert_eq!(error, DiscoveryError::Refused { devices: 1, example, cameras: 1 });
    let unanswered = names(&["liveobject_yard"]);
    let slow = Republished { stand, unanswered, ..Republished::default() };
    let error = scene.published(Some(slow)).await.unwrap_err();
    assert_eq!(error, DiscoveryError::Unanswered { cameras: 1 });
    assert!(error.to_string().contains("within 8 s"), "{error}");
}
