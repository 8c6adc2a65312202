//! The actor with a real database, a fake connection and a fake outbox.

use std::sync::atomic::{AtomicU64, Ordering};

use actix::{Addr, MessageResult};
use serde_json::{Value, json};

use super::*;
use crate::{
    domain::{
        replay::{MAX_ACTIVE, Replay, ReplayTopic, WaitingFor},
        settings::SettingsChange,
        topic::TopicPrefix,
    },
    messages::replay::{CancelReplay, CreateReplay, GetReplay, ListReplays, ReplayError},
    testing::{FakeConnection, settle},
};

const LINK: LinkId = LinkId(1);

/// An outbox in which this many events wait.
struct FakeOutbox(Arc<AtomicU64>);

impl Actor for FakeOutbox {
    type Context = Context<Self>;
}

impl Handler<CountUnsent> for FakeOutbox {
    type Result = MessageResult<CountUnsent>;

    fn handle(&mut self, _: CountUnsent, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.0.load(Ordering::Relaxed))
    }
}

/// A connection that answers nothing, or always with the same failure.
struct Refusing(Option<FailureKind>);

impl Actor for Refusing {
    type Context = Context<Self>;
}

impl Handler<PublishReplay> for Refusing {
    type Result = ResponseFuture<Result<Option<bool>, Failure>>;

    fn handle(&mut self, _: PublishReplay, _: &mut Self::Context) -> Self::Result {
        match self.0 {
            Some(kind) => Box::pin(async move { Err(Failure::new(kind, "No.")) }),
            None => Box::pin(std::future::pending()),
        }
    }
}

struct Scene {
    _dir: tempfile::TempDir,
    store: Store,
    actor: Addr<ReplayActor>,
    connection: FakeConnection,
    unsent: Arc<AtomicU64>,
}

async fn open(store: &Store, unsent: &Arc<AtomicU64>) -> Addr<ReplayActor> {
    let peers = ReplayPeers { unsent: FakeOutbox(Arc::clone(unsent)).start().recipient() };
    let (crash, _) = tokio::sync::mpsc::unbounded_channel();
    let settings = Arc::new(MqttSettings::defaults("c"));
    ReplayActor::open(store.clone(), settings, peers, Metrics::new(), crash).await.unwrap().start()
}

impl Scene {
    /// Starts with this many events in the log, one a second, which began at the start of 1970.
    async fn with_events(events: i64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::testing::database::open(&dir.path().join("l.db")).await;
        let row = |seq: i64| {
            let camera = if seq % 2 == 1 { "door" } else { "hall" };
            let payload = crate::testing::database::hex(format!("{{\"seq\":{seq}}}").as_bytes());
            format!("({seq}, 'e{seq}', '{camera}', {}, {seq}, x'{payload}')", seq * 1_000_000)
        };
        let rows: Vec<_> = (1..=events).map(row).collect();
        let into = "INSERT INTO events(seq, event_id, camera_id, occurred_at, received_at, payload)";
        store.execute(&format!("{into} VALUES {}", rows.join(", "))).await.unwrap();
        let unsent = Arc::default();
        let actor = open(&store, &unsent).await;
        Self { _dir: dir, store, actor, connection: FakeConnection::start_new(), unsent }
    }

    async fn link_up(&self) {
        self.actor.send(self.connection.link_up(LINK, "broker:1883")).await.unwrap();
    }

    async fn create(&self, other: Value) -> Result<Replay, ReplayError> {
        let mut body = json!({"from": "1970-01-01T00:00:00Z", "max_per_second": 1000});
        body.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
        self.actor.send(CreateReplay(body)).await.unwrap()
    }

    async fn get(&self, id: i64) -> Replay {
        self.actor.send(GetReplay(id)).await.unwrap().unwrap()
    }

    async fn wait_for(&self, id: i64, is_reached: impl Fn(&Replay) -> bool) -> Replay {
        for _ in 0..2000 {
            let replay = self.get(id).await;
            if is_reached(&replay) {
                return replay;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{:?}", self.get(id).await)
    }

    async fn finished(&self, id: i64) -> Replay {
        self.wait_for(id, |replay| replay.state.is_over()).await
    }

    /// Takes the positions of the events that were sent.
    fn sent(&self) -> Vec<i64> {
        let messages = self.connection.replayed.take().into_iter();
        let seq = |message: PublishReplay| {
            let payload: Value = serde_json::from_slice(&message.payload).unwrap();
            assert_eq!((&payload["late"], &payload["replay"]), (&json!(true), &json!(true)));
            payload["seq"].as_i64().unwrap()
        };
        messages.map(seq).collect()
    }
}

#[actix_rt::test(system = "crate::System")]
async fn the_requested_events_are_sent_once_in_order_and_marked() {
    let scene = Scene::with_events(200).await;
    scene.link_up().await;
    let request = json!({"from": "1970-01-01T00:00:10Z", "to": "1970-01-01T00:02:30Z", "camera_id": "door"});
    let replay = scene.create(request).await.unwrap();
    let expected: Vec<i64> = (11..150).step_by(2).collect();
    assert_eq!(replay.events, u64::try_from(expected.len()).unwrap());
    let replay = scene.finished(replay.id).await;
    assert_eq!((replay.state, replay.published, replay.skipped), (ReplayState::Finished, replay.events, 0));
    assert_eq!(scene.sent(), expected);
}

#[actix_rt::test(system = "crate::System")]
async fn each_event_goes_to_the_history_topic_of_its_camera_or_to_the_given_topic() {
    let scene = Scene::with_events(2).await;
    scene.link_up().await;
    for (topic, topics) in [
        ("history", ["liveobject/camera/door/history", "liveobject/camera/hall/history"]),
        ("again", ["again", "again"]),
    ] {
        let replay = scene.create(json!({ "topic": topic })).await.unwrap();
        scene.finished(replay.id).await;
        let sent: Vec<String> = scene.connection.replayed.take().into_iter().map(|sent| sent.topic).collect();
        assert_eq!(sent, topics);
    }
}

#[actix_rt::test(system = "crate::System")]
async fn other_events_go_first() {
    let scene = Scene::with_events(3).await;
    scene.unsent.store(1, Ordering::Relaxed);
    scene.link_up().await;
    let id = scene.create(json!({})).await.unwrap().id;
    scene.wait_for(id, |replay| replay.waiting_for == Some(WaitingFor::Events)).await;
    assert!(scene.sent().is_empty());
    scene.unsent.store(0, Ordering::Relaxed);
    scene.finished(id).await;
    assert_eq!(scene.sent(), [1, 2, 3]);
}

#[actix_rt::test(system = "crate::System")]
async fn replays_wait_for_each_other_and_for_a_connection_and_more_than_eight_are_refused() {
    let scene = Scene::with_events(3).await;
    for _ in 0..MAX_ACTIVE {
        scene.create(json!({})).await.unwrap();
    }
    assert_eq!(scene.create(json!({})).await, Err(ReplayError::TooMany));
    let replays = scene.actor.send(ListReplays).await.unwrap();
    let states: Vec<_> = replays.iter().rev().map(|replay| replay.state).collect();
    assert_eq!(states[..2], [ReplayState::Running, ReplayState::Queued]);
    assert_eq!(replays[MAX_ACTIVE - 1].waiting_for, Some(WaitingFor::Connection));
    scene.link_up().await;
    scene.finished(replays[0].id).await;
    assert_eq!(scene.sent(), [1, 2, 3].repeat(MAX_ACTIVE));
}

#[actix_rt::test(system = "crate::System")]
async fn only_the_newest_finished_replays_are_kept() {
    let scene = Scene::with_events(1).await;
    scene.link_up().await;
    let mut last = 0;
    for _ in 0..MAX_FINISHED + 3 {
        last = scene.create(json!({})).await.unwrap().id;
        scene.finished(last).await;
    }
    let kept: Vec<i64> =
        scene.actor.send(ListReplays).await.unwrap().iter().map(|replay| replay.id).collect();
    assert_eq!((kept.len(), kept[0]), (MAX_FINISHED, last));
    scene.actor.send(Stop).await.unwrap();
    assert_eq!(scene.store.list_replays().await.unwrap().len(), MAX_FINISHED);
}

#[actix_rt::test(system = "crate::System")]
async fn a_cancelled_replay_sends_nothing_more_and_stays_cancelled() {
    let scene = Scene::with_events(500).await;
    scene.link_up().await;
    let id = scene.create(json!({"max_per_second": 50})).await.unwrap().id;
    scene.wait_for(id, |replay| replay.published > 2).await;
    let cancelled = scene.actor.send(CancelReplay(id)).await.unwrap().unwrap();
    assert_eq!(cancelled.state, ReplayState::Cancelled);
    settle().await;
    scene.sent();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(scene.sent().is_empty());
    assert_eq!(scene.actor.send(CancelReplay(id)).await.unwrap().unwrap(), cancelled, "no effect");
    assert_eq!(scene.actor.send(CancelReplay(77)).await.unwrap(), Err(ReplayError::Unknown));
    assert_eq!(scene.store.list_replays().await.unwrap()[0].replay, cancelled);
}

#[actix_rt::test(system = "crate::System")]
async fn after_a_clean_stop_a_replay_continues_without_repeating_anything() {
    let scene = Scene::with_events(60).await;
    scene.link_up().await;
    let id = scene.create(json!({"max_per_second": 100})).await.unwrap().id;
    scene.wait_for(id, |replay| replay.published > 10).await;
    scene.actor.send(Stop).await.unwrap();
    let actor = open(&scene.store, &scene.unsent).await;
    let scene = Scene { actor, ..scene };
    scene.link_up().await;
    let replay = scene.finished(id).await;
    assert_eq!((replay.state, replay.published), (ReplayState::Finished, 60));
    assert_eq!(scene.sent(), (1..=60).collect::<Vec<_>>());
}

#[actix_rt::test(system = "crate::System")]
async fn events_that_were_removed_in_the_meantime_are_skipped() {
    let scene = Scene::with_events(10).await;
    let id = scene.create(json!({})).await.unwrap().id;
    scene.store.execute("DELETE FROM events WHERE seq IN (3, 4, 10)").await.unwrap();
    scene.link_up().await;
    let replay = scene.finished(id).await;
    assert_eq!(
        (replay.state, replay.events, replay.published, replay.skipped),
        (ReplayState::Finished, 10, 7, 3)
    );
}

#[actix_rt::test(system = "crate::System")]
async fn a_replay_fails_with_the_reason_of_the_broker() {
    let scene = Scene::with_events(3).await;
    let id = scene.create(json!({})).await.unwrap().id;
    let replay = Refusing(Some(FailureKind::NotAuthorized)).start().recipient();
    scene.actor.send(LinkUp { replay, ..scene.connection.link_up(LINK, "broker:1883") }).await.unwrap();
    let replay = scene.finished(id).await;
    assert_eq!(replay.state, ReplayState::Failed);
    assert_eq!(replay.reason.as_deref(), Some("The event at position 1 was not published: No."));
}

#[actix_rt::test(system = "crate::System")]
async fn a_replay_fails_when_connections_end_over_it() {
    let scene = Scene::with_events(3).await;
    let id = scene.create(json!({})).await.unwrap().id;
    for link in 1..=3 {
        assert!(!scene.get(id).await.state.is_over());
        let replay = Refusing(None).start().recipient();
        let link = LinkId(link);
        scene.actor.send(LinkUp { replay, ..scene.connection.link_up(link, "broker:1883") }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        scene.actor.send(LinkDown { link }).await.unwrap();
    }
    let reason = scene.finished(id).await.reason.unwrap();
    assert!(reason.starts_with("The connection to broker:1883 ended 3 times"), "{reason}");
}

#[actix_rt::test(system = "crate::System")]
async fn a_replay_fails_when_the_service_begins_to_use_its_topic() {
    let scene = Scene::with_events(3).await;
    let own = scene.create(json!({"topic": "house/camera/again"})).await.unwrap();
    let history = scene.create(json!({})).await.unwrap();
    assert_eq!(own.request.topic, ReplayTopic::Own("house/camera/again".to_owned()));
    let settings =
        MqttSettings { topic_prefix: TopicPrefix::parse("house").unwrap(), ..MqttSettings::defaults("c") };
    let changed =
        SettingsChanged { settings: Arc::new(settings), change: SettingsChange::Topics, unusable: None };
    scene.actor.send(changed).await.unwrap();
    let reason = scene.finished(own.id).await.reason.unwrap();
    assert!(reason.contains("below house/camera"), "{reason}");
    scene.link_up().await;
    assert_eq!(scene.finished(history.id).await.state, ReplayState::Finished);
    assert_eq!(scene.connection.replayed.take()[0].topic, "house/camera/door/history");
}
