//! The messages of the [`HistoryActor`](crate::history::HistoryActor).

use actix::Message;

use crate::domain::{
    clock::{Moment, Timestamp},
    event_log::QueryError,
    history::{HistoryPoint, HistoryRange},
    ids::Seq,
    outage::{LogExtent, Outages},
    status::FailureKind,
};

/// Fact, from the outbox: a link is up or down. At most two for each connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct LinkMoved {
    /// Whether there is a link now.
    pub is_up: bool,
    /// How far the log had come.
    pub extent: LogExtent,
    /// When it happened.
    pub at: Moment,
}

/// Fact, from the outbox: the rows of these events were removed from the database before they were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct EventsMissing {
    /// The first of them.
    pub first: Seq,
    /// The last of them.
    pub last: Seq,
}

/// Fact, from the supervisor: what it does about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum ConnectionStep {
    /// The settings do not enable the connection.
    Disabled,
    /// It starts a connection.
    Connecting,
    /// A connection, or an attempt to establish one, has failed.
    Failed(FailureKind),
}

/// From the HTTP layer: returns the outages that overlap this period, with what became of their events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "Result<Outages, QueryError>")]
pub struct GetOutages {
    /// The start of the period.
    pub from: Timestamp,
    /// The end of the period.
    pub to: Timestamp,
}

/// From the HTTP layer: returns the points of the charts, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "Result<Vec<HistoryPoint>, QueryError>")]
pub struct GetHistory(pub HistoryRange);
