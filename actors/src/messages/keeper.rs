//! The messages that the [`KeeperActor`](crate::keeper::KeeperActor) handles.

use actix::Message;

/// From the node, on shutdown: gives the event log back, so that another node can own it at once, and stops the actor.
/// The service must have stopped.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Release;
