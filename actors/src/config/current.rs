//! The settings in force, and what may be done with their secrets. Pure: no file, no database.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::secrets::{Held, Secrets};
use crate::{
    domain::{
        clock::Timestamp,
        fields::{Faults, Invalid},
        settings::{MqttSettings, SecretUpdate, SettingsChange, SettingsUpdate},
    },
    messages::config::{SettingsChanged, SettingsView},
};

/// The settings in force.
#[derive(Debug, Clone)]
pub(super) struct Current {
    /// Made once per installation: what `client_id` is by default.
    pub client_id: String,
    /// Both secrets `None`.
    pub settings: MqttSettings,
    pub secrets: Secrets,
    /// When they were stored; `None` for defaults.
    pub updated_at: Option<Timestamp>,
    /// Why what is stored, or was to be stored at first, does not hold.
    pub broken: Option<String>,
}

impl Current {
    /// What is shown.
    pub(super) fn view(&self) -> SettingsView {
        SettingsView {
            settings: self.settings.clone(),
            has_password: self.secrets.password.is_stored(),
            has_client_key: self.secrets.client_key.is_stored(),
            updated_at: self.updated_at,
        }
    }

    /// Returns the fact that other actors are notified of, secrets included.
    pub(super) fn to_changed(&self, change: SettingsChange) -> SettingsChanged {
        let unreadable = self.broken.clone().or_else(|| self.secrets.unreadable());
        SettingsChanged { settings: Arc::new(self.complete()), change, unreadable }
    }

    fn complete(&self) -> MqttSettings {
        let mut settings = self.settings.clone();
        settings.password = self.secrets.password.known();
        settings.client_key = self.secrets.client_key.known();
        settings
    }

    /// The settings of a trial connection: the ones in force when the object is absent or empty, else the object's, with a
    /// stored secret only where it may be sent.
    pub(super) fn trial(&self, object: Option<Value>) -> Result<MqttSettings, Invalid> {
        let empty = |value: &Value| value.as_object().is_some_and(Map::is_empty);
        let update = match object.filter(|value| !empty(value)) {
            Some(value) => MqttSettings::read(value, &self.client_id)?,
            None => self.unchanged(),
        };
        let mut faults = self.faults(&update);
        if update.settings.broker_host.is_empty() {
            faults.push("broker_host", "must not be empty");
        }
        let SettingsUpdate { mut settings, password, client_key } = update;
        for (field, update, held) in [
            ("password", &password, &self.secrets.password),
            ("client_key", &client_key, &self.secrets.client_key),
        ] {
            if let (SecretUpdate::Keep, Some(why), false) = (update, held.fault(), faults.has(field)) {
                faults.push(field, why);
            }
        }
        faults.finish()?;
        settings.password = password.apply(self.secrets.password.known());
        settings.client_key = client_key.apply(self.secrets.client_key.known());
        Ok(settings)
    }

    fn unchanged(&self) -> SettingsUpdate {
        let (password, client_key) = (SecretUpdate::Keep, SecretUpdate::Keep);
        SettingsUpdate { settings: self.settings.clone(), password, client_key }
    }

    /// What of an update does not go with what is stored.
    pub(super) fn faults(&self, update: &SettingsUpdate) -> Faults {
        let mut faults = self.destination_faults(update);
        update.check_client_identity(self.secrets.client_key.is_stored(), &mut faults);
        faults
    }

    /// A secret that is not mentioned stays where it was going: nobody can have it sent elsewhere.
    fn destination_faults(&self, update: &SettingsUpdate) -> Faults {
        let mut faults = Faults::default();
        if self.settings.same_destination(&update.settings) {
            return faults;
        }
        for (field, name, update, held) in [
            ("password", "password", &update.password, &self.secrets.password),
            ("client_key", "client key", &update.client_key, &self.secrets.client_key),
        ] {
            if matches!(update, SecretUpdate::Keep) && held.is_stored() {
                let why = "host, port, user or TLS settings have changed";
                faults.push(field, format!("enter the {name} again: {why}"));
            }
        }
        faults
    }

    /// The names of what an update changes; a secret that is set counts, whatever it was.
    pub(super) fn changes(&self, update: &SettingsUpdate) -> Vec<&'static str> {
        let (old, new) = (fields(&self.settings), fields(&update.settings));
        let secret = |update: &SecretUpdate, held: &Held| match update {
            SecretUpdate::Keep => false,
            SecretUpdate::Clear => held.is_stored(),
            SecretUpdate::Set(_) => true,
        };
        let changed = |field: &&str| match *field {
            "password" => secret(&update.password, &self.secrets.password),
            "client_key" => secret(&update.client_key, &self.secrets.client_key),
            field => old.get(field) != new.get(field),
        };
        MqttSettings::FIELDS.into_iter().filter(changed).collect()
    }
}

/// The settings as JSON, without secrets.
pub(super) fn fields(settings: &MqttSettings) -> Value {
    serde_json::to_value(settings).expect("settings are texts, numbers and truth values under text keys")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::identity_file::IdentityState;

    fn current(object: Value) -> Current {
        let settings = MqttSettings::read(object, "c").unwrap().settings;
        let identity = IdentityState::Unusable { reason: "none here".to_owned() };
        let secrets = Secrets { identity, password: Held::Known("x".into()), client_key: Held::None };
        Current { client_id: "c".to_owned(), settings, secrets, updated_at: None, broken: None }
    }

    fn changes(from: Value, to: Value) -> Vec<&'static str> {
        current(from).changes(&MqttSettings::read(to, "c").unwrap())
    }

    #[test]
    fn changes_are_told_by_name() {
        assert_eq!(changes(json!({}), json!({})), Vec::<&str>::new());
        let to = json!({"qos": 0, "topic_prefix": "a/b", "password": "y", "client_key": null});
        assert_eq!(changes(json!({"qos": 2}), to), ["password", "topic_prefix", "qos"]);
        assert_eq!(changes(json!({"username": "u"}), json!({"password": null})), ["username", "password"]);
    }

    /// With both secrets stored, over TLS.
    fn holding(object: Value) -> Current {
        let mut current = current(object);
        current.secrets.client_key = Held::Unreadable("the identity is missing".to_owned());
        current
    }

    fn at_fault(current: &Current, object: Value) -> Vec<String> {
        let update = MqttSettings::read(object, "c").unwrap();
        let tested = current.faults(&update).finish();
        let faults = tested.err().map(|Invalid(faults)| faults).unwrap_or_default();
        faults.into_iter().map(|fault| fault.field).collect()
    }

    const EC: &str = include_str!("../domain/certificate/testdata/ec.crt");
    const RSA: &str = include_str!("../domain/certificate/testdata/rsa.crt");

    #[test]
    fn a_secret_is_bound_to_where_it_was_entered_for() {
        let held = json!({
            "broker_host": "a", "username": "u", "use_tls": true, "ca_certificate": EC, "client_certificate": EC,
        });
        let with = |field: &str, value: Value| {
            let mut object = held.clone();
            object[field] = value;
            object
        };
        let current = holding(held.clone());
        assert!(at_fault(&current, with("qos", json!(2))).is_empty());
        for (field, value) in [
            ("broker_host", json!("b")),
            ("broker_port", json!(1884)),
            ("username", json!("v")),
            ("transport", json!("websocket")),
            ("websocket_path", json!("/elsewhere")),
            ("tls_insecure", json!(true)),
            ("tls_server_name", json!("b")),
            ("ca_certificate", Value::Null),
            ("ca_certificate", json!(RSA)),
            ("client_certificate", json!(RSA)),
        ] {
            let object = with(field, value);
            assert_eq!(at_fault(&current, object.clone()), ["password", "client_key"], "{field}");
            assert!(current.trial(Some(object)).is_err(), "{field}");
        }
        let plain = json!({"broker_host": "a", "username": "u"});
        assert_eq!(at_fault(&current, plain.clone()), ["password", "client_key"]);
        let mut cleared = plain;
        cleared["password"] = Value::Null;
        cleared["client_key"] = Value::Null;
        assert!(at_fault(&current, cleared).is_empty());
    }

    #[test]
    fn a_stored_key_wants_its_certificate_even_when_it_cannot_be_read() {
        let held = json!({"broker_host": "a", "use_tls": true, "client_certificate": EC});
        let current = holding(held.clone());
        assert!(at_fault(&current, held.clone()).is_empty());
        let mut cleared = held;
        cleared["client_key"] = Value::Null;
        assert_eq!(at_fault(&current, cleared), ["client_key"]);
    }
}
