//! The messages that the [`KeeperActor`](crate::keeper::KeeperActor) handles.

use actix::Message;

use crate::domain::lease::Term;

/// From the node, on shutdown: gives the event log back, so that another node can own it at once, and stops the actor.
/// The service must have stopped.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Release;

/// From the node: the service has started in this period of ownership.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ServiceStarted(pub Term);

/// From the node, when the service does not start in this period of ownership: gives the event log back, so that
/// another node can own it at once. The keeper claims it again after a pause.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct GiveUp(pub Term);
