//! The nodes: services that share a database on a server. One of them, the active node, owns the event log.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    clock::Timestamp,
    lease::{MAX_POLL_GAP, NodeId, Term},
};

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
    /// Identifies a run of the node: random, and another one after each start. It is no secret.
    pub boot: Uuid,
    /// When it was last seen to beat, if that is more than [`AWAY_AFTER`] ago.
    pub away_since: Option<Timestamp>,
    /// What it can decrypt.
    pub reads: Readable,
    /// By how many seconds its clock is ahead of that of the database server; 0 if both agree.
    pub clock_ahead_seconds: i32,
}

/// What a node can decrypt of what is stored in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readable {
    /// The secrets in the settings, so that it can connect to the broker.
    pub settings: bool,
    /// The keys of links to pictures and of the page's sessions.
    pub keys: bool,
}

impl Readable {
    /// A node that can decrypt everything.
    pub const ALL: Self = Self { settings: true, keys: true };
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
    /// See [`KnownNode::reads`].
    pub reads: Readable,
    /// See [`KnownNode::clock_ahead_seconds`].
    pub clock_ahead_seconds: i32,
    /// How long ago it has beaten, by the clock of the database server.
    pub unseen_for: Duration,
}

/// For how long a node counts as alive after its counter was seen to change. It usually changes each second.
pub const ALIVE_FOR: Duration = Duration::from_secs(5);

/// After this time, a node is away. One that is started again, for example for an upgrade, is back earlier.
pub const AWAY_AFTER: Duration = Duration::from_secs(30);

/// Notes when the counter of each node was seen to change. Without a clock, like the [lease](super::lease).
#[derive(Debug, Default)]
pub struct Sightings {
    nodes: HashMap<NodeId, Sighting>,
    last: Option<Instant>,
}

/// What was seen of a node.
#[derive(Debug)]
struct Sighting {
    beat: i64,
    changed_at: Option<Instant>,
    /// Since when the counter has not changed, as far as this node could see it.
    still_since: Instant,
    away_since: Option<Timestamp>,
}

impl Sighting {
    fn is_alive(&self, now: Instant) -> bool {
        self.changed_at.is_some_and(|at| now.saturating_duration_since(at) < ALIVE_FOR)
    }

    /// Waits for a change as if the time from `last` to `now` had not passed.
    fn wait_again(&mut self, last: Instant, now: Instant) {
        if self.is_alive(last) {
            self.changed_at = Some(now);
        }
        self.still_since = now;
    }
}

impl Sightings {
    /// Records what a beat has shown at this time, by both clocks. Returns the nodes in the same order.
    pub fn record(&mut self, seen: Vec<SeenNode>, now: Instant, wall: Timestamp) -> Vec<KnownNode> {
        self.nodes.retain(|id, _| seen.iter().any(|node| node.id == *id));
        let last = self.last.replace(now);
        if let Some(last) = last.filter(|last| now.saturating_duration_since(*last) > MAX_POLL_GAP) {
            // The others may not have been able to beat, either.
            self.nodes.values_mut().for_each(|node| node.wait_again(last, now));
        }
        seen.into_iter().map(|node| self.see(node, now, wall)).collect()
    }

    fn see(&mut self, seen: SeenNode, now: Instant, wall: Timestamp) -> KnownNode {
        let SeenNode { id, boot, name, version, beat, reads, clock_ahead_seconds, unseen_for } = seen;
        let first = Sighting { beat, changed_at: None, still_since: now, away_since: None };
        let sighting = self.nodes.entry(id).or_insert(first);
        if sighting.beat != beat {
            *sighting = Sighting { beat, changed_at: Some(now), still_since: now, away_since: None };
        }
        let is_alive = sighting.is_alive(now);
        let still_for = now.saturating_duration_since(sighting.still_since);
        if still_for >= AWAY_AFTER && sighting.away_since.is_none() {
            // It may have ended before this node has started.
            sighting.away_since = Some(wall - still_for.max(unseen_for));
        }
        let away_since = sighting.away_since;
        KnownNode { name, version, is_alive, boot, away_since, reads, clock_ahead_seconds }
    }
}

/// By how many seconds two clocks may differ.
const CLOCKS_DIFFER: f64 = 2.0;

/// Clocks that differed agree again if they differ by less than this.
const CLOCKS_AGREE: f64 = 1.0;

/// The number of beats in a row that must show a change before it counts. A single one may have been slow.
const CLOCK_BEATS: u8 = 5;

/// Decides whether the clock of this machine differs from that of the database server.
#[derive(Debug, Default)]
pub struct ClockCheck {
    ahead_seconds: i32,
    /// The number of beats in a row that have shown something else.
    beats: u8,
}

impl ClockCheck {
    /// Returns by how many seconds this clock is ahead of the other one; 0 if both agree.
    pub fn ahead_seconds(&self) -> i32 {
        self.ahead_seconds
    }

    /// Records a measurement. Returns whether [`ahead_seconds`](Self::ahead_seconds) has changed.
    pub fn record(&mut self, ahead: f64) -> bool {
        let current = f64::from(self.ahead_seconds);
        let is_same = if self.ahead_seconds == 0 {
            ahead.abs() <= CLOCKS_DIFFER
        } else {
            // The number is not updated with each small change.
            ahead.abs() >= CLOCKS_AGREE && (ahead - current).abs() <= (current.abs() / 4.0).max(CLOCKS_AGREE)
        };
        self.beats = if is_same { 0 } else { self.beats + 1 };
        if self.beats < CLOCK_BEATS {
            return false;
        }
        self.beats = 0;
        let differs = ahead.abs() > CLOCKS_DIFFER || (self.ahead_seconds != 0 && ahead.abs() >= CLOCKS_AGREE);
        #[expect(clippy::cast_possible_truncation, reason = "such a cast saturates")]
        let rounded = if differs { ahead.round() as i32 } else { 0 };
        std::mem::replace(&mut self.ahead_seconds, rounded) != rounded
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::domain::clock;

    fn seen(id: u128, beat: i64) -> SeenNode {
        SeenNode {
            id: NodeId(Uuid::from_u128(id)),
            boot: Uuid::nil(),
            name: NodeName { name: "a".to_owned(), url: "http://a".to_owned() },
            version: "1".to_owned(),
            beat,
            reads: Readable::ALL,
            clock_ahead_seconds: 0,
            unseen_for: Duration::ZERO,
        }
    }

    /// Records the counters of nodes at a second.
    fn sightings() -> impl FnMut(u64, &[(u128, i64)]) -> Vec<KnownNode> {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let (mut sightings, start) = (Sightings::default(), Instant::now());
        move |second, nodes| {
            let nodes = nodes.iter().map(|&(id, beat)| seen(id, beat)).collect();
            let wall = clock::from_micros(0) + TimeDelta::seconds(second.try_into().unwrap());
            sightings.record(nodes, start + Duration::from_secs(second), wall)
        }
    }

    #[test]
    fn a_node_is_alive_while_its_counter_changes() {
        let mut record = sightings();
        let mut alive = |seconds, nodes: &[(u128, i64)]| -> Vec<bool> {
            record(seconds, nodes).iter().map(|node| node.is_alive).collect()
        };
        assert_eq!(alive(0, &[(1, 7), (2, 3)]), [false, false], "nothing has changed yet");
        assert_eq!(alive(1, &[(1, 8), (2, 3)]), [true, false]);
        assert_eq!(alive(3, &[(1, 8), (2, 3)]), [true, false]);
        assert_eq!(alive(5, &[(1, 8), (2, 4)]), [true, true]);
        assert_eq!(alive(6, &[(1, 8), (2, 4)]), [false, true]);
        // After a restart of the database from a backup, it may have gone back.
        assert_eq!(alive(7, &[(1, 2)]), [true]);
        assert_eq!(alive(8, &[(1, 2), (2, 5)]), [true, false], "it was forgotten");
    }

    #[test]
    fn a_node_is_away_from_half_a_minute_after_its_last_beat_until_its_next_one() {
        let mut record = sightings();
        let mut away = |second, beat| {
            let since = record(second, &[(1, beat)])[0].away_since;
            since.map(|since| clock::to_micros(since) / 1_000_000)
        };
        assert_eq!(away(0, 6), None);
        assert_eq!(away(1, 7), None);
        for second in 2..31 {
            assert_eq!(away(second, 7), None, "{second}");
        }
        for second in 31..80 {
            assert_eq!(away(second, 7), Some(1), "{second}");
        }
        assert_eq!(away(80, 8), None);
    }

    #[test]
    fn a_node_that_ended_before_this_one_has_started_is_away_since_then() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let (mut sightings, start) = (Sightings::default(), Instant::now());
        let mut since = |second: u32| {
            let (now, wall) = (Duration::from_secs(second.into()), TimeDelta::seconds(second.into()));
            let gone = SeenNode { unseen_for: Duration::from_secs(100) + now, ..seen(1, 7) };
            let seen = sightings.record(vec![gone], start + now, clock::from_micros(0) + wall);
            seen[0].away_since.map(|since| clock::to_micros(since) / 1_000_000)
        };
        assert_eq!((0..30).find_map(&mut since), None);
        assert_eq!((since(30), since(31)), (Some(-100), Some(-100)));
    }

    #[test]
    fn a_node_is_not_away_because_this_one_could_not_see_it() {
        let mut record = sightings();
        let mut is_away = |second, beat| record(second, &[(1, beat)])[0].away_since.is_some();
        assert!(!is_away(0, 7) && !is_away(1, 8));
        assert!(!is_away(100, 8), "the database was away");
        assert!((101..130).all(|second| !is_away(second, 8)));
        assert!(is_away(130, 8));
        assert!(is_away(300, 8), "it is still away");
    }

    #[test]
    fn a_node_that_was_alive_before_the_database_was_away_has_time_to_beat_again() {
        let mut record = sightings();
        let mut alive = |second, beats: [i64; 2]| -> Vec<bool> {
            let nodes = record(second, &[(1, beats[0]), (2, beats[1])]);
            nodes.iter().map(|node| node.is_alive).collect()
        };
        assert_eq!(alive(0, [1, 1]), [false, false]);
        assert_eq!(alive(1, [2, 1]), [true, false]);
        assert_eq!(alive(100, [2, 1]), [true, false]);
        assert!((101..105).all(|second| alive(second, [2, 1])[0]));
        assert_eq!(alive(105, [2, 1]), [false, false]);
    }

    #[test]
    fn clocks_differ_after_several_beats_and_agree_after_several_beats() {
        let mut check = ClockCheck::default();
        let mut after = |beats, ahead| {
            let changes = (0..beats).filter(|_| check.record(ahead)).count();
            (changes, check.ahead_seconds())
        };
        assert_eq!(after(100, 1.9), (0, 0));
        assert_eq!(after(4, -3.4), (0, 0));
        assert_eq!(after(1, 0.0), (0, 0), "one of them was slow");
        assert_eq!(after(4, -3.4), (0, 0));
        assert_eq!(after(96, -3.4), (1, -3));
        assert_eq!(after(100, -2.5), (0, -3), "about the same");
        assert_eq!(after(100, -1.5), (1, -2), "it does not flicker at the limit");
        assert_eq!(after(100, -1.1), (0, -2));
        assert_eq!(after(4, 0.5), (0, -2));
        assert_eq!(after(1, -3.0), (0, -2));
        assert_eq!(after(5, 0.5), (1, 0));
        assert_eq!(after(5, 1e300), (1, i32::MAX));
    }
}
