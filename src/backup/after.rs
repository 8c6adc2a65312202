//! What a service does about MQTT after a restore.

use liveobject_actors::{domain::settings::MqttSettings, store::copy::Contents};

use super::RestoreError;
use crate::config::{Config, InitialSettings};

/// What the next start of the service does about MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRestore {
    /// It connects to the broker.
    Connects,
    /// It does not connect until somebody switches MQTT on.
    SwitchedOff,
    /// It does not connect, because no broker is configured.
    NoBroker,
}

/// How a backup is restored.
#[derive(Debug, Clone, Copy)]
pub struct RestoreOptions {
    /// Existing data is replaced. Otherwise, it is an error.
    pub replaces_data: bool,
    /// MQTT is switched off in the restored settings.
    pub disconnected: bool,
    /// The settings in the configuration replace those in the database.
    is_managed: bool,
    /// What a start with the MQTT settings in the configuration does.
    configured: AfterRestore,
}

impl RestoreOptions {
    /// Returns the options for a service with this configuration whose data is replaced.
    pub fn replacing(config: &Config) -> Self {
        Self::of(config, true)
    }

    /// Returns the options for a service with this configuration that has no data. Existing data is an error.
    pub fn into_empty(config: &Config) -> Self {
        Self::of(config, false)
    }

    fn of(config: &Config, replaces_data: bool) -> Self {
        let settings = config.mqtt.as_ref().map(InitialSettings::to_json);
        let settings = settings.and_then(|settings| MqttSettings::read(settings, "configured").ok());
        let configured = settings.map_or(AfterRestore::NoBroker, |read| {
            AfterRestore::of(!read.settings.broker_host.is_empty(), read.settings.enabled)
        });
        Self { replaces_data, disconnected: false, is_managed: config.mqtt_managed, configured }
    }

    /// Returns these options; MQTT is switched off only if `disconnected`.
    #[must_use]
    pub fn disconnected_if(self, disconnected: bool) -> Self {
        Self { disconnected, ..self }
    }
}

impl AfterRestore {
    fn of(has_broker: bool, is_enabled: bool) -> Self {
        match (has_broker, is_enabled) {
            (true, true) => Self::Connects,
            (true, false) => Self::SwitchedOff,
            (false, _) => Self::NoBroker,
        }
    }

    /// Returns what the next start does with a restored database. Fails if it would connect although it must not.
    pub(super) fn after(options: RestoreOptions, contents: &Contents) -> Result<Self, RestoreError> {
        if options.is_managed || !contents.has_mqtt_settings {
            if options.disconnected && options.configured == Self::Connects {
                return Err(RestoreError::Managed);
            }
            return Ok(options.configured);
        }
        Ok(Self::of(contents.has_broker, contents.is_mqtt_enabled && !options.disconnected))
    }
}
