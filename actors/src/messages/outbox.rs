//! The messages of the [`OutboxActor`](crate::outbox::OutboxActor).

use actix::Message;
use bytes::Bytes;

use crate::{
    domain::{
        clock::Timestamp,
        delivery::{DeadFilter, DecideError, Decided, DecidedAll, Decision, Unwritten},
        event::DetectionEvent,
        event_log::{EventList, EventQuery, EventRecord, LogPart, LogQuery, Position, QueryError, Receipt},
        ids::{EventId, Seq},
        outage::LogExtent,
        status::Warning,
        store_fault::StoreFault,
    },
    messages::thumbnails::ThumbnailError,
};

/// Why an event was not accepted. It can be sent again with the same `event_id` without being duplicated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The maximum number of events is pending (`[outbox] max_pending`).
    #[error("the outbox is full: {pending} events are waiting for the broker (max_pending = {max_pending})")]
    Full {
        /// Number of pending events.
        pending: u64,
        /// Maximum number of pending events.
        max_pending: u64,
    },
    /// The memory for events or pictures that are being written is used up.
    #[error("too many events at once; try again in a second")]
    Busy,
    /// The database could not store the event.
    #[error("the event could not be stored: {0}")]
    Storage(StoreFault),
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// Neither the picture nor the event was accepted. The exception is [`ThumbnailError::Storage`]: the
    /// event may have been stored without its picture; sending it again with the same `event_id` adds the
    /// picture.
    #[error("thumbnail: {0}")]
    Thumbnail(ThumbnailError),
}

/// From classifiers and the HTTP layer: stores this event and publishes it. Returns once the event and its
/// picture are synced to disk, without waiting for the broker. The event is not sent before its picture is
/// available.
#[derive(Debug, Message)]
#[rtype(result = "Result<Receipt, PublishError>")]
pub struct PublishEvent {
    /// The event.
    pub event: DetectionEvent,
    /// Its picture: JPEG, PNG or WebP, at most 2 MiB. If the event was accepted before and has a picture, the
    /// existing picture is kept.
    pub thumbnail: Option<Bytes>,
}

impl PublishEvent {
    /// Creates a message without a picture.
    pub fn new(event: DetectionEvent) -> Self {
        Self { event, thumbnail: None }
    }

    /// Adds a picture.
    #[must_use]
    pub fn with_thumbnail(mut self, image: impl Into<Bytes>) -> Self {
        self.thumbnail = Some(image.into());
        self
    }
}

/// From the HTTP layer: stores and publishes all of these events in this order, with their pictures, or none
/// of them.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Receipt>, PublishError>")]
pub struct PublishBatch(pub Vec<PublishEvent>);

impl PublishBatch {
    /// Creates a message without pictures.
    pub fn new(events: impl IntoIterator<Item = DetectionEvent>) -> Self {
        Self(events.into_iter().map(PublishEvent::new).collect())
    }
}

/// From the HTTP layer, the stream actor and the discovery actor: returns the status of the outbox.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "OutboxStatus")]
pub struct GetOutbox;

/// From the process, which reports to the service manager that it works: returns once the running commit has ended,
/// even if it failed. If the disk hangs, it does not return.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct AwaitCommit;

/// From the replay actor: returns how many pending events have not been sent on this connection.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "u64")]
pub struct CountUnsent;

/// From the history actor: returns how far the log and its delivery have come.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "LogExtent")]
pub struct GetExtent;

/// From the history actor: returns how many events in each of these ranges are neither delivered nor dead. A range
/// excludes its first `seq` and includes its last.
#[derive(Debug, Clone, Message)]
#[rtype(result = "OpenEvents")]
pub struct CountOpen(pub Vec<(Seq, Seq)>);

/// The result of [`CountOpen`].
#[derive(Debug, Clone)]
pub struct OpenEvents {
    /// The number of events of each range, without those that were dead and are sent again.
    pub waiting: Vec<u64>,
    /// What is known of the deliveries and is not in the database yet.
    pub unwritten: Unwritten,
    /// The last event in the log.
    pub last: Seq,
}

/// The status of the outbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboxStatus {
    /// Number of accepted events that are neither delivered nor dead.
    pub pending: u64,
    /// Number of pending events that were sent to the broker and are not yet acknowledged.
    pub in_flight: u64,
    /// Number of dead events that are not dismissed, within the retention period.
    pub dead: u64,
    /// Number of pending events that wait for a subscriber.
    pub held: u64,
    /// In how many seconds nothing is pending any more at the present rate; `None` if that is unknown, or nothing is
    /// pending.
    pub seconds_left: Option<u64>,
    /// When the oldest pending event was accepted.
    pub oldest_pending_at: Option<Timestamp>,
    /// Number of events that the broker has acknowledged since startup.
    pub published: u64,
    /// Number of refusals by the broker since startup.
    pub refused: u64,
    /// Whether the last commit failed. No events are accepted until the database works again.
    pub database_unavailable: bool,
    /// Whether events in the database are damaged or missing.
    pub database_damaged: bool,
    /// Current warnings.
    pub warnings: Vec<Warning>,
    /// The end of the log and of its checkpoints on disk.
    pub position: Position,
}

/// From the HTTP layer: lists events in the log, newest first.
#[derive(Debug, Clone, Default, Message)]
#[rtype(result = "Result<EventList, QueryError>")]
pub struct ListEvents(pub EventQuery);

/// From the HTTP layer: returns one event from the log, or `None` if it does not exist or was removed.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Option<EventRecord>, QueryError>")]
pub struct GetEvent(pub EventId);

/// From the stream actor: reads changes to the log since a position.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Result<LogPart, QueryError>")]
pub struct ReadLog(pub LogQuery);

/// From the HTTP layer: retries or dismisses a dead event. Returns once the decision is synced to disk.
///
/// A retried event is pending again. Retries are sent in order: live ones before new live events, late ones before
/// new late events. An old event is late and is sent to the `history` topic, but `message_expiry_seconds` counts from
/// the decision. A dismissed event can still be retried; dismissing it twice has no effect.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Decided, DecideError>")]
pub struct Decide {
    /// The event.
    pub event_id: EventId,
    /// The decision.
    pub decision: Decision,
}

/// From the HTTP layer: retries or dismisses all dead events that match, oldest first, but at most
/// [`MAX_DECIDED_AT_ONCE`]. Returns once the decisions are synced to disk.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<DecidedAll, DecideError>")]
pub struct DecideAll {
    /// Which events.
    pub filter: DeadFilter,
    /// The decision.
    pub decision: Decision,
}

/// Maximum number of events that one [`DecideAll`] applies to.
pub const MAX_DECIDED_AT_ONCE: u64 = 2000;

/// From the service when it stops: accepts and sends no more events, and finishes the commit. Returns once
/// everything in flight is acknowledged and recorded, or after `timeout`.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Drain {
    /// How long to wait for acknowledgements.
    pub timeout: std::time::Duration,
}
