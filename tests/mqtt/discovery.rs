//! Home Assistant discovery: when it is published, how it migrates between formats, and how it is removed.

use std::time::Duration;

use liveobject_test_support::{Message, Mosquitto, Service, visitor};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::helpers::{
    Retained, SERVICE_DEVICE, STATES, Scene, TIMEOUT, connect, connected_service, event, event_of,
    is_discovery_of, messages_since, state_topic, wait_for_cameras,
};

const PUBLISH_DISCOVERY: &str = "/api/v1/integrations/mqtt/publish-discovery";
const BIRTH: &str = "homeassistant/status";
const CAMERAS: [&str; 2] = ["door", "yard"];

/// The service does not announce a device again within this time, so the tests wait for it to pass.
const REANNOUNCE_AFTER: Duration = Duration::from_secs(5);

/// After a birth message, the service waits for a random time before it publishes discovery. The tests assert
/// the minimum with a margin. The test that expects no discovery waits for longer than the maximum of three
/// seconds.
const MIN_BIRTH_DELAY: Duration = Duration::from_millis(400);
const LONGER_THAN_BIRTH_DELAY: Duration = Duration::from_secs(4);

fn device(id: &str) -> String {
    format!("homeassistant/device/liveobject_{id}/config")
}

async fn submit_one_event_per_camera(service: &Service) {
    for id in CAMERAS {
        let _ = service.post_event(&event_of(id, id)).await.expect(202);
    }
}

/// Starts with two cameras whose states and discovery are all retained.
async fn scene() -> Scene {
    let scene = Scene::start().await;
    submit_one_event_per_camera(&scene.service).await;
    wait_for_cameras(scene.broker.port(), &CAMERAS).await;
    scene
}

async fn publish_discovery(scene: &Scene) -> Value {
    scene.service.post(PUBLISH_DISCOVERY, &json!({})).await.expect(200)
}

/// Returns all discovery messages from index `from` on.
fn announced(scene: &Scene, from: usize) -> Vec<Message> {
    messages_since(&scene.subscriber, from, |topic| topic.ends_with("/config"))
}

#[tokio::test]
async fn all_discovery_is_published_when_home_assistant_starts() {
    let scene = scene().await;
    let port = scene.broker.port();
    sleep(REANNOUNCE_AFTER).await;
    for word in ["offline", "something"] {
        visitor::publish(port, BIRTH, word, false).await;
    }
    let before = scene.subscriber.count();
    visitor::publish(port, BIRTH, "online", false).await;
    let born = Instant::now();
    let expected = [device("door"), device("yard"), SERVICE_DEVICE.to_owned()];
    let all_published = |messages: &[Message]| {
        let is_published =
            |topic: &String| messages.iter().skip(before).any(|message| message.topic == *topic);
        expected.iter().all(is_published)
    };
    scene.subscriber.wait_for(all_published, "all discovery", TIMEOUT).await;
    for message in announced(&scene, before) {
        // No upper limit: when the messages arrive also depends on how busy the machine is.
        let after = message.at.duration_since(born);
        assert!(after >= MIN_BIRTH_DELAY, "{} arrived after {after:?}", message.topic);
        assert!(!message.payload.is_empty(), "{}", message.topic);
    }
    assert_eq!(announced(&scene, before).len(), expected.len(), "each device is announced once");
    assert!(
        messages_since(&scene.subscriber, before, |topic| topic.contains("/camera/")).is_empty(),
        "unchanged states must not be published"
    );
}

#[tokio::test]
async fn the_birth_message_of_home_assistant_is_read_below_the_discovery_prefix() {
    let scene = scene().await;
    let port = scene.broker.port();
    connect(&scene.service, port, &json!({"discovery_prefix": "ha"})).await;
    let all =
        |snapshot: &Retained| snapshot.below("ha").len() == 3 && snapshot.below("homeassistant").is_empty();
    Retained::wait_for(port, "discovery below ha", all).await;
    sleep(REANNOUNCE_AFTER).await;
    let before = scene.subscriber.count();
    visitor::publish(port, BIRTH, "online", false).await;
    sleep(LONGER_THAN_BIRTH_DELAY).await;
    assert!(announced(&scene, before).is_empty(), "a birth message below another prefix must be ignored");
    visitor::publish(port, "ha/status", "online", false).await;
    let all_published = |messages: &[Message]| {
        messages.iter().skip(before).filter(|message| message.topic.ends_with("/config")).count() == 3
    };
    scene.subscriber.wait_for(all_published, "all discovery", TIMEOUT).await;
}

#[tokio::test]
async fn discovery_is_published_again_on_request() {
    let scene = scene().await;
    let _ = scene.service.put("/api/v1/cameras/yard", &json!({"enabled": false})).await.expect(200);
    let yard_is_gone = |snapshot: &Retained| snapshot.camera_topics("yard").is_empty();
    Retained::wait_for(scene.broker.port(), "no yard", yard_is_gone).await;
    let before = scene.subscriber.count();
    let answer = publish_discovery(&scene).await;
    assert_eq!((&answer["success"], &answer["cameras_published"]), (&json!(true), &json!(1)), "{answer}");
    assert_eq!(answer["message"], "Announced 1 camera to Home Assistant.", "{answer}");
    let all_published = |messages: &[Message]| {
        let is_published = |topic: &str| messages.iter().skip(before).any(|message| message.topic == topic);
        is_published(&device("door")) && is_published(SERVICE_DEVICE)
    };
    scene.subscriber.wait_for(all_published, "discovery", TIMEOUT).await;
}

#[tokio::test]
async fn a_request_reports_why_discovery_was_not_published() {
    let mut scene = scene().await;
    let port = scene.broker.port();
    let refusal = |message: &str| json!({"success": false, "message": message, "cameras_published": 0});
    connect(&scene.service, port, &json!({"discovery_enabled": false})).await;
    assert_eq!(publish_discovery(&scene).await, refusal("discovery is switched off (discovery_enabled)"));
    connect(&scene.service, port, &json!({})).await;
    scene.broker.stop().await;
    scene.service.wait_status("disconnected", TIMEOUT, |status| status["connected"] == false).await;
    assert_eq!(publish_discovery(&scene).await, refusal("not connected to a broker"));
}

#[tokio::test]
async fn refused_discovery_messages_are_reported() {
    let rules =
        "topic readwrite liveobject/#\ntopic read #\ntopic write homeassistant/device/liveobject_door/#";
    let broker = Mosquitto::builder().acl(rules).start().await;
    let service = connected_service(broker.port(), &json!({})).await;
    submit_one_event_per_camera(&service).await;
    let announced = |snapshot: &Retained| snapshot.get(&device("door")).is_some();
    Retained::wait_for(broker.port(), "the permitted device", announced).await;
    let answer = service.post(PUBLISH_DISCOVERY, &json!({})).await.expect(200);
    assert_eq!((&answer["success"], &answer["cameras_published"]), (&json!(false), &json!(1)), "{answer}");
    let message = answer["message"].as_str().expect("a message");
    assert!(message.contains("2 devices") && message.contains("liveobject-service"), "{answer}");
    let states = |snapshot: &Retained| snapshot.below("liveobject/camera/yard").len() == STATES.len();
    Retained::wait_for(broker.port(), "the states, which are permitted", states).await;
}

#[tokio::test]
async fn entities_survive_the_migration_to_the_other_format_and_back() {
    let scene = scene().await;
    let port = scene.broker.port();
    let mut old = Retained::read(port).await;
    for format in ["component", "device"] {
        let before = scene.subscriber.count();
        connect(&scene.service, port, &json!({"discovery_format": format})).await;
        // The service's own device is not paced together with the cameras', so it may move later.
        let moved = |snapshot: &Retained| {
            has_moved(&old, snapshot) && snapshot.get(SERVICE_DEVICE).is_some() == (format == "device")
        };
        let new = Retained::wait_for(port, format, moved).await;
        for id in CAMERAS {
            assert_moved(
                &messages_since(&scene.subscriber, before, |topic| is_discovery_of(topic, id)),
                &old,
                &new,
                id,
            );
        }
        let states = |snapshot: &Retained| {
            snapshot.below("liveobject").into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(states(&new), states(&old));
        old = new;
    }
    wait_for_cameras(port, &CAMERAS).await;
}

/// Returns whether every camera has new discovery topics and none of its old ones.
fn has_moved(old: &Retained, snapshot: &Retained) -> bool {
    CAMERAS.iter().all(|id| {
        let (old, new) = (old.camera_discovery(id), snapshot.camera_discovery(id));
        !new.is_empty() && old.iter().all(|topic| !new.contains(topic))
    })
}

/// Asserts the order that preserves entities: first every old topic announces the migration, then every new
/// topic announces the entities, and then every old topic is cleared.
fn assert_moved(messages: &[Message], old: &Retained, new: &Retained, id: &str) {
    let migration = json!({"migrate_discovery": true});
    let position = |topic: &str, matches: &dyn Fn(&Message) -> bool| {
        let index = messages.iter().position(|message| message.topic == topic && matches(message));
        index.unwrap_or_else(|| panic!("{topic} is missing: {messages:#?}"))
    };
    let is_migration = |message: &Message| !message.payload.is_empty() && message.json() == migration;
    let is_new = |message: &Message| !message.payload.is_empty() && message.json() != migration;
    let migrations = old.camera_discovery(id).into_iter().map(|topic| position(topic, &is_migration));
    let announced: Vec<_> =
        new.camera_discovery(id).into_iter().map(|topic| position(topic, &is_new)).collect();
    let cleared = old
        .camera_discovery(id)
        .into_iter()
        .map(|topic| position(topic, &|message| message.payload.is_empty()));
    assert!(migrations.max() < announced.iter().copied().min(), "{messages:#?}");
    assert!(announced.into_iter().max() < cleared.min(), "{messages:#?}");
}

#[tokio::test]
async fn a_format_change_while_the_broker_is_down_is_migrated_when_it_returns() {
    let mut scene = scene().await;
    let port = scene.broker.port();
    let old = Retained::read(port).await;
    let before = scene.subscriber.count();
    scene.broker.stop().await;
    let other = crate::helpers::settings(port, &json!({"discovery_format": "component"}));
    let _ = scene.service.put_config(&other).await.expect(200);
    scene.service.restart().await;
    scene.broker.resume().await;
    let moved = |snapshot: &Retained| has_moved(&old, snapshot);
    let new = Retained::wait_for(port, "component", moved).await;
    for id in CAMERAS {
        assert_moved(
            &messages_since(&scene.subscriber, before, |topic| is_discovery_of(topic, id)),
            &old,
            &new,
            id,
        );
    }
}

#[tokio::test]
async fn disabling_discovery_clears_it_and_keeps_the_states() {
    let scene = scene().await;
    let port = scene.broker.port();
    let foreign = "homeassistant/sensor/other/config";
    visitor::publish(port, foreign, "{}", true).await;
    let before = Retained::read(port).await;
    connect(&scene.service, port, &json!({"discovery_enabled": false})).await;
    let off = |snapshot: &Retained| snapshot.below("homeassistant") == [foreign];
    Retained::wait_for(port, "no discovery", off).await;
    // Only the service's own entities read the outbox state.
    let no_outbox = |snapshot: &Retained| snapshot.get("liveobject/outbox").is_none();
    let snapshot = Retained::wait_for(port, "no outbox state", no_outbox).await;
    for topic in before.below("liveobject/camera") {
        assert_eq!(snapshot.get(topic), before.get(topic), "{topic}");
    }
    let _ = scene.service.post_event(&event("further")).await.expect(202);
    let counted = |snapshot: &Retained| snapshot.json(&state_topic("door", "counts"))["events_today"] == 2;
    let snapshot = Retained::wait_for(port, "counted", counted).await;
    assert_eq!(snapshot.below("homeassistant"), [foreign]);
    visitor::publish(port, foreign, "", true).await;
    connect(&scene.service, port, &json!({})).await;
    wait_for_cameras(port, &CAMERAS).await;
}
