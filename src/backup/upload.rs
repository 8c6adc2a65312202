//! Receives a backup from a client, checks it, and leaves it in the data directory for the next start of the service.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
};

use actix_web::web::Bytes;
use liveobject_actors::{
    disk::disk_space,
    domain::{causes::with_causes, clock, status::Warning},
    private_file::{rename, sync_directory},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::spawn_blocking,
};

use super::{
    Locations, RestoreError, RestoreOptions, mib,
    moves::remove as remove_any,
    pace::{Pace, Paced},
    restore::check,
    waiting::{self, Record, RestoreState, WaitingRestore, archive, checked, received},
};

/// Maximum number of parts that are buffered for a slow disk. When the buffer is full, the client waits.
const PARTS: usize = 4;
/// The number of bytes after which the free space is checked again.
const CHECK_SPACE_EVERY: u64 = 16 * 1024 * 1024;

/// Why an archive was not accepted. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// Another archive is being received or checked.
    #[error("another backup is being uploaded or checked; try again when it is done")]
    Busy,
    /// The archive is too large.
    #[error(
        "the backup is larger than {max_mib} MiB ([http] max_restore_mib); raise this limit, or restore the backup \
         with `liveobject restore`"
    )]
    TooLarge {
        /// The limit.
        max_mib: u64,
    },
    /// There is not enough space.
    #[error(
        "the restore needs {needed_mib} MiB of free space in {} (for the backup, its contents and a reserve for \
         events), but only {free_mib} MiB are free; free some space and upload the backup again",
        directory.display()
    )]
    NoSpace {
        /// The data directory.
        directory: PathBuf,
        /// What is needed.
        needed_mib: u64,
        /// The free space.
        free_mib: u64,
    },
    /// The archive cannot be restored.
    #[error(transparent)]
    Refused(#[from] RestoreError),
    /// The client did not send the end of the archive.
    #[error("the upload was interrupted; upload the backup again")]
    Interrupted,
    /// The archive cannot be stored.
    #[error("the backup cannot be stored")]
    Write(#[source] io::Error),
}

/// The restore over the API: receives archives, and keeps the one that waits for the next start. Cheap to clone; clones
/// share everything.
#[derive(Debug, Clone)]
pub struct Restores(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    locations: Locations,
    options: RestoreOptions,
    max_mib: u64,
    /// One archive at a time is received or discarded.
    one: Arc<Semaphore>,
    current: Mutex<Option<WaitingRestore>>,
}

impl Restores {
    /// Reads the record of a backup that waits, and removes the files of an interrupted upload. Archives of at most
    /// `max_mib` are accepted. The caller must hold the lock of the data directory.
    pub fn load(locations: Locations, options: RestoreOptions, max_mib: u64) -> Self {
        if let Err(error) = waiting::remove_leftovers(&locations.data_dir) {
            tracing::warn!(error = %with_causes(&error), "the files of an interrupted upload cannot be removed");
        }
        let current = Mutex::new(Record::read(&locations.data_dir).map(|record| record.restore));
        Self(Arc::new(Shared { locations, options, max_mib, one: Arc::new(Semaphore::new(1)), current }))
    }

    /// Returns the backup that waits or could not be restored.
    pub fn current(&self) -> Option<WaitingRestore> {
        self.lock().clone()
    }

    /// Returns the warning about the backup that waits or could not be restored.
    pub fn warning(&self) -> Option<Warning> {
        self.lock().as_ref().map(WaitingRestore::warning)
    }

    /// Returns whether an archive is being received or checked.
    pub fn is_busy(&self) -> bool {
        self.0.one.available_permits() == 0
    }

    /// Discards the backup that waits, or the failure of the last one. Does nothing if there is none.
    pub async fn discard(&self) -> Result<(), UploadError> {
        let permit = self.permit()?;
        let restores = self.clone();
        let removed = spawn_blocking(move || {
            let _permit = permit;
            restores.remove_current()
        });
        removed.await.map_err(|error| UploadError::Write(io::Error::other(error)))?
    }

    fn remove_current(&self) -> Result<(), UploadError> {
        waiting::remove(&self.0.locations.data_dir).map_err(UploadError::Write)?;
        if self.lock().take().is_some() {
            tracing::info!("an uploaded backup, or the record of its failed restore, was discarded");
        }
        Ok(())
    }

    /// Begins to receive an archive. `announced` is its size, if the client has sent it. The upload ends when
    /// `is_stopping` is set.
    pub fn begin(
        &self,
        announced: Option<u64>,
        disconnected: bool,
        is_stopping: Arc<AtomicBool>,
    ) -> Result<Upload, UploadError> {
        let permit = self.permit()?;
        self.require_room(announced.unwrap_or(0))?;
        let (parts, receiver) = mpsc::channel(PARTS);
        let (task_client, client) = oneshot::channel();
        let restores = self.clone();
        let task = Task { restores, disconnected, is_stopping, client: task_client, _permit: permit };
        #[expect(clippy::disallowed_methods, reason = "one at a time; it ends when the client is gone")]
        let task = actix_web::rt::spawn(task.run(receiver));
        Ok(Upload { parts, task, client })
    }

    fn permit(&self) -> Result<OwnedSemaphorePermit, UploadError> {
        Arc::clone(&self.0.one).try_acquire_owned().map_err(|_| UploadError::Busy)
    }

    /// Fails if an archive of this size is too large, or if there is no space for it and for its contents.
    fn require_room(&self, size: u64) -> Result<(), UploadError> {
        self.require_allowed(size)?;
        self.require_free(size.saturating_mul(2))
    }

    fn require_allowed(&self, size: u64) -> Result<(), UploadError> {
        let max_mib = self.0.max_mib;
        if size <= max_mib.saturating_mul(1024 * 1024) {
            Ok(())
        } else {
            Err(UploadError::TooLarge { max_mib })
        }
    }

    fn require_free(&self, bytes: u64) -> Result<(), UploadError> {
        let directory = &self.0.locations.data_dir;
        let Some(space) = disk_space(directory) else { return Ok(()) };
        let needed = bytes.saturating_add(space.reserve());
        if space.free >= needed {
            return Ok(());
        }
        let (needed_mib, free_mib) = (mib(needed), space.free / (1024 * 1024));
        Err(UploadError::NoSpace { directory: directory.clone(), needed_mib, free_mib })
    }

    fn lock(&self) -> MutexGuard<'_, Option<WaitingRestore>> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of an archive.
#[derive(Debug)]
enum Part {
    Bytes(Bytes),
    End,
}

/// An archive that is being received. If it is dropped before its end, nothing is left of it.
#[derive(Debug)]
pub struct Upload {
    parts: mpsc::Sender<Part>,
    task: tokio::task::JoinHandle<Result<WaitingRestore, UploadError>>,
    /// Dropped when the client is gone.
    client: oneshot::Receiver<()>,
}

impl Upload {
    /// Adds a part. Returns whether more is accepted; otherwise, [`Upload::finish`] returns the reason.
    pub async fn add(&self, bytes: Bytes) -> bool {
        self.parts.send(Part::Bytes(bytes)).await.is_ok()
    }

    /// Waits until the archive has been checked; if this is dropped before, nothing is left of it. Call it after all
    /// parts have been added, or when no more is accepted.
    pub async fn finish(self) -> Result<WaitingRestore, UploadError> {
        let Self { parts, task, client: _client } = self;
        // It fails if the task has ended with an error.
        let _sent = parts.send(Part::End).await;
        task.await.unwrap_or_else(|error| Err(UploadError::Write(io::Error::other(error))))
    }
}

/// Receives and checks one archive.
struct Task {
    restores: Restores,
    disconnected: bool,
    is_stopping: Arc<AtomicBool>,
    /// Closed when the client is gone.
    client: oneshot::Sender<()>,
    _permit: OwnedSemaphorePermit,
}

impl Task {
    async fn run(self, parts: mpsc::Receiver<Part>) -> Result<WaitingRestore, UploadError> {
        let data_dir = self.restores.0.locations.data_dir.clone();
        let done = self.receive_and_check(parts).await;
        if let Err(error) = &done {
            tracing::warn!(error = %with_causes(error), "the upload of a backup failed, or the backup is not accepted");
        }
        let removed = remove_any(&received(&data_dir)).and_then(|()| remove_any(&checked(&data_dir)));
        if let Err(error) = removed {
            tracing::warn!(
                error = %with_causes(&error),
                "the files of an upload cannot be removed; the next start tries again"
            );
        }
        done
    }

    async fn receive_and_check(&self, parts: mpsc::Receiver<Part>) -> Result<WaitingRestore, UploadError> {
        let Shared { locations, options, .. } = &*self.restores.0;
        let data_dir = locations.data_dir.clone();
        let (restores, pace) = (self.restores.clone(), Pace::new(Arc::clone(&self.is_stopping)));
        let bytes = blocking(move || receive(&restores, parts, pace)).await?;

        let archive = File::open(received(&data_dir)).map_err(UploadError::Write)?;
        let options = options.disconnected_if(self.disconnected);
        let pace = Pace::new(Arc::clone(&self.is_stopping));
        let directory = checked(&data_dir);
        let checked = check(locations, &directory, archive, options, pace);
        let (manifest, pictures, contents) = Box::pin(checked).await?;
        // A client that has disconnected before the result may not want the restore any more.
        if self.client.is_closed() {
            return Err(UploadError::Interrupted);
        }
        let restore = WaitingRestore {
            state: RestoreState::Waiting,
            created_at: manifest.created_at,
            version: manifest.version,
            events: contents.events,
            first_seq: contents.first_seq.map(|seq| seq.0),
            last_seq: contents.last_seq.0.max(manifest.last_seq),
            cameras: contents.cameras,
            pictures,
            secrets: manifest.secrets,
            disconnected: self.disconnected,
            bytes,
            uploaded_at: clock::now(),
            failure: None,
        };
        let restores = self.restores.clone();
        blocking(move || restores.install(restore)).await
    }
}

impl Restores {
    /// Replaces the backup that waits with the one that was received.
    fn install(&self, restore: WaitingRestore) -> Result<WaitingRestore, UploadError> {
        let data_dir = &self.0.locations.data_dir;
        self.remove_current()?;
        let installed = rename(&received(data_dir), &archive(data_dir))
            .and_then(|()| Record { restore: restore.clone(), attempts: 0 }.write(data_dir));
        installed.map_err(UploadError::Write)?;
        tracing::info!(created_at = %restore.created_at, events = restore.events, "a backup waits to be restored");
        *self.lock() = Some(restore.clone());
        Ok(restore)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, UploadError> + Send + 'static,
) -> Result<T, UploadError> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(UploadError::Write(io::Error::other(error))))
}

/// Writes the parts to a file. Returns its size.
fn receive(restores: &Restores, mut parts: mpsc::Receiver<Part>, pace: Pace) -> Result<u64, UploadError> {
    let path = received(&restores.0.locations.data_dir);
    let mut file = Paced::new(create(&path).map_err(UploadError::Write)?, pace);
    let (mut size, mut checked) = (0, 0);
    loop {
        match parts.blocking_recv() {
            None => return Err(UploadError::Interrupted),
            Some(Part::End) => break,
            Some(Part::Bytes(bytes)) => {
                size += bytes.len() as u64;
                restores.require_allowed(size)?;
                if size - checked > CHECK_SPACE_EVERY {
                    // The contents need this much space. The archive itself is already on the disk.
                    restores.require_free(size)?;
                    checked = size;
                }
                file.write_all(&bytes).map_err(UploadError::Write)?;
            }
        }
    }
    file.finish().and_then(|()| sync_directory(&path)).map_err(UploadError::Write)?;
    restores.require_free(size)?;
    Ok(size)
}

fn create(path: &Path) -> io::Result<File> {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
