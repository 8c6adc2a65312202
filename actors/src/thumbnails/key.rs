//! The key of the links: made at the first start, kept in a file that only its owner can read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rand::rngs::SysError;
use secrecy::zeroize::Zeroizing;

use crate::domain::link_key::{LINK_KEY_BYTES, LinkKey};

const FILE: &str = "thumbnail-key";

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
        "the key of the thumbnail links {} is damaged: it must be {LINK_KEY_BYTES} bytes; remove the file to have a new key made \
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

/// Reads the key in `data_dir`, or makes one and writes it durably if there is none. An existing file is never replaced.
/// The caller holds the directory's lock.
pub fn load_or_create(data_dir: &Path) -> Result<LinkKey, LinkKeyError> {
    let path = data_dir.join(FILE);
    if let Some(key) = load(&path)? {
        return Ok(key);
    }
    let key = LinkKey::generate().map_err(LinkKeyError::Random)?;
    store(data_dir, &path, key.expose()).map_err(|source| LinkKeyError::Write { path, source })?;
    Ok(key)
}

fn load(path: &Path) -> Result<Option<LinkKey>, LinkKeyError> {
    let fail = |source| LinkKeyError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let mode = file.metadata().map_err(fail)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(LinkKeyError::TooOpen { path: path.to_owned(), mode });
    }
    // Room for more than is read: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(4 * LINK_KEY_BYTES));
    file.take(LINK_KEY_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(fail)?;
    match <[u8; LINK_KEY_BYTES]>::try_from(bytes.as_slice()) {
        Ok(key) => Ok(Some(LinkKey::from_bytes(key))),
        Err(_) => Err(LinkKeyError::Malformed { path: path.to_owned() }),
    }
}

/// Writes the key so that the file is there whole or not at all, even after a power cut.
fn store(data_dir: &Path, path: &Path, key: &[u8]) -> io::Result<()> {
    let half_done = path.with_extension("tmp");
    match fs::remove_file(&half_done) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half_done)?;
    file.write_all(key)?;
    file.sync_all()?;
    fs::rename(&half_done, path)?;
    File::open(data_dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_for_the_owner_alone() {
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
    fn a_key_that_others_can_read_is_refused_with_advice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        load_or_create(dir.path()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = load_or_create(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with(&format!("(mode 640): run `chmod 600 {}`", path.display())), "{error}");
    }

    #[test]
    fn a_damaged_key_is_refused_and_kept() {
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
    fn a_key_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(FILE)).unwrap();
        fs::set_permissions(dir.path().join(FILE), fs::Permissions::from_mode(0o700)).unwrap();
        let error = load_or_create(dir.path()).unwrap_err();
        assert!(matches!(error, LinkKeyError::Read { .. }), "{error:?}");
    }
}
