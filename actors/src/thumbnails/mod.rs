//! The pictures of events.
//!
//! [`ThumbnailActor`] owns the pictures, in files or in a database on a server, but not the event log: it asks the
//! database whether an event exists, and at which position. It guarantees that a picture is durable when it is reported
//! as stored; that a replaced picture is either the old or the new one, never a mixture; and that the number of
//! concurrent writes is limited. All file work runs on blocking threads, so that no actor waits for the disk.
//!
//! The picture of a new event is staged before the event is committed, and adopted afterwards. So the event
//! is not sent before its picture is available, and a crash in between loses neither: [`recover_staged`].

mod database;
mod files;
mod key;
mod moving;
mod rendition;
mod storage;
pub mod transfer;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, Context, Handler, MessageResult, Recipient,
    ResponseActFuture, ResponseFuture, WrapFuture as _,
};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc::UnboundedSender};

use self::{
    database::{Database, RecoveredPicture},
    rendition::Renditions,
    storage::Turns,
};
pub use self::{
    files::{DIRECTORY, Files, FilesError},
    key::{FILE as KEY_FILE, LinkKeyError, load_or_create},
    moving::picture_files,
    storage::Storage,
};
use crate::{
    domain::{
        camera::{ImageType, Thumbnail},
        causes::with_causes,
        event_log::QueryError,
        ids::{EventId, Seq},
        image::{Picture, PictureVersion, RenditionWidth, StoredPicture, check},
        store_fault::StoreFault,
    },
    lifecycle::{CrashGuard, stops_on_request},
    messages::{
        cameras::ThumbnailStored,
        thumbnails::{
            AdoptThumbnails, DiscardThumbnails, FreeSpace, GetPictureStock, GetRendition, GetThumbnail,
            GetThumbnailAt, GetThumbnailVersions, HaveThumbnails, PutThumbnail, StageThumbnail, Sweep,
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

/// The pictures, as they were opened at the start.
#[derive(Debug)]
pub struct Pictures {
    /// Where they are.
    pub storage: Storage,
    /// The pictures that were staged before, and adopted at the start. The actor reports them when it starts.
    pub recovered: Vec<ThumbnailStored>,
    /// Maximum size of a picture that is published, in bytes. Larger ones are replaced by a rendition.
    pub max_published_bytes: usize,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct ThumbnailActor {
    store: Store,
    storage: Storage,
    /// Is notified of every picture that is stored.
    cameras: Recipient<ThumbnailStored>,
    _crash_guard: CrashGuard,
    write_permits: Arc<Semaphore>,
    /// The events whose picture is being written. A second write at the same time is rejected, because the
    /// result would be undefined.
    writing: HashSet<EventId>,
    /// The formats of the staged pictures, by event.
    staged: HashMap<EventId, ImageType>,
    /// The pictures that were adopted at the start, until they are reported.
    recovered: Vec<ThumbnailStored>,
    renditions: Arc<Renditions>,
    turns: Turns,
}

impl ThumbnailActor {
    /// Creates the actor that stores the pictures of the events of `store`.
    pub fn new(
        store: Store,
        Pictures { storage, recovered, max_published_bytes }: Pictures,
        cameras: Recipient<ThumbnailStored>,
        crashed: UnboundedSender<&'static str>,
    ) -> Self {
        let write_permits = Arc::new(Semaphore::new(MAX_WRITES));
        Self {
            store,
            storage,
            cameras,
            _crash_guard: CrashGuard::new("thumbnails", crashed),
            write_permits,
            writing: HashSet::new(),
            staged: HashMap::new(),
            recovered,
            renditions: Arc::new(Renditions::new(max_published_bytes)),
            turns: Turns::default(),
        }
    }

    /// Records that these pictures are no longer staged. Returns their formats.
    fn release(&mut self, event_ids: &[EventId]) -> HashMap<EventId, ImageType> {
        for event_id in event_ids {
            self.writing.remove(event_id);
        }
        event_ids.iter().filter_map(|id| self.staged.remove_entry(id)).collect()
    }

    /// Looks up the events of these pictures and reports them. The outbox does not wait for that.
    fn report_adopted(&self, pictures: Vec<(EventId, ImageType)>, ctx: &mut Context<Self>) {
        let store = self.store.clone();
        let lookups = async move {
            let mut found = Vec::with_capacity(pictures.len());
            for (event_id, format) in pictures {
                found.extend(adopted(&store, &event_id, format).await);
            }
            found
        };
        ctx.spawn(lookups.into_actor(self).map(|found, act, _| {
            for stored in found {
                act.notify(stored);
            }
        }));
    }

    /// Returns a future that reads a picture, or makes its rendition of this width.
    fn read(
        &self,
        seq: Seq,
        width: Option<RenditionWidth>,
    ) -> impl Future<Output = Result<Option<StoredPicture>, StoreFault>> + use<> {
        let (storage, renditions) = (self.storage.clone(), Arc::clone(&self.renditions));
        let turns = self.turns.clone();
        async move {
            match width {
                None => storage.load(seq, turns).await,
                Some(width) => storage.small(seq, width, renditions, turns).await,
            }
        }
    }

    fn notify(&self, stored: ThumbnailStored) {
        #[expect(
            clippy::disallowed_methods,
            reason = "limited by the rate at which the disk stores pictures"
        )]
        self.cameras.do_send(stored);
    }
}

/// Stores the picture of an event in the log, and replaces an earlier one.
async fn store_picture(
    store: &Store,
    storage: Storage,
    renditions: Arc<Renditions>,
    event_id: &EventId,
    image: Bytes,
    permit: WritePermit,
) -> Result<ThumbnailStored, ThumbnailError> {
    let format = check(&image)?;
    let place = find(store, event_id).await?.ok_or(ThumbnailError::UnknownEvent)?;
    let stored = storage.put(event_id.clone(), place.seq, image, renditions, permit);
    stored.await.map_err(ThumbnailError::Storage)?;
    Ok(stored_at(place, format))
}

async fn find(store: &Store, event_id: &EventId) -> Result<Option<Place>, ThumbnailError> {
    store.find_event(event_id).await.map_err(|error| ThumbnailError::Storage(unreadable(&error)))
}

fn stored_at(Place { seq, camera_id, times }: Place, format: ImageType) -> ThumbnailStored {
    ThumbnailStored { camera_id, thumbnail: Thumbnail { seq, happened: times.happened(), format } }
}

impl Pictures {
    /// Opens the pictures in a database on a server, and adopts those that were staged before.
    pub async fn in_database(
        store: &Store,
        max_bytes: u64,
        max_published_bytes: usize,
    ) -> Result<Self, StoreError> {
        let (database, staged) = Database::open(store, max_bytes).await?;
        let mut recovered = Vec::with_capacity(staged.len());
        for RecoveredPicture { event_id, format } in staged {
            recovered.extend(adopted(store, &event_id, format).await);
        }
        Ok(Self { storage: Storage::Database(Box::new(database)), recovered, max_published_bytes })
    }
}

/// At the start: adopts the staged picture files of the events that were committed before a crash, and removes the
/// others. Returns the adopted pictures. What fails is logged and left for the next start.
pub async fn recover_staged(store: &Store, files: &Files) -> Result<Vec<ThumbnailStored>, FilesError> {
    let mut recovered = Vec::new();
    for event_id in files.staged()? {
        // This reads only the index, so a damaged row does not matter.
        let seq = match store.find_seqs(std::slice::from_ref(&event_id)).await {
            Ok(found) => found.first().map(|(_, seq)| *seq),
            Err(error) => {
                not_recovered(&event_id, &error);
                continue;
            }
        };
        let recover = || match seq {
            Some(seq) if files.adopt(&event_id, seq)? => files.load(seq),
            Some(_) => Ok(None),
            None => files.discard(&event_id).map(|()| None),
        };
        match recover() {
            Ok(Some(picture)) => recovered.extend(adopted(store, &event_id, picture.format).await),
            Ok(None) => {}
            Err(error) => not_recovered(&event_id, &error),
        }
    }
    Ok(recovered)
}

fn not_recovered(event_id: &EventId, error: &dyn std::error::Error) {
    tracing::warn!(%event_id, error = %with_causes(error), "a picture was not recovered");
}

/// Returns what to report about an adopted picture; nothing if the event cannot be read, which is logged.
async fn adopted(store: &Store, event_id: &EventId, format: ImageType) -> Option<ThumbnailStored> {
    let place = find(store, event_id).await.ok()??;
    Some(stored_at(place, format))
}

/// Logs that the event log could not be read. Returns the kind of failure.
fn unreadable(error: &StoreError) -> StoreFault {
    tracing::error!(error = %with_causes(error), "the event log could not be read");
    error.fault()
}

impl Actor for ThumbnailActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        for stored in std::mem::take(&mut self.recovered) {
            self.notify(stored);
        }
        ctx.spawn(self.storage.clone().measure().into_actor(self));
    }
}

impl Handler<PutThumbnail> for ThumbnailActor {
    type Result = ResponseActFuture<Self, Result<(), ThumbnailError>>;

    fn handle(
        &mut self,
        PutThumbnail { event_id, image }: PutThumbnail,
        _: &mut Self::Context,
    ) -> Self::Result {
        let is_free = !self.staged.contains_key(&event_id);
        let permit = Arc::clone(&self.write_permits).try_acquire_owned().ok().filter(|_| is_free);
        let Some(permit) = permit.filter(|_| self.writing.insert(event_id.clone())) else {
            return Box::pin(actix::fut::ready(Err(ThumbnailError::Busy)));
        };
        let (store, storage, id) = (self.store.clone(), self.storage.clone(), event_id.clone());
        let renditions = Arc::clone(&self.renditions);
        let storing = async move { store_picture(&store, storage, renditions, &id, image, permit).await };
        Box::pin(storing.into_actor(self).map(move |stored, act, _| {
            act.writing.remove(&event_id);
            act.notify(stored?);
            Ok(())
        }))
    }
}

impl Handler<StageThumbnail> for ThumbnailActor {
    type Result = ResponseActFuture<Self, Result<(), ThumbnailError>>;

    fn handle(
        &mut self,
        StageThumbnail { event_id, image }: StageThumbnail,
        _: &mut Self::Context,
    ) -> Self::Result {
        if !self.writing.insert(event_id.clone()) {
            return Box::pin(actix::fut::ready(Err(ThumbnailError::Busy)));
        }
        let (storage, id) = (self.storage.clone(), event_id.clone());
        let permit = Arc::clone(&self.write_permits).acquire_owned();
        let staging = async move {
            let format = check(&image)?;
            let permit = permit.await.map_err(|_| ThumbnailError::Busy)?;
            let staged = storage.stage(id, image, permit).await;
            staged.map(|()| format).map_err(ThumbnailError::Storage)
        };
        Box::pin(staging.into_actor(self).map(move |staged, act, _| {
            act.writing.remove(&event_id);
            act.staged.insert(event_id, staged?);
            Ok(())
        }))
    }
}

impl Handler<AdoptThumbnails> for ThumbnailActor {
    type Result = ResponseActFuture<Self, Vec<EventId>>;

    fn handle(&mut self, AdoptThumbnails(events): AdoptThumbnails, _: &mut Self::Context) -> Self::Result {
        self.writing.extend(events.iter().map(|(event_id, _)| event_id.clone()));
        let adopting = self.storage.clone().adopt(events.clone());
        Box::pin(adopting.into_actor(self).map(|adopted, act, ctx| {
            let done: Vec<_> = events.into_iter().map(|(event_id, _)| event_id).collect();
            let formats = act.release(&done);
            let Ok(adopted) = adopted else { return done };
            let new = adopted
                .iter()
                .filter(|(_, adopted)| *adopted == Some(true))
                .filter_map(|(id, _)| Some((id.clone(), *formats.get(id)?)));
            act.report_adopted(new.collect(), ctx);
            adopted.into_iter().filter(|(_, adopted)| adopted.is_none()).map(|(id, _)| id).collect()
        }))
    }
}

impl Handler<DiscardThumbnails> for ThumbnailActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(
        &mut self,
        DiscardThumbnails(event_ids): DiscardThumbnails,
        _: &mut Self::Context,
    ) -> Self::Result {
        self.writing.extend(event_ids.iter().cloned());
        let discarding = self.storage.clone().discard(event_ids.clone());
        Box::pin(discarding.into_actor(self).map(move |(), act, _| {
            act.release(&event_ids);
        }))
    }
}

impl Handler<GetThumbnail> for ThumbnailActor {
    type Result = ResponseActFuture<Self, Result<Option<StoredPicture>, QueryError>>;

    fn handle(
        &mut self,
        GetThumbnail { event_id, width }: GetThumbnail,
        _: &mut Self::Context,
    ) -> Self::Result {
        let store = self.store.clone();
        let found = async move { store.find_event(&event_id).await };
        Box::pin(found.into_actor(self).then(move |found, act, _| {
            let found = found.map_err(|error| QueryError(unreadable(&error)));
            let read = found.map(|place| place.map(|Place { seq, .. }| act.read(seq, width)));
            let picture = async move {
                match read? {
                    Some(read) => read.await.map_err(QueryError),
                    None => Ok(None),
                }
            };
            picture.into_actor(act)
        }))
    }
}

impl Handler<HaveThumbnails> for ThumbnailActor {
    type Result = ResponseFuture<Result<Vec<bool>, QueryError>>;

    fn handle(&mut self, HaveThumbnails(seqs): HaveThumbnails, _: &mut Self::Context) -> Self::Result {
        let have = self.storage.clone().have(seqs, self.turns.clone());
        Box::pin(async move { have.await.map_err(QueryError) })
    }
}

impl Handler<GetThumbnailVersions> for ThumbnailActor {
    type Result = ResponseFuture<Result<Vec<Option<PictureVersion>>, QueryError>>;

    fn handle(
        &mut self,
        GetThumbnailVersions(seqs): GetThumbnailVersions,
        _: &mut Self::Context,
    ) -> Self::Result {
        let versions = self.storage.clone().versions(seqs, self.turns.clone());
        Box::pin(async move { versions.await.map_err(QueryError) })
    }
}

impl Handler<GetThumbnailAt> for ThumbnailActor {
    type Result = ResponseFuture<Result<Option<StoredPicture>, QueryError>>;

    fn handle(
        &mut self,
        GetThumbnailAt { seq, width }: GetThumbnailAt,
        _: &mut Self::Context,
    ) -> Self::Result {
        let read = self.read(seq, width);
        Box::pin(async move { read.await.map_err(QueryError) })
    }
}

impl Handler<GetRendition> for ThumbnailActor {
    type Result = ResponseFuture<Result<Option<Picture>, QueryError>>;

    fn handle(&mut self, GetRendition(seq): GetRendition, _: &mut Self::Context) -> Self::Result {
        let published = self.storage.clone().published(seq, Arc::clone(&self.renditions));
        Box::pin(async move { published.await.map_err(QueryError) })
    }
}

impl Handler<GetPictureStock> for ThumbnailActor {
    type Result = MessageResult<GetPictureStock>;

    fn handle(&mut self, _: GetPictureStock, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.storage.stock())
    }
}

impl Handler<FreeSpace> for ThumbnailActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, FreeSpace { bytes }: FreeSpace, _: &mut Self::Context) -> Self::Result {
        Box::pin(self.storage.clone().free_space(bytes))
    }
}

impl Handler<Sweep> for ThumbnailActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Sweep { up_to, kept }: Sweep, _: &mut Self::Context) -> Self::Result {
        let removing = self.storage.clone().remove_up_to(up_to, kept);
        Box::pin(async move {
            match removing.await {
                Ok(0) => {}
                Ok(pictures) => tracing::info!(pictures, "removed old pictures"),
                Err(error) => {
                    tracing::warn!(
                        error = %with_causes(&error),
                        "old pictures could not be removed; trying again in an hour"
                    );
                }
            }
        })
    }
}

stops_on_request!(ThumbnailActor);

#[cfg(test)]
mod tests;
