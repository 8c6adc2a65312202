//! The contents of the event log, and the queries for them.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::domain::{
    clock::Timestamp,
    delivery::{Delivery, DeliveryChange, DeliveryState, EventTimes},
    ids::{CameraId, EventId, Seq},
    search::EventFilter,
    store_fault::StoreFault,
};

/// An event as it is stored in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its seq.
    pub seq: Seq,
    /// The camera that detected it.
    pub camera_id: CameraId,
    /// When it happened and when it was accepted.
    pub times: EventTimes,
    /// The payload, as subscribers receive it.
    pub payload: Bytes,
}

/// A row of the event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogRow {
    /// A readable one.
    Event(StoredEvent),
    /// A damaged one.
    Unreadable(Seq),
}

impl LogRow {
    /// Returns the row's seq.
    pub fn seq(&self) -> Seq {
        match self {
            Self::Event(event) => event.seq,
            Self::Unreadable(seq) => *seq,
        }
    }

    /// Returns the size of the payload.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Event(event) => event.payload.len(),
            Self::Unreadable(_) => 0,
        }
    }
}

/// A contiguous part of the event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// All rows of this part, in order.
    pub rows: Vec<LogRow>,
    /// The last seq of this part, or `None` if it extends to the end of the log.
    pub end: Option<Seq>,
}

/// How large the event log is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogSize {
    /// The number of events; `None` if it cannot be determined quickly, as in the first minutes after an upgrade.
    pub events: Option<u64>,
    /// When the oldest event was accepted; `None` if there is no event.
    pub oldest: Option<Timestamp>,
}

/// Positions that were given to events that are not in the log, because the database is older than the one that was
/// used last. Nothing is pending there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeqGap {
    /// The first of them.
    pub first: Seq,
    /// The last of them.
    pub last: Seq,
}

impl SeqGap {
    /// Returns the number of positions.
    pub fn events(self) -> u64 {
        self.last.since(self.first.previous())
    }
}

/// The confirmation that an event is in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Receipt {
    /// The event's id, from the source or generated.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub event_id: EventId,
    /// Its seq.
    #[cfg_attr(feature = "openapi", schema(value_type = i64, minimum = 1))]
    pub seq: Seq,
    /// Whether the event was already in the log. If so, `seq` is that of the first one.
    pub duplicate: bool,
}

/// The payload of an event, as subscribers receive it: the text of a JSON object. It is serialized with the same fields
/// in the same order, and with their values as they are written. If the text is damaged, it is serialized without
/// fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPayload(pub Bytes);

impl Serialize for StoredPayload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Fields(fields) = serde_json::from_slice(&self.0).unwrap_or_default();
        serializer.collect_map(fields)
    }
}

/// The fields of an object in their order.
#[derive(Default)]
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = object.next_entry()? {
            fields.push(field);
        }
        Ok(Fields(fields))
    }
}

/// An event in the log, with its delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRecord {
    /// Its seq.
    pub seq: Seq,
    /// The camera that detected it.
    pub camera_id: CameraId,
    /// When it was accepted.
    pub received_at: Timestamp,
    /// The payload, as subscribers receive it.
    pub payload: StoredPayload,
    /// Its delivery.
    pub delivery: Delivery,
}

/// New contents of the log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogPart {
    /// Events, in order.
    pub events: Vec<EventRecord>,
    /// Changed deliveries, in the order of their events.
    pub changes: Vec<DeliveryChange>,
}

impl LogPart {
    /// Returns about how much memory this takes, in bytes.
    pub fn approximate_bytes(&self) -> usize {
        let events: usize = self.events.iter().map(|event| event.payload.0.len()).sum();
        events + size_of::<EventRecord>() * self.events.len() + 256 * self.changes.len()
    }
}

/// The database could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the database could not be read: {0}")]
pub struct QueryError(pub StoreFault);

/// A position in the log, from which a client can resume a stream. Its text form is `seq-checkpoint`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// The client has the events up to this one.
    pub seq: Seq,
    /// The client has the deliveries of the events up to this one.
    pub checkpoint: Seq,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.seq, self.checkpoint)
    }
}

/// The string is not a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be the id of a message of this stream")]
pub struct InvalidPosition;

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (seq, checkpoint) = text.split_once('-').ok_or(InvalidPosition)?;
        let parse = |digits: &str| {
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse().ok().filter(|_| plain).map(Seq).ok_or(InvalidPosition)
        };
        Ok(Self { seq: parse(seq)?, checkpoint: parse(checkpoint)? })
    }
}

/// A query for events in the log, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Only events that match this filter.
    pub filter: EventFilter,
    /// Only events in this delivery state.
    pub state: Option<DeliveryState>,
    /// Only events with a lower `seq`.
    pub before: Option<Seq>,
    /// Maximum number of events, 1–500.
    pub limit: u64,
}

/// The result of an [`EventQuery`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventList {
    /// Events, newest first. They can be fewer than the limit, or none, although there are more.
    pub events: Vec<EventRecord>,
    /// The `before` with which the query goes on; `None` if no older event matches.
    pub next_before: Option<Seq>,
}

/// A query for new contents of the log. Each range excludes its first `seq` and includes its last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogQuery {
    /// Events in this range.
    pub events: (Seq, Seq),
    /// Deliveries of the events that the checkpoint has passed, in this range.
    pub checkpoint: (Seq, Seq),
    /// Deliveries of these events.
    pub others: Vec<Seq>,
    /// Whether to include the deliveries of events that recently died or were retried.
    pub dead_and_retrying: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serialized(text: &'static str) -> String {
        serde_json::to_string(&StoredPayload(Bytes::from_static(text.as_bytes()))).unwrap()
    }

    #[test]
    fn a_payload_is_serialized_as_it_is_written() {
        let text = r#"{"z":1.50,"a":[{"y":1E2,"b":"\u00e4/\/"}],"m":12345678901234567890123,"ä \"":null}"#;
        assert_eq!(serialized(text), text);
    }

    #[test]
    fn a_damaged_payload_has_no_fields() {
        for text in ["", "null", "7", "\"text\"", "[]", r#"{"a":1"#, r#"{"a":1} x"#] {
            assert_eq!(serialized(text), "{}", "{text}");
        }
    }
}
