//! Warnings about the broker: settings that it does not support, and topics that it does not allow.

use std::collections::BTreeMap;

use super::client::Limits;
use crate::domain::{
    delivery::DeadReason,
    settings::MqttSettings,
    status::{Warning, WarningKind},
    topic_use::{self, Rejection},
};

/// Maximum number of refused topics that are remembered. Topics of a family count as one.
const MAX_REFUSALS: usize = 20;

/// The topics to which the broker does not let the service publish on this connection.
#[derive(Debug, Default)]
pub struct Refusals {
    /// By family of topics: the first refused topic, and the warning.
    topics: BTreeMap<String, (String, Warning)>,
}

impl Refusals {
    /// Records a refusal. Returns whether the warnings have changed.
    pub fn refused(&mut self, topic: &str, reason: DeadReason, settings: &MqttSettings) -> bool {
        let name = topic_use::family(topic, settings);
        if self.topics.contains_key(&name) || self.topics.len() >= MAX_REFUSALS {
            return false;
        }
        let message = format!(
            "{} Then save the MQTT settings, even unchanged, so that the service reconnects and tries again.",
            topic_use::describe(Rejection::Refuses(reason), &name, settings)
        );
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
