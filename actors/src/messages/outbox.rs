//! What can be said to the [`OutboxActor`](super::OutboxActor), and what it answers.

use actix::Message;
use bytes::Bytes;

use crate::{
    domain::{
        clock::Timestamp,
        delivery::{DecideError, Decided, Decision},
        event::DetectionEvent,
        event_log::{EventQuery, EventRecord, LogPart, LogQuery, Position, QueryError, Receipt},
        ids::EventId,
        status::Warning,
        store_fault::StoreFault,
    },
    messages::thumbnails::ThumbnailError,
};

/// Why an event was not accepted. Send it again with the same `event_id`, it cannot double.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// As many events wait as may (`[outbox] max_pending`).
    #[error("the outbox is full: {pending} events wait for the broker (max_pending = {max_pending})")]
    Full {
        /// How many wait.
        pending: u64,
        /// How many may.
        max_pending: u64,
    },
    /// More events or pictures are being written at this moment than memory is set aside for.
    #[error("too many events at once; try again in a second")]
    Busy,
    /// The database could not keep the event: disk full, locked, damaged. The log says which.
    #[error("the event could not be stored: {0}")]
    Storage(StoreFault),
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// The picture was not accepted. One that is too large or none at all is refused before anything is kept; otherwise
    /// the event is kept and its picture is not, until the event comes again with the same `event_id`.
    #[error("thumbnail: {0}")]
    Thumbnail(ThumbnailError),
}

/// From classifiers and the HTTP layer: keep this event and publish it. Answered when it, and the picture that comes with
/// it, are synced to disk; the answer does not wait for the broker. The event leaves as soon as it is committed, so that a
/// subscriber may ask for the picture some milliseconds before it is there.
#[derive(Debug, Message)]
#[rtype(result = "Result<Receipt, PublishError>")]
pub struct PublishEvent {
    /// The event.
    pub event: DetectionEvent,
    /// Its picture: JPEG, PNG or WebP, at most 2 MiB. Where the event was accepted before and has a picture, that one stays.
    pub thumbnail: Option<Bytes>,
}

impl PublishEvent {
    /// An event without a picture.
    pub fn new(event: DetectionEvent) -> Self {
        Self { event, thumbnail: None }
    }

    /// The event with its picture.
    #[must_use]
    pub fn with_thumbnail(mut self, image: impl Into<Bytes>) -> Self {
        self.thumbnail = Some(image.into());
        self
    }
}

/// From the HTTP layer: keep all of these events, in this order, or none.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Receipt>, PublishError>")]
pub struct PublishBatch(pub Vec<DetectionEvent>);

/// From the HTTP layer: how does the log stand?
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "OutboxStatus")]
pub struct GetOutbox;

/// How the log stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboxStatus {
    /// Events that are accepted and neither delivered nor dead.
    pub pending: u64,
    /// Those of them that are on their way to the broker.
    pub in_flight: u64,
    /// Events that will never be published and that nobody has dismissed, within the retention.
    pub dead: u64,
    /// When the oldest pending event was accepted.
    pub oldest_pending_at: Option<Timestamp>,
    /// Events that the broker has acknowledged since the start.
    pub published: u64,
    /// Answers of the broker that were refusals, since the start.
    pub refused: u64,
    /// Whether the newest commit failed, and no event is accepted until the database works again.
    pub database_is_away: bool,
    /// What is not as it should be.
    pub warnings: Vec<Warning>,
    /// How far the log goes, on disk.
    pub position: Position,
}

/// From the HTTP layer: lists events of the log, newest first.
#[derive(Debug, Clone, Default, Message)]
#[rtype(result = "Result<Vec<EventRecord>, QueryError>")]
pub struct ListEvents(pub EventQuery);

/// From the HTTP layer: one event of the log; `None` when there is none (any more).
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Option<EventRecord>, QueryError>")]
pub struct GetEvent(pub EventId);

/// From the stream actor: reads what is new in the log.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Result<LogPart, QueryError>")]
pub struct ReadLog(pub LogQuery);

/// From the HTTP layer: do this with a dead event. Answered when it is synced to disk.
///
/// An event that is to be sent again waits from then on as others do, and leaves before those that were never sent, in the
/// order of their places. It is late as any other would be, so that an old one goes to `history`; `message_expiry_seconds`
/// counts from the decision. What was dismissed can still be sent again; dismissing it twice changes nothing.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Decided, DecideError>")]
pub struct Decide {
    /// Which event.
    pub event_id: EventId,
    /// What.
    pub decision: Decision,
}

/// From whoever stops the service: accept nothing more, finish the commit, send nothing new, and answer when everything
/// in flight is acknowledged and noted, or after `patience`.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Drain {
    /// How long to wait for acknowledgements.
    pub patience: std::time::Duration,
}
