//! MQTT topics: the prefix, and the topics of the contract below it.

use std::fmt;

use serde::Serialize;

use crate::domain::{fields::bytes_within, ids::CameraId};

/// The start of all topics: 1–100 bytes, no `+`, `#`, NUL or other control characters, no leading or trailing `/`, no
/// `$` first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TopicPrefix(String);

impl TopicPrefix {
    /// Checks a prefix; the error says what is wrong with it.
    pub fn parse(text: impl Into<String>) -> Result<Self, String> {
        let text = topic_name(text.into(), 100)?;
        if text.starts_with('/') || text.ends_with('/') {
            return Err("must not start or end with /".to_owned());
        }
        Ok(Self(text))
    }

    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the service says `online` or `offline`.
    pub fn status(&self) -> String {
        format!("{self}/status")
    }

    /// Where test messages go.
    pub fn test(&self) -> String {
        format!("{self}/test")
    }

    /// How the log of events stands: what waits, what is dead.
    pub fn outbox(&self) -> String {
        format!("{self}/outbox")
    }

    /// Whether a camera works.
    pub fn camera_status(&self, camera: &CameraId) -> String {
        format!("{self}/camera/{camera}/status")
    }

    /// The newest thing that a camera saw.
    pub fn last_event(&self, camera: &CameraId) -> String {
        format!("{self}/camera/{camera}/last_event")
    }

    /// The same in words alone, short enough to be a state of Home Assistant.
    pub fn description(&self, camera: &CameraId) -> String {
        format!("{self}/camera/{camera}/description")
    }

    /// How many events a camera has had today and this week.
    pub fn counts(&self, camera: &CameraId) -> String {
        format!("{self}/camera/{camera}/counts")
    }

    /// Whether a camera saw something lately.
    pub fn activity(&self, camera: &CameraId) -> String {
        format!("{self}/camera/{camera}/activity")
    }

    /// A camera's newest picture.
    pub fn thumbnail(&self, camera: &CameraId) -> String {
        format!("{self}/camera/{camera}/thumbnail")
    }

    /// A camera's live events: what may fire an automation.
    pub fn event(&self, camera: &CameraId) -> String {
        format!("{self}/camera/{camera}/event")
    }

    /// A camera's late and replayed events: what must not fire an automation.
    pub fn history(&self, camera: &CameraId) -> String {
        format!("{self}/camera/{camera}/history")
    }
}

impl fmt::Display for TopicPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks a topic that is published to (MQTT 5 section 4.7): no wildcards, no control characters, not the broker's own `$…`.
pub fn topic_name(text: String, max: usize) -> Result<String, String> {
    let text = bytes_within(text, 1, max)?;
    if let Some(c) = text.chars().find(|c| matches!(c, '+' | '#') || c.is_control()) {
        return Err(format!("must not contain {c:?}"));
    }
    if text.starts_with('$') {
        return Err("must not start with $".to_owned());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_checked() {
        for good in ["liveobject", "home/cameras", "é"] {
            assert!(TopicPrefix::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a/+/b", "#", "a\0b", "$SYS/x", &"x".repeat(101)] {
            assert!(TopicPrefix::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn topics_are_those_of_the_contract() {
        let prefix = TopicPrefix::parse("liveobject").unwrap();
        let camera = CameraId::parse("front_door").unwrap();
        assert_eq!(prefix.status(), "liveobject/status");
        assert_eq!(prefix.test(), "liveobject/test");
        assert_eq!(prefix.event(&camera), "liveobject/camera/front_door/event");
        assert_eq!(prefix.history(&camera), "liveobject/camera/front_door/history");
        assert_eq!(prefix.camera_status(&camera), "liveobject/camera/front_door/status");
        assert_eq!(prefix.last_event(&camera), "liveobject/camera/front_door/last_event");
        assert_eq!(prefix.counts(&camera), "liveobject/camera/front_door/counts");
        assert_eq!(prefix.activity(&camera), "liveobject/camera/front_door/activity");
        assert_eq!(prefix.thumbnail(&camera), "liveobject/camera/front_door/thumbnail");
    }
}
