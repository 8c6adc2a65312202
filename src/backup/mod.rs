//! Backups: one archive with the database, the keys, the tokens and the pictures.
//!
//! An archive is an uncompressed tar file. Its entries are, in this order: `manifest.json`, `liveobject.db`,
//! `identity.age`, `api-token`, `thumbnail-key` (those three only with secrets, and only if they are files),
//! `thumbnails/…`, and `checksum`, the SHA-256 of the other entries. An archive without its last entry is incomplete.

mod after;
mod moves;
mod pace;
mod restore;
mod staged;
mod unfinished;
mod upload;
mod waiting;
mod write;

use std::{
    fs,
    path::{Path, PathBuf},
};

use liveobject_actors::{
    config::{GivenIdentity, IdentitySource},
    data_dir::LOCK_FILE,
    domain::{clock::Timestamp, hex, ids::Seq, link_key::LINK_KEY_BYTES},
    private_file::append,
    store::{Location, OpenError, copy},
    thumbnails,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use after::{AfterRestore, RestoreOptions};
pub use moves::complete;
pub use pace::{Pace, buffered};
pub use restore::{RestoreError, Restored, restore};
pub use unfinished::Unfinished;
pub use upload::{Restores, Upload, UploadError};
pub use waiting::{RestoreState, WaitingRestore, carry_out};
pub use write::{BackupError, BackupSummary, remove_leftover, write};

use crate::{
    config::{Config, absolute},
    sessions, token,
};

/// The version of the archive's format.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const DATABASE: &str = "liveobject.db";
const IDENTITY: &str = "identity.age";
const LINK_KEY: &str = thumbnails::KEY_FILE;
const PICTURES: &str = thumbnails::DIRECTORY;
const CHECKSUM: &str = "checksum";
/// Maximum size of every entry except the database and pictures.
const MAX_SMALL_BYTES: u64 = 64 * 1024;

/// The first entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the format.
    format: u32,
    /// The version of the program that made the backup.
    version: String,
    /// The last migration of the database.
    schema: String,
    /// When the backup was made.
    created_at: Timestamp,
    /// The last position that was given to an event.
    last_seq: i64,
    /// The number of events in the log.
    events: u64,
    /// Whether keys and tokens are included.
    secrets: bool,
}

/// The files of a service.
#[derive(Debug, Clone)]
pub struct Locations {
    data_dir: PathBuf,
    database: PathBuf,
    /// `None` if the identity comes from the environment or from systemd.
    identity: Option<PathBuf>,
    /// `None` if the token comes from the environment or from systemd.
    token: Option<PathBuf>,
    /// `None` if the key comes from the environment or from systemd.
    link_key: Option<PathBuf>,
}

impl Locations {
    /// Returns the files of the service that runs with this configuration. Fails if the database is on a server.
    pub fn of(config: &Config) -> Result<Self, OpenError> {
        let database = config.service_options().database()?.file()?;
        Ok(Self::with_database(config, &database))
    }

    fn with_database(config: &Config, database: &Path) -> Self {
        // A restore that is interrupted may be completed in another working directory.
        let data_dir = absolute(&config.data_dir);
        let file = |name: &str, is_given: bool| (!is_given).then(|| data_dir.join(name));
        Self {
            database: behind_links(absolute(database)),
            identity: match config.service_options().identity_source() {
                IdentitySource::File(path) => Some(absolute(&path)),
                IdentitySource::Given(_) => None,
            },
            token: file(token::FILE, config.secrets.api_token.is_some()),
            link_key: file(LINK_KEY, config.secrets.link_key.is_some()),
            data_dir,
        }
    }

    /// Returns the secrets: the name of the entry, and the file if it is one.
    fn secrets(&self) -> [(&'static str, Option<&Path>); 3] {
        [
            (IDENTITY, self.identity.as_deref()),
            (token::FILE, self.token.as_deref()),
            (LINK_KEY, self.link_key.as_deref()),
        ]
    }

    fn pictures(&self) -> PathBuf {
        self.data_dir.join(PICTURES)
    }

    /// Returns locations in another directory, into which an archive is unpacked for a check.
    fn within(&self, directory: &Path) -> Self {
        let file = |path: &Option<PathBuf>, name: &str| path.is_some().then(|| directory.join(name));
        Self {
            data_dir: directory.to_owned(),
            database: directory.join(DATABASE),
            identity: file(&self.identity, IDENTITY),
            token: file(&self.token, token::FILE),
            link_key: file(&self.link_key, LINK_KEY),
        }
    }

    /// Returns whether a file has a name that belongs to the service: that of one of its files, also with something
    /// appended, or a name in the directory of its pictures.
    pub fn is_own(&self, file: &Path) -> bool {
        let in_directory = |path: &Path| {
            let parent =
                path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Some((fs::canonicalize(parent).ok()?, path.file_name()?.to_str()?.to_owned()))
        };
        let Some((directory, name)) = in_directory(file) else { return false };
        let others = [moves::MOVES, waiting::ARCHIVE, waiting::RECORD, LOCK_FILE, sessions::FILE];
        let others = others.map(|name| self.data_dir.join(name));
        let has_name = self
            .places()
            .into_iter()
            .chain(others)
            .filter_map(|own| in_directory(&own))
            .any(|(own_directory, own)| own_directory == directory && name.starts_with(&own));
        has_name || fs::canonicalize(self.pictures()).is_ok_and(|pictures| directory.starts_with(pictures))
    }

    /// Returns the files and the directory that a service creates if they are missing. Each may be on another disk.
    pub fn created(config: &Config) -> Result<Vec<PathBuf>, OpenError> {
        let lock = config.data_dir.join(LOCK_FILE);
        let database = match config.service_options().database()? {
            Location::File(path) => path,
            // The lock is created in any case.
            Location::Server(_) => lock.clone(),
        };
        let own = Self::with_database(config, &database);
        let secrets = own.secrets().into_iter().filter_map(|(_, file)| file.map(Path::to_owned));
        let others = [absolute(&lock), own.database.clone(), own.pictures()];
        Ok(others.into_iter().chain(secrets).collect())
    }

    /// Returns every place that a restore may replace. This includes the files of secrets that the environment or
    /// systemd provides now, because an interrupted restore may have begun without these.
    fn places(&self) -> Vec<PathBuf> {
        let own = [IDENTITY, token::FILE, LINK_KEY, PICTURES].map(|name| self.data_dir.join(name));
        let [wal, shm] = log_files(&self.database);
        let mut places = vec![wal, shm, self.database.clone(), copy::seq_file(&self.database, Seq(0)).0];
        places.extend(own);
        places.extend(self.identity.clone());
        places
    }
}

/// Checks the content of a secret. The error is the end of a sentence about the file.
fn check_secret(name: &str, content: &[u8]) -> Result<(), String> {
    match name {
        IDENTITY => {
            let text = std::str::from_utf8(content).map_err(|_| "is not a text file")?;
            let parsed = GivenIdentity::parse(text, IDENTITY);
            parsed.map(drop).map_err(|problem| format!("cannot be used: {problem}"))
        }
        LINK_KEY if content.len() != LINK_KEY_BYTES => {
            Err(format!("has {} bytes, must have {LINK_KEY_BYTES}", content.len()))
        }
        token::FILE => token::parse(content).map(drop),
        _ => Ok(()),
    }
}

/// Returns the files that belong to the file of a database.
fn log_files(database: &Path) -> [PathBuf; 2] {
    ["-wal", "-shm"].map(|part| append(database, part))
}

/// Follows links at the end of a path, also if the file is missing, so that a file is replaced and not a link to it.
fn behind_links(mut path: PathBuf) -> PathBuf {
    const MAX_LINKS: usize = 8;
    for _ in 0..MAX_LINKS {
        let (Ok(target), Some(parent)) = (fs::read_link(&path), path.parent()) else { break };
        path = parent.join(target);
    }
    path
}

/// The checksum of the names, sizes and contents of the entries.
#[derive(Debug, Clone, Default)]
struct Checksum(Sha256);

impl Checksum {
    fn begin(&mut self, name: &str, size: u64) {
        self.0.update(format!("{name}\n{size}\n"));
    }

    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self) -> String {
        let mut text = String::new();
        hex::push(&mut text, &self.0.finalize());
        text
    }
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1024 * 1024)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_file_behind_a_link_is_replaced_and_not_the_link() {
        let dir = tempfile::tempdir().unwrap();
        let [link, other, file] = ["link", "other", "file"].map(|name| dir.path().join(name));
        symlink("other", &link).unwrap();
        symlink(&file, &other).unwrap();
        // Also while the file is moved away.
        assert_eq!(behind_links(link.clone()), file);
        fs::write(&file, "").unwrap();
        assert_eq!(behind_links(link), file);
        assert_eq!(behind_links(file.clone()), file);
        let circle = dir.path().join("circle");
        symlink("circle", &circle).unwrap();
        assert_eq!(behind_links(circle.clone()), circle);
    }
}
