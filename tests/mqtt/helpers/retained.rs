//! The retained messages of a broker, as a Home Assistant instance that starts at that moment receives them.

use std::{collections::BTreeMap, fmt, time::Duration};

use liveobject_test_support::{Message, Subscriber, visitor};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::TIMEOUT;

const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The service's own discovery topic, in device format.
pub const SERVICE_DEVICE: &str = "homeassistant/device/liveobject-service/config";

/// The retained payloads by topic.
#[derive(Clone, PartialEq, Eq)]
pub struct Retained(BTreeMap<String, Vec<u8>>);

impl Retained {
    /// Reads the retained messages of the broker on this port.
    pub async fn read(port: u16) -> Self {
        Self(visitor::retained(port).await)
    }

    /// Waits until the retained messages of the broker on this port satisfy `condition`.
    pub async fn wait_for(port: u16, what: &str, condition: impl FnMut(&Self) -> bool) -> Self {
        Self::wait_within(TIMEOUT, port, what, condition).await
    }

    /// Waits with another time limit.
    pub async fn wait_within(
        timeout: Duration,
        port: u16,
        what: &str,
        mut condition: impl FnMut(&Self) -> bool,
    ) -> Self {
        let deadline = Instant::now() + timeout;
        loop {
            let snapshot = Self::read(port).await;
            if condition(&snapshot) {
                return snapshot;
            }
            assert!(
                Instant::now() < deadline,
                "{what}: not within {timeout:?}; the broker retains {snapshot:#?}"
            );
            sleep(CHECK_INTERVAL).await;
        }
    }

    /// Returns the payload that is retained on this topic.
    pub fn get(&self, topic: &str) -> Option<&[u8]> {
        self.0.get(topic).map(Vec::as_slice)
    }

    /// Returns the payload as JSON; null if there is none, or if it is not JSON.
    pub fn json(&self, topic: &str) -> Value {
        self.get(topic).and_then(|payload| serde_json::from_slice(payload).ok()).unwrap_or_default()
    }

    /// Returns the payload as text; empty if there is none.
    pub fn text(&self, topic: &str) -> String {
        self.get(topic).map(|payload| String::from_utf8_lossy(payload).into_owned()).unwrap_or_default()
    }

    /// Returns all topics in alphabetical order.
    pub fn topics(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// Returns the topics below this one.
    pub fn below(&self, topic: &str) -> Vec<&str> {
        let start = format!("{topic}/");
        self.topics().into_iter().filter(|topic| topic.starts_with(&start)).collect()
    }

    /// Returns the state and discovery topics of one camera, whatever the prefixes and the format.
    pub fn camera_topics(&self, id: &str) -> Vec<&str> {
        self.topics()
            .into_iter()
            .filter(|topic| is_state_of(topic, id) || is_discovery_of(topic, id))
            .collect()
    }

    /// Returns the discovery topics of one camera.
    pub fn camera_discovery(&self, id: &str) -> Vec<&str> {
        self.topics().into_iter().filter(|topic| is_discovery_of(topic, id)).collect()
    }

    /// Removes these fields from payloads that are JSON objects.
    #[must_use]
    pub fn without_fields(mut self, fields: &[&str]) -> Self {
        for payload in self.0.values_mut() {
            if let Ok(Value::Object(mut object)) = serde_json::from_slice(payload) {
                object.retain(|field, _| !fields.contains(&field.as_str()));
                *payload = Value::from(object).to_string().into_bytes();
            }
        }
        self
    }

    /// Asserts that both are equal, and lists each topic on which they differ.
    #[track_caller]
    pub fn assert_same(&self, other: &Self) {
        let topics = self.0.keys().chain(other.0.keys());
        let differ = |topic: &&String| self.0.get(*topic) != other.0.get(*topic);
        let differences: BTreeMap<_, _> =
            topics.filter(differ).map(|topic| (topic, (self.text(topic), other.text(topic)))).collect();
        assert!(differences.is_empty(), "{differences:#?}");
    }
}

impl fmt::Debug for Retained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|topic| (topic, self.text(topic)))).finish()
    }
}

/// Returns whether a topic is one of this camera's states (or its retained event).
pub fn is_state_of(topic: &str, id: &str) -> bool {
    topic.contains(&format!("/camera/{id}/"))
}

/// Returns whether a topic announces this camera or one of its entities.
pub fn is_discovery_of(topic: &str, id: &str) -> bool {
    let names_camera = |part: &str| {
        let default = part.strip_prefix("liveobject_");
        let other = || part.strip_prefix("liveobject-")?.split_once("__").map(|(_, camera)| camera);
        default
            .or_else(other)
            .and_then(|part| part.strip_prefix(id))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    topic.ends_with("/config") && topic.split('/').any(names_camera)
}

/// The states that a camera has after its first event, below `liveobject/camera/{id}/`.
pub const STATES: [&str; 5] = ["activity", "counts", "description", "last_event", "status"];

/// Returns a camera's state topic, with the default prefix.
pub fn state_topic(id: &str, name: &str) -> String {
    format!("liveobject/camera/{id}/{name}")
}

/// Returns the state and discovery topics of these cameras and of the service, with default settings.
pub fn expected_topics(ids: &[&str]) -> Vec<String> {
    let of_camera = |id: &&str| {
        let states = STATES.map(|name| state_topic(id, name)).into_iter();
        states.chain([format!("homeassistant/device/liveobject_{id}/config")]).collect::<Vec<_>>()
    };
    let own = [SERVICE_DEVICE, "liveobject/outbox", "liveobject/status"].map(str::to_owned);
    let mut topics: Vec<_> = ids.iter().flat_map(of_camera).chain(own).collect();
    topics.sort();
    topics
}

/// Waits until exactly the states and discovery of these cameras and of the service are retained.
pub async fn wait_for_cameras(port: u16, ids: &[&str]) -> Retained {
    let expected = expected_topics(ids);
    let empty_outbox = json!({"pending": 0, "dead": 0});
    Retained::wait_for(port, &format!("all of {ids:?}"), |snapshot| {
        snapshot.topics() == expected && snapshot.json("liveobject/outbox") == empty_outbox
    })
    .await
}

/// Returns the messages on matching topics that a subscriber has received, starting at index `from`.
pub fn messages_since(subscriber: &Subscriber, from: usize, on: impl Fn(&str) -> bool) -> Vec<Message> {
    subscriber.messages().into_iter().skip(from).filter(|message| on(&message.topic)).collect()
}
