//! Events: the payloads that subscribers receive, and the inputs that are rejected.

use serde_json::json;

use super::*;

const URL: &str = "http://nvr.local:8080/api/v1/events/e/thumbnail?expires=1&signature=00";

fn payload(value: Value) -> String {
    let event = DetectionEvent::from_json(value).unwrap();
    let camera = Camera::new(event.camera_id().clone(), Moment::at(clock::now()));
    String::from_utf8(event.payload(&camera, Seq(42), URL)).unwrap()
}

fn fault(value: Value) -> String {
    DetectionEvent::from_json(value).unwrap_err().to_string()
}

fn minimal() -> Value {
    json!({"camera_id": "door", "description": "Somebody"})
}

fn with(field: &str, value: Value) -> Value {
    let mut event = minimal();
    event[field] = value;
    event
}

#[test]
fn golden_a_full_event() {
    let event = json!({
        "event_id": "evt-1",
        "camera_id": "front_door",
        "camera_name": "Front Door",
        "description": "Person at the door with a package",
        "objects_detected": ["person", "package"],
        "confidence": 91,
        "source_type": "protect",
        "smart_detection_type": "person",
        "timestamp": "2026-05-01T14:30:00.25+02:00",
        "is_doorbell_ring": true,
        "ai_confidence": 88,
        "provider_used": "openai",
        "analysis_mode": "multi_frame",
        "low_confidence": false,
        "correlation_group_id": "group-7",
        "delivery_carrier": "fedex",
        "delivery_carrier_display": "FedEx",
    });
    let golden = concat!(
        r#"{"event_id":"evt-1","camera_id":"front_door","camera_name":"Front Door","#,
        r#""description":"Person at the door with a package","objects_detected":["person","package"],"#,
        r#""confidence":91,"source_type":"protect","smart_detection_type":"person","#,
        r#""timestamp":"2026-05-01T12:30:00.250Z","#,
        r#""thumbnail_url":"http://nvr.local:8080/api/v1/events/e/thumbnail?expires=1&signature=00","seq":42,"#,
        r#""ai_confidence":88,"is_doorbell_ring":true,"provider_used":"openai","#,
        r#""analysis_mode":"multi_frame","low_confidence":false,"correlation_group_id":"group-7","#,
        r#""delivery_carrier":"fedex","delivery_carrier_display":"FedEx"}"#,
    );
    assert_eq!(payload(event), golden);
}

#[test]
fn golden_a_minimal_event() {
    let event = json!({
        "event_id": "evt-2", "camera_id": "door", "description": "Somebody", "timestamp": "2026-05-01T12:30:00Z",
    });
    let golden = concat!(
        r#"{"event_id":"evt-2","camera_id":"door","camera_name":"door","description":"Somebody","#,
        r#""objects_detected":[],"confidence":null,"source_type":"unknown","smart_detection_type":null,"#,
        r#""timestamp":"2026-05-01T12:30:00Z","#,
        r#""thumbnail_url":"http://nvr.local:8080/api/v1/events/e/thumbnail?expires=1&signature=00","seq":42}"#,
    );
    assert_eq!(payload(event), golden);
}

#[test]
fn a_name_given_by_a_person_replaces_the_name_in_the_event() {
    let event = DetectionEvent::from_json(with("camera_name", json!("Front Door"))).unwrap();
    let mut camera = Camera::new(event.camera_id().clone(), Moment::at(clock::now()));
    camera.give_name("Porch".to_owned());
    let name = |camera: &Camera| {
        let payload: Value = serde_json::from_slice(&event.payload(camera, Seq(42), URL)).unwrap();
        payload["camera_name"].clone()
    };
    assert_eq!(name(&camera), "Porch");
    camera.use_own_name();
    assert_eq!(name(&camera), "Front Door");
}

#[test]
fn golden_a_hostile_event() {
    let filler = "x".repeat(4096 - 23);
    let event = json!({
        "event_id": "evt:3.a",
        "camera_id": "door",
        "camera_name": "\"Tür\" \u{1F6AA}",
        "description": format!("\"\\/\t\t[31m\n\u{2028}\u{1F4E6}<b>{filler}"),
        "objects_detected": ["a\"b", "\u{202e}evil"],
        "timestamp": "1970-01-01T00:00:00Z",
    });
    let golden = format!(
        concat!(
            r#"{{"event_id":"evt:3.a","camera_id":"door","camera_name":"\"Tür\" 🚪","#,
            r#""description":"\"\\/\t\t[31m\n{}📦<b>{}","objects_detected":["a\"b","{}evil"],"#,
            r#""confidence":null,"source_type":"unknown","smart_detection_type":null,"#,
            r#""timestamp":"1970-01-01T00:00:00Z","#,
            r#""thumbnail_url":"http://nvr.local:8080/api/v1/events/e/thumbnail?expires=1&signature=00","seq":42}}"#,
        ),
        '\u{2028}', filler, '\u{202e}'
    );
    assert_eq!(payload(event), golden);
}

#[test]
fn a_late_payload_is_the_stored_one_with_late_set() {
    let stored = payload(with("event_id", json!("e"))).into_bytes();
    let late: Value = serde_json::from_slice(&marked_late(stored.clone())).unwrap();
    let mut expected: Value = serde_json::from_slice(&stored).unwrap();
    expected["late"] = json!(true);
    assert_eq!(late, expected);
}

#[test]
fn every_listed_field_is_read() {
    for field in EventInput::FIELDS {
        // No field accepts an object, so every field that is read reports a fault.
        assert!(fault(with(field, json!({}))).starts_with(&format!("{field}: expected")), "{field}");
    }
    assert_eq!(fault(with("colour", json!("red"))), "colour: unknown field");
}

#[test]
fn each_limit_has_a_clear_error() {
    let long = |n| "x".repeat(n);
    for (field, value, message) in [
        ("camera_id", json!("a b"), "camera_id: may contain only A-Z a-z 0-9 _ -, found ' '"),
        ("camera_id", json!(long(129)), "camera_id: 129 bytes, must be 1 to 128"),
        ("camera_name", json!(""), "camera_name: must not be empty"),
        ("camera_name", json!("a\nb"), "camera_name: must not contain control characters"),
        ("camera_name", json!("é".repeat(101)), "camera_name: 101 characters, must be 1 to 100"),
        ("description", json!(""), "description: must not be empty"),
        ("description", json!(long(4097)), "description: 4097 bytes, must be 1 to 4096"),
        ("objects_detected", json!(vec!["a"; 65]), "objects_detected: 65 objects, must be at most 64"),
        (
            "objects_detected",
            json!(["a", long(65)]),
            "objects_detected: object 1 has 65 bytes, must be 1 to 64",
        ),
        ("confidence", json!(101), "confidence: 101 is not a whole number from 0 to 100"),
        ("confidence", json!(0.9), "confidence: 0.9 is not a whole number from 0 to 100"),
        ("confidence", json!(-1), "confidence: -1 is not a whole number from 0 to 100"),
        ("event_id", json!("a/b"), "event_id: may contain only A-Z a-z 0-9 _ - . :, found '/'"),
        ("timestamp", json!("1969-12-31T23:59:59Z"), "timestamp: must be in the years 1970 to 9999 (UTC)"),
        (
            "timestamp",
            json!("9999-12-31T23:59:59-01:00"),
            "timestamp: must be in the years 1970 to 9999 (UTC)",
        ),
        ("source_type", json!(long(65)), "source_type: 65 bytes, must be 1 to 64"),
        (
            "description",
            json!("a\u{1b}[2Jb"),
            "description: must not contain control characters other than line endings and tabs",
        ),
        (
            "objects_detected",
            json!(["person", "a\nb"]),
            "objects_detected: object 1 must not contain control characters",
        ),
    ] {
        assert_eq!(fault(with(field, value)), message);
    }
    assert!(
        fault(with("timestamp", json!("2026-05-01 12:00"))).starts_with("timestamp: not an RFC 3339 time")
    );
    assert_eq!(fault(json!({})), "camera_id: is required; description: is required");
    assert_eq!(fault(json!([])), "expected a JSON object, found an array");
}

#[test]
fn no_text_field_accepts_control_characters() {
    for field in EventInput::FIELDS {
        let refused =
            DetectionEvent::from_json(with(field, json!("a\u{0}b"))).map(drop).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("{field}: ")), "{refused}");
    }
}

#[test]
fn a_description_may_have_several_lines() {
    for text in ["Two people:\n\t- one\n\t- another\n", "Windows\r\nlines"] {
        assert!(payload(with("description", json!(text))).contains(&json!(text).to_string()), "{text:?}");
    }
}

#[test]
fn offsets_from_utc_are_accepted_in_every_common_notation() {
    for (text, utc) in [
        ("2026-05-01T12:00:00Z", "2026-05-01T12:00:00Z"),
        ("2026-05-01T12:00:00z", "2026-05-01T12:00:00Z"),
        ("2026-05-01 12:00:00Z", "2026-05-01T12:00:00Z"),
        ("2026-05-01T12:00:00+02:00", "2026-05-01T10:00:00Z"),
        ("2026-05-01T12:00:00+0200", "2026-05-01T10:00:00Z"),
        ("2026-05-01T12:00:00.250+0530", "2026-05-01T06:30:00.250Z"),
        ("2026-05-01T12:00:00-03", "2026-05-01T15:00:00Z"),
        ("2026-05-01T12:00:00-0330", "2026-05-01T15:30:00Z"),
    ] {
        let event = DetectionEvent::from_json(with("timestamp", json!(text))).unwrap();
        assert_eq!(clock::rfc3339(event.timestamp()), utc, "{text}");
    }
    for text in [
        "2026-05-01T12:00:00",
        "2026-05-01T12:00:00+",
        "2026-05-01T12:00:00+2",
        "2026-05-01T12:00:00+020",
        "2026-05-01T12:00:00+02000",
        "2026-05-01T12:00:00+02é",
        "2026-05-01T12:00:00+2460",
        "2026-05-01",
        "+0200",
    ] {
        assert!(
            fault(with("timestamp", json!(text))).starts_with("timestamp: not an RFC 3339 time"),
            "{text}"
        );
    }
}

#[test]
fn bounds_are_inclusive() {
    for (field, value) in [
        ("camera_id", json!("x".repeat(128))),
        ("camera_name", json!("é".repeat(100))),
        ("description", json!("x".repeat(4096))),
        ("objects_detected", json!(vec!["x".repeat(64); 64])),
        ("confidence", json!(100)),
        ("timestamp", json!("9999-12-31T23:59:59Z")),
    ] {
        assert!(DetectionEvent::from_json(with(field, value)).is_ok(), "{field}");
    }
}

#[test]
fn input_from_the_same_process_is_validated_too() {
    let input = EventInput { camera_id: "a b".into(), confidence: Some(101), ..EventInput::default() };
    let message = input.validate().unwrap_err().to_string();
    assert!(
        message.contains("camera_id: may contain only") && message.contains("description: must not be empty")
    );
    assert!(message.contains("confidence: 101, must be 0 to 100"));
}

/// Returns the status of a camera after an event that happened this many seconds ago, if its status was set to
/// offline this many seconds ago.
fn status_after(happened_seconds_ago: i64, set_seconds_ago: i64) -> CameraStatus {
    let now = Moment::at(clock::now());
    let ago = |seconds| now.wall - chrono::TimeDelta::seconds(seconds);
    let event =
        DetectionEvent::from_json(with("timestamp", clock::rfc3339(ago(happened_seconds_ago)).into()))
            .unwrap();
    let mut camera = Camera::new(event.camera_id().clone(), now);
    (camera.status, camera.status_at) = (CameraStatus::Offline, ago(set_seconds_ago));
    event.update_camera(&mut camera, Seq(1), now, 300);
    camera.status
}

#[test]
fn only_an_event_that_happens_now_and_after_the_status_was_set_proves_that_a_camera_works() {
    assert_eq!(status_after(0, 3600), CameraStatus::Online);
    assert_eq!(status_after(300, 3600), CameraStatus::Online);
    assert_eq!(status_after(301, 3600), CameraStatus::Offline, "it is late");
    assert_eq!(status_after(10, 5), CameraStatus::Offline, "the camera was set offline after it");
    assert_eq!(status_after(10, -3600), CameraStatus::Online, "the status was set under another clock");
    assert_eq!(status_after(-3600, 10), CameraStatus::Online, "the clock of the source is ahead");
}
