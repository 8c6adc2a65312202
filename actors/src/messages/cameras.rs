//! What can be said to the [`CameraActor`](super::CameraActor), and what it answers.

use actix::Message;

use crate::domain::{
    camera::{Camera, CameraSighting, CameraStatus, Thumbnail},
    camera_update::CameraUpdate,
    event_log::QueryError,
    fields::Invalid,
    ids::CameraId,
};

/// What stands at a camera now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameraView {
    /// The camera.
    pub camera: Camera,
    /// Events that happened today, in the local time zone.
    pub events_today: u64,
    /// Events that happened since Monday.
    pub events_this_week: u64,
}

/// From the HTTP layer: every camera, in the order of their ids.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<CameraView>")]
pub struct ListCameras;

/// From the HTTP layer: one camera; `None` when nobody knows it.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Option<CameraView>")]
pub struct GetCamera(pub CameraId);

/// From the HTTP layer: register this camera, or change it.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<CameraView, CameraError>")]
pub struct PutCamera {
    /// Which one.
    pub camera_id: CameraId,
    /// What is said of it.
    pub update: CameraUpdate,
}

/// From the HTTP layer and from sources: this camera works, or does not.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<CameraView, CameraError>")]
pub struct SetCameraStatus {
    /// Which one.
    pub camera_id: CameraId,
    /// How it stands.
    pub status: CameraStatus,
}

/// From the HTTP layer: forget this camera, and remove what stands of it at the broker. Its events stay in the log; a
/// further one registers it anew.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), CameraError>")]
pub struct DeleteCamera(pub CameraId);

/// Why a camera was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CameraError {
    /// Nobody knows it.
    #[error("there is no such camera")]
    Unknown,
    /// Fields are at fault.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// As many cameras are known as may be (`[cameras] max`).
    #[error("{max} cameras are known already ([cameras] max = {max}); remove one first")]
    TooMany {
        /// How many may be.
        max: u32,
    },
    /// The database did not keep the change. The log says why.
    #[error(transparent)]
    Storage(#[from] QueryError),
}

/// Fact from the outbox: a commit has changed these cameras.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct CamerasSeen(pub Vec<CameraSighting>);

/// Fact: an event has a picture, or another one than before. Told after it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct ThumbnailStored {
    /// Which camera saw the event.
    pub camera_id: CameraId,
    /// Which event's picture, and its format.
    pub thumbnail: Thumbnail,
}
