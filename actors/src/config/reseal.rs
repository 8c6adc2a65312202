//! Encrypting the secrets again after the configured recipients have changed.

use super::{
    identity::{self, Identity, PublicKey},
    replace::SecretsContext,
    secrets::{Secrets, StoredSecret},
};
use crate::{
    domain::causes::with_causes,
    store::{MqttConfigRow, SecretColumn, SharedKeysRow, StoreError},
};

/// Encrypts the secrets to the configured recipients, in one transaction, if they are encrypted to different
/// ones. A former recipient may already have decrypted and kept the secrets: only new secrets lock it out.
///
/// Does nothing if the settings are replaced at the same time; the next start tries again.
pub(super) async fn reseal(
    context: &SecretsContext,
    row: &MqttConfigRow,
    secrets: &Secrets,
    shared: &SharedKeysRow,
) -> Result<(), StoreError> {
    let recipients = identity::recipients_text(&context.recipients);
    let Some(identity) = secrets.identity.usable() else { return Ok(()) };
    if row.recipients == recipients {
        return Ok(());
    }
    let seal = |stored: &StoredSecret| seal(identity, &context.recipients, stored);
    let sealed = (|| {
        let seal_key = |key: &Option<Vec<u8>>| seal_key(identity, &context.recipients, key.as_deref());
        let (link_key, session_key) = (seal_key(&shared.link_key)?, seal_key(&shared.session_key)?);
        let shared = SharedKeysRow { link_key, session_key };
        Ok::<_, age::EncryptError>((seal(&secrets.password)?, seal(&secrets.client_key)?, shared))
    })();
    let (password, client_key, shared) = match sealed {
        Ok(sealed) => sealed,
        Err(error) => {
            tracing::warn!(
                error = %with_causes(&error),
                "the secrets could not be encrypted to the configured recipients"
            );
            return Ok(());
        }
    };
    if context.store.save_ciphertexts(row, password, client_key, recipients, &shared).await? {
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

/// Encrypts a shared key again. One that cannot be decrypted stays as it is.
fn seal_key(
    identity: &Identity,
    recipients: &[PublicKey],
    ciphertext: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, age::EncryptError> {
    let key = ciphertext.and_then(|ciphertext| identity.decrypt(ciphertext).ok());
    key.map(|key| identity.encrypt(&key, recipients)).transpose()
}
