//! Finishing or undoing a change of the identity that was cut short.

use std::{fmt, path::Path};

use super::{
    identity::Identity,
    identity_file::{self, Access, IdentityFileError, with_suffix},
    rotate::{BACKUP, NEW, RotateError},
};
use crate::store::{MqttConfigRow, Store};

/// What was found at the start, and done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// No change had been cut short.
    Nothing,
    /// The change had taken place: the new identity is the current one.
    Finished,
    /// The change had not taken place: the current identity stays, the new one is removed.
    Undone,
    /// No key at hand reads the database's secrets, or only the retired one beside a current one: no file was touched.
    Undecided,
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing to do",
            Self::Finished => "finished: the new identity holds",
            Self::Undone => "undone: the old identity holds",
            Self::Undecided => "left as it is: the current identity does not read the stored secrets",
        })
    }
}

/// Tries which identity reads the secrets in the database (the current one, `.new`, `.bak`), makes that one the current
/// one, and removes what is not needed any more. To be called at every start, before the identity is read.
///
/// No key is removed or replaced unless another one has read every secret.
pub async fn recover(store: &Store, path: &Path) -> Result<Recovery, RotateError> {
    // Left by a process that was killed while it made the first identity; no secret was ever encrypted for it.
    identity_file::remove_unfinished(path)?;
    let (new, backup) = (with_suffix(path, NEW), with_suffix(path, BACKUP));
    if !exists(&new)? && !exists(&backup)? {
        return Ok(Recovery::Nothing);
    }
    let row = store.load_settings().await?;
    let fits = |path| fits(path, row.as_ref());
    if fits(path)? {
        // The new key, if it is still there, was never used.
        let undone = identity_file::remove(&new)?;
        identity_file::remove(&backup)?;
        return Ok(if undone { Recovery::Undone } else { Recovery::Finished });
    }
    if fits(&new)? {
        if exists(path)? {
            identity_file::rename(path, &backup)?;
        }
        identity_file::rename(&new, path)?;
        identity_file::remove(&backup)?;
        return Ok(Recovery::Finished);
    }
    if !exists(path)? && fits(&backup)? {
        identity_file::rename(&backup, path)?;
        identity_file::remove(&new)?;
        return Ok(Recovery::Undone);
    }
    Ok(Recovery::Undecided)
}

/// Whether this file holds a key that reads every secret of the row. How open the file is does not matter here.
fn fits(path: &Path, row: Option<&MqttConfigRow>) -> Result<bool, RotateError> {
    let identity = match identity_file::read(path, Access::Any) {
        Ok(Some(identity)) => identity,
        // Half written, or none of ours.
        Ok(None) | Err(IdentityFileError::Malformed { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let reads = |ciphertext: &Option<Vec<u8>>| reads(&identity, ciphertext.as_deref());
    Ok(row.is_none_or(|row| reads(&row.password) && reads(&row.client_key)))
}

fn reads(identity: &Identity, ciphertext: Option<&[u8]>) -> bool {
    ciphertext.is_none_or(|ciphertext| identity.decrypt(ciphertext).is_ok())
}

fn exists(path: &Path) -> Result<bool, RotateError> {
    path.try_exists().map_err(|source| IdentityFileError::Read { path: path.to_owned(), source }.into())
}
