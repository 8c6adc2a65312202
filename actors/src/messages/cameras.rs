//! The messages of the `CameraActor`.

use actix::Message;

use crate::domain::{
    camera::{Camera, CameraSighting, CameraStatus, Thumbnail},
    camera_update::CameraUpdate,
    event_log::QueryError,
    fields::Invalid,
    ids::CameraId,
};

/// A camera with its current event counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameraView {
    /// The camera.
    pub camera: Camera,
    /// Events that happened today, in the local time zone.
    pub events_today: u64,
    /// Events that happened since Monday.
    pub events_this_week: u64,
}

/// From the HTTP layer: lists all cameras, ordered by id.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<CameraView>")]
pub struct ListCameras;

/// From the HTTP layer: returns one camera, or `None` if it is not registered.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Option<CameraView>")]
pub struct GetCamera(pub CameraId);

/// From the HTTP layer: registers a camera, or changes it.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<CameraView, CameraError>")]
pub struct PutCamera {
    /// The camera.
    pub camera_id: CameraId,
    /// The fields to change.
    pub update: CameraUpdate,
}

/// From classifiers and the HTTP layer: sets the status of a camera.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<CameraView, CameraError>")]
pub struct SetCameraStatus {
    /// The camera.
    pub camera_id: CameraId,
    /// Its new status.
    pub status: CameraStatus,
}

/// From the HTTP layer: removes a camera and clears its retained messages. Its events stay in the event log,
/// and its next event registers it again.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), CameraError>")]
pub struct DeleteCamera(pub CameraId);

/// The reason why a camera was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CameraError {
    /// The camera is not registered.
    #[error("there is no such camera")]
    Unknown,
    /// Some fields are invalid.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The camera limit is reached (`[cameras] max`).
    #[error("the limit of {max} cameras is reached. Remove a camera, or raise [cameras] max")]
    TooMany {
        /// The limit.
        max: u32,
    },
    /// The database could not save the change. The log contains the cause.
    #[error(transparent)]
    Storage(#[from] QueryError),
}

/// Fact, from the outbox: a commit changed these cameras.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct CamerasSeen(pub Vec<CameraSighting>);

/// Fact, from the `ThumbnailActor`: an event has a new picture, which is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct ThumbnailStored {
    /// The camera that saw the event.
    pub camera_id: CameraId,
    /// The picture: its event and its format.
    pub thumbnail: Thumbnail,
}
