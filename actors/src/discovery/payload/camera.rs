//! The device of a camera.

use super::{
    About,
    device::{Availability, Component, Device, DeviceInfo, Origin, Platform},
    prefix::encoded,
    service::service_device_id,
    template::{self, entity_slug},
};
use crate::domain::{
    camera::{COMMON_EVENT_TYPES, Camera, ImageType},
    ids::CameraId,
    settings::MqttSettings,
    topic::TopicPrefix,
};

/// The event type of objects that are not among the camera's event types.
const OTHER: &str = "other";
/// Home Assistant's event type of a doorbell.
const RING: &str = "ring";

const EVENTS: Option<&str> = Some("events");

/// The end of camera ids for which [`description_kind`] returns another kind.
const LAST: &str = "_last";

/// Returns the identifier of a camera's device, which is also its level in discovery topics. It contains the
/// topic prefix, unless that is the default one: another service on the same broker may have a camera with the
/// same id.
pub fn camera_device_id(prefix: &TopicPrefix, camera: &CameraId) -> String {
    match encoded(prefix) {
        None => format!("liveobject_{camera}"),
        // The service's own device has no two `_` in a row at this position.
        Some(prefix) => format!("liveobject-{prefix}__{camera}"),
    }
}

/// Returns the end of the unique id of the description. It is `event`, except for cameras whose id ends with
/// `_last`: there it would be the same as that of the last event of the camera whose id lacks that end.
pub(super) fn description_kind(camera: &CameraId) -> &'static str {
    if camera.as_str().ends_with(LAST) { "description" } else { "event" }
}

/// Returns the device of a camera with all its entities.
pub fn camera_device(camera: &Camera, settings: &MqttSettings, about: &About) -> Device {
    let entities = Entities { camera, settings };
    let mut components = vec![
        entities.detection(),
        entities.description(),
        entities.status(),
        entities.last_event(),
        entities.count("events_today", "events_today", "Events today", "events_today"),
        entities.count("events_week", "events_this_week", "Events this week", "events_this_week"),
        entities.activity(),
        entities.thumbnail(),
    ];
    let doorbell = entities.doorbell();
    let mut absent = Vec::new();
    if camera.is_doorbell {
        components.push(doorbell);
    } else {
        absent.push((doorbell.unique_id, doorbell.platform));
    }
    let model = match camera.source_type.as_str() {
        "unknown" => "Camera".to_owned(),
        source_type => format!("Camera ({source_type})"),
    };
    let id = camera_device_id(&settings.topic_prefix, &camera.camera_id);
    if description_kind(&camera.camera_id) != "event" {
        // Earlier versions announced the description under this id.
        absent.push((format!("{id}_event"), Platform::Sensor));
    }
    let info = DeviceInfo {
        identifiers: [id.clone()],
        name: camera.camera_name.clone(),
        manufacturer: "Live Object AI",
        model,
        sw_version: about.version,
        via_device: Some(service_device_id(settings)),
        configuration_url: about.configuration_url().map(str::to_owned),
    };
    Device { id, info, origin: Origin::new(about), components, absent }
}

#[derive(Clone, Copy)]
struct Entities<'a> {
    camera: &'a Camera,
    settings: &'a MqttSettings,
}

impl Entities<'_> {
    /// Fires for each detection. It uses the topic of live events, so that a late event never fires it.
    fn detection(self) -> Component {
        let types = event_types(self.camera);
        let template = format!(
            "{{{{ dict(value_json, event_type=value_json.objects_detected | select('in', {}) | first \
             | default('{OTHER}')) | to_json }}}}",
            template::list(&types)
        );
        Component {
            icon: Some("mdi:eye"),
            event_types: Some(types),
            value_template: Some(template),
            ..self.events("detection", "detection", "Detection")
        }
    }

    fn doorbell(self) -> Component {
        // Home Assistant ignores a message that renders to an empty string.
        let template = format!(
            "{{{{ (dict(value_json, event_type='{RING}') | to_json) if value_json.is_doorbell_ring \
             | default(false) else '' }}}}"
        );
        Component {
            device_class: Some("doorbell"),
            event_types: Some(vec![RING.to_owned()]),
            value_template: Some(template),
            ..self.events("doorbell", "doorbell", "Doorbell")
        }
    }

    fn events(self, kind: &str, entity: &str, name: &'static str) -> Component {
        Component {
            state_topic: Some(self.settings.topic_prefix.event(&self.camera.camera_id)),
            // Events use the same QoS from the broker to Home Assistant as from the service to the broker.
            qos: Some(self.settings.qos.level()),
            ..self.entity(Platform::Event, kind, entity, name)
        }
    }

    fn description(self) -> Component {
        let (prefix, id) = (&self.settings.topic_prefix, &self.camera.camera_id);
        Component {
            icon: Some("mdi:text"),
            state_topic: Some(prefix.description(id)),
            json_attributes_topic: Some(prefix.last_event(id)),
            ..self.entity(Platform::Sensor, description_kind(id), "description", "Description")
        }
    }

    fn status(self) -> Component {
        let entity = self.entity(Platform::BinarySensor, "status", "status", "Status");
        let entity = entity.available([
            Availability::service(self.settings),
            // This entity shows that a camera is offline, so it must remain available then.
            self.camera_available("'offline' if value_json.status == 'unavailable' else 'online'"),
        ]);
        Component {
            device_class: Some("connectivity"),
            entity_category: Some("diagnostic"),
            state_topic: Some(self.settings.topic_prefix.camera_status(&self.camera.camera_id)),
            value_template: Some("{{ 'ON' if value_json.status == 'online' else 'OFF' }}".to_owned()),
            ..entity
        }
    }

    fn last_event(self) -> Component {
        Component {
            device_class: Some("timestamp"),
            state_topic: Some(self.settings.topic_prefix.last_event(&self.camera.camera_id)),
            value_template: Some("{{ value_json.timestamp }}".to_owned()),
            ..self.entity(Platform::Sensor, "last_event", "last_event", "Last event")
        }
    }

    fn count(self, kind: &str, entity: &str, name: &'static str, field: &str) -> Component {
        Component {
            icon: Some("mdi:counter"),
            state_class: Some("total_increasing"),
            unit_of_measurement: EVENTS,
            state_topic: Some(self.settings.topic_prefix.counts(&self.camera.camera_id)),
            value_template: Some(format!("{{{{ value_json.{field} }}}}")),
            ..self.entity(Platform::Sensor, kind, entity, name)
        }
    }

    fn activity(self) -> Component {
        Component {
            device_class: Some("motion"),
            state_topic: Some(self.settings.topic_prefix.activity(&self.camera.camera_id)),
            value_template: Some("{{ value_json.state }}".to_owned()),
            ..self.entity(Platform::BinarySensor, "activity", "activity", "Activity")
        }
    }

    fn thumbnail(self) -> Component {
        let format = self.camera.thumbnail.map_or(ImageType::Jpeg, |thumbnail| thumbnail.format);
        Component {
            image_topic: Some(self.settings.topic_prefix.thumbnail(&self.camera.camera_id)),
            content_type: Some(format.media_type()),
            ..self.entity(Platform::Image, "thumbnail", "thumbnail", "Thumbnail")
        }
    }

    /// Returns an entity that is available while the service is connected and the camera is online.
    fn entity(self, platform: Platform, kind: &str, entity: &str, name: &'static str) -> Component {
        let id = &self.camera.camera_id;
        let unique_id = format!("{}_{kind}", camera_device_id(&self.settings.topic_prefix, id));
        Component::new(platform, unique_id, &format!("{}_{entity}", entity_slug(id.as_str())), name)
            .available([
                Availability::service(self.settings),
                self.camera_available("'online' if value_json.status == 'online' else 'offline'"),
            ])
    }

    fn camera_available(self, when: &str) -> Availability {
        Availability {
            topic: self.settings.topic_prefix.camera_status(&self.camera.camera_id),
            // Home Assistant ignores any third value and keeps the previous availability.
            value_template: Some(format!("{{{{ {when} }}}}")),
            payload_available: "online".to_owned(),
            payload_not_available: "offline".to_owned(),
        }
    }
}

/// Returns the event types of a camera: the common ones, those that it has seen, and one for all others.
fn event_types(camera: &Camera) -> Vec<String> {
    let mut types: Vec<String> = COMMON_EVENT_TYPES.iter().copied().map(str::to_owned).collect();
    types.extend(camera.event_types.iter().filter(|name| *name != OTHER).cloned());
    types.push(OTHER.to_owned());
    types
}
