//! What can be said to the [`ThumbnailActor`](super::ThumbnailActor), and what it answers.

use actix::Message;
use bytes::Bytes;

use crate::{
    camera::ImageType,
    ids::{EventId, Seq},
    outbox::QueryError,
};

/// A picture is at most so large.
pub const MAX_THUMBNAIL_BYTES: usize = 2 * 1024 * 1024;

/// From the HTTP layer: this is the picture of an event. It replaces an earlier one. Answered when it is synced to disk.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), ThumbnailError>")]
pub struct PutThumbnail {
    /// Whose.
    pub event_id: EventId,
    /// The picture.
    pub image: Bytes,
}

/// From the HTTP layer: the picture of an event; `None` when there is no such event or it has none (any more).
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Option<Picture>, QueryError>")]
pub struct GetThumbnail(pub EventId);

/// From the CameraActor: the picture of the event at this place.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Option<Picture>, QueryError>")]
pub struct GetThumbnailAt(pub Seq);

/// A picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Its format.
    pub format: ImageType,
    /// Its bytes.
    pub image: Bytes,
}

/// Why a picture was not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ThumbnailError {
    /// There is no such event (any more).
    #[error("there is no such event (any more)")]
    UnknownEvent,
    /// It is larger than [`MAX_THUMBNAIL_BYTES`].
    #[error("{bytes} bytes, must be at most {MAX_THUMBNAIL_BYTES}")]
    TooLarge {
        /// How large it is.
        bytes: usize,
    },
    /// Its content is none of the three formats, whatever its name says.
    #[error("must be a JPEG, PNG or WebP picture")]
    NotAPicture,
    /// The disk or the database did not keep it. The log says why.
    #[error("the picture could not be stored: {0}")]
    Storage(String),
}
