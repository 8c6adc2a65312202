//! Home Assistant discovery: when it is published, how it moves from one form to the other, and how it ends.

use std::time::Duration;

use liveobject_test_support::{Message, Mosquitto, visitor};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::helpers::{
    SERVICE_DEVICE, SOON, STATES, Scene, Standing, connect, connected, event, is_discovery_of, seen, state,
    wait_all,
};

const PUBLISH_DISCOVERY: &str = "/api/v1/integrations/mqtt/publish-discovery";
const BIRTH: &str = "homeassistant/status";
const CAMERAS: [&str; 2] = ["door", "yard"];

/// A device is not announced again before so much time has passed.
const ANNOUNCED_LONG_AGO: Duration = Duration::from_secs(5);

fn device(id: &str) -> String {
    format!("homeassistant/device/liveobject_{id}/config")
}

/// Two cameras of which everything stands.
async fn scene() -> Scene {
    let scene = Scene::start().await;
    for id in CAMERAS {
        let mut event = event(id);
        event["camera_id"] = id.into();
        let _ = scene.service.post_event(&event).await.expect(202);
    }
    wait_all(scene.broker.port(), &CAMERAS).await;
    scene
}

async fn publish_discovery(scene: &Scene) -> Value {
    scene.service.post(PUBLISH_DISCOVERY, &json!({})).await.expect(200)
}

/// All discovery messages from the `from`th message on.
fn announced(scene: &Scene, from: usize) -> Vec<Message> {
    seen(&scene.subscriber, from, |topic| topic.ends_with("/config"))
}

#[tokio::test]
async fn home_assistant_is_told_everything_when_it_starts() {
    let scene = scene().await;
    let port = scene.broker.port();
    sleep(ANNOUNCED_LONG_AGO).await;
    for word in ["offline", "something"] {
        visitor::publish(port, BIRTH, word, false).await;
    }
    let before = scene.subscriber.count();
    visitor::publish(port, BIRTH, "online", false).await;
    let born = Instant::now();
    let expected = [device("door"), device("yard"), SERVICE_DEVICE.to_owned()];
    let told = |messages: &[Message]| {
        let is_told = |topic: &String| messages.iter().skip(before).any(|message| message.topic == *topic);
        expected.iter().all(is_told)
    };
    scene.subscriber.wait_for(told, "all discovery", SOON).await;
    for message in announced(&scene, before) {
        let after = message.at.duration_since(born).as_secs_f64();
        assert!((0.4..4.0).contains(&after), "{} came after {after} s", message.topic);
        assert!(!message.payload.is_empty(), "{}", message.topic);
    }
    assert_eq!(announced(&scene, before).len(), expected.len(), "each once");
    assert!(
        seen(&scene.subscriber, before, |topic| topic.contains("/camera/")).is_empty(),
        "no state has changed"
    );
}

#[tokio::test]
async fn home_assistant_is_heard_where_its_prefix_says() {
    let scene = scene().await;
    let port = scene.broker.port();
    connect(&scene.service, port, &json!({"discovery_prefix": "ha"})).await;
    let all =
        |standing: &Standing| standing.below("ha").len() == 3 && standing.below("homeassistant").is_empty();
    Standing::wait(port, "discovery below ha", all).await;
    sleep(ANNOUNCED_LONG_AGO).await;
    let before = scene.subscriber.count();
    visitor::publish(port, BIRTH, "online", false).await;
    sleep(Duration::from_secs(4)).await;
    assert!(announced(&scene, before).is_empty(), "that is somebody else's");
    visitor::publish(port, "ha/status", "online", false).await;
    let told = |messages: &[Message]| {
        messages.iter().skip(before).filter(|message| message.topic.ends_with("/config")).count() == 3
    };
    scene.subscriber.wait_for(told, "all discovery", SOON).await;
}

#[tokio::test]
async fn discovery_is_published_again_on_request() {
    let scene = scene().await;
    let _ = scene.service.put("/api/v1/cameras/yard", &json!({"enabled": false})).await.expect(200);
    let yard_is_gone = |standing: &Standing| standing.of_camera("yard").is_empty();
    Standing::wait(scene.broker.port(), "no yard", yard_is_gone).await;
    let before = scene.subscriber.count();
    let answer = publish_discovery(&scene).await;
    assert_eq!((&answer["success"], &answer["cameras_published"]), (&json!(true), &json!(1)), "{answer}");
    assert!(answer["message"].as_str().is_some_and(|message| message.contains("acknowledged")), "{answer}");
    let told = |messages: &[Message]| {
        let told = |topic: &str| messages.iter().skip(before).any(|message| message.topic == topic);
        told(&device("door")) && told(SERVICE_DEVICE)
    };
    scene.subscriber.wait_for(told, "discovery", SOON).await;
}

#[tokio::test]
async fn a_request_says_why_discovery_was_not_published() {
    let mut scene = scene().await;
    let port = scene.broker.port();
    let refusal = |message: &str| json!({"success": false, "message": message, "cameras_published": 0});
    connect(&scene.service, port, &json!({"discovery_enabled": false})).await;
    assert_eq!(publish_discovery(&scene).await, refusal("discovery is switched off (discovery_enabled)"));
    connect(&scene.service, port, &json!({})).await;
    scene.broker.stop().await;
    scene.service.wait_status("disconnected", SOON, |status| status["connected"] == false).await;
    assert_eq!(publish_discovery(&scene).await, refusal("not connected to a broker"));
}

#[tokio::test]
async fn a_broker_that_refuses_discovery_is_told_of() {
    let rules =
        "topic readwrite liveobject/#\ntopic read #\ntopic write homeassistant/device/liveobject_door/#";
    let broker = Mosquitto::builder().acl(rules).start().await;
    let service = connected(broker.port(), &json!({})).await;
    for id in CAMERAS {
        let mut event = event(id);
        event["camera_id"] = id.into();
        let _ = service.post_event(&event).await.expect(202);
    }
    let announced = |standing: &Standing| standing.get(&device("door")).is_some();
    Standing::wait(broker.port(), "the one that is permitted", announced).await;
    let answer = service.post(PUBLISH_DISCOVERY, &json!({})).await.expect(200);
    assert_eq!((&answer["success"], &answer["cameras_published"]), (&json!(false), &json!(1)), "{answer}");
    let message = answer["message"].as_str().expect("a message");
    assert!(message.contains("2 devices") && message.contains("liveobject-service"), "{answer}");
    let states = |standing: &Standing| standing.below("liveobject/camera/yard").len() == STATES.len();
    Standing::wait(broker.port(), "states all the same", states).await;
}

#[tokio::test]
async fn entities_move_to_the_other_form_and_back_without_getting_lost() {
    let scene = scene().await;
    let port = scene.broker.port();
    let mut old = Standing::at(port).await;
    for format in ["component", "device"] {
        let before = scene.subscriber.count();
        connect(&scene.service, port, &json!({"discovery_format": format})).await;
        let moved = |standing: &Standing| {
            CAMERAS.iter().all(|id| {
                let (old, new) = (old.discovery_of(id), standing.discovery_of(id));
                !new.is_empty() && old.iter().all(|topic| !new.contains(topic))
            })
        };
        let new = Standing::wait(port, format, moved).await;
        for id in CAMERAS {
            assert_moved(
                &seen(&scene.subscriber, before, |topic| is_discovery_of(topic, id)),
                &old,
                &new,
                id,
            );
        }
        assert_eq!(new.get(SERVICE_DEVICE).is_some(), format == "device");
        let states = |standing: &Standing| {
            standing.below("liveobject").into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(states(&new), states(&old));
        old = new;
    }
    wait_all(port, &CAMERAS).await;
}

/// Asserts the order that keeps entities: every old topic says that they move, every new one announces them, every old
/// one is cleared.
fn assert_moved(messages: &[Message], old: &Standing, new: &Standing, id: &str) {
    let moves = json!({"migrate_discovery": true});
    let at = |topic: &str, is: &dyn Fn(&Message) -> bool| {
        let place = messages.iter().position(|message| message.topic == topic && is(message));
        place.unwrap_or_else(|| panic!("{topic} is missing: {messages:#?}"))
    };
    let says_so = |message: &Message| !message.payload.is_empty() && message.json() == moves;
    let is_new = |message: &Message| !message.payload.is_empty() && message.json() != moves;
    let told = old.discovery_of(id).into_iter().map(|topic| at(topic, &says_so));
    let announced: Vec<_> = new.discovery_of(id).into_iter().map(|topic| at(topic, &is_new)).collect();
    let cleared =
        old.discovery_of(id).into_iter().map(|topic| at(topic, &|message| message.payload.is_empty()));
    assert!(told.max() < announced.iter().copied().min(), "{messages:#?}");
    assert!(announced.into_iter().max() < cleared.min(), "{messages:#?}");
}

#[tokio::test]
async fn the_form_that_changed_while_the_broker_was_away_moves_when_it_is_back() {
    let mut scene = scene().await;
    let port = scene.broker.port();
    let old = Standing::at(port).await;
    let before = scene.subscriber.count();
    scene.broker.stop().await;
    let other = crate::helpers::settings(port, &json!({"discovery_format": "component"}));
    let _ = scene.service.put_config(&other).await.expect(200);
    scene.service.restart().await;
    scene.broker.resume().await;
    let moved = |standing: &Standing| {
        CAMERAS.iter().all(|id| {
            let (old, new) = (old.discovery_of(id), standing.discovery_of(id));
            !new.is_empty() && old.iter().all(|topic| !new.contains(topic))
        })
    };
    let new = Standing::wait(port, "component", moved).await;
    for id in CAMERAS {
        assert_moved(&seen(&scene.subscriber, before, |topic| is_discovery_of(topic, id)), &old, &new, id);
    }
}

#[tokio::test]
async fn discovery_that_is_switched_off_goes_and_states_stay() {
    let scene = scene().await;
    let port = scene.broker.port();
    let foreign = "homeassistant/sensor/other/config";
    visitor::publish(port, foreign, "{}", true).await;
    let before = Standing::at(port).await;
    connect(&scene.service, port, &json!({"discovery_enabled": false})).await;
    let off = |standing: &Standing| standing.below("homeassistant") == [foreign];
    Standing::wait(port, "no discovery", off).await;
    // Nobody but the service's entities reads how the log stands.
    let no_outbox = |standing: &Standing| standing.get("liveobject/outbox").is_none();
    let standing = Standing::wait(port, "no state of the log", no_outbox).await;
    for topic in before.below("liveobject/camera") {
        assert_eq!(standing.get(topic), before.get(topic), "{topic}");
    }
    let _ = scene.service.post_event(&event("further")).await.expect(202);
    let counted = |standing: &Standing| standing.json(&state("door", "counts"))["events_today"] == 2;
    let standing = Standing::wait(port, "counted", counted).await;
    assert_eq!(standing.below("homeassistant"), [foreign]);
    visitor::publish(port, foreign, "", true).await;
    connect(&scene.service, port, &json!({})).await;
    wait_all(port, &CAMERAS).await;
}
