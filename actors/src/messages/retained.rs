//! The messages of the `RetainedActor`.

use std::{sync::Arc, time::Duration};

use actix::Message;
use tokio::time::Instant;

use crate::domain::{
    ids::{LinkId, Seq},
    retained::{Group, Kind, Owner},
};

/// From the `CameraActor` and the `DiscoveryActor`: replaces all groups of one owner. Groups that are not
/// listed are cleared.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct RetainAll {
    /// The sender.
    pub owner: Owner,
    /// All of its groups.
    pub groups: Vec<Group>,
}

/// From the `CameraActor` and the `DiscoveryActor`: replaces one group. A group that wants no topic is
/// cleared.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Retain {
    /// The sender.
    pub owner: Owner,
    /// The group.
    pub group: Group,
}

/// From the outbox, before it sends a live event that has a picture: publishes the picture as that of the camera.
///
/// The response arrives when the picture has been handed over to the connection, so that an event that is sent then
/// is published after it. It also arrives if the picture is not published: it cannot be read, the camera is disabled,
/// or the link is not the current one. Only the latest request is carried out.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct HandOverPicture {
    /// The link on which the event is sent.
    pub link: LinkId,
    /// The name of the camera's group.
    pub camera: Arc<str>,
    /// The topic for the camera's newest picture.
    pub topic: String,
    /// The event's position.
    pub seq: Seq,
    /// When the outbox stops waiting. The request is dropped then.
    pub until: Instant,
}

/// From the `DiscoveryActor`: publishes all messages of a kind again, whether or not the broker has them.
///
/// The response arrives when the broker has answered all of them, or after [`REPUBLISH_TIMEOUT`]. It is
/// `None` if there is no connection, or if the connection ends earlier.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Option<Republished>")]
pub struct Republish(pub Kind);

/// The outcome of a [`Republish`]: the names of the groups, by result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Republished {
    /// The broker acknowledged every message of these groups.
    pub acknowledged: Vec<Arc<str>>,
    /// The broker refused at least one message of these groups.
    pub refused: Vec<Arc<str>>,
    /// The broker has not yet answered every message of these groups; they are still being sent.
    pub unanswered: Vec<Arc<str>>,
}

/// From the supervisor, before it leaves a broker for another one: clears everything that the service has
/// published there. The response arrives when that is done.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ClearBroker;

/// How long a [`Republish`] waits for the broker. This is longer than the minimum interval between two
/// announcements of the same device.
pub const REPUBLISH_TIMEOUT: Duration = Duration::from_secs(8);
