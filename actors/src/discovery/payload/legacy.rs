//! The discovery topics of ArgusAI, which this service replaces. ArgusAI announced the same entities with one
//! message each.

use super::{
    camera_device_id,
    device::{Platform, component_topic},
};
use crate::domain::{ids::CameraId, topic::TopicPrefix};

/// A discovery topic of ArgusAI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Legacy {
    /// The topic.
    pub topic: String,
    /// Whether one of our entities replaces this one and keeps its history and its id.
    pub migrates: bool,
}

/// Returns the topics where ArgusAI announced the entities of a camera.
pub fn legacy_topics(prefix: &TopicPrefix, camera: &CameraId) -> Vec<Legacy> {
    let entities = [
        (Platform::Sensor, "event", true),
        // Ours is a binary sensor, and an entity cannot change its platform.
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
