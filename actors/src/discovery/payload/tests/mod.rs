//! Compares every discovery message with the files under `golden`, and checks the rules of Home Assistant.
//!
//! After an intentional change, update the files with `GOLDEN=write cargo nextest run golden`.

mod schema;

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use super::*;
use crate::domain::{
    camera::{Camera, ImageType, Thumbnail},
    clock::{self, LogTime, Moment},
    ids::{CameraId, Seq},
    settings::{DiscoveryFormat, MqttSettings, QoS},
    topic::TopicPrefix,
};

fn about() -> About {
    About { version: "1.2.3", public_url: "https://cameras.example.org/live".to_owned() }
}

fn camera(id: &str) -> Camera {
    Camera::new(CameraId::parse(id).unwrap(), Moment::at(clock::from_micros(1_780_000_000_000_000)))
}

/// Returns a doorbell with all optional properties.
fn doorbell() -> Camera {
    Camera {
        camera_name: "Front Door".to_owned(),
        source_type: "protect".to_owned(),
        is_doorbell: true,
        event_types: vec!["crow".to_owned(), "delivery truck".to_owned()],
        thumbnail: Some(Thumbnail {
            seq: Seq(7),
            happened: LogTime(1_780_000_000_000_000),
            format: ImageType::Png,
        }),
        ..camera("front_door")
    }
}

/// Returns a camera whose name and event types contain template and JSON syntax.
fn hostile() -> Camera {
    Camera {
        camera_name: "\"{{ states }}\" 🦊 {% raw %}".to_owned(),
        event_types: ["it's", "'] }}", r"\", "🦊", "other", "Person"].map(str::to_owned).into(),
        ..camera("Side--Gate_")
    }
}

fn default_settings() -> MqttSettings {
    MqttSettings::defaults("liveobject-00000000")
}

fn component_settings() -> MqttSettings {
    MqttSettings { discovery_format: DiscoveryFormat::Component, ..default_settings() }
}

fn other_settings() -> MqttSettings {
    MqttSettings {
        topic_prefix: TopicPrefix::parse("home/cameras").unwrap(),
        discovery_prefix: TopicPrefix::parse("ha/discovery").unwrap(),
        availability_topic: "house/liveobject".to_owned(),
        birth_message: "here".to_owned(),
        will_message: "gone".to_owned(),
        qos: QoS::ExactlyOnce,
        ..default_settings()
    }
}

/// Compares the topic and the indented payload of each message with a file.
fn golden(name: &str, device: &Device, settings: &MqttSettings) {
    let mut text = String::new();
    for device::Announcement { topic, payload } in device.announcements(settings) {
        let value: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        writeln!(text, "{topic}\n{value:#}\n").unwrap();
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/discovery/payload/golden").join(name);
    if std::env::var_os("GOLDEN").is_some_and(|word| word == "write") {
        std::fs::write(&file, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap();
    assert!(text == expected, "{} differs; it is now:\n{text}", file.display());
}

#[test]
fn golden_a_camera() {
    golden("camera.txt", &camera_device(&camera("yard"), &default_settings(), &about()), &default_settings());
}

#[test]
fn golden_a_doorbell() {
    golden("doorbell.txt", &camera_device(&doorbell(), &default_settings(), &about()), &default_settings());
}

#[test]
fn golden_a_doorbell_in_component_format() {
    let settings = component_settings();
    golden("doorbell_components.txt", &camera_device(&doorbell(), &settings, &about()), &settings);
}

#[test]
fn golden_a_hostile_camera() {
    golden("hostile.txt", &camera_device(&hostile(), &default_settings(), &about()), &default_settings());
}

#[test]
fn golden_a_camera_with_other_settings() {
    let settings = other_settings();
    golden("camera_other_settings.txt", &camera_device(&camera("yard"), &settings, &about()), &settings);
}

#[test]
fn golden_the_service() {
    golden("service.txt", &service_device(&default_settings(), &about()), &default_settings());
}

#[test]
fn golden_the_service_in_component_format() {
    golden("service_components.txt", &service_device(&component_settings(), &about()), &component_settings());
}

#[test]
fn golden_the_service_with_other_settings() {
    golden("service_other_settings.txt", &service_device(&other_settings(), &about()), &other_settings());
}

#[test]
fn home_assistant_accepts_every_message() {
    let mut full = camera("most");
    full.record_objects(&(0..40).map(|n| format!("{n}{}", "'".repeat(60))).collect::<Vec<_>>());
    for settings in [default_settings(), component_settings(), other_settings()] {
        schema::check(&service_device(&settings, &about()), &settings);
        for camera in [camera("yard"), doorbell(), hostile(), full.clone()] {
            schema::check(&camera_device(&camera, &settings, &about()), &settings);
        }
    }
}

#[test]
fn each_topic_prefix_has_its_own_service_device() {
    let id = |prefix: &str| {
        let topic_prefix = TopicPrefix::parse(prefix).unwrap();
        service_device_id(&MqttSettings { topic_prefix, ..default_settings() })
    };
    assert_eq!(id("liveobject"), "liveobject-service");
    assert_eq!(id("home/cameras"), "liveobject-service-home_2fcameras");
    assert_ne!(id("home_2fcameras"), id("home/cameras"));
}

#[test]
fn an_address_that_other_machines_cannot_reach_is_omitted() {
    for (url, is_announced) in [
        ("https://cameras.example.org/live", true),
        ("http://192.168.1.2:8080", true),
        ("http://127.0.0.1:8080", false),
        ("http://localhost:8080", false),
        ("http://[::1]:8080", false),
        ("http://0.0.0.0:8080", false),
        ("http://", false),
        ("cameras.example.org", false),
    ] {
        let about = About { version: "1.2.3", public_url: url.to_owned() };
        assert_eq!(about.configuration_url().is_some(), is_announced, "{url}");
    }
}

#[test]
fn the_discovery_topics_of_argusai_are_known() {
    let settings = component_settings();
    let legacy = legacy_topics(&settings, &CameraId::parse("front_door").unwrap());
    let topics: Vec<_> = legacy.iter().map(|legacy| (legacy.topic.as_str(), legacy.migrates)).collect();
    let expected = [
        ("homeassistant/sensor/liveobject_front_door_event/config", true),
        ("homeassistant/sensor/liveobject_front_door_status/config", false),
        ("homeassistant/sensor/liveobject_front_door_last_event/config", true),
        ("homeassistant/sensor/liveobject_front_door_events_today/config", true),
        ("homeassistant/sensor/liveobject_front_door_events_week/config", true),
        ("homeassistant/binary_sensor/liveobject_front_door_activity/config", true),
    ];
    assert_eq!(topics, expected);
    let ours = camera_device(&doorbell(), &settings, &about()).announcements(&settings);
    for legacy in legacy {
        assert_eq!(legacy.migrates, ours.iter().any(|ours| ours.topic == legacy.topic), "{legacy:?}");
    }
}

#[test]
fn no_two_cameras_share_an_id_whatever_their_topic_prefixes() {
    let cameras =
        ["x", "x_last", "x_last_last", "last", "_last", "_", "x_events", "x_", "x__y", "y", "service"];
    let prefixes =
        ["liveobject", "home", "home/x", "home__x", "home_", "service", "service-x", "a/b__c", "a/b"];
    let mut owners = BTreeMap::new();
    for prefix in prefixes {
        let settings =
            MqttSettings { topic_prefix: TopicPrefix::parse(prefix).unwrap(), ..component_settings() };
        let service = [("the service".to_owned(), service_device(&settings, &about()))];
        let devices = cameras.map(|id| (id.to_owned(), camera_device(&camera(id), &settings, &about())));
        for (name, device) in service.into_iter().chain(devices) {
            let unique_ids = device.components.iter().map(|component| component.unique_id.clone());
            let topics = device.announcements(&settings).into_iter().map(|message| message.topic);
            for id in unique_ids.chain(topics).chain([format!("device {}", device.id)]) {
                let owner = (prefix, name.clone());
                let other = owners.insert(id.clone(), owner.clone());
                assert_eq!(other, None, "{id} is also used by {owner:?}");
            }
        }
    }
}

#[test]
fn only_the_description_of_a_camera_that_ends_with_last_has_another_id() {
    let ids = |id: &str| {
        let device = camera_device(&camera(id), &default_settings(), &about());
        let absent = device.absent.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
        (device.components.iter().map(|c| c.unique_id.clone()).collect::<Vec<_>>(), absent)
    };
    let (ordinary, absent) = ids("x");
    assert_eq!(ordinary[1..4], ["liveobject_x_event", "liveobject_x_status", "liveobject_x_last_event"]);
    assert_eq!(absent, ["liveobject_x_doorbell"]);
    let (last, absent) = ids("x_last");
    assert_eq!(last[1], "liveobject_x_last_description");
    assert_eq!(
        absent,
        ["liveobject_x_last_doorbell", "liveobject_x_last_event"],
        "the old entity is removed"
    );
    let legacy = legacy_topics(&default_settings(), &CameraId::parse("x_last").unwrap());
    assert!(!legacy.iter().any(|legacy| legacy.topic.ends_with("/liveobject_x_last_event/config")));
}
