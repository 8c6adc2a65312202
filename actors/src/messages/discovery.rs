//! What can be said to the [`DiscoveryActor`](super::DiscoveryActor), and what it answers.

use actix::Message;

use crate::{
    domain::{camera::Camera, ids::CameraId},
    messages::retained::REPUBLISH_PATIENCE,
};

/// From the HTTP layer: publish every discovery message again, and answer when the broker has answered all of them, or has
/// been given time enough to.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<DiscoveryPublished, DiscoveryError>")]
pub struct PublishDiscovery;

/// Discovery was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiscoveryPublished {
    /// For so many cameras.
    pub cameras: usize,
}

/// Why discovery was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// The settings say not to.
    #[error("discovery is switched off (discovery_enabled)")]
    Disabled,
    /// There is no connection.
    #[error("not connected to a broker")]
    NotConnected,
    /// The broker refused some of it.
    #[error(
        "the broker refused it of {devices} devices, {example} among them: may this user publish there? It is tried again \
         at the next connection"
    )]
    Refused {
        /// Devices of which it refused something, the service's among them.
        devices: usize,
        /// One of them.
        example: String,
        /// Cameras of which all was acknowledged.
        cameras: usize,
    },
    /// The broker did not answer in time.
    #[error("the broker has not acknowledged all of it within {} s; what is missing is still on its way", REPUBLISH_PATIENCE.as_secs())]
    Unanswered {
        /// Cameras of which all was acknowledged.
        cameras: usize,
    },
}

/// Fact from the `CameraActor`: something that discovery tells of these cameras has changed.
#[derive(Debug, Clone, Default, Message)]
#[rtype(result = "()")]
pub struct CamerasChanged {
    /// Whether these are all that there are.
    pub all: bool,
    /// The cameras as they are now.
    pub changed: Vec<Camera>,
    /// Cameras that there are no more.
    pub gone: Vec<CameraId>,
}
