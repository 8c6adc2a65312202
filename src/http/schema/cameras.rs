//! The shapes of cameras.

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

/// Which camera.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::http) struct CameraPath {
    #[param(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$")]
    camera_id: String,
}

/// What somebody says of a camera; what is left out stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct CameraInput {
    /// No control characters; the camera's id at first. An event that brings another name changes it.
    #[schema(min_length = 1, max_length = 100)]
    camera_name: Option<String>,
    /// What kind of source it is (`rtsp`, `usb`, `protect` …).
    #[schema(min_length = 1, max_length = 64)]
    source_type: Option<String>,
    /// Whether it has a bell to ring.
    is_doorbell: Option<bool>,
    /// Whether its state and its Home Assistant entities are published. Its events are, either way.
    enabled: Option<bool>,
}

/// Whether a camera works.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct CameraStatusInput {
    /// `online`, `offline` or `unavailable`; also `connected` (online), `disconnected`, `stopped` (offline), `starting`,
    /// `error` (unavailable).
    status: String,
}

/// Whether a camera works.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(in crate::http) enum CameraStatus {
    Online,
    Offline,
    Unavailable,
}

/// The newest thing that a camera saw.
#[derive(ToSchema)]
pub(in crate::http) struct LastEvent {
    event_id: String,
    #[schema(format = DateTime)]
    timestamp: String,
    /// The first 255 characters.
    description: String,
    #[schema(required = true)]
    smart_detection_type: Option<String>,
}

/// A camera.
#[derive(ToSchema)]
pub(in crate::http) struct Camera {
    camera_id: String,
    camera_name: String,
    source_type: String,
    is_doorbell: bool,
    enabled: bool,
    status: CameraStatus,
    /// The newest by when it happened.
    #[schema(required = true)]
    last_event: Option<LastEvent>,
    /// Events that happened today, in the local time zone.
    events_today: u64,
    /// Events that happened since Monday.
    events_this_week: u64,
    /// Which event the newest picture is of; `null`: it has none.
    #[schema(required = true, minimum = 1)]
    thumbnail_seq: Option<i64>,
}

/// Every camera.
#[derive(ToSchema)]
pub(in crate::http) struct Cameras {
    cameras: Vec<Camera>,
}
