//! What Home Assistant publishes and subscribes to, apart from the entities' topics.

use crate::domain::topic::TopicPrefix;

/// The payload of Home Assistant's birth message.
pub const ONLINE: &[u8] = b"online";

/// The payload of Home Assistant's will, which it also publishes when it stops.
pub const OFFLINE: &[u8] = b"offline";

/// Returns the topic of Home Assistant's birth message and will.
pub fn status_topic(discovery_prefix: &TopicPrefix) -> String {
    format!("{discovery_prefix}/status")
}

/// Returns a discovery topic that Home Assistant subscribes to and that no entity uses. Home Assistant ignores an empty
/// message on it, without a line in its log.
pub fn probe_topic(discovery_prefix: &TopicPrefix) -> String {
    format!("{discovery_prefix}/sensor/liveobject_presence/config")
}

/// Returns a topic below the discovery prefix to which Home Assistant does not subscribe: discovery topics end with
/// `config`.
pub fn wildcard_probe_topic(discovery_prefix: &TopicPrefix) -> String {
    format!("{discovery_prefix}/sensor/liveobject_presence/wildcard")
}
