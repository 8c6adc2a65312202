//! The delivery state of an event: pending, delivered or dead; and when an event is late.

use std::time::Duration;

use chrono::TimeDelta;
use serde::Serialize;

use crate::domain::{
    clock::{LogTime, Moment, Timestamp},
    ids::{CameraId, EventId, Seq},
    settings::MqttSettings,
    store_fault::StoreFault,
};

/// When an event happened and when it was accepted. The age of an event on arrival is the difference of two
/// readings of the wall clock at the same moment; from then on, its age is measured in log time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTimes {
    /// When it happened, according to the source.
    pub occurred_at: Timestamp,
    /// When it was accepted, according to the wall clock.
    pub received_at: Timestamp,
    /// The log time at which it was accepted.
    pub accepted: LogTime,
}

impl EventTimes {
    /// Returns the times of an event that is accepted at `now`.
    pub fn new(occurred_at: Timestamp, now: Moment) -> Self {
        Self { occurred_at, received_at: now.wall, accepted: now.log }
    }

    /// Returns how old the event was when it was accepted. Zero if the source's clock is ahead, so that it
    /// cannot make an old event look new.
    pub fn age_on_arrival(&self) -> TimeDelta {
        (self.received_at - self.occurred_at).max(TimeDelta::zero())
    }

    /// Returns the log time at which the event happened.
    pub fn happened(&self) -> LogTime {
        self.accepted.before(self.age_on_arrival())
    }
}

/// Returns whether an event is late at `now`. An event of unknown age is late.
pub fn is_late(settings: &MqttSettings, event: EventTimes, now: Moment) -> bool {
    is_late_after(settings.late_after_seconds, event, now)
}

/// Like [`is_late`], with this value of the setting `late_after_seconds`.
pub fn is_late_after(late_after_seconds: u32, event: EventTimes, now: Moment) -> bool {
    let limit = Duration::from_secs(late_after_seconds.into());
    let age_on_arrival = event.age_on_arrival().to_std().unwrap_or_default();
    let is_in_time = |waited: Duration| waited + age_on_arrival <= limit;
    !limit.is_zero() && !now.age(event.accepted).is_some_and(is_in_time)
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

/// The reasons for which a broker may refuse an event temporarily.
pub const DEFERRAL_REASONS: [&str; 4] =
    ["quota_exceeded", "packet_identifier_in_use", "unspecified_error", "implementation_specific_error"];

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
    /// Its row in the database is damaged.
    Unreadable,
}

impl DeadReason {
    /// All reasons, for parsing.
    pub const ALL: [Self; 9] = [
        Self::NotAuthorized,
        Self::TopicNameInvalid,
        Self::PayloadFormatInvalid,
        Self::PacketTooLarge,
        Self::Expired,
        Self::RefusedRepeatedly,
        Self::ConnectionClosedByBroker,
        Self::IgnoredByBroker,
        Self::Unreadable,
    ];

    /// Parses the name of a reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|reason| reason.as_str()).collect();
            format!("must be one of {}", names.join(", "))
        })
    }

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
            Self::Unreadable => "unreadable",
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
    /// Whether at least one subscriber matched when the broker acknowledged it. `null` while it is not
    /// delivered, and if the broker does not report this: only MQTT 5 brokers do, with QoS 1 and 2.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub heard: Option<bool>,
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

/// Selects dead events that are not dismissed. Each condition that is present must be met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadFilter {
    /// The camera that they came from.
    pub camera_id: Option<CameraId>,
    /// Why they are dead.
    pub reason: Option<DeadReason>,
    /// The position before which they are.
    pub before: Option<Seq>,
}

/// The result of a decision about several dead events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DecidedAll {
    /// The number of events for which the decision was carried out.
    pub events: u64,
    /// Whether these were all events that match. If not, send the request again.
    pub complete: bool,
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

/// A range of settled events, from the end of the previous range up to `up_to`. `late` and `heard` are the same
/// for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettledRange {
    /// The last event of the range.
    pub up_to: Seq,
    /// Whether they were published to the `history` topic.
    pub late: bool,
    /// Whether they had a subscriber; `None` if that is not known.
    pub heard: Option<bool>,
}

impl SettledRange {
    /// Returns whether the events of both ranges were settled in the same way.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.late, self.heard) == (other.late, other.heard)
    }
}

/// A dead event that was delivered after a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resent {
    /// The event.
    pub seq: Seq,
    /// Whether it was published to the `history` topic.
    pub late: bool,
    /// Whether it had a subscriber; `None` if that is not known.
    pub heard: Option<bool>,
}
