//! What the event log holds of an event, and how it is queried.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::domain::{
    clock::Timestamp,
    delivery::{Delivery, DeliveryChange, DeliveryState},
    ids::{CameraId, EventId, Seq},
    store_fault::StoreFault,
};

/// An event as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place.
    pub seq: Seq,
    /// Whose it is.
    pub camera_id: CameraId,
    /// When it happened, as its source says.
    pub occurred_at: Timestamp,
    /// When it was accepted.
    pub received_at: Timestamp,
    /// What subscribers get.
    pub payload: Bytes,
}

/// What the log says of an event that it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Receipt {
    /// The event's id: the source's own, or the one made for it.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub event_id: EventId,
    /// Its place in the log.
    #[cfg_attr(feature = "openapi", schema(value_type = i64, minimum = 1))]
    pub seq: Seq,
    /// Whether the event was in the log already; the receipt is then the first one's.
    pub duplicate: bool,
}

/// One event of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRecord {
    /// Its place in the log.
    pub seq: Seq,
    /// The camera that saw it.
    pub camera_id: CameraId,
    /// When it was accepted.
    pub received_at: Timestamp,
    /// The payload, as subscribers get it.
    pub payload: Value,
    /// What became of it.
    pub delivery: Delivery,
}

/// What is new in the log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogPart {
    /// Events, in the order of their places.
    pub events: Vec<EventRecord>,
    /// What became of events, in the order of their places.
    pub changes: Vec<DeliveryChange>,
}

/// The database could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the database could not be read: {0}")]
pub struct QueryError(pub StoreFault);

/// How far a stream has told of the log: whoever comes back with it is told the rest. As text: `seq-noted`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// Events up to this place.
    pub seq: Seq,
    /// Deliveries up to this place.
    pub noted: Seq,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.seq, self.noted)
    }
}

/// The text is no position that a stream has told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be the id of a message of this stream")]
pub struct NoPosition;

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let (seq, noted) = text.split_once('-').ok_or(NoPosition)?;
        let place = |digits: &str| {
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse().ok().filter(|_| plain).map(Seq).ok_or(NoPosition)
        };
        Ok(Self { seq: place(seq)?, noted: place(noted)? })
    }
}

/// Selects events of the log, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Only events of this camera.
    pub camera_id: Option<CameraId>,
    /// Only events in this delivery state.
    pub state: Option<DeliveryState>,
    /// Only events with a lower `seq`.
    pub before: Option<Seq>,
    /// Maximum number of events, 1–500.
    pub limit: u64,
}

/// Selects what is new in the log. Each range excludes its first `seq` and includes its last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogQuery {
    /// Events in this range.
    pub events: (Seq, Seq),
    /// Deliveries of events in this range.
    pub noted: (Seq, Seq),
    /// Deliveries of these events.
    pub others: Vec<Seq>,
    /// Also deliveries of events that died or were sent again recently.
    pub afterlife: bool,
}
