//! The discovery topics of ArgusAI, which this service replaces. ArgusAI announced the same entities with one
//! message each.

use super::{
    camera::description_kind,
    camera_device_id,
    device::{Platform, component_topic},
    prefix::encoded,
};
use crate::domain::{ids::CameraId, settings::MqttSettings};

/// A discovery topic of ArgusAI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Legacy {
    /// The topic.
    pub topic: String,
    /// Whether one of our entities replaces this one and keeps its history and its id.
    pub migrates: bool,
}

/// Returns the topics where ArgusAI announced the entities of a camera. It used the same identifiers as this
/// service with the default topic prefix. With another one there are none: the topics may belong to another
/// service.
pub fn legacy_topics(settings: &MqttSettings, camera: &CameraId) -> Vec<Legacy> {
    if encoded(&settings.topic_prefix).is_some() {
        return Vec::new();
    }
    let entities = [
        (Platform::Sensor, "event", true),
        // Ours is a binary sensor, and an entity cannot change its platform.
        (Platform::Sensor, "status", false),
        (Platform::Sensor, "last_event", true),
        (Platform::Sensor, "events_today", true),
        (Platform::Sensor, "events_week", true),
        (Platform::BinarySensor, "activity", true),
    ];
    let device = camera_device_id(&settings.topic_prefix, camera);
    // The description of some cameras has another id, because this one belongs to another camera.
    let is_ours = |entity: &str| entity != "event" || description_kind(camera) == entity;
    let legacy = entities.into_iter().filter(|(_, entity, _)| is_ours(entity));
    let legacy = legacy.map(|(platform, entity, migrates)| Legacy {
        topic: component_topic(&settings.discovery_prefix, platform, &format!("{device}_{entity}")),
        migrates,
    });
    legacy.collect()
}
