//! The life of a camera, as Home Assistant sees it.

use std::time::Duration;

use liveobject_actors::domain::clock;
use serde_json::{Value, json};

use crate::helpers::{
    EVENTS, SOON, STATES, Scene, Standing, connect, event, is_discovery_of, is_state_of, put_picture, seen,
    state, wait_all, wait_for_event,
};

const DOOR: &str = "/api/v1/cameras/door";
const DISCOVERY: &str = "homeassistant/device/liveobject_door/config";

/// An event of the camera `door` that says more of the camera than its id.
fn telling_event(event_id: &str, name: &str, description: &str) -> Value {
    json!({
        "event_id": event_id,
        "camera_id": "door",
        "camera_name": name,
        "source_type": "rtsp",
        "description": description,
        "smart_detection_type": "person",
        "timestamp": clock::rfc3339(clock::now()),
    })
}

/// Removes the times of which a test knows no more than that they are there.
fn timeless(mut state: Value) -> Value {
    let at = state.as_object_mut().and_then(|state| state.remove("last_updated"));
    let is_time = |at: &Value| chrono::DateTime::parse_from_rfc3339(at.as_str().unwrap_or_default()).is_ok();
    assert!(at.as_ref().is_some_and(is_time), "last_updated is {at:?} in {state}");
    state
}

#[tokio::test]
async fn the_first_event_registers_a_camera_and_newer_ones_change_it() {
    let scene = Scene::start().await;
    let port = scene.broker.port();
    let long = format!("{} at the door", "Person ".repeat(40));
    let first = telling_event("e1", "Front Door", &long);
    let _ = scene.service.post_event(&first).await.expect(202);
    let standing = wait_all(port, &["door"]).await;

    let status = json!({
        "camera_id": "door", "camera_name": "Front Door", "status": "online", "source_type": "rtsp",
    });
    assert_eq!(timeless(standing.json(&state("door", "status"))), status);
    let last_event = json!({
        "camera_id": "door", "camera_name": "Front Door", "event_id": "e1", "timestamp": first["timestamp"],
        "description_snippet": &long[..100], "smart_detection_type": "person",
    });
    assert_eq!(standing.json(&state("door", "last_event")), last_event);
    assert_eq!(standing.text(&state("door", "description")), long[..255]);
    let counts = json!({
        "camera_id": "door", "camera_name": "Front Door", "events_today": 1, "events_this_week": 1,
    });
    assert_eq!(timeless(standing.json(&state("door", "counts"))), counts);
    let activity = json!({"camera_id": "door", "state": "ON", "last_event_at": first["timestamp"]});
    assert_eq!(standing.json(&state("door", "activity")), activity);
    assert!(standing.json(DISCOVERY).as_object().is_some_and(|device| !device.is_empty()));

    let second = telling_event("e2", "Garage Door", "A car");
    let _ = scene.service.post_event(&second).await.expect(202);
    let renamed = |standing: &Standing| {
        let name = |name| standing.json(&state("door", name))["camera_name"] == "Garage Door";
        ["status", "last_event", "counts"].into_iter().all(name)
    };
    let standing = Standing::wait(port, "the new name", renamed).await;
    assert_eq!(standing.json(&state("door", "counts"))["events_today"], 2);
    assert_eq!(standing.json(&state("door", "last_event"))["event_id"], "e2");
    let described = |standing: &Standing| standing.text(&state("door", "description")) == "A car";
    Standing::wait(port, "the new description", described).await;
    let camera = scene.service.get(DOOR).await.expect(200);
    assert_eq!((&camera["camera_name"], &camera["events_this_week"]), (&json!("Garage Door"), &json!(2)));
}

#[tokio::test]
async fn an_old_event_counts_but_is_not_the_newest() {
    let scene = Scene::start().await;
    let _ = scene.service.post_event(&telling_event("new", "New", "Now")).await.expect(202);
    let mut old = telling_event("old", "Old", "Long ago");
    old["timestamp"] = clock::rfc3339(clock::now() - Duration::from_secs(1)).into();
    let _ = scene.service.post_event(&old).await.expect(202);
    let counted = |standing: &Standing| standing.json(&state("door", "counts"))["events_this_week"] == 2;
    let standing = Standing::wait(scene.broker.port(), "both counted", counted).await;
    assert_eq!(standing.json(&state("door", "last_event"))["event_id"], "new");
    assert_eq!(standing.json(&state("door", "status"))["camera_name"], "New");
    assert_eq!(standing.text(&state("door", "description")), "Now");
}

#[tokio::test]
async fn the_newest_picture_stands_as_it_was_sent() {
    let scene = Scene::start().await;
    let port = scene.broker.port();
    let picture = state("door", "thumbnail");
    let shows = |standing: &Standing, image: &[u8]| standing.get(&picture) == Some(image);
    for id in ["e1", "e2"] {
        let _ = scene.service.post_event(&telling_event(id, "Door", "A person")).await.expect(202);
    }
    let second = put_picture(&scene.service, "e2", 2).await;
    Standing::wait(port, "the picture", |standing| shows(standing, &second)).await;
    put_picture(&scene.service, "e1", 1).await;
    let again = put_picture(&scene.service, "e2", 3).await;
    Standing::wait(port, "the other picture of the same event", |standing| shows(standing, &again)).await;
    let sent: Vec<_> =
        scene.subscriber.on(&picture).into_iter().map(|message| message.payload.to_vec()).collect();
    assert_eq!(sent, [second, again], "a picture of an older event is not the camera's newest");
}

#[tokio::test]
async fn people_name_cameras_and_say_how_they_stand() {
    let scene = Scene::start().await;
    let port = scene.broker.port();
    let camera = json!({"camera_name": "Bell", "source_type": "protect", "is_doorbell": true});
    let answer = scene.service.put(DOOR, &camera).await.expect(200);
    assert_eq!((&answer["is_doorbell"], &answer["status"]), (&json!(true), &json!("online")));
    let named = |standing: &Standing| {
        let status = standing.json(&state("door", "status"));
        status["camera_name"] == "Bell" && status["source_type"] == "protect"
    };
    let standing = Standing::wait(port, "the camera", named).await;
    assert_eq!(standing.json(&state("door", "activity"))["state"], "OFF");
    assert_eq!(standing.get(&state("door", "last_event")), None);
    for (word, status) in [
        ("stopped", "offline"),
        ("Connected", "online"),
        ("starting", "unavailable"),
        ("disconnected", "offline"),
        ("error", "unavailable"),
        ("online", "online"),
    ] {
        let answer = scene.service.put(&format!("{DOOR}/status"), &json!({"status": word})).await.expect(200);
        assert_eq!(answer["status"], status, "{word}");
        let stands = |standing: &Standing| standing.json(&state("door", "status"))["status"] == status;
        Standing::wait(port, word, stands).await;
    }
}

#[tokio::test]
async fn a_camera_that_is_switched_off_vanishes_and_its_events_still_flow() {
    let scene = Scene::start().await;
    let port = scene.broker.port();
    let _ = scene.service.post_event(&event("e1")).await.expect(202);
    put_picture(&scene.service, "e1", 1).await;
    let with_picture = |standing: &Standing| standing.of_camera("door").len() == STATES.len() + 2;
    let before = Standing::wait(port, "states, picture and discovery", with_picture).await;

    let _ = scene.service.put(DOOR, &json!({"enabled": false})).await.expect(200);
    let gone = |standing: &Standing| standing.of_camera("door").is_empty();
    Standing::wait(port, "nothing of the camera", gone).await;
    let _ = scene.service.post_event(&event("e2")).await.expect(202);
    wait_for_event(&scene.subscriber, "e2").await;
    assert!(gone(&Standing::at(port).await));

    let _ = scene.service.put(DOOR, &json!({"enabled": true})).await.expect(200);
    let back = |standing: &Standing| standing.topics() == before.topics();
    let standing = Standing::wait(port, "all of the camera again", back).await;
    assert_eq!(standing.json(&state("door", "counts"))["events_today"], 2);
    assert_eq!(standing.json(&state("door", "last_event"))["event_id"], "e2");
    assert_eq!(standing.get(&state("door", "thumbnail")), before.get(&state("door", "thumbnail")));
}

#[tokio::test]
async fn nothing_stands_of_a_removed_camera_until_a_further_event_registers_it_anew() {
    let scene = Scene::start().await;
    let port = scene.broker.port();
    for id in ["e1", "e2"] {
        let _ = scene.service.post_event(&event(id)).await.expect(202);
    }
    put_picture(&scene.service, "e2", 1).await;
    let counted = |standing: &Standing| {
        standing.json(&state("door", "counts"))["events_today"] == 2
            && standing.of_camera("door").len() == STATES.len() + 2
    };
    Standing::wait(port, "all of the camera", counted).await;
    let before = scene.subscriber.count();

    let answer = scene.service.delete(DOOR).await;
    assert!((200..300).contains(&answer.status), "{answer:?}");
    let _ = scene.service.get(DOOR).await.expect(404);
    Standing::wait(port, "nothing of the camera", |standing| standing.of_camera("door").is_empty()).await;
    let is_cleared = |topic: &str| is_discovery_of(topic, "door") || is_state_of(topic, "door");
    let cleared = seen(&scene.subscriber, before, is_cleared);
    assert!(cleared.iter().all(|message| message.payload.is_empty()), "{cleared:#?}");
    let topics: Vec<_> = cleared.iter().map(|message| message.topic.as_str()).collect();
    assert_eq!(topics[0], DISCOVERY, "discovery goes first");
    assert_eq!(topics.len(), STATES.len() + 2, "each topic is cleared once: {topics:?}");

    assert_eq!(scene.service.get(&format!("{EVENTS}/e2")).await.expect(200)["event_id"], "e2");
    let _ = scene.service.post_event(&event("e3")).await.expect(202);
    let standing = wait_all(port, &["door"]).await;
    assert_eq!(standing.json(&state("door", "counts"))["events_today"], 1, "it is another camera");
    assert_eq!(standing.json(&state("door", "last_event"))["event_id"], "e3");
}

#[tokio::test]
async fn the_retained_event_of_a_removed_camera_goes_too() {
    let scene = Scene::with(&json!({"retain_messages": true})).await;
    let port = scene.broker.port();
    let retained = state("door", "event");
    let _ = scene.service.post_event(&event("e1")).await.expect(202);
    let stands = |standing: &Standing| {
        standing.json(&retained)["event_id"] == "e1" && standing.of_camera("door").len() == STATES.len() + 2
    };
    Standing::wait(port, "the retained event", stands).await;
    let _ = scene.service.delete(DOOR).await;
    Standing::wait(port, "nothing of the camera", |standing| standing.of_camera("door").is_empty()).await;
    assert_eq!(scene.subscriber.on(&retained).last().map(|message| message.payload.len()), Some(0));
}

#[tokio::test]
async fn the_retained_event_of_a_camera_that_was_switched_off_goes_with_it() {
    let scene = Scene::with(&json!({"retain_messages": true})).await;
    let port = scene.broker.port();
    let _ = scene.service.put(DOOR, &json!({"enabled": false})).await.expect(200);
    let _ = scene.service.post_event(&event("e1")).await.expect(202);
    scene.service.wait_until_delivered("e1", SOON).await;
    assert_eq!(Standing::at(port).await.of_camera("door"), [state("door", "event")]);
    let _ = scene.service.delete(DOOR).await;
    Standing::wait(port, "nothing of the camera", |standing| standing.of_camera("door").is_empty()).await;
}

#[tokio::test]
async fn retained_events_go_when_they_are_to_be_retained_no_more() {
    let scene = Scene::with(&json!({"retain_messages": true})).await;
    let port = scene.broker.port();
    let retained = state("door", "event");
    let _ = scene.service.post_event(&event("e1")).await.expect(202);
    Standing::wait(port, "the retained event", |standing| standing.get(&retained).is_some()).await;
    connect(&scene.service, port, &json!({})).await;
    Standing::wait(port, "no retained event", |standing| standing.get(&retained).is_none()).await;
    wait_all(port, &["door"]).await;
}

#[tokio::test]
async fn a_camera_is_active_for_as_long_as_the_settings_say() {
    let scene = Scene::with(&json!({"activity_seconds": 5})).await;
    let _ = scene.service.post_event(&event("e1")).await.expect(202);
    let active = |value: &'static str| {
        move |standing: &Standing| standing.json(&state("door", "activity"))["state"] == value
    };
    Standing::wait(scene.broker.port(), "ON", active("ON")).await;
    Standing::wait(scene.broker.port(), "OFF", active("OFF")).await;
    let told = scene.subscriber.on(&state("door", "activity"));
    let states: Vec<_> = told.iter().map(|message| message.json()["state"].clone()).collect();
    assert_eq!(states, ["ON", "OFF"]);
    let lasted = (told[1].at - told[0].at).as_secs_f64();
    assert!((4.0..8.0).contains(&lasted), "it was active for {lasted} s");
}
