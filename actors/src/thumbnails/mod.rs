//! The pictures of events.
//!
//! [`ThumbnailActor`] owns the picture files, but not the event log: it asks the database whether an event
//! exists, and at which position. It guarantees that a picture is durable when it is reported as stored; that
//! a replaced picture is either the old or the new one, never a mixture; and that the number of concurrent
//! writes is limited. All file work runs on blocking threads, so that no actor waits for the disk.

mod files;
mod key;

use std::{collections::HashSet, sync::Arc};

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, Context, Handler, Recipient, ResponseActFuture,
    ResponseFuture, WrapFuture as _,
};
use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc::UnboundedSender},
    task::spawn_blocking,
};

use self::files::Freed;
pub use self::{
    files::{Files, FilesError},
    key::{LinkKeyError, load_or_create},
};
use crate::{
    domain::{
        camera::Thumbnail,
        event_log::QueryError,
        ids::EventId,
        image::{Picture, check},
        store_fault::StoreFault,
    },
    lifecycle::{CrashGuard, stops_on_request},
    messages::{
        cameras::ThumbnailStored,
        thumbnails::{
            FreeSpace, GetThumbnail, GetThumbnailAt, HaveThumbnails, PutThumbnail, StoreThumbnail, Sweep,
            ThumbnailError,
        },
    },
    store::{Place, Store, StoreError},
};

/// Maximum number of requests in the mailbox. Handlers do not block, so it empties as fast as it fills.
const MAILBOX: usize = 256;

/// Maximum number of concurrent writes. This is more than a disk can sync in parallel, and their pictures use
/// at most 32 MiB of memory. Above this limit, HTTP requests are rejected and must be retried, and the
/// outbox, which has its own limit, waits.
const MAX_WRITES: usize = 16;

type WritePermit = OwnedSemaphorePermit;

/// See the module's documentation.
#[derive(Debug)]
pub struct ThumbnailActor {
    store: Store,
    files: Files,
    /// Is notified of every picture that is stored.
    cameras: Recipient<ThumbnailStored>,
    _crash_guard: CrashGuard,
    write_permits: Arc<Semaphore>,
    /// The events whose picture is being written. A second write at the same time is rejected, because the
    /// result would be undefined.
    writing: HashSet<EventId>,
}

/// What to do with an existing picture of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Existing {
    Replace,
    Keep,
}

impl ThumbnailActor {
    /// Creates the actor that stores pictures in `files` for the events of `store`.
    pub fn new(
        store: Store,
        files: Files,
        cameras: Recipient<ThumbnailStored>,
        crashed: UnboundedSender<&'static str>,
    ) -> Self {
        let write_permits = Arc::new(Semaphore::new(MAX_WRITES));
        Self {
            store,
            files,
            cameras,
            _crash_guard: CrashGuard::new("thumbnails", crashed),
            write_permits,
            writing: HashSet::new(),
        }
    }

    fn store_picture(
        &mut self,
        event_id: EventId,
        image: Bytes,
        existing: Existing,
        permit: impl Future<Output = Result<WritePermit, ThumbnailError>> + 'static,
    ) -> ResponseActFuture<Self, Result<(), ThumbnailError>> {
        if !self.writing.insert(event_id.clone()) {
            return Box::pin(actix::fut::ready(Err(ThumbnailError::Busy)));
        }
        let (store, files) = (self.store.clone(), self.files.clone());
        let id = event_id.clone();
        let storing = async move { store_picture(&store, files, &id, image, existing, permit.await?).await };
        Box::pin(storing.into_actor(self).map(move |result, act, _| {
            act.writing.remove(&event_id);
            if let Some(stored) = result? {
                act.notify(stored);
            }
            Ok(())
        }))
    }

    fn notify(&self, stored: ThumbnailStored) {
        #[expect(
            clippy::disallowed_methods,
            reason = "limited by the rate at which the disk stores pictures"
        )]
        self.cameras.do_send(stored);
    }
}

/// Stores a picture. Returns `None` if an existing picture was kept.
async fn store_picture(
    store: &Store,
    files: Files,
    event_id: &EventId,
    image: Bytes,
    existing: Existing,
    permit: WritePermit,
) -> Result<Option<ThumbnailStored>, ThumbnailError> {
    let format = check(&image)?;
    let found =
        store.find_event(event_id).await.map_err(|error| ThumbnailError::Storage(unreadable(&error)))?;
    let Place { seq, camera_id, times } = found.ok_or(ThumbnailError::UnknownEvent)?;
    let stored = run_blocking(move || {
        // Held until the file is written, even if the sender no longer waits for the result.
        let _permit = permit;
        if existing == Existing::Keep && files.has(seq)? {
            return Ok(false);
        }
        files.store(seq, &image).map(|()| true)
    });
    let stored = stored.await.map_err(ThumbnailError::Storage)?;
    Ok(stored.then_some(ThumbnailStored {
        camera_id,
        thumbnail: Thumbnail { seq, happened: times.happened(), format },
    }))
}

/// Logs that the event log could not be read. Returns the kind of failure.
fn unreadable(error: &StoreError) -> StoreFault {
    tracing::error!(error = error as &dyn std::error::Error, "the event log could not be read");
    error.fault()
}

/// Runs blocking file work on a thread that may wait. Logs the cause of an error and returns its kind.
async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FilesError> + Send + 'static,
) -> Result<T, StoreFault> {
    match spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a file operation for a picture failed"
            );
            Err(error.fault())
        }
        Err(error) => {
            tracing::error!(%error, "a file operation for a picture panicked");
            Err(StoreFault::Other)
        }
    }
}

impl Actor for ThumbnailActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        let files = self.files.clone();
        let measured = run_blocking(move || files.measure());
        // An error is logged there; without the size, only the free space limits the pictures.
        ctx.spawn(measured.into_actor(self).map(|_logged, _, _| ()));
    }
}

impl Handler<PutThumbnail> for ThumbnailActor {
    type Result = ResponseActFuture<Self, Result<(), ThumbnailError>>;

    fn handle(
        &mut self,
        PutThumbnail { event_id, image }: PutThumbnail,
        _: &mut Self::Context,
    ) -> Self::Result {
        let permit = Arc::clone(&self.write_permits).try_acquire_owned().map_err(|_| ThumbnailError::Busy);
        self.store_picture(event_id, image, Existing::Replace, std::future::ready(permit))
    }
}

impl Handler<StoreThumbnail> for ThumbnailActor {
    type Result = ResponseActFuture<Self, Result<(), ThumbnailError>>;

    fn handle(
        &mut self,
        StoreThumbnail { event_id, image }: StoreThumbnail,
        _: &mut Self::Context,
    ) -> Self::Result {
        let permit = Arc::clone(&self.write_permits).acquire_owned();
        self.store_picture(event_id, image, Existing::Keep, async move {
            permit.await.map_err(|_| ThumbnailError::Busy)
        })
    }
}

impl Handler<GetThumbnail> for ThumbnailActor {
    type Result = ResponseFuture<Result<Option<Picture>, QueryError>>;

    fn handle(&mut self, GetThumbnail(event_id): GetThumbnail, _: &mut Self::Context) -> Self::Result {
        let (store, files) = (self.store.clone(), self.files.clone());
        Box::pin(async move {
            let found = store.find_event(&event_id).await.map_err(|error| QueryError(unreadable(&error)))?;
            let Some(Place { seq, .. }) = found else { return Ok(None) };
            run_blocking(move || files.load(seq)).await.map_err(QueryError)
        })
    }
}

impl Handler<HaveThumbnails> for ThumbnailActor {
    type Result = ResponseFuture<Result<Vec<bool>, QueryError>>;

    fn handle(&mut self, HaveThumbnails(seqs): HaveThumbnails, _: &mut Self::Context) -> Self::Result {
        let files = self.files.clone();
        Box::pin(async move {
            run_blocking(move || seqs.into_iter().map(|seq| files.has(seq)).collect())
                .await
                .map_err(QueryError)
        })
    }
}

impl Handler<GetThumbnailAt> for ThumbnailActor {
    type Result = ResponseFuture<Result<Option<Picture>, QueryError>>;

    fn handle(&mut self, GetThumbnailAt(seq): GetThumbnailAt, _: &mut Self::Context) -> Self::Result {
        let files = self.files.clone();
        Box::pin(async move { run_blocking(move || files.load(seq)).await.map_err(QueryError) })
    }
}

impl Handler<FreeSpace> for ThumbnailActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, FreeSpace { bytes }: FreeSpace, _: &mut Self::Context) -> Self::Result {
        let files = self.files.clone();
        Box::pin(async move {
            if let Ok(Freed { pictures, bytes }) = run_blocking(move || files.remove_oldest(bytes)).await
                && pictures > 0
            {
                tracing::warn!(pictures, bytes, "removed the oldest pictures because the disk is full");
            }
        })
    }
}

impl Handler<Sweep> for ThumbnailActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Sweep { up_to, kept }: Sweep, _: &mut Self::Context) -> Self::Result {
        let files = self.files.clone();
        Box::pin(async move {
            match run_blocking(move || files.remove_up_to(up_to, &kept)).await {
                Ok(0) => {}
                Ok(pictures) => tracing::info!(pictures, "removed old pictures"),
                Err(error) => {
                    tracing::warn!(%error, "old pictures could not be removed; trying again in an hour");
                }
            }
        })
    }
}

stops_on_request!(ThumbnailActor);

#[cfg(test)]
mod tests;
