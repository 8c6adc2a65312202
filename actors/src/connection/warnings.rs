//! Warnings about the broker: settings that it does not support, and topics that it does not allow.

use std::collections::BTreeMap;

use super::client::Limits;
use crate::domain::{
    delivery::DeadReason,
    settings::MqttSettings,
    status::{Warning, WarningKind},
};

/// Maximum number of refused topics that are remembered. Topics of a family count as one.
const MAX_REFUSALS: usize = 20;

/// The topics to which the broker does not let the service publish on this connection. Events are not among
/// them: a refused event is dead.
#[derive(Debug, Default)]
pub struct Refusals {
    /// By family, or by topic for a topic without a family: the first refused topic, and the warning.
    topics: BTreeMap<String, (String, Warning)>,
}

impl Refusals {
    /// Records a refusal. Returns whether the warnings have changed.
    pub fn refused(
        &mut self,
        topic: &str,
        family: Option<String>,
        reason: DeadReason,
        settings: &MqttSettings,
    ) -> bool {
        let name = family.unwrap_or_else(|| topic.to_owned());
        if self.topics.contains_key(&name) || self.topics.len() >= MAX_REFUSALS {
            return false;
        }
        let what_to_do = if topic == settings.availability_topic() {
            format!(
                "Home Assistant may show every entity as unavailable. Let this user publish to {name}, or set \
                 another availability_topic."
            )
        } else if topic.starts_with(&format!("{}/", settings.discovery_prefix)) {
            format!(
                "Home Assistant cannot discover the cameras. Let this user publish to {name}, or set \
                 discovery_enabled to false."
            )
        } else {
            format!("Home Assistant does not see these states. Let this user publish to {name}.")
        };
        let message = format!("The broker refuses messages on {name} ({}). {what_to_do}", reason.as_str());
        let warning = Warning { kind: WarningKind::TopicRefused, message };
        self.topics.insert(name, (topic.to_owned(), warning));
        true
    }

    /// Records that the broker accepted a message on this topic. Returns whether the warnings have changed.
    pub fn accepted(&mut self, topic: &str) -> bool {
        let before = self.topics.len();
        if before > 0 {
            self.topics.retain(|_, (refused, _)| refused != topic);
        }
        self.topics.len() != before
    }

    /// Returns the current warnings.
    pub fn warnings(&self) -> Vec<Warning> {
        self.topics.values().map(|(_, warning)| warning.clone()).collect()
    }
}

/// Returns a warning for each setting that the broker does not support.
pub fn unsupported(settings: &MqttSettings, limits: Limits) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if settings.qos > limits.maximum_qos {
        warnings.push(Warning {
            kind: WarningKind::QosLowered,
            message: format!(
                "The broker supports QoS {0} at most. Events are sent with QoS {0} instead of QoS {1}.",
                limits.maximum_qos.level(),
                settings.qos.level()
            ),
        });
    }
    if !limits.retain_available {
        warnings.push(Warning {
            kind: WarningKind::RetainUnavailable,
            message:
                "The broker does not support retained messages. Clients that subscribe later do not see \
                      the current state."
                    .to_owned(),
        });
    }
    warnings
}
