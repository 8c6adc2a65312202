//! The life cycle of a camera, as Home Assistant sees it.

use std::time::Duration;

use liveobject_actors::domain::clock;
use liveobject_test_support::Message;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::helpers::{
    EVENTS, Retained, STATES, Scene, TIMEOUT, connect, event, is_discovery_of, is_state_of, messages_since,
    old_event, put_picture, state_topic, wait_for_cameras, wait_for_event,
};

const DOOR: &str = "/api/v1/cameras/door";
/// The setting `activity_seconds`. The service checks for ended activities once a second.
const ACTIVITY_SECONDS: u32 = 5;

/// States of a camera that change often wait for up to this long.
const STATES_PACED: Duration = Duration::from_millis(1200);

const DISCOVERY: &str = "homeassistant/device/liveobject_door/config";

/// Returns an event from the camera `door` with camera metadata.
fn event_with_metadata(event_id: &str, name: &str, description: &str) -> Value {
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

/// Removes `last_updated` after checking that it is a time.
fn without_last_updated(mut state: Value) -> Value {
    let updated = state.as_object_mut().and_then(|state| state.remove("last_updated"));
    let is_time =
        |value: &Value| chrono::DateTime::parse_from_rfc3339(value.as_str().unwrap_or_default()).is_ok();
    assert!(updated.as_ref().is_some_and(is_time), "last_updated is {updated:?} in {state}");
    state
}

#[tokio::test]
async fn the_first_event_registers_a_camera_and_newer_ones_update_it() {
    let scene = Scene::start().await;
    let port = scene.broker.port();
    let long = format!("{} at the door", "Person ".repeat(40));
    let first = event_with_metadata("e1", "Front Door", &long);
    let _ = scene.service.post_event(&first).await.expect(202);
    let snapshot = wait_for_cameras(port, &["door"]).await;

    let status = json!({
        "camera_id": "door", "camera_name": "Front Door", "status": "online", "source_type": "rtsp",
    });
    assert_eq!(without_last_updated(snapshot.json(&state_topic("door", "status"))), status);
    let last_event = json!({
        "camera_id": "door", "camera_name": "Front Door", "event_id": "e1", "timestamp": first["timestamp"],
        "description_snippet": &long[..100], "smart_detection_type": "person",
    });
    assert_eq!(snapshot.json(&state_topic("door", "last_event")), last_event);
    assert_eq!(snapshot.text(&state_topic("door", "description")), long[..255]);
    let counts = json!({
        "camera_id": "door", "camera_name": "Front Door", "events_today": 1, "events_this_week": 1,
    });
    assert_eq!(without_last_updated(snapshot.json(&state_topic("door", "counts"))), counts);
    let activity = json!({"camera_id": "door", "state": "ON", "last_event_at": first["timestamp"]});
    assert_eq!(snapshot.json(&state_topic("door", "activity")), activity);
    assert!(snapshot.json(DISCOVERY).as_object().is_some_and(|device| !device.is_empty()));

    let second = event_with_metadata("e2", "Garage Door", "A car");
    let _ = scene.service.post_event(&second).await.expect(202);
    let renamed = |snapshot: &Retained| {
        let name = |name| snapshot.json(&state_topic("door", name))["camera_name"] == "Garage Door";
        ["status", "last_event", "counts"].into_iter().all(name)
    };
    let snapshot = Retained::wait_for(port, "the new name", renamed).await;
    assert_eq!(snapshot.json(&state_topic("door", "counts"))["events_today"], 2);
    assert_eq!(snapshot.json(&state_topic("door", "last_event"))["event_id"], "e2");
    let described = |snapshot: &Retained| snapshot.text(&state_topic("door", "description")) == "A car";
    Retained::wait_for(port, "the new description", described).await;
    let camera = scene.service.get(DOOR).await.expect(200);
    assert_eq!((&camera["camera_name"], &camera["events_this_week"]), (&json!("Garage Door"), &json!(2)));
}

#[tokio::test]
async fn an_older_event_is_counted_but_does_not_replace_the_newest() {
    let scene = Scene::start().await;
    let _ = scene.service.post_event(&event_with_metadata("new", "New", "Now")).await.expect(202);
    let mut old = event_with_metadata("old", "Old", "Long ago");
    old["timestamp"] = clock::rfc3339(clock::now() - Duration::from_secs(1)).into();
    let _ = scene.service.post_event(&old).await.expect(202);
    let counted =
        |snapshot: &Retained| snapshot.json(&state_topic("door", "counts"))["events_this_week"] == 2;
    let snapshot = Retained::wait_for(scene.broker.port(), "both counted", counted).await;
    assert_eq!(snapshot.json(&state_topic("door", "last_event"))["event_id"], "new");
    assert_eq!(snapshot.json(&state_topic("door", "status"))["camera_name"], "New");
    assert_eq!(snapshot.text(&state_topic("door", "description")), "Now");
}

#[tokio::test]
async fn the_newest_picture_is_retained_unchanged() {
    let scene = Scene::start().await;
    let port = scene.broker.port();
    let picture = state_topic("door", "thumbnail");
    let shows = |snapshot: &Retained, image: &[u8]| snapshot.get(&picture) == Some(image);
    for id in ["e1", "e2"] {
        let _ = scene.service.post_event(&event_with_metadata(id, "Door", "A person")).await.expect(202);
    }
    let second = put_picture(&scene.service, "e2", 2).await;
    Retained::wait_for(port, "the picture", |snapshot| shows(snapshot, &second)).await;
    put_picture(&scene.service, "e1", 1).await;
    let again = put_picture(&scene.service, "e2", 3).await;
    Retained::wait_for(port, "the other picture of the same event", |snapshot| shows(snapshot, &again)).await;
    let sent: Vec<_> =
        scene.subscriber.on(&picture).into_iter().map(|message| message.payload.to_vec()).collect();
    assert_eq!(sent, [second, again], "a picture of an older event is not the camera's newest");
}

#[tokio::test]
async fn cameras_can_be_named_and_their_status_set() {
    let scene = Scene::start().await;
    let port = scene.broker.port();
    let camera = json!({"camera_name": "Bell", "source_type": "protect", "is_doorbell": true});
    let answer = scene.service.put(DOOR, &camera).await.expect(200);
    assert_eq!((&answer["is_doorbell"], &answer["status"]), (&json!(true), &json!("online")));
    let has_name = |snapshot: &Retained| {
        let status = snapshot.json(&state_topic("door", "status"));
        status["camera_name"] == "Bell" && status["source_type"] == "protect"
    };
    let snapshot = Retained::wait_for(port, "the camera", has_name).await;
    assert_eq!(snapshot.json(&state_topic("door", "activity"))["state"], "OFF");
    assert_eq!(snapshot.get(&state_topic("door", "last_event")), None);
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
        let matches = |snapshot: &Retained| snapshot.json(&state_topic("door", "status"))["status"] == status;
        Retained::wait_for(port, word, matches).await;
    }
}

#[tokio::test]
async fn an_event_of_an_offline_camera_arrives_after_the_camera_is_online_again() {
    let scene = Scene::start().await;
    let status_topic = state_topic("door", "status");
    for (round, word) in ["offline", "unavailable"].into_iter().enumerate() {
        let _ = scene.service.put(DOOR, &json!({})).await.expect(200);
        let _ = scene.service.put(&format!("{DOOR}/status"), &json!({"status": word})).await.expect(200);
        let is_set = |snapshot: &Retained| snapshot.json(&status_topic)["status"] == word;
        Retained::wait_for(scene.broker.port(), word, is_set).await;
        let before = scene.subscriber.count();
        let late = old_event(&format!("late-{round}"), 3600);
        let _ = scene.service.post_event(&late).await.expect(202);
        scene.service.wait_until_delivered(&format!("late-{round}"), TIMEOUT).await;
        assert_eq!(scene.service.get(DOOR).await.expect(200)["status"], word, "a late event proves nothing");
        sleep(STATES_PACED).await;

        let id = format!("now-{round}");
        let _ = scene.service.post_event(&event(&id)).await.expect(202);
        wait_for_event(&scene.subscriber, &id).await;
        assert_eq!(scene.service.get(DOOR).await.expect(200)["status"], "online");
        let is_relevant = |topic: &str| topic == status_topic || topic == state_topic("door", "event");
        let arrived = messages_since(&scene.subscriber, before, is_relevant);
        let online = arrived
            .iter()
            .position(|message| message.topic == status_topic && message.json()["status"] == "online");
        let event = arrived.iter().position(Message::is_event);
        assert!(online < event && online.is_some(), "the status must come first: {arrived:#?}");
    }
}

#[tokio::test]
async fn a_disabled_camera_disappears_and_its_events_are_still_published() {
    let scene = Scene::start().await;
    let port = scene.broker.port();
    let _ = scene.service.post_event(&event("e1")).await.expect(202);
    put_picture(&scene.service, "e1", 1).await;
    let with_picture = |snapshot: &Retained| snapshot.camera_topics("door").len() == STATES.len() + 2;
    let before = Retained::wait_for(port, "states, picture and discovery", with_picture).await;

    let _ = scene.service.put(DOOR, &json!({"enabled": false})).await.expect(200);
    let is_cleared = |snapshot: &Retained| snapshot.camera_topics("door").is_empty();
    Retained::wait_for(port, "no messages of the camera", is_cleared).await;
    let _ = scene.service.post_event(&event("e2")).await.expect(202);
    wait_for_event(&scene.subscriber, "e2").await;
    assert!(is_cleared(&Retained::read(port).await));

    let _ = scene.service.put(DOOR, &json!({"enabled": true})).await.expect(200);
    let back = |snapshot: &Retained| snapshot.topics() == before.topics();
    let snapshot = Retained::wait_for(port, "all messages of the camera again", back).await;
    assert_eq!(snapshot.json(&state_topic("door", "counts"))["events_today"], 2);
    assert_eq!(snapshot.json(&state_topic("door", "last_event"))["event_id"], "e2");
    assert_eq!(
        snapshot.get(&state_topic("door", "thumbnail")),
        before.get(&state_topic("door", "thumbnail"))
    );
}

#[tokio::test]
async fn no_messages_of_a_removed_camera_are_retained_until_an_event_registers_it_again() {
    let scene = Scene::start().await;
    let port = scene.broker.port();
    for id in ["e1", "e2"] {
        let _ = scene.service.post_event(&event(id)).await.expect(202);
    }
    put_picture(&scene.service, "e2", 1).await;
    let counted = |snapshot: &Retained| {
        snapshot.json(&state_topic("door", "counts"))["events_today"] == 2
            && snapshot.camera_topics("door").len() == STATES.len() + 2
    };
    Retained::wait_for(port, "all messages of the camera", counted).await;
    let before = scene.subscriber.count();

    let answer = scene.service.delete(DOOR).await;
    assert!((200..300).contains(&answer.status), "{answer:?}");
    let _ = scene.service.get(DOOR).await.expect(404);
    Retained::wait_for(port, "no messages of the camera", |snapshot| {
        snapshot.camera_topics("door").is_empty()
    })
    .await;
    let is_cleared = |topic: &str| is_discovery_of(topic, "door") || is_state_of(topic, "door");
    let cleared = messages_since(&scene.subscriber, before, is_cleared);
    assert!(cleared.iter().all(|message| message.payload.is_empty()), "{cleared:#?}");
    let topics: Vec<_> = cleared.iter().map(|message| message.topic.as_str()).collect();
    assert_eq!(topics[0], DISCOVERY, "discovery must be cleared first");
    assert_eq!(topics.len(), STATES.len() + 2, "each topic is cleared once: {topics:?}");

    assert_eq!(scene.service.get(&format!("{EVENTS}/e2")).await.expect(200)["event_id"], "e2");
    let _ = scene.service.post_event(&event("e3")).await.expect(202);
    let snapshot = wait_for_cameras(port, &["door"]).await;
    assert_eq!(snapshot.json(&state_topic("door", "counts"))["events_today"], 1, "the camera is a new one");
    assert_eq!(snapshot.json(&state_topic("door", "last_event"))["event_id"], "e3");
}

#[tokio::test]
async fn the_retained_event_of_a_removed_camera_is_cleared_too() {
    let scene = Scene::with(&json!({"retain_messages": true})).await;
    let port = scene.broker.port();
    let retained = state_topic("door", "event");
    let _ = scene.service.post_event(&event("e1")).await.expect(202);
    let matches = |snapshot: &Retained| {
        snapshot.json(&retained)["event_id"] == "e1"
            && snapshot.camera_topics("door").len() == STATES.len() + 2
    };
    Retained::wait_for(port, "the retained event", matches).await;
    let _ = scene.service.delete(DOOR).await;
    Retained::wait_for(port, "no messages of the camera", |snapshot| {
        snapshot.camera_topics("door").is_empty()
    })
    .await;
    assert_eq!(scene.subscriber.on(&retained).last().map(|message| message.payload.len()), Some(0));
}

#[tokio::test]
async fn the_retained_event_of_a_disabled_camera_is_cleared_on_removal() {
    let scene = Scene::with(&json!({"retain_messages": true})).await;
    let port = scene.broker.port();
    let _ = scene.service.put(DOOR, &json!({"enabled": false})).await.expect(200);
    let _ = scene.service.post_event(&event("e1")).await.expect(202);
    scene.service.wait_until_delivered("e1", TIMEOUT).await;
    assert_eq!(Retained::read(port).await.camera_topics("door"), [state_topic("door", "event")]);
    let _ = scene.service.delete(DOOR).await;
    Retained::wait_for(port, "no messages of the camera", |snapshot| {
        snapshot.camera_topics("door").is_empty()
    })
    .await;
}

#[tokio::test]
async fn turning_off_retain_messages_clears_the_retained_events() {
    let scene = Scene::with(&json!({"retain_messages": true})).await;
    let port = scene.broker.port();
    let retained = state_topic("door", "event");
    let _ = scene.service.post_event(&event("e1")).await.expect(202);
    Retained::wait_for(port, "the retained event", |snapshot| snapshot.get(&retained).is_some()).await;
    connect(&scene.service, port, &json!({})).await;
    Retained::wait_for(port, "no retained event", |snapshot| snapshot.get(&retained).is_none()).await;
    wait_for_cameras(port, &["door"]).await;
}

#[tokio::test]
async fn a_camera_is_active_for_activity_seconds() {
    let scene = Scene::with(&json!({"activity_seconds": ACTIVITY_SECONDS})).await;
    let _ = scene.service.post_event(&event("e1")).await.expect(202);
    let active = |value: &'static str| {
        move |snapshot: &Retained| snapshot.json(&state_topic("door", "activity"))["state"] == value
    };
    Retained::wait_for(scene.broker.port(), "ON", active("ON")).await;
    Retained::wait_for(scene.broker.port(), "OFF", active("OFF")).await;
    let activity = scene.subscriber.on(&state_topic("door", "activity"));
    let states: Vec<_> = activity.iter().map(|message| message.json()["state"].clone()).collect();
    assert_eq!(states, ["ON", "OFF"]);
    let expected = f64::from(ACTIVITY_SECONDS);
    let lasted = (activity[1].at - activity[0].at).as_secs_f64();
    assert!((expected - 1.0..expected + 3.0).contains(&lasted), "the camera was active for {lasted} s");
}
