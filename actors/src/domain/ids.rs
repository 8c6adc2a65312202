//! The ids of cameras, events and connections, and the position of an event in the event log.

use std::fmt;

use serde::Serialize;

use crate::domain::fields::bytes_within;

/// A camera's id: 1–128 characters of `A-Z a-z 0-9 _ -`, so that it can be part of a topic and of a Home
/// Assistant unique id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct CameraId(String);

impl CameraId {
    /// Parses an id. The error describes what is wrong with it.
    pub fn parse(text: impl Into<String>) -> Result<Self, String> {
        let text = bytes_within(text.into(), 1, 128)?;
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))) {
            Some(c) => Err(format!("may contain only A-Z a-z 0-9 _ -, found {c:?}")),
            None => Ok(Self(text)),
        }
    }

    /// Returns the id as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CameraId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An event's id: 1–128 characters of `A-Z a-z 0-9 _ - . :`. An id is accepted once. If it is sent again, the
/// sender gets the first receipt again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct EventId(String);

impl EventId {
    /// Parses an id that a source generated. The error describes what is wrong with it.
    pub fn parse(text: impl Into<String>) -> Result<Self, String> {
        let text = bytes_within(text.into(), 1, 128)?;
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':'))) {
            Some(c) => Err(format!("may contain only A-Z a-z 0-9 _ - . :, found {c:?}")),
            None => Ok(Self(text)),
        }
    }

    /// Like [`parse`](Self::parse), for a new event: refuses `.` and `..` too. In a URL, these mean the current
    /// and the parent path, so that nobody could ask for such an event.
    pub fn parse_new(text: impl Into<String>) -> Result<Self, String> {
        let id = Self::parse(text)?;
        if matches!(id.as_str(), "." | "..") { Err("must not be . or ..".to_owned()) } else { Ok(id) }
    }

    /// Generates an id: a `UUIDv7`. These increase with time, which makes insertions into the index cheap.
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }

    /// Returns the id as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The position of an event in the event log. Positions start at 1, increase in the order in which the events
/// were accepted, and are never reused. There are gaps only where a database was replaced: by a backup, or by
/// an older or empty database. Subscribers use the position to restore the order and to detect duplicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct Seq(pub i64);

impl Seq {
    /// Returns the position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Returns the position before this one.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0 - 1)
    }

    /// Returns the number of positions after `earlier`, up to and including this one; 0 if `earlier` is not
    /// earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a connection. Each connection has its own, so that messages from an earlier connection are
/// not mistaken for those of the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LinkId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn camera_ids_are_safe_in_topics() {
        assert!(CameraId::parse("front_door-1").is_ok());
        assert_eq!(CameraId::parse("").unwrap_err(), "must not be empty");
        assert_eq!(CameraId::parse("a/b").unwrap_err(), "may contain only A-Z a-z 0-9 _ -, found '/'");
        assert_eq!(CameraId::parse("x".repeat(129)).unwrap_err(), "129 bytes, must be 1 to 128");
    }

    #[test]
    fn generated_event_ids_are_valid_and_increase() {
        let (a, b) = (EventId::generate(), EventId::generate());
        assert!(EventId::parse(a.as_str()).is_ok());
        assert!(a < b);
    }

    #[test]
    fn positions_are_counted_since_an_earlier_one() {
        assert_eq!(Seq(7).since(Seq(3)), 4);
        assert_eq!(Seq(3).since(Seq(3)), 0);
        assert_eq!(Seq(3).since(Seq(7)), 0);
    }
}
