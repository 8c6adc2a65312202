//! The actor with a real database, and a connection that accepts everything or never answers.

use std::time::Duration;

use actix::Addr;
use tokio::sync::mpsc;

use super::*;
use crate::{
    domain::{
        event_log::QueryError,
        ids::Seq,
        image::Picture,
        retained::{Group, Owner, Wanted},
    },
    testing::{FakeConnection, settle, wait_until},
};

const BROKER: &str = "broker:1883";

/// Returns a picture for event 7 only.
struct Pictures;

impl Actor for Pictures {
    type Context = Context<Self>;
}

impl Handler<GetRendition> for Pictures {
    type Result = Result<Option<Picture>, QueryError>;

    fn handle(&mut self, GetRendition(seq): GetRendition, _: &mut Self::Context) -> Self::Result {
        let picture =
            Picture { format: crate::domain::camera::ImageType::Jpeg, image: Bytes::from_static(b"jpeg") };
        Ok((seq.0 == 7).then_some(picture))
    }
}

/// A connection to a broker that never answers.
struct SilentConnection;

impl Actor for SilentConnection {
    type Context = Context<Self>;
}

impl Handler<PublishState> for SilentConnection {
    type Result = ResponseFuture<Result<Option<bool>, Failure>>;

    fn handle(&mut self, _: PublishState, _: &mut Self::Context) -> Self::Result {
        Box::pin(std::future::pending())
    }
}

struct Scene {
    store: Store,
    actor: Addr<RetainedActor>,
    connection: FakeConnection,
    /// The messages that the broker retains.
    retained: BTreeMap<String, Bytes>,
    _dir: tempfile::TempDir,
}

impl Scene {
    /// Not connected; no owner has reported its groups.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::testing::database::open(&dir.path().join("liveobject.db")).await;
        let peers = RetainedPeers { thumbnails: Pictures.start().recipient() };
        let actor = RetainedActor::new(store.clone(), peers, mpsc::unbounded_channel().0).start();
        Self { store, actor, connection: FakeConnection::start_new(), retained: BTreeMap::new(), _dir: dir }
    }

    async fn retain_all(&self, owner: Owner, groups: &[Group]) {
        self.actor.send(RetainAll { owner, groups: groups.to_vec() }).await.unwrap();
    }

    async fn link_up(&self, link: u64) {
        self.actor.send(self.connection.link_up(LinkId(link), BROKER)).await.unwrap();
    }

    async fn link_down(&self, link: u64) {
        self.actor.send(LinkDown { link: LinkId(link) }).await.unwrap();
    }

    async fn rows(&self, broker: &str) -> Vec<String> {
        let rows = self.store.list_topics(broker).await.unwrap();
        rows.into_iter().map(|(topic, _)| topic).collect()
    }

    /// Returns the topics that the broker retains now.
    fn retained_topics(&mut self) -> Vec<String> {
        for PublishState { topic, payload, retain } in self.connection.published.take() {
            assert!(retain);
            if payload.is_empty() {
                self.retained.remove(&topic);
            } else {
                self.retained.insert(topic, payload);
            }
        }
        self.retained.keys().cloned().collect()
    }

    async fn wait_for_retained(&mut self, expected: &[&str]) {
        for _ in 0..1000 {
            if self.retained_topics() == expected && self.rows(BROKER).await == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (topics, rows) = (self.retained_topics(), self.rows(BROKER).await);
        panic!("not {expected:?} within 5 s, but {topics:?}, and rows {rows:?}");
    }
}

fn group(kind: Kind, name: &str, topics: &[&str]) -> Group {
    let content = Content::Bytes(Bytes::from_static(b"content"));
    let wanted = |topic: &&str| Wanted { topic: (*topic).to_owned(), content: content.clone() };
    Group { kind, name: name.into(), wanted: topics.iter().map(wanted).collect(), previous: Vec::new() }
}

fn states() -> Group {
    group(Kind::State, "door", &["s1", "s2"])
}

fn device(name: &str) -> Group {
    group(Kind::Discovery, name, &[&format!("d/{name}")])
}

/// Returns a scene in which the broker retains everything.
async fn published_scene() -> Scene {
    let mut scene = Scene::new().await;
    scene.retain_all(Owner::Cameras, &[states()]).await;
    scene.retain_all(Owner::Discovery, &[device("door"), device("yard")]).await;
    scene.link_up(1).await;
    scene.wait_for_retained(&["d/door", "d/yard", "s1", "s2"]).await;
    scene
}

#[actix_rt::test(system = "crate::System")]
async fn nothing_is_published_before_its_row_is_in_the_database() {
    let mut scene = Scene::new().await;
    scene.link_up(1).await;
    // Blocks other writers.
    let writing = scene.store.occupy_writer().await.unwrap();
    scene.retain_all(Owner::Cameras, &[states()]).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(scene.retained_topics(), [""; 0]);
    drop(writing);
    scene.wait_for_retained(&["s1", "s2"]).await;
}

#[actix_rt::test(system = "crate::System")]
async fn a_topic_in_the_database_that_nobody_wants_is_cleared_on_its_broker() {
    let mut scene = Scene::new().await;
    let rows = [("gone".to_owned(), Kind::Discovery), ("s1".to_owned(), Kind::State)];
    for broker in [BROKER, "other:1883"] {
        scene.store.change_topics(broker, &[], &rows).await.unwrap();
    }
    scene.retained.insert("gone".to_owned(), Bytes::from_static(b"old"));
    scene.link_up(1).await;
    scene.retain_all(Owner::Cameras, &[states()]).await;
    settle().await;
    assert!(
        scene.retained_topics().contains(&"gone".to_owned()),
        "an owner that has not reported may want it"
    );
    scene.retain_all(Owner::Discovery, &[]).await;
    scene.wait_for_retained(&["s1", "s2"]).await;
    assert_eq!(scene.rows("other:1883").await, ["gone", "s1"]);
}

#[actix_rt::test(system = "crate::System")]
async fn everything_is_published_again_after_a_lost_connection() {
    let mut scene = published_scene().await;
    scene.link_down(1).await;
    scene
        .actor
        .send(Retain { owner: Owner::Cameras, group: group(Kind::State, "door", &["s1"]) })
        .await
        .unwrap();
    scene.retained.clear();
    scene.link_up(2).await;
    scene.wait_for_retained(&["d/door", "d/yard", "s1"]).await;
    // The end of an earlier connection changes nothing.
    scene.link_down(1).await;
    scene.retain_all(Owner::Cameras, &[states()]).await;
    scene.wait_for_retained(&["d/door", "d/yard", "s1", "s2"]).await;
}

#[actix_rt::test(system = "crate::System")]
async fn a_failed_read_or_write_of_the_table_is_retried() {
    let mut scene = Scene::new().await;
    scene.retain_all(Owner::Cameras, &[states()]).await;
    let rename = |from: &str, to: &str| {
        let (store, statement) = (scene.store.clone(), format!("ALTER TABLE {from} RENAME TO {to}"));
        async move { store.execute(&statement).await.unwrap() }
    };
    rename("discovery_topics", "away").await;
    scene.link_up(1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(scene.connection.published.take().is_empty());
    rename("away", "discovery_topics").await;
    let published = || async { !scene.connection.published.take().is_empty() };
    wait_until("states are published", published).await;
    rename("discovery_topics", "away").await;
    scene.retain_all(Owner::Discovery, &[device("door")]).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    rename("away", "discovery_topics").await;
    let published = || async { scene.connection.published.take().iter().any(|one| one.topic == "d/door") };
    wait_until("discovery is published", published).await;
    scene.retained_topics();
}

#[actix_rt::test(system = "crate::System")]
async fn a_picture_is_published_and_kept_if_its_successor_is_gone() {
    let mut scene = published_scene().await;
    let picture = |seq| {
        let content = Content::Thumbnail { seq: Seq(seq), version: 0 };
        let wanted = vec![Wanted { topic: "p".to_owned(), content }];
        Retain { owner: Owner::Cameras, group: Group { wanted, ..group(Kind::State, "yard", &[]) } }
    };
    scene.actor.send(picture(7)).await.unwrap();
    scene.wait_for_retained(&["d/door", "d/yard", "p", "s1", "s2"]).await;
    assert_eq!(scene.retained["p"], "jpeg");
    scene.actor.send(picture(8)).await.unwrap();
    settle().await;
    scene.wait_for_retained(&["d/door", "d/yard", "p", "s1", "s2"]).await;
    assert_eq!(scene.retained["p"], "jpeg");
}

#[actix_rt::test(system = "crate::System")]
async fn republish_returns_the_groups_that_the_broker_acknowledged() {
    let scene = published_scene().await;
    let _before = scene.connection.published.take();
    let names = |republished: &Republished| {
        republished.acknowledged.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let republished = scene.actor.send(Republish(Kind::State)).await.unwrap().unwrap();
    assert_eq!((names(&republished), scene.connection.published.take().len()), (vec!["door".to_owned()], 2));
    scene.link_down(1).await;
    assert_eq!(scene.actor.send(Republish(Kind::Discovery)).await.unwrap(), None);
}

#[actix_rt::test(system = "crate::System")]
async fn republish_returns_even_if_the_broker_does_not_answer() {
    let scene = published_scene().await;
    let publish = SilentConnection.start().recipient();
    scene.actor.send(LinkUp { publish, ..scene.connection.link_up(LinkId(2), BROKER) }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    // The database is not used from here on.
    tokio::time::pause();
    let start = Instant::now();
    let republished = scene.actor.send(Republish(Kind::Discovery)).await.unwrap().unwrap();
    assert_eq!(start.elapsed().as_secs(), REPUBLISH_TIMEOUT.as_secs());
    assert_eq!((republished.acknowledged.len(), republished.unanswered.len()), (0, 2));
    // The end of the connection ends the wait.
    let republish = scene.actor.send(Republish(Kind::Discovery));
    scene.link_down(2).await;
    assert_eq!(republish.await.unwrap(), None);
}

#[actix_rt::test(system = "crate::System")]
async fn clear_broker_returns_when_every_topic_is_cleared_and_every_row_removed() {
    let mut scene = published_scene().await;
    scene.actor.send(ClearBroker).await.unwrap();
    assert_eq!((scene.retained_topics(), scene.rows(BROKER).await), (Vec::new(), Vec::new()));
    scene.link_down(1).await;
    scene.actor.send(ClearBroker).await.unwrap();
}

#[actix_rt::test(system = "crate::System")]
async fn clear_broker_waits_until_the_rows_of_the_broker_are_read() {
    let mut scene = published_scene().await;
    scene.link_down(1).await;
    scene.link_up(2).await;
    scene.actor.send(ClearBroker).await.unwrap();
    assert_eq!((scene.retained_topics(), scene.rows(BROKER).await), (Vec::new(), Vec::new()));
}
