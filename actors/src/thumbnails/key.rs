//! The key of the links: made at the first start, kept in a file that only its owner can read.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rand::{
    TryRng as _,
    rngs::{SysError, SysRng},
};
use secrecy::{ExposeSecret as _, SecretBox};

use crate::private_file::{self, Access, ReadError};

const FILE: &str = "thumbnail-key";
const BYTES: usize = 32;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum LinkKeyError {
    /// Other users can read it.
    #[error(
        "the key of the thumbnail links {} can be read by others (mode {mode:03o}): run `chmod 600 {}`",
        path.display(), path.display()
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is not a key.
    #[error(
        "the key of the thumbnail links {} is damaged: it must be {BYTES} bytes; remove the file to have a new key made \
         at the next start (links that were given out then end)",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// It is there, but cannot be read.
    #[error("the key of the thumbnail links {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be made.
    #[error("the key of the thumbnail links {} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system has no random numbers.
    #[error("the system gave no random numbers for the key of the thumbnail links")]
    Random(#[source] SysError),
}

/// What links are signed with. Does not print, and is wiped when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct LinkKey(Arc<SecretBox<[u8; BYTES]>>);

impl LinkKey {
    /// A new one.
    pub fn generate() -> Result<Self, LinkKeyError> {
        let mut key = SecretBox::new(Box::new([0; BYTES]));
        let fill = |key: &mut [u8; BYTES]| SysRng.try_fill_bytes(key).map_err(LinkKeyError::Random);
        fill(secrecy::ExposeSecretMut::expose_secret_mut(&mut key))?;
        Ok(Self(Arc::new(key)))
    }

    /// Reads the key in `data_dir`; makes it when there is none, on the disk for good. One that is there is never
    /// replaced. The caller holds the directory's lock.
    pub fn load_or_create(data_dir: &Path) -> Result<Self, LinkKeyError> {
        let path = data_dir.join(FILE);
        if let Some(key) = load(&path)? {
            return Ok(key);
        }
        let key = Self::generate()?;
        private_file::create(&path, key.expose()).map_err(|source| LinkKeyError::Write { path, source })?;
        Ok(key)
    }

    pub(super) fn expose(&self) -> &[u8; BYTES] {
        self.0.expose_secret()
    }
}

fn load(path: &Path) -> Result<Option<LinkKey>, LinkKeyError> {
    // One byte more than a key has, to notice a file that is too long.
    let bytes = match private_file::read(path, Access::OwnerOnly, BYTES as u64 + 1) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(ReadError::TooOpen { mode }) => {
            return Err(LinkKeyError::TooOpen { path: path.to_owned(), mode });
        }
        Err(ReadError::Io(source)) => return Err(LinkKeyError::Read { path: path.to_owned(), source }),
    };
    match <[u8; BYTES]>::try_from(bytes.as_slice()) {
        Ok(key) => Ok(Some(LinkKey(Arc::new(SecretBox::new(Box::new(key)))))),
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
    fn the_key_is_made_once_and_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thumbnail-key.tmp"), "half").unwrap();
        let first = LinkKey::load_or_create(dir.path()).unwrap();
        let second = LinkKey::load_or_create(dir.path()).unwrap();
        assert_eq!(first.expose(), second.expose());
        assert_eq!(fs::metadata(dir.path().join(FILE)).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left behind");
        let other = tempfile::tempdir().unwrap();
        assert_ne!(first.expose(), LinkKey::load_or_create(other.path()).unwrap().expose());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_advice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        LinkKey::load_or_create(dir.path()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = LinkKey::load_or_create(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with(&format!("(mode 640): run `chmod 600 {}`", path.display())), "{error}");
    }

    #[test]
    fn a_damaged_key_is_refused_and_kept() {
        for damaged in [vec![], vec![1; BYTES - 1], vec![1; BYTES + 1], vec![1; 1000]] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(FILE);
            fs::write(&path, &damaged).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = LinkKey::load_or_create(dir.path()).unwrap_err();
            assert!(matches!(error, LinkKeyError::Malformed { .. }), "{error:?}");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            assert_eq!(fs::read(&path).unwrap(), damaged);
        }
    }

    #[test]
    fn a_key_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(FILE)).unwrap();
        fs::set_permissions(dir.path().join(FILE), fs::Permissions::from_mode(0o700)).unwrap();
        let error = LinkKey::load_or_create(dir.path()).unwrap_err();
        assert!(matches!(error, LinkKeyError::Read { .. }), "{error:?}");
    }

    #[test]
    fn the_key_does_not_print() {
        let key = LinkKey(Arc::new(SecretBox::new(Box::new([0xab; BYTES]))));
        let text = format!("{key:?}");
        assert!(!text.contains("171") && !text.contains("ab, "), "{text}");
    }
}
