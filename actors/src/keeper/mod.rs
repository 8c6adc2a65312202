//! The keeper: reports in the database that this node is alive, and claims the event log when it has no owner.
//!
//! [`KeeperActor`] owns a connection to the database on which it beats about once a second. The
//! [lease](crate::domain::lease) decides what each answer means; this actor carries it out. It shows in a [`NodeView`]
//! what this node does and which node is active.
//!
//! If the owner is another run of this node, the view shows no active node: either that run has ended, or this one ends
//! soon.

use std::{fmt, sync::Arc, time::Duration};

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, AsyncContext as _, Context, Handler, ResponseActFuture,
    WrapFuture as _,
};
use futures_util::future::LocalBoxFuture;
use tokio::{
    sync::{Mutex, mpsc::UnboundedSender, watch},
    time::{Instant, timeout},
};

use crate::{
    domain::{
        causes::with_causes,
        claim_cause::ClaimCause,
        clock,
        lease::{Change, ClaimOutcome, Lease, Term},
        node::{KnownNode, NodeName, NodeRole, NodeView, Readable, SeenNode, Sightings},
        node_warnings::reported,
        status::{Warning, WarningKind},
    },
    lifecycle::CrashGuard,
    messages::keeper::{GiveUp, Release, ServiceStarted},
    metrics::NodeMetrics,
    store::{Beat, NodeConnection, Ownership, StoreError, new_term, now},
};

pub mod node_id;
#[cfg(test)]
mod tests;

/// How often the node beats.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// How long to wait after a beat that failed, so that a server that refuses connections is not flooded.
const PAUSE: Duration = Duration::from_millis(200);

/// How often to check whether the trust has ended, or a write has shown that another node is the owner.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// How often the owner removes the nodes that have not beaten for a week.
const FORGET_EVERY: Duration = Duration::from_hours(1);

/// How long giving the event log back may take.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);

/// How often to determine what this node can decrypt. The settings may have been saved by a node with another identity.
const INSPECT_EVERY: Duration = Duration::from_mins(1);

/// Determines what this node can decrypt; `None` if that is not known now. Its argument is whether this node is active.
pub type Inspection = Box<dyn Fn(bool) -> LocalBoxFuture<'static, Option<Readable>>>;

/// See the module's documentation.
pub struct KeeperActor {
    me: NodeName,
    ownership: Ownership,
    metrics: NodeMetrics,
    /// Locked during a beat.
    connection: Arc<Mutex<NodeConnection>>,
    view: watch::Sender<NodeView>,
    sightings: Sightings,
    /// The owner, as the last beat has shown it.
    owner: Option<NodeName>,
    /// The last owner that was another node.
    last_owner: Option<NodeName>,
    /// Why the log was claimed the last time.
    cause: Option<ClaimCause>,
    /// All nodes, as the last beat has shown them.
    nodes: Arc<[KnownNode]>,
    is_duplicate: bool,
    /// When nodes that are gone for long were removed the last time.
    forgot_at: Option<Instant>,
    /// Whether the event log is being given back.
    is_leaving: bool,
    /// Whether the database does not answer, which was logged.
    is_away: bool,
    /// The warnings about nodes that were logged.
    reported: Vec<(WarningKind, NodeName)>,
    inspection: Inspection,
    _crash_guard: CrashGuard,
}

impl fmt::Debug for KeeperActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeeperActor").field("view", &*self.view.borrow()).finish_non_exhaustive()
    }
}

/// What a beat has shown.
struct Turn {
    change: Option<Change>,
    shown: Shown,
    /// Why the log was claimed, if that was granted.
    claimed: Option<ClaimCause>,
}

struct Shown {
    owner: Option<NodeName>,
    nodes: Vec<SeenNode>,
    clock_ahead_seconds: f64,
}

/// Beats, and claims the event log if the lease wants it.
async fn turn(
    connection: &mut NodeConnection,
    me: &NodeName,
    ownership: &Ownership,
) -> Result<Turn, StoreError> {
    let (started, term) = (now(), ownership.term());
    let Beat { seen, owner_name, owner_url, nodes, clock_ahead } = connection.beat(term).await?;
    let (change, still_for, claim) = ownership.update(|lease| {
        let change = lease.beat_answered(started, now(), seen);
        let claim = if change.is_none() { lease.wanted_claim(now(), new_term()) } else { None };
        (change, lease.still_for(), claim)
    });
    let is_shown = seen.owner.node != Some(connection.id()) || ownership.term() == Some(seen.owner.term);
    let named = owner_name.zip(owner_url).map(|(name, url)| NodeName { name, url }).filter(|_| is_shown);
    let mut shown = Shown { owner: named, nodes, clock_ahead_seconds: clock_ahead.as_seconds_f64() };
    let Some(claim) = claim else { return Ok(Turn { change, shown, claimed: None }) };
    let started = now();
    let outcome = connection.claim(&claim).await;
    ownership.update(|lease| lease.claim_answered(claim, outcome, started, now()));
    if outcome != ClaimOutcome::Granted {
        return Ok(Turn { change, shown, claimed: None });
    }
    let former = shown.owner.replace(me.clone());
    let cause = match seen.owner.node {
        None => ClaimCause::NoOwner { last: None },
        Some(node) if node == connection.id() => ClaimCause::Own,
        Some(_) => ClaimCause::Silent { name: former.map(|owner| owner.name), still_for },
    };
    Ok(Turn { change, shown, claimed: Some(cause) })
}

impl KeeperActor {
    /// Returns a keeper that beats on this connection, and what shows its role. `me` is how other nodes see this one.
    pub fn new(
        connection: NodeConnection,
        me: NodeName,
        ownership: Ownership,
        metrics: NodeMetrics,
        inspection: Inspection,
        crashed: UnboundedSender<&'static str>,
    ) -> (Self, watch::Receiver<NodeView>) {
        let (view, receiver) = watch::channel(NodeView {
            role: NodeRole::Standby,
            active: None,
            is_connected: true,
            nodes: Arc::default(),
            boot: connection.boot(),
        });
        let keeper = Self {
            me,
            ownership,
            metrics,
            connection: Arc::new(Mutex::new(connection)),
            view,
            sightings: Sightings::default(),
            owner: None,
            last_owner: None,
            cause: None,
            nodes: Arc::default(),
            is_duplicate: false,
            forgot_at: None,
            is_leaving: false,
            is_away: false,
            reported: Vec::new(),
            inspection,
            _crash_guard: CrashGuard::new("keeper", crashed),
        };
        (keeper, receiver)
    }

    fn beat(&mut self, ctx: &mut Context<Self>) {
        let (connection, me, ownership) =
            (Arc::clone(&self.connection), self.me.clone(), self.ownership.clone());
        let started = Instant::now();
        let must_forget = self.must_forget(started);
        let beat = async move {
            let mut connection = connection.lock().await;
            let turn = turn(&mut connection, &me, &ownership).await?;
            if must_forget && let Err(error) = connection.forget_absent().await {
                tracing::debug!(error = %with_causes(&error), "old nodes were not removed");
            }
            Ok(turn)
        };
        ctx.spawn(beat.into_actor(self).map(move |turn, act, ctx| {
            let pause = if turn.is_err() { PAUSE } else { Duration::ZERO };
            act.turned(turn);
            if !act.is_duplicate {
                ctx.run_later(BEAT_EVERY.saturating_sub(started.elapsed()).max(pause), Self::beat);
            }
        }));
    }

    /// Shows the other nodes what this node can decrypt.
    fn inspect(&mut self, ctx: &mut Context<Self>) {
        let inspected = (self.inspection)(self.ownership.term().is_some());
        ctx.spawn(inspected.into_actor(self).then(|reads, act, _| {
            let (connection, others) = (Arc::clone(&act.connection), act.has_able_others());
            if let Some(reads) = reads {
                act.ownership.update(|lease| lease.inspected(reads.settings, others));
            }
            let show = async move {
                if let Some(reads) = reads {
                    connection.lock().await.set_reads(reads, others);
                }
            };
            show.into_actor(act).map(|(), _, ctx| {
                ctx.run_later(INSPECT_EVERY, Self::inspect);
            })
        }));
    }

    /// Returns whether another node that can decrypt the settings is alive.
    fn has_able_others(&self) -> bool {
        let me = self.view.borrow().boot;
        self.nodes.iter().any(|node| node.boot != me && node.is_alive && node.reads.settings)
    }

    /// Returns whether it is time to remove the nodes that are gone for long.
    fn must_forget(&mut self, now: Instant) -> bool {
        let is_due = self.forgot_at.is_none_or(|at| now.duration_since(at) >= FORGET_EVERY);
        let must_forget = is_due && self.ownership.is_trusted();
        if must_forget {
            self.forgot_at = Some(now);
        }
        must_forget
    }

    fn turned(&mut self, turn: Result<Turn, StoreError>) {
        let was_away = std::mem::replace(&mut self.is_away, turn.is_err());
        match turn {
            Ok(Turn { change, shown, claimed }) => {
                self.is_duplicate |= change == Some(Change::TwoNodes);
                if was_away {
                    tracing::info!("the database answers this node again");
                }
                if let Some(cause) = claimed {
                    self.cause = Some(self.with_last_owner(cause));
                }
                self.see(shown);
            }
            Err(error) => {
                if !was_away {
                    tracing::warn!(
                        error = %with_causes(&error),
                        "the database does not answer this node; trying again"
                    );
                }
            }
        }
        self.show();
    }

    fn role(&self) -> NodeRole {
        if self.is_duplicate {
            return NodeRole::Duplicate;
        }
        let term = self.ownership.term();
        let is_suspended = !self.ownership.is_trusted();
        term.map_or(NodeRole::Standby, |term| NodeRole::Active { term, is_suspended })
    }

    /// Adds the name of the last owner, which the beat does not show any more.
    fn with_last_owner(&self, cause: ClaimCause) -> ClaimCause {
        match cause {
            ClaimCause::NoOwner { .. } => {
                ClaimCause::NoOwner { last: self.last_owner.as_ref().map(|owner| owner.name.clone()) }
            }
            named => named,
        }
    }

    /// Records what a beat has shown.
    fn see(&mut self, Shown { owner, nodes, clock_ahead_seconds }: Shown) {
        if let Some(other) = owner.as_ref().filter(|owner| **owner != self.me) {
            self.last_owner = Some(other.clone());
        }
        self.owner = owner;
        self.nodes = self.sightings.record(nodes, now(), clock::now()).into();
        let alive = self.nodes.iter().filter(|node| node.is_alive).count();
        self.metrics.set_seen(clock_ahead_seconds, alive);
    }

    /// Shows what this node does, and who is the owner. Logs what has changed.
    fn show(&mut self) {
        if self.is_leaving {
            return;
        }
        self.metrics.set_fenced(self.ownership.fenced_count());
        let before = self.view.borrow().clone();
        let (role, is_connected) = (self.role(), !self.is_away);
        self.metrics.set_role(role.term().is_some(), role.is_trusted());
        if role.term().is_some_and(|term| before.role.term() != Some(term)) {
            self.metrics.takeovers.inc();
        }
        let (active, nodes) = (self.owner.clone(), Arc::clone(&self.nodes));
        let view = NodeView { role, active, is_connected, nodes, boot: before.boot };
        let reported = reported(&view, clock::now());
        let count =
            |kinds: &[WarningKind]| reported.iter().filter(|(_, it)| kinds.contains(&it.kind)).count();
        self.metrics.set_reported(
            count(&[WarningKind::NodeAway]),
            count(&[WarningKind::NodeUnable, WarningKind::NodeKeysDiffer]),
        );
        // A service that does not start is reported once, not each time that the node tries again.
        let has_failed = self.ownership.read(Lease::has_failed);
        if view != before && (!has_failed || role == NodeRole::Duplicate) {
            log_change(&before, &view, self.cause.as_ref());
        }
        if !has_failed {
            self.log_reported(&view, &reported);
        }
        if view == before {
            return;
        }
        self.view.send_replace(view);
    }

    /// Logs each warning about a node when it begins and when it ends.
    fn log_reported(&mut self, view: &NodeView, found: &[(&NodeName, Warning)]) {
        // Another node reports them now.
        if view.role.term().is_none() {
            self.reported.clear();
            return;
        }
        for (name, Warning { kind, message, .. }) in found {
            if !self.reported.iter().any(|(other, node)| other == kind && node == *name) {
                tracing::warn!(kind = kind.as_str(), warning = message, "there is a warning about a node");
            }
        }
        for (kind, node) in &self.reported {
            if !found.iter().any(|(name, warning)| warning.kind == *kind && *name == node) {
                tracing::info!(kind = kind.as_str(), node = node.name, "a warning about a node has ended");
            }
        }
        self.reported = found.iter().map(|(name, warning)| (warning.kind, (*name).clone())).collect();
    }
}

fn log_change(before: &NodeView, after: &NodeView, cause: Option<&ClaimCause>) {
    use NodeRole::{Active, Duplicate, Standby};
    match (before.role, after.role) {
        (Active { term: before, is_suspended: was_suspended }, Active { term, is_suspended })
            if before == term =>
        {
            if is_suspended && !was_suspended {
                tracing::warn!(
                    "suspended: the database has not confirmed for a while that this node is active, so it publishes \
                     nothing"
                );
            } else if was_suspended && !is_suspended {
                tracing::info!("resumed: the database confirms that this node is active");
            }
        }
        (_, Active { .. }) => {
            let cause = cause.map(ToString::to_string);
            tracing::info!(cause, "this node became active");
        }
        (_, Duplicate) => tracing::error!("another node has the id of this one; stopping"),
        (Active { .. } | Duplicate, Standby) => tracing::warn!("this node is not active any more"),
        (Standby, Standby) => {}
    }
    if after.role == Standby && after.active != before.active {
        let Some(NodeName { name, url }) = &after.active else {
            tracing::info!("no node is active");
            return;
        };
        tracing::info!(name, url, "another node is active");
    }
}

impl Actor for KeeperActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(CHECK_EVERY, |act, _| act.show());
        ctx.run_later(INSPECT_EVERY, Self::inspect);
        self.beat(ctx);
    }
}

impl Handler<ServiceStarted> for KeeperActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, ServiceStarted(term): ServiceStarted, _: &mut Self::Context) -> Self::Result {
        let connection = Arc::clone(&self.connection);
        let recorded = async move { connection.lock().await.service_started(term).await };
        Box::pin(recorded.into_actor(self).map(|recorded, _, _| {
            if let Err(error) = recorded {
                // If this node ends, its next run waits for a few seconds if another node runs.
                tracing::debug!(error = %with_causes(&error), "it was not recorded that the service has started");
            }
        }))
    }
}

impl Handler<GiveUp> for KeeperActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, GiveUp(term): GiveUp, _: &mut Self::Context) -> Self::Result {
        let is_own = self.ownership.update(|lease| lease.give_up(term, now()));
        if is_own {
            self.owner = None;
        }
        self.show();
        let released = release(Arc::clone(&self.connection), is_own.then_some(term));
        Box::pin(released.into_actor(self).map(|released, _, _| {
            if let Err(error) = released {
                tracing::debug!(error = %with_causes(&error), "the event log was not given back");
            }
        }))
    }
}

impl Handler<Release> for KeeperActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Release, _: &mut Self::Context) -> Self::Result {
        self.is_leaving = true;
        let term = self.ownership.update(Lease::release);
        let released = release(Arc::clone(&self.connection), term);
        Box::pin(released.into_actor(self).map(|released, _, ctx| {
            if let Err(error) = released {
                tracing::warn!(
                    error = %with_causes(&error),
                    "the event log was not given back; another node claims it after a few seconds"
                );
            }
            ctx.stop();
        }))
    }
}

/// Gives the event log back, if there is a term to end.
async fn release(connection: Arc<Mutex<NodeConnection>>, term: Option<Term>) -> Result<(), StoreError> {
    let released = async move {
        // Waits for the beat under way.
        let mut connection = connection.lock().await;
        match term {
            Some(term) => connection.release(term).await.map(drop),
            None => Ok(()),
        }
    };
    timeout(RELEASE_WITHIN, released).await.unwrap_or_else(|_| Err(StoreError::timeout()))
}
