//! The initial settings after the first start, when the stored ones are in effect.

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use super::{
    current::{Current, fields},
    secrets::StoredSecret,
};
use crate::domain::settings::{MqttSettings, SecretUpdate, SettingsUpdate};

/// The initial settings, for comparison with the stored ones.
#[derive(Debug)]
pub(super) struct Initial {
    update: SettingsUpdate,
    /// The fields that were given. The others have default values and are not compared.
    given: Vec<&'static str>,
}

impl Initial {
    /// Reads the settings. Returns `None` if they are invalid.
    pub(super) fn read(value: Value, client_id: &str) -> Option<Self> {
        let given = MqttSettings::FIELDS.into_iter().filter(|field| value.get(field).is_some()).collect();
        MqttSettings::read(value, client_id).ok().map(|update| Self { update, given })
    }

    /// Returns the fields that were given and differ from the settings in effect. A stored secret that cannot
    /// be read does not count.
    pub(super) fn ignored(&self, current: &Current) -> Vec<&'static str> {
        let (initial, stored) = (fields(&self.update.settings), fields(&current.settings));
        let differs = |field: &&str| match *field {
            "password" => secret_differs(&self.update.password, &current.secrets.password),
            "client_key" => secret_differs(&self.update.client_key, &current.secrets.client_key),
            field => initial.get(field) != stored.get(field),
        };
        self.given.iter().copied().filter(differs).collect()
    }
}

/// Returns whether an initial secret differs from the stored one. One that cannot be read does not differ.
pub(super) fn secret_differs(initial: &SecretUpdate, stored: &StoredSecret) -> bool {
    let initial = match initial {
        SecretUpdate::Set(secret) => Some(secret),
        SecretUpdate::Keep | SecretUpdate::Clear => None,
    };
    match stored {
        StoredSecret::Unreadable(_) => false,
        StoredSecret::Absent => initial.is_some(),
        StoredSecret::Known(stored) => {
            initial.map(SecretString::expose_secret) != Some(stored.expose_secret())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{identity_state::IdentityState, secrets::Secrets};

    fn ignored(initial: Value, stored: Value, password: StoredSecret) -> Vec<&'static str> {
        let identity = IdentityState::Unusable { reason: "none here".to_owned() };
        let current = Current {
            client_id: "c".to_owned(),
            settings: MqttSettings::read(stored, "c").unwrap().settings,
            secrets: Secrets { identity, password, client_key: StoredSecret::Absent },
            updated_at: None,
            broken: None,
        };
        Initial::read(initial, "c").unwrap().ignored(&current)
    }

    #[test]
    fn only_given_fields_that_differ_are_ignored() {
        let stored = || json!({"broker_host": "a", "qos": 2, "username": "u"});
        let known = || StoredSecret::Known("x".into());
        let given = json!({"broker_host": "b", "qos": 2, "password": "y"});
        assert_eq!(ignored(given, stored(), known()), ["broker_host", "password"]);
        assert!(ignored(json!({"broker_host": "a", "password": "x"}), stored(), known()).is_empty());
        assert!(ignored(json!({}), stored(), known()).is_empty());
        assert_eq!(ignored(json!({"password": "x"}), stored(), StoredSecret::Absent), ["password"]);
        let unreadable = StoredSecret::Unreadable("the identity is missing".to_owned());
        assert!(ignored(json!({"password": "x"}), stored(), unreadable).is_empty());
        assert!(Initial::read(json!({"qos": 3}), "c").is_none());
    }
}
