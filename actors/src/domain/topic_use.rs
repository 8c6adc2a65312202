//! What a topic is for, and the sentences about a broker that does not accept messages on it. The warnings in the
//! status and the connection test both use them, so both describe the same problem in the same words.

use std::collections::HashSet;

use crate::domain::{delivery::DeadReason, settings::MqttSettings};

/// Maximum number of topics that a sentence lists.
const MAX_LISTED: usize = 5;

/// What a topic is for, the most important use first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicUse {
    /// Whether the service is online: the birth message and the last will.
    Availability,
    /// Home Assistant's discovery.
    Discovery,
    /// A camera's events, live or late.
    Events,
    /// A retained state.
    States,
}

/// What the broker does with messages on a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// It refuses them.
    Refuses(DeadReason),
    /// It refuses them and then closes the connection.
    RefusesAndCloses(DeadReason),
    /// It closes the connection, sends a DISCONNECT or violates MQTT.
    Closes,
    /// It does not acknowledge them.
    Ignores,
    /// The connection is too slow for them.
    TooSlow,
}

impl TopicUse {
    /// Returns what a topic, or a filter of topics, is for.
    pub fn of(topic: &str, settings: &MqttSettings) -> Self {
        let below = |prefix: &str| topic.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/'));
        if topic == settings.availability_topic() {
            return Self::Availability;
        }
        // One prefix may be below the other one.
        let camera = below(settings.topic_prefix.as_str()).and_then(|rest| rest.strip_prefix("camera/"));
        match camera.and_then(|rest| rest.rsplit_once('/')) {
            Some((_, "event" | "history")) => Self::Events,
            None if below(settings.discovery_prefix.as_str()).is_some() => Self::Discovery,
            _ => Self::States,
        }
    }

    fn effect(self) -> &'static str {
        match self {
            Self::Availability => "Home Assistant may show every entity as unavailable.",
            Self::Discovery => "Home Assistant cannot discover the cameras.",
            Self::Events => "Nobody receives these events.",
            Self::States => "Home Assistant does not see these states.",
        }
    }

    fn alternative(self) -> &'static str {
        match self {
            Self::Availability => ", or set another availability_topic",
            Self::Discovery => ", or set discovery_enabled to false",
            Self::Events | Self::States => "",
        }
    }
}

/// Returns the filter of all topics with the same use as this topic, such as `homeassistant/#` or
/// `liveobject/camera/+/counts`, or the topic if there is no other.
pub fn family(topic: &str, settings: &MqttSettings) -> String {
    let is_availability = topic == settings.availability_topic();
    let family = (!is_availability).then(|| Prefixes::of(settings).family(topic)).flatten();
    family.unwrap_or_else(|| topic.to_owned())
}

/// What the topics of cameras and of discovery begin with, up to and including a `/`.
#[derive(Debug, Clone, Default)]
pub struct Prefixes {
    cameras: String,
    discovery: String,
}

impl Prefixes {
    /// Returns the prefixes of these settings.
    pub fn of(settings: &MqttSettings) -> Self {
        Self {
            cameras: format!("{}/camera/", settings.topic_prefix),
            discovery: format!("{}/", settings.discovery_prefix),
        }
    }

    /// Returns whether a topic is for late and replayed events.
    pub fn is_history(&self, topic: &str) -> bool {
        let rest = topic.strip_prefix(&self.cameras).filter(|_| !self.cameras.is_empty());
        rest.is_some_and(|rest| rest.split_once('/').is_some_and(|(_, kind)| kind == "history"))
    }

    /// Returns the filter of all topics with the same use as this one; `None` for a topic with neither prefix.
    pub fn family(&self, topic: &str) -> Option<String> {
        // One prefix may be below the other one.
        if let Some((_, kind)) = topic.strip_prefix(&self.cameras).and_then(|rest| rest.split_once('/')) {
            return Some(format!("{}+/{kind}", self.cameras));
        }
        let is_discovery = topic.starts_with(&self.discovery) && !self.discovery.is_empty();
        is_discovery.then(|| format!("{}#", self.discovery))
    }
}

/// Returns the filter of all topics that one rule can allow: those below a prefix, or the topic itself.
pub fn group(topic: &str, settings: &MqttSettings) -> String {
    let below = |prefix: &str| topic.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
    match TopicUse::of(topic, settings) {
        TopicUse::Discovery => family(topic, settings),
        _ if below(settings.topic_prefix.as_str()) => format!("{}/#", settings.topic_prefix),
        _ => topic.to_owned(),
    }
}

/// Returns the filter that the broker's access rules should allow for all these topics, which are of one [`group`].
fn filter_to_allow(topics: &[&str], settings: &MqttSettings) -> String {
    let cameras = format!("{}/camera/", settings.topic_prefix);
    let one = |topic: &str| match TopicUse::of(topic, settings) {
        TopicUse::Discovery => family(topic, settings),
        TopicUse::Events | TopicUse::States if topic.starts_with(&cameras) => format!("{cameras}#"),
        TopicUse::Availability | TopicUse::Events | TopicUse::States => topic.to_owned(),
    };
    let mut filters = topics.iter().map(|topic| one(topic));
    let first = filters.next().unwrap_or_default();
    if filters.all(|filter| filter == first) { first } else { group(topics[0], settings) }
}

/// Returns the rule of Mosquitto's ACL file that allows messages on these topics. The service also reads the
/// availability topic, and Home Assistant's birth message below the discovery prefix.
fn mosquitto_rule(topics: &[&str], settings: &MqttSettings) -> String {
    let reads =
        |topic: &&str| matches!(TopicUse::of(topic, settings), TopicUse::Availability | TopicUse::Discovery);
    let access = if topics.iter().any(reads) { "readwrite" } else { "write" };
    format!("topic {access} {}", filter_to_allow(topics, settings))
}

/// Describes what the broker does with messages on a topic or a family of topics, what this means, and how to fix
/// it.
pub fn describe(rejection: Rejection, topic: &str, settings: &MqttSettings) -> String {
    describe_all(rejection, &[topic], settings)
}

/// Like [`describe`], for topics of one [`group`], at least one.
pub fn describe_all(rejection: Rejection, topics: &[&str], settings: &MqttSettings) -> String {
    let topic = &list(topics);
    let what = match rejection {
        Rejection::Refuses(reason) => {
            format!("The broker refuses messages on {topic} ({}).", reason.as_str())
        }
        Rejection::RefusesAndCloses(reason) => {
            let reason = reason.as_str();
            format!("The broker refuses messages on {topic} ({reason}) and then closes the connection.")
        }
        Rejection::Closes => {
            format!("The broker closed the connection when a message was published on {topic}.")
        }
        Rejection::Ignores => format!("The broker does not acknowledge messages on {topic}."),
        Rejection::TooSlow => format!("The connection to the broker is too slow for messages on {topic}."),
    };
    let mut effects: Vec<_> = topics.iter().map(|topic| TopicUse::of(topic, settings).effect()).collect();
    let mut seen = HashSet::new();
    effects.retain(|effect| seen.insert(*effect));
    format!("{what} {} {}", effects.join(" "), what_to_do(rejection, topics, settings))
}

/// Returns the topics as a part of a sentence, at most [`MAX_LISTED`] of them.
fn list(topics: &[&str]) -> String {
    let (listed, more) = topics.split_at(topics.len().min(MAX_LISTED));
    match (listed, more.len()) {
        ([], _) => String::new(),
        ([one], _) => (*one).to_owned(),
        ([first @ .., last], 0) => format!("{} and {last}", first.join(", ")),
        (listed, more) => format!("{} and {more} more", listed.join(", ")),
    }
}

fn what_to_do(rejection: Rejection, topics: &[&str], settings: &MqttSettings) -> String {
    let size = match rejection {
        Rejection::TooSlow => return "Send smaller pictures, or use a faster network.".to_owned(),
        Rejection::Refuses(DeadReason::PacketTooLarge)
        | Rejection::RefusesAndCloses(DeadReason::PacketTooLarge) => {
            return "Raise the broker's limit for the size of messages.".to_owned();
        }
        Rejection::Refuses(DeadReason::PayloadFormatInvalid | DeadReason::RefusedRepeatedly) => {
            return "The broker's log may show why.".to_owned();
        }
        Rejection::Closes | Rejection::Ignores => {
            " If it is allowed, check the broker's limit for the size of messages."
        }
        Rejection::Refuses(_) | Rejection::RefusesAndCloses(_) => "",
    };
    format!("{}{size}", how_to_allow_all(topics, settings))
}

/// Explains how to allow messages on this topic.
pub fn how_to_allow(topic: &str, settings: &MqttSettings) -> String {
    how_to_allow_all(&[topic], settings)
}

fn how_to_allow_all(topics: &[&str], settings: &MqttSettings) -> String {
    // Another setting for one of several topics would not help the others.
    let alternative = match topics {
        [topic] => TopicUse::of(topic, settings).alternative(),
        _ => "",
    };
    format!(
        "Let this user publish to {} (in Mosquitto's ACL file: \"{}\"){alternative}.",
        filter_to_allow(topics, settings),
        mosquitto_rule(topics, settings),
    )
}

/// Explains why it is unknown whether the broker accepts messages on this topic. With this `version` (an
/// MQTT version or `QoS 0`), only a message that comes back proves that, and it did not come back.
pub fn describe_unknown(topic: &str, version: &str, settings: &MqttSettings) -> String {
    format!(
        "Whether the broker accepts messages on {topic} cannot be known with {version}: a message was \
         published but did not come back. Either this user is not allowed to publish to the topic, or not \
         allowed to read it. If publishing is not allowed: {} {}",
        TopicUse::of(topic, settings).effect(),
        how_to_allow(topic, settings),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> MqttSettings {
        MqttSettings::defaults("c")
    }

    #[test]
    fn each_topic_has_a_use_and_a_family() {
        let settings = settings();
        for (topic, usage, of_family) in [
            ("liveobject/status", TopicUse::Availability, "liveobject/status"),
            ("homeassistant/device/x/config", TopicUse::Discovery, "homeassistant/#"),
            ("liveobject/camera/a/event", TopicUse::Events, "liveobject/camera/+/event"),
            ("liveobject/camera/a/history", TopicUse::Events, "liveobject/camera/+/history"),
            ("liveobject/camera/a/status", TopicUse::States, "liveobject/camera/+/status"),
            ("liveobject/outbox", TopicUse::States, "liveobject/outbox"),
        ] {
            assert_eq!(TopicUse::of(topic, &settings), usage, "{topic}");
            assert_eq!(family(topic, &settings), of_family, "{topic}");
            assert_eq!(TopicUse::of(of_family, &settings), usage, "{of_family}");
        }
    }

    #[test]
    fn the_sentences_name_the_topic_the_effect_and_the_access_rule() {
        let settings = settings();
        let refused = Rejection::Refuses(DeadReason::NotAuthorized);
        assert_eq!(
            describe(refused, "homeassistant/#", &settings),
            "The broker refuses messages on homeassistant/# (not_authorized). Home Assistant cannot discover the \
             cameras. Let this user publish to homeassistant/# (in Mosquitto's ACL file: \"topic \
             readwrite homeassistant/#\"), or set discovery_enabled to false."
        );
        let closes = describe(Rejection::Closes, "liveobject/status", &settings);
        for part in [
            "closed the connection when a message was published on liveobject/status.",
            "\"topic readwrite liveobject/status\"",
            "availability_topic",
        ] {
            assert!(closes.contains(part), "{closes}");
        }
        let one_camera = describe(refused, "liveobject/camera/a/event", &settings);
        assert!(one_camera.contains("publish to liveobject/camera/# "), "{one_camera}");
        let large = describe(Rejection::Refuses(DeadReason::PacketTooLarge), "liveobject/status", &settings);
        assert!(!large.contains("ACL") && large.contains("limit"), "{large}");
    }
}
