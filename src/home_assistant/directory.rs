//! The directory of the app, which the Supervisor mounts and backs up.
//!
//! - `live` is the data directory while the service runs. The Supervisor leaves it out of its backups, because files
//!   that change are not consistent.
//! - `backup` contains the archive that [`before_backup`](super::before_backup) writes and
//!   [`after_backup`](super::after_backup) removes.
//! - `stopped` is the data directory while the service does not run. The Supervisor backs it up.
//! - `had-data` is a file that shows that there was data. A process that is killed leaves its data in `live`, so that a
//!   backup of the stopped app contains none of it. The service must not begin without data after such a backup.
//!
//! After the Supervisor has restored a backup, there is no `live`, but one of the other directories.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use chrono::{DateTime, TimeDelta, Utc};
use liveobject_actors::{
    data_dir::{DataDir, DataDirError},
    domain::{causes::with_causes, clock},
    private_file,
    store::Location,
};

use super::AppError;
use crate::{
    backup::{self, Locations, RestoreError, RestoreOptions},
    config::Config,
};

const STOPPED: &str = "stopped";
const BACKUP: &str = "backup";
const ARCHIVE: &str = "liveobject.tar";
const HAD_DATA: &str = "had-data";
const HAD_DATA_TEXT: &[u8] =
    b"liveobject has data. If this file is in a backup without data, do not begin without it.\n";
/// A backup of the Supervisor does not take longer.
const LONGEST_BACKUP: TimeDelta = TimeDelta::days(1);

/// Returns the directory of the archive, and the archive.
pub(super) fn archive(app_dir: &Path) -> (PathBuf, PathBuf) {
    let directory = app_dir.join(BACKUP);
    let archive = directory.join(ARCHIVE);
    (directory, archive)
}

/// Moves the data from where the Supervisor backs it up to where the service expects it. Does nothing unless this is
/// the app. Call it before anything else uses the data directory, and [`put_away`] in the end.
pub fn bring_back(config: &Config) -> Result<(), AppError> {
    let Some(app_dir) = &config.home_assistant.app_dir else { return Ok(()) };
    let (live, stopped) = (&config.data_dir, app_dir.join(STOPPED));
    if is_directory(&stopped) {
        // This replaces an empty directory, and fails if `live` has contents.
        fs::rename(&stopped, live).map_err(AppError::file(&stopped))?;
        private_file::sync_directory(live).map_err(AppError::file(app_dir))?;
    }
    Ok(())
}

/// Restores the data in a backup of the Supervisor, if there is no other. Fails if there is none at all although the
/// app has had data. Does nothing unless this is the app. Call it before the service starts.
pub async fn restore_archive(config: &Config) -> Result<(), AppError> {
    let Some(app_dir) = &config.home_assistant.app_dir else { return Ok(()) };
    let (directory, file) = archive(app_dir);
    if has_database(config) {
        remember(app_dir);
        return remove_remnant(&directory, &file);
    }
    if !file.exists() {
        let marker = app_dir.join(HAD_DATA);
        return if marker.exists() { Err(AppError::DataMissing { marker }) } else { Ok(()) };
    }
    let locations = Locations::of(config).map_err(RestoreError::from)?;
    let archive = fs::File::open(&file).map_err(AppError::file(&file))?;
    let restored = backup::restore(locations, archive, RestoreOptions::into_empty(config)).await?;
    let made_at = restored.created_at.to_rfc3339();
    tracing::info!(made_at, events = restored.events, "restored the data in the backup of Home Assistant");
    remember(app_dir);
    fs::remove_dir_all(&directory).map_err(AppError::file(&directory))
}

/// Records that the service has data from now on. Does nothing unless this is the app. Call it when the service has
/// started.
pub fn remember_data(config: &Config) {
    if let Some(app_dir) = &config.home_assistant.app_dir {
        remember(app_dir);
    }
}

fn remember(app_dir: &Path) {
    let marker = app_dir.join(HAD_DATA);
    if marker.exists() {
        return;
    }
    // The service can run on a full disk.
    if let Err(error) = private_file::create(&marker, HAD_DATA_TEXT) {
        tracing::warn!(error = %with_causes(&error), file = %marker.display(), "cannot record that there is data");
    }
}

/// Removes an archive next to existing data if it is so old that the Supervisor no longer copies it. A start does not
/// know whether a backup is running: the service may have been restarted in the middle of one.
fn remove_remnant(directory: &Path, file: &Path) -> Result<(), AppError> {
    let Ok(metadata) = fs::metadata(file).or_else(|_| fs::symlink_metadata(directory)) else { return Ok(()) };
    let modified = metadata.modified().map_err(AppError::file(file))?;
    // The clock of the machine may not be set yet: then, the age is negative.
    if clock::now() - DateTime::<Utc>::from(modified) < LONGEST_BACKUP {
        return Ok(());
    }
    fs::remove_dir_all(directory).map_err(AppError::file(directory))
}

/// Moves the data to where the Supervisor backs it up. Does nothing unless this is the app. Call it on every way out
/// after [`bring_back`]: the Supervisor leaves the other directory out. While another process or thread uses the data,
/// it stays where it is; waits two seconds for that to end.
pub async fn put_away(config: &Config) -> Result<(), AppError> {
    let Some(app_dir) = &config.home_assistant.app_dir else { return Ok(()) };
    if !is_directory(&config.data_dir) {
        return Ok(());
    }
    let _lock = match DataDir::lock_soon(&config.data_dir).await {
        Ok(lock) => lock,
        Err(DataDirError::InUse { .. }) => {
            tracing::warn!(
                "the data is still in use and stays in {LIVE}; a backup of the stopped app does not contain it",
                LIVE = config.data_dir.display()
            );
            return Ok(());
        }
        Err(error) => return Err(RestoreError::from(error).into()),
    };
    let stopped = app_dir.join(STOPPED);
    fs::rename(&config.data_dir, &stopped).map_err(AppError::file(&stopped))?;
    private_file::sync_directory(&stopped).map_err(AppError::file(app_dir))
}

/// Returns whether there is a database. If it is on a server, there is nothing to restore.
fn has_database(config: &Config) -> bool {
    match config.service_options().database() {
        Ok(Location::File(file)) => file.exists(),
        Ok(Location::Server(_)) => true,
        Err(_) => false,
    }
}

/// Returns whether there is a directory, and not a link to one.
fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

impl AppError {
    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::File { path, source }
    }
}
