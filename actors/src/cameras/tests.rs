//! The actor with a real database, a clock that the test sets, and recorders as peers. All events are in the
//! past, because a commit changes times in the future.

use std::cell::Cell;

use actix::Addr;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::{
    domain::{
        camera::CameraStatus,
        camera_update::{CameraUpdate, NameUpdate},
        clock::{self, Clock, Timestamp},
        event::EventInput,
        retained::{Content, Group},
        settings::SettingsChange,
        topic::TopicPrefix,
    },
    store::{Batch, CommitContext},
    testing::{Recorded, Recorder, commit_context, settle, wait_until},
};

thread_local! {
    static NOW: Cell<Timestamp> = const { Cell::new(DateTime::UNIX_EPOCH) };
}

fn test_clock() -> Clock {
    Clock::following(|| (NOW.get(), clock::to_micros(NOW.get())))
}

fn timestamp(text: &str) -> Timestamp {
    DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Utc)
}

fn id(text: &str) -> CameraId {
    CameraId::parse(text).unwrap()
}

/// An actor, and recordings of the messages that it sends.
struct Scene {
    actor: Addr<CameraActor>,
    states: Recorded<Retain>,
    all_states: Recorded<RetainAll>,
    discovery: Recorded<CamerasChanged>,
}

/// A database and a time zone.
struct Home {
    store: Store,
    calendar: Calendar,
    max_cameras: u32,
    _dir: tempfile::TempDir,
}

impl Home {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::testing::database::open(&dir.path().join("liveobject.db")).await;
        let calendar = Calendar::named("UTC").unwrap();
        Self { store, calendar, max_cameras: 10, _dir: dir }
    }

    async fn start(&self, now: &str) -> Scene {
        NOW.set(timestamp(now));
        let (retain, states) = Recorder::start_new();
        let (retain_all, all_states) = Recorder::start_new();
        let (discovery_recorder, discovery) = Recorder::start_new();
        let peers = CameraPeers {
            retain: retain.recipient(),
            retain_all: retain_all.recipient(),
            discovery: discovery_recorder.recipient(),
        };
        let settings = Arc::new(MqttSettings::defaults("c"));
        let crashed = mpsc::unbounded_channel().0;
        let (calendar, max) = (self.calendar, self.max_cameras);
        let actor =
            CameraActor::open(self.store.clone(), settings, calendar, test_clock(), max, peers, crashed);
        let actor = actor.await.unwrap().start();
        settle().await;
        Scene { actor, states, all_states, discovery }
    }

    /// Commits an event from the camera `door` with this id and time.
    async fn commit(&self, event_id: &str, happened_at: &str) -> CamerasSeen {
        let event = EventInput {
            event_id: Some(event_id.to_owned()),
            camera_id: "door".to_owned(),
            camera_name: Some(format!("Door of {event_id}")),
            description: "Person".to_owned(),
            timestamp: Some(timestamp(happened_at)),
            ..EventInput::default()
        };
        let batch = Batch { events: vec![event.validate().unwrap()], ..Batch::default() };
        let context = CommitContext { calendar: self.calendar, ..commit_context() };
        CamerasSeen(self.store.commit(&batch, None, &context).await.unwrap().seen)
    }
}

impl Scene {
    async fn view(&self) -> Option<CameraView> {
        self.actor.send(GetCamera(id("door"))).await.unwrap()
    }

    /// Returns the camera's event counts for today and this week.
    async fn counts(&self) -> (u64, u64) {
        let view = self.view().await.unwrap();
        (view.events_today, view.events_this_week)
    }

    async fn apply(&self, seen: CamerasSeen) {
        self.actor.send(seen).await.unwrap();
        // Wait until the actor has read new cameras from the database.
        self.view().await;
        settle().await;
    }

    /// Returns the latest payload of the state with this name.
    fn published(&self, name: &str) -> Option<Value> {
        let all = self.all_states.take().into_iter().flat_map(|all| all.groups);
        let groups: Vec<_> = all.chain(self.states.take().into_iter().map(|one| one.group)).collect();
        groups.iter().rev().find_map(|group| payload(group, name))
    }
}

fn payload(group: &Group, name: &str) -> Option<Value> {
    let wanted = group.wanted.iter().find(|wanted| wanted.topic.ends_with(&format!("/{name}")))?;
    let Content::Bytes(bytes) = &wanted.content else { return None };
    Some(serde_json::from_slice(bytes).unwrap())
}

#[actix_rt::test(system = "crate::System")]
async fn the_states_in_the_database_are_published_at_startup() {
    let home = Home::new().await;
    // A Sunday, a Monday and a Tuesday.
    for (event, happened_at) in [
        ("e1", "2025-06-01T12:00:00Z"),
        ("e2", "2025-06-02T12:00:00Z"),
        ("e3", "2025-06-03T11:00:00Z"),
        ("e4", "2025-06-03T12:00:00Z"),
    ] {
        home.commit(event, happened_at).await;
    }
    let scene = home.start("2025-06-03T12:04:59Z").await;
    let all = scene.all_states.take();
    let groups: Vec<_> = all.iter().flat_map(|all| &all.groups).collect();
    assert_eq!((all.len(), groups.len()), (1, 2), "the camera, and the service's availability");
    let counts = payload(groups[0], "counts").unwrap();
    assert_eq!((&counts["events_today"], &counts["events_this_week"]), (&json!(2), &json!(3)));
    assert_eq!(payload(groups[0], "activity").unwrap()["state"], "ON");
    assert_eq!(payload(groups[0], "last_event").unwrap()["event_id"], "e4");
    let announced = scene.discovery.take();
    assert!(announced.len() == 1 && announced[0].all && announced[0].changed.len() == 1);
    let scene = home.start("2025-06-03T12:05:00Z").await;
    assert_eq!(scene.published("activity").unwrap()["state"], "OFF");
}

#[actix_rt::test(system = "crate::System")]
async fn counts_restart_at_local_midnight_and_on_the_local_monday() {
    // In Berlin, that Sunday had 23 hours.
    for (zone, monday, tuesday) in [
        ("UTC", "2025-03-31T00:00:00Z", "2025-04-01T00:00:00Z"),
        ("Europe/Berlin", "2025-03-30T22:00:00Z", "2025-03-31T22:00:00Z"),
        ("America/New_York", "2025-03-31T04:00:00Z", "2025-04-01T04:00:00Z"),
        ("Asia/Kathmandu", "2025-03-30T18:15:00Z", "2025-03-31T18:15:00Z"),
    ] {
        let mut home = Home::new().await;
        home.calendar = Calendar::named(zone).unwrap();
        let (monday, tuesday) = (timestamp(monday), timestamp(tuesday));
        let second = TimeDelta::seconds(1);
        home.commit("e1", &(monday - second).to_rfc3339()).await;
        home.commit("e2", &monday.to_rfc3339()).await;
        let scene = home.start(&(monday - second).to_rfc3339()).await;
        assert_eq!(scene.published("counts").unwrap()["events_this_week"], 1, "{zone}: Sunday");
        for (now, expected) in [(monday, [1, 1]), (tuesday - second, [1, 1]), (tuesday, [0, 1])] {
            NOW.set(now);
            assert_eq!(scene.counts().await, (expected[0], expected[1]), "{zone}: {now}");
            if now == tuesday - second {
                continue;
            }
            let published = || async {
                let counts = scene.published("counts");
                counts.is_some_and(|counts| {
                    counts["events_today"] == expected[0] && counts["events_this_week"] == expected[1]
                })
            };
            wait_until(&format!("{zone}: the counts of a new day are published"), published).await;
        }
    }
}

#[actix_rt::test(system = "crate::System")]
async fn old_counts_are_removed_and_those_of_this_week_are_kept() {
    let home = Home::new().await;
    home.commit("old", "2025-05-01T12:00:00Z").await;
    home.commit("e1", "2025-06-02T12:00:00Z").await;
    let scene = home.start("2025-06-02T23:59:59Z").await;
    NOW.set(timestamp("2025-06-03T00:00:00Z"));
    let day = |text: &str| text.parse::<Day>().unwrap();
    let removed = || async {
        let days = home.store.days_since(day("2025-01-01")).await.unwrap();
        days[&id("door")] == BTreeMap::from([(day("2025-06-02"), 1)])
    };
    wait_until("counts older than a month are removed", removed).await;
    assert_eq!(scene.counts().await, (0, 1));
}

#[actix_rt::test(system = "crate::System")]
async fn activity_ends_without_another_event() {
    let home = Home::new().await;
    let scene = home.start("2025-06-03T12:00:00Z").await;
    scene.apply(home.commit("e1", "2025-06-03T12:00:00Z").await).await;
    assert_eq!(scene.published("activity").unwrap()["state"], "ON");
    NOW.set(timestamp("2025-06-03T12:05:00Z"));
    let over = || async { scene.published("activity").is_some_and(|activity| activity["state"] == "OFF") };
    wait_until("OFF is published", over).await;
    tokio::time::sleep(TICK).await;
    assert_eq!(scene.published("activity"), None, "it is published only once");
}

#[actix_rt::test(system = "crate::System")]
async fn a_late_event_counts_on_its_day_and_is_not_the_last_event() {
    let home = Home::new().await;
    let scene = home.start("2025-06-03T12:00:00Z").await;
    scene.apply(home.commit("e1", "2025-06-03T12:00:00Z").await).await;
    scene.apply(home.commit("late", "2025-06-02T12:00:00Z").await).await;
    assert_eq!(scene.counts().await, (1, 2));
    let last = || async { scene.published("last_event").is_some_and(|last| last["event_id"] == "e1") };
    wait_until("the last event is published", last).await;
}

#[actix_rt::test(system = "crate::System")]
async fn a_new_name_is_published_and_an_older_state_is_not() {
    let home = Home::new().await;
    let scene = home.start("2025-06-03T12:00:00Z").await;
    let first = home.commit("e1", "2025-06-03T12:00:00Z").await;
    scene.apply(first.clone()).await;
    let names = || {
        let changed = scene.discovery.take().into_iter().flat_map(|change| change.changed);
        changed.map(|camera| camera.camera_name).collect::<Vec<_>>()
    };
    assert_eq!(names(), ["Door of e1"]);
    let second = home.commit("e2", "2025-06-03T12:00:01Z").await;
    let update =
        CameraUpdate { camera_name: Some(NameUpdate::Given("Gate".to_owned())), ..Default::default() };
    let view = scene.actor.send(PutCamera { camera_id: id("door"), update }).await.unwrap().unwrap();
    assert_eq!(view.camera.camera_name, "Gate");
    // The message of an earlier commit arrives late.
    scene.apply(second).await;
    assert_eq!(scene.published("status").unwrap()["camera_name"], "Gate");
    assert_eq!(names(), ["Gate"]);
    assert_eq!(scene.counts().await, (2, 2), "the older event is counted");
    scene.apply(first).await;
    let again = || async { scene.published("status").is_some_and(|status| status["camera_name"] == "Gate") };
    wait_until("the state is published again with the new name", again).await;
}

#[actix_rt::test(system = "crate::System")]
async fn a_name_given_by_a_person_wins_over_the_names_in_events_even_after_a_restart() {
    let home = Home::new().await;
    let scene = home.start("2025-06-03T12:00:00Z").await;
    scene.apply(home.commit("e1", "2025-06-03T12:00:00Z").await).await;
    let put = async |scene: &Scene, name| {
        let update = CameraUpdate { camera_name: Some(name), ..CameraUpdate::default() };
        scene.actor.send(PutCamera { camera_id: id("door"), update }).await.unwrap().unwrap().camera
    };
    put(&scene, NameUpdate::Given("Gate".to_owned())).await;
    scene.apply(home.commit("e2", "2025-06-03T12:00:01Z").await).await;
    let scene = home.start("2025-06-03T12:00:02Z").await;
    scene.apply(home.commit("e3", "2025-06-03T12:00:03Z").await).await;
    let camera = scene.view().await.unwrap().camera;
    assert_eq!((camera.camera_name.as_str(), camera.reported_name.as_deref()), ("Gate", Some("Door of e3")));
    let camera = put(&scene, NameUpdate::Own).await;
    assert_eq!((camera.camera_name.as_str(), camera.reported_name), ("Door of e3", None));
    scene.apply(home.commit("e4", "2025-06-03T12:00:04Z").await).await;
    assert_eq!(scene.view().await.unwrap().camera.camera_name, "Door of e4");
}

#[actix_rt::test(system = "crate::System")]
async fn changes_of_many_events_are_combined_and_the_newest_is_published_last() {
    let home = Home::new().await;
    let scene = home.start("2025-06-03T12:00:00Z").await;
    scene.apply(home.commit("e0", "2025-06-03T12:00:00Z").await).await;
    let mut commits = Vec::new();
    for number in 1..=50 {
        commits.push(home.commit(&format!("e{number}"), &format!("2025-06-03T12:00:{number:02}Z")).await);
    }
    scene.states.take();
    let start = Instant::now();
    for seen in commits {
        scene.actor.send(seen).await.unwrap();
    }
    let (mut published, mut last) = (0, None);
    while last.as_ref().is_none_or(|last| last != "e50") {
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "the newest event is published; the last one was {last:?}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
        for Retain { group, .. } in scene.states.take() {
            published += 1;
            last = payload(&group, "last_event").map(|last| last["event_id"].clone());
        }
    }
    // The first change is published at once, the others after the interval.
    assert!(
        published <= 2 + start.elapsed().as_millis() / publish::PUBLISH_EVERY.as_millis(),
        "{published} messages in {:?}",
        start.elapsed()
    );
}

#[actix_rt::test(system = "crate::System")]
async fn a_camera_changed_before_its_first_event_is_reported_has_its_counts() {
    let home = Home::new().await;
    let scene = home.start("2025-06-03T12:00:00Z").await;
    let seen = home.commit("e1", "2025-06-03T12:00:00Z").await;
    let update = CameraUpdate { is_doorbell: Some(true), ..CameraUpdate::default() };
    let view = scene.actor.send(PutCamera { camera_id: id("door"), update }).await.unwrap().unwrap();
    assert_eq!((view.camera.camera_name.as_str(), view.events_today), ("Door of e1", 1));
    scene.apply(seen).await;
    assert_eq!(scene.counts().await, (1, 1));
    assert!(scene.view().await.unwrap().camera.is_doorbell);
}

#[actix_rt::test(system = "crate::System")]
async fn setting_the_same_status_again_changes_nothing() {
    let home = Home::new().await;
    let scene = home.start("2025-06-03T12:00:00Z").await;
    scene.apply(home.commit("e1", "2025-06-03T12:00:00Z").await).await;
    let set = |status| SetCameraStatus { camera_id: id("door"), status };
    let first = scene.actor.send(set(CameraStatus::Offline)).await.unwrap().unwrap().camera;
    NOW.set(timestamp("2025-06-03T13:00:00Z"));
    let second = scene.actor.send(set(CameraStatus::Offline)).await.unwrap().unwrap().camera;
    assert_eq!((first.status, first), (CameraStatus::Offline, second));
    let unknown = SetCameraStatus { camera_id: id("yard"), status: CameraStatus::Offline };
    assert_eq!(scene.actor.send(unknown).await.unwrap(), Err(CameraError::Unknown));
}

#[actix_rt::test(system = "crate::System")]
async fn no_camera_is_registered_above_the_limit() {
    let mut home = Home::new().await;
    home.max_cameras = 2;
    let scene = home.start("2025-06-03T12:00:00Z").await;
    let put =
        |name: &str| scene.actor.send(PutCamera { camera_id: id(name), update: CameraUpdate::default() });
    assert!(put("a").await.unwrap().is_ok());
    assert!(put("b").await.unwrap().is_ok());
    assert_eq!(put("c").await.unwrap(), Err(CameraError::TooMany { max: 2 }));
    assert!(put("b").await.unwrap().is_ok(), "it is already registered");
    scene.actor.send(DeleteCamera(id("a"))).await.unwrap().unwrap();
    assert!(put("c").await.unwrap().is_ok());
    let known = scene.actor.send(ListCameras).await.unwrap();
    assert_eq!(known.iter().map(|view| view.camera.camera_id.as_str()).collect::<Vec<_>>(), ["b", "c"]);
}

#[actix_rt::test(system = "crate::System")]
async fn discovery_is_notified_of_a_removed_camera_before_its_state_is_cleared() {
    let home = Home::new().await;
    let scene = home.start("2025-06-03T12:00:00Z").await;
    scene.apply(home.commit("e1", "2025-06-03T12:00:00Z").await).await;
    let _before = (scene.discovery.take(), scene.states.take());
    scene.actor.send(DeleteCamera(id("door"))).await.unwrap().unwrap();
    settle().await;
    let (discovery, states) = (scene.discovery.take(), scene.states.take());
    assert_eq!(discovery.iter().flat_map(|change| &change.gone).collect::<Vec<_>>(), [&id("door")]);
    assert!(states.len() == 1 && states[0].group.wanted.is_empty());
    assert_eq!(scene.actor.send(DeleteCamera(id("door"))).await.unwrap(), Err(CameraError::Unknown));
}

#[actix_rt::test(system = "crate::System")]
async fn a_camera_removed_while_an_event_was_committed_does_not_come_back() {
    let home = Home::new().await;
    let scene = home.start("2025-06-03T12:00:00Z").await;
    scene.apply(home.commit("e1", "2025-06-03T12:00:00Z").await).await;
    let committed = home.commit("e2", "2025-06-03T12:00:01Z").await;
    scene.actor.send(DeleteCamera(id("door"))).await.unwrap().unwrap();
    scene.apply(committed).await;
    assert_eq!(scene.view().await, None);
}

#[actix_rt::test(system = "crate::System")]
async fn late_reports_of_a_removed_camera_do_not_affect_a_new_one_with_its_id() {
    let home = Home::new().await;
    let scene = home.start("2025-06-03T12:00:00Z").await;
    let mut late = Vec::new();
    for (event, happened_at) in [
        ("e1", "2025-06-03T12:00:00Z"),
        ("e2", "2025-06-02T12:00:01Z"),
        ("e3", "2025-06-03T12:00:02Z"),
        ("e4", "2025-06-03T12:00:03Z"),
    ] {
        late.push(home.commit(event, happened_at).await);
    }
    assert!(home.store.delete_camera(&id("door")).await.unwrap());
    late.push(home.commit("new", "2025-06-03T12:00:04Z").await);
    for seen in late {
        scene.apply(seen).await;
        let view = scene.view().await.unwrap();
        assert_eq!(view.camera.last_event.unwrap().event_id.as_str(), "new");
        assert_eq!((view.events_today, view.events_this_week), (1, 1));
    }
    scene.apply(home.commit("newer", "2025-06-03T12:00:05Z").await).await;
    let newer = || async { scene.published("last_event").is_some_and(|last| last["event_id"] == "newer") };
    wait_until("the newest event is published", newer).await;
    assert_eq!(scene.counts().await, (2, 2));
}

#[actix_rt::test(system = "crate::System")]
async fn a_settings_change_publishes_everything_again() {
    let home = Home::new().await;
    home.commit("e1", "2025-06-03T12:00:00Z").await;
    let scene = home.start("2025-06-03T12:00:30Z").await;
    assert_eq!(scene.published("activity").unwrap()["state"], "ON");
    let settings = MqttSettings {
        topic_prefix: TopicPrefix::parse("house").unwrap(),
        activity_seconds: 20,
        ..MqttSettings::defaults("c")
    };
    let changed =
        SettingsChanged { settings: Arc::new(settings), change: SettingsChange::Topics, unusable: None };
    scene.actor.send(changed).await.unwrap();
    settle().await;
    let all = scene.all_states.take();
    assert_eq!(all.len(), 1);
    let mut topics = all[0].groups.iter().flat_map(|group| &group.wanted).map(|wanted| &wanted.topic);
    assert!(topics.all(|topic| topic.starts_with("house/")));
    assert_eq!(payload(&all[0].groups[0], "activity").unwrap()["state"], "OFF");
}
