//! The file that the identity lies in: read only when nobody else can read it, made once, never overwritten.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use secrecy::zeroize::Zeroizing;

use super::identity::{Identity, Malformed};
pub use super::identity_error::IdentityFileError;
use super::source::GivenIdentity;
use crate::domain::clock;

/// Far above what `age-keygen` writes: room for comments.
const MAX_BYTES: u64 = 64 * 1024;

/// What stands where the identity should be.
#[derive(Debug, Clone)]
pub enum IdentityState {
    /// A usable identity.
    Ready(Identity),
    /// A usable identity that lies in no file.
    Given(GivenIdentity),
    /// No file.
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// A file that cannot be used.
    Unusable {
        /// What is wrong with it, and how to mend it.
        reason: String,
    },
}

/// Looks at the identity file.
pub fn load(path: &Path) -> IdentityState {
    match read(path, Access::OwnerOnly) {
        Ok(Some(identity)) => IdentityState::Ready(identity),
        Ok(None) => IdentityState::Missing { path: path.to_owned() },
        Err(error) => IdentityState::Unusable { reason: error.full() },
    }
}

/// Makes a new identity where no file is yet; its directory too, mode 0700. The file is complete and synced before it has
/// its name. The caller has made sure that no ciphertext still needs another one.
pub fn create(path: &Path) -> Result<Identity, IdentityFileError> {
    let fail = |source| IdentityFileError::Write { path: path.to_owned(), source };
    if fs::symlink_metadata(path).is_ok() {
        return Err(fail(ErrorKind::AlreadyExists.into()));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(directory(path)).map_err(fail)?;
    let identity = Identity::generate();
    let half_done = beside(path, "tmp");
    write_new(&half_done, &identity)?;
    fs::rename(&half_done, path).map_err(fail)?;
    sync_directory(path)?;
    Ok(identity)
}

/// Whether a file that others can read is read all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    OwnerOnly,
    Any,
}

/// Reads an identity file; `None` when there is none.
pub(super) fn read(path: &Path, access: Access) -> Result<Option<Identity>, IdentityFileError> {
    let fail = |source| IdentityFileError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let mode = file.metadata().map_err(fail)?.mode() & 0o777;
    if access == Access::OwnerOnly && mode & 0o077 != 0 {
        return Err(IdentityFileError::TooOpen { path: path.to_owned(), mode });
    }
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(64 * 1024 + 1));
    file.take(MAX_BYTES).read_to_end(&mut text).map_err(fail)?;
    let malformed =
        |Malformed { line, what }| IdentityFileError::Malformed { path: path.to_owned(), line, what };
    let text =
        std::str::from_utf8(&text).map_err(|_| malformed(Malformed { line: 0, what: "it is not a text" }))?;
    Identity::parse(text).map(Some).map_err(malformed)
}

/// Writes and syncs a file of mode 0600, replacing what a killed process may have left under this name.
pub(super) fn write_new(path: &Path, identity: &Identity) -> Result<(), IdentityFileError> {
    remove(path)?;
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(identity.to_text(&clock::rfc3339(clock::now())).as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| IdentityFileError::Write { path: path.to_owned(), source })?;
    sync_directory(path)
}

/// Gives a file another name, for good.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), IdentityFileError> {
    fs::rename(from, to).map_err(|source| IdentityFileError::Write { path: to.to_owned(), source })?;
    sync_directory(to)
}

/// Removes a file, for good; whether there was one.
pub(super) fn remove(path: &Path) -> Result<bool, IdentityFileError> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory(path).map(|()| true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(source) => Err(IdentityFileError::Write { path: path.to_owned(), source }),
    }
}

/// `identity.age` → `identity.age.{suffix}`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_directory(path: &Path) -> Result<(), IdentityFileError> {
    File::open(directory(path))
        .and_then(|directory| directory.sync_all())
        .map_err(|source| IdentityFileError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

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
    fn a_new_file_is_private_complete_and_alone() {
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
    fn a_file_that_others_can_read_is_refused() {
        let (_dir, path) = temporary();
        create(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o666] {
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let reason = reason(&path);
            assert!(reason.contains(&format!("mode {mode:o}")), "{reason}");
            assert!(reason.ends_with(&format!("run `chmod 600 {}`", path.display())), "{reason}");
        }
    }

    #[test]
    fn a_malformed_file_is_told_without_its_text() {
        let (_dir, path) = temporary();
        create(&path).unwrap();
        fs::write(&path, "# mine\nhunter2\n").unwrap();
        let reason = reason(&path);
        assert!(reason.contains("(line 2)") && !reason.contains("hunter2"), "{reason}");
    }
}
