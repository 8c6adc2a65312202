//! The names of things: cameras, events, and the order of events.

use std::fmt;

use serde::Serialize;

use crate::domain::fields::bytes_within;

/// A camera's id: 1–128 of `A-Z a-z 0-9 _ -`, so that it can stand in a topic and in a Home Assistant unique id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct CameraId(String);

impl CameraId {
    /// Checks the id; the error says what is wrong with it.
    pub fn parse(text: impl Into<String>) -> Result<Self, String> {
        let text = bytes_within(text.into(), 1, 128)?;
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))) {
            Some(c) => Err(format!("must be of A-Z a-z 0-9 _ -, found {c:?}")),
            None => Ok(Self(text)),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CameraId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An event's id: 1–128 of `A-Z a-z 0-9 _ - . :`. An id is accepted once; a repeat returns the first one's receipt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct EventId(String);

impl EventId {
    /// Checks an id that a source made; the error says what is wrong with it.
    pub fn parse(text: impl Into<String>) -> Result<Self, String> {
        let text = bytes_within(text.into(), 1, 128)?;
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':'))) {
            Some(c) => Err(format!("must be of A-Z a-z 0-9 _ - . :, found {c:?}")),
            None => Ok(Self(text)),
        }
    }

    /// A new id: a `UUIDv7`, which grows with time and so costs the index least.
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The place of an event in the log: from 1, without gaps, never used twice. Tells order and repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct Seq(pub i64);

impl Seq {
    /// The place after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The place before this one.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0 - 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which connection something belongs to: each one has its own number, so that what an earlier one still had to say is
/// not mistaken for the current one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LinkId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn camera_ids_are_safe_in_topics() {
        assert!(CameraId::parse("front_door-1").is_ok());
        assert_eq!(CameraId::parse("").unwrap_err(), "must not be empty");
        assert_eq!(CameraId::parse("a/b").unwrap_err(), "must be of A-Z a-z 0-9 _ -, found '/'");
        assert_eq!(CameraId::parse("x".repeat(129)).unwrap_err(), "129 bytes, must be 1 to 128");
    }

    #[test]
    fn generated_event_ids_are_valid_and_grow() {
        let (a, b) = (EventId::generate(), EventId::generate());
        assert!(EventId::parse(a.as_str()).is_ok());
        assert!(a < b);
    }
}
