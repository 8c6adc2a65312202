//! What can be said to the [`ThumbnailActor`](super::ThumbnailActor), and what it answers.

use actix::Message;
use bytes::Bytes;

use crate::domain::{
    event_log::QueryError,
    ids::{EventId, Seq},
    image::{ImageError, Picture},
    store_fault::StoreFault,
};

/// From the HTTP layer: this is the picture of an event. It replaces an earlier one. Answered when it is synced to disk.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), ThumbnailError>")]
pub struct PutThumbnail {
    /// Whose.
    pub event_id: EventId,
    /// The picture.
    pub image: Bytes,
}

/// From the outbox: the picture that came with an event, which is committed. Answered when it is synced to disk; waits for
/// its turn, however many are being written. One that the event has already stays: an event is accepted once, and so is
/// what came with it.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), ThumbnailError>")]
pub struct StoreThumbnail {
    /// Whose.
    pub event_id: EventId,
    /// The picture.
    pub image: Bytes,
}

/// From the HTTP layer: the picture of an event; `None` when there is no such event or it has none (any more).
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Option<Picture>, QueryError>")]
pub struct GetThumbnail(pub EventId);

/// From the HTTP layer: which of these events have a picture; the answers in their order.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<bool>, QueryError>")]
pub struct HaveThumbnails(pub Vec<Seq>);

/// From the `CameraActor` and the HTTP layer: the picture of the event at this place.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Option<Picture>, QueryError>")]
pub struct GetThumbnailAt(pub Seq);

/// From the outbox: the events up to this one are gone, and their pictures with them. What cannot be removed now is met
/// again by the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct Sweep {
    /// The last event that is gone.
    pub up_to: Seq,
}

/// Why a picture was not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ThumbnailError {
    /// There is no such event (any more).
    #[error("there is no such event (any more)")]
    UnknownEvent,
    /// The bytes are not a picture, or too many.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// More pictures are being written at this moment than memory is set aside for, or one of the same event is.
    #[error("too many pictures at once; try again in a second")]
    Busy,
    /// The disk or the database could not store it.
    #[error("the picture could not be stored: {0}")]
    Storage(StoreFault),
}
