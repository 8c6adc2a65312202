//! MQTT topics: the prefix, and the documented topics below it.

use std::{fmt, sync::Arc};

use serde::Serialize;

use crate::domain::{fields::bytes_within, ids::CameraId};

/// The prefix of all topics: 1–100 bytes without `+`, `#`, NUL or other control characters. It does not start
/// or end with `/`, a space or a quotation mark, and does not start with `$`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TopicPrefix(String);

impl TopicPrefix {
    /// Parses a prefix. The error describes what is wrong with it.
    pub fn parse(text: impl Into<String>) -> Result<Self, String> {
        let text = topic_name(text.into(), 100)?;
        if text.starts_with('/') || text.ends_with('/') {
            return Err("must not start or end with /".to_owned());
        }
        // MQTT permits them, but they are a mistake in an environment file or a form.
        if text.starts_with(is_quotation_mark) || text.ends_with(is_quotation_mark) {
            return Err("must not start or end with a quotation mark".to_owned());
        }
        if text.trim() != text {
            return Err("must not start or end with a space".to_owned());
        }
        Ok(Self(text))
    }

    /// Returns the prefix as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the topic for the service's availability, `online` or `offline`.
    pub fn status(&self) -> String {
        format!("{self}/status")
    }

    /// Returns the topic for test messages.
    pub fn test(&self) -> String {
        format!("{self}/test")
    }

    /// Returns the topic for the event log's state: how many events are pending or dead.
    pub fn outbox(&self) -> String {
        format!("{self}/outbox")
    }

    /// Returns the topic for a camera's status.
    pub fn camera_status(&self, camera: &CameraId) -> String {
        format!("{self}/camera/{camera}/status")
    }

    /// Returns the topic for a camera's newest event.
    pub fn last_event(&self, camera: &CameraId) -> String {
        format!("{self}/camera/{camera}/last_event")
    }

    /// Returns the topic for the newest event's description, shortened to the length of a Home Assistant
    /// state.
    pub fn description(&self, camera: &CameraId) -> String {
        format!("{self}/camera/{camera}/description")
    }

    /// Returns the topic for a camera's number of events today and this week.
    pub fn counts(&self, camera: &CameraId) -> String {
        format!("{self}/camera/{camera}/counts")
    }

    /// Returns the topic that states whether a camera had an event recently.
    pub fn activity(&self, camera: &CameraId) -> String {
        format!("{self}/camera/{camera}/activity")
    }

    /// Returns the topic for a camera's newest picture.
    pub fn thumbnail(&self, camera: &CameraId) -> String {
        format!("{self}/camera/{camera}/thumbnail")
    }

    /// Returns the topic for a camera's live events, which may trigger automations.
    pub fn event(&self, camera: &CameraId) -> String {
        format!("{self}/camera/{camera}/event")
    }

    /// Returns the topic for a camera's late and replayed events, which must not trigger automations.
    pub fn history(&self, camera: &CameraId) -> String {
        format!("{self}/camera/{camera}/history")
    }
}

impl fmt::Display for TopicPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns the camera of a live topic ([`TopicPrefix::event`]), and the topic for its newest picture. Returns `None`
/// for other topics.
pub fn camera_of_live_topic(topic: &str) -> Option<(Arc<str>, String)> {
    let camera = topic.strip_suffix("/event")?;
    let (_, id) = camera.rsplit_once("/camera/")?;
    Some((id.into(), format!("{camera}/thumbnail")))
}

/// Returns whether a character is a quotation mark, straight or typographic.
pub fn is_quotation_mark(c: char) -> bool {
    matches!(c, '"' | '\'' | '`' | '‘' | '’' | '“' | '”' | '„' | '«' | '»')
}

/// Checks a topic name for publishing (MQTT 5 section 4.7): no wildcards, no control characters, and not
/// one of the broker's own topics, which start with `$`.
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
        for good in ["liveobject", "home/cameras", "é", "bob's/cams"] {
            assert!(TopicPrefix::parse(good).is_ok(), "{good}");
        }
        let quoted = ["\"cams\"", "'cams'", "“cams”", "cams\"", " cams", "cams "];
        for bad in
            ["", "/a", "a/", "a/+/b", "#", "a\0b", "$SYS/x", &"x".repeat(101)].into_iter().chain(quoted)
        {
            assert!(TopicPrefix::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn topics_are_as_documented() {
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

    #[test]
    fn the_picture_of_a_live_topic_is_that_of_its_camera() {
        let camera = CameraId::parse("front_door").unwrap();
        for prefix in ["liveobject", "a/camera/b/event"] {
            let prefix = TopicPrefix::parse(prefix).unwrap();
            let expected = Some(("front_door".into(), prefix.thumbnail(&camera)));
            assert_eq!(camera_of_live_topic(&prefix.event(&camera)), expected);
            assert_eq!(camera_of_live_topic(&prefix.history(&camera)), None);
        }
    }
}
