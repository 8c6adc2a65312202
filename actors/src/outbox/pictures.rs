//! The pictures that come with events: kept aside in memory until the event is committed, and then handed on.
//!
//! The commit knows nothing of them, so that what gathers for it stays small.

use std::sync::Arc;

use actix::Recipient;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    domain::{event_log::Receipt, image::check},
    messages::{
        outbox::PublishError,
        thumbnails::{StoreThumbnail, Sweep, ThumbnailError},
    },
};

/// The pictures that wait may take so much memory together. Past it, sources are asked to come again.
pub const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;

/// Who keeps pictures.
#[derive(Debug, Clone)]
pub struct Thumbnails {
    /// Stores the one that came with an event.
    pub store: Recipient<StoreThumbnail>,
    /// Removes those of events that are gone.
    pub sweep: Recipient<Sweep>,
}

/// The memory that is set aside for pictures.
#[derive(Debug)]
pub struct PictureBudget(Arc<Semaphore>);

impl Default for PictureBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_WAITING_BYTES)))
    }
}

impl PictureBudget {
    /// Takes in the picture that came with an event, when it is one and there is room.
    pub fn take(&self, image: Option<Bytes>) -> Result<Option<HeldPicture>, PublishError> {
        let Some(image) = image else { return Ok(None) };
        check(&image).map_err(|error| PublishError::Thumbnail(error.into()))?;
        let bytes = u32::try_from(image.len()).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.0).try_acquire_many_owned(bytes).map_err(|_| PublishError::Busy)?;
        Ok(Some(HeldPicture { image, _room: room }))
    }
}

/// A picture whose event is being committed.
#[derive(Debug)]
pub struct HeldPicture {
    image: Bytes,
    /// Given back when it is stored, or nobody waits for it any more.
    _room: OwnedSemaphorePermit,
}

impl HeldPicture {
    /// The event is committed: has its picture stored.
    pub async fn store(self, keeper: Option<Thumbnails>, receipt: &Receipt) -> Result<(), PublishError> {
        let Some(keeper) = keeper else {
            let nobody = ThumbnailError::Storage(crate::domain::store_fault::StoreFault::Other);
            return Err(PublishError::Thumbnail(nobody));
        };
        let message = StoreThumbnail { event_id: receipt.event_id.clone(), image: self.image.clone() };
        let stored = keeper.store.send(message).await.map_err(|_| PublishError::Stopping)?;
        stored.map_err(PublishError::Thumbnail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::image::{ImageError, MAX_THUMBNAIL_BYTES, samples};

    fn large() -> Bytes {
        let mut image = samples::PNG.to_vec();
        image.resize(MAX_THUMBNAIL_BYTES, 0);
        image.into()
    }

    #[test]
    fn what_waits_is_bounded_in_bytes() {
        let room = PictureBudget::default();
        let mut waiting: Vec<_> = (0..32).map(|_| room.take(Some(large())).unwrap()).collect();
        assert_eq!(room.take(Some(large())).unwrap_err(), PublishError::Busy);
        assert!(room.take(None).unwrap().is_none(), "events without a picture need no room");
        waiting.pop();
        assert!(room.take(Some(large())).is_ok());
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        let refused = PictureBudget::default().take(Some(Bytes::from_static(b"GIF89a"))).unwrap_err();
        assert_eq!(refused, PublishError::Thumbnail(ImageError::NotAPicture.into()));
    }
}
