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

/// Why an event is dead: it is not published unless it is sent again.
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
    /// Not published unless it is sent again; see `reason`.
    Dead,
}

/// An event's delivery.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Delivery {
    /// Its state.
    pub state: DeliveryState,
    /// When the broker acknowledged it. Up to 10 ms too late if it acknowledged other events right after it.
    #[cfg_attr(feature = "openapi", schema(required = true, value_type = Option<String>, format = DateTime))]
    pub delivered_at: Option<Timestamp>,
    /// Whether it was published to the `history` topic or, while it is pending, would be published there now.
    pub late: bool,
    /// Whether at least one subscriber matched when the broker acknowledged it. `null` while it is not
    /// delivered, and if the broker cannot report this: only MQTT 5 brokers can, with QoS 1 and 2. They need not;
    /// an event counts as heard unless the broker reports that it had no subscriber.
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
    /// The position after which they are.
    pub after: Option<Seq>,
}

/// The result of a decision about several dead events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DecidedAll {
    /// The number of events for which the decision was carried out.
    pub events: u64,
    /// Whether these were all events that match. If not, send the request again with `next_after`.
    pub complete: bool,
    /// The parameter `after` of the next request; `null` if `complete`. Later events match, and those that failed
    /// again in the meantime are not decided again.
    #[cfg_attr(feature = "openapi", schema(required = true, value_type = Option<i64>, minimum = 1))]
    pub next_after: Option<Seq>,
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

/// How an event was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// When the broker acknowledged it, or when it died.
    pub at: Moment,
    /// Whether it was published to the `history` topic.
    pub late: bool,
    /// Whether it had a subscriber; `None` if that is not known.
    pub heard: Option<bool>,
}

impl Settlement {
    /// Returns the settlement of an event that was not published.
    pub fn unpublished(at: Moment) -> Self {
        Self { at, late: false, heard: None }
    }

    /// Returns whether two events that were settled like this can share a range: they were settled in the same way
    /// and, unless `at_any_time` is set, at about the same time.
    fn joins(self, other: Self, at_any_time: bool) -> bool {
        let slot = |settlement: Self| settlement.at.log.0.div_euclid(SAME_TIME);
        (self.late, self.heard) == (other.late, other.heard) && (at_any_time || slot(self) == slot(other))
    }
}

/// Acknowledgements within the same 10 ms, in microseconds, share a range and its time.
const SAME_TIME: i64 = 10_000;

/// A range of settled events, from the end of the previous range up to `up_to`. They were settled in the same
/// way, and less than 10 ms before the range's time, but never after it: an event that is acknowledged alone has
/// its exact time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettledRange {
    /// The last event of the range.
    pub up_to: Seq,
    /// How the events were settled. The time is that of the latest of them.
    pub settlement: Settlement,
}

impl SettledRange {
    /// Adds a range to those before it. It is merged with the last one if their events were settled in the same
    /// way and at about the same time. If there are already `max_ranges`, the time does not matter.
    pub fn append(self, ranges: &mut Vec<Self>, max_ranges: usize) {
        let is_full = ranges.len() >= max_ranges;
        match ranges.last_mut() {
            Some(last) if last.settlement.joins(self.settlement, is_full) => {
                last.up_to = self.up_to;
                last.settlement.at = last.settlement.at.later(self.settlement.at);
            }
            _ => ranges.push(self),
        }
    }
}

/// A range of events that were delivered ahead of the cursor, which has not reached them yet. Their times are as
/// exact as those of a [`SettledRange`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettledAhead {
    /// The first event of the range.
    pub first: Seq,
    /// The last event of the range.
    pub last: Seq,
    /// How the events were settled. The time is that of the latest of them.
    pub settlement: Settlement,
}

impl SettledAhead {
    /// Returns whether the event is in this range.
    pub fn contains(&self, seq: Seq) -> bool {
        (self.first..=self.last).contains(&seq)
    }

    /// Adds a range to those before it. It is merged with the last one if it follows it, and their events were
    /// settled in the same way and at about the same time. If there are already `max_ranges`, the time does not
    /// matter.
    pub fn append(self, ranges: &mut Vec<Self>, max_ranges: usize) {
        let is_full = ranges.len() >= max_ranges;
        match ranges.last_mut() {
            Some(last)
                if last.last.next() == self.first && last.settlement.joins(self.settlement, is_full) =>
            {
                last.last = self.last;
                last.settlement.at = last.settlement.at.later(self.settlement.at);
            }
            _ => ranges.push(self),
        }
    }
}

/// The deliveries that are known but not yet in the database.
#[derive(Debug, Clone, Default)]
pub struct Unwritten {
    /// Every event up to this one is settled.
    pub cursor: Seq,
    /// The ranges up to the cursor, in order.
    pub ranges: Vec<SettledRange>,
    /// The settled events above the cursor, in order.
    pub above: Vec<(Seq, Settlement)>,
    /// The ranges of those that are being written.
    pub ahead: Vec<SettledAhead>,
    /// The events that died, and why.
    pub dead: Vec<(Seq, DeadReason)>,
    /// The dead events that were delivered after a retry.
    pub resent: Vec<Resent>,
}

impl Unwritten {
    /// Returns the delivery of an event that is pending according to the database, or `None` if it is in fact
    /// still pending. `again` is whether it is waiting for a retry.
    pub fn delivery(&self, seq: Seq, again: bool) -> Option<Delivery> {
        if let Some((_, reason)) = self.dead.iter().rfind(|(dead, _)| *dead == seq) {
            let reason = Some(reason.as_str().to_owned());
            return Some(Delivery { state: DeliveryState::Dead, reason, ..Delivery::default() });
        }
        let Settlement { at, late, heard } = if again {
            self.resent.iter().rfind(|resent| resent.seq == seq)?.settlement
        } else if let Some(range) = self.ahead.iter().rfind(|range| range.contains(seq)) {
            range.settlement
        } else if seq <= self.cursor {
            let range = self.ranges.partition_point(|range| range.up_to < seq);
            self.ranges.get(range)?.settlement
        } else {
            let place = self.above.binary_search_by_key(&seq, |(seq, _)| *seq).ok()?;
            self.above.get(place)?.1
        };
        let delivered_at = Some(at.wall);
        Some(Delivery { state: DeliveryState::Delivered, delivered_at, late, heard, ..Delivery::default() })
    }
}

/// A dead event that was delivered after a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resent {
    /// The event.
    pub seq: Seq,
    /// How it was settled.
    pub settlement: Settlement,
}
