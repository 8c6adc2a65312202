//! The key that signs links to pictures. It is created on first start, in a file that only its owner can
//! access.

use std::{
    io,
    path::{Path, PathBuf},
};

use rand::rngs::SysError;

use crate::{
    domain::link_key::{LINK_KEY_BYTES, LinkKey},
    private_file::{self, Access, ReadError, TooOpen},
};

/// The file of the key in the data directory.
pub const FILE: &str = "thumbnail-key";

/// Why the key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LinkKeyError {
    /// Other users have access to it.
    #[error("the thumbnail link key {} {too_open}", path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Why, and what helps.
        too_open: TooOpen,
    },
    /// Its content is not a key.
    #[error(
        "the thumbnail link key {} is damaged: it must be {LINK_KEY_BYTES} bytes; remove the file, \
         and the next start creates a new key (existing links then stop working)",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// It exists but cannot be read.
    #[error("the thumbnail link key {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It cannot be created.
    #[error("the thumbnail link key {} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The operating system provided no random numbers.
    #[error("the operating system provided no random numbers for the thumbnail link key")]
    Random(#[source] SysError),
}

/// Loads the key from `data_dir`. Creates it, durably, if it does not exist. Never replaces an existing file.
/// The caller must hold the lock of the directory.
pub fn load_or_create(data_dir: &Path) -> Result<LinkKey, LinkKeyError> {
    let path = data_dir.join(FILE);
    if let Some(key) = load(&path)? {
        return Ok(key);
    }
    let key = LinkKey::generate().map_err(LinkKeyError::Random)?;
    private_file::create(&path, key.expose()).map_err(|source| LinkKeyError::Write { path, source })?;
    Ok(key)
}

fn load(path: &Path) -> Result<Option<LinkKey>, LinkKeyError> {
    // One byte more than a key has, to notice a file that is too long.
    let bytes = match private_file::read(path, Access::OwnerOnly, LINK_KEY_BYTES as u64 + 1) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(ReadError::TooOpen(too_open)) => {
            return Err(LinkKeyError::TooOpen { path: path.to_owned(), too_open });
        }
        Err(ReadError::Io(source)) => return Err(LinkKeyError::Read { path: path.to_owned(), source }),
    };
    match <[u8; LINK_KEY_BYTES]>::try_from(bytes.as_slice()) {
        Ok(key) => Ok(Some(LinkKey::from_bytes(key))),
        Err(_) => Err(LinkKeyError::Malformed { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    };

    use super::*;

    #[test]
    fn the_key_is_created_once_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thumbnail-key.tmp"), "half").unwrap();
        let first = load_or_create(dir.path()).unwrap();
        let second = load_or_create(dir.path()).unwrap();
        assert_eq!(first.expose(), second.expose());
        assert_eq!(fs::metadata(dir.path().join(FILE)).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left behind");
        let other = tempfile::tempdir().unwrap();
        assert_ne!(first.expose(), load_or_create(other.path()).unwrap().expose());
    }

    #[test]
    fn a_key_that_other_users_can_access_is_made_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let key = load_or_create(dir.path()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(load_or_create(dir.path()).unwrap().expose(), key.expose());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_rejected_and_not_changed() {
        for damaged in [vec![], vec![1; LINK_KEY_BYTES - 1], vec![1; LINK_KEY_BYTES + 1], vec![1; 1000]] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(FILE);
            fs::write(&path, &damaged).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = load_or_create(dir.path()).unwrap_err();
            assert!(matches!(error, LinkKeyError::Malformed { .. }), "{error:?}");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            assert_eq!(fs::read(&path).unwrap(), damaged);
        }
    }

    #[test]
    fn an_unreadable_key_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(FILE)).unwrap();
        fs::set_permissions(dir.path().join(FILE), fs::Permissions::from_mode(0o700)).unwrap();
        let error = load_or_create(dir.path()).unwrap_err();
        assert!(matches!(error, LinkKeyError::Read { .. }), "{error:?}");
    }
}
