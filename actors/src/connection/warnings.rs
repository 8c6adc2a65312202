//! Warnings about settings that the broker does not support.

use super::client::Limits;
use crate::domain::{
    settings::MqttSettings,
    status::{Warning, WarningKind},
};

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
