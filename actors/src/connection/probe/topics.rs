//! Which messages the connection test publishes on the service's topics. None of them changes anything: an empty
//! retained message removes a message that does not exist, and the test's payload on the availability topic is
//! neither the birth nor the will message, so Home Assistant ignores it. The message on the topics of events is a
//! JSON object, because subscribers to the events of all cameras receive it; it has none of the keys of an event.

use bytes::Bytes;

use crate::{
    connection::client::Message,
    domain::{
        probe_report::Stage,
        settings::{DiscoveryFormat, MqttSettings, QoS},
    },
};

/// The level of the test's topics where others have a camera id. It cannot be the id of a camera.
const CAMERA: &str = "~test";

/// The id of the test's discovery messages. Ids of devices start with `liveobject_`.
const DEVICE: &str = "liveobject-connection-test";

/// The platforms of the entities in the `component` format.
const PLATFORMS: [&str; 4] = ["binary_sensor", "event", "image", "sensor"];

/// The last levels of the topics of events, and of the retained states of a camera.
const EVENTS: [&str; 2] = ["event", "history"];
const STATES: [&str; 6] = ["status", "activity", "counts", "last_event", "description", "thumbnail"];

/// The messages of one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The stage.
    pub stage: Stage,
    /// Its messages, at least one.
    pub messages: Vec<Message>,
}

/// Returns the stages after the loopback. `payload` identifies the test; `retain` is whether the broker supports
/// retained messages.
pub fn plan(settings: &MqttSettings, payload: &Bytes, retain: bool) -> Vec<Planned> {
    let message = |topic, payload: &Bytes, retain| Message {
        topic,
        payload: payload.clone(),
        qos: QoS::AtLeastOnce,
        retain,
        expiry_seconds: None,
    };
    let empty = Bytes::new();
    let of_camera = |kinds: &[&str], payload: &Bytes, retain| -> Vec<Message> {
        let topic = |kind| format!("{}/camera/{CAMERA}/{kind}", settings.topic_prefix);
        kinds.iter().map(|kind| message(topic(kind), payload, retain)).collect()
    };
    let event = serde_json::json!({ "test": String::from_utf8_lossy(payload) }).to_string().into();
    let platforms: &[&str] = match settings.discovery_format {
        DiscoveryFormat::Device => &["device"],
        DiscoveryFormat::Component => &PLATFORMS,
    };
    let discovery = |platform| format!("{}/{platform}/{DEVICE}/config", settings.discovery_prefix);
    let discovery = platforms.iter().map(|platform| message(discovery(platform), &empty, retain)).collect();
    let availability = vec![message(settings.availability_topic(), payload, false)];
    let stages = [
        (Stage::Availability, availability),
        (Stage::Discovery, discovery),
        (Stage::Events, of_camera(&EVENTS, &event, false)),
        (Stage::States, of_camera(&STATES, &empty, retain)),
    ];
    let is_used = |stage: &Stage| *stage != Stage::Discovery || settings.discovery_enabled;
    let used = stages.into_iter().filter(|(stage, _)| is_used(stage));
    used.map(|(stage, messages)| Planned { stage, messages }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::CameraId;

    fn stages(settings: &MqttSettings) -> Vec<Planned> {
        plan(settings, &Bytes::from_static(b"connection test 1"), true)
    }

    #[test]
    fn no_message_is_retained_or_belongs_to_a_camera() {
        assert!(CameraId::parse(CAMERA).is_err());
        for format in [DiscoveryFormat::Device, DiscoveryFormat::Component] {
            let settings = MqttSettings { discovery_format: format, ..MqttSettings::defaults("c") };
            for message in stages(&settings).into_iter().flat_map(|planned| planned.messages) {
                assert!(message.payload.is_empty() || !message.retain, "{message:?}");
            }
        }
    }

    #[test]
    fn discovery_is_tested_only_if_it_is_enabled() {
        let settings = MqttSettings { discovery_enabled: false, ..MqttSettings::defaults("c") };
        let names: Vec<_> = stages(&settings).iter().map(|planned| planned.stage).collect();
        assert_eq!(names, [Stage::Availability, Stage::Events, Stage::States]);
    }
}
