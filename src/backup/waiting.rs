//! A backup that waits in the data directory until the service is restarted, and is then restored.
//!
//! Next to the archive is a record of what it contains. An archive without a record is a leftover of an upload. If the
//! restore fails, the archive is removed, and the record keeps the reason until a user discards it.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    thread,
};

use liveobject_actors::{
    data_dir::{DataDir, DataDirError},
    domain::{
        causes::with_causes,
        clock::Timestamp,
        status::{Warning, WarningKind},
    },
    private_file::{self, with_suffix},
    store::OpenError,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Locations, RestoreError, RestoreOptions,
    moves::{is_moving, remove as remove_any},
    restore::restore_locked,
};
use crate::{
    addresses::is_in_container,
    config::{Config, absolute, host_name},
    owner::act_as_owner,
};

/// The archive.
pub(super) const ARCHIVE: &str = "restore-waiting.tar";
/// The record.
pub(super) const RECORD: &str = "restore-waiting.json";
/// The suffix of an archive that is being received.
const RECEIVED: &str = "unfinished";
/// The suffix of the directory into which an archive is unpacked for its check.
const CHECKED: &str = "check";
/// Maximum size of the record.
const MAX_RECORD_BYTES: u64 = 64 * 1024;
/// Maximum number of attempts to restore a backup. Another one follows only if the process is killed during a restore.
const MAX_ATTEMPTS: u8 = 3;

/// Whether a backup waits or could not be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RestoreState {
    /// It is restored at the next start.
    Waiting,
    /// It could not be restored at the last start, and was removed.
    Failed,
}

/// A backup that was uploaded, and what it contains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WaitingRestore {
    /// Whether it waits or could not be restored.
    pub state: RestoreState,
    /// When the backup was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// The version of the program that made the backup.
    pub version: String,
    /// The number of events.
    pub events: u64,
    /// The `seq` of the oldest event; `None` if there are no events.
    #[schema(minimum = 1)]
    pub first_seq: Option<i64>,
    /// The last `seq` that was given to an event.
    #[schema(minimum = 0)]
    pub last_seq: i64,
    /// The number of cameras.
    pub cameras: u64,
    /// The number of pictures.
    pub pictures: u64,
    /// Whether it contains keys and tokens.
    pub secrets: bool,
    /// Whether MQTT is switched off when it is restored.
    pub disconnected: bool,
    /// The size of the archive in bytes.
    pub bytes: u64,
    /// When it was uploaded.
    #[schema(value_type = String, format = DateTime)]
    pub uploaded_at: Timestamp,
    /// Why it could not be restored; `None` while it waits.
    pub failure: Option<String>,
}

impl WaitingRestore {
    /// Returns the warning about it.
    pub fn warning(&self) -> Warning {
        let made = self.created_at.format("%Y-%m-%d %H:%M");
        if let Some(failure) = &self.failure {
            let message = format!(
                "The backup of {made} UTC was not restored: {failure}. The service uses the data that it had before. \
                 Remove the cause and upload the backup again, or discard it in the settings of the page (or with \
                 DELETE /api/v1/restore)."
            );
            return Warning::new(WarningKind::RestoreFailed, message);
        }
        let message = format!(
            "The backup of {made} UTC ({} events) replaces all data when the service is restarted: {}. To keep the \
             present data, discard it in the settings of the page (or with DELETE /api/v1/restore).",
            self.events,
            restart_command(is_in_container(), is_under_systemd(), host_name().as_deref())
        );
        Warning::new(WarningKind::RestoreWaiting, message)
    }
}

fn is_under_systemd() -> bool {
    std::env::var_os("INVOCATION_ID").is_some()
}

/// Returns how to restart the service. By default, the host name of a container is its id, which `docker restart`
/// accepts.
fn restart_command(is_in_container: bool, is_under_systemd: bool, host_name: Option<&str>) -> String {
    match host_name {
        Some(name) if is_in_container => {
            format!("restart its container or app, for example with `docker restart {name}`")
        }
        _ if is_under_systemd => "run `systemctl restart liveobject` as root".to_owned(),
        _ => "stop `liveobject serve` and start it again".to_owned(),
    }
}

/// The content of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub restore: WaitingRestore,
    /// How many restores were begun.
    pub attempts: u8,
}

impl Record {
    /// Returns the record in a data directory. `None` if there is none, or if it cannot be read.
    pub fn read(data_dir: &Path) -> Option<Self> {
        let mut text = Vec::new();
        File::open(data_dir.join(RECORD)).ok()?.take(MAX_RECORD_BYTES).read_to_end(&mut text).ok()?;
        let read = serde_json::from_slice(&text);
        read.inspect_err(|error| {
            tracing::warn!(
                error = %with_causes(&error), file = RECORD,
                "a record is damaged and is ignored"
            );
        })
        .ok()
    }

    /// Counts an attempt.
    fn begin_attempt(&mut self, data_dir: &Path) -> io::Result<()> {
        self.attempts += 1;
        self.write(data_dir)
    }

    /// Replaces the record durably. The caller must hold the lock of the data directory.
    pub fn write(&self, data_dir: &Path) -> io::Result<()> {
        let (path, text) = (data_dir.join(RECORD), serde_json::to_vec(self)?);
        let new = with_suffix(&path, "tmp");
        private_file::write_new(&new, &text)?;
        private_file::rename(&new, &path)
    }
}

/// Returns the path of the archive.
pub(super) fn archive(data_dir: &Path) -> PathBuf {
    data_dir.join(ARCHIVE)
}

/// Returns the path of an archive that is being received.
pub(super) fn received(data_dir: &Path) -> PathBuf {
    with_suffix(&archive(data_dir), RECEIVED)
}

/// Returns the directory into which an archive is unpacked for its check.
pub(super) fn checked(data_dir: &Path) -> PathBuf {
    with_suffix(&archive(data_dir), CHECKED)
}

/// Removes the backup that waits, or the record of one that failed. The caller must hold the lock of the data
/// directory.
pub(super) fn remove(data_dir: &Path) -> io::Result<()> {
    private_file::remove(&data_dir.join(RECORD))?;
    private_file::remove(&archive(data_dir)).map(drop)
}

/// Removes the files of an interrupted upload. The caller must hold the lock of the data directory.
pub(super) fn remove_leftovers(data_dir: &Path) -> io::Result<()> {
    if Record::read(data_dir).is_none_or(|record| record.restore.failure.is_some()) {
        private_file::remove(&archive(data_dir))?;
    }
    private_file::remove(&with_suffix(&data_dir.join(RECORD), "tmp"))?;
    remove_any(&received(data_dir))?;
    remove_any(&checked(data_dir))
}

/// Restores the backup that waits, if there is one. Blocks the thread.
///
/// If the backup cannot be restored, the data is as before, the failure is recorded and logged, and this succeeds: the
/// service can start. It fails if the restore has begun to move files and cannot complete that, or if it cannot act as
/// the owner of the data directory or lock it.
pub fn carry_out(config: &Config) -> Result<(), RestoreError> {
    let data_dir = absolute(&config.data_dir);
    if Record::read(&data_dir).is_none_or(|record| record.restore.failure.is_some()) {
        return Ok(());
    }
    let locations = match Locations::of(config) {
        // It was uploaded while the service used a file, and waits until it does so again.
        Err(error @ OpenError::NoFile { .. }) => {
            tracing::warn!(error = %with_causes(&error), "the backup that waits is not restored");
            return Ok(());
        }
        locations => locations?,
    };
    let options = RestoreOptions::replacing(config);
    // Root must not move files for another user. The rest of the process may have to stay root.
    thread::scope(|scope| {
        let restoring = scope.spawn(|| {
            act_as_owner(&locations.data_dir)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(RestoreError::Read)?;
            runtime.block_on(Box::pin(attempt(locations, options)))
        });
        restoring.join().unwrap_or_else(|_| Err(RestoreError::Read(io::Error::other("panic"))))
    })
}

async fn attempt(locations: Locations, options: RestoreOptions) -> Result<(), RestoreError> {
    let data_dir = locations.data_dir.clone();
    let mut lock = match DataDir::lock(&data_dir) {
        // This is reported when the service starts.
        Err(DataDirError::InUse { .. }) => return Ok(()),
        lock => lock?,
    };
    let Some(mut record) = Record::read(&data_dir) else { return Ok(()) };
    let restored = if record.attempts >= MAX_ATTEMPTS {
        Err(format!("the restore was interrupted {MAX_ATTEMPTS} times"))
    } else if let Err(error) = record.begin_attempt(&data_dir) {
        Err(format!("the data directory cannot be written to ({error})"))
    } else {
        tracing::info!(created_at = %record.restore.created_at, "restoring a backup");
        let options = options.disconnected_if(record.restore.disconnected);
        let restored = match File::open(archive(&data_dir)) {
            Ok(archive) => restore_locked(&mut lock, locations.clone(), archive, options).await,
            Err(error) => Err(RestoreError::Read(error)),
        };
        match restored {
            Ok(restored) => Ok(restored),
            // The moves are recorded, so the next start completes them.
            Err(error) if is_moving(&locations) => return Err(error),
            Err(error) => Err(format!("{:#}", anyhow::Error::new(error))),
        }
    };
    match restored {
        Ok(restored) => {
            let (events, pictures) = (restored.events, restored.pictures);
            tracing::info!(events, pictures, replaced = ?restored.replaced, "a backup was restored");
        }
        Err(failure) => {
            tracing::warn!(
                failure,
                "a backup was not restored; the service uses the data that it had before"
            );
            record.restore.state = RestoreState::Failed;
            record.restore.failure = Some(failure);
            // The archive is removed first, because the disk may be full. Without it, the next start fails again.
            let removed = private_file::remove(&archive(&data_dir));
            if let Err(error) = removed.and_then(|_| record.write(&data_dir)) {
                tracing::warn!(
                    error = %with_causes(&error), file = RECORD,
                    "the failure of the restore cannot be recorded"
                );
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_names_the_command_that_restarts_the_service() {
        let name = Some("box");
        assert!(restart_command(true, true, name).contains("`docker restart box`"));
        assert!(restart_command(false, true, name).contains("systemctl restart liveobject"));
        assert!(restart_command(false, false, name).contains("start it again"));
        assert!(restart_command(true, false, None).contains("start it again"));
    }
}
