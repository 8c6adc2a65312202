//! What became of an event: delivered, dead or still pending, and when it counts as late.

use serde::Serialize;

use crate::domain::{
    clock::Timestamp,
    ids::{CameraId, EventId, Seq},
    settings::MqttSettings,
    store_fault::StoreFault,
};

/// Whether an event that happened at `occurred_at` and was accepted at `received_at` is late at `now`. The earlier of the
/// two counts, so that a clock that is ahead cannot make an old event look new.
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

/// Why an event will never be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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

/// Where an event stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Delivery {
    /// Where it stands.
    pub state: DeliveryState,
    /// When the broker acknowledged it (to the checkpoint, some 50 ms).
    #[cfg_attr(feature = "openapi", schema(required = true, value_type = Option<String>, format = DateTime))]
    pub delivered_at: Option<Timestamp>,
    /// Whether it went (or, while pending, would now go) to the `history` topic.
    pub late: bool,
    /// Why it is dead.
    #[cfg_attr(feature = "openapi", schema(required = true, value_type = Option<DeadReason>))]
    pub reason: Option<String>,
    /// Whether it is dead and somebody has dismissed it: it is not listed or counted as dead any more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dismissed: bool,
}

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeliveryChange {
    /// The event.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub event_id: EventId,
    /// Its place in the log.
    #[cfg_attr(feature = "openapi", schema(value_type = i64, minimum = 1))]
    pub seq: Seq,
    /// The camera that saw it.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
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
    Storage(StoreFault),
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
}

/// A stretch of settled events, from the one after the previous run up to `up_to`, all late or all in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettledRange {
    /// The last event of the run.
    pub up_to: Seq,
    /// Whether they went to `history`.
    pub late: bool,
}

/// An event that was delivered after it had been dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resent {
    /// Which one.
    pub seq: Seq,
    /// Whether it went to `history`.
    pub late: bool,
}
