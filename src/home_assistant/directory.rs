//! The directory of the app, which the Supervisor mounts and backs up.
//!
//! - `live` is the data directory while the service runs. The Supervisor leaves it out of its backups, because files
//!   that change are not consistent.
//! - `backup` contains the archive that [`before_backup`](super::before_backup) writes and
//!   [`after_backup`](super::after_backup) removes.
//! - `stopped` is the data directory after an orderly stop. The Supervisor backs it up while the app is stopped.
//!
//! After the Supervisor has restored a backup, `live` is missing and one of the others is present.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use liveobject_actors::private_file;

use super::AppError;
use crate::{
    backup::{self, Locations, RestoreError, RestoreOptions},
    commands::lock_unless_in_use,
    config::Config,
};

const STOPPED: &str = "stopped";
const BACKUP: &str = "backup";
const ARCHIVE: &str = "liveobject.tar";

/// Returns the directory of the archive, and the archive.
pub(super) fn archive(app_dir: &Path) -> (PathBuf, PathBuf) {
    let directory = app_dir.join(BACKUP);
    let archive = directory.join(ARCHIVE);
    (directory, archive)
}

/// Moves the data to where the service expects it, after an orderly stop or after the Supervisor has restored a backup.
/// Does nothing unless this is the app. Call it before the service starts.
pub async fn prepare(config: &Config) -> Result<(), AppError> {
    let Some(app_dir) = &config.home_assistant.app_dir else { return Ok(()) };
    let (live, stopped) = (&config.data_dir, app_dir.join(STOPPED));
    if is_directory(&stopped) {
        // This replaces an empty directory, and fails if `live` has contents.
        fs::rename(&stopped, live).map_err(AppError::file(&stopped))?;
        private_file::sync_directory(live).map_err(AppError::file(app_dir))?;
    }
    let (directory, file) = archive(app_dir);
    if !is_directory(&directory) {
        return Ok(());
    }
    if has_database(config) {
        // Another process uses the data, and may be writing the archive. The start of the service reports this.
        if lock_unless_in_use(config).map_err(RestoreError::from)?.is_none() {
            return Ok(());
        }
    } else if file.exists() {
        let locations = Locations::of(config).map_err(RestoreError::from)?;
        let archive = fs::File::open(&file).map_err(AppError::file(&file))?;
        let options = RestoreOptions::of(config, false, false);
        let restored = backup::restore(locations, archive, options).await?;
        let made_at = restored.created_at.to_rfc3339();
        tracing::info!(
            made_at,
            events = restored.events,
            "restored the data from a backup of Home Assistant"
        );
    }
    // The Supervisor did not run `after_backup`, or it has restored the archive.
    fs::remove_dir_all(&directory).map_err(AppError::file(&directory))
}

/// Moves the data to where the Supervisor backs it up, after an orderly stop. Does nothing unless this is the app.
pub fn put_away(config: &Config) -> Result<(), AppError> {
    let Some(app_dir) = &config.home_assistant.app_dir else { return Ok(()) };
    let stopped = app_dir.join(STOPPED);
    fs::rename(&config.data_dir, &stopped).map_err(AppError::file(&stopped))?;
    private_file::sync_directory(&stopped).map_err(AppError::file(app_dir))
}

fn has_database(config: &Config) -> bool {
    config.service_options().database_file().is_ok_and(|file| file.exists())
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
