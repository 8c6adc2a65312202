//! A wall clock that is set makes no event late or live, and nothing old or new.

use std::time::Duration;

use liveobject_test_support::{FakeClock, Message, Mosquitto, Service, Subscriber, wait_until};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::helpers::{
    SHORTEST, TIMEOUT, connect, delivery, disable, event, event_of, put_picture, service, state_topic,
    wait_for_event, warnings,
};

const EVENT: &str = "liveobject/camera/door/event";
const HISTORY: &str = "liveobject/camera/door/history";
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// A broker, a subscriber, and a service whose clock the test sets.
struct Scene {
    clock: FakeClock,
    broker: Mosquitto,
    subscriber: Subscriber,
    service: Service,
    settings: Value,
}

impl Scene {
    /// Starts the service, connected, while its clock shows this many seconds after the true time.
    async fn start(seconds: i64, settings: Value) -> Self {
        let clock = FakeClock::new();
        clock.set(seconds);
        let broker = Mosquitto::start().await;
        let subscriber = Subscriber::start(broker.port()).await;
        let mut builder = service();
        for (name, value) in clock.environment() {
            builder = builder.env(name, value);
        }
        let service = builder.start().await;
        connect(&service, broker.port(), &settings).await;
        Self { clock, broker, subscriber, service, settings }
    }

    /// Sets the clock, and waits until the service reports it.
    async fn set_clock(&self, seconds: i64) {
        self.clock.set(seconds);
        let reports_it = |status: &Value| warnings(status) == ["clock_jumped"];
        self.service.wait_status("the changed clock", TIMEOUT, reports_it).await;
    }

    async fn post(&self, event_id: &str) {
        let _ = self.service.post_event(&event(event_id)).await.expect(202);
    }

    async fn disconnect(&self) {
        disable(&self.service, self.broker.port(), &self.settings).await;
    }

    async fn connect(&self) {
        connect(&self.service, self.broker.port(), &self.settings).await;
    }

    /// Waits for an event and returns the topic on which it came.
    async fn topic_of(&self, event_id: &str) -> String {
        wait_for_event(&self.subscriber, event_id).await;
        let is_it = |topic: &&str| {
            self.subscriber.on(topic).iter().any(|message| message.json()["event_id"] == event_id)
        };
        [EVENT, HISTORY].into_iter().find(is_it).expect("one of the two topics").to_owned()
    }
}

/// Waits until something that happened at `since` is late.
async fn wait_until_late(since: Instant) {
    let late = Duration::from_secs(SHORTEST) + Duration::from_millis(200);
    sleep(late.saturating_sub(since.elapsed())).await;
}

#[tokio::test]
async fn invariant_10_an_event_from_a_clock_that_was_ahead_becomes_late_in_time() {
    for restarts in [false, true] {
        let mut scene = Scene::start(2 * HOUR, json!({ "late_after_seconds": SHORTEST })).await;
        scene.disconnect().await;
        let accepted = Instant::now();
        scene.post("ahead").await;
        scene.clock.set(0);
        if restarts {
            scene.service.restart().await;
        }
        wait_until_late(accepted).await;
        scene.post("now").await;
        scene.connect().await;
        assert_eq!(scene.topic_of("ahead").await, HISTORY, "restarts: {restarts}");
        assert_eq!(scene.topic_of("now").await, EVENT, "restarts: {restarts}");
    }
}

#[tokio::test]
async fn invariant_10_an_event_from_a_clock_that_was_behind_is_neither_late_nor_expired() {
    for restarts in [false, true] {
        let settings = json!({ "late_after_seconds": 60, "message_expiry_seconds": 60 });
        let mut scene = Scene::start(-3 * DAY, settings).await;
        scene.disconnect().await;
        scene.post("behind").await;
        scene.set_clock(0).await;
        if restarts {
            scene.service.restart().await;
        }
        assert_eq!(delivery(&scene.service, "behind").await["late"], false);
        scene.connect().await;
        assert_eq!(scene.topic_of("behind").await, EVENT, "restarts: {restarts}");
    }
}

#[tokio::test]
async fn a_clock_that_was_ahead_once_does_not_freeze_the_state_of_a_camera() {
    let mut scene = Scene::start(10 * DAY, json!({ "activity_seconds": 5 })).await;
    scene.post("ahead").await;
    put_picture(&scene.service, "ahead", 1).await;
    scene.set_clock(0).await;
    scene.post("now").await;
    let picture = put_picture(&scene.service, "now", 2).await;
    let (last_event, activity) = (state_topic("door", "last_event"), state_topic("door", "activity"));
    let json_on = |topic: &str| scene.subscriber.on(topic).last().map(Message::json);
    let is_now = async || json_on(&last_event).is_some_and(|state| state["event_id"] == "now");
    wait_until("the newer event", TIMEOUT, is_now).await;
    let shown = async || {
        let pictures = scene.subscriber.on(&state_topic("door", "thumbnail"));
        pictures.last().is_some_and(|message| message.payload == picture)
    };
    wait_until("the newer picture", TIMEOUT, shown).await;
    let is_off = async || json_on(&activity).is_some_and(|state| state["state"] == "OFF");
    wait_until("the end of the activity", TIMEOUT, is_off).await;
    scene.service.restart().await;
    let camera = scene.service.get("/api/v1/cameras/door").await.expect(200);
    assert_eq!(camera["last_event"]["event_id"], "now");
}

#[tokio::test]
async fn a_link_to_a_picture_survives_a_clock_that_is_set_forward() {
    let scene = Scene::start(0, json!({})).await;
    scene.post("e1").await;
    put_picture(&scene.service, "e1", 1).await;
    scene.set_clock(40 * DAY).await;
    let record = scene.service.get("/api/v1/events/e1").await.expect(200);
    let link = record["thumbnail_url"].as_str().expect("a link").to_owned();
    let response = reqwest::get(&link).await.expect("a response");
    assert_eq!(response.status(), 200, "{link}");
}

#[tokio::test]
async fn a_clock_that_was_set_while_the_service_was_stopped_is_reported() {
    let mut scene = Scene::start(0, json!({})).await;
    assert_eq!(warnings(&scene.service.status().await), Vec::<String>::new());
    scene.service.sigterm();
    scene.service.wait().await;
    scene.clock.set(-30 * DAY);
    scene.service.start().await;
    let status = scene.service.status().await;
    assert_eq!(warnings(&status), ["clock_jumped"], "{status}");
    let message = status["warnings"][0]["message"].as_str().expect("a message");
    assert!(message.contains("set back by 30 days"), "{message}");
}

#[tokio::test]
async fn a_camera_that_is_registered_again_under_a_clock_that_was_set_back_is_shown() {
    let scene = Scene::start(0, json!({})).await;
    let post = async |id| scene.service.post_event(&event_of("yard", id)).await.expect(202);
    let _ = post("e1").await;
    scene.set_clock(-DAY).await;
    let _ = scene.service.request(reqwest::Method::DELETE, "/api/v1/cameras/yard").send().await;
    let _ = post("e2").await;
    let is_known = async || {
        let camera = scene.service.get("/api/v1/cameras/yard").await;
        camera.body["last_event"]["event_id"] == "e2"
    };
    wait_until("the camera", TIMEOUT, is_known).await;
}

#[tokio::test]
async fn nothing_is_claimed_of_the_time_that_the_clock_skipped() {
    let scene = Scene::start(-8 * HOUR, json!({})).await;
    scene.set_clock(0).await;
    let skipped = async || {
        let list = scene.service.get("/api/v1/outages").await.expect(200);
        let outages = list["outages"].as_array().expect("a list").clone();
        outages.into_iter().find(|outage| outage["kind"] == "unknown")
    };
    wait_until("a period of which nothing is known", TIMEOUT, async || skipped().await.is_some()).await;
    let outage = skipped().await.expect("it was there");
    let time = |name: &str| outage[name].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let minutes = (time("to") - time("from")).num_minutes();
    assert!((8 * 60 - 2..=8 * 60).contains(&minutes), "{outage}");
    assert_eq!((&outage["events"], &outage["outcome"]), (&json!(0), &json!("nothing_waited")));
}
