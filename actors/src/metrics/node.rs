//! The metrics of a node: a service that shares its database with others. They count from the start of the process,
//! however often the node becomes active.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// The label of an event log. There is one, `0`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LogLabel {
    log: &'static str,
}

const LOG: LogLabel = LogLabel { log: "0" };

/// The metrics of a node. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct NodeMetrics {
    log_owned: Family<LogLabel, Gauge>,
    lease_trusted: Gauge,
    /// How often this node has become active.
    pub takeovers: Counter,
    fenced: Counter,
    /// Requests that this node has forwarded to the active one.
    pub forwarded: Counter,
    clock_difference: Gauge<f64, AtomicU64>,
    nodes_alive: Gauge,
    nodes_away: Gauge,
    nodes_unable: Gauge,
}

impl NodeMetrics {
    /// Registers the metrics.
    pub(super) fn register(&self, registry: &mut Registry) {
        let owned = "1 while this node owns the event log, otherwise 0";
        registry.register("liveobject_log_owned", owned, self.log_owned.clone());
        let trusted =
            "1 while this node may publish, because the database has confirmed lately that it is active";
        registry.register("liveobject_lease_trusted", trusted, self.lease_trusted.clone());
        let takeovers = "How often this node has become active";
        registry.register("liveobject_takeovers", takeovers, self.takeovers.clone());
        let fenced = "How often a write has shown that another node had taken over";
        registry.register("liveobject_fenced", fenced, self.fenced.clone());
        let forwarded = "Requests that this node has forwarded to the active one";
        registry.register("liveobject_forwarded", forwarded, self.forwarded.clone());
        let difference = "By how much the clock of this machine is ahead of that of the database server";
        registry.register(
            "liveobject_database_clock_difference_seconds",
            difference,
            self.clock_difference.clone(),
        );
        let alive = "Nodes that have reported to the database in the last seconds, with this one";
        registry.register("liveobject_nodes_alive", alive, self.nodes_alive.clone());
        let away = "Nodes that are reported to be away, as the active node sees it; 0 on a standby";
        registry.register("liveobject_nodes_away", away, self.nodes_away.clone());
        let unable = "Nodes that cannot decrypt the settings or the shared keys, as the active node sees it; 0 on a \
                      standby";
        registry.register("liveobject_nodes_unable", unable, self.nodes_unable.clone());
        self.set_role(false, false);
    }

    /// Sets whether this node owns the event log, and whether it may publish.
    pub fn set_role(&self, is_owner: bool, is_trusted: bool) {
        self.log_owned.get_or_create(&LOG).set(is_owner.into());
        self.lease_trusted.set(is_trusted.into());
    }

    /// Sets how often a write has shown that another node owns the event log.
    pub fn set_fenced(&self, count: u64) {
        self.fenced.inc_by(count.saturating_sub(self.fenced.get()));
    }

    /// Sets what a beat has shown: by how many seconds the clock of this machine is ahead, and how many nodes are
    /// alive.
    pub fn set_seen(&self, clock_ahead_seconds: f64, nodes_alive: usize) {
        self.clock_difference.set(clock_ahead_seconds);
        self.nodes_alive.set(i64::try_from(nodes_alive).unwrap_or(i64::MAX));
    }

    /// Sets how many nodes are reported to be away, and how many are reported because they cannot decrypt something.
    pub fn set_reported(&self, away: usize, unable: usize) {
        self.nodes_away.set(i64::try_from(away).unwrap_or(i64::MAX));
        self.nodes_unable.set(i64::try_from(unable).unwrap_or(i64::MAX));
    }
}
