//! Where the pictures are: in files next to a SQLite database, or in the database on a server.
//!
//! File work runs on blocking threads. Errors are logged here; the callers get their kind.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

use super::{
    database::{Database, Small},
    files::{Files, FilesError, Freed, StoredSmall},
    rendition::{Renditions, render_width},
};
use crate::{
    domain::{
        camera::ImageType,
        causes::with_causes,
        ids::{EventId, Seq},
        image::{Picture, PictureVersion, RenditionWidth, StoredPicture},
        store_fault::StoreFault,
    },
    messages::thumbnails::PictureStock,
    store::StoreError,
};

/// See the module's documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Storage {
    /// Files in the data directory.
    Files(Files),
    /// Rows of a database on a server.
    Database(Box<Database>),
}

/// Maximum number of requests that read files at the same time. A read takes less than a millisecond if the disk works.
/// Each thread that has read a picture keeps 1 MiB or more for the next one, until it ends after 10 s without work.
const MAX_READS: usize = 4;

/// How many requests may occupy a thread. The others wait in order. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Turns {
    reading: Arc<Semaphore>,
    rendering: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { reading: Arc::new(Semaphore::new(MAX_READS)), rendering: Arc::new(Semaphore::new(1)) }
    }
}

impl Turns {
    /// Reads files when it is this request's turn. See [`run_blocking`].
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, FilesError> + Send + 'static,
    ) -> Result<T, StoreFault> {
        // It is never closed.
        let turn = Arc::clone(&self.reading).acquire_owned().await;
        run_blocking(move || {
            // Held until the thread is free, even if the client no longer waits for the result.
            let _turn = turn;
            work()
        })
        .await
    }
}

/// Logs why pictures could not be read or written. Returns the kind of failure.
fn failed(error: &StoreError) -> StoreFault {
    tracing::error!(error = %with_causes(error), "the pictures could not be read or written");
    error.fault()
}

/// Runs blocking file work on a thread that may wait. Logs the cause of an error and returns its kind.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FilesError> + Send + 'static,
) -> Result<T, StoreFault> {
    match spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            tracing::error!(
                error = %with_causes(&error),
                "a file operation for a picture failed"
            );
            Err(error.fault())
        }
        Err(error) => {
            tracing::error!(error = %with_causes(&error), "a file operation for a picture panicked");
            Err(StoreFault::Other)
        }
    }
}

impl Storage {
    /// Stores the picture of an event that is about to be committed. It is durable when this returns. The permit is
    /// held until then.
    pub async fn stage(
        self,
        event_id: EventId,
        image: Bytes,
        permit: OwnedSemaphorePermit,
    ) -> Result<(), StoreFault> {
        match self {
            Self::Files(files) => {
                run_blocking(move || {
                    let _permit = permit;
                    files.stage(&event_id, &image)
                })
                .await
            }
            Self::Database(database) => {
                let _permit = permit;
                database.stage(&event_id, &image).await.map_err(|error| failed(&error))
            }
        }
    }

    /// Stores the picture of an event, and replaces an earlier one. It is durable when this returns. The permit is held
    /// until then.
    pub async fn put(
        self,
        event_id: EventId,
        seq: Seq,
        image: Bytes,
        renditions: Arc<Renditions>,
        permit: OwnedSemaphorePermit,
    ) -> Result<(), StoreFault> {
        match self {
            Self::Files(files) => {
                run_blocking(move || {
                    // Held until the file is written, even if the sender no longer waits for the result.
                    let _permit = permit;
                    files.store(seq, &image)?;
                    renditions.forget(seq);
                    Ok(())
                })
                .await
            }
            Self::Database(database) => {
                let _permit = permit;
                database.put(&event_id, seq, &image).await.map_err(|error| failed(&error))?;
                run_blocking(move || {
                    renditions.forget(seq);
                    Ok(())
                })
                .await
            }
        }
    }

    /// Makes staged pictures those of their events. Returns for each whether it was adopted: `Some(false)` if the event
    /// has a picture already, and `None` if it could not be adopted.
    pub async fn adopt(
        self,
        events: Vec<(EventId, Seq)>,
    ) -> Result<Vec<(EventId, Option<bool>)>, StoreFault> {
        match self {
            Self::Files(files) => {
                run_blocking(move || Ok(events.iter().map(|event| adopt_file(&files, event)).collect())).await
            }
            Self::Database(database) => database.adopt(&events).await.map_err(|error| failed(&error)),
        }
    }

    /// Removes staged pictures. A failure is logged; the next start removes the rest.
    pub async fn discard(self, event_ids: Vec<EventId>) {
        let _logged = match self {
            Self::Files(files) => {
                run_blocking(move || event_ids.iter().try_for_each(|id| files.discard(id))).await
            }
            Self::Database(database) => database.discard(&event_ids).await.map_err(|error| failed(&error)),
        };
    }

    /// Returns the versions of the pictures of these events, in the same order.
    pub async fn versions(
        self,
        seqs: Vec<Seq>,
        turns: Turns,
    ) -> Result<Vec<Option<PictureVersion>>, StoreFault> {
        match self {
            Self::Files(files) => {
                turns.read(move || seqs.into_iter().map(|seq| files.version(seq)).collect()).await
            }
            Self::Database(database) => database.versions(&seqs).await.map_err(|error| failed(&error)),
        }
    }

    /// Returns for each of these events whether it has a picture, in the same order.
    pub async fn have(self, seqs: Vec<Seq>, turns: Turns) -> Result<Vec<bool>, StoreFault> {
        match self {
            Self::Files(files) => {
                turns.read(move || seqs.into_iter().map(|seq| files.has(seq)).collect()).await
            }
            database @ Self::Database(_) => {
                Ok(database.versions(seqs, turns).await?.iter().map(Option::is_some).collect())
            }
        }
    }

    /// Returns the picture of an event with its version; `None` if it has no picture.
    pub async fn load(self, seq: Seq, turns: Turns) -> Result<Option<StoredPicture>, StoreFault> {
        match self {
            Self::Files(files) => turns.read(move || files.load_version(seq)).await,
            Self::Database(database) => database.load(seq).await.map_err(|error| failed(&error)),
        }
    }

    /// Returns the rendition of this width, or the picture itself if there is none; `None` if the event has no picture.
    /// Makes it if needed, when it is this request's turn.
    pub async fn small(
        self,
        seq: Seq,
        width: RenditionWidth,
        renditions: Arc<Renditions>,
        turns: Turns,
    ) -> Result<Option<StoredPicture>, StoreFault> {
        let found = match &self {
            Self::Files(files) => {
                let files = files.clone();
                turns.read(move || files.load_small(seq, width)).await?
            }
            Self::Database(database) => find_small(database, seq, width).await?,
        };
        match found {
            StoredSmall::Found(picture) => return Ok(Some(picture)),
            StoredSmall::NoPicture => return Ok(None),
            StoredSmall::NotMade => {}
        }
        // It is never closed.
        let turn = turns.rendering.acquire_owned().await;
        match self {
            Self::Files(files) => {
                run_blocking(move || {
                    // Held until the rendition is stored, even if the client no longer waits for it.
                    let _turn = turn;
                    renditions.alone(|| files.make_small(seq, width))
                })
                .await
            }
            Self::Database(database) => {
                // Another request may have made it.
                match find_small(&database, seq, width).await? {
                    StoredSmall::Found(picture) => return Ok(Some(picture)),
                    StoredSmall::NoPicture => return Ok(None),
                    StoredSmall::NotMade => {}
                }
                let original = database.load(seq).await.map_err(|error| failed(&error))?;
                let Some(StoredPicture { picture, version }) = original else { return Ok(None) };
                let image = picture.image.clone();
                let rendition = run_blocking(move || {
                    let _turn = turn;
                    Ok(renditions.alone(|| render_width(&image, width)))
                })
                .await?;
                let small = rendition.clone().map_or(Small::Original, Small::Made);
                database.keep_small(seq, width, version, small);
                let picture = rendition.map_or(picture, jpeg);
                Ok(Some(StoredPicture { picture, version }))
            }
        }
    }

    /// Returns the picture of an event as it is published: a smaller rendition if it is large.
    pub async fn published(
        self,
        seq: Seq,
        renditions: Arc<Renditions>,
    ) -> Result<Option<Picture>, StoreFault> {
        match self {
            Self::Files(files) => {
                run_blocking(move || renditions.of(seq, files.size(seq), || files.load(seq))).await
            }
            Self::Database(database) => {
                let stored = database.load(seq).await.map_err(|error| failed(&error))?;
                let Some(StoredPicture { picture, .. }) = stored else { return Ok(None) };
                let size = u64::try_from(picture.image.len()).unwrap_or(u64::MAX);
                run_blocking(move || renditions.of(seq, size, || Ok(Some(picture.clone())))).await
            }
        }
    }

    /// Returns how many pictures there are, as far as that is known.
    pub fn stock(&self) -> PictureStock {
        match self {
            Self::Files(files) => files.stock(),
            Self::Database(database) => database.stock_now(),
        }
    }

    /// Determines the number and the size of all pictures. A failure is logged; without the size, only the free space
    /// limits the pictures.
    pub async fn measure(self) {
        if let Self::Files(files) = self {
            let _logged = run_blocking(move || files.measure()).await;
        }
    }

    /// When the disk is full: removes the oldest pictures of at least this size together. On a server, that would not
    /// help: what is removed there does not make room for events.
    pub async fn free_space(self, bytes: u64) {
        if let Self::Files(files) = self
            && let Ok(Freed { pictures, bytes }) = run_blocking(move || files.remove_oldest(bytes)).await
            && pictures > 0
        {
            tracing::warn!(pictures, bytes, "removed the oldest pictures because the disk is full");
        }
    }

    /// Removes the pictures of all events up to this one, except for those that are kept. Returns their number.
    pub async fn remove_up_to(self, up_to: Seq, kept: BTreeSet<Seq>) -> Result<u64, StoreFault> {
        match self {
            Self::Files(files) => run_blocking(move || files.remove_up_to(up_to, &kept)).await,
            Self::Database(database) => {
                database.remove_up_to(up_to, &kept).await.map_err(|error| failed(&error))
            }
        }
    }
}

fn adopt_file(files: &Files, (event_id, seq): &(EventId, Seq)) -> (EventId, Option<bool>) {
    match files.adopt(event_id, *seq) {
        Ok(adopted) => (event_id.clone(), Some(adopted)),
        Err(error) => {
            tracing::error!(
                %event_id, error = %with_causes(&error),
                "the picture of a committed event could not be stored"
            );
            (event_id.clone(), None)
        }
    }
}

/// Returns the rendition of this width as far as it is in memory.
async fn find_small(database: &Database, seq: Seq, width: RenditionWidth) -> Result<StoredSmall, StoreFault> {
    let versions = database.versions(&[seq]).await.map_err(|error| failed(&error))?;
    let Some(version) = versions.into_iter().flatten().next() else { return Ok(StoredSmall::NoPicture) };
    match database.small(seq, width, version) {
        None => Ok(StoredSmall::NotMade),
        Some(Small::Made(image)) => Ok(StoredSmall::Found(StoredPicture { picture: jpeg(image), version })),
        Some(Small::Original) => {
            let stored = database.load(seq).await.map_err(|error| failed(&error))?;
            Ok(StoredSmall::from(stored))
        }
    }
}

fn jpeg(image: Bytes) -> Picture {
    Picture { format: ImageType::Jpeg, image }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
        time::Duration,
    };

    use futures_util::future::join_all;

    use super::*;

    #[actix_rt::test(system = "crate::System")]
    async fn more_reads_than_turns_are_all_answered_a_few_at_a_time() {
        let (turns, running) = (Turns::default(), Arc::new(AtomicUsize::new(0)));
        let reads = (0..5 * MAX_READS).map(|number| {
            let (turns, running) = (turns.clone(), Arc::clone(&running));
            async move {
                let work = move || {
                    let at_once = running.fetch_add(1, Ordering::SeqCst) + 1;
                    // Long enough for the other threads to start.
                    thread::sleep(Duration::from_millis(20));
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok((number, at_once))
                };
                turns.read(work).await.unwrap()
            }
        });
        let (numbers, at_once): (Vec<_>, Vec<_>) = join_all(reads).await.into_iter().unzip();
        assert_eq!(numbers, (0..5 * MAX_READS).collect::<Vec<_>>());
        assert!(at_once.iter().all(|at_once| *at_once <= MAX_READS), "{at_once:?}");
    }

    #[actix_rt::test(system = "crate::System")]
    async fn a_read_that_nobody_waits_for_keeps_its_turn_until_its_thread_is_free() {
        let turns = Turns::default();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let abandoned = turns.read(move || {
            // It ends with the sender.
            let _closed = released.recv();
            Ok(())
        });
        tokio::time::timeout(Duration::from_millis(50), abandoned).await.unwrap_err();
        assert_eq!(turns.reading.available_permits(), MAX_READS - 1);
        drop(release);
        crate::testing::wait_until("the turn is over", async || {
            turns.reading.available_permits() == MAX_READS
        })
        .await;
    }
}
