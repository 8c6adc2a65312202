//! What stands retained at a broker, as a Home Assistant that starts at that moment is told.

use std::{collections::BTreeMap, fmt, time::Duration};

use liveobject_test_support::{Message, Subscriber, visitor};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::SOON;

const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The discovery topic of the service itself, in device format.
pub const SERVICE_DEVICE: &str = "homeassistant/device/liveobject-service/config";

/// Topics and what stands there.
#[derive(Clone, PartialEq, Eq)]
pub struct Standing(BTreeMap<String, Vec<u8>>);

impl Standing {
    /// What stands at the broker on this port now.
    pub async fn at(port: u16) -> Self {
        Self(visitor::retained(port).await)
    }

    /// Waits until what stands at the broker on this port is as it should be.
    pub async fn wait(port: u16, what: &str, condition: impl FnMut(&Self) -> bool) -> Self {
        Self::wait_within(SOON, port, what, condition).await
    }

    /// The same, within another time.
    pub async fn wait_within(
        timeout: Duration,
        port: u16,
        what: &str,
        mut condition: impl FnMut(&Self) -> bool,
    ) -> Self {
        let deadline = Instant::now() + timeout;
        loop {
            let standing = Self::at(port).await;
            if condition(&standing) {
                return standing;
            }
            assert!(Instant::now() < deadline, "{what}: not within {timeout:?}; there stands {standing:#?}");
            sleep(LOOK_AGAIN).await;
        }
    }

    /// What stands on this topic.
    pub fn get(&self, topic: &str) -> Option<&[u8]> {
        self.0.get(topic).map(Vec::as_slice)
    }

    /// The same, as JSON; null when nothing does, or no JSON.
    pub fn json(&self, topic: &str) -> Value {
        self.get(topic).and_then(|payload| serde_json::from_slice(payload).ok()).unwrap_or_default()
    }

    /// The same, as text; empty when nothing does.
    pub fn text(&self, topic: &str) -> String {
        self.get(topic).map(|payload| String::from_utf8_lossy(payload).into_owned()).unwrap_or_default()
    }

    /// All topics, in alphabetical order.
    pub fn topics(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// The topics below this one.
    pub fn below(&self, topic: &str) -> Vec<&str> {
        let start = format!("{topic}/");
        self.topics().into_iter().filter(|topic| topic.starts_with(&start)).collect()
    }

    /// The topics of one camera: its states and its discovery, whatever the prefixes and the format.
    pub fn of_camera(&self, id: &str) -> Vec<&str> {
        self.topics()
            .into_iter()
            .filter(|topic| is_state_of(topic, id) || is_discovery_of(topic, id))
            .collect()
    }

    /// The discovery topics of one camera.
    pub fn discovery_of(&self, id: &str) -> Vec<&str> {
        self.topics().into_iter().filter(|topic| is_discovery_of(topic, id)).collect()
    }

    /// The same without these fields in payloads that are JSON objects.
    #[must_use]
    pub fn without(mut self, fields: &[&str]) -> Self {
        for payload in self.0.values_mut() {
            if let Ok(Value::Object(mut object)) = serde_json::from_slice(payload) {
                object.retain(|field, _| !fields.contains(&field.as_str()));
                *payload = Value::from(object).to_string().into_bytes();
            }
        }
        self
    }

    /// Asserts that both are the same, and names each topic where they differ.
    #[track_caller]
    pub fn assert_same(&self, other: &Self) {
        let topics = self.0.keys().chain(other.0.keys());
        let differ = |topic: &&String| self.0.get(*topic) != other.0.get(*topic);
        let differences: BTreeMap<_, _> =
            topics.filter(differ).map(|topic| (topic, (self.text(topic), other.text(topic)))).collect();
        assert!(differences.is_empty(), "{differences:#?}");
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|topic| (topic, self.text(topic)))).finish()
    }
}

/// Whether a topic is one of this camera's states (or its retained event).
pub fn is_state_of(topic: &str, id: &str) -> bool {
    topic.contains(&format!("/camera/{id}/"))
}

/// Whether a topic announces this camera or one of its entities.
pub fn is_discovery_of(topic: &str, id: &str) -> bool {
    let is_of = |part: &str| {
        part.strip_prefix("liveobject_")
            .and_then(|part| part.strip_prefix(id))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    topic.ends_with("/config") && topic.split('/').any(is_of)
}

/// The states that a camera has from its first event on, below `liveobject/camera/{id}/`.
pub const STATES: [&str; 5] = ["activity", "counts", "description", "last_event", "status"];

/// The topic of a camera's state, with the prefix that is the default.
pub fn state(id: &str, state: &str) -> String {
    format!("liveobject/camera/{id}/{state}")
}

/// The topics of the cameras' states and discovery, and of the service's own, with default settings.
pub fn all_topics(ids: &[&str]) -> Vec<String> {
    let of_camera = |id: &&str| {
        let states = STATES.map(|name| state(id, name)).into_iter();
        states.chain([format!("homeassistant/device/liveobject_{id}/config")]).collect::<Vec<_>>()
    };
    let own = [SERVICE_DEVICE, "liveobject/outbox", "liveobject/status"].map(str::to_owned);
    let mut topics: Vec<_> = ids.iter().flat_map(of_camera).chain(own).collect();
    topics.sort();
    topics
}

/// Waits until exactly this stands at the broker: the states and the discovery of these cameras, and the service's own.
pub async fn wait_all(port: u16, ids: &[&str]) -> Standing {
    let expected = all_topics(ids);
    let nothing_waits = json!({"pending": 0, "dead": 0});
    Standing::wait(port, &format!("all of {ids:?}"), |standing| {
        standing.topics() == expected && standing.json("liveobject/outbox") == nothing_waits
    })
    .await
}

/// The messages, from the `from`th on, that a subscriber saw on topics of this kind.
pub fn seen(subscriber: &Subscriber, from: usize, on: impl Fn(&str) -> bool) -> Vec<Message> {
    subscriber.messages().into_iter().skip(from).filter(|message| on(&message.topic)).collect()
}
