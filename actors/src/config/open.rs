//! Reading the settings when the service starts.

use std::path::Path;

use serde_json::{Map, Value};

use super::{
    current::{Current, fields},
    identity_file,
    identity_state::IdentityState,
    initial::secret_differs,
    replace::{Replacement, SaveError, SecretsContext, save},
    reseal,
    rotate::{self, Recovery},
    secrets::{Secrets, StoredSecret},
    source::IdentitySource,
};
use crate::{
    domain::{
        causes::with_causes,
        clock,
        settings::{MqttSettings, SecretUpdate, SettingsUpdate},
    },
    store::{Store, StoreError},
};

/// Reads the settings row. Creates the row and the identity on first start. Finishes or undoes an interrupted key
/// rotation.
///
/// With `managed`, the initial settings replace the stored ones.
///
/// Problems with the identity, a secret or the settings are part of the result; only a database failure is an
/// error.
pub(super) async fn open(
    context: &SecretsContext,
    initial: Option<Value>,
    managed: bool,
) -> Result<Current, StoreError> {
    if let IdentitySource::File(path) = &context.identity {
        recover(&context.store, path).await?;
    }
    let row = context.store.load_or_create_settings(MqttSettings::new_client_id).await?;
    let shared = context.store.load_shared_keys().await?;
    let mut identity = context.identity.load();
    if let (IdentityState::Missing { path }, None, None, true) =
        (&identity, &row.password, &row.client_key, shared.is_empty())
    {
        identity = match identity_file::create(path) {
            Ok(identity) => IdentityState::Ready(identity),
            Err(error) => IdentityState::Unusable { reason: with_causes(&error).to_string() },
        };
    }
    let secrets =
        Secrets::decrypt(identity, context.store.place(), row.password.as_deref(), row.client_key.as_deref());
    if secrets.unreadable().is_none() {
        reseal::reseal(context, &row, &secrets, &shared).await?;
    }
    let settings = MqttSettings::defaults(&row.client_id);
    let updated_at = row.updated_at.map(clock::from_micros);
    let mut current = Current { client_id: row.client_id, settings, secrets, updated_at, broken: None };
    if let Some(json) = row.settings {
        read_stored(&mut current, &json);
        if !managed {
            return Ok(current);
        }
    }
    if managed {
        let settings = initial.unwrap_or_else(|| Map::new().into());
        return Box::pin(store_managed(context, current, settings)).await;
    }
    match initial.filter(|value| !value.as_object().is_some_and(Map::is_empty)) {
        Some(value) => match read_initial(&mut current, value) {
            Some(update) => Box::pin(store_initial(context, current, update)).await,
            None => Ok(current),
        },
        None => Ok(current),
    }
}

/// Finishes or undoes an interrupted key rotation.
async fn recover(store: &Store, path: &Path) -> Result<(), StoreError> {
    match rotate::recover(store, path).await {
        Ok(Recovery::Nothing) => {}
        Ok(outcome) => tracing::warn!(%outcome, "a key rotation was interrupted"),
        Err(rotate::RotateError::Store(error)) => return Err(error),
        Err(error) => {
            tracing::warn!(
                error = %with_causes(&error),
                "an interrupted key rotation could not be finished or undone"
            );
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
                Some(format!("the stored MQTT settings cannot be read ({error}); enter them again"));
        }
    }
}

/// Reads the initial settings. Returns `None` and marks the current ones as broken if they are invalid.
fn read_initial(current: &mut Current, value: Value) -> Option<SettingsUpdate> {
    let read = MqttSettings::read(value, &current.client_id)
        .and_then(|update| current.faults(&update).finish().map(|()| update));
    read.map_err(|error| {
        current.broken = Some(format!("the initial MQTT settings in [mqtt] are invalid: {error}"));
    })
    .ok()
}

/// Replaces the stored settings with those of the configuration, unless they are the same. A secret that the
/// configuration does not contain is removed.
async fn store_managed(
    context: &SecretsContext,
    mut current: Current,
    mut value: Value,
) -> Result<Current, StoreError> {
    if let Some(settings) = value.as_object_mut() {
        for secret in ["password", "client_key"] {
            settings.entry(secret).or_insert(Value::Null);
        }
    }
    let Some(update) = read_initial(&mut current, value) else { return Ok(current) };
    let is_same = current.updated_at.is_some()
        && current.broken.is_none()
        && fields(&current.settings) == fields(&update.settings)
        && is_stored(&update.password, &current.secrets.password)
        && is_stored(&update.client_key, &current.secrets.client_key);
    if is_same {
        return Ok(current);
    }
    store_initial(context, current, update).await
}

fn is_stored(update: &SecretUpdate, stored: &StoredSecret) -> bool {
    stored.fault().is_none() && !secret_differs(update, stored)
}

/// Stores the initial settings, so that the settings in effect are the stored ones. Uses them without their
/// secrets, and reports why, if the identity cannot be used.
async fn store_initial(
    context: &SecretsContext,
    mut current: Current,
    update: SettingsUpdate,
) -> Result<Current, StoreError> {
    match save(context, current.clone(), update.clone()).await {
        Ok(Replacement { current, .. }) => Ok(current),
        Err(SaveError::Identity(reason)) => {
            current.settings = update.settings;
            current.broken = Some(format!(
                "the password or client key in [mqtt] cannot be stored: {reason}; fix this and restart"
            ));
            Ok(current)
        }
        Err(SaveError::Database(error)) => Err(error),
    }
}
