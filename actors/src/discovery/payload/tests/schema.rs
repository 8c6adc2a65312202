//! The messages that Home Assistant accepts according to its documentation. This check is stricter: an
//! unknown key is an error.
//!
//! Source: <https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload> and the pages of the
//! platforms `binary_sensor.mqtt`, `event.mqtt`, `image.mqtt` and `sensor.mqtt`; device and state classes:
//! <https://developers.home-assistant.io/docs/core/entity/sensor/>.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Device, device::Announcement};
use crate::domain::settings::MqttSettings;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceMessage {
    device: DeviceInfo,
    origin: Origin,
    components: BTreeMap<String, Value>,
}

#[derive(Deserialize, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
struct DeviceInfo {
    identifiers: Vec<String>,
    name: String,
    manufacturer: String,
    model: String,
    sw_version: String,
    via_device: Option<String>,
    configuration_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Origin {
    name: String,
    sw_version: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Availability {
    topic: String,
    value_template: Option<String>,
    payload_available: String,
    payload_not_available: String,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum AvailabilityMode {
    All,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum EntityCategory {
    Diagnostic,
}

/// The keys that all platforms share.
#[derive(Deserialize)]
struct Common {
    unique_id: String,
    default_entity_id: String,
    name: String,
    icon: Option<String>,
    #[serde(rename = "entity_category")]
    _entity_category: Option<EntityCategory>,
    #[serde(default)]
    availability: Vec<Availability>,
    availability_mode: Option<AvailabilityMode>,
}

const COMMON: [&str; 7] = [
    "unique_id",
    "default_entity_id",
    "name",
    "icon",
    "entity_category",
    "availability",
    "availability_mode",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BinarySensor {
    #[serde(rename = "device_class")]
    _device_class: BinarySensorClass,
    state_topic: String,
    value_template: Option<String>,
    payload_on: Option<String>,
    payload_off: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum BinarySensorClass {
    Connectivity,
    Motion,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    device_class: Option<EventClass>,
    event_types: Vec<String>,
    state_topic: String,
    value_template: String,
    qos: u8,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum EventClass {
    Doorbell,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    image_topic: String,
    content_type: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sensor {
    device_class: Option<SensorClass>,
    state_class: Option<StateClass>,
    unit_of_measurement: Option<String>,
    state_topic: String,
    value_template: Option<String>,
    json_attributes_topic: Option<String>,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum SensorClass {
    Timestamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum StateClass {
    Measurement,
    TotalIncreasing,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Absent {
    platform: String,
}

/// Panics if Home Assistant would refuse a message, silently ignore a part of it, or log a warning.
pub fn check(device: &Device, settings: &MqttSettings) {
    let announcements = device.announcements(settings);
    assert!(!announcements.is_empty());
    let topics: Vec<_> = announcements.iter().map(|announcement| announcement.topic.clone()).collect();
    assert_eq!(topics, device.topics(settings));
    let mut seen = HashSet::new();
    for Announcement { topic, payload } in announcements {
        let message: Value = serde_json::from_slice(&payload).unwrap();
        assert_no_null(&message);
        let levels = topic.strip_prefix(settings.discovery_prefix.as_str()).unwrap();
        let [platform, id] = levels
            .strip_prefix('/')
            .and_then(|levels| levels.strip_suffix("/config"))
            .and_then(|levels| levels.split('/').collect::<Vec<_>>().try_into().ok())
            .unwrap_or_else(|| panic!("{topic}"));
        assert!(is_word(id), "{topic}");
        if platform == "device" {
            device_message(id, message, &mut seen);
        } else {
            component_message(platform, id, message, &mut seen);
        }
    }
}

fn device_message(id: &str, message: Value, seen: &mut HashSet<String>) {
    let DeviceMessage { device, origin, components } = serde_json::from_value(message).unwrap();
    check_device(&device, &origin);
    assert_eq!(device.identifiers, [id]);
    assert!(!components.is_empty());
    for (key, component) in components {
        assert!(
            is_word(&key),
            "Home Assistant does not remove a component whose key contains a space: {key}"
        );
        let Value::Object(mut keys) = component else { panic!("{key}") };
        if keys.len() == 1 {
            let absent: Absent = serde_json::from_value(Value::Object(keys)).unwrap();
            assert_eq!(absent.platform, "event");
        } else {
            let platform = keys.remove("platform").unwrap();
            check_component(platform.as_str().unwrap(), &key, &device.name, keys, seen);
        }
    }
}

fn component_message(platform: &str, id: &str, message: Value, seen: &mut HashSet<String>) {
    let Value::Object(mut keys) = message else { panic!("{id}") };
    let device: DeviceInfo = serde_json::from_value(keys.remove("device").unwrap()).unwrap();
    let origin: Origin = serde_json::from_value(keys.remove("origin").unwrap()).unwrap();
    check_device(&device, &origin);
    check_component(platform, id, &device.name, keys, seen);
}

fn check_device(device: &DeviceInfo, origin: &Origin) {
    for text in [
        &device.name,
        &device.manufacturer,
        &device.model,
        &device.sw_version,
        &origin.name,
        &origin.sw_version,
    ] {
        assert!(!text.is_empty());
    }
    assert!(device.via_device.as_ref().is_none_or(|via| !device.identifiers.contains(via)));
    assert!(device.configuration_url.as_ref().is_none_or(|url| url.starts_with("http")));
}

fn check_component(
    platform: &str,
    key: &str,
    device_name: &str,
    keys: Map<String, Value>,
    seen: &mut HashSet<String>,
) {
    let (common, own): (Map<_, _>, Map<_, _>) =
        keys.into_iter().partition(|(key, _)| COMMON.contains(&key.as_str()));
    let common: Common = serde_json::from_value(Value::Object(common)).unwrap();
    assert_eq!(common.unique_id, key);
    assert!(seen.insert(common.unique_id), "used twice: {key}");
    let object_id = common.default_entity_id.strip_prefix(&format!("{platform}.")).unwrap();
    assert!(is_object_id(object_id), "{object_id}");
    assert!(!common.name.is_empty() && !common.name.to_lowercase().starts_with(&device_name.to_lowercase()));
    assert!(common.icon.is_none_or(|icon| icon.starts_with("mdi:")));
    // Without a mode, the latest message on any of the topics counts.
    assert_eq!(common.availability.len() > 1, common.availability_mode.is_some());
    for availability in common.availability {
        assert_topic(&availability.topic);
        assert_ne!(availability.payload_available, availability.payload_not_available);
        assert!(!availability.payload_available.is_empty() && !availability.payload_not_available.is_empty());
        check_template(availability.value_template.as_deref());
    }
    let own = Value::Object(own);
    match platform {
        "binary_sensor" => check_binary_sensor(&serde_json::from_value(own).unwrap()),
        "event" => check_event(&serde_json::from_value(own).unwrap()),
        "image" => check_image(&serde_json::from_value(own).unwrap()),
        "sensor" => check_sensor(&serde_json::from_value(own).unwrap()),
        _ => panic!("unknown platform: {platform}"),
    }
}

fn check_binary_sensor(sensor: &BinarySensor) {
    assert_topic(&sensor.state_topic);
    check_template(sensor.value_template.as_deref());
    assert_eq!(sensor.payload_on.is_some(), sensor.payload_off.is_some());
    assert!(sensor.payload_on.is_some() || sensor.value_template.is_some());
}

fn check_event(event: &Event) {
    assert_topic(&event.state_topic);
    assert!(event.state_topic.ends_with("/event"), "only live events may fire it");
    check_template(Some(&event.value_template));
    assert!(event.qos <= 2);
    assert!(!event.event_types.is_empty());
    assert_eq!(event.event_types.iter().collect::<HashSet<_>>().len(), event.event_types.len());
    if let Some(EventClass::Doorbell) = event.device_class {
        assert_eq!(event.event_types, ["ring"]);
    }
}

fn check_image(image: &Image) {
    assert_topic(&image.image_topic);
    assert!(["image/jpeg", "image/png", "image/webp"].contains(&image.content_type.as_str()));
}

fn check_sensor(sensor: &Sensor) {
    assert_topic(&sensor.state_topic);
    check_template(sensor.value_template.as_deref());
    if let Some(topic) = &sensor.json_attributes_topic {
        assert_topic(topic);
    }
    assert_eq!(sensor.state_class.is_some(), sensor.unit_of_measurement.is_some());
    if let Some(StateClass::Measurement | StateClass::TotalIncreasing) = sensor.state_class {
        assert!(sensor.device_class.is_none());
    }
}

fn assert_topic(topic: &str) {
    assert!(!topic.is_empty() && !topic.contains(['+', '#', '\0']), "{topic}");
}

/// Asserts that the template is one expression without any further delimiters inside.
fn check_template(template: Option<&str>) {
    let Some(template) = template else { return };
    let inner = template.strip_prefix("{{ ").and_then(|rest| rest.strip_suffix(" }}"));
    let inner = inner.unwrap_or_else(|| panic!("{template}"));
    assert!(!["{{", "}}", "{%", "%}", "{#", "#}"].iter().any(|mark| inner.contains(mark)), "{template}");
    assert_eq!(inner.matches('\'').count() % 2, 0, "{template}");
}

fn assert_no_null(value: &Value) {
    match value {
        Value::Null => panic!("Home Assistant refuses null for most keys"),
        Value::Array(items) => items.iter().for_each(assert_no_null),
        Value::Object(keys) => keys.values().for_each(assert_no_null),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_word(id: &str) -> bool {
    !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

fn is_object_id(id: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    !id.is_empty()
        && id.chars().all(legal)
        && !id.starts_with('_')
        && !id.ends_with('_')
        && !id.contains("__")
}
