//! Detection events: the unchecked input, the checked event, and the payload that subscribers receive.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::domain::{
    camera::{Camera, CameraStatus, LastEvent},
    clock::{self, Moment, Timestamp},
    delivery::{EventTimes, is_late_after},
    fields::{Faults, Fields, Invalid, bytes_within, no_control, no_control_except_lines},
    ids::{CameraId, EventId, Seq},
    numbers::saturate,
};

const MAX_DESCRIPTION_BYTES: usize = 4096;
const MAX_OBJECTS: usize = 64;
const MAX_LABEL_BYTES: usize = 64;
const MAX_CAMERA_NAME_CHARS: usize = 100;
const MAX_CORRELATION_BYTES: usize = 128;

/// The typical size of a payload without its description.
const PAYLOAD_BYTES: usize = 640;

/// An event as a source submits it, unchecked. [`EventInput::validate`] turns it into a [`DetectionEvent`].
///
/// ```
/// use liveobject_actors::EventInput;
/// let event = EventInput {
///     camera_id: "front_door".into(),
///     description: "Person at the door with a package".into(),
///     objects_detected: vec!["person".into(), "package".into()],
///     confidence: Some(91),
///     ..EventInput::default()
/// }
/// .validate()?;
/// # Ok::<(), liveobject_actors::Invalid>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(description = "An event as a source submits it.")
)]
pub struct EventInput {
    /// The source's own id for the event, 1–128 characters of `A-Z a-z 0-9 _ - . :`. An id is generated if it
    /// is absent. An event that is sent again with the same id is not stored twice.
    #[cfg_attr(
        feature = "openapi",
        schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_.:-]+$")
    )]
    pub event_id: Option<String>,
    /// 1–128 characters of `A-Z a-z 0-9 _ -`.
    #[cfg_attr(
        feature = "openapi",
        schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$", example = "front_door")
    )]
    pub camera_id: String,
    /// 1–100 characters, no control characters. If absent, the camera's known name, which is its id at first.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 100))]
    pub camera_name: Option<String>,
    /// What was seen, as a sentence: 1–4,096 bytes, no control characters other than line endings and tabs.
    #[cfg_attr(
        feature = "openapi",
        schema(min_length = 1, max_length = 4096, example = "Person at the door with a package")
    )]
    pub description: String,
    /// Up to 64 names of 1–64 bytes each. Like all other texts, they contain no control characters.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<Label>>, max_items = 64))]
    pub objects_detected: Vec<String>,
    /// How certain the detection is, 0–100. Absent if the source does not know.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 100))]
    pub confidence: Option<u8>,
    /// The kind of source (`rtsp`, `usb`, `protect` …), up to 64 bytes. If absent, the camera's known source
    /// type, which is `unknown` at first.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 64, default = "unknown"))]
    pub source_type: Option<String>,
    /// The camera's own classification, up to 64 bytes.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 64))]
    pub smart_detection_type: Option<String>,
    /// When it happened (RFC 3339; `+0200` and `+02` are accepted as offsets too). If absent, the time at
    /// which the event is checked.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub timestamp: Option<Timestamp>,
    /// Whether somebody rang the doorbell.
    pub is_doorbell_ring: Option<bool>,
    /// The confidence of the model that wrote the description, 0–100.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 100))]
    pub ai_confidence: Option<u8>,
    /// The model that wrote the description, up to 64 bytes.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 64))]
    pub provider_used: Option<String>,
    /// How the pictures were analysed (`single_frame`, `multi_frame` …), up to 64 bytes.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 64))]
    pub analysis_mode: Option<String>,
    /// Whether the description is uncertain.
    pub low_confidence: Option<bool>,
    /// An id that groups events in which several cameras saw the same thing, up to 128 bytes.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 128))]
    pub correlation_group_id: Option<String>,
    /// The carrier that delivered a parcel (`fedex`), up to 64 bytes.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 64, example = "fedex"))]
    pub delivery_carrier: Option<String>,
    /// The carrier's display name (`FedEx`), up to 64 bytes.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 64, example = "FedEx"))]
    pub delivery_carrier_display: Option<String>,
}

impl EventInput {
    /// The names of all fields that [`DetectionEvent::from_json`] accepts.
    pub const FIELDS: [&'static str; 17] = [
        "event_id",
        "camera_id",
        "camera_name",
        "description",
        "objects_detected",
        "confidence",
        "source_type",
        "smart_detection_type",
        "timestamp",
        "is_doorbell_ring",
        "ai_confidence",
        "provider_used",
        "analysis_mode",
        "low_confidence",
        "correlation_group_id",
        "delivery_carrier",
        "delivery_carrier_display",
    ];

    /// Checks every field. The error lists every invalid field.
    pub fn validate(self) -> Result<DetectionEvent, Invalid> {
        self.validate_with(Faults::default(), clock::now())
    }

    fn from_fields(fields: &mut Fields) -> Self {
        // `Fields::integer` limits the number to 0..=100.
        let percent = saturate::<u64, u8>;
        for required in ["camera_id", "description"] {
            if !fields.has(required) {
                fields.faults.push(required, "is required");
            }
        }
        Self {
            event_id: fields.text("event_id"),
            camera_id: fields.text("camera_id").unwrap_or_default(),
            camera_name: fields.text("camera_name"),
            description: fields.text("description").unwrap_or_default(),
            objects_detected: fields.texts("objects_detected").unwrap_or_default(),
            confidence: fields.integer("confidence", 0, 100).map(percent),
            source_type: fields.text("source_type"),
            smart_detection_type: fields.text("smart_detection_type"),
            timestamp: timestamp(fields),
            is_doorbell_ring: fields.boolean("is_doorbell_ring"),
            ai_confidence: fields.integer("ai_confidence", 0, 100).map(percent),
            provider_used: fields.text("provider_used"),
            analysis_mode: fields.text("analysis_mode"),
            low_confidence: fields.boolean("low_confidence"),
            correlation_group_id: fields.text("correlation_group_id"),
            delivery_carrier: fields.text("delivery_carrier"),
            delivery_carrier_display: fields.text("delivery_carrier_display"),
        }
    }

    fn validate_with(self, earlier: Faults, now: Timestamp) -> Result<DetectionEvent, Invalid> {
        let mut check = Check { faults: earlier };
        let event_id = self
            .event_id
            .map_or_else(|| Some(EventId::generate()), |id| check.field("event_id", EventId::parse_new(id)));
        let camera_id = check.field("camera_id", CameraId::parse(self.camera_id));
        let camera_name = match self.camera_name {
            Some(name) => check.field("camera_name", camera_name(name)),
            None => None,
        };
        let description = bytes_within(self.description, 1, MAX_DESCRIPTION_BYTES);
        let description = check.field("description", description.and_then(no_control_except_lines));
        let objects_detected = check.field("objects_detected", objects(self.objects_detected));
        check.percent("confidence", self.confidence);
        check.percent("ai_confidence", self.ai_confidence);
        let source_type = check.label("source_type", self.source_type);
        let smart_detection_type = check.label("smart_detection_type", self.smart_detection_type);
        let provider_used = check.label("provider_used", self.provider_used);
        let analysis_mode = check.label("analysis_mode", self.analysis_mode);
        let correlation_group_id =
            check.name("correlation_group_id", self.correlation_group_id, MAX_CORRELATION_BYTES);
        let delivery_carrier = check.label("delivery_carrier", self.delivery_carrier);
        let delivery_carrier_display = check.label("delivery_carrier_display", self.delivery_carrier_display);
        let timestamp = check.field("timestamp", within_years(self.timestamp.unwrap_or(now)));

        check.faults.finish()?;
        let (Some(event_id), Some(camera_id), Some(description), Some(objects_detected), Some(timestamp)) =
            (event_id, camera_id, description, objects_detected, timestamp)
        else {
            unreachable!("each of these is present, or its fault was returned above");
        };
        Ok(DetectionEvent {
            event_id,
            camera_id,
            camera_name,
            description,
            objects_detected,
            confidence: self.confidence,
            source_type,
            smart_detection_type,
            timestamp,
            is_doorbell_ring: self.is_doorbell_ring,
            ai_confidence: self.ai_confidence,
            provider_used,
            analysis_mode,
            low_confidence: self.low_confidence,
            correlation_group_id,
            delivery_carrier,
            delivery_carrier_display,
        })
    }
}

/// Collects faults, at most one per field.
struct Check {
    faults: Faults,
}

impl Check {
    fn field<T>(&mut self, field: &str, result: Result<T, String>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(_) if self.faults.has(field) => None,
            Err(message) => self.faults.check(field, Err(message)),
        }
    }

    fn percent(&mut self, field: &str, value: Option<u8>) {
        if let Some(n) = value.filter(|n| *n > 100) {
            self.field::<()>(field, Err(format!("{n}, must be 0 to 100")));
        }
    }

    fn label(&mut self, field: &str, text: Option<String>) -> Option<String> {
        self.name(field, text, MAX_LABEL_BYTES)
    }

    fn name(&mut self, field: &str, text: Option<String>, max_bytes: usize) -> Option<String> {
        text.and_then(|t| self.field(field, bytes_within(t, 1, max_bytes).and_then(no_control)))
    }
}

fn timestamp(fields: &mut Fields) -> Option<Timestamp> {
    let text = fields.text("timestamp")?;
    match DateTime::parse_from_rfc3339(&with_colon_in_offset(&text)) {
        Ok(time) => Some(time.with_timezone(&Utc)),
        Err(error) => {
            fields.faults.push(
                "timestamp",
                format!("not an RFC 3339 time with a zone, such as 2026-05-01T12:00:00Z: {error}"),
            );
            None
        }
    }
}

/// Adds what RFC 3339 requires to an offset from UTC in the other notations of ISO 8601: `+0200` and `+02`
/// become `+02:00`. Python (`%z`), databases and `date` write them.
fn with_colon_in_offset(text: &str) -> Cow<'_, str> {
    /// The length of `2026-05-01T12:00:00`. A sign before it belongs to the date.
    const MIN_TIME: usize = 19;
    let sign = text.rfind(['+', '-']).filter(|at| *at >= MIN_TIME);
    let Some((time, offset)) = sign.and_then(|at| text.split_at_checked(at)) else { return text.into() };
    match (offset.split_at_checked(3), offset.len()) {
        (Some((hours, minutes)), 5) => format!("{time}{hours}:{minutes}").into(),
        (Some((hours, _)), 3) => format!("{time}{hours}:00").into(),
        _ => text.into(),
    }
}

/// Truncates the time to microseconds, and checks that the year has four digits. The year is the one in UTC;
/// in the time's own zone, it may be a different one.
fn within_years(time: Timestamp) -> Result<Timestamp, String> {
    let time = clock::truncated(time);
    if (1970..=9999).contains(&chrono::Datelike::year(&time)) {
        Ok(time)
    } else {
        Err("must be in the years 1970 to 9999 (UTC)".to_owned())
    }
}

/// Checks a camera's name: 1–100 characters, no control characters.
pub fn camera_name(text: String) -> Result<String, String> {
    let text = no_control(text)?;
    match text.chars().count() {
        0 => Err("must not be empty".to_owned()),
        n if n > MAX_CAMERA_NAME_CHARS => {
            Err(format!("{n} characters, must be 1 to {MAX_CAMERA_NAME_CHARS}"))
        }
        _ => Ok(text),
    }
}

fn objects(list: Vec<String>) -> Result<Vec<String>, String> {
    if list.len() > MAX_OBJECTS {
        return Err(format!("{} objects, must be at most {MAX_OBJECTS}", list.len()));
    }
    if let Some(i) = list.iter().position(|o| o.is_empty() || o.len() > MAX_LABEL_BYTES) {
        return Err(format!("object {i} has {} bytes, must be 1 to {MAX_LABEL_BYTES}", list[i].len()));
    }
    if let Some(i) = list.iter().position(|o| o.chars().any(char::is_control)) {
        return Err(format!("object {i} must not contain control characters"));
    }
    Ok(list)
}

/// A checked event. Every field is within its documented bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectionEvent {
    event_id: EventId,
    camera_id: CameraId,
    camera_name: Option<String>,
    description: String,
    objects_detected: Vec<String>,
    confidence: Option<u8>,
    source_type: Option<String>,
    smart_detection_type: Option<String>,
    timestamp: Timestamp,
    is_doorbell_ring: Option<bool>,
    ai_confidence: Option<u8>,
    provider_used: Option<String>,
    analysis_mode: Option<String>,
    low_confidence: Option<bool>,
    correlation_group_id: Option<String>,
    delivery_carrier: Option<String>,
    delivery_carrier_display: Option<String>,
}

impl DetectionEvent {
    /// Reads an event from a JSON object. The error reports every fault: wrong types, values out of bounds
    /// and unknown fields.
    pub fn from_json(value: Value) -> Result<Self, Invalid> {
        let mut fields = Fields::of(value)?;
        let input = EventInput::from_fields(&mut fields);
        input.validate_with(fields.finish(), clock::now())
    }

    /// Returns the event's id.
    pub fn event_id(&self) -> &EventId {
        &self.event_id
    }

    /// Returns the id of the camera that saw it.
    pub fn camera_id(&self) -> &CameraId {
        &self.camera_id
    }

    /// Returns when it happened, according to the source.
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// Returns when it happened, or `received_at` if that is earlier, so that a source whose clock is ahead
    /// cannot make an event look new.
    pub fn happened_at(&self, received_at: Timestamp) -> Timestamp {
        self.timestamp.min(received_at)
    }

    /// Returns the times of the event if it is accepted at `now`.
    pub fn times(&self, now: Moment) -> EventTimes {
        EventTimes::new(self.timestamp, now)
    }

    /// Updates `camera` with this event, which was accepted at `now` at position `seq`. An event that happened
    /// before the camera's newest known event changes neither the newest event nor the camera's name and
    /// source type.
    ///
    /// An event that is not late, with this value of `late_after_seconds`, proves that the camera works: it
    /// sets the camera online, unless the event happened before the camera's status was set.
    pub fn update_camera(&self, camera: &mut Camera, seq: Seq, now: Moment, late_after_seconds: u32) {
        let (happened, happened_at) = (self.times(now).happened(), self.happened_at(now.wall));
        // A status that seems to have been set in the future was set under another clock.
        let is_newer = happened_at >= camera.status_at || camera.status_at > now.wall;
        if camera.status != CameraStatus::Online
            && is_newer
            && !is_late_after(late_after_seconds, self.times(now), now)
        {
            (camera.status, camera.status_at) = (CameraStatus::Online, now.wall);
        }
        camera.record_objects(&self.objects_detected);
        camera.is_doorbell |= self.is_doorbell_ring == Some(true);
        if camera.has_newer_event(happened, now.log) {
            return;
        }
        if let Some(name) = &self.camera_name {
            camera.report_name(name);
        }
        if let Some(source_type) = &self.source_type {
            camera.source_type.clone_from(source_type);
        }
        camera.last_event = Some(LastEvent {
            event_id: self.event_id.clone(),
            seq,
            timestamp: self.timestamp,
            happened_at,
            happened,
            description: LastEvent::shortened(&self.description),
            smart_detection_type: self.smart_detection_type.clone(),
        });
    }

    /// Returns the name in force: a name that a person gave to the camera wins over the event's.
    fn name<'a>(&'a self, camera: &'a Camera) -> &'a String {
        let reported = self.camera_name.as_ref().filter(|_| camera.reported_name.is_none());
        reported.unwrap_or(&camera.camera_name)
    }

    fn source<'a>(&'a self, camera: &'a Camera) -> &'a String {
        self.source_type.as_ref().unwrap_or(&camera.source_type)
    }

    /// Returns the JSON object that subscribers receive. Camera fields that the event does not contain are
    /// taken from `camera`.
    ///
    /// `thumbnail_url` is the link to the event's picture, whether or not there is one.
    pub fn payload(&self, camera: &Camera, seq: Seq, thumbnail_url: &str) -> Vec<u8> {
        let payload = Payload {
            event_id: self.event_id.as_str(),
            camera_id: self.camera_id.as_str(),
            camera_name: self.name(camera),
            description: &self.description,
            objects_detected: &self.objects_detected,
            confidence: self.confidence,
            source_type: self.source(camera),
            smart_detection_type: self.smart_detection_type.as_deref(),
            timestamp: clock::rfc3339(self.timestamp),
            thumbnail_url,
            seq,
            ai_confidence: self.ai_confidence,
            is_doorbell_ring: self.is_doorbell_ring,
            provider_used: self.provider_used.as_deref(),
            analysis_mode: self.analysis_mode.as_deref(),
            low_confidence: self.low_confidence,
            correlation_group_id: self.correlation_group_id.as_deref(),
            delivery_carrier: self.delivery_carrier.as_deref(),
            delivery_carrier_display: self.delivery_carrier_display.as_deref(),
        };
        // Without this capacity, the buffer would grow in steps and be copied several times.
        let mut json = Vec::with_capacity(PAYLOAD_BYTES + self.description.len());
        serde_json::to_writer(&mut json, &payload).expect("strings and numbers always serialize");
        json
    }
}

/// The label of a detected object, for the OpenAPI document.
#[cfg(feature = "openapi")]
#[derive(Debug, utoipa::ToSchema)]
#[schema(min_length = 1, max_length = 64, example = "person")]
pub struct Label(pub String);

/// The payload, in the documented order of fields. Fields of the second half that are `None` are left out.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Payload<'a> {
    event_id: &'a str,
    camera_id: &'a str,
    camera_name: &'a str,
    description: &'a str,
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Label>))]
    objects_detected: &'a [String],
    #[cfg_attr(feature = "openapi", schema(required = true, minimum = 0, maximum = 100))]
    confidence: Option<u8>,
    source_type: &'a str,
    #[cfg_attr(feature = "openapi", schema(required = true))]
    smart_detection_type: Option<&'a str>,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    timestamp: String,
    #[cfg_attr(feature = "openapi", schema(format = "uri"))]
    thumbnail_url: &'a str,
    #[cfg_attr(feature = "openapi", schema(value_type = i64, minimum = 1))]
    seq: Seq,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, minimum = 0, maximum = 100))]
    ai_confidence: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    is_doorbell_ring: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    provider_used: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    analysis_mode: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    low_confidence: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    correlation_group_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    delivery_carrier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    delivery_carrier_display: Option<&'a str>,
}

/// Returns the payload of an event that is sent late: the stored payload with `"late":true` appended.
pub fn marked_late(payload: Vec<u8>) -> Vec<u8> {
    with_mark(payload, br#","late":true}"#)
}

/// Adds `"late":true` and `"replay":true` to a stored payload. The payload is otherwise unchanged.
pub fn marked_replayed(payload: Vec<u8>) -> Vec<u8> {
    with_mark(payload, br#","late":true,"replay":true}"#)
}

fn with_mark(mut payload: Vec<u8>, mark: &[u8]) -> Vec<u8> {
    if payload.last() == Some(&b'}') {
        payload.pop();
        payload.extend_from_slice(mark);
    }
    payload
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
