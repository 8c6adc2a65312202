//! The messages that `ThumbnailActor` handles.

use std::collections::BTreeSet;

use actix::Message;
use bytes::Bytes;

use crate::domain::{
    event_log::QueryError,
    ids::{EventId, Seq},
    image::{ImageError, Picture, PictureVersion, RenditionWidth, StoredPicture},
    store_fault::StoreFault,
};

/// From the HTTP layer: stores the picture of an event, and replaces an earlier one. Returns once the picture
/// is synced to disk.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), ThumbnailError>")]
pub struct PutThumbnail {
    /// The event that the picture belongs to.
    pub event_id: EventId,
    /// The picture.
    pub image: Bytes,
}

/// From the outbox: stages the picture of an event that is about to be committed. Returns once the picture is
/// synced to disk, and waits while too many others are being written. It becomes the event's picture with
/// [`AdoptThumbnails`], or at the next start if the event was committed.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), ThumbnailError>")]
pub struct StageThumbnail {
    /// The event that the picture belongs to.
    pub event_id: EventId,
    /// The picture.
    pub image: Bytes,
}

/// From the outbox: these events are committed at these positions, so their staged pictures become available.
/// An existing picture is kept, because an event and its picture are accepted only once. Returns the events
/// whose picture could not be adopted.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Vec<EventId>")]
pub struct AdoptThumbnails(pub Vec<(EventId, Seq)>);

/// From the outbox: these events were not committed, so their staged pictures are removed.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct DiscardThumbnails(pub Vec<EventId>);

/// From the HTTP layer: returns the picture of an event, or `None` if the event or its picture does not
/// exist.
///
/// With a width, returns a JPEG of that width; or the picture itself if it is not wider, if it has fewer bytes, or if
/// it cannot be decoded within the limits. The rendition is made at the first request, one at a time, and stored.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Option<StoredPicture>, QueryError>")]
pub struct GetThumbnail {
    /// The event that the picture belongs to.
    pub event_id: EventId,
    /// The width of the rendition; `None` for the picture as it was submitted.
    pub width: Option<RenditionWidth>,
}

/// From the outbox: returns for each of these events whether it has a picture, in the same order.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<bool>, QueryError>")]
pub struct HaveThumbnails(pub Vec<Seq>);

/// From the HTTP layer: returns the version of the picture of each of these events, in the same order; `None` for an
/// event without a picture.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<Option<PictureVersion>>, QueryError>")]
pub struct GetThumbnailVersions(pub Vec<Seq>);

/// From the HTTP layer: returns the picture of the event at this position, like [`GetThumbnail`].
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Option<StoredPicture>, QueryError>")]
pub struct GetThumbnailAt {
    /// The position of the event.
    pub seq: Seq,
    /// The width of the rendition; `None` for the picture as it was submitted.
    pub width: Option<RenditionWidth>,
}

/// From the retained actor: returns the picture of the event at this position as it is published: a smaller
/// rendition if it is larger than the administrator allows.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Option<Picture>, QueryError>")]
pub struct GetRendition(pub Seq);

/// From the HTTP layer: returns how many pictures there are. Reads nothing.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "PictureStock")]
pub struct GetPictureStock;

/// The pictures in the files or in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureStock {
    /// Number and size in bytes, renditions included in the size; `None` until they were counted after the start.
    pub stored: Option<(u64, u64)>,
    /// The size above which the oldest ones are removed.
    pub max_bytes: u64,
}

/// From the outbox, when the disk is full: removes the oldest pictures, so that events can be accepted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct FreeSpace {
    /// How many bytes to free at least.
    pub bytes: u64,
}

/// From the outbox: removes the pictures of the events up to a position, except those of events that were kept.
/// Pictures that cannot be removed now are removed by the next sweep.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct Sweep {
    /// The position of the last event that was removed.
    pub up_to: Seq,
    /// The events up to there that were not removed.
    pub kept: BTreeSet<Seq>,
}

/// Why a picture was not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ThumbnailError {
    /// The event does not exist, or was removed.
    #[error("there is no such event; it may have been removed")]
    UnknownEvent,
    /// The bytes are not a supported picture, or the picture is too large.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The maximum number of pictures is being written, or another picture of the same event is being
    /// written or is staged.
    #[error("other pictures are being stored; try again in a second")]
    Busy,
    /// The disk or the database could not store it.
    #[error("the picture could not be stored: {0}")]
    Storage(StoreFault),
}
