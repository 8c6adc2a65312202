//! Retained messages are removed even from a broker that was down when the camera was removed.

use std::time::Duration;

use liveobject_test_support::{Mosquitto, Subscriber};
use serde_json::json;

use crate::helpers::{
    Retained, Scene, TIMEOUT, connect, connected_service, event, event_of, messages_since, put_picture,
    state_topic, wait_for_cameras,
};

const DOOR: &str = "/api/v1/cameras/door";

/// Time after connecting within which the service publishes everything again. Its periodic work runs at
/// longer intervals.
const AT_ONCE: Duration = Duration::from_secs(2);

/// The setting `activity_seconds`. The service is down for the same time, so that the activity ends in the
/// meantime.
const ACTIVITY: Duration = Duration::from_secs(5);

/// Submits events from two cameras, `door` and `yard`, and waits until all of their messages are retained.
async fn with_two_cameras(scene: &Scene) -> Retained {
    let yard = event_of("yard", "yard-1");
    for event in [event("door-1"), yard] {
        let _ = scene.service.post_event(&event).await.expect(202);
    }
    wait_for_cameras(scene.broker.port(), &["door", "yard"]).await
}

#[tokio::test]
async fn a_broker_that_lost_its_state_gets_everything_again() {
    let broker = Mosquitto::builder().persistence(false).start().await;
    let subscriber = Subscriber::start(broker.port()).await;
    let service = connected_service(broker.port(), &json!({})).await;
    let mut scene = Scene { broker, subscriber, service };
    let port = scene.broker.port();
    with_two_cameras(&scene).await;
    put_picture(&scene.service, "door-1", 1).await;
    let picture = state_topic("door", "thumbnail");
    let before = Retained::wait_for(port, "the picture", |snapshot| snapshot.get(&picture).is_some()).await;
    let mut durations = Vec::new();
    for _ in 0..2 {
        let seen_before = scene.subscriber.count();
        scene.broker.restart().await;
        scene.service.wait_connected(TIMEOUT).await;
        Retained::wait_for(port, "all topics", |snapshot| snapshot.topics() == before.topics())
            .await
            .assert_same(&before);
        let messages = messages_since(&scene.subscriber, seen_before, |_| true);
        let online = messages.iter().find(|message| message.text() == "online").expect("online").at;
        let last = messages.last().expect("messages").at;
        durations.push(last - online);
    }
    // Only the faster round counts, because a busy machine may delay one of them.
    let fastest = durations.iter().min().expect("two rounds");
    assert!(*fastest < AT_ONCE, "the last state arrived {durations:?} after the connection");
}

#[tokio::test]
async fn a_broker_that_kept_its_state_has_the_same_messages_as_before() {
    let mut scene = Scene::start().await;
    let before = with_two_cameras(&scene).await;
    scene.broker.restart().await;
    scene.service.wait_connected(TIMEOUT).await;
    scene.broker.kill().await;
    scene.broker.resume().await;
    scene.service.wait_connected(TIMEOUT).await;
    wait_for_cameras(scene.broker.port(), &["door", "yard"]).await.assert_same(&before);
}

#[tokio::test]
async fn a_camera_removed_while_the_broker_is_down_is_cleared_when_it_returns() {
    let mut scene = Scene::start().await;
    let before = with_two_cameras(&scene).await;
    scene.broker.stop().await;
    let _ = scene.service.delete(DOOR).await;
    scene.broker.resume().await;
    let after = wait_for_cameras(scene.broker.port(), &["yard"]).await;
    for topic in after.topics() {
        assert_eq!(after.get(topic), before.get(topic), "{topic}");
    }
}

#[tokio::test]
async fn a_camera_removed_before_a_restart_of_the_service_is_cleared_when_the_broker_returns() {
    let mut scene = Scene::start().await;
    with_two_cameras(&scene).await;
    scene.broker.stop().await;
    let _ = scene.service.delete(DOOR).await;
    scene.service.restart().await;
    scene.broker.resume().await;
    wait_for_cameras(scene.broker.port(), &["yard"]).await;
    let of_door = |topic: &str| topic.contains("door");
    let messages = messages_since(&scene.subscriber, 0, of_door);
    let first_cleared = messages.iter().find(|message| message.payload.is_empty()).expect("a message");
    assert!(
        first_cleared.topic.ends_with("/config"),
        "discovery must be cleared first, not {}",
        first_cleared.topic
    );
}

#[tokio::test]
async fn a_camera_removed_before_a_kill_is_cleared() {
    let mut scene = Scene::start().await;
    with_two_cameras(&scene).await;
    let _ = scene.service.delete(DOOR).await;
    scene.service.kill9().await;
    scene.service.start().await;
    wait_for_cameras(scene.broker.port(), &["yard"]).await;
}

#[tokio::test]
async fn a_camera_disabled_while_the_broker_is_down_is_cleared_when_it_returns() {
    let mut scene = Scene::start().await;
    with_two_cameras(&scene).await;
    scene.broker.stop().await;
    let _ = scene.service.put(DOOR, &json!({"enabled": false})).await.expect(200);
    scene.service.restart().await;
    scene.broker.resume().await;
    wait_for_cameras(scene.broker.port(), &["yard"]).await;
}

#[tokio::test]
async fn a_restarted_service_publishes_the_same_states() {
    let mut scene = Scene::start().await;
    let before = with_two_cameras(&scene).await;
    // After a restart, `last_updated` of the counts is less exact: it is the time of the event, not of its
    // commit.
    let without_times = |snapshot: Retained| snapshot.without_fields(&["last_updated"]);
    scene.service.restart().await;
    scene.service.wait_connected(TIMEOUT).await;
    without_times(wait_for_cameras(scene.broker.port(), &["door", "yard"]).await)
        .assert_same(&without_times(before.clone()));
    // With a broker that has lost everything, only the service's own state remains.
    let mut other = Mosquitto::builder().persistence(false).start().await;
    connect(&scene.service, other.port(), &json!({})).await;
    wait_for_cameras(other.port(), &["door", "yard"]).await;
    scene.service.kill9().await;
    other.restart().await;
    scene.service.start().await;
    without_times(wait_for_cameras(other.port(), &["door", "yard"]).await)
        .assert_same(&without_times(before));
}

#[tokio::test]
async fn a_restarted_service_continues_its_counts() {
    let mut scene = Scene::start().await;
    for id in ["e1", "e2", "e3"] {
        let _ = scene.service.post_event(&event(id)).await.expect(202);
    }
    scene.service.kill9().await;
    scene.service.start().await;
    let _ = scene.service.post_event(&event("e3")).await.expect(202);
    let _ = scene.service.post_event(&event("e4")).await.expect(202);
    let counted = |snapshot: &Retained| snapshot.json(&state_topic("door", "counts"))["events_today"] == 4;
    let snapshot = Retained::wait_for(scene.broker.port(), "four events", counted).await;
    assert_eq!(snapshot.json(&state_topic("door", "activity"))["state"], "ON");
    let camera = scene.service.get(DOOR).await.expect(200);
    assert_eq!((&camera["events_today"], &camera["events_this_week"]), (&json!(4), &json!(4)));
}

#[tokio::test]
async fn an_activity_that_ended_while_the_service_was_down_is_cleared_at_startup() {
    let scene = Scene::with(&json!({"activity_seconds": ACTIVITY.as_secs()})).await;
    let Scene { broker, mut service, .. } = scene;
    let _ = service.post_event(&event("e1")).await.expect(202);
    let active = |value: &'static str| {
        move |snapshot: &Retained| snapshot.json(&state_topic("door", "activity"))["state"] == value
    };
    Retained::wait_for(broker.port(), "ON", active("ON")).await;
    service.kill9().await;
    tokio::time::sleep(ACTIVITY).await;
    assert!(
        active("ON")(&Retained::read(broker.port()).await),
        "nothing can clear it while the service is down"
    );
    service.start().await;
    Retained::wait_for(broker.port(), "OFF", active("OFF")).await;
}

#[tokio::test]
async fn a_camera_removed_while_it_sends_events_is_registered_again_with_the_latest_data() {
    let scene = Scene::start().await;
    let port = scene.broker.port();
    for round in 0..12 {
        let api = scene.service.api();
        let source = async {
            for i in 0..12 {
                let mut event = event(&format!("e{round}-{i}"));
                event["camera_name"] = format!("Door {round}-{i}").into();
                let _ = api.post_event(&event).await.expect(202);
            }
        };
        let remover = async {
            for _ in 0..8 {
                let answer = scene.service.delete(DOOR).await;
                assert!([204, 404].contains(&answer.status), "{answer:?}");
            }
        };
        tokio::join!(source, remover);
        let mut last = event(&format!("last-{round}"));
        last["camera_name"] = format!("Door {round}").into();
        let _ = scene.service.post_event(&last).await.expect(202);
        let name = format!("Door {round}");
        let newest = |snapshot: &Retained| {
            let state = snapshot.json(&state_topic("door", "last_event"));
            state["camera_name"] == *name && state["event_id"] == format!("last-{round}")
        };
        Retained::wait_for(port, &name, newest).await;
    }
}
