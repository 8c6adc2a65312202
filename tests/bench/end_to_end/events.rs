//! What is sent: detection events whose payload has 600 bytes, as one way or another sends them.

use liveobject_actors::EventInput;

/// The size of a published payload, in bytes; checked by [`check_payload`].
pub const PAYLOAD_BYTES: usize = 600;

/// How many cameras see them.
pub const CAMERAS: usize = 4;

/// Between an event's description and its payload's size stand the other fields.
const DESCRIPTION_BYTES: usize = 118;

fn camera(number: usize) -> String {
    format!("camera_{}", number % CAMERAS)
}

/// Ends with the number, so that a subscriber can tell which one it is.
fn description(number: usize) -> String {
    let text =
        "A person in a dark jacket walks up the path to the front door and puts a package down on the step";
    let width = DESCRIPTION_BYTES - text.len();
    format!("{text}{number:>width$}")
}

/// The number at the end of a description, or of a bare payload.
pub fn number_in(payload: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(payload).ok()?;
    let start = text.find(" the step")? + " the step".len();
    text[start..].split('"').next()?.trim().parse().ok()
}

/// As a classifier says it.
pub fn input(number: usize) -> EventInput {
    EventInput {
        camera_id: camera(number),
        description: description(number),
        objects_detected: vec!["person".into(), "package".into()],
        confidence: 91,
        source_type: Some("rtsp".into()),
        smart_detection_type: Some("person".into()),
        ..EventInput::default()
    }
}

/// As a client of the REST API says it.
pub fn json(number: usize) -> String {
    format!(
        r#"{{"camera_id":"{}","description":"{}","objects_detected":["person","package"],"confidence":91,"source_type":"rtsp","smart_detection_type":"person"}}"#,
        camera(number),
        description(number)
    )
}

/// A JSON array of so many.
pub fn batch(first: usize, count: usize) -> String {
    let events: Vec<_> = (first..first + count).map(json).collect();
    format!("[{}]", events.join(","))
}

/// Where a bare publisher sends it; as long as the service's topic.
pub fn topic(number: usize) -> String {
    format!("bareclient/camera/{}/event", camera(number))
}

/// What a bare publisher sends: as long as the service's payload.
pub fn bare_payload(number: usize) -> Vec<u8> {
    let mut payload = format!(r#"{{"description":"{}""#, description(number)).into_bytes();
    payload.resize(PAYLOAD_BYTES - 1, b' ');
    payload.push(b'}');
    payload
}

/// Says so when the service's payloads are not as large as the bare publisher's.
pub fn check_payload(payload: &[u8]) {
    let difference = payload.len().abs_diff(PAYLOAD_BYTES);
    assert!(
        difference <= PAYLOAD_BYTES / 50,
        "the service's payload has {} bytes, the bare one {PAYLOAD_BYTES}: {}",
        payload.len(),
        String::from_utf8_lossy(payload)
    );
}
