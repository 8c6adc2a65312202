//! The data directory: created with mode 0700 and used by one process at a time.

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
    /// The directory or its lock file cannot be created.
    #[error("the data directory {} cannot be used; check that it exists and is writable", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Another process is using the directory.
    #[error(
        "another liveobject process is using the data directory {}; \
         stop it first, or configure another data directory",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
}

/// The locked data directory. The lock is released when this is dropped or the process ends, even if it is
/// killed.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Holds the lock.
    _lock: File,
}

impl DataDir {
    /// Creates the directory if it is missing, and locks it.
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

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_one_process_at_a_time_uses_the_directory() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let data_dir = DataDir::lock(&path).unwrap();
        assert!(matches!(DataDir::lock(&path), Err(DataDirError::InUse { .. })));
        drop(data_dir);
        assert!(DataDir::lock(&path).is_ok());
    }

    #[test]
    fn other_users_cannot_access_the_directory() {
        let parent = tempfile::tempdir().unwrap();
        let data_dir = DataDir::lock(&parent.path().join("a/b")).unwrap();
        assert_eq!(data_dir.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }
}
