//! Restores a backup: checks the whole archive, writes its files next to their places, and then moves them there.
//!
//! See [`super::staged`] for the first part, and [`super::moves`] for the last one.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use liveobject_actors::{
    data_dir::{DataDir, DataDirError},
    domain::{
        clock::{self, Timestamp},
        ids::Seq,
    },
    private_file::{self, create_directory, with_suffix},
    store::{OpenError, copy},
};
use tokio::task::spawn_blocking;

use super::{
    Locations, Manifest,
    after::{AfterRestore, RestoreOptions},
    moves::{MOVES, REPLACED, STAGED, remove_staged},
    pace::Pace,
    staged::{Reading, Staged},
};
use crate::owner::OwnerError;

/// How many positions are skipped after the last known one: `SEQ_GAP`, and `SEQ_GAP_PER_SECOND` for each second since
/// the backup. The original may have given positions to events in that time, but no service accepts a thousand events a
/// second all the time.
const SEQ_GAP: i64 = 1_000_000;
const SEQ_GAP_PER_SECOND: i64 = 1000;
/// The largest gap. It is reached 17 years after the backup.
const MAX_SEQ_GAP: i64 = 1 << 39;
/// The highest position that is accepted in a backup. Above it, there is room for twice the largest gap.
const MAX_SEQ: i64 = i64::MAX - (1 << 40);

/// Why a backup could not be restored. Nothing was changed, except after [`RestoreError::Move`].
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The archive cannot be read.
    #[error("the archive cannot be read")]
    Read(#[source] io::Error),
    /// The archive is not a complete backup.
    #[error("this is not a backup of liveobject, or it is damaged or incomplete: {0}")]
    Damaged(String),
    /// A newer version of this program made the backup.
    #[error(
        "the backup was made by liveobject {0}, which is newer than this version: install that version first"
    )]
    Newer(String),
    /// A newer version of this program wrote the database in the backup.
    #[error(
        "the database in the backup was written by a newer version of liveobject (it contains the migrations {}): \
         install that version first",
        .0.join(", ")
    )]
    NewerDatabase(Vec<String>),
    /// The database in the backup cannot be used.
    #[error("the database in the backup cannot be used")]
    Database(#[from] OpenError),
    /// MQTT cannot be switched off in the restored settings, because those of the configuration are used.
    #[error(
        "the next start would use the MQTT settings in the configuration, and connect in spite of --disconnected: \
         set enabled = false in its section [mqtt] (or LIVEOBJECT__MQTT__ENABLED=false) first"
    )]
    Managed,
    /// A place cannot be replaced.
    #[error(
        "{} is a mount point and cannot be replaced: unmount it and run the command again; afterwards, move what was \
         restored there to the mounted file system. Nothing was changed",
        .0.display()
    )]
    MountPoint(PathBuf),
    /// There is already a database, and it must not be replaced.
    #[error(
        "there is already a database: {}. Add --replace to replace it and everything that belongs to it; it is kept \
         with the suffix .{REPLACED}",
        .0.display()
    )]
    Exists(PathBuf),
    /// The service is running, or the data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// There is not enough space.
    #[error("{needed_mib} MiB are needed in {}, {free_mib} MiB are free", directory.display())]
    NoSpace {
        /// The data directory.
        directory: PathBuf,
        /// The size of the archive.
        needed_mib: u64,
        /// The free space.
        free_mib: u64,
    },
    /// A file cannot be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The files of the backup cannot be moved to their places. The next command tries again.
    #[error(
        "the restore is not complete: {} cannot be moved; remove the cause and run the command again",
        path.display()
    )]
    Move {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The record of an interrupted restore is damaged, or names files that no restore of this service replaces.
    #[error(
        "the record of an interrupted restore, {}, {problem}. {state} To use the data as it is now, remove this \
         record; to restore the backup, remove it and run the restore again with --replace.",
        path.display()
    )]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What the restore has done, as a sentence.
        state: String,
    },
    /// The process cannot act as the owner of the data directory.
    #[error(transparent)]
    Owner(#[from] OwnerError),
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// When the backup was made.
    pub created_at: Timestamp,
    /// The number of events in the log.
    pub events: u64,
    /// The number of pictures.
    pub pictures: u64,
    /// Whether keys and tokens were restored.
    pub secrets: bool,
    /// What the next start does about MQTT.
    pub then: AfterRestore,
    /// The secrets in the backup that were left out because the configuration provides them.
    pub skipped: Vec<String>,
    /// What the backup replaced.
    pub replaced: Vec<PathBuf>,
}

/// Restores a backup into the places of this service. Locks its data directory.
pub async fn restore(
    locations: Locations,
    archive: File,
    options: RestoreOptions,
) -> Result<Restored, RestoreError> {
    let mut lock = DataDir::lock(&locations.data_dir)?;
    restore_locked(&mut lock, locations, archive, options).await
}

/// Like [`restore`], with the lock of the data directory.
pub(super) async fn restore_locked(
    lock: &mut DataDir,
    locations: Locations,
    archive: File,
    options: RestoreOptions,
) -> Result<Restored, RestoreError> {
    let fail = |source| RestoreError::Write { path: locations.database.clone(), source };
    create_directory(&locations.database).map_err(fail)?;
    lock.lock_database(&locations.database)?;
    if locations.database.exists() && !options.replaces_data {
        return Err(RestoreError::Exists(locations.database));
    }
    remove_staged(&locations)?;
    let staging = locations.clone();
    let staged = spawn_blocking(move || Staged::read(&staging, archive, Reading::Restore)).await;
    let mut staged = staged.map_err(|error| RestoreError::Read(io::Error::other(error)))??;

    let database = with_suffix(&locations.database, STAGED);
    let contents = copy::inspect(&database).await.map_err(|error| of_database(error, &locations))?;
    let then = AfterRestore::after(options, &contents)?;
    check_position(contents.last_seq.0)?;
    let last = copy::last_seq(&locations.database).await.max(Some(contents.last_seq)).unwrap_or(Seq(0));
    let last = last_seq(last, &staged.manifest, clock::now());
    let prepared = copy::prepare(&database, last, options.disconnected).await;
    prepared.map_err(|error| of_database(error, &locations))?;
    staged.add_seq_file(&locations.database, last)?;
    staged.add_pictures(&locations.pictures())?;

    let (moves, path) = (staged.moves(&locations), locations.data_dir.join(MOVES));
    moves.make_way()?;
    let replaced = moves.replaced();
    let restored = Restored {
        created_at: staged.manifest.created_at,
        events: contents.events,
        pictures: staged.pictures,
        secrets: staged.manifest.secrets,
        then,
        skipped: std::mem::take(&mut staged.skipped),
        replaced,
    };
    let done = spawn_blocking(move || {
        let fail = |source| RestoreError::Write { path: path.clone(), source };
        staged.sync().map_err(fail)?;
        let text = serde_json::to_vec(&moves).map_err(|error| fail(error.into()))?;
        private_file::create(&path, &text).map_err(fail)?;
        staged.keep();
        moves.carry_out(&path)
    });
    done.await.map_err(|error| RestoreError::Read(io::Error::other(error)))??;
    Ok(restored)
}

/// Checks an archive as [`restore`] does, without changing anything: unpacks it into `directory`, which must be empty
/// or missing, and which it leaves empty. `pace` limits how fast it writes. Returns the manifest, the number of
/// pictures and what the database contains.
pub(super) async fn check(
    locations: &Locations,
    directory: &Path,
    archive: File,
    options: RestoreOptions,
    pace: Pace,
) -> Result<(Manifest, u64, copy::Contents), RestoreError> {
    let locations = locations.within(directory);
    let reading = locations.clone();
    let staged = spawn_blocking(move || Staged::read(&reading, archive, Reading::Check(pace))).await;
    let staged = staged.map_err(|error| RestoreError::Read(io::Error::other(error)))??;
    let database = with_suffix(&locations.database, STAGED);
    let contents = copy::inspect(&database).await.map_err(|error| of_database(error, &locations))?;
    AfterRestore::after(options, &contents)?;
    check_position(contents.last_seq.0)?;
    Ok((staged.manifest.clone(), staged.pictures, contents))
}

/// Returns the error about the database in an archive.
fn of_database(error: OpenError, locations: &Locations) -> RestoreError {
    match error {
        OpenError::Newer { unknown, .. } => RestoreError::NewerDatabase(unknown),
        OpenError::Damaged { source, .. } | OpenError::Other { source, .. } => {
            RestoreError::Damaged(format!("its database cannot be used ({source})"))
        }
        error => RestoreError::Database(error.about(&locations.database)),
    }
}

/// Fails if no service can have given this position to an event, or if too few positions are left above it.
pub(super) fn check_position(seq: i64) -> Result<(), RestoreError> {
    if (0..=MAX_SEQ).contains(&seq) {
        return Ok(());
    }
    Err(RestoreError::Damaged(format!("it contains the impossible position {seq}")))
}

/// Returns the position after which a restored database continues.
fn last_seq(known: Seq, manifest: &Manifest, now: Timestamp) -> Seq {
    let seconds = (now - manifest.created_at).num_seconds().max(0);
    let gap = SEQ_GAP.saturating_add(SEQ_GAP_PER_SECOND.saturating_mul(seconds)).min(MAX_SEQ_GAP);
    Seq(known.0.max(manifest.last_seq).saturating_add(gap))
}
