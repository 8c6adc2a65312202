//! Cameras: everything that the service knows about them.

use std::fmt;

use serde::Serialize;

use crate::domain::{
    calendar::Day,
    clock::{LogTime, Moment, Timestamp},
    ids::{CameraId, EventId, Seq},
};

/// The maximum length of a state in Home Assistant, in characters.
const MAX_DESCRIPTION_CHARS: usize = 255;
const MAX_SNIPPET_CHARS: usize = 100;
/// The maximum number of object names that are remembered per camera, in addition to [`COMMON_EVENT_TYPES`].
const MAX_EVENT_TYPES: usize = 32;

/// The object names that every camera is expected to see, as classifiers write them.
pub const COMMON_EVENT_TYPES: [&str; 5] = ["person", "vehicle", "animal", "package", "unknown"];

/// Whether a camera works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum CameraStatus {
    /// The camera delivers frames.
    #[default]
    Online,
    /// It delivers no frames: it was stopped, or it cannot be reached.
    Offline,
    /// The state is not known: the camera is starting or has an error.
    Unavailable,
}

impl CameraStatus {
    /// Parses a status. The words that sources commonly use are accepted as well.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "online" | "connected" => Ok(Self::Online),
            "offline" | "disconnected" | "stopped" => Ok(Self::Offline),
            "unavailable" | "starting" | "error" => Ok(Self::Unavailable),
            _ => Err("must be online, offline or unavailable \
                      (connected, disconnected, stopped, starting and error are accepted as well)"
                .to_owned()),
        }
    }

    /// Returns the name of the status in the API, in MQTT messages and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for CameraStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The newest event of a camera: the one that happened last, not the one that arrived last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastEvent {
    /// The event's id.
    pub event_id: EventId,
    /// Its position in the event log.
    pub seq: Seq,
    /// When it happened, according to the source.
    pub timestamp: Timestamp,
    /// When it happened, or when it was accepted if that was earlier. A source whose clock is ahead therefore
    /// does not hide later events.
    pub happened_at: Timestamp,
    /// The log time at which it happened, by which events are compared.
    pub happened: LogTime,
    /// What was seen, as a sentence of at most 255 characters.
    pub description: String,
    /// The camera's own classification.
    pub smart_detection_type: Option<String>,
}

impl LastEvent {
    /// Shortens a description so that Home Assistant can show it as a state.
    pub fn shortened(description: &str) -> String {
        first_chars(description, MAX_DESCRIPTION_CHARS).to_owned()
    }

    /// Returns the first 100 characters of the description.
    pub fn snippet(&self) -> String {
        first_chars(&self.description, MAX_SNIPPET_CHARS).to_owned()
    }
}

fn first_chars(text: &str, chars: usize) -> &str {
    text.char_indices().nth(chars).map_or(text, |(end, _)| &text[..end])
}

/// The format of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageType {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// WebP.
    WebP,
}

impl ImageType {
    /// Returns its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::WebP => "image/webp",
        }
    }

    /// Returns the format with this media type.
    pub fn from_media_type(text: &str) -> Option<Self> {
        [Self::Jpeg, Self::Png, Self::WebP].into_iter().find(|format| format.media_type() == text)
    }
}

/// The newest picture of a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thumbnail {
    /// The event that the picture belongs to.
    pub seq: Seq,
    /// The log time at which that event happened.
    pub happened: LogTime,
    /// Its format.
    pub format: ImageType,
}

impl Thumbnail {
    /// Returns whether this picture's event happened before the other picture's event. Events of the same
    /// time are compared by their position.
    pub fn is_older_than(&self, other: &Self) -> bool {
        (self.happened, self.seq) < (other.happened, other.seq)
    }
}

/// A camera as it is stored in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Camera {
    /// Its id.
    pub camera_id: CameraId,
    /// Its name: 1–100 characters, no control characters. A name that a person gave, or else the camera's own.
    pub camera_name: String,
    /// The camera's own name, from its events, while a person has given it another one; otherwise `None`.
    pub reported_name: Option<String>,
    /// The kind of source (`rtsp`, `usb`, `protect` …).
    pub source_type: String,
    /// Whether the camera has a doorbell.
    pub is_doorbell: bool,
    /// Whether its state and its entities are published. Its events are always published.
    pub enabled: bool,
    /// Whether it works.
    pub status: CameraStatus,
    /// When the status was set.
    pub status_at: Timestamp,
    /// The newest event.
    pub last_event: Option<LastEvent>,
    /// The names of objects that it has seen, without the common ones. At most 32, in the order of their
    /// first appearance.
    pub event_types: Vec<String>,
    /// The newest picture.
    pub thumbnail: Option<Thumbnail>,
    /// Increases with every change. The higher revision is the newer one, even if a camera was removed and
    /// registered again.
    pub revision: i64,
}

impl Camera {
    /// Creates a camera about which only the id is known.
    pub fn new(camera_id: CameraId, now: Moment) -> Self {
        Self {
            camera_name: camera_id.as_str().chars().take(100).collect(),
            reported_name: None,
            camera_id,
            source_type: "unknown".to_owned(),
            is_doorbell: false,
            enabled: true,
            status: CameraStatus::Online,
            status_at: now.wall,
            last_event: None,
            event_types: Vec::new(),
            thumbnail: None,
            // A removed camera with the same id has a lower revision, because no camera changes once per
            // microsecond.
            revision: now.log.0,
        }
    }

    /// Sets the name that a person gives. It is kept whatever the events report.
    pub fn give_name(&mut self, name: String) {
        let before = std::mem::replace(&mut self.camera_name, name);
        self.reported_name.get_or_insert(before);
    }

    /// Returns to the camera's own name.
    pub fn use_own_name(&mut self) {
        if let Some(own) = self.reported_name.take() {
            self.camera_name = own;
        }
    }

    /// Records the name that an event reports.
    pub fn report_name(&mut self, name: &str) {
        name.clone_into(self.reported_name.as_mut().unwrap_or(&mut self.camera_name));
    }

    /// Returns whether the newest known event happened after this time, so that an event of this time is not the newest
    /// one. `now` is the time at which that event was accepted: a later event was recorded under another clock.
    pub fn has_newer_event(&self, happened: LogTime, now: LogTime) -> bool {
        self.last_event.as_ref().is_some_and(|last| last.happened > happened && last.happened <= now)
    }

    /// Remembers the names of objects that the camera saw. Names above the limit are ignored.
    pub fn record_objects(&mut self, objects: &[String]) {
        for object in objects {
            let known =
                COMMON_EVENT_TYPES.contains(&object.as_str()) || self.event_types.iter().any(|t| t == object);
            if !known && self.event_types.len() < MAX_EVENT_TYPES {
                self.event_types.push(object.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock;

    #[test]
    fn common_words_for_a_status_are_accepted() {
        for (word, status) in [
            ("online", CameraStatus::Online),
            ("Connected", CameraStatus::Online),
            ("stopped", CameraStatus::Offline),
            ("disconnected", CameraStatus::Offline),
            ("starting", CameraStatus::Unavailable),
            ("error", CameraStatus::Unavailable),
        ] {
            assert_eq!(CameraStatus::parse(word), Ok(status), "{word}");
        }
        assert!(CameraStatus::parse("asleep").is_err());
    }

    #[test]
    fn descriptions_are_shortened_between_characters() {
        let long = "ü".repeat(300);
        assert_eq!(LastEvent::shortened(&long).chars().count(), 255);
    }

    #[test]
    fn a_name_given_by_a_person_wins_until_the_own_name_is_wanted_again() {
        let mut camera = Camera::new(CameraId::parse("door").unwrap(), Moment::at(clock::from_micros(0)));
        camera.report_name("Front");
        assert_eq!((camera.camera_name.as_str(), &camera.reported_name), ("Front", &None));
        camera.give_name("Hall".to_owned());
        camera.report_name("Front 2");
        camera.give_name("Porch".to_owned());
        assert_eq!(
            (camera.camera_name.as_str(), camera.reported_name.as_deref()),
            ("Porch", Some("Front 2"))
        );
        camera.use_own_name();
        assert_eq!((camera.camera_name.as_str(), &camera.reported_name), ("Front 2", &None));
        camera.report_name("Front 3");
        camera.use_own_name();
        assert_eq!(camera.camera_name, "Front 3");
    }

    #[test]
    fn the_number_of_remembered_object_names_is_limited() {
        let mut camera = Camera::new(CameraId::parse("c").unwrap(), Moment::at(clock::from_micros(0)));
        camera.record_objects(&["person".to_owned(), "crow".to_owned(), "crow".to_owned()]);
        assert_eq!(camera.event_types, ["crow"]);
        camera.record_objects(&(0..100).map(|n| format!("object {n}")).collect::<Vec<_>>());
        assert_eq!(camera.event_types.len(), 32);
    }
}

/// The changes of one commit to one camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameraSighting {
    /// The camera after the commit.
    pub camera: Camera,
    /// The total number of its events on each of the days that changed.
    pub days: Vec<(Day, u64)>,
}
