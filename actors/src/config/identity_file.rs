//! The identity file. Once created, it is never overwritten; a key rotation puts a new file in its place. It is made
//! private if other users have access to it, and is not used if that is not possible.

use std::path::Path;

use secrecy::zeroize::Zeroizing;

use super::identity::{Identity, Malformed};
pub use super::identity_error::IdentityFileError;
use super::identity_state::IdentityState;
pub(super) use crate::private_file::{Access, with_suffix};
use crate::{
    domain::{causes::with_causes, clock},
    private_file::{self, ReadError},
};

/// Much larger than a file written by `age-keygen`, to allow for comments.
const MAX_BYTES: u64 = 64 * 1024;

/// Loads the identity file.
pub fn load(path: &Path) -> IdentityState {
    match read(path, Access::OwnerOnly) {
        Ok(Some(identity)) => IdentityState::Ready(identity),
        Ok(None) => IdentityState::Missing { path: path.to_owned() },
        Err(error) => IdentityState::Unusable { reason: with_causes(&error).to_string() },
    }
}

/// Creates the file with a new identity, and its directory if that is missing. Fails if the file exists. The
/// caller has made sure that no ciphertext still needs another identity.
pub fn create(path: &Path) -> Result<Identity, IdentityFileError> {
    let identity = Identity::generate();
    private_file::create(path, text_of(&identity).as_bytes()).map_err(write_error(path))?;
    Ok(identity)
}

/// Reads an identity file; returns `None` if it does not exist.
pub(super) fn read(path: &Path, access: Access) -> Result<Option<Identity>, IdentityFileError> {
    let text = match private_file::read(path, access, MAX_BYTES) {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(None),
        Err(ReadError::TooOpen(too_open)) => {
            return Err(IdentityFileError::TooOpen { path: path.to_owned(), too_open });
        }
        Err(ReadError::Io(source)) => {
            return Err(IdentityFileError::Read { path: path.to_owned(), source });
        }
    };
    let malformed =
        |Malformed { line, what }| IdentityFileError::Malformed { path: path.to_owned(), line, what };
    let text = std::str::from_utf8(&text)
        .map_err(|_| malformed(Malformed { line: 0, what: "it is not a text file" }))?;
    Identity::parse(text).map(Some).map_err(malformed)
}

/// Writes an identity. Replaces a file that a killed process may have left under this name.
pub(super) fn write_new(path: &Path, identity: &Identity) -> Result<(), IdentityFileError> {
    private_file::write_new(path, text_of(identity).as_bytes()).map_err(write_error(path))
}

/// Renames a file, durably.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), IdentityFileError> {
    private_file::rename(from, to).map_err(write_error(to))
}

/// Removes a file, durably. Returns whether it existed.
pub(super) fn remove(path: &Path) -> Result<bool, IdentityFileError> {
    private_file::remove(path).map_err(write_error(path))
}

/// Removes the unfinished file of a process that was killed while it created the identity file.
pub(super) fn remove_unfinished(path: &Path) -> Result<bool, IdentityFileError> {
    private_file::remove_unfinished(path).map_err(write_error(path))
}

fn text_of(identity: &Identity) -> Zeroizing<String> {
    identity.to_text(&clock::rfc3339(clock::now()))
}

fn write_error(path: &Path) -> impl FnOnce(std::io::Error) -> IdentityFileError {
    move |source| IdentityFileError::Write { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, PermissionsExt},
        path::PathBuf,
    };

    use secrecy::SecretString;

    use super::*;

    fn temporary() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/identity.age");
        (dir, path)
    }

    fn reason(path: &Path) -> String {
        match load(path) {
            IdentityState::Unusable { reason } => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_new_file_is_private_and_complete_and_nothing_else_is_left() {
        let (_dir, path) = temporary();
        assert!(matches!(load(&path), IdentityState::Missing { .. }));
        let identity = create(&path).unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let IdentityState::Ready(read) = load(&path) else { panic!() };
        let ciphertext = identity.encrypt(&SecretString::from("x"), &[]).unwrap();
        assert!(read.decrypt(&ciphertext).is_ok());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert!(fs::read_to_string(&path).unwrap().contains("\n# public key: age1"));
    }

    #[test]
    fn a_file_is_never_overwritten() {
        let (_dir, path) = temporary();
        create(&path).unwrap();
        let before = fs::read(&path).unwrap();
        assert!(create(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_file_that_others_can_read_is_made_private() {
        let (_dir, path) = temporary();
        create(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o666] {
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            assert!(matches!(load(&path), IdentityState::Ready(_)));
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn the_error_for_a_malformed_file_does_not_contain_its_text() {
        let (_dir, path) = temporary();
        create(&path).unwrap();
        fs::write(&path, "# mine\nhunter2\n").unwrap();
        let reason = reason(&path);
        assert!(reason.contains("(line 2)") && !reason.contains("hunter2"), "{reason}");
    }
}
