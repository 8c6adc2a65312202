//! A detection event: what a classifier saw, checked once, and the payload that subscribers get.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::domain::{
    camera::{Camera, LastEvent},
    clock::{self, Timestamp},
    fields::{Faults, Fields, Invalid, bytes_within, no_control},
    ids::{CameraId, EventId, Seq},
};

const MAX_DESCRIPTION_BYTES: usize = 4096;
const MAX_OBJECTS: usize = 64;
const MAX_LABEL_BYTES: usize = 64;
const MAX_CAMERA_NAME_CHARS: usize = 100;
const MAX_CORRELATION_BYTES: usize = 128;

/// So much a payload usually has beside the description.
const PAYLOAD_BYTES: usize = 640;

/// What a source says of one event, unchecked. [`EventInput::validate`] makes a [`DetectionEvent`] of it.
///
/// ```
/// use liveobject_actors::EventInput;
/// let event = EventInput {
///     camera_id: "front_door".into(),
///     description: "Person at the door with a package".into(),
///     objects_detected: vec!["person".into(), "package".into()],
///     confidence: 91,
///     ..EventInput::default()
/// }
/// .validate()?;
/// # Ok::<(), liveobject_actors::Invalid>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventInput {
    /// The source's own id of the event, 1–128 of `A-Z a-z 0-9 _ - . :`; a new one is made when absent. Sending an
    /// event again with the same id cannot double it.
    pub event_id: Option<String>,
    /// 1–128 of `A-Z a-z 0-9 _ -`.
    pub camera_id: String,
    /// 1–100 characters, no control characters; the name that the camera has when absent, which is its id at first.
    pub camera_name: Option<String>,
    /// What was seen, in words: 1–4,096 bytes.
    pub description: String,
    /// Up to 64 names of up to 64 bytes.
    pub objects_detected: Vec<String>,
    /// 0–100.
    pub confidence: u8,
    /// What kind of source saw it (`rtsp`, `usb`, `protect` …), up to 64 bytes; what the camera's is known to
    /// be when absent, which is `unknown` at first.
    pub source_type: Option<String>,
    /// The camera's own classification, up to 64 bytes.
    pub smart_detection_type: Option<String>,
    /// When it happened; the moment of the check when absent.
    pub timestamp: Option<Timestamp>,
    /// Whether somebody rang the doorbell.
    pub is_doorbell_ring: Option<bool>,
    /// The describing model's own confidence, 0–100.
    pub ai_confidence: Option<u8>,
    /// Which model described it, up to 64 bytes.
    pub provider_used: Option<String>,
    /// How it was looked at (`single_frame`, `multi_frame` …), up to 64 bytes.
    pub analysis_mode: Option<String>,
    /// Whether the description is to be taken with care.
    pub low_confidence: Option<bool>,
    /// What groups the views that several cameras had of one thing, up to 128 bytes.
    pub correlation_group_id: Option<String>,
    /// Which carrier brought a parcel (`fedex`), up to 64 bytes.
    pub delivery_carrier: Option<String>,
    /// The carrier's name as people write it (`FedEx`), up to 64 bytes.
    pub delivery_carrier_display: Option<String>,
}

impl EventInput {
    /// The names of all fields that [`DetectionEvent::from_json`] takes.
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

    /// Checks every field; the error names each one that is at fault.
    pub fn validate(self) -> Result<DetectionEvent, Invalid> {
        self.validate_with(Faults::default(), clock::now())
    }

    fn from_fields(fields: &mut Fields) -> Self {
        // Bounded to 0..=100 by the reader, so the conversion always fits.
        let percent = |n: u64| u8::try_from(n).unwrap_or(u8::MAX);
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
            confidence: fields.integer("confidence", 0, 100).map_or(0, percent),
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
            .map_or_else(|| Some(EventId::generate()), |id| check.of("event_id", EventId::parse(id)));
        let camera_id = check.of("camera_id", CameraId::parse(self.camera_id));
        let camera_name = match self.camera_name {
            Some(name) => check.of("camera_name", camera_name(name)),
            None => None,
        };
        let description = check.of("description", bytes_within(self.description, 1, MAX_DESCRIPTION_BYTES));
        let objects_detected = check.of("objects_detected", objects(self.objects_detected));
        if self.confidence > 100 {
            check.of::<()>("confidence", Err(format!("{}, must be 0 to 100", self.confidence)));
        }
        if self.ai_confidence.is_some_and(|n| n > 100) {
            check.of::<()>("ai_confidence", Err("must be 0 to 100".to_owned()));
        }
        let source_type = check.label("source_type", self.source_type);
        let smart_detection_type = check.label("smart_detection_type", self.smart_detection_type);
        let provider_used = check.label("provider_used", self.provider_used);
        let analysis_mode = check.label("analysis_mode", self.analysis_mode);
        let correlation_group_id = self
            .correlation_group_id
            .and_then(|t| check.of("correlation_group_id", bytes_within(t, 1, MAX_CORRELATION_BYTES)));
        let delivery_carrier = check.label("delivery_carrier", self.delivery_carrier);
        let delivery_carrier_display = check.label("delivery_carrier_display", self.delivery_carrier_display);
        let timestamp = check.of("timestamp", within_years(self.timestamp.unwrap_or(now)));

        check.faults.finish()?;
        let (Some(event_id), Some(camera_id), Some(description), Some(objects_detected), Some(timestamp)) =
            (event_id, camera_id, description, objects_detected, timestamp)
        else {
            unreachable!("each of these is there, or its fault was returned above");
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

/// Collects faults; a field that was already found at fault is not blamed twice.
struct Check {
    faults: Faults,
}

impl Check {
    fn of<T>(&mut self, field: &str, result: Result<T, String>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(_) if self.faults.has(field) => None,
            Err(message) => self.faults.check(field, Err(message)),
        }
    }

    fn label(&mut self, field: &str, text: Option<String>) -> Option<String> {
        text.and_then(|t| self.of(field, bytes_within(t, 1, MAX_LABEL_BYTES)))
    }
}

fn timestamp(fields: &mut Fields) -> Option<Timestamp> {
    let text = fields.text("timestamp")?;
    match DateTime::parse_from_rfc3339(&text) {
        Ok(at) => Some(at.with_timezone(&Utc)),
        Err(e) => {
            fields.faults.push(
                "timestamp",
                format!("not an RFC 3339 time with a zone, such as 2026-05-01T12:00:00Z: {e}"),
            );
            None
        }
    }
}

/// Payloads and the database hold years of four digits and microseconds. The year is that of UTC: elsewhere it may be
/// another one already.
fn within_years(at: Timestamp) -> Result<Timestamp, String> {
    if (1970..=9999).contains(&chrono::Datelike::year(&at)) {
        Ok(clock::truncated(at))
    } else {
        Err("must lie in the years 1970 to 9999, in UTC".to_owned())
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
    match list.iter().position(|o| o.is_empty() || o.len() > MAX_LABEL_BYTES) {
        Some(i) => Err(format!("object {i} has {} bytes, must be 1 to {MAX_LABEL_BYTES}", list[i].len())),
        None => Ok(list),
    }
}

/// A checked event: every bound of the contract holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectionEvent {
    event_id: EventId,
    camera_id: CameraId,
    camera_name: Option<String>,
    description: String,
    objects_detected: Vec<String>,
    confidence: u8,
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
    /// Reads an event from a JSON object. Every fault is reported: a wrong type, a broken bound, an unknown field.
    pub fn from_json(value: Value) -> Result<Self, Invalid> {
        let mut fields = Fields::of(value)?;
        let input = EventInput::from_fields(&mut fields);
        input.validate_with(fields.finish(), clock::now())
    }

    /// The event's id.
    pub fn event_id(&self) -> &EventId {
        &self.event_id
    }

    /// Which camera saw it.
    pub fn camera_id(&self) -> &CameraId {
        &self.camera_id
    }

    /// When it happened, as the source says.
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// When it happened, or `received_at` if that was earlier: a clock that is ahead cannot make an event look new.
    pub fn happened_at(&self, received_at: Timestamp) -> Timestamp {
        self.timestamp.min(received_at)
    }

    /// Takes into `camera` what this event, accepted at this place, tells of it. What happened before the newest event
    /// that is known changes neither that nor the names.
    pub fn tell(&self, camera: &mut Camera, seq: Seq, received_at: Timestamp) {
        let happened_at = self.happened_at(received_at);
        camera.saw(&self.objects_detected);
        camera.is_doorbell |= self.is_doorbell_ring == Some(true);
        if camera.last_event.as_ref().is_some_and(|last| last.happened_at > happened_at) {
            return;
        }
        if let Some(name) = &self.camera_name {
            camera.camera_name.clone_from(name);
        }
        if let Some(source_type) = &self.source_type {
            camera.source_type.clone_from(source_type);
        }
        camera.last_event = Some(LastEvent {
            event_id: self.event_id.clone(),
            seq,
            timestamp: self.timestamp,
            happened_at,
            description: LastEvent::shortened(&self.description),
            smart_detection_type: self.smart_detection_type.clone(),
        });
    }

    fn name<'a>(&'a self, camera: &'a Camera) -> &'a String {
        self.camera_name.as_ref().unwrap_or(&camera.camera_name)
    }

    fn source<'a>(&'a self, camera: &'a Camera) -> &'a String {
        self.source_type.as_ref().unwrap_or(&camera.source_type)
    }

    /// The JSON object that subscribers get, with the place that the log gave it. What the event does not say of its
    /// camera is as the camera is known.
    ///
    /// `thumbnail_url` is the link to its picture, whether there is one or not.
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
        // Grown step by step it would be copied several times.
        let mut json = Vec::with_capacity(PAYLOAD_BYTES + self.description.len());
        serde_json::to_writer(&mut json, &payload).expect("texts and numbers always serialize");
        json
    }
}

/// The contract's field order. What is `None` in the second half does not apply and is left out.
#[derive(Serialize)]
struct Payload<'a> {
    event_id: &'a str,
    camera_id: &'a str,
    camera_name: &'a str,
    description: &'a str,
    objects_detected: &'a [String],
    confidence: u8,
    source_type: &'a str,
    smart_detection_type: Option<&'a str>,
    timestamp: String,
    thumbnail_url: &'a str,
    seq: Seq,
    #[serde(skip_serializing_if = "Option::is_none")]
    ai_confidence: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_doorbell_ring: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_used: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    analysis_mode: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    low_confidence: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_group_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_carrier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_carrier_display: Option<&'a str>,
}

/// The payload of an event that is sent late: the stored one with `"late":true` at its end.
pub fn marked_late(mut payload: Vec<u8>) -> Vec<u8> {
    if payload.last() == Some(&b'}') {
        payload.pop();
        payload.extend_from_slice(br#","late":true}"#);
    }
    payload
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
