//! The messages of the `DiscoveryActor`.

use actix::Message;

use crate::{
    domain::{camera::Camera, ids::CameraId, topic::TopicPrefix},
    messages::retained::REPUBLISH_TIMEOUT,
};

/// From the HTTP layer: publishes every discovery message again. The response arrives when the broker has
/// answered all of them, or after [`REPUBLISH_TIMEOUT`].
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<DiscoveryPublished, DiscoveryError>")]
pub struct PublishDiscovery;

/// The broker has acknowledged every discovery message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiscoveryPublished {
    /// Number of announced cameras.
    pub cameras: usize,
}

/// The reason why discovery was not published completely.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// The settings disable discovery.
    #[error("discovery is switched off (discovery_enabled)")]
    Disabled,
    /// There is no connection to a broker.
    #[error("not connected to a broker")]
    NotConnected,
    /// The broker refused at least one message.
    #[error(
        "The broker refused the announcement of {}. Let this user publish to `{prefix}/#`; liveobject \
         retries on the next connection.",
        describe_devices(*devices, example)
    )]
    Refused {
        /// Number of devices with a refused message; the service itself is a device.
        devices: usize,
        /// The identifier of one of these devices.
        example: String,
        /// The prefix of the discovery topics.
        prefix: TopicPrefix,
        /// Number of cameras of which every message was acknowledged.
        cameras: usize,
    },
    /// The broker did not answer in time.
    #[error(
        "The broker did not acknowledge every message within {} s. The others are still being sent.",
        REPUBLISH_TIMEOUT.as_secs()
    )]
    Unanswered {
        /// Number of cameras of which every message was acknowledged.
        cameras: usize,
    },
}

fn describe_devices(devices: usize, example: &str) -> String {
    if devices == 1 { format!("the device {example}") } else { format!("{devices} devices ({example}, …)") }
}

/// Fact, from the `CameraActor`: something that discovery announces about these cameras has changed.
#[derive(Debug, Clone, Default, Message)]
#[rtype(result = "()")]
pub struct CamerasChanged {
    /// Whether `changed` lists all cameras.
    pub all: bool,
    /// New and changed cameras.
    pub changed: Vec<Camera>,
    /// Removed cameras.
    pub gone: Vec<CameraId>,
}
