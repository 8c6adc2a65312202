//! The pictures that come with events. They are held in memory until the thumbnail actor has staged them on
//! disk. Only then is the event committed.
//!
//! They are not part of the commit queue, so that the queue stays small.

use std::sync::Arc;

use actix::Recipient;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    domain::{ids::EventId, image::check},
    messages::{
        outbox::PublishError,
        thumbnails::{StageThumbnail, ThumbnailError},
    },
};

/// Maximum total size of the pictures in memory. Above it, senders are asked to try again.
pub const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;

/// The memory that is reserved for pictures.
#[derive(Debug)]
pub struct PictureBudget(Arc<Semaphore>);

impl Default for PictureBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_WAITING_BYTES)))
    }
}

impl PictureBudget {
    /// Checks the picture of an event and reserves memory for it.
    pub fn take(&self, image: Option<Bytes>) -> Result<Option<HeldPicture>, PublishError> {
        let Some(image) = image else { return Ok(None) };
        check(&image).map_err(|error| PublishError::Thumbnail(error.into()))?;
        let bytes = u32::try_from(image.len()).unwrap_or(u32::MAX);
        let reserved = Arc::clone(&self.0).try_acquire_many_owned(bytes).map_err(|_| PublishError::Busy)?;
        Ok(Some(HeldPicture { image, _reserved: reserved }))
    }
}

/// A picture that is being staged.
#[derive(Debug)]
pub struct HeldPicture {
    image: Bytes,
    /// Released when the picture is staged, or the request is dropped.
    _reserved: OwnedSemaphorePermit,
}

impl HeldPicture {
    /// Stages the picture on disk, before its event is committed.
    pub async fn stage(
        self,
        thumbnails: &Recipient<StageThumbnail>,
        event_id: EventId,
    ) -> Result<(), PublishError> {
        let message = StageThumbnail { event_id, image: self.image.clone() };
        let staged = thumbnails.send(message).await.map_err(|_| PublishError::Stopping)?;
        staged.map_err(|error| match error {
            ThumbnailError::Busy => PublishError::Busy,
            error => PublishError::Thumbnail(error),
        })
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
    fn the_memory_for_pictures_is_bounded() {
        let budget = PictureBudget::default();
        let mut waiting: Vec<_> = (0..32).map(|_| budget.take(Some(large())).unwrap()).collect();
        assert_eq!(budget.take(Some(large())).unwrap_err(), PublishError::Busy);
        assert!(budget.take(None).unwrap().is_none(), "events without a picture need no memory");
        waiting.pop();
        assert!(budget.take(Some(large())).is_ok());
    }

    #[test]
    fn bytes_that_are_not_a_picture_are_refused() {
        let refused = PictureBudget::default().take(Some(Bytes::from_static(b"GIF89a"))).unwrap_err();
        assert_eq!(refused, PublishError::Thumbnail(ImageError::NotAPicture.into()));
    }
}
