//! Replays: sending events of the log again, never to a topic for live events.

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::domain::{
    clock::{self, Timestamp},
    fields::{Fields, Invalid},
    ids::{CameraId, Seq},
    settings::MqttSettings,
    topic,
};

/// Maximum number of replays that are not finished. One is sent at a time; the others are queued.
pub const MAX_ACTIVE: usize = 8;

/// Maximum number of finished replays that are kept. The oldest ones are removed.
pub const MAX_FINISHED: usize = 20;

/// The default of `max_per_second`.
pub const DEFAULT_RATE: u16 = 50;

/// The maximum of `max_per_second`.
pub const MAX_RATE: u16 = 1000;

/// Maximum length of a topic, in bytes.
const MAX_TOPIC_BYTES: usize = 255;

/// The name of [`ReplayTopic::History`].
const HISTORY: &str = "history";

/// The topic of the messages of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayTopic {
    /// The `history` topic of each event's camera.
    History,
    /// This topic, for all of them.
    Own(String),
}

impl ReplayTopic {
    /// Returns its name: `history` or the topic.
    pub fn as_str(&self) -> &str {
        match self {
            Self::History => HISTORY,
            Self::Own(topic) => topic,
        }
    }

    /// Returns the topic with this name, without checking it.
    pub fn named(name: String) -> Self {
        if name == HISTORY { Self::History } else { Self::Own(name) }
    }

    /// Checks the name of a topic. The error describes why it cannot be used.
    pub fn parse(name: String, settings: &MqttSettings) -> Result<Self, String> {
        let topic = topic::topic_name(name, MAX_TOPIC_BYTES)?;
        if topic.starts_with('/') || topic.ends_with('/') {
            return Err("must not start or end with /".to_owned());
        }
        let topic = Self::named(topic);
        topic.check(settings)?;
        Ok(topic)
    }

    /// Checks that the service neither publishes to the topic nor subscribes to it with these settings, apart from
    /// `history`.
    pub fn check(&self, settings: &MqttSettings) -> Result<(), String> {
        let Self::Own(topic) = self else { return Ok(()) };
        let prefix = &settings.topic_prefix;
        let below = |prefix: &str| topic.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/'));
        let of_camera = below(prefix.as_str()).and_then(|rest| rest.strip_prefix("camera"));
        if of_camera.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            && !is_history(topic, settings)
        {
            return Err(format!(
                "the topics below {prefix}/camera are those of live events and states; use \"history\" or a topic \
                 of your own"
            ));
        }
        if [prefix.status(), prefix.outbox(), prefix.test(), settings.availability_topic()].contains(topic) {
            return Err("the service publishes its own state to this topic; use another one".to_owned());
        }
        let discovery = settings.discovery_prefix.as_str();
        if topic == discovery || below(discovery).is_some() {
            return Err(format!(
                "the topics below {discovery} are those of Home Assistant's discovery; use another one"
            ));
        }
        Ok(())
    }

    /// Returns the topic for an event of this camera.
    pub fn for_camera(&self, camera: &CameraId, settings: &MqttSettings) -> String {
        match self {
            Self::History => settings.topic_prefix.history(camera),
            Self::Own(topic) => topic.clone(),
        }
    }
}

fn is_history(topic: &str, settings: &MqttSettings) -> bool {
    let camera = topic.strip_prefix(&format!("{}/camera/", settings.topic_prefix));
    let camera = camera.and_then(|rest| rest.strip_suffix("/history"));
    camera.is_some_and(|camera| CameraId::parse(camera).is_ok())
}

impl Serialize for ReplayTopic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Which events to send again, to which topic, and how fast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReplayRequest {
    /// Events whose `timestamp` is at or after this time.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub from: Timestamp,
    /// Events whose `timestamp` is before this time.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub to: Timestamp,
    /// Only events of this camera; all cameras if it is null.
    #[cfg_attr(feature = "openapi", schema(required = true, value_type = Option<String>))]
    pub camera_id: Option<CameraId>,
    /// `history` for the `history` topic of each camera, or another topic.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub topic: ReplayTopic,
    /// How many messages to send in a second at most.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1000))]
    pub max_per_second: u16,
}

impl ReplayRequest {
    /// Reads a request. Only `from` is required; `to` is `now` by default. Returns all faults.
    pub fn from_json(value: Value, settings: &MqttSettings, now: Timestamp) -> Result<Self, Invalid> {
        let mut fields = Fields::of(value)?;
        let given_from = fields.text("from");
        if given_from.is_none() && !fields.faults.has("from") {
            fields.faults.push("from", "is required");
        }
        let from = given_from.and_then(|text| fields.faults.check("from", time(&text)));
        let to = match fields.text("to") {
            Some(text) => fields.faults.check("to", time(&text)),
            None => Some(now),
        };
        let camera_id = fields.text("camera_id");
        let camera_id = camera_id.and_then(|id| fields.faults.check("camera_id", CameraId::parse(id)));
        let topic = match fields.text("topic") {
            Some(name) => fields.faults.check("topic", ReplayTopic::parse(name, settings)),
            None => Some(ReplayTopic::History),
        };
        let rate = fields.integer("max_per_second", 1, MAX_RATE.into()).unwrap_or(DEFAULT_RATE.into());
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
        {
            fields.faults.push("from", "must be before `to`");
        }
        let max_per_second = u16::try_from(rate).unwrap_or(MAX_RATE);
        fields.finish().finish()?;
        match (from, to, topic) {
            (Some(from), Some(to), Some(topic)) => Ok(Self { from, to, camera_id, topic, max_per_second }),
            _ => Err(Invalid::one("", "the request is incomplete")),
        }
    }
}

fn time(text: &str) -> Result<Timestamp, String> {
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|time| clock::truncated(time.to_utc()))
        .map_err(|_| "must be a time in the format of RFC 3339, such as 2026-05-01T12:00:00Z".to_owned())
}

/// The state of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// It waits for an earlier replay.
    Queued,
    /// It is being sent, or waits; see `waiting_for`.
    Running,
    /// Each event was acknowledged or left out.
    Finished,
    /// It was stopped on request.
    Cancelled,
    /// It ended early; see `reason`.
    Failed,
}

impl ReplayState {
    const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Finished, Self::Cancelled, Self::Failed];

    /// Returns its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    /// Returns the state with this name. Unknown names, which only a damaged database contains, mean `failed`.
    pub fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|state| state.as_str() == name).unwrap_or(Self::Failed)
    }

    /// Returns whether it is over.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// What a running replay waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum WaitingFor {
    /// A connection to the broker.
    Connection,
    /// Events that have not been sent yet, which go first.
    Events,
}

/// A replay and its progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Replay {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub id: i64,
    /// Its state.
    pub state: ReplayState,
    /// What a running replay waits for; null while it is being sent.
    #[cfg_attr(feature = "openapi", schema(required = true, value_type = Option<WaitingFor>))]
    pub waiting_for: Option<WaitingFor>,
    /// What was requested.
    #[serde(flatten)]
    #[cfg_attr(feature = "openapi", schema(inline))]
    pub request: ReplayRequest,
    /// How many events there were when it was requested.
    pub events: u64,
    /// How many of them the broker has acknowledged.
    pub published: u64,
    /// How many of them were left out, because they were removed from the log or are damaged.
    pub skipped: u64,
    /// Why it failed.
    #[cfg_attr(feature = "openapi", schema(required = true, value_type = Option<String>))]
    pub reason: Option<String>,
    /// When it was requested.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    /// When it ended.
    #[cfg_attr(feature = "openapi", schema(required = true, value_type = Option<String>, format = DateTime))]
    pub ended_at: Option<Timestamp>,
}

/// A replay with its positions in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayRecord {
    /// What clients see.
    pub replay: Replay,
    /// Everything up to this position was acknowledged or left out.
    pub position: Seq,
    /// The position of the last event.
    pub last: Seq,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOON: &str = "2026-05-01T12:00:00Z";

    fn settings() -> MqttSettings {
        MqttSettings { availability_topic: "house/cams/up".to_owned(), ..MqttSettings::defaults("c") }
    }

    fn read(value: Value) -> Result<ReplayRequest, Vec<String>> {
        ReplayRequest::from_json(value, &settings(), time(NOON).unwrap())
            .map_err(|Invalid(errors)| errors.into_iter().map(|error| error.field).collect())
    }

    #[test]
    fn only_the_start_of_the_period_is_required() {
        let request = read(json!({"from": "2026-05-01T12:00:00+02:00"})).unwrap();
        assert_eq!((request.from, request.to), (time("2026-05-01T10:00:00Z").unwrap(), time(NOON).unwrap()));
        assert_eq!((request.topic, request.max_per_second), (ReplayTopic::History, 50));
    }

    #[test]
    fn every_fault_is_reported_with_its_field() {
        let faults = read(json!({
            "from": "yesterday", "to": 7, "camera_id": "a/b", "topic": "a/#", "max_per_second": 1001, "x": 1
        }));
        assert_eq!(faults.unwrap_err(), ["from", "to", "camera_id", "topic", "max_per_second", "x"]);
        assert_eq!(read(json!({})).unwrap_err(), ["from"]);
        assert_eq!(read(json!({"from": NOON, "to": NOON})).unwrap_err(), ["from"]);
        assert_eq!(read(json!({"from": NOON, "max_per_second": 0})).unwrap_err(), ["max_per_second", "from"]);
    }

    #[test]
    fn no_topic_of_the_service_can_be_the_target() {
        let settings = settings();
        let long = "x".repeat(256);
        for bad in [
            "",
            "#",
            "a/+/b",
            "$SYS/x",
            "/a",
            "a/",
            "a\0b",
            &long,
            "liveobject/camera",
            "liveobject/camera/",
            "liveobject/camera/door/event",
            "liveobject/camera/door/status",
            "liveobject/camera/door/x/history",
            "liveobject/camera/event",
            "liveobject/status",
            "liveobject/outbox",
            "liveobject/test",
            "house/cams/up",
            "homeassistant",
            "homeassistant/status",
            "homeassistant/device/x/config",
        ] {
            assert!(ReplayTopic::parse(bad.to_owned(), &settings).is_err(), "{bad:?}");
        }
        for good in [
            "history",
            "liveobject/replay",
            "liveobject/camera/door/history",
            "liveobject/cameras",
            "replay",
            "homeassistant2/x",
        ] {
            assert!(ReplayTopic::parse(good.to_owned(), &settings).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn every_state_has_a_name() {
        for state in ReplayState::ALL {
            assert_eq!(ReplayState::named(state.as_str()), state);
        }
        assert_eq!(ReplayState::named("x"), ReplayState::Failed);
    }
}
