//! The settings in effect while Home Assistant's Supervisor provides the broker. Pure: no file, no database.

use serde_json::Value;

use super::{
    current::{Current, fields},
    secrets::{Secrets, StoredSecret},
};
use crate::{
    domain::{
        settings::{
            MqttSettings, SettingsChange,
            provided::{ProvidedBroker, Provision},
        },
        status::{Failure, FailureKind},
    },
    messages::config::{SettingsChanged, SettingsView},
};

const SECRETS: [&str; 2] = ["password", "client_key"];

/// Returns the settings as clients see and test them: the stored ones, with the provided broker if there is one.
pub(super) fn shown(stored: &Current, provision: Option<&Provision>) -> Current {
    let Some(Provision::Broker(broker)) = provision else { return stored.clone() };
    let password = broker.password().cloned().map_or(StoredSecret::Absent, StoredSecret::Known);
    Current {
        settings: broker.apply_to(&stored.settings),
        secrets: Secrets {
            identity: stored.secrets.identity.clone(),
            password,
            client_key: StoredSecret::Absent,
        },
        ..stored.clone()
    }
}

/// Returns the settings as clients see them, with the names of the fields that they cannot change.
pub(super) fn view(stored: &Current, provision: Option<&Provision>, managed: bool) -> SettingsView {
    let provided = match provision {
        Some(Provision::Broker(_)) => ProvidedBroker::FIELDS.to_vec(),
        Some(Provision::None | Provision::Asking | Provision::Unknown(_)) | None => Vec::new(),
    };
    shown(stored, provision).view(managed, provided)
}

/// Returns the notification for other actors, with the secrets.
pub(super) fn to_changed(
    stored: &Current,
    provision: Option<&Provision>,
    change: SettingsChange,
) -> SettingsChanged {
    let mut changed = shown(stored, provision).to_changed(change);
    match provision {
        Some(open @ (Provision::Asking | Provision::Unknown(_))) => {
            // Until the broker is known, none is used: the stored one may be outdated.
            changed.settings = MqttSettings {
                enabled: true,
                broker_host: String::new(),
                username: None,
                password: None,
                client_key: None,
                ..MqttSettings::clone(&changed.settings)
            }
            .into();
            changed.unusable = Some(unknown(open));
        }
        Some(Provision::None) if !is_usable(&changed.settings) => changed.unusable = Some(none()),
        _ => {}
    }
    changed
}

fn is_usable(settings: &MqttSettings) -> bool {
    settings.enabled && !settings.broker_host.is_empty()
}

fn unknown(open: &Provision) -> Failure {
    let Provision::Unknown(reason) = open else {
        let message = "Home Assistant's Supervisor is being asked for the MQTT broker.";
        return Failure::new(FailureKind::BrokerNotProvided, message);
    };
    let message = format!(
        "The MQTT broker is not known: Home Assistant's Supervisor {reason}. Events are stored until it is known; the \
         Supervisor is asked again at least every 30 seconds. If this persists, restart Home Assistant, or set \
         mqtt_source to \"settings\" in the options of the app, restart the app, and enter the broker in the settings."
    );
    Failure::new(FailureKind::BrokerNotProvided, message)
}

fn none() -> Failure {
    let message = "Home Assistant has no MQTT broker, so events are stored and not sent. Install the app Mosquitto \
                   broker in Home Assistant and start it, or enter a broker in the settings and enable the connection.";
    Failure::new(FailureKind::BrokerNotProvided, message)
}

/// Replaces the provided settings in a request with the stored ones, so that a provided broker is never stored. Fails
/// with the names of those that the request would change, if there are any.
pub(super) fn without_provided(
    mut request: Value,
    stored: &Current,
    provision: Option<&Provision>,
) -> Result<Value, Vec<&'static str>> {
    let (Some(Provision::Broker(_)), Some(object)) = (provision, request.as_object_mut()) else {
        return Ok(request);
    };
    let shown = shown(stored, provision);
    let (shown_fields, stored_fields) = (fields(&shown.settings), fields(&stored.settings));
    let has_secret = |name| match name {
        "password" => shown.secrets.password.is_stored(),
        _ => shown.secrets.client_key.is_stored(),
    };
    let mut changed = Vec::new();
    for name in ProvidedBroker::FIELDS {
        let requested = object.remove(name);
        let is_same = match &requested {
            None => true,
            Some(value) if SECRETS.contains(&name) => (value.is_null() || value == "") && !has_secret(name),
            Some(value) => *value == shown_fields[name] || (value == "" && shown_fields[name].is_null()),
        };
        if !is_same {
            changed.push(name);
        }
        if let Some(value) = stored_fields.get(name) {
            object.insert(name.to_owned(), value.clone());
        }
    }
    if changed.is_empty() { Ok(request) } else { Err(changed) }
}
