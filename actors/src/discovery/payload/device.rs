//! A device with its entities, in either discovery format: one message per device, or one per entity.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use super::About;
use crate::domain::{
    settings::{DiscoveryFormat, MqttSettings},
    topic::TopicPrefix,
};

/// One retained message for Home Assistant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The topic.
    pub topic: String,
    /// The payload; never empty.
    pub payload: Bytes,
}

/// A device and its entities.
#[derive(Debug, Clone)]
pub struct Device {
    /// The identifier, which is also a topic level: `A-Z a-z 0-9 _ -`.
    pub(super) id: String,
    pub(super) info: DeviceInfo,
    pub(super) origin: Origin,
    pub(super) components: Vec<Component>,
    /// Optional entities that this device does not have: their unique ids and platforms.
    pub(super) absent: Vec<(String, Platform)>,
}

/// The description of the device in Home Assistant.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DeviceInfo {
    pub(super) identifiers: [String; 1],
    pub(super) name: String,
    pub(super) manufacturer: &'static str,
    pub(super) model: String,
    pub(super) sw_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) via_device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) configuration_url: Option<String>,
}

/// The program that sends the announcement.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Origin {
    name: &'static str,
    sw_version: &'static str,
}

impl Origin {
    pub(super) fn new(about: &About) -> Self {
        Self { name: "liveobject", sw_version: about.version }
    }
}

/// The platform of an entity in Home Assistant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Platform {
    BinarySensor,
    Event,
    Image,
    Sensor,
}

impl Platform {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::BinarySensor => "binary_sensor",
            Self::Event => "event",
            Self::Image => "image",
            Self::Sensor => "sensor",
        }
    }
}

/// An entity. Fields with `None` are omitted, because Home Assistant does not accept `null` for most keys.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Component {
    /// Part of the topic, or a key alongside the entity's other keys.
    #[serde(skip)]
    pub(super) platform: Platform,
    pub(super) unique_id: String,
    /// The entity id unless the user has chosen another one: `{platform}.{slug}`.
    pub(super) default_entity_id: String,
    pub(super) name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) icon: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) device_class: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state_class: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unit_of_measurement: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) entity_category: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) event_types: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state_topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) image_topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value_template: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) payload_on: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) payload_off: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) json_attributes_topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) qos: Option<u8>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) availability: Vec<Availability>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) availability_mode: Option<&'static str>,
}

impl Component {
    /// Returns an entity with a name and no other properties.
    pub(super) fn new(platform: Platform, unique_id: String, entity: &str, name: &'static str) -> Self {
        Self {
            platform,
            unique_id,
            default_entity_id: format!("{}.{entity}", platform.as_str()),
            name,
            icon: None,
            device_class: None,
            state_class: None,
            unit_of_measurement: None,
            entity_category: None,
            event_types: None,
            state_topic: None,
            image_topic: None,
            content_type: None,
            value_template: None,
            payload_on: None,
            payload_off: None,
            json_attributes_topic: None,
            qos: None,
            availability: Vec::new(),
            availability_mode: None,
        }
    }

    /// Makes the entity available when all of these conditions are met.
    pub(super) fn available(self, when: impl Into<Vec<Availability>>) -> Self {
        let availability = when.into();
        Self { availability_mode: (availability.len() > 1).then_some("all"), availability, ..self }
    }
}

/// A condition for the availability of an entity.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Availability {
    pub(super) topic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value_template: Option<String>,
    pub(super) payload_available: String,
    pub(super) payload_not_available: String,
}

impl Availability {
    /// Returns the condition that the service is connected to the broker.
    pub(super) fn service(settings: &MqttSettings) -> Self {
        Self {
            topic: settings.availability_topic(),
            value_template: None,
            payload_available: settings.birth_message.clone(),
            payload_not_available: settings.will_message.clone(),
        }
    }
}

#[derive(Serialize)]
struct DeviceMessage<'a> {
    device: &'a DeviceInfo,
    origin: &'a Origin,
    components: BTreeMap<&'a str, Entry<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Entry<'a> {
    Present {
        platform: Platform,
        #[serde(flatten)]
        component: &'a Component,
    },
    /// A platform without other keys: Home Assistant removes the entity.
    Absent { platform: Platform },
}

#[derive(Serialize)]
struct ComponentMessage<'a> {
    device: &'a DeviceInfo,
    origin: &'a Origin,
    #[serde(flatten)]
    component: &'a Component,
}

impl Device {
    /// Returns the topics of its [`announcements`](Self::announcements).
    pub fn topics(&self, settings: &MqttSettings) -> Vec<String> {
        let prefix = &settings.discovery_prefix;
        match settings.discovery_format {
            DiscoveryFormat::Device => vec![device_topic(prefix, &self.id)],
            DiscoveryFormat::Component => {
                self.components.iter().map(|c| component_topic(prefix, c.platform, &c.unique_id)).collect()
            }
        }
    }

    /// Returns the messages that the broker should retain, in the discovery format of the settings.
    pub fn announcements(&self, settings: &MqttSettings) -> Vec<Announcement> {
        let Self { id, info, origin, components, absent } = self;
        let prefix = &settings.discovery_prefix;
        match settings.discovery_format {
            DiscoveryFormat::Device => {
                let present = components
                    .iter()
                    .map(|c| (c.unique_id.as_str(), Entry::Present { platform: c.platform, component: c }));
                let absent =
                    absent.iter().map(|(id, platform)| (id.as_str(), Entry::Absent { platform: *platform }));
                let message =
                    DeviceMessage { device: info, origin, components: present.chain(absent).collect() };
                vec![Announcement { topic: device_topic(prefix, id), payload: json(&message) }]
            }
            DiscoveryFormat::Component => components
                .iter()
                .map(|component| Announcement {
                    topic: component_topic(prefix, component.platform, &component.unique_id),
                    payload: json(&ComponentMessage { device: info, origin, component }),
                })
                .collect(),
        }
    }
}

fn device_topic(prefix: &TopicPrefix, id: &str) -> String {
    format!("{prefix}/device/{id}/config")
}

pub(super) fn component_topic(prefix: &TopicPrefix, platform: Platform, unique_id: &str) -> String {
    format!("{prefix}/{}/{unique_id}/config", platform.as_str())
}

fn json(message: &impl Serialize) -> Bytes {
    let text = serde_json::to_vec(message).expect("strings and numbers always serialize");
    // The message is kept in memory while it is retained, so drop the spare capacity.
    text.into_boxed_slice().into()
}
