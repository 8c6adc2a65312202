//! The detection events, whose payloads have 600 bytes, in the form that each path sends.

use liveobject_actors::EventInput;

/// Size of a published payload in bytes; checked by [`check_payload`].
pub const PAYLOAD_BYTES: usize = 600;

pub const CAMERAS: usize = 4;

/// Sources that submit events at the same time. Each waits until what it has submitted is accepted.
#[derive(Clone, Copy, Debug)]
pub struct Sources {
    pub number: usize,
    /// The number of events that a source submits at a time.
    pub at_once: usize,
}

/// Sources that submit batches.
pub const BATCHES: Sources = Sources { number: 4, at_once: 100 };

/// Sources that submit single events.
pub const SINGLES: Sources = Sources { number: 64, at_once: 1 };

/// Size of a description that gives a payload of [`PAYLOAD_BYTES`] together with the other fields.
const DESCRIPTION_BYTES: usize = 118;

fn camera(number: usize) -> String {
    format!("camera_{}", number % CAMERAS)
}

/// Returns a description that ends with the number, so that a subscriber can identify the event.
fn description(number: usize) -> String {
    let text =
        "A person in a dark jacket walks up the path to the front door and puts a package down on the step";
    let width = DESCRIPTION_BYTES - text.len();
    format!("{text}{number:>width$}")
}

/// Returns the number at the end of a description in a payload.
pub fn number_in(payload: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(payload).ok()?;
    let start = text.find(" the step")? + " the step".len();
    text[start..].split('"').next()?.trim().parse().ok()
}

/// Returns the event as a classifier sends it.
pub fn input(number: usize) -> EventInput {
    EventInput {
        camera_id: camera(number),
        description: description(number),
        objects_detected: vec!["person".into(), "package".into()],
        confidence: Some(91),
        source_type: Some("rtsp".into()),
        smart_detection_type: Some("person".into()),
        ..EventInput::default()
    }
}

/// Returns the event as a client of the REST API sends it.
pub fn json(number: usize) -> String {
    format!(
        concat!(
            r#"{{"camera_id":"{}","description":"{}","objects_detected":["person","package"],"#,
            r#""confidence":91,"source_type":"rtsp","smart_detection_type":"person"}}"#
        ),
        camera(number),
        description(number)
    )
}

/// Returns a JSON array of `count` events.
pub fn batch(first: usize, count: usize) -> String {
    let events: Vec<_> = (first..first + count).map(json).collect();
    format!("[{}]", events.join(","))
}

/// Returns the bare publisher's topic, which is as long as the service's topic.
pub fn topic(number: usize) -> String {
    format!("bareclient/camera/{}/event", camera(number))
}

/// Returns the payload of the bare publisher, which is as long as the service's payload.
pub fn bare_payload(number: usize) -> Vec<u8> {
    let mut payload = format!(r#"{{"description":"{}""#, description(number)).into_bytes();
    payload.resize(PAYLOAD_BYTES - 1, b' ');
    payload.push(b'}');
    payload
}

/// Asserts that the service's payload is as large as the bare publisher's, within 2 %.
pub fn check_payload(payload: &[u8]) {
    let difference = payload.len().abs_diff(PAYLOAD_BYTES);
    assert!(
        difference <= PAYLOAD_BYTES / 50,
        "the service's payload has {} bytes, the bare one {PAYLOAD_BYTES}: {}",
        payload.len(),
        String::from_utf8_lossy(payload)
    );
}
