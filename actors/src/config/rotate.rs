//! Changing the identity: every secret encrypted anew, the old key gone.
//!
//! | step | current | `.new` | `.bak` | the database needs |
//! | --- | --- | --- | --- | --- |
//! | `Written` | old | new | | old |
//! | `Committed` | old | new | | new |
//! | `Retired` | | new | old | new |
//! | `Installed` | new | | old | new |
//! | done | new | | | new |
//!
//! Each step is on the disk before the next begins. A process that is killed in between leaves one of these rows, and
//! [`recover`] tells which by trying the keys on the database's secrets. The caller of either holds the data directory's
//! lock: nobody else reads or changes these files meanwhile.

use std::path::Path;

use super::{
    identity::{DecryptError, Identity},
    identity_file::{self, IdentityFileError, IdentityState, beside},
};
use crate::store::{
    Store, StoreError,
    mqtt_config::{self, Model, SecretColumn},
};

pub use super::recover::{Recovery, recover};

/// The name of a key on its way in: `identity.age.new`.
pub(super) const NEW: &str = "new";
/// The name of a key on its way out: `identity.age.bak`.
pub(super) const BACKUP: &str = "bak";

/// Why the identity was not changed; the old one holds, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// There is no usable identity to begin with.
    #[error("the identity cannot be changed: {0}")]
    Identity(String),
    /// A stored secret cannot be read, so it cannot be encrypted anew.
    #[error(
        "the stored {secret} cannot be read; enter it again (or clear it) before the identity is changed"
    )]
    Secret {
        /// Which one.
        secret: &'static str,
        /// Why.
        #[source]
        source: DecryptError,
    },
    /// Encrypting failed.
    #[error("the {secret} cannot be encrypted")]
    Encrypt {
        /// Which one.
        secret: &'static str,
        /// Why.
        #[source]
        source: age::EncryptError,
    },
    /// A file could not be written, moved or removed; the next start finishes or undoes the change.
    #[error(transparent)]
    File(#[from] IdentityFileError),
    /// The database could not give or keep the ciphertexts.
    #[error("the encrypted secrets could not be read or replaced")]
    Store(#[from] StoreError),
}

/// What a change of the identity did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotated {
    /// How many secrets were encrypted anew.
    pub secrets: usize,
}

/// How far a change got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Written,
    Committed,
    Retired,
    Installed,
    Done,
}

/// Makes a new identity, encrypts every secret for it in one transaction, and removes the old identity. What an earlier
/// change left behind is finished or undone first.
pub async fn rotate(store: &Store, path: &Path) -> Result<Rotated, RotateError> {
    rotate_until(store, path, Step::Done).await
}

/// [`rotate`], as far as a process got that was killed right after `last`.
pub(super) async fn rotate_until(store: &Store, path: &Path, last: Step) -> Result<Rotated, RotateError> {
    recover(store, path).await?;
    let old = match identity_file::load(path) {
        IdentityState::Ready(identity) => identity,
        IdentityState::Unusable { reason } => return Err(RotateError::Identity(reason)),
        IdentityState::Missing { path } => {
            return Err(RotateError::Identity(format!("there is no identity file {}", path.display())));
        }
    };
    let row = mqtt_config::load(store).await?;
    let new = Identity::generate();
    let (password, client_key) = encrypt_anew(row.as_ref(), &old, &new)?;
    let secrets = [&password, &client_key].into_iter().filter(|c| **c != SecretColumn::Keep).count();
    let (incoming, outgoing) = (beside(path, NEW), beside(path, BACKUP));

    identity_file::write_new(&incoming, &new)?;
    if last > Step::Written {
        mqtt_config::save_ciphertexts(store, password, client_key).await?;
    }
    if last > Step::Committed {
        identity_file::rename(path, &outgoing)?;
    }
    if last > Step::Retired {
        identity_file::rename(&incoming, path)?;
    }
    if last > Step::Installed {
        identity_file::remove(&outgoing)?;
    }
    Ok(Rotated { secrets })
}

fn encrypt_anew(
    row: Option<&Model>,
    old: &Identity,
    new: &Identity,
) -> Result<(SecretColumn, SecretColumn), RotateError> {
    let anew = |secret, ciphertext: Option<&Vec<u8>>| match ciphertext {
        None => Ok::<_, RotateError>(SecretColumn::Keep),
        Some(ciphertext) => {
            let plain = old.decrypt(ciphertext).map_err(|source| RotateError::Secret { secret, source })?;
            let fresh = new.encrypt(&plain).map_err(|source| RotateError::Encrypt { secret, source })?;
            Ok(SecretColumn::Write(Some(fresh)))
        }
    };
    Ok((
        anew("password", row.and_then(|row| row.password.as_ref()))?,
        anew("client key", row.and_then(|row| row.client_key.as_ref()))?,
    ))
}
