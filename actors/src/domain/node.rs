//! The nodes: services that share a database on a server. One of them, the active node, owns the event log.

use super::lease::Term;

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeRole {
    /// Another node is active, or none is.
    Standby,
    /// It owns the event log.
    Active {
        /// The period of ownership.
        term: Term,
        /// Whether it publishes nothing, because the database has not confirmed the ownership for a while.
        is_suspended: bool,
    },
    /// It has stopped for good, because another node has the same id.
    Duplicate,
}

impl NodeRole {
    /// Returns the period of ownership if this node is active.
    pub fn term(self) -> Option<Term> {
        match self {
            Self::Active { term, .. } => Some(term),
            Self::Standby | Self::Duplicate => None,
        }
    }

    /// Returns the name of the role, for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standby => "standby",
            Self::Active { is_suspended: false, .. } => "active",
            Self::Active { is_suspended: true, .. } => "suspended",
            Self::Duplicate => "duplicate",
        }
    }
}

/// How other nodes see a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeName {
    /// Its name, for people.
    pub name: String,
    /// The URL at which other nodes reach it, without a trailing `/`.
    pub url: String,
}

/// What a node knows about itself and the active node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// What this node does.
    pub role: NodeRole,
    /// The active node, as the last beat has shown it. It may be this node, or one that has just ended.
    pub active: Option<NodeName>,
    /// Whether the last beat succeeded.
    pub is_connected: bool,
}
