//! The pictures of events.
//!
//! Owns the files of the pictures, and nothing of the log: whether an event is there, and where, it asks the database.
//! Promises: a picture that is answered as stored is on disk for good; a replaced one is the old or the new one, never
//! half of each; what is written at once is bounded. All work with files is done on threads of its own kind, so that no
//! actor waits for the disk.

mod files;
mod key;

use std::{collections::HashSet, sync::Arc};

use actix::{
    Actor, ActorFutureExt as _, Context, Handler, Recipient, ResponseActFuture, ResponseFuture,
    WrapFuture as _,
};
use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc::UnboundedSender},
    task::spawn_blocking,
};

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
            GetThumbnail, GetThumbnailAt, HaveThumbnails, PutThumbnail, StoreThumbnail, Sweep, ThumbnailError,
        },
    },
    store::{Place, Store, StoreError},
};

/// Requests that may wait in the mailbox: handlers answer at once, so it empties as fast as it fills.
const MAILBOX: usize = 256;

/// Pictures that are written at once: 32 MiB at most, and more than a disk syncs side by side. Past it those from outside
/// are asked to come again, and those from the outbox, which bounds them itself, wait.
const WRITES: usize = 16;

type Turn = OwnedSemaphorePermit;

/// See the module's documentation.
#[derive(Debug)]
pub struct ThumbnailActor {
    store: Store,
    files: Files,
    /// Receives a fact for every picture that is stored.
    cameras: Recipient<ThumbnailStored>,
    _crash_guard: CrashGuard,
    turns: Arc<Semaphore>,
    /// Whose picture is being written: a second one at the same time would leave open which one is the newer.
    writing: HashSet<EventId>,
}

/// What becomes of a picture that the event has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Earlier {
    Replaced,
    Kept,
}

impl ThumbnailActor {
    /// Keeps pictures in `files` for the events of `store`.
    pub fn new(
        store: Store,
        files: Files,
        cameras: Recipient<ThumbnailStored>,
        crashed: UnboundedSender<&'static str>,
    ) -> Self {
        let turns = Arc::new(Semaphore::new(WRITES));
        Self {
            store,
            files,
            cameras,
            _crash_guard: CrashGuard::new("thumbnails", crashed),
            turns,
            writing: HashSet::new(),
        }
    }

    fn keep(
        &mut self,
        event_id: EventId,
        image: Bytes,
        earlier: Earlier,
        turn: impl Future<Output = Result<Turn, ThumbnailError>> + 'static,
    ) -> ResponseActFuture<Self, Result<(), ThumbnailError>> {
        if !self.writing.insert(event_id.clone()) {
            return Box::pin(actix::fut::ready(Err(ThumbnailError::Busy)));
        }
        let (store, files) = (self.store.clone(), self.files.clone());
        let id = event_id.clone();
        let kept = async move { keep(&store, files, &id, image, earlier, turn.await?).await };
        Box::pin(kept.into_actor(self).map(move |kept, act, _| {
            act.writing.remove(&event_id);
            if let Some(stored) = kept? {
                act.notify(stored);
            }
            Ok(())
        }))
    }

    fn notify(&self, stored: ThumbnailStored) {
        #[expect(
            clippy::disallowed_methods,
            reason = "bounded by the rate at which the disk takes pictures"
        )]
        self.cameras.do_send(stored);
    }
}

/// Stores a picture; `None` when the event's earlier one was kept.
async fn keep(
    store: &Store,
    files: Files,
    event_id: &EventId,
    image: Bytes,
    earlier: Earlier,
    turn: Turn,
) -> Result<Option<ThumbnailStored>, ThumbnailError> {
    let format = check(&image)?;
    let found =
        store.find_event(event_id).await.map_err(|error| ThumbnailError::Storage(unreadable(&error)))?;
    let Place { seq, camera_id, happened_at } = found.ok_or(ThumbnailError::UnknownEvent)?;
    let stored = blocking(move || {
        // Until the file is written, also when nobody waits for it any more.
        let _turn = turn;
        if earlier == Earlier::Kept && files.has(seq)? {
            return Ok(false);
        }
        files.store(seq, &image).map(|()| true)
    });
    let stored = stored.await.map_err(ThumbnailError::Storage)?;
    Ok(stored.then_some(ThumbnailStored { camera_id, thumbnail: Thumbnail { seq, happened_at, format } }))
}

/// Logs that the event log could not be read.
fn unreadable(error: &StoreError) -> StoreFault {
    tracing::error!(error = error as &dyn std::error::Error, "the event log could not be read");
    error.fault()
}

/// Runs blocking file work on a thread that may wait. Logs the cause of an error and returns its kind.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FilesError> + Send + 'static,
) -> Result<T, StoreFault> {
    match spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            tracing::error!(error = &error as &dyn std::error::Error, "a picture's file failed");
            Err(error.fault())
        }
        Err(error) => {
            tracing::error!(%error, "a panic beside a picture's file");
            Err(StoreFault::Other)
        }
    }
}

impl Actor for ThumbnailActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<PutThumbnail> for ThumbnailActor {
    type Result = ResponseActFuture<Self, Result<(), ThumbnailError>>;

    fn handle(
        &mut self,
        PutThumbnail { event_id, image }: PutThumbnail,
        _: &mut Self::Context,
    ) -> Self::Result {
        let turn = Arc::clone(&self.turns).try_acquire_owned().map_err(|_| ThumbnailError::Busy);
        self.keep(event_id, image, Earlier::Replaced, std::future::ready(turn))
    }
}

impl Handler<StoreThumbnail> for ThumbnailActor {
    type Result = ResponseActFuture<Self, Result<(), ThumbnailError>>;

    fn handle(
        &mut self,
        StoreThumbnail { event_id, image }: StoreThumbnail,
        _: &mut Self::Context,
    ) -> Self::Result {
        let turn = Arc::clone(&self.turns).acquire_owned();
        self.keep(event_id, image, Earlier::Kept, async move { turn.await.map_err(|_| ThumbnailError::Busy) })
    }
}

impl Handler<GetThumbnail> for ThumbnailActor {
    type Result = ResponseFuture<Result<Option<Picture>, QueryError>>;

    fn handle(&mut self, GetThumbnail(event_id): GetThumbnail, _: &mut Self::Context) -> Self::Result {
        let (store, files) = (self.store.clone(), self.files.clone());
        Box::pin(async move {
            let found = store.find_event(&event_id).await.map_err(|error| QueryError(unreadable(&error)))?;
            let Some(Place { seq, .. }) = found else { return Ok(None) };
            blocking(move || files.load(seq)).await.map_err(QueryError)
        })
    }
}

impl Handler<HaveThumbnails> for ThumbnailActor {
    type Result = ResponseFuture<Result<Vec<bool>, QueryError>>;

    fn handle(&mut self, HaveThumbnails(seqs): HaveThumbnails, _: &mut Self::Context) -> Self::Result {
        let files = self.files.clone();
        Box::pin(async move {
            blocking(move || seqs.into_iter().map(|seq| files.has(seq)).collect()).await.map_err(QueryError)
        })
    }
}

impl Handler<GetThumbnailAt> for ThumbnailActor {
    type Result = ResponseFuture<Result<Option<Picture>, QueryError>>;

    fn handle(&mut self, GetThumbnailAt(seq): GetThumbnailAt, _: &mut Self::Context) -> Self::Result {
        let files = self.files.clone();
        Box::pin(async move { blocking(move || files.load(seq)).await.map_err(QueryError) })
    }
}

impl Handler<Sweep> for ThumbnailActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Sweep { up_to }: Sweep, _: &mut Self::Context) -> Self::Result {
        let files = self.files.clone();
        Box::pin(async move {
            match blocking(move || files.remove_up_to(up_to)).await {
                Ok(0) => {}
                Ok(pictures) => tracing::info!(pictures, "removed old pictures"),
                Err(error) => {
                    tracing::warn!(%error, "old pictures could not be removed; tried again in an hour");
                }
            }
        })
    }
}

stops_on_request!(ThumbnailActor);

#[cfg(test)]
mod tests;
