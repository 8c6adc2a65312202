//! A broker that Home Assistant's Supervisor provides, instead of the one in the settings.

use std::fmt;

use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::{MqttSettings, SecretUpdate, SettingsUpdate};
use crate::domain::fields::Invalid;

/// The address of a broker, and how to log in. It is kept in memory only.
#[derive(Clone)]
pub struct ProvidedBroker {
    /// Only [`ProvidedBroker::FIELDS`] are used.
    settings: Box<MqttSettings>,
}

impl ProvidedBroker {
    /// The settings that a provided broker replaces: everything that decides where the service connects, and as whom.
    pub const FIELDS: [&'static str; 13] = [
        "enabled",
        "broker_host",
        "broker_port",
        "username",
        "password",
        "transport",
        "websocket_path",
        "use_tls",
        "ca_certificate",
        "client_certificate",
        "client_key",
        "tls_server_name",
        "tls_insecure",
    ];

    /// Reads what the Supervisor reports about its MQTT service: `host`, `port`, `username`, `password` and `ssl`.
    /// Returns `None` if it names no host. Other fields are ignored. Errors do not repeat the password.
    pub fn read(mut service: Map<String, Value>) -> Result<Option<Self>, Invalid> {
        if service.get("host").is_none_or(|host| host.is_null() || host == "") {
            return Ok(None);
        }
        let mut settings = json!({ "enabled": true });
        for (name, setting) in [
            ("host", "broker_host"),
            ("port", "broker_port"),
            ("username", "username"),
            ("password", "password"),
            ("ssl", "use_tls"),
        ] {
            if let Some(value) = service.remove(name).filter(|value| !value.is_null()) {
                settings[setting] = value;
            }
        }
        let SettingsUpdate { mut settings, password, .. } = MqttSettings::read(settings, "")?;
        settings.password = match password {
            SecretUpdate::Set(password) => Some(password),
            SecretUpdate::Keep | SecretUpdate::Clear => None,
        };
        Ok(Some(Self { settings: Box::new(settings) }))
    }

    /// Returns these settings with the provided broker, without its password.
    pub fn apply_to(&self, settings: &MqttSettings) -> MqttSettings {
        let MqttSettings {
            enabled,
            broker_host,
            broker_port,
            username,
            transport,
            websocket_path,
            use_tls,
            ca_certificate,
            client_certificate,
            tls_server_name,
            tls_insecure,
            ..
        } = MqttSettings::clone(&self.settings);
        MqttSettings {
            enabled,
            broker_host,
            broker_port,
            username,
            password: None,
            transport,
            websocket_path,
            use_tls,
            ca_certificate,
            client_certificate,
            client_key: None,
            tls_server_name,
            tls_insecure,
            ..settings.clone()
        }
    }

    /// Returns the password.
    pub fn password(&self) -> Option<&SecretString> {
        self.settings.password.as_ref()
    }

    /// Returns `host:port`.
    pub fn address(&self) -> String {
        self.settings.broker()
    }
}

impl PartialEq for ProvidedBroker {
    fn eq(&self, other: &Self) -> bool {
        self.settings.same_destination(&other.settings)
            && self.settings.exposed_password() == other.settings.exposed_password()
    }
}

impl fmt::Debug for ProvidedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProvidedBroker").field(&self.address()).finish()
    }
}

/// What is known about the broker that the Supervisor provides.
#[derive(Debug, Clone, PartialEq)]
pub enum Provision {
    /// It provides this one.
    Broker(ProvidedBroker),
    /// It provides none. The broker in the settings is used.
    None,
    /// It has not answered the first request yet.
    Asking,
    /// It is not known, for this reason. The text completes a sentence that begins with "Home Assistant's Supervisor",
    /// without a full stop.
    Unknown(String),
}

impl Provision {
    /// Returns whether this changes what was known. A known answer remains valid if the Supervisor cannot be asked
    /// later.
    pub fn replaces(&self, known: &Self) -> bool {
        self != known && (!matches!(self, Self::Unknown(_)) || known.is_open())
    }

    /// Returns whether it is not known yet where to connect.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Asking | Self::Unknown(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<Option<ProvidedBroker>, Invalid> {
        let Value::Object(service) = value else { unreachable!("the tests pass objects") };
        ProvidedBroker::read(service)
    }

    fn service() -> Value {
        json!({
            "addon": "core_mosquitto", "host": "core-mosquitto", "port": 1883, "ssl": false,
            "username": "addons", "password": "hunter2", "protocol": "3.1.1",
        })
    }

    #[test]
    fn a_provided_broker_replaces_where_and_as_whom_the_service_connects_and_nothing_else() {
        let broker = read(service()).unwrap().unwrap();
        let typed = json!({
            "enabled": false, "broker_host": "typed", "username": "typed", "transport": "websocket",
            "use_tls": true, "tls_insecure": true, "client_id": "typed", "qos": 2,
        });
        let typed = MqttSettings::read(typed, "").unwrap().settings;
        let applied = broker.apply_to(&typed);
        let (before, after) =
            (serde_json::to_value(&typed).unwrap(), serde_json::to_value(&applied).unwrap());
        assert_eq!((applied.broker().as_str(), applied.enabled), ("core-mosquitto:1883", true));
        assert_eq!(applied.username.as_deref(), Some("addons"));
        for (name, value) in after.as_object().unwrap() {
            if !ProvidedBroker::FIELDS.contains(&name.as_str()) {
                assert_eq!(before[name], *value, "{name}");
            }
        }
        assert!(applied.password.is_none() && !format!("{broker:?}").contains("hunter2"));
        assert!(ProvidedBroker::FIELDS.iter().all(|field| MqttSettings::FIELDS.contains(field)));
    }

    #[test]
    fn a_service_without_a_host_is_none_and_an_invalid_one_is_refused_without_its_password() {
        for nothing in [json!({}), json!({ "host": null }), json!({ "host": "", "password": "hunter2" })] {
            assert_eq!(read(nothing).unwrap(), None);
        }
        for (field, value) in [
            ("host", json!("a b")),
            ("port", json!("x")),
            ("ssl", json!("maybe")),
            ("password", json!(["hunter2"])),
        ] {
            let mut bad = service();
            bad[field] = value;
            assert!(!read(bad).unwrap_err().to_string().contains("hunter2"), "{field}");
        }
        let mut other = service();
        other["password"] = "other".into();
        assert_ne!(read(other).unwrap(), read(service()).unwrap());
        let anonymous = read(json!({ "host": "a", "username": null, "password": "" })).unwrap().unwrap();
        assert!(anonymous.password().is_none() && anonymous.address() == "a:1883");
    }
}
