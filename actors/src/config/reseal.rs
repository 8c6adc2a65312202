//! Other recipients: every secret encrypted anew, to those that are configured now.

use super::{
    identity::{self, Identity, PublicKey},
    identity_file::IdentityState,
    replace::Place,
    secrets::{Held, Secrets},
    source::GivenIdentity,
};
use crate::store::{MqttConfigRow, SecretColumn, StoreError};

/// Encrypts the secrets to the configured recipients, all in one transaction, where the row notes others. What a former
/// recipient has read already it may have kept: only another password shuts it out.
///
/// Does nothing when the settings were replaced meanwhile; the next start tries again.
pub(super) async fn reseal(place: &Place, row: &MqttConfigRow, secrets: &Secrets) -> Result<(), StoreError> {
    let recipients = identity::noted(&place.recipients);
    let (IdentityState::Ready(identity) | IdentityState::Given(GivenIdentity { identity, .. })) =
        &secrets.identity
    else {
        return Ok(());
    };
    if row.recipients == recipients {
        return Ok(());
    }
    let seal = |held: &Held| seal(identity, &place.recipients, held);
    let (password, client_key) = match (seal(&secrets.password), seal(&secrets.client_key)) {
        (Ok(password), Ok(client_key)) => (password, client_key),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(%error, "the secrets could not be encrypted to the configured recipients");
            return Ok(());
        }
    };
    if place.store.save_ciphertexts(row, password, client_key, recipients).await? {
        let recipients = place.recipients.len();
        tracing::info!(recipients, "the secrets are encrypted to other recipients from now on");
    }
    Ok(())
}

fn seal(
    identity: &Identity,
    recipients: &[PublicKey],
    held: &Held,
) -> Result<SecretColumn, age::EncryptError> {
    match held.known() {
        Some(secret) => Ok(SecretColumn::Write(Some(identity.encrypt(&secret, recipients)?))),
        None => Ok(SecretColumn::Keep),
    }
}
