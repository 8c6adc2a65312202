//! A camera: what is known of it, whoever told.

use std::fmt;

use serde::Serialize;

use crate::domain::{
    calendar::Day,
    clock::{self, Timestamp},
    ids::{CameraId, EventId, Seq},
};

/// Home Assistant shows no state that is longer (in characters).
const MAX_DESCRIPTION_CHARS: usize = 255;
const MAX_SNIPPET_CHARS: usize = 100;
/// So many names of objects are remembered for each camera, beside the [common ones](COMMON_EVENT_TYPES).
const MAX_EVENT_TYPES: usize = 32;

/// The names of objects that every camera is expected to see, as classifiers use them.
pub const COMMON_EVENT_TYPES: [&str; 5] = ["person", "vehicle", "animal", "package", "unknown"];

/// Whether a camera works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CameraStatus {
    /// It delivers frames.
    #[default]
    Online,
    /// It does not, on purpose or because it cannot be reached.
    Offline,
    /// Nobody can tell: it is starting, or at fault.
    Unavailable,
}

impl CameraStatus {
    /// Reads a status; the words that sources commonly use are understood too.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "online" | "connected" => Ok(Self::Online),
            "offline" | "disconnected" | "stopped" => Ok(Self::Offline),
            "unavailable" | "starting" | "error" => Ok(Self::Unavailable),
            _ => Err("must be online, offline or unavailable (connected, disconnected, stopped, starting and error are \
                      understood as well)"
                .to_owned()),
        }
    }

    /// The status' name in the API, in topics and in the database.
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

/// The newest thing that a camera saw: newest by when it happened, not by when it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastEvent {
    /// Its id.
    pub event_id: EventId,
    /// Its place in the log.
    pub seq: Seq,
    /// When it happened, as the source says.
    pub timestamp: Timestamp,
    /// When it happened, or when it was accepted if that was earlier: a clock that is ahead does not hold back what
    /// comes after.
    pub happened_at: Timestamp,
    /// What was seen, in words: at most 255 characters.
    pub description: String,
    /// The camera's own classification.
    pub smart_detection_type: Option<String>,
}

impl LastEvent {
    /// The start of a description that Home Assistant can show as a state.
    pub fn shortened(description: &str) -> String {
        first_chars(description, MAX_DESCRIPTION_CHARS).to_owned()
    }

    /// The first 100 characters of the description.
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
    /// Its media type, as HTTP and Home Assistant name it.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::WebP => "image/webp",
        }
    }

    /// The format of this media type.
    pub fn of_media_type(text: &str) -> Option<Self> {
        [Self::Jpeg, Self::Png, Self::WebP].into_iter().find(|format| format.media_type() == text)
    }
}

/// The newest picture of a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thumbnail {
    /// Which event's picture it is.
    pub seq: Seq,
    /// When that event happened, or when it was accepted if that was earlier.
    pub happened_at: Timestamp,
    /// Its format.
    pub format: ImageType,
}

impl Thumbnail {
    /// Whether it shows what happened before the other one, or is an earlier picture of the same event.
    pub fn is_older_than(&self, other: &Self) -> bool {
        (self.happened_at, self.seq) < (other.happened_at, other.seq)
    }
}

/// A camera as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Camera {
    /// Its id.
    pub camera_id: CameraId,
    /// Its name: 1–100 characters, no control characters.
    pub camera_name: String,
    /// What kind of source it is (`rtsp`, `usb`, `protect` …).
    pub source_type: String,
    /// Whether it has a bell to ring.
    pub is_doorbell: bool,
    /// Whether its state and its entities are published. Its events are, either way.
    pub enabled: bool,
    /// Whether it works.
    pub status: CameraStatus,
    /// Since when.
    pub status_at: Timestamp,
    /// The newest thing that it saw.
    pub last_event: Option<LastEvent>,
    /// The names of objects that it has seen, beside the common ones; at most 32, in the order of their first time.
    pub event_types: Vec<String>,
    /// The newest picture.
    pub thumbnail: Option<Thumbnail>,
    /// Grows with every change: the higher one is the newer one, also where a camera was removed and registered anew.
    pub revision: i64,
}

impl Camera {
    /// A camera that nobody has told anything of.
    pub fn new(camera_id: CameraId, now: Timestamp) -> Self {
        Self {
            camera_name: camera_id.as_str().chars().take(100).collect(),
            camera_id,
            source_type: "unknown".to_owned(),
            is_doorbell: false,
            enabled: true,
            status: CameraStatus::Online,
            status_at: now,
            last_event: None,
            event_types: Vec::new(),
            thumbnail: None,
            // More than one of this id that was removed can have come to: nothing changes once a microsecond.
            revision: clock::to_micros(now),
        }
    }

    /// Remembers the names of objects that it saw; those that are one too many are forgotten.
    pub fn saw(&mut self, objects: &[String]) {
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

    #[test]
    fn the_words_of_sources_are_understood() {
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
    fn descriptions_are_cut_between_characters() {
        let long = "ü".repeat(300);
        assert_eq!(LastEvent::shortened(&long).chars().count(), 255);
    }

    #[test]
    fn only_so_many_names_of_objects_are_remembered() {
        let mut camera = Camera::new(CameraId::parse("c").unwrap(), clock::from_micros(0));
        camera.saw(&["person".to_owned(), "crow".to_owned(), "crow".to_owned()]);
        assert_eq!(camera.event_types, ["crow"]);
        camera.saw(&(0..100).map(|n| format!("object {n}")).collect::<Vec<_>>());
        assert_eq!(camera.event_types.len(), 32);
    }
}

/// What a commit changed at one camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameraSighting {
    /// The camera as it is now.
    pub camera: Camera,
    /// How many events of it happened on these days, in all.
    pub days: Vec<(Day, u64)>,
}
