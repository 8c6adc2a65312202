//! The settings as they are found when the service starts.

use std::path::Path;

use serde_json::{Map, Value};

use super::{
    current::Current,
    identity_file::{self, IdentityState},
    replace::{Place, Replaced, SaveError, store},
    reseal,
    rotate::{self, Recovery},
    secrets::Secrets,
    source::IdentitySource,
};
use crate::{
    domain::{clock, settings::MqttSettings},
    store::{Store, StoreError},
};

/// Reads the row, making it (and the identity) at the first start; finishes or undoes a key rotation that was cut short.
///
/// A fault of the identity, of a secret or of the settings is told in what is returned; only the database's is an error.
pub(super) async fn open(place: &Place, initial: Option<Value>) -> Result<Current, StoreError> {
    if let IdentitySource::File(path) = &place.identity {
        recover(&place.store, path).await?;
    }
    let row = place.store.load_or_create_settings(MqttSettings::new_client_id).await?;
    let mut identity = place.identity.load();
    if let (IdentityState::Missing { path }, None, None) = (&identity, &row.password, &row.client_key) {
        identity = match identity_file::create(path) {
            Ok(made) => IdentityState::Ready(made),
            Err(error) => IdentityState::Unusable { reason: error.full() },
        };
    }
    let secrets = Secrets::unlock(identity, row.password.as_deref(), row.client_key.as_deref());
    if secrets.unreadable().is_none() {
        reseal::reseal(place, &row, &secrets).await?;
    }
    let settings = MqttSettings::defaults(&row.client_id);
    let updated_at = row.updated_at.map(clock::from_micros);
    let mut current = Current { client_id: row.client_id, settings, secrets, updated_at, broken: None };
    if let Some(json) = row.settings {
        read_stored(&mut current, &json);
        return Ok(current);
    }
    match initial.filter(|value| !value.as_object().is_some_and(Map::is_empty)) {
        Some(value) => first(place, current, value).await,
        None => Ok(current),
    }
}

/// Finishes or undoes a key rotation that was cut short.
async fn recover(store: &Store, path: &Path) -> Result<(), StoreError> {
    match rotate::recover(store, path).await {
        Ok(Recovery::Nothing) => {}
        Ok(found) => tracing::warn!(%found, "a key rotation had been cut short"),
        Err(rotate::RotateError::Store(error)) => return Err(error),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "a key rotation was cut short");
        }
    }
    Ok(())
}

fn read_stored(current: &mut Current, json: &str) {
    let read = serde_json::from_str(json)
        .map_err(|error| error.to_string())
        .and_then(|value| MqttSettings::read(value, &current.client_id).map_err(|error| error.to_string()));
    match read {
        Ok(update) => current.settings = update.settings,
        Err(error) => {
            current.broken =
                Some(format!("the stored MQTT settings cannot be read ({error}): enter them again"));
        }
    }
}

/// Stores the first settings, so that what is used is what is stored; uses them without their secrets, and says so, when the
/// identity does not permit it.
async fn first(place: &Place, mut current: Current, value: Value) -> Result<Current, StoreError> {
    let read = MqttSettings::read(value, &current.client_id)
        .and_then(|update| current.faults(&update).finish().map(|()| update));
    let update = match read {
        Ok(update) => update,
        Err(error) => {
            current.broken = Some(format!("the first MQTT settings, [mqtt], are not valid: {error}"));
            return Ok(current);
        }
    };
    match store(place, current.clone(), update.clone()).await {
        Ok(Replaced { current, .. }) => Ok(current),
        Err(SaveError::Identity(reason)) => {
            current.settings = update.settings;
            current.broken =
                Some(format!("the password or client key in [mqtt] cannot be stored: {reason}, and restart"));
            Ok(current)
        }
        Err(SaveError::Database(error)) => Err(error),
    }
}
