//! Key rotation: every secret is encrypted with a new identity, and the old one is removed.
//!
//! | step | current | `.new` | `.bak` | the database needs |
//! | --- | --- | --- | --- | --- |
//! | `Written` | old | new | | old |
//! | `Committed` | old | new | | new |
//! | `Retired` | | new | old | new |
//! | `Installed` | new | | old | new |
//! | `Done` | new | | | new |
//!
//! Each step is synced to disk before the next one begins. A process that is killed in between leaves one of
//! these states, and [`recover`] determines which one by trying the keys on the secrets in the database. Callers
//! of [`rotate`] and [`recover`] must hold the lock on the data directory, so that no other process reads or
//! changes these files.

use std::path::{Path, PathBuf};

use super::{
    identity::{self, DecryptError, Identity, PublicKey},
    identity_file::{self, IdentityFileError, with_suffix},
    identity_state::{GivenIdentity, IdentityState},
    source::IdentitySource,
};
use crate::store::{MqttConfigRow, SecretColumn, SharedKeysRow, Store, StoreError};

pub use super::recover::{Recovery, recover};

/// The suffix of the new key during a rotation: `identity.age.new`.
pub(super) const NEW: &str = "new";
/// The suffix of the old key during a rotation: `identity.age.bak`.
pub(super) const BACKUP: &str = "bak";

/// Why the key was not rotated. The old identity is still in use, unless the variant states otherwise.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The current identity cannot be used.
    #[error("the key cannot be rotated: {0}")]
    Identity(String),
    /// The identity file does not exist.
    #[error("there is no key at {} yet; start the service once first", path.display())]
    NoKey {
        /// The file's path.
        path: PathBuf,
    },
    /// A stored secret cannot be decrypted, and therefore cannot be encrypted again.
    #[error("the stored {secret} cannot be read; enter it again (or clear it) before you rotate the key")]
    Secret {
        /// The secret's name.
        secret: &'static str,
        /// The cause.
        #[source]
        source: DecryptError,
    },
    /// A key that the nodes with this database share cannot be decrypted, and therefore cannot be encrypted again.
    #[error(
        "the {key} that the nodes share cannot be read; rotate the key on a node that can read it, or remove the {key} \
         from liveobject.cluster"
    )]
    SharedKey {
        /// The key's name.
        key: &'static str,
        /// The cause.
        #[source]
        source: DecryptError,
    },
    /// The encryption failed.
    #[error("the {secret} cannot be encrypted")]
    Encrypt {
        /// The secret's name.
        secret: &'static str,
        /// The cause.
        #[source]
        source: age::EncryptError,
    },
    /// A file could not be read, written, renamed or removed. The next start finishes or undoes the rotation.
    #[error(transparent)]
    File(#[from] IdentityFileError),
    /// The identity does not come from a file, and no new identity was given.
    #[error(
        "the identity comes from {from}, which liveobject cannot change: create a new one with \
         `age-keygen -o new.age`, run `liveobject key rotate --new-identity new.age`, \
         and put the new identity into {from} before the next start"
    )]
    NewIdentityRequired {
        /// Where the identity comes from.
        from: String,
    },
    /// A new identity was given, although the current one comes from a file.
    #[error(
        "the identity comes from the file {}: run `liveobject key rotate` without --new-identity",
        path.display()
    )]
    NewIdentityNotAllowed {
        /// The file.
        path: PathBuf,
    },
    /// The settings were replaced during the rotation.
    #[error("the settings were replaced during the rotation, so the key was not rotated; try again")]
    Conflict,
    /// The ciphertexts could not be read from or written to the database.
    #[error("the encrypted secrets could not be read or replaced")]
    Store(#[from] StoreError),
}

/// The result of a key rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotated {
    /// Number of secrets that were encrypted with the new identity.
    pub secrets: usize,
}

/// Everything that is encrypted, after it was encrypted again.
struct Reencrypted {
    password: SecretColumn,
    client_key: SecretColumn,
    shared: SharedKeysRow,
}

impl Reencrypted {
    /// Counts the secrets that were entered; the shared keys are not counted.
    fn count(&self) -> Rotated {
        let columns = [&self.password, &self.client_key];
        Rotated { secrets: columns.into_iter().filter(|column| **column != SecretColumn::Keep).count() }
    }
}

/// The steps of a rotation of the identity file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Written,
    Committed,
    Retired,
    Installed,
    Done,
}

/// Returns whether a rotation has written a new key that is not installed yet: the rotation is in progress or was
/// interrupted, and the database may need either key.
pub fn is_in_progress(identity: &Path) -> bool {
    std::fs::symlink_metadata(with_suffix(identity, NEW)).is_ok()
}

/// Rotates the key. If the identity comes from a file, creates a new one; otherwise uses the identity in the
/// file `new`, which the administrator then puts in place of the old one. Also encrypts every secret to
/// `recipients`.
pub async fn rotate(
    store: &Store,
    source: &IdentitySource,
    new: Option<&Path>,
    recipients: &[PublicKey],
) -> Result<Rotated, RotateError> {
    match (source, new) {
        (IdentitySource::File(path), None) => rotate_file(store, path, recipients, Step::Done).await,
        (IdentitySource::File(path), Some(_)) => {
            Err(RotateError::NewIdentityNotAllowed { path: path.clone() })
        }
        (IdentitySource::Given(given), None) => {
            Err(RotateError::NewIdentityRequired { from: given.from.clone() })
        }
        (IdentitySource::Given(given), Some(new)) => {
            let new = require_usable(identity_file::load(new))?;
            let (row, shared) = (store.load_settings().await?, store.load_shared_keys().await?);
            let all = reencrypt(row.as_ref(), &shared, &given.identity, &new, recipients)?;
            let rotated = all.count();
            save(store, row.as_ref(), all, recipients).await?;
            Ok(rotated)
        }
    }
}

/// Creates a new identity, encrypts every secret with it in one transaction, and removes the old identity.
/// Finishes or undoes an interrupted rotation first. Stops after the step `last`, as if the process had
/// been killed at this point.
pub(super) async fn rotate_file(
    store: &Store,
    path: &Path,
    recipients: &[PublicKey],
    last: Step,
) -> Result<Rotated, RotateError> {
    recover(store, path).await?;
    let old = require_usable(identity_file::load(path))?;
    let (row, shared) = (store.load_settings().await?, store.load_shared_keys().await?);
    let new = Identity::generate();
    // If a secret is unreadable, this fails before anything is written.
    let all = reencrypt(row.as_ref(), &shared, &old, &new, recipients)?;
    let rotated = all.count();
    let (incoming, outgoing) = (with_suffix(path, NEW), with_suffix(path, BACKUP));

    identity_file::write_new(&incoming, &new)?;
    if last > Step::Written {
        save(store, row.as_ref(), all, recipients).await?;
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
    Ok(rotated)
}

fn require_usable(state: IdentityState) -> Result<Identity, RotateError> {
    match state {
        IdentityState::Ready(identity) | IdentityState::Given(GivenIdentity { identity, .. }) => Ok(identity),
        IdentityState::Unusable { reason } => Err(RotateError::Identity(reason)),
        IdentityState::Missing { path } => Err(RotateError::NoKey { path }),
    }
}

/// Writes the new ciphertexts in one transaction. Without a row, only the shared keys are there.
async fn save(
    store: &Store,
    row: Option<&MqttConfigRow>,
    Reencrypted { password, client_key, shared }: Reencrypted,
    recipients: &[PublicKey],
) -> Result<(), RotateError> {
    let Some(row) = row else {
        if !shared.is_empty() {
            store.save_shared_keys(&shared).await?;
        }
        return Ok(());
    };
    let recipients = identity::recipients_text(recipients);
    let saved = store.save_ciphertexts(row, password, client_key, recipients, &shared).await?;
    if saved { Ok(()) } else { Err(RotateError::Conflict) }
}

fn reencrypt(
    row: Option<&MqttConfigRow>,
    shared: &SharedKeysRow,
    old: &Identity,
    new: &Identity,
    recipients: &[PublicKey],
) -> Result<Reencrypted, RotateError> {
    let reencrypt = |secret, ciphertext: Option<&Vec<u8>>| match ciphertext {
        None => Ok::<_, RotateError>(SecretColumn::Keep),
        Some(ciphertext) => {
            let plain = old.decrypt(ciphertext).map_err(|source| RotateError::Secret { secret, source })?;
            let encrypted = new.encrypt(&plain, recipients);
            let encrypted = encrypted.map_err(|source| RotateError::Encrypt { secret, source })?;
            Ok(SecretColumn::Write(Some(encrypted)))
        }
    };
    let reencrypt_key = |key, ciphertext: Option<&Vec<u8>>| {
        let Some(ciphertext) = ciphertext else { return Ok::<_, RotateError>(None) };
        let plain = old.decrypt(ciphertext).map_err(|source| RotateError::SharedKey { key, source })?;
        let encrypted = new.encrypt(&plain, recipients);
        encrypted.map(Some).map_err(|source| RotateError::Encrypt { secret: key, source })
    };
    Ok(Reencrypted {
        password: reencrypt("password", row.and_then(|row| row.password.as_ref()))?,
        client_key: reencrypt("client key", row.and_then(|row| row.client_key.as_ref()))?,
        shared: SharedKeysRow {
            link_key: reencrypt_key("link key", shared.link_key.as_ref())?,
            session_key: reencrypt_key("session key", shared.session_key.as_ref())?,
        },
    })
}
