//! The device that represents the service itself.

use super::{
    About,
    device::{Availability, Component, Device, DeviceInfo, Origin, Platform},
    prefix::{DEFAULT_PREFIX, encoded},
    template::{self, entity_slug},
};
use crate::domain::settings::MqttSettings;

/// Returns the identifier of the service's device. It differs for each topic prefix, so that several services
/// can share a broker.
pub fn service_device_id(settings: &MqttSettings) -> String {
    match encoded(&settings.topic_prefix) {
        None => "liveobject-service".to_owned(),
        Some(prefix) => format!("liveobject-service-{prefix}"),
    }
}

/// Returns the service's device with its entities.
pub fn service_device(settings: &MqttSettings, about: &About) -> Device {
    let entities = Entities { settings };
    let components = vec![
        entities.connection(),
        entities.version(about),
        entities.outbox("events_waiting", "Events waiting", "pending", "mdi:tray-full"),
        entities.outbox("events_dead", "Events dead", "dead", "mdi:tray-remove"),
    ];
    let id = service_device_id(settings);
    let name = match settings.topic_prefix.as_str() {
        DEFAULT_PREFIX => "liveobject".to_owned(),
        prefix => format!("liveobject ({prefix})"),
    };
    let info = DeviceInfo {
        identifiers: [id.clone()],
        name,
        manufacturer: "Live Object AI",
        model: "liveobject".to_owned(),
        sw_version: about.version,
        via_device: None,
        configuration_url: about.configuration_url().map(str::to_owned),
    };
    Device { id, info, origin: Origin::new(about), components, absent: Vec::new() }
}

#[derive(Clone, Copy)]
struct Entities<'a> {
    settings: &'a MqttSettings,
}

impl Entities<'_> {
    /// Shows whether the service is connected, so it is always available.
    fn connection(self) -> Component {
        Component {
            device_class: Some("connectivity"),
            state_topic: Some(self.settings.availability_topic()),
            payload_on: Some(self.settings.birth_message.clone()),
            payload_off: Some(self.settings.will_message.clone()),
            ..self.entity(Platform::BinarySensor, "connection", "Connection")
        }
    }

    fn version(self, about: &About) -> Component {
        Component {
            icon: Some("mdi:tag"),
            state_topic: Some(self.settings.availability_topic()),
            // The version is constant; the message only triggers the template.
            value_template: Some(format!("{{{{ {} }}}}", template::text(about.version))),
            ..self
                .entity(Platform::Sensor, "version", "Version")
                .available([Availability::service(self.settings)])
        }
    }

    fn outbox(self, kind: &str, name: &'static str, field: &str, icon: &'static str) -> Component {
        Component {
            icon: Some(icon),
            state_class: Some("measurement"),
            unit_of_measurement: Some("events"),
            state_topic: Some(self.settings.topic_prefix.outbox()),
            value_template: Some(format!("{{{{ value_json.{field} }}}}")),
            ..self.entity(Platform::Sensor, kind, name).available([Availability::service(self.settings)])
        }
    }

    fn entity(self, platform: Platform, kind: &str, name: &'static str) -> Component {
        let unique_id = format!("{}_{kind}", service_device_id(self.settings));
        let entity = format!("{}_{kind}", entity_slug(self.settings.topic_prefix.as_str()));
        Component {
            entity_category: Some("diagnostic"),
            ..Component::new(platform, unique_id, &entity, name)
        }
    }
}
