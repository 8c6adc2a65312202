//! What can be said to the [`OutboxActor`](super::OutboxActor), and what it answers.

use actix::{Message, Recipient};
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::{
    clock::Timestamp,
    connection::{Deliver, PublishState, Subscribe, Travelling},
    event::DetectionEvent,
    ids::{CameraId, EventId, LinkId, Seq},
    status::{FailureKind, Warning},
    stream::Position,
    thumbnails::ThumbnailError,
};

/// What the log says of an event that it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// The event's id: the source's own, or the one made for it.
    pub event_id: EventId,
    /// Its place in the log.
    pub seq: Seq,
    /// Whether the event was in the log already; the receipt is then the first one's.
    pub duplicate: bool,
}

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
    Storage(String),
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

/// Fact from the connection: events can be delivered on this link.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct LinkUp {
    /// Which link.
    pub link: LinkId,
    /// How many unacknowledged events the broker accepts (MQTT 5 Receive Maximum).
    pub receive_maximum: u16,
    /// Whether what is more than that waits in the client.
    pub may_queue: bool,
    /// Takes events to send.
    pub deliver: Recipient<Deliver>,
    /// `host:port` of the broker.
    pub broker: String,
    /// Publishes what is not an event.
    pub publish: Recipient<PublishState>,
    /// Subscribes to a topic.
    pub subscribe: Recipient<Subscribe>,
}

/// Fact from the connection: the link is gone; what was in flight on it is not acknowledged.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct LinkDown {
    /// Which link.
    pub link: LinkId,
    /// Why; `None` when it was closed as asked.
    pub failure: Option<FailureKind>,
    /// The only message that was in flight when the link ended over a protocol error.
    pub alone: Option<Travelling>,
}

/// How the broker answered one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged (QoS 0: handed to the socket).
    Delivered {
        /// The broker said that nobody subscribes to the topic.
        unheard: bool,
    },
    /// Refused for good: sending it again would end the same way.
    Refused(DeadReason),
    /// Refused for now: to be sent again later.
    Deferred {
        /// The broker's reason.
        reason: &'static str,
        /// How often this may happen to one event before it counts as refused for good; `None`: without limit, because
        /// the cause lies in the broker, not in the event.
        attempts: Option<u32>,
    },
}

/// Fact from the connection: answers of the broker, in the order in which they came.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Answered {
    /// On which link.
    pub link: LinkId,
    /// Which event, and how.
    pub outcomes: Vec<(Seq, Outcome)>,
}

/// Why an event will never be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadReason {
    /// The broker does not permit publishing to the topic.
    NotAuthorized,
    /// The broker does not accept the topic.
    TopicNameInvalid,
    /// The broker does not accept the payload.
    PayloadFormatInvalid,
    /// The packet is larger than the broker accepts.
    PacketTooLarge,
    /// It waited longer than `message_expiry_seconds`.
    Expired,
    /// The broker refused it again and again without saying why.
    RefusedRepeatedly,
}

impl DeadReason {
    /// All of them, for whoever reads one back.
    pub const ALL: [Self; 6] = [
        Self::NotAuthorized,
        Self::TopicNameInvalid,
        Self::PayloadFormatInvalid,
        Self::PacketTooLarge,
        Self::Expired,
        Self::RefusedRepeatedly,
    ];

    /// The reason's name in the API, the logs, the metrics and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAuthorized => "not_authorized",
            Self::TopicNameInvalid => "topic_name_invalid",
            Self::PayloadFormatInvalid => "payload_format_invalid",
            Self::PacketTooLarge => "packet_too_large",
            Self::Expired => "expired",
            Self::RefusedRepeatedly => "refused_repeatedly",
        }
    }
}

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

/// Where an event stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// Accepted; not yet acknowledged by the broker.
    #[default]
    Pending,
    /// Acknowledged by the broker.
    Delivered,
    /// Will never be published; `reason` says why.
    Dead,
}

/// What became of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// Where it stands.
    pub state: DeliveryState,
    /// When the broker acknowledged it (to the checkpoint, some 50 ms).
    pub delivered_at: Option<Timestamp>,
    /// Whether it went (or, while pending, would now go) to the `history` topic.
    pub late: bool,
    /// Why it is dead.
    pub reason: Option<String>,
    /// Whether it is dead and somebody has dismissed it: it is not listed or counted as dead any more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dismissed: bool,
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

/// From the HTTP layer: events of the log, newest first.
#[derive(Debug, Clone, Default, Message)]
#[rtype(result = "Result<Vec<EventRecord>, QueryError>")]
pub struct ListEvents {
    /// Only this camera's.
    pub camera_id: Option<CameraId>,
    /// Only those that stand so.
    pub state: Option<DeliveryState>,
    /// Only those before this place.
    pub before: Option<Seq>,
    /// At most so many, 1–500.
    pub limit: u64,
}

/// From the HTTP layer: one event of the log; `None` when there is none (any more).
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Option<EventRecord>, QueryError>")]
pub struct GetEvent(pub EventId);

/// From the streams: what is new in the log.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Result<LogPart, QueryError>")]
pub struct ReadLog {
    /// Events after the one place, up to the other.
    pub events: (Seq, Seq),
    /// What became of events after the one place, up to the other.
    pub noted: (Seq, Seq),
    /// What became of these.
    pub others: Vec<Seq>,
    /// Also what became of those that died or were sent again lately.
    pub afterlife: bool,
}

/// What is new in the log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogPart {
    /// Events, in the order of their places.
    pub events: Vec<EventRecord>,
    /// What became of events, in the order of their places.
    pub changes: Vec<DeliveryChange>,
}

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeliveryChange {
    /// The event.
    pub event_id: EventId,
    /// Its place in the log.
    pub seq: Seq,
    /// The camera that saw it.
    pub camera_id: CameraId,
    /// What became of it.
    pub delivery: Delivery,
}

/// What a person decides about a dead event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is to be sent again.
    Retry,
    /// It is not to be listed any more; it stays dead.
    Dismiss,
}

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

/// A decision that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided {
    /// The event's place.
    pub seq: Seq,
    /// What was decided.
    pub decision: Decision,
    /// Whether it was listed as dead until then.
    pub was_listed: bool,
}

/// Why a decision was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecideError {
    /// No such event, or it is gone.
    #[error("there is no such event (any more)")]
    Unknown,
    /// It waits, or is delivered.
    #[error("the event is not dead: it waits to be sent, or is delivered")]
    NotDead,
    /// As many wait to be sent again as may, or as many decisions are being written.
    #[error("too many dead events are to be sent again already; try again when some of them have been")]
    TooMany,
    /// The database could not keep the decision; nobody knows whether it did.
    #[error("the decision could not be stored: {0}")]
    Storage(String),
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
}

/// The database did not answer. The log says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the database did not answer: {0}")]
pub struct QueryError(pub String);

/// From whoever stops the service: accept nothing more, finish the commit, send nothing new, and answer when everything
/// in flight is acknowledged and noted, or after `patience`.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Drain {
    /// How long to wait for acknowledgements.
    pub patience: std::time::Duration,
}
