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

use std::path::{Path, PathBuf};

use super::{
    identity::{self, DecryptError, Identity, PublicKey},
    identity_file::{self, IdentityFileError, IdentityState, with_suffix},
    source::{GivenIdentity, IdentitySource},
};
use crate::store::{MqttConfigRow, SecretColumn, Store, StoreError};

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
    /// The identity lies in no file, and nobody said which one is to come after it.
    #[error(
        "the identity comes from {from}, which this program cannot change: make a new one with `age-keygen -o new.age`, \
         run `liveobject key rotate --new-identity new.age`, and put it into {from} before the next start"
    )]
    Given {
        /// Where the identity comes from.
        from: String,
    },
    /// A new identity was named, but the present one lies in a file.
    #[error("the identity lies in a file, {}: `liveobject key rotate` makes the new one itself, without --new-identity", path.display())]
    InAFile {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else changed the settings.
    #[error("the settings were replaced meanwhile: nothing was changed, try again")]
    Meanwhile,
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

impl Rotated {
    fn of(password: &SecretColumn, client_key: &SecretColumn) -> Self {
        Self {
            secrets: [password, client_key]
                .into_iter()
                .filter(|column| **column != SecretColumn::Keep)
                .count(),
        }
    }
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

/// Changes the identity, whatever it comes from: makes a new one where it lies in a file, else takes the one in the file
/// `new`, which the administrator then puts in the old one's place. Every secret is encrypted to `recipients`, too.
pub async fn rotate(
    store: &Store,
    source: &IdentitySource,
    new: Option<&Path>,
    recipients: &[PublicKey],
) -> Result<Rotated, RotateError> {
    match (source, new) {
        (IdentitySource::File(path), None) => rotate_file(store, path, recipients, Step::Done).await,
        (IdentitySource::File(path), Some(_)) => Err(RotateError::InAFile { path: path.clone() }),
        (IdentitySource::Given(given), None) => Err(RotateError::Given { from: given.from.clone() }),
        (IdentitySource::Given(given), Some(new)) => {
            let new = usable(identity_file::load(new))?;
            let row = store.load_settings().await?;
            let (password, client_key) = encrypt_anew(row.as_ref(), &given.identity, &new, recipients)?;
            let rotated = Rotated::of(&password, &client_key);
            save(store, row.as_ref(), password, client_key, recipients).await?;
            Ok(rotated)
        }
    }
}

/// Makes a new identity, encrypts every secret for it in one transaction, and removes the old identity. What an earlier
/// change left behind is finished or undone first. Goes as far as a process got that was killed right after `last`.
pub(super) async fn rotate_file(
    store: &Store,
    path: &Path,
    recipients: &[PublicKey],
    last: Step,
) -> Result<Rotated, RotateError> {
    recover(store, path).await?;
    let old = usable(identity_file::load(path))?;
    let row = store.load_settings().await?;
    let new = Identity::generate();
    // A secret that cannot be read is told before anything is written.
    let (password, client_key) = encrypt_anew(row.as_ref(), &old, &new, recipients)?;
    let rotated = Rotated::of(&password, &client_key);
    let (incoming, outgoing) = (with_suffix(path, NEW), with_suffix(path, BACKUP));

    identity_file::write_new(&incoming, &new)?;
    if last > Step::Written {
        save(store, row.as_ref(), password, client_key, recipients).await?;
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

fn usable(state: IdentityState) -> Result<Identity, RotateError> {
    match state {
        IdentityState::Ready(identity) | IdentityState::Given(GivenIdentity { identity, .. }) => Ok(identity),
        IdentityState::Unusable { reason } => Err(RotateError::Identity(reason)),
        IdentityState::Missing { path } => {
            Err(RotateError::Identity(format!("there is no identity file {}", path.display())))
        }
    }
}

/// Writes the new ciphertexts, all or none. Without a row there are none.
async fn save(
    store: &Store,
    row: Option<&MqttConfigRow>,
    password: SecretColumn,
    client_key: SecretColumn,
    recipients: &[PublicKey],
) -> Result<(), RotateError> {
    let Some(row) = row else { return Ok(()) };
    let recipients = identity::noted(recipients);
    let saved = store.save_ciphertexts(row, password, client_key, recipients).await?;
    if saved { Ok(()) } else { Err(RotateError::Meanwhile) }
}

fn encrypt_anew(
    row: Option<&MqttConfigRow>,
    old: &Identity,
    new: &Identity,
    recipients: &[PublicKey],
) -> Result<(SecretColumn, SecretColumn), RotateError> {
    let anew = |secret, ciphertext: Option<&Vec<u8>>| match ciphertext {
        None => Ok::<_, RotateError>(SecretColumn::Keep),
        Some(ciphertext) => {
            let plain = old.decrypt(ciphertext).map_err(|source| RotateError::Secret { secret, source })?;
            let fresh = new.encrypt(&plain, recipients);
            let fresh = fresh.map_err(|source| RotateError::Encrypt { secret, source })?;
            Ok(SecretColumn::Write(Some(fresh)))
        }
    };
    Ok((
        anew("password", row.and_then(|row| row.password.as_ref()))?,
        anew("client key", row.and_then(|row| row.client_key.as_ref()))?,
    ))
}
