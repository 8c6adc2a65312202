//! The data directory: made with mode 0700, and used by one process at a time.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

const LOCK_FILE: &str = "liveobject.lock";

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It cannot be made, or its lock file cannot.
    #[error("the data directory {} cannot be used; check that it exists and may be written", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process uses it.
    #[error(
        "another liveobject uses the data directory {}; stop it first, or give this one a directory of its own", path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
}

/// A data directory that is ours until this is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Holds the lock.
    _lock: File,
}

impl DataDir {
    /// Makes the directory when it is missing, and takes its lock.
    pub fn lock(path: &Path) -> Result<Self, DataDirError> {
        let unusable = |source| DataDirError::Unusable { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join(LOCK_FILE))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_used_by_one_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let held = DataDir::lock(&path).unwrap();
        assert!(matches!(DataDir::lock(&path), Err(DataDirError::InUse { .. })));
        drop(held);
        assert!(DataDir::lock(&path).is_ok());
    }

    #[test]
    fn others_cannot_look_into_it() {
        let parent = tempfile::tempdir().unwrap();
        let held = DataDir::lock(&parent.path().join("a/b")).unwrap();
        assert_eq!(held.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }
}
