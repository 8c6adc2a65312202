//! States and discovery move: to other topics, to another broker.

use liveobject_test_support::{Mosquitto, visitor};
use serde_json::json;

use crate::helpers::{
    SERVICE_DEVICE, STATES, Scene, Standing, all_topics, connect, event, settings, wait_all,
};

/// Messages of others in the trees where ours stand.
const FOREIGN: [&str; 5] = [
    "homeassistant/sensor/other/config",
    "homeassistant/device/other/config",
    "liveobject/other",
    "liveobject/camera/other/status",
    "house/other",
];

async fn with_foreign_messages(port: u16) {
    for topic in FOREIGN {
        visitor::publish(port, topic, "foreign", true).await;
    }
}

/// What stands apart from the foreign messages, which are all there.
fn ours(standing: &Standing) -> Vec<String> {
    for topic in FOREIGN {
        assert_eq!(standing.text(topic), "foreign", "{topic}");
    }
    standing.topics().into_iter().filter(|topic| !FOREIGN.contains(topic)).map(str::to_owned).collect()
}

/// What stands with default settings of the camera `door`, with another topic prefix and another discovery prefix.
fn with_prefixes(topic_prefix: &str, discovery_prefix: &str) -> Vec<String> {
    let rename = |topic: String| {
        let topic = match topic.as_str() {
            // Each prefix has a service of its own.
            SERVICE_DEVICE => service_device(topic_prefix),
            topic => topic.replacen("liveobject/", &format!("{topic_prefix}/"), 1),
        };
        topic.replacen("homeassistant/", &format!("{discovery_prefix}/"), 1)
    };
    let mut topics: Vec<_> = all_topics(&["door"]).into_iter().map(rename).collect();
    topics.sort();
    topics
}

fn service_device(topic_prefix: &str) -> String {
    let id = match topic_prefix {
        "liveobject" => "liveobject-service".to_owned(),
        other => format!("liveobject-service-{}", other.replace('/', "_2f")),
    };
    format!("homeassistant/device/{id}/config")
}

#[tokio::test]
async fn other_prefixes_move_all_that_is_ours_and_nothing_else() {
    let scene = Scene::start().await;
    let port = scene.broker.port();
    with_foreign_messages(port).await;
    let _ = scene.service.post_event(&event("e1")).await.expect(202);
    let before = Standing::wait(port, "all", |standing| ours(standing) == all_topics(&["door"])).await;
    for (topics, discovery) in [
        ("house", "homeassistant"),
        ("house", "house/ha"),
        ("liveobject/sub", "ha"),
        ("liveobject", "homeassistant"),
    ] {
        let settings = json!({"topic_prefix": topics, "discovery_prefix": discovery});
        connect(&scene.service, port, &settings).await;
        let expected = with_prefixes(topics, discovery);
        let what = format!("all below {topics} and {discovery}");
        let standing = Standing::wait(port, &what, |standing| ours(standing) == expected).await;
        let name =
            |standing: &Standing, prefix: &str| standing.json(&format!("{prefix}/camera/door/last_event"));
        assert_eq!(name(&standing, topics), name(&before, "liveobject"));
    }
}

#[tokio::test]
async fn a_prefix_that_changed_while_the_broker_was_away_leaves_nothing_behind() {
    let mut scene = Scene::start().await;
    let port = scene.broker.port();
    let _ = scene.service.post_event(&event("e1")).await.expect(202);
    wait_all(port, &["door"]).await;
    scene.broker.stop().await;
    let other = settings(port, &json!({"topic_prefix": "house"}));
    let _ = scene.service.put_config(&other).await.expect(200);
    scene.service.restart().await;
    scene.broker.resume().await;
    let expected = with_prefixes("house", "homeassistant");
    Standing::wait(port, "all below house", |standing| standing.topics() == expected).await;
}

#[tokio::test]
async fn a_broker_that_is_left_for_another_one_is_cleared() {
    let old = Scene::start().await;
    let new = Mosquitto::start().await;
    with_foreign_messages(old.broker.port()).await;
    let _ = old.service.post_event(&event("e1")).await.expect(202);
    let all = all_topics(&["door"]);
    let before = Standing::wait(old.broker.port(), "all", |standing| ours(standing) == all).await;
    let mut before_here = before.topics();
    before_here.retain(|topic| !FOREIGN.contains(topic));
    connect(&old.service, new.port(), &json!({})).await;
    let left = Standing::at(old.broker.port()).await;
    assert_eq!(ours(&left), ["liveobject/status"]);
    assert_eq!(left.text("liveobject/status"), "offline");
    let standing = wait_all(new.port(), &["door"]).await;
    for topic in before_here {
        assert_eq!(standing.text(topic), before.text(topic), "{topic}");
    }
}

#[tokio::test]
async fn retained_events_of_a_broker_that_is_left_are_cleared() {
    let old = Scene::with(&json!({"retain_messages": true})).await;
    let new = Mosquitto::start().await;
    let _ = old.service.post_event(&event("e1")).await.expect(202);
    let stands = |standing: &Standing| standing.of_camera("door").len() == STATES.len() + 2;
    Standing::wait(old.broker.port(), "all of the camera", stands).await;
    connect(&old.service, new.port(), &json!({"retain_messages": true})).await;
    assert_eq!(Standing::at(old.broker.port()).await.topics(), ["liveobject/status"]);
}

#[tokio::test]
async fn a_broker_that_could_not_be_cleared_is_when_it_is_used_again() {
    let mut old = Scene::start().await;
    let new = Mosquitto::start().await;
    let port = old.broker.port();
    let mut yard = event("yard-1");
    yard["camera_id"] = "yard".into();
    for event in [event("e1"), yard] {
        let _ = old.service.post_event(&event).await.expect(202);
    }
    let before = wait_all(port, &["door", "yard"]).await;
    old.broker.stop().await;
    connect(&old.service, new.port(), &json!({})).await;
    wait_all(new.port(), &["door", "yard"]).await;
    old.broker.resume().await;
    assert_eq!(Standing::at(port).await.topics(), before.topics(), "nobody can clear it from elsewhere");
    let _ = old.service.delete("/api/v1/cameras/yard").await;
    old.service.restart().await;
    connect(&old.service, port, &json!({"topic_prefix": "house"})).await;
    let expected = with_prefixes("house", "homeassistant");
    Standing::wait(port, "all below house", |standing| standing.topics() == expected).await;
    assert_eq!(Standing::at(new.port()).await.topics(), ["liveobject/status"]);
}

#[tokio::test]
async fn a_frozen_broker_does_not_hold_up_the_change_to_another_one() {
    let mut old = Scene::start().await;
    let new = Mosquitto::start().await;
    let port = old.broker.port();
    let _ = old.service.post_event(&event("e1")).await.expect(202);
    wait_all(port, &["door"]).await;
    old.broker.freeze();
    connect(&old.service, new.port(), &json!({})).await;
    wait_all(new.port(), &["door"]).await;
    old.broker.thaw();
    let _ = old.service.delete("/api/v1/cameras/door").await;
    connect(&old.service, port, &json!({})).await;
    wait_all(port, &[]).await;
}

#[tokio::test]
async fn a_disabled_connection_leaves_what_stands() {
    let scene = Scene::start().await;
    let port = scene.broker.port();
    let _ = scene.service.post_event(&event("e1")).await.expect(202);
    let before = wait_all(port, &["door"]).await;
    let _ = scene.service.put_config(&settings(port, &json!({"enabled": false}))).await.expect(200);
    let off = |standing: &Standing| standing.text("liveobject/status") == "offline";
    let standing = Standing::wait(port, "offline", off).await;
    assert_eq!(standing.topics(), before.topics());
    let _ = scene.service.delete("/api/v1/cameras/door").await;
    connect(&scene.service, port, &json!({})).await;
    wait_all(port, &[]).await;
}
