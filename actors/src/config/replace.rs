//! Replacing the settings: from the JSON object to the commit.

use std::sync::Arc;

use secrecy::SecretString;
use serde_json::Value;

use super::{
    current::{Current, fields},
    identity::{Identity, PublicKey},
    identity_file,
    identity_state::{GivenIdentity, IdentityState},
    secrets::{Secrets, StoredSecret},
    source::IdentitySource,
};
use crate::{
    domain::{
        causes::with_causes,
        clock,
        settings::{MqttSettings, SecretUpdate, SettingsUpdate},
    },
    messages::config::ReplaceError,
    store::{SecretColumn, Store, StoreError},
};

/// The database that stores the settings, and the keys that encrypt their secrets.
#[derive(Debug, Clone)]
pub(super) struct SecretsContext {
    pub store: Store,
    pub identity: IdentitySource,
    /// The additional recipients of the secrets.
    pub recipients: Arc<[PublicKey]>,
}

/// The result of a replacement: the settings that are in effect from now on, and the names of the changed
/// fields.
#[derive(Debug)]
pub(super) struct Replacement {
    pub current: Current,
    pub changed: Vec<&'static str>,
}

/// Why an update could not be stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum SaveError {
    #[error("the identity cannot be used: {0}")]
    Identity(String),
    #[error(transparent)]
    Database(#[from] StoreError),
}

impl From<SaveError> for ReplaceError {
    fn from(error: SaveError) -> Self {
        match error {
            SaveError::Identity(reason) => Self::Identity(reason),
            SaveError::Database(error) => error.into(),
        }
    }
}

impl From<StoreError> for ReplaceError {
    fn from(error: StoreError) -> Self {
        // The cause is logged, but not sent to the client.
        tracing::error!(error = %with_causes(&error), "the settings could not be stored");
        Self::Storage(error.fault())
    }
}

/// Replaces the settings with those in a JSON object. If this fails, the settings in effect are unchanged.
pub(super) async fn replace(
    context: &SecretsContext,
    current: Current,
    value: Value,
) -> Result<Replacement, ReplaceError> {
    let update = MqttSettings::read(value, &current.client_id)?;
    update_all(context, current, update).await
}

/// Like [`replace`], with an update that was read before.
pub(super) async fn update_all(
    context: &SecretsContext,
    mut current: Current,
    update: SettingsUpdate,
) -> Result<Replacement, ReplaceError> {
    let sets_secret =
        [&update.password, &update.client_key].iter().any(|update| matches!(update, SecretUpdate::Set(_)));
    if sets_secret || current.secrets.unreadable().is_some() {
        // The identity file may have been fixed, replaced or removed since it was loaded.
        current.secrets = reload_secrets(context).await?;
    }
    current.faults(&update).finish()?;
    Ok(save(context, current, update).await?)
}

/// Saves a valid update in one transaction, with encrypted secrets.
pub(super) async fn save(
    context: &SecretsContext,
    current: Current,
    update: SettingsUpdate,
) -> Result<Replacement, SaveError> {
    let changed = current.changes(&update);
    let SettingsUpdate { settings, password, client_key } = update;
    let Secrets { identity, password: old_password, client_key: old_client_key } = current.secrets;
    let keeps_unreadable = [(&password, &old_password), (&client_key, &old_client_key)]
        .iter()
        .any(|(update, stored)| matches!(update, SecretUpdate::Keep) && stored.fault().is_some());
    let recipients = Arc::clone(&context.recipients);
    let mut encryptor = SecretEncryptor { identity, recipients, may_create: !keeps_unreadable };
    let (password_column, password) = encryptor.apply(password, old_password)?;
    let (client_key_column, client_key) = encryptor.apply(client_key, old_client_key)?;

    let now = clock::now();
    let (json, at) = (fields(&settings).to_string(), clock::to_micros(now));
    context.store.save_settings(json, password_column, client_key_column, at).await?;
    let secrets = Secrets { identity: encryptor.identity, password, client_key };
    let client_id = current.client_id;
    Ok(Replacement {
        current: Current { client_id, settings, secrets, updated_at: Some(now), broken: None },
        changed,
    })
}

async fn reload_secrets(context: &SecretsContext) -> Result<Secrets, StoreError> {
    let row = context.store.load_settings().await?;
    let (password, client_key) = row.map(|row| (row.password, row.client_key)).unwrap_or_default();
    let identity = context.identity.load();
    Ok(Secrets::decrypt(identity, context.store.place(), password.as_deref(), client_key.as_deref()))
}

/// Encrypts new secrets.
struct SecretEncryptor {
    identity: IdentityState,
    recipients: Arc<[PublicKey]>,
    /// Whether a missing identity may be created. False if a secret that is kept was encrypted with it.
    may_create: bool,
}

impl SecretEncryptor {
    /// Applies an update to a secret. Returns what to write to the database, and the new secret.
    fn apply(
        &mut self,
        update: SecretUpdate,
        stored: StoredSecret,
    ) -> Result<(SecretColumn, StoredSecret), SaveError> {
        match update {
            SecretUpdate::Keep => Ok((SecretColumn::Keep, stored)),
            SecretUpdate::Clear => Ok((SecretColumn::Write(None), StoredSecret::Absent)),
            SecretUpdate::Set(secret) => {
                let ciphertext = self.encrypt(&secret)?;
                Ok((SecretColumn::Write(Some(ciphertext)), StoredSecret::Known(secret)))
            }
        }
    }

    fn encrypt(&mut self, secret: &SecretString) -> Result<Vec<u8>, SaveError> {
        self.load_or_create()?
            .encrypt(secret, &self.recipients)
            .map_err(|error| SaveError::Identity(error.to_string()))
    }

    fn load_or_create(&mut self) -> Result<Identity, SaveError> {
        match &self.identity {
            IdentityState::Ready(identity) | IdentityState::Given(GivenIdentity { identity, .. }) => {
                Ok(identity.clone())
            }
            IdentityState::Unusable { reason } => Err(SaveError::Identity(reason.clone())),
            IdentityState::Missing { path } if !self.may_create => Err(SaveError::Identity(format!(
                "the identity file {} is missing, and another stored secret needs it; put it back, \
                 or enter or clear the password and the client key together",
                path.display()
            ))),
            IdentityState::Missing { path } => {
                let created = identity_file::create(path)
                    .map_err(|error| SaveError::Identity(with_causes(&error).to_string()))?;
                self.identity = IdentityState::Ready(created.clone());
                Ok(created)
            }
        }
    }
}
