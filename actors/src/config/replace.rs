//! Storing settings: one replacement from its JSON object to the commit.

use std::sync::Arc;

use secrecy::SecretString;
use serde_json::Value;

use super::{
    current::{Current, fields},
    identity::{Identity, PublicKey},
    identity_file::{self, IdentityState},
    secrets::{Held, Secrets},
    source::{GivenIdentity, IdentitySource},
};
use crate::{
    domain::{
        clock,
        settings::{MqttSettings, SecretUpdate, SettingsUpdate},
    },
    messages::config::ReplaceError,
    store::{SecretColumn, Store, StoreError},
};

/// Where settings and secrets lie.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub store: Store,
    pub identity: IdentitySource,
    /// Who else can read the secrets.
    pub recipients: Arc<[PublicKey]>,
}

/// What a replacement led to: the settings in force from now on, and the names of what has changed.
#[derive(Debug)]
pub(super) struct Replaced {
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
    fn from(fault: SaveError) -> Self {
        match fault {
            SaveError::Identity(reason) => Self::Identity(reason),
            SaveError::Database(error) => error.into(),
        }
    }
}

impl From<StoreError> for ReplaceError {
    fn from(error: StoreError) -> Self {
        // The cause is the log's, not the client's.
        tracing::error!(error = &error as &dyn std::error::Error, "the settings could not be stored");
        Self::Storage(error.fault())
    }
}

/// Replaces the settings by a JSON object. A fault leaves everything as it was.
pub(super) async fn replace(
    place: &Place,
    mut current: Current,
    value: Value,
) -> Result<Replaced, ReplaceError> {
    let update = MqttSettings::read(value, &current.client_id)?;
    let sets = [&update.password, &update.client_key].iter().any(|s| matches!(s, SecretUpdate::Set(_)));
    if sets || current.secrets.unreadable().is_some() {
        // Somebody may have put the file right, or away, since it was last looked at.
        current.secrets = look_again(place).await?;
    }
    current.faults(&update).finish()?;
    Ok(store(place, current, update).await?)
}

/// Stores an update that may be stored: secrets encrypted, all in one transaction.
pub(super) async fn store(
    place: &Place,
    current: Current,
    update: SettingsUpdate,
) -> Result<Replaced, SaveError> {
    let changed = current.changes(&update);
    let SettingsUpdate { settings, password, client_key } = update;
    let Secrets { identity, password: old_password, client_key: old_client_key } = current.secrets;
    let keeps_unreadable = [(&password, &old_password), (&client_key, &old_client_key)]
        .iter()
        .any(|(update, held)| matches!(update, SecretUpdate::Keep) && held.fault().is_some());
    let recipients = Arc::clone(&place.recipients);
    let mut key = Key { identity, recipients, may_be_made: !keeps_unreadable };
    let (password_column, password) = key.settle(password, old_password)?;
    let (client_key_column, client_key) = key.settle(client_key, old_client_key)?;

    let now = clock::now();
    let (json, at) = (fields(&settings).to_string(), clock::to_micros(now));
    place.store.save_settings(json, password_column, client_key_column, at).await?;
    let secrets = Secrets { identity: key.identity, password, client_key };
    let client_id = current.client_id;
    Ok(Replaced {
        current: Current { client_id, settings, secrets, updated_at: Some(now), broken: None },
        changed,
    })
}

async fn look_again(place: &Place) -> Result<Secrets, StoreError> {
    let row = place.store.load_settings().await?;
    let (password, client_key) = row.map(|row| (row.password, row.client_key)).unwrap_or_default();
    let identity = place.identity.load();
    Ok(Secrets::unlock(identity, password.as_deref(), client_key.as_deref()))
}

/// The identity that new secrets are encrypted with.
struct Key {
    identity: IdentityState,
    recipients: Arc<[PublicKey]>,
    /// Whether a missing identity may be replaced by a new one: nothing that stays needs the missing one.
    may_be_made: bool,
}

impl Key {
    /// What is written of a secret, and how it is held from now on.
    fn settle(&mut self, update: SecretUpdate, held: Held) -> Result<(SecretColumn, Held), SaveError> {
        match update {
            SecretUpdate::Keep => Ok((SecretColumn::Keep, held)),
            SecretUpdate::Clear => Ok((SecretColumn::Write(None), Held::None)),
            SecretUpdate::Set(secret) => {
                let ciphertext = self.encrypt(&secret)?;
                Ok((SecretColumn::Write(Some(ciphertext)), Held::Known(secret)))
            }
        }
    }

    fn encrypt(&mut self, secret: &SecretString) -> Result<Vec<u8>, SaveError> {
        self.usable()?
            .encrypt(secret, &self.recipients)
            .map_err(|error| SaveError::Identity(error.to_string()))
    }

    fn usable(&mut self) -> Result<Identity, SaveError> {
        match &self.identity {
            IdentityState::Ready(identity) | IdentityState::Given(GivenIdentity { identity, .. }) => {
                Ok(identity.clone())
            }
            IdentityState::Unusable { reason } => Err(SaveError::Identity(reason.clone())),
            IdentityState::Missing { path } if !self.may_be_made => Err(SaveError::Identity(format!(
                "the identity file {} is missing and another stored secret needs it; put it back, or enter (or clear) \
                 password and client key together",
                path.display()
            ))),
            IdentityState::Missing { path } => {
                let made = identity_file::create(path).map_err(|error| SaveError::Identity(error.full()))?;
                self.identity = IdentityState::Ready(made.clone());
                Ok(made)
            }
        }
    }
}
