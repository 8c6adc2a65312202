//! The settings in effect, and the rules for their secrets. Pure: no file, no database.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::secrets::{Secrets, StoredSecret};
use crate::{
    domain::{
        clock::Timestamp,
        fields::{Faults, Invalid},
        settings::{MqttSettings, SecretUpdate, SettingsChange, SettingsUpdate, revision::revision_of},
        status::{Failure, FailureKind},
    },
    messages::config::{SettingsChanged, SettingsView},
};

/// The settings in effect.
#[derive(Debug, Clone)]
pub(super) struct Current {
    /// The default of `client_id`, generated once per installation.
    pub client_id: String,
    /// The settings without the secrets: both are `None` here.
    pub settings: MqttSettings,
    pub secrets: Secrets,
    /// When the settings were stored; `None` for defaults.
    pub updated_at: Option<Timestamp>,
    /// Why the stored settings, or the initial ones, cannot be used.
    pub broken: Option<String>,
}

impl Current {
    /// Returns the settings as clients see them. `provided` are the fields that they cannot change.
    pub(super) fn view(&self, managed: bool, provided: Vec<&'static str>) -> SettingsView {
        let mut view = SettingsView {
            settings: self.settings.clone(),
            has_password: self.secrets.password.is_stored(),
            has_client_key: self.secrets.client_key.is_stored(),
            updated_at: self.updated_at,
            managed,
            provided,
            revision: String::new(),
        };
        view.revision = revision_of(&view);
        view
    }

    /// Returns the notification for other actors, with the secrets.
    pub(super) fn to_changed(&self, change: SettingsChange) -> SettingsChanged {
        let unreadable = self.broken.clone().or_else(|| self.secrets.unreadable());
        let unusable = unreadable.map(|reason| Failure::new(FailureKind::SecretUnreadable, reason));
        SettingsChanged { settings: Arc::new(self.with_secrets()), change, unusable }
    }

    fn with_secrets(&self) -> MqttSettings {
        let mut settings = self.settings.clone();
        settings.password = self.secrets.password.known();
        settings.client_key = self.secrets.client_key.known();
        settings
    }

    /// Returns the settings for a connection test: the settings in effect if the object is absent or empty,
    /// otherwise those in the object. A stored secret is used only for the destination that it was entered
    /// for.
    pub(super) fn test_settings(&self, object: Option<Value>) -> Result<MqttSettings, Invalid> {
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
        for (field, update, stored) in [
            ("password", &password, &self.secrets.password),
            ("client_key", &client_key, &self.secrets.client_key),
        ] {
            if let (SecretUpdate::Keep, Some(reason), false) = (update, stored.fault(), faults.has(field)) {
                faults.push(field, reason);
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

    /// Returns the faults of an update that depend on what is stored.
    pub(super) fn faults(&self, update: &SettingsUpdate) -> Faults {
        let mut faults = self.destination_faults(update);
        if self.needs_another_key(update) && !faults.has("client_key") {
            faults.push("client_key", "enter the client key too, because the certificate has another key");
        }
        update.check_client_identity(self.secrets.client_key.is_stored(), &mut faults);
        faults
    }

    /// Returns a fault for each stored secret that must be entered again because the destination changes.
    /// Otherwise, anyone could have the secret sent elsewhere.
    fn destination_faults(&self, update: &SettingsUpdate) -> Faults {
        let mut faults = Faults::default();
        let changes = self.settings.destination_changes(&update.settings);
        if changes.is_empty() {
            return faults;
        }
        let changes = listed(&changes);
        for (field, name, update, stored) in [
            ("password", "password", &update.password, &self.secrets.password),
            ("client_key", "client key", &update.client_key, &self.secrets.client_key),
        ] {
            if matches!(update, SecretUpdate::Keep) && stored.is_stored() {
                faults.push(field, format!("enter the {name} again, because {changes} changed"));
            }
        }
        faults
    }

    /// Returns whether the update keeps the stored client key, but contains the certificate of another one.
    fn needs_another_key(&self, update: &SettingsUpdate) -> bool {
        matches!(update.client_key, SecretUpdate::Keep)
            && self.secrets.client_key.is_stored()
            && !self.settings.keeps_client_key(&update.settings)
    }

    /// Returns the names of the fields that an update changes. A secret that is set always counts as changed.
    pub(super) fn changes(&self, update: &SettingsUpdate) -> Vec<&'static str> {
        let (old, new) = (fields(&self.settings), fields(&update.settings));
        let secret_changes = |update: &SecretUpdate, stored: &StoredSecret| match update {
            SecretUpdate::Keep => false,
            SecretUpdate::Clear => stored.is_stored(),
            SecretUpdate::Set(_) => true,
        };
        let changed = |field: &&str| match *field {
            "password" => secret_changes(&update.password, &self.secrets.password),
            "client_key" => secret_changes(&update.client_key, &self.secrets.client_key),
            field => old.get(field) != new.get(field),
        };
        MqttSettings::FIELDS.into_iter().filter(changed).collect()
    }
}

/// Returns the settings as JSON, without the secrets.
pub(super) fn fields(settings: &MqttSettings) -> Value {
    serde_json::to_value(settings).expect("settings consist of strings, numbers and booleans")
}

/// Lists names in a sentence.
fn listed(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => names.concat(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::identity_state::IdentityState;

    fn current(object: Value) -> Current {
        let settings = MqttSettings::read(object, "c").unwrap().settings;
        let identity = IdentityState::Unusable { reason: "none here".to_owned() };
        let secrets =
            Secrets { identity, password: StoredSecret::Known("x".into()), client_key: StoredSecret::Absent };
        Current { client_id: "c".to_owned(), settings, secrets, updated_at: None, broken: None }
    }

    fn changes(from: Value, to: Value) -> Vec<&'static str> {
        current(from).changes(&MqttSettings::read(to, "c").unwrap())
    }

    #[test]
    fn the_names_of_changed_fields_are_reported() {
        assert_eq!(changes(json!({}), json!({})), Vec::<&str>::new());
        let to = json!({"qos": 0, "topic_prefix": "a/b", "password": "y", "client_key": null});
        assert_eq!(changes(json!({"qos": 2}), to), ["password", "topic_prefix", "qos"]);
        assert_eq!(changes(json!({"username": "u"}), json!({"password": null})), ["username", "password"]);
    }

    /// Returns settings with both secrets stored.
    fn with_both_secrets(object: Value) -> Current {
        let mut current = current(object);
        current.secrets.client_key = StoredSecret::Unreadable("the identity is missing".to_owned());
        current
    }

    fn faulty_fields(current: &Current, object: Value) -> Vec<String> {
        let update = MqttSettings::read(object, "c").unwrap();
        let checked = current.faults(&update).finish();
        let faults = checked.err().map(|Invalid(faults)| faults).unwrap_or_default();
        faults.into_iter().map(|fault| fault.field).collect()
    }

    const EC: &str = include_str!("../domain/certificate/testdata/ec.crt");
    const EC_RENEWED: &str = include_str!("../domain/certificate/testdata/ec.renewed.crt");
    const RSA: &str = include_str!("../domain/certificate/testdata/rsa.crt");

    #[test]
    fn a_secret_is_bound_to_the_destination_that_it_was_entered_for() {
        let stored = json!({
            "broker_host": "a", "username": "u", "use_tls": true, "ca_certificate": EC,
            "client_certificate": EC,
        });
        let with = |field: &str, value: Value| {
            let mut object = stored.clone();
            object[field] = value;
            object
        };
        let current = with_both_secrets(stored.clone());
        assert!(faulty_fields(&current, with("qos", json!(2))).is_empty());
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
        ] {
            let object = with(field, value);
            assert_eq!(faulty_fields(&current, object.clone()), ["password", "client_key"], "{field}");
            assert!(current.test_settings(Some(object)).is_err(), "{field}");
        }
        let plain = json!({"broker_host": "a", "username": "u"});
        assert_eq!(faulty_fields(&current, plain.clone()), ["password", "client_key"]);
        let mut cleared = plain;
        cleared["password"] = Value::Null;
        cleared["client_key"] = Value::Null;
        assert!(faulty_fields(&current, cleared).is_empty());
    }

    #[test]
    fn a_renewed_client_certificate_keeps_both_secrets() {
        let with = |certificate: &str| json!({"broker_host": "a", "use_tls": true, "client_certificate": certificate});
        let current = with_both_secrets(with(EC));
        assert!(faulty_fields(&current, with(EC_RENEWED)).is_empty());
        assert!(faulty_fields(&current, with(&EC.replace('\n', "\r\n"))).is_empty());
        assert_eq!(faulty_fields(&current, with(RSA)), ["client_key"], "the certificate of another key");
    }

    #[test]
    fn the_same_authority_in_another_notation_is_the_same_destination() {
        let with =
            |certificate: &str| json!({"broker_host": "a", "use_tls": true, "ca_certificate": certificate});
        let mut current = with_both_secrets(with(EC));
        current.secrets.client_key = StoredSecret::Absent;
        assert!(faulty_fields(&current, with(&EC.replace('\n', "\r\n"))).is_empty());
    }

    #[test]
    fn a_stored_client_key_requires_its_certificate_even_if_the_key_is_unreadable() {
        let stored = json!({"broker_host": "a", "use_tls": true, "client_certificate": EC});
        let current = with_both_secrets(stored.clone());
        assert!(faulty_fields(&current, stored.clone()).is_empty());
        let mut cleared = stored;
        cleared["client_key"] = Value::Null;
        assert_eq!(faulty_fields(&current, cleared), ["client_key"]);
    }
}
