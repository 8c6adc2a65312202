//! The data directory: created with mode 0700 and used by one process at a time.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::store::next_to;

/// The file in the data directory that a process locks.
pub const LOCK_FILE: &str = "liveobject.lock";

/// How long a start waits for a lock, which commands hold for a moment.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(20);

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
    /// Another process is using the database.
    #[error(
        "another liveobject process is using the database {}; stop it first, or configure another [database] url",
        path.display()
    )]
    DatabaseInUse {
        /// The database file.
        path: PathBuf,
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
    /// Holds the lock on the database.
    database_lock: Option<File>,
}

impl DataDir {
    /// Creates the directory if it is missing, and locks it.
    pub fn lock(path: &Path) -> Result<Self, DataDirError> {
        let unusable = |source| DataDirError::Unusable { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        match lock_file(&path.join(LOCK_FILE)) {
            Ok(lock) => Ok(Self { path: path.to_owned(), _lock: lock, database_lock: None }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }

    /// Like [`lock`](Self::lock), but waits up to two seconds for a command that holds the lock for a moment.
    pub async fn lock_soon(path: &Path) -> Result<Self, DataDirError> {
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            match Self::lock(path) {
                Err(DataDirError::InUse { .. }) if Instant::now() < deadline => sleep(LOCK_RETRY).await,
                locked => return locked,
            }
        }
    }

    /// Returns whether a process has locked the directory. A service that is starting at this moment may have to try
    /// the lock again; other callers are not affected.
    pub fn is_in_use(path: &Path) -> bool {
        File::open(path.join(LOCK_FILE))
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Locks the database file, which may be outside of the directory, with a file next to it.
    pub fn lock_database(&mut self, database: &Path) -> Result<(), DataDirError> {
        let path = next_to(database, ".lock");
        let lock = lock_file(&path).map_err(|error| match error {
            TryLockError::WouldBlock => DataDirError::DatabaseInUse { path: database.to_owned() },
            TryLockError::Error(source) => DataDirError::Unusable { path, source },
        })?;
        self.database_lock = Some(lock);
        Ok(())
    }

    /// Identifies the directory on this machine until it is booted again. If an earlier process has used the directory
    /// of the same place, it has ended, because it had locked it. A copy has another place, and so has a copy of the
    /// whole machine. `None` if that is not known.
    pub fn place(&self) -> Option<Uuid> {
        let boot = fs::read("/proc/sys/kernel/random/boot_id").ok()?;
        let directory = fs::metadata(&self.path).ok()?;
        let hash = Sha256::new()
            .chain_update(boot)
            .chain_update(directory.dev().to_be_bytes())
            .chain_update(directory.ino().to_be_bytes())
            .finalize();
        let (first, _) = hash.as_slice().split_first_chunk()?;
        Some(uuid::Builder::from_custom_bytes(*first).into_uuid())
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Creates a file if it is missing, with mode 0600, and locks it. Fails if it is a link, which might lead to a file of
/// another user.
pub fn lock_file(path: &Path) -> Result<File, TryLockError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let opened = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path);
    let file = opened.map_err(TryLockError::Error)?;
    file.try_lock().map(|()| file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_directory_has_one_place_and_its_copy_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| DataDir::lock(&dir.path().join(name)).unwrap().place().unwrap();
        let first = place("a");
        assert_eq!(place("a"), first);
        std::fs::rename(dir.path().join("a"), dir.path().join("moved")).unwrap();
        assert_eq!(place("moved"), first);
        assert_ne!(place("a"), first);
    }

    #[test]
    fn only_one_process_at_a_time_uses_the_database() {
        let dir = tempfile::tempdir().unwrap();
        let (database, link) = (dir.path().join("l.db"), dir.path().join("link.db"));
        std::fs::write(&database, "").unwrap();
        std::os::unix::fs::symlink(&database, &link).unwrap();
        let mut data_dirs = ["a", "b"].map(|name| DataDir::lock(&dir.path().join(name)).unwrap());
        data_dirs[0].lock_database(&database).unwrap();
        let error = data_dirs[1].lock_database(&link).unwrap_err();
        assert!(error.to_string().contains("another liveobject process is using the database"), "{error}");
        let [first, mut second] = data_dirs;
        drop(first);
        second.lock_database(&link).unwrap();
    }

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
    fn checking_whether_the_directory_is_in_use_creates_nothing_and_does_not_disturb_another_check() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        assert!(!DataDir::is_in_use(&path) && !path.exists());
        let data_dir = DataDir::lock(&path).unwrap();
        assert!(DataDir::is_in_use(&path));
        drop(data_dir);
        let other = File::open(path.join(LOCK_FILE)).unwrap();
        other.try_lock_shared().unwrap();
        assert!(!DataDir::is_in_use(&path));
    }

    #[tokio::test]
    async fn a_start_waits_for_a_lock_that_is_held_for_a_moment() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DataDir::lock(dir.path()).unwrap();
        let (started, ()) = tokio::join!(DataDir::lock_soon(dir.path()), async {
            sleep(LOCK_RETRY * 3).await;
            drop(lock);
        });
        let held = started.unwrap();
        assert!(matches!(DataDir::lock_soon(dir.path()).await, Err(DataDirError::InUse { .. })));
        drop(held);
    }

    #[test]
    fn a_link_is_not_followed_to_a_lock_file() {
        let dir = tempfile::tempdir().unwrap();
        let (lock, other) = (dir.path().join(LOCK_FILE), dir.path().join("other"));
        std::os::unix::fs::symlink(&other, &lock).unwrap();
        assert!(matches!(DataDir::lock(dir.path()), Err(DataDirError::Unusable { .. })));
        assert!(!other.exists());
    }

    #[test]
    fn other_users_cannot_access_the_directory() {
        let parent = tempfile::tempdir().unwrap();
        let data_dir = DataDir::lock(&parent.path().join("a/b")).unwrap();
        assert_eq!(data_dir.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }
}
