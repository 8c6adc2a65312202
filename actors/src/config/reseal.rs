//! Encrypting the secrets again after the configured recipients have changed.

use super::{
    identity::{self, Identity, PublicKey},
    replace::SecretsContext,
    secrets::{Secrets, StoredSecret},
};
use crate::store::{MqttConfigRow, SecretColumn, StoreError};

/// Encrypts the secrets to the configured recipients, in one transaction, if they are encrypted to different
/// ones. A former recipient may already have decrypted and kept the secrets: only new secrets lock it out.
///
/// Does nothing if the settings are replaced at the same time; the next start tries again.
pub(super) async fn reseal(
    context: &SecretsContext,
    row: &MqttConfigRow,
    secrets: &Secrets,
) -> Result<(), StoreError> {
    let recipients = identity::recipients_text(&context.recipients);
    let Some(identity) = secrets.identity.usable() else { return Ok(()) };
    if row.recipients == recipients {
        return Ok(());
    }
    let seal = |stored: &StoredSecret| seal(identity, &context.recipients, stored);
    let (password, client_key) = match (seal(&secrets.password), seal(&secrets.client_key)) {
        (Ok(password), Ok(client_key)) => (password, client_key),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(%error, "the secrets could not be encrypted to the configured recipients");
            return Ok(());
        }
    };
    if context.store.save_ciphertexts(row, password, client_key, recipients).await? {
        let recipients = context.recipients.len();
        tracing::info!(recipients, "encrypted the secrets to the new recipients");
    }
    Ok(())
}

fn seal(
    identity: &Identity,
    recipients: &[PublicKey],
    stored: &StoredSecret,
) -> Result<SecretColumn, age::EncryptError> {
    match stored.known() {
        Some(secret) => Ok(SecretColumn::Write(Some(identity.encrypt(&secret, recipients)?))),
        None => Ok(SecretColumn::Keep),
    }
}
