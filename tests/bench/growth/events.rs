//! The events that the log is filled with: some 600 bytes each, as they are published.

use liveobject_actors::{DetectionEvent, EventInput};

/// The id of a camera.
pub fn camera_id(camera: usize) -> String {
    format!("camera_{camera}")
}

/// The event number so and so, of one of so many cameras.
pub fn event(number: usize, cameras: usize) -> DetectionEvent {
    let camera = number % cameras;
    let input = EventInput {
        camera_id: camera_id(camera),
        camera_name: Some(format!("Camera {camera}")),
        description: format!(
            "A person in a red jacket walks up to the door of house {number}, puts down a package and rings the bell"
        ),
        objects_detected: vec!["person".into(), "package".into()],
        confidence: 91,
        source_type: Some("rtsp".into()),
        smart_detection_type: Some("person".into()),
        provider_used: Some("vision-large".into()),
        analysis_mode: Some("multi_frame".into()),
        ..EventInput::default()
    };
    input.validate().expect("the event is valid")
}

/// So many events, from this number on.
pub fn events(from: usize, count: usize, cameras: usize) -> Vec<DetectionEvent> {
    (from..from + count).map(|number| event(number, cameras)).collect()
}
