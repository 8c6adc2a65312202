//! Finishing or undoing an interrupted key rotation.

use std::{fmt, path::Path};

use super::{
    identity::Identity,
    identity_file::{self, Access, IdentityFileError, with_suffix},
    rotate::{BACKUP, NEW, RotateError},
};
use crate::store::{MqttConfigRow, SharedKeysRow, Store};

/// What a recovery found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// No rotation was interrupted.
    Nothing,
    /// The rotation was committed: the new identity is now the current one.
    Finished,
    /// The rotation was not committed: the old identity is still the current one; the new one was removed.
    Undone,
    /// No available key decrypts the stored secrets, or only the old one does, although the identity file
    /// exists. No file was changed.
    Undecided,
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing to do",
            Self::Finished => "finished: the new identity is in use",
            Self::Undone => "undone: the old identity is in use",
            Self::Undecided => {
                "no file was changed: the current identity does not decrypt the stored secrets"
            }
        })
    }
}

/// Determines which identity decrypts the secrets in the database (the current one, `.new` or `.bak`), makes
/// it the current one, and removes the others. Must be called at every start, before the identity is loaded.
///
/// A key is removed or replaced only after another one has decrypted every secret.
pub async fn recover(store: &Store, path: &Path) -> Result<Recovery, RotateError> {
    // A process may have been killed while it created the first identity. No secret was encrypted with it.
    identity_file::remove_unfinished(path)?;
    let (new, backup) = (with_suffix(path, NEW), with_suffix(path, BACKUP));
    if !exists(&new)? && !exists(&backup)? {
        return Ok(Recovery::Nothing);
    }
    let (row, shared) = (store.load_settings().await?, store.load_shared_keys().await?);
    let decrypts_all = |path| decrypts_all(path, row.as_ref(), &shared);
    if decrypts_all(path)? {
        // If the new key still exists, it was never used.
        let undone = identity_file::remove(&new)?;
        identity_file::remove(&backup)?;
        return Ok(if undone { Recovery::Undone } else { Recovery::Finished });
    }
    if decrypts_all(&new)? {
        if exists(path)? {
            identity_file::rename(path, &backup)?;
        }
        identity_file::rename(&new, path)?;
        identity_file::remove(&backup)?;
        return Ok(Recovery::Finished);
    }
    if !exists(path)? && decrypts_all(&backup)? {
        identity_file::rename(&backup, path)?;
        identity_file::remove(&new)?;
        return Ok(Recovery::Undone);
    }
    Ok(Recovery::Undecided)
}

/// Returns whether the key in this file decrypts every secret in the row, and every shared key. The file's permissions
/// do not matter here.
fn decrypts_all(
    path: &Path,
    row: Option<&MqttConfigRow>,
    shared: &SharedKeysRow,
) -> Result<bool, RotateError> {
    let identity = match identity_file::read(path, Access::Any) {
        Ok(Some(identity)) => identity,
        // The file was only partly written, or is not an identity file.
        Ok(None) | Err(IdentityFileError::Malformed { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let decrypts = |ciphertext: &Option<Vec<u8>>| decrypts(&identity, ciphertext.as_deref());
    let decrypts_shared = decrypts(&shared.link_key) && decrypts(&shared.session_key);
    Ok(decrypts_shared && row.is_none_or(|row| decrypts(&row.password) && decrypts(&row.client_key)))
}

fn decrypts(identity: &Identity, ciphertext: Option<&[u8]>) -> bool {
    ciphertext.is_none_or(|ciphertext| identity.decrypt(ciphertext).is_ok())
}

fn exists(path: &Path) -> Result<bool, RotateError> {
    path.try_exists().map_err(|source| IdentityFileError::Read { path: path.to_owned(), source }.into())
}
