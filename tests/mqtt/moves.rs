//! States and discovery move to other topics or to another broker.

use std::collections::BTreeSet;

use liveobject_test_support::{Mosquitto, visitor};
use serde_json::{Map, Value, json};

use crate::helpers::{
    Retained, SERVICE_DEVICE, STATES, Scene, connect, connected_service, disable, event, event_of,
    expected_topics, settings, wait_for_cameras,
};

/// Messages from other clients in the service's topic trees.
const FOREIGN: [&str; 5] = [
    "homeassistant/sensor/other/config",
    "homeassistant/device/other/config",
    "liveobject/other",
    "liveobject/camera/other/status",
    "house/other",
];

const DOOR_DEVICE: &str = "homeassistant/device/liveobject_door/config";

async fn with_foreign_messages(port: u16) {
    for topic in FOREIGN {
        visitor::publish(port, topic, "foreign", true).await;
    }
}

/// Returns the service's topics, after checking that the foreign messages are all retained.
fn our_topics(snapshot: &Retained) -> Vec<String> {
    for topic in FOREIGN {
        assert_eq!(snapshot.text(topic), "foreign", "{topic}");
    }
    snapshot.topics().into_iter().filter(|topic| !FOREIGN.contains(topic)).map(str::to_owned).collect()
}

/// Returns the retained topics of the camera `door` under another topic prefix and another discovery prefix.
fn with_prefixes(topic_prefix: &str, discovery_prefix: &str) -> Vec<String> {
    let encoded = topic_prefix.replace('/', "_2f");
    let device = |default: &str, other: &str| {
        let id = if topic_prefix == "liveobject" { default } else { other };
        format!("homeassistant/device/{id}/config")
    };
    let rename = |topic: String| {
        let topic = match topic.as_str() {
            // Each prefix has its own devices.
            SERVICE_DEVICE => device("liveobject-service", &format!("liveobject-service-{encoded}")),
            DOOR_DEVICE => device("liveobject_door", &format!("liveobject-{encoded}__door")),
            topic => topic.replacen("liveobject/", &format!("{topic_prefix}/"), 1),
        };
        topic.replacen("homeassistant/", &format!("{discovery_prefix}/"), 1)
    };
    let mut topics: Vec<_> = expected_topics(&["door"]).into_iter().map(rename).collect();
    topics.sort();
    topics
}

#[tokio::test]
async fn changing_the_prefixes_moves_all_messages_of_the_service_and_no_others() {
    let scene = Scene::start().await;
    let port = scene.broker.port();
    with_foreign_messages(port).await;
    let _ = scene.service.post_event(&event("e1")).await.expect(202);
    let before =
        Retained::wait_for(port, "all", |snapshot| our_topics(snapshot) == expected_topics(&["door"])).await;
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
        let snapshot = Retained::wait_for(port, &what, |snapshot| our_topics(snapshot) == expected).await;
        let name =
            |snapshot: &Retained, prefix: &str| snapshot.json(&format!("{prefix}/camera/door/last_event"));
        assert_eq!(name(&snapshot, topics), name(&before, "liveobject"));
    }
}

#[tokio::test]
async fn a_prefix_change_while_the_broker_is_down_leaves_nothing_behind() {
    let mut scene = Scene::start().await;
    let port = scene.broker.port();
    let _ = scene.service.post_event(&event("e1")).await.expect(202);
    wait_for_cameras(port, &["door"]).await;
    scene.broker.stop().await;
    let other = settings(port, &json!({"topic_prefix": "house"}));
    let _ = scene.service.put_config(&other).await.expect(200);
    scene.service.restart().await;
    scene.broker.resume().await;
    let expected = with_prefixes("house", "homeassistant");
    Retained::wait_for(port, "all below house", |snapshot| snapshot.topics() == expected).await;
}

#[tokio::test]
async fn switching_to_another_broker_clears_the_old_one() {
    let old = Scene::start().await;
    let new = Mosquitto::start().await;
    with_foreign_messages(old.broker.port()).await;
    let _ = old.service.post_event(&event("e1")).await.expect(202);
    let all = expected_topics(&["door"]);
    let before = Retained::wait_for(old.broker.port(), "all", |snapshot| our_topics(snapshot) == all).await;
    let mut before_here = before.topics();
    before_here.retain(|topic| !FOREIGN.contains(topic));
    connect(&old.service, new.port(), &json!({})).await;
    let after = Retained::read(old.broker.port()).await;
    assert_eq!(our_topics(&after), ["liveobject/status"]);
    assert_eq!(after.text("liveobject/status"), "offline");
    let snapshot = wait_for_cameras(new.port(), &["door"]).await;
    for topic in before_here {
        assert_eq!(snapshot.text(topic), before.text(topic), "{topic}");
    }
}

#[tokio::test]
async fn switching_to_another_broker_clears_retained_events_of_the_old_one() {
    let old = Scene::with(&json!({"retain_messages": true})).await;
    let new = Mosquitto::start().await;
    let _ = old.service.post_event(&event("e1")).await.expect(202);
    let matches = |snapshot: &Retained| snapshot.camera_topics("door").len() == STATES.len() + 2;
    Retained::wait_for(old.broker.port(), "all of the camera", matches).await;
    connect(&old.service, new.port(), &json!({"retain_messages": true})).await;
    assert_eq!(Retained::read(old.broker.port()).await.topics(), ["liveobject/status"]);
}

#[tokio::test]
async fn a_broker_that_could_not_be_cleared_is_cleared_when_it_is_used_again() {
    let mut old = Scene::start().await;
    let new = Mosquitto::start().await;
    let port = old.broker.port();
    let yard = event_of("yard", "yard-1");
    for event in [event("e1"), yard] {
        let _ = old.service.post_event(&event).await.expect(202);
    }
    let before = wait_for_cameras(port, &["door", "yard"]).await;
    old.broker.stop().await;
    connect(&old.service, new.port(), &json!({})).await;
    wait_for_cameras(new.port(), &["door", "yard"]).await;
    old.broker.resume().await;
    assert_eq!(
        Retained::read(port).await.topics(),
        before.topics(),
        "it cannot be cleared through another broker"
    );
    let _ = old.service.delete("/api/v1/cameras/yard").await;
    old.service.restart().await;
    connect(&old.service, port, &json!({"topic_prefix": "house"})).await;
    let expected = with_prefixes("house", "homeassistant");
    Retained::wait_for(port, "all below house", |snapshot| snapshot.topics() == expected).await;
    assert_eq!(Retained::read(new.port()).await.topics(), ["liveobject/status"]);
}

#[tokio::test]
async fn a_frozen_broker_does_not_delay_the_switch_to_another_one() {
    let mut old = Scene::start().await;
    let new = Mosquitto::start().await;
    let port = old.broker.port();
    let _ = old.service.post_event(&event("e1")).await.expect(202);
    wait_for_cameras(port, &["door"]).await;
    old.broker.freeze();
    connect(&old.service, new.port(), &json!({})).await;
    wait_for_cameras(new.port(), &["door"]).await;
    old.broker.thaw();
    let _ = old.service.delete("/api/v1/cameras/door").await;
    connect(&old.service, port, &json!({})).await;
    wait_for_cameras(port, &[]).await;
}

#[tokio::test]
async fn disabling_the_connection_keeps_the_retained_messages() {
    let scene = Scene::start().await;
    let port = scene.broker.port();
    let _ = scene.service.post_event(&event("e1")).await.expect(202);
    let before = wait_for_cameras(port, &["door"]).await;
    disable(&scene.service, port, &json!({})).await;
    let off = |snapshot: &Retained| snapshot.text("liveobject/status") == "offline";
    let snapshot = Retained::wait_for(port, "offline", off).await;
    assert_eq!(snapshot.topics(), before.topics());
    let _ = scene.service.delete("/api/v1/cameras/door").await;
    connect(&scene.service, port, &json!({})).await;
    wait_for_cameras(port, &[]).await;
}

#[tokio::test]
async fn services_with_different_prefixes_have_different_devices_for_the_same_camera() {
    let first = Scene::start().await;
    let port = first.broker.port();
    let house = json!({"topic_prefix": "house"});
    let second = connected_service(port, &house).await;
    for service in [&first.service, &second] {
        let _ = service.post_event(&event("e1")).await.expect(202);
    }
    let house_device = "homeassistant/device/liveobject-house__door/config";
    let both =
        |snapshot: &Retained| [DOOR_DEVICE, house_device].iter().all(|topic| snapshot.get(topic).is_some());
    let snapshot = Retained::wait_for(port, "two devices", both).await;
    let identifiers = |topic| snapshot.json(topic)["device"]["identifiers"].clone();
    assert_ne!(identifiers(DOOR_DEVICE), identifiers(house_device));
    let ids = |topic| {
        let components = snapshot.json(topic)["components"].clone();
        components.as_object().expect("components").keys().cloned().collect::<BTreeSet<_>>()
    };
    assert!(ids(DOOR_DEVICE).is_disjoint(&ids(house_device)), "{snapshot:?}");

    let _ = second.delete("/api/v1/cameras/door").await;
    Retained::wait_for(port, "one device", |snapshot| snapshot.get(house_device).is_none()).await;
    assert!(Retained::read(port).await.get(DOOR_DEVICE).is_some());
}

#[tokio::test]
async fn cameras_x_and_x_last_have_different_entities_in_each_format() {
    for format in ["device", "component"] {
        let scene = Scene::with(&json!({"discovery_format": format})).await;
        for id in ["x_last", "x"] {
            let _ = scene.service.post_event(&event_of(id, id)).await.expect(202);
        }
        let mut ids = BTreeSet::new();
        let all = |snapshot: &Retained| {
            ids.clear();
            let mut entities = 0;
            for topic in snapshot.below("homeassistant") {
                let message = snapshot.json(topic);
                let unique_id = |entity: &Value| entity["unique_id"].as_str().map(str::to_owned);
                let of_device = message["components"].as_object().into_iter().flat_map(Map::values);
                let found: Vec<_> = of_device.chain([&message]).filter_map(unique_id).collect();
                entities += found.len();
                ids.extend(found);
            }
            // Eight of each camera and four of the service.
            entities == 20
        };
        Retained::wait_for(scene.broker.port(), "all entities", all).await;
        assert_eq!(ids.len(), 20, "{format}: some ids are used twice: {ids:#?}");
    }
}
