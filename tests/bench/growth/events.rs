//! The events that fill the log. Each payload is about 600 bytes long.

use std::sync::LazyLock;

use chrono::TimeDelta;
use liveobject_actors::{
    DetectionEvent, EventInput,
    domain::clock::{self, Timestamp},
};

/// Returns a camera's id.
pub fn camera_id(camera: usize) -> String {
    format!("camera_{camera}")
}

/// Returns the event with this number. The events are spread over `cameras` cameras.
pub fn event(number: usize, cameras: usize) -> DetectionEvent {
    event_at(number, cameras, None)
}

fn event_at(number: usize, cameras: usize, timestamp: Option<Timestamp>) -> DetectionEvent {
    let camera = number % cameras;
    let input = EventInput {
        camera_id: camera_id(camera),
        camera_name: Some(format!("Camera {camera}")),
        description: format!(
            "A person in a red jacket walks up to the door of house {number}, puts down a package \
             and rings the bell"
        ),
        objects_detected: vec!["person".into(), "package".into()],
        confidence: Some(91),
        source_type: Some("rtsp".into()),
        smart_detection_type: Some("person".into()),
        provider_used: Some("vision-large".into()),
        analysis_mode: Some("multi_frame".into()),
        timestamp,
        ..EventInput::default()
    };
    input.validate().expect("the event is valid")
}

/// How long after each other the events of the log have happened: ten million fill 29 days.
const BETWEEN_EVENTS: TimeDelta = TimeDelta::milliseconds(250);

/// Returns when the event with this number happened.
pub fn time_of(number: usize) -> Timestamp {
    static BEGIN: LazyLock<Timestamp> = LazyLock::new(|| clock::now() - TimeDelta::days(30));
    *BEGIN + BETWEEN_EVENTS * i32::try_from(number).unwrap_or(i32::MAX)
}

/// Like [`events`], for events that happened some time ago.
pub fn old_events(from: usize, count: usize, cameras: usize) -> Vec<DetectionEvent> {
    (from..from + count).map(|number| event_at(number, cameras, Some(time_of(number)))).collect()
}

/// Returns `count` events, starting with this number.
pub fn events(from: usize, count: usize, cameras: usize) -> Vec<DetectionEvent> {
    (from..from + count).map(|number| event(number, cameras)).collect()
}
