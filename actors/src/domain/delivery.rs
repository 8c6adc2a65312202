//! The delivery state of an event: pending, delivered or dead; and when an event is late.

use serde::Serialize;

use crate::domain::{
    clock::Timestamp,
    ids::{CameraId, EventId, Seq},
    settings::MqttSettings,
    store_fault::StoreFault,
};

/// Returns whether an event that happened at `occurred_at` and was accepted at `received_at` is late at
/// `now`. The earlier of the two decides, so that a source whose clock is ahead cannot make an old event look
/// new.
pub fn is_late(
    settings: &MqttSettings,
    occurred_at: Timestamp,
    received_at: Timestamp,
    now: Timestamp,
) -> bool {
    let happened = occurred_at.min(received_at);
    settings.late_after_seconds != 0
        && (now - happened).num_milliseconds() > i64::from(settings.late_after_seconds) * 1000
}

/// The broker's response to an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged; with QoS 0, written to the socket.
    Delivered {
        /// Whether the broker reported that nobody subscribes to the topic.
        unheard: bool,
    },
    /// Refused permanently: sending it again would have the same result.
    Refused(DeadReason),
    /// Refused temporarily: it is sent again later.
    Deferred {
        /// The broker's reason.
        reason: &'static str,
        /// How many times this may happen to an event before it counts as permanently refused. `None` means
        /// no limit, because the cause is the broker and not the event.
        attempts: Option<u32>,
    },
    /// Not sent: it waited too long for its turn on this link, or a message before it was deferred. It is
    /// planned again.
    Returned,
}

/// Why an event will never be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeadReason {
    /// The broker does not allow publishing to the topic.
    NotAuthorized,
    /// The broker does not accept the topic.
    TopicNameInvalid,
    /// The broker does not accept the payload.
    PayloadFormatInvalid,
    /// The packet is larger than the broker allows.
    PacketTooLarge,
    /// It waited longer than `message_expiry_seconds`.
    Expired,
    /// The broker refused it repeatedly without a clear reason.
    RefusedRepeatedly,
    /// The broker ends the connection over it.
    ConnectionClosedByBroker,
    /// The broker acknowledges other events but not this one.
    IgnoredByBroker,
}

impl DeadReason {
    /// All reasons, for parsing.
    pub const ALL: [Self; 8] = [
        Self::NotAuthorized,
        Self::TopicNameInvalid,
        Self::PayloadFormatInvalid,
        Self::PacketTooLarge,
        Self::Expired,
        Self::RefusedRepeatedly,
        Self::ConnectionClosedByBroker,
        Self::IgnoredByBroker,
    ];

    /// Returns the name that is used in the API, the log, the metrics and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAuthorized => "not_authorized",
            Self::TopicNameInvalid => "topic_name_invalid",
            Self::PayloadFormatInvalid => "payload_format_invalid",
            Self::PacketTooLarge => "packet_too_large",
            Self::Expired => "expired",
            Self::RefusedRepeatedly => "refused_repeatedly",
            Self::ConnectionClosedByBroker => "connection_closed_by_broker",
            Self::IgnoredByBroker => "ignored_by_broker",
        }
    }
}

/// The delivery state of an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// Accepted; not yet acknowledged by the broker.
    #[default]
    Pending,
    /// Acknowledged by the broker.
    Delivered,
    /// Will never be published; see `reason`.
    Dead,
}

/// An event's delivery.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Delivery {
    /// Its state.
    pub state: DeliveryState,
    /// When the broker acknowledged it, accurate to about 50 ms (the time of the checkpoint).
    #[cfg_attr(feature = "openapi", schema(required = true, value_type = Option<String>, format = DateTime))]
    pub delivered_at: Option<Timestamp>,
    /// Whether it was published to the `history` topic or, while it is pending, would be published there now.
    pub late: bool,
    /// Why it is dead.
    #[cfg_attr(feature = "openapi", schema(required = true, value_type = Option<DeadReason>))]
    pub reason: Option<String>,
    /// Whether it is dead and was dismissed, so that it is no longer listed or counted as dead.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dismissed: bool,
}

/// A change to an event's delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeliveryChange {
    /// The event.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub event_id: EventId,
    /// Its seq.
    #[cfg_attr(feature = "openapi", schema(value_type = i64, minimum = 1))]
    pub seq: Seq,
    /// The camera that it came from.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub camera_id: CameraId,
    /// Its delivery after the change.
    pub delivery: Delivery,
}

/// A user's decision about a dead event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Send it again.
    Retry,
    /// Stop listing it. It remains dead.
    Dismiss,
}

/// A decision that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided {
    /// The event.
    pub seq: Seq,
    /// The decision.
    pub decision: Decision,
    /// Whether the event was listed as dead before.
    pub was_listed: bool,
}

/// Why a decision was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecideError {
    /// The event does not exist, or no longer exists.
    #[error("there is no such event, or it has been removed")]
    Unknown,
    /// The event is pending or delivered.
    #[error("the event is not dead: it is waiting to be sent, or is delivered")]
    NotDead,
    /// Too many retries are waiting, or too many decisions are being written.
    #[error("too many dead events are waiting to be sent again; try again when some of them have been sent")]
    TooMany,
    /// The database failed; the decision may or may not be stored.
    #[error("the decision could not be stored: {0}")]
    Storage(StoreFault),
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
}

/// A range of settled events, from the end of the previous range up to `up_to`. Either all of them or none of
/// them were late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettledRange {
    /// The last event of the range.
    pub up_to: Seq,
    /// Whether they were published to the `history` topic.
    pub late: bool,
}

/// A dead event that was delivered after a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resent {
    /// The event.
    pub seq: Seq,
    /// Whether it was published to the `history` topic.
    pub late: bool,
}
