//! What ArgusAI left behind on the same broker: it had the same entities, in one message each.

use super::{
    camera_device_id,
    device::{Platform, component_topic},
};
use crate::domain::{ids::CameraId, topic::TopicPrefix};

/// A discovery topic of ArgusAI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Legacy {
    /// Where.
    pub topic: String,
    /// Whether an entity of ours takes the place of this one, and keeps its history and its id.
    pub migrates: bool,
}

/// Where ArgusAI announced a camera's entities.
pub fn legacy_topics(prefix: &TopicPrefix, camera: &CameraId) -> Vec<Legacy> {
    let entities = [
        (Platform::Sensor, "event", true),
        // Ours is a binary sensor, and no entity becomes one of another kind.
        (Platform::Sensor, "status", false),
        (Platform::Sensor, "last_event", true),
        (Platform::Sensor, "events_today", true),
        (Platform::Sensor, "events_week", true),
        (Platform::BinarySensor, "activity", true),
    ];
    let device = camera_device_id(camera);
    let legacy = entities.map(|(platform, entity, migrates)| Legacy {
        topic: component_topic(prefix, platform, &format!("{device}_{entity}")),
        migrates,
    });
    legacy.into()
}
