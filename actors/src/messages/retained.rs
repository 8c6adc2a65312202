//! What can be said to the [`RetainedActor`](super::RetainedActor), and what it answers.

use std::sync::Arc;
use std::time::Duration;

use actix::Message;

use crate::domain::retained::{Group, Kind, Owner};

/// From the `CameraActor` and the `DiscoveryActor`: from now on this is to stand, and of this owner nothing else.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct RetainAll {
    /// Who says so.
    pub owner: Owner,
    /// All of it.
    pub groups: Vec<Group>,
}

/// From the same: from now on this is to stand of one group (nothing, when it wants nothing).
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Retain {
    /// Who says so.
    pub owner: Owner,
    /// The group.
    pub group: Group,
}

/// From the `DiscoveryActor`: publish all of this kind again, whether the broker has it or not. Answered when the broker
/// has answered all of it, at the latest after [`REPUBLISH_PATIENCE`](super::REPUBLISH_PATIENCE); with `None` when there is
/// no connection, or it is lost meanwhile.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Option<Republished>")]
pub struct Republish(pub Kind);

/// What became of a [`Republish`]: the names of groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Republished {
    /// The broker has acknowledged all of these.
    pub stand: Vec<Arc<str>>,
    /// It has refused some of these.
    pub refused: Vec<Arc<str>>,
    /// It has not answered all of these; they are still on their way.
    pub unanswered: Vec<Arc<str>>,
}

/// From the supervisor, before it leaves a broker for another one: clear everything of ours there. Answered when that is
/// done.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ClearBroker;

/// How long whoever asked that all is published again waits for the broker: longer than a device that was just announced
/// has to wait until it is announced again.
pub const REPUBLISH_PATIENCE: Duration = Duration::from_secs(8);
