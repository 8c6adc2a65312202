//! The events that fill the log. Each payload is about 600 bytes long.

use liveobject_actors::{DetectionEvent, EventInput};

/// Returns a camera's id.
pub fn camera_id(camera: usize) -> String {
    format!("camera_{camera}")
}

/// Returns the event with this number. The events are spread over `cameras` cameras.
pub fn event(number: usize, cameras: usize) -> DetectionEvent {
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
        ..EventInput::default()
    };
    input.validate().expect("the event is valid")
}

/// Returns `count` events, starting with this number.
pub fn events(from: usize, count: usize, cameras: usize) -> Vec<DetectionEvent> {
    (from..from + count).map(|number| event(number, cameras)).collect()
}
