//! The payloads of a camera's state topics.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::tally::Counts;
use crate::domain::{
    camera::Camera,
    clock::{self, Timestamp},
    retained::{Content, Group, Kind, Wanted},
    settings::MqttSettings,
};

#[derive(Serialize)]
struct Status<'a> {
    camera_id: &'a str,
    camera_name: &'a str,
    status: &'a str,
    source_type: &'a str,
    last_updated: String,
}

#[derive(Serialize)]
struct LastEvent<'a> {
    camera_id: &'a str,
    camera_name: &'a str,
    event_id: &'a str,
    timestamp: String,
    description_snippet: String,
    smart_detection_type: Option<&'a str>,
}

#[derive(Serialize)]
struct CountsPayload<'a> {
    camera_id: &'a str,
    camera_name: &'a str,
    events_today: u64,
    events_this_week: u64,
    last_updated: String,
}

#[derive(Serialize)]
struct Activity<'a> {
    camera_id: &'a str,
    state: &'static str,
    last_event_at: Option<String>,
}

/// Returns all retained messages of a camera's state. A disabled camera has none, except possibly its latest
/// event.
///
/// `picture` is the version of the camera's picture. It changes when an event's picture is replaced.
pub fn group(camera: &Camera, counts: Counts, active: bool, picture: u64, settings: &MqttSettings) -> Group {
    let mut wanted =
        if camera.enabled { wanted(camera, counts, active, picture, settings) } else { Vec::new() };
    if settings.retain_messages {
        // The outbox publishes the event, even of a disabled camera. It is listed here so that it is cleared
        // with the camera.
        let content = Content::External { kept_on_leave: false };
        wanted.push(Wanted { topic: settings.topic_prefix.event(&camera.camera_id), content });
    }
    Group { kind: Kind::State, name: Arc::from(camera.camera_id.as_str()), wanted, previous: Vec::new() }
}

fn wanted(
    camera: &Camera,
    counts: Counts,
    active: bool,
    picture: u64,
    settings: &MqttSettings,
) -> Vec<Wanted> {
    let (prefix, id) = (&settings.topic_prefix, &camera.camera_id);
    let mut wanted = vec![
        Wanted { topic: prefix.camera_status(id), content: json(&status(camera)) },
        Wanted { topic: prefix.activity(id), content: json(&activity(camera, active)) },
        Wanted { topic: prefix.counts(id), content: json(&counts_payload(camera, counts)) },
    ];
    if let Some(last) = &camera.last_event {
        let last_event = LastEvent {
            camera_id: id.as_str(),
            camera_name: &camera.camera_name,
            event_id: last.event_id.as_str(),
            timestamp: clock::rfc3339(last.timestamp),
            description_snippet: last.snippet(),
            smart_detection_type: last.smart_detection_type.as_deref(),
        };
        wanted.push(Wanted { topic: prefix.last_event(id), content: json(&last_event) });
        let description = Content::Bytes(Bytes::from(last.description.clone()));
        wanted.push(Wanted { topic: prefix.description(id), content: description });
    }
    if let Some(thumbnail) = camera.thumbnail {
        let content = Content::Thumbnail { seq: thumbnail.seq, version: picture };
        wanted.push(Wanted { topic: prefix.thumbnail(id), content });
    }
    wanted
}

fn status(camera: &Camera) -> Status<'_> {
    Status {
        camera_id: camera.camera_id.as_str(),
        camera_name: &camera.camera_name,
        status: camera.status.as_str(),
        source_type: &camera.source_type,
        last_updated: clock::rfc3339(camera.status_at),
    }
}

fn counts_payload(camera: &Camera, counts: Counts) -> CountsPayload<'_> {
    CountsPayload {
        camera_id: camera.camera_id.as_str(),
        camera_name: &camera.camera_name,
        events_today: counts.today,
        events_this_week: counts.this_week,
        last_updated: clock::rfc3339(counts.changed_at),
    }
}

fn activity(camera: &Camera, active: bool) -> Activity<'_> {
    let happened_at: Option<Timestamp> = camera.last_event.as_ref().map(|last| last.timestamp);
    Activity {
        camera_id: camera.camera_id.as_str(),
        state: if active { "ON" } else { "OFF" },
        last_event_at: happened_at.map(clock::rfc3339),
    }
}

fn json(payload: &impl Serialize) -> Content {
    let text = serde_json::to_vec(payload).expect("strings and numbers always serialize");
    // The payload is kept in memory until the next one, so drop the spare capacity.
    Content::Bytes(text.into_boxed_slice().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        clock::Moment,
        event::EventInput,
        ids::{CameraId, Seq},
    };

    fn camera() -> Camera {
        let mut camera = Camera::new(
            CameraId::parse("front_door").unwrap(),
            Moment::at(clock::from_micros(1_780_000_000_000_000)),
        );
        let input = EventInput {
            event_id: Some("e1".to_owned()),
            camera_id: "front_door".to_owned(),
            camera_name: Some("Front Door".to_owned()),
            source_type: Some("rtsp".to_owned()),
            description: format!("Person {}", "ü".repeat(300)),
            timestamp: Some(clock::from_micros(1_780_000_100_000_000)),
            ..EventInput::default()
        };
        let now = Moment::at(clock::from_micros(1_780_000_101_000_000));
        input.validate().unwrap().update_camera(&mut camera, Seq(7), now, 300);
        camera
    }

    fn payloads(camera: &Camera, settings: &MqttSettings) -> Vec<(String, String)> {
        let counts = Counts { today: 3, this_week: 9, changed_at: clock::from_micros(1_780_000_101_000_000) };
        let text = |content: Content| match content {
            Content::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            other => format!("{other:?}"),
        };
        let wanted = group(camera, counts, true, 0, settings).wanted;
        wanted.into_iter().map(|wanted| (wanted.topic, text(wanted.content))).collect()
    }

    #[test]
    fn a_camera_has_a_payload_for_each_state_topic() {
        let umlauts = |count| "ü".repeat(count);
        let expected = [
            (
                "liveobject/camera/front_door/status",
                concat!(
                    r#"{"camera_id":"front_door","camera_name":"Front Door","status":"online","#,
                    r#""source_type":"rtsp","last_updated":"2026-05-28T20:26:40Z"}"#
                )
                .to_owned(),
            ),
            (
                "liveobject/camera/front_door/activity",
                r#"{"camera_id":"front_door","state":"ON","last_event_at":"2026-05-28T20:28:20Z"}"#
                    .to_owned(),
            ),
            (
                "liveobject/camera/front_door/counts",
                concat!(
                    r#"{"camera_id":"front_door","camera_name":"Front Door","events_today":3,"#,
                    r#""events_this_week":9,"last_updated":"2026-05-28T20:28:21Z"}"#
                )
                .to_owned(),
            ),
            (
                "liveobject/camera/front_door/last_event",
                format!(
                    concat!(
                        r#"{{"camera_id":"front_door","camera_name":"Front Door","event_id":"e1","#,
                        r#""timestamp":"2026-05-28T20:28:20Z","description_snippet":"Person {}","#,
                        r#""smart_detection_type":null}}"#
                    ),
                    umlauts(93)
                ),
            ),
            ("liveobject/camera/front_door/description", format!("Person {}", umlauts(248))),
        ];
        let expected = expected.map(|(topic, payload)| (topic.to_owned(), payload));
        assert_eq!(payloads(&camera(), &MqttSettings::defaults("c")), expected);
    }

    #[test]
    fn a_camera_without_events_has_no_last_event() {
        let camera = Camera::new(CameraId::parse("c").unwrap(), Moment::at(clock::from_micros(0)));
        let topics: Vec<_> =
            payloads(&camera, &MqttSettings::defaults("c")).into_iter().map(|(topic, _)| topic).collect();
        assert_eq!(
            topics,
            ["liveobject/camera/c/status", "liveobject/camera/c/activity", "liveobject/camera/c/counts"]
        );
    }

    #[test]
    fn a_disabled_camera_has_no_state() {
        let camera = Camera { enabled: false, ..camera() };
        assert_eq!(payloads(&camera, &MqttSettings::defaults("c")), []);
        let settings = MqttSettings { retain_messages: true, ..MqttSettings::defaults("c") };
        let topics: Vec<_> = payloads(&camera, &settings).into_iter().map(|(topic, _)| topic).collect();
        assert_eq!(topics, ["liveobject/camera/front_door/event"]);
    }
}
