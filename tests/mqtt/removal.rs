//! What of ours stands at a broker that was away while it was to be removed.

use liveobject_test_support::{Mosquitto, Subscriber};
use serde_json::json;

use crate::helpers::{SOON, Scene, Standing, connect, connected, event, put_picture, seen, state, wait_all};

const DOOR: &str = "/api/v1/cameras/door";

/// Two cameras, `door` and `yard`, of which everything stands at the broker.
async fn with_two_cameras(scene: &Scene) -> Standing {
    let mut yard = event("yard-1");
    yard["camera_id"] = "yard".into();
    for event in [event("door-1"), yard] {
        let _ = scene.service.post_event(&event).await.expect(202);
    }
    wait_all(scene.broker.port(), &["door", "yard"]).await
}

#[tokio::test]
async fn a_broker_that_forgot_everything_is_told_everything_at_once() {
    let broker = Mosquitto::builder().persistence(false).start().await;
    let subscriber = Subscriber::start(broker.port()).await;
    let service = connected(broker.port(), &json!({})).await;
    let mut scene = Scene { broker, subscriber, service };
    let port = scene.broker.port();
    with_two_cameras(&scene).await;
    put_picture(&scene.service, "door-1", 1).await;
    let picture = state("door", "thumbnail");
    let before = Standing::wait(port, "the picture", |standing| standing.get(&picture).is_some()).await;
    for _ in 0..2 {
        let seen_before = scene.subscriber.count();
        scene.broker.restart().await;
        scene.service.wait_connected(SOON).await;
        Standing::wait(port, "all topics", |standing| standing.topics() == before.topics())
            .await
            .assert_same(&before);
        let told = seen(&scene.subscriber, seen_before, |_| true);
        let online = told.iter().find(|message| message.text() == "online").expect("online").at;
        let last = told.last().expect("messages").at;
        let took = last - online;
        assert!(took.as_secs_f64() < 2.0, "the last state came {took:?} after the connection");
    }
}

#[tokio::test]
async fn a_broker_that_forgot_nothing_has_the_same_as_before() {
    let mut scene = Scene::start().await;
    let before = with_two_cameras(&scene).await;
    scene.broker.restart().await;
    scene.service.wait_connected(SOON).await;
    scene.broker.kill().await;
    scene.broker.resume().await;
    scene.service.wait_connected(SOON).await;
    wait_all(scene.broker.port(), &["door", "yard"]).await.assert_same(&before);
}

#[tokio::test]
async fn a_camera_removed_while_the_broker_is_away_is_gone_when_it_comes_back() {
    let mut scene = Scene::start().await;
    let before = with_two_cameras(&scene).await;
    scene.broker.stop().await;
    let _ = scene.service.delete(DOOR).await;
    scene.broker.resume().await;
    let after = wait_all(scene.broker.port(), &["yard"]).await;
    for topic in after.topics() {
        assert_eq!(after.get(topic), before.get(topic), "{topic}");
    }
}

#[tokio::test]
async fn a_camera_removed_before_a_restart_of_the_service_is_gone_when_the_broker_comes_back() {
    let mut scene = Scene::start().await;
    with_two_cameras(&scene).await;
    scene.broker.stop().await;
    let _ = scene.service.delete(DOOR).await;
    scene.service.restart().await;
    scene.broker.resume().await;
    wait_all(scene.broker.port(), &["yard"]).await;
    let of_door = |topic: &str| topic.contains("door");
    let told = seen(&scene.subscriber, 0, of_door);
    let first_cleared = told.iter().find(|message| message.payload.is_empty()).expect("a message");
    assert!(first_cleared.topic.ends_with("/config"), "discovery goes first, not {}", first_cleared.topic);
}

#[tokio::test]
async fn a_camera_removed_before_a_kill_is_gone() {
    let mut scene = Scene::start().await;
    with_two_cameras(&scene).await;
    let _ = scene.service.delete(DOOR).await;
    scene.service.kill9().await;
    scene.service.start().await;
    wait_all(scene.broker.port(), &["yard"]).await;
}

#[tokio::test]
async fn a_camera_switched_off_while_the_broker_is_away_is_gone_when_it_comes_back() {
    let mut scene = Scene::start().await;
    with_two_cameras(&scene).await;
    scene.broker.stop().await;
    let _ = scene.service.put(DOOR, &json!({"enabled": false})).await.expect(200);
    scene.service.restart().await;
    scene.broker.resume().await;
    wait_all(scene.broker.port(), &["yard"]).await;
}

#[tokio::test]
async fn a_restarted_service_tells_the_same_as_before() {
    let mut scene = Scene::start().await;
    let before = with_two_cameras(&scene).await;
    // When the counts last changed is known less exactly after a restart: by the event, not by its commit.
    let timeless = |standing: Standing| standing.without(&["last_updated"]);
    scene.service.restart().await;
    scene.service.wait_connected(SOON).await;
    timeless(wait_all(scene.broker.port(), &["door", "yard"]).await).assert_same(&timeless(before.clone()));
    // A broker that forgot everything shows what the service itself still knows.
    let mut other = Mosquitto::builder().persistence(false).start().await;
    connect(&scene.service, other.port(), &json!({})).await;
    wait_all(other.port(), &["door", "yard"]).await;
    scene.service.kill9().await;
    other.restart().await;
    scene.service.start().await;
    timeless(wait_all(other.port(), &["door", "yard"]).await).assert_same(&timeless(before));
}

#[tokio::test]
async fn a_restarted_service_counts_on() {
    let mut scene = Scene::start().await;
    for id in ["e1", "e2", "e3"] {
        let _ = scene.service.post_event(&event(id)).await.expect(202);
    }
    scene.service.kill9().await;
    scene.service.start().await;
    let _ = scene.service.post_event(&event("e3")).await.expect(202);
    let _ = scene.service.post_event(&event("e4")).await.expect(202);
    let counted = |standing: &Standing| standing.json(&state("door", "counts"))["events_today"] == 4;
    let standing = Standing::wait(scene.broker.port(), "four events", counted).await;
    assert_eq!(standing.json(&state("door", "activity"))["state"], "ON");
    let camera = scene.service.get(DOOR).await.expect(200);
    assert_eq!((&camera["events_today"], &camera["events_this_week"]), (&json!(4), &json!(4)));
}

#[tokio::test]
async fn an_activity_that_ended_while_the_service_was_down_is_over() {
    let scene = Scene::with(&json!({"activity_seconds": 5})).await;
    let Scene { broker, mut service, .. } = scene;
    let _ = service.post_event(&event("e1")).await.expect(202);
    let active = |value: &'static str| {
        move |standing: &Standing| standing.json(&state("door", "activity"))["state"] == value
    };
    Standing::wait(broker.port(), "ON", active("ON")).await;
    service.kill9().await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert!(active("ON")(&Standing::at(broker.port()).await), "nobody was there to say otherwise");
    service.start().await;
    Standing::wait(broker.port(), "OFF", active("OFF")).await;
}

#[tokio::test]
async fn a_camera_that_is_removed_while_it_sends_events_is_the_newest_one_of_its_name() {
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
        let newest = |standing: &Standing| {
            let state = standing.json(&state("door", "last_event"));
            state["camera_name"] == *name && state["event_id"] == format!("last-{round}")
        };
        Standing::wait(port, &name, newest).await;
    }
}
