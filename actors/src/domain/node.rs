//! The nodes: services that share a database on a server. One of them, the active node, owns the event log.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::lease::{NodeId, Term};

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

    /// Returns whether this node may publish.
    pub fn is_trusted(self) -> bool {
        matches!(self, Self::Active { is_suspended: false, .. })
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
    /// All nodes, as the last beat has shown them.
    pub nodes: Arc<[KnownNode]>,
    /// Identifies this run of this node, as in [`KnownNode::boot`].
    pub boot: Uuid,
}

/// A node that uses the database, or has used it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownNode {
    /// How other nodes see it.
    pub name: NodeName,
    /// The version of its program.
    pub version: String,
    /// Whether it has beaten in the last few seconds.
    pub is_alive: bool,
    /// Random, and another one after each start. Only the nodes know it.
    pub boot: Uuid,
}

/// A node, as one beat has shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenNode {
    /// Its id.
    pub id: NodeId,
    /// See [`KnownNode::boot`].
    pub boot: Uuid,
    /// How other nodes see it.
    pub name: NodeName,
    /// The version of its program.
    pub version: String,
    /// Its counter.
    pub beat: i64,
}

/// For how long a node counts as alive after its counter was seen to change. It usually changes each second.
pub const ALIVE_FOR: Duration = Duration::from_secs(5);

/// Notes when the counter of each node was seen to change. Without a clock, like the [lease](super::lease).
#[derive(Debug, Default)]
pub struct Sightings(HashMap<NodeId, (i64, Option<Instant>)>);

impl Sightings {
    /// Records what a beat has shown at this time. Returns the nodes in the same order.
    pub fn record(&mut self, seen: Vec<SeenNode>, now: Instant) -> Vec<KnownNode> {
        self.0.retain(|id, _| seen.iter().any(|node| node.id == *id));
        let known = seen.into_iter().map(|SeenNode { id, boot, name, version, beat }| {
            let (last, changed_at) = self.0.entry(id).or_insert((beat, None));
            if *last != beat {
                (*last, *changed_at) = (beat, Some(now));
            }
            let is_alive = changed_at.is_some_and(|at| now.saturating_duration_since(at) < ALIVE_FOR);
            KnownNode { name, version, is_alive, boot }
        });
        known.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(id: u128, beat: i64) -> SeenNode {
        SeenNode {
            id: NodeId(Uuid::from_u128(id)),
            boot: Uuid::nil(),
            name: NodeName { name: "a".to_owned(), url: "http://a".to_owned() },
            version: "1".to_owned(),
            beat,
        }
    }

    #[test]
    fn a_node_is_alive_while_its_counter_changes() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let (mut sightings, start) = (Sightings::default(), Instant::now());
        let mut alive = |seconds, nodes: &[(u128, i64)]| -> Vec<bool> {
            let nodes = nodes.iter().map(|&(id, beat)| seen(id, beat)).collect();
            let now = start + Duration::from_secs(seconds);
            sightings.record(nodes, now).iter().map(|node| node.is_alive).collect()
        };
        assert_eq!(alive(0, &[(1, 7), (2, 3)]), [false, false], "nothing has changed yet");
        assert_eq!(alive(1, &[(1, 8), (2, 3)]), [true, false]);
        assert_eq!(alive(5, &[(1, 8), (2, 4)]), [true, true]);
        assert_eq!(alive(6, &[(1, 8), (2, 4)]), [false, true]);
        // After a restart of the database from a backup, it may have gone back.
        assert_eq!(alive(7, &[(1, 2)]), [true]);
        assert_eq!(alive(8, &[(1, 2), (2, 5)]), [true, false], "it was forgotten");
    }
}
