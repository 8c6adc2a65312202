//! The keeper: reports in the database that this node is alive, and claims the event log when it has no owner.
//!
//! [`KeeperActor`] owns a connection to the database on which it beats about once a second. The
//! [lease](crate::domain::lease) decides what each answer means; this actor carries it out. It shows in a [`NodeView`]
//! what this node does and which node is active.

use std::{fmt, sync::Arc, time::Duration};

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, AsyncContext as _, Context, Handler, ResponseActFuture,
    WrapFuture as _,
};
use tokio::{
    sync::{Mutex, mpsc::UnboundedSender, watch},
    time::{Instant, timeout},
};

use crate::{
    domain::{
        lease::{Change, ClaimOutcome, Lease},
        node::{NodeName, NodeRole, NodeView},
    },
    lifecycle::CrashGuard,
    messages::keeper::Release,
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

/// How long giving the event log back may take.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);

/// See the module's documentation.
pub struct KeeperActor {
    me: NodeName,
    ownership: Ownership,
    /// Locked during a beat.
    connection: Arc<Mutex<NodeConnection>>,
    view: watch::Sender<NodeView>,
    is_duplicate: bool,
    /// Whether the event log is being given back.
    is_leaving: bool,
    /// Whether the database does not answer, which was logged.
    is_away: bool,
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
    owner: Option<NodeName>,
}

/// Beats, and claims the event log if the lease wants it.
async fn turn(
    connection: &mut NodeConnection,
    me: &NodeName,
    ownership: &Ownership,
) -> Result<Turn, StoreError> {
    let started = now();
    let Beat { owner, owner_name, owner_url, .. } = connection.beat().await?;
    let (change, claim) = ownership.update(|lease| {
        let change = lease.beat_answered(started, now(), owner);
        (change, if change.is_none() { lease.wanted_claim(now(), new_term()) } else { None })
    });
    let shown = owner_name.zip(owner_url).map(|(name, url)| NodeName { name, url });
    let Some(claim) = claim else { return Ok(Turn { change, owner: shown }) };
    let started = now();
    let outcome = connection.claim(&claim).await;
    ownership.update(|lease| lease.claim_answered(claim, outcome, started, now()));
    let owner = if outcome == ClaimOutcome::Granted { Some(me.clone()) } else { shown };
    Ok(Turn { change, owner })
}

impl KeeperActor {
    /// Returns a keeper that beats on this connection, and what shows its role. `me` is how other nodes see this one.
    pub fn new(
        connection: NodeConnection,
        me: NodeName,
        ownership: Ownership,
        crashed: UnboundedSender<&'static str>,
    ) -> (Self, watch::Receiver<NodeView>) {
        let (view, receiver) =
            watch::channel(NodeView { role: NodeRole::Standby, active: None, is_connected: true });
        let keeper = Self {
            me,
            ownership,
            connection: Arc::new(Mutex::new(connection)),
            view,
            is_duplicate: false,
            is_leaving: false,
            is_away: false,
            _crash_guard: CrashGuard::new("keeper", crashed),
        };
        (keeper, receiver)
    }

    fn beat(&mut self, ctx: &mut Context<Self>) {
        let (connection, me, ownership) =
            (Arc::clone(&self.connection), self.me.clone(), self.ownership.clone());
        let started = Instant::now();
        let beat = async move { turn(&mut *connection.lock().await, &me, &ownership).await };
        ctx.spawn(beat.into_actor(self).map(move |turn, act, ctx| {
            let pause = if turn.is_err() { PAUSE } else { Duration::ZERO };
            act.turned(turn);
            if !act.is_duplicate {
                ctx.run_later(BEAT_EVERY.saturating_sub(started.elapsed()).max(pause), Self::beat);
            }
        }));
    }

    fn turned(&mut self, turn: Result<Turn, StoreError>) {
        let was_away = std::mem::replace(&mut self.is_away, turn.is_err());
        match turn {
            Ok(Turn { change, owner }) => {
                self.is_duplicate |= change == Some(Change::TwoNodes);
                if was_away {
                    tracing::info!("the database answers this node again");
                }
                self.show(Some(owner));
            }
            Err(error) => {
                if !was_away {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the database does not answer this node; trying again");
                }
                self.show(None);
            }
        }
    }

    fn role(&self) -> NodeRole {
        if self.is_duplicate {
            return NodeRole::Duplicate;
        }
        let term = self.ownership.term();
        let is_suspended = !self.ownership.is_trusted();
        term.map_or(NodeRole::Standby, |term| NodeRole::Active { term, is_suspended })
    }

    /// Shows what this node does and, if a beat has just shown it, the owner. Logs what has changed.
    fn show(&mut self, owner: Option<Option<NodeName>>) {
        if self.is_leaving {
            return;
        }
        let before = self.view.borrow().clone();
        let view = NodeView {
            role: self.role(),
            active: owner.unwrap_or_else(|| before.active.clone()),
            is_connected: !self.is_away,
        };
        if view == before {
            return;
        }
        log_change(&before, &view);
        self.view.send_replace(view);
    }
}

fn log_change(before: &NodeView, after: &NodeView) {
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
        (_, Active { .. }) => tracing::info!("this node became active"),
        (_, Duplicate) => tracing::error!("another node has the id of this one; stopping"),
        (Active { .. } | Duplicate, Standby) => tracing::warn!("this node is not active any more"),
        (Standby, Standby) => {}
    }
    if after.role == Standby && after.active != before.active {
        match &after.active {
            Some(NodeName { name, url }) => tracing::info!(name, url, "another node is active"),
            None => tracing::info!("no node is active"),
        }
    }
}

impl Actor for KeeperActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(CHECK_EVERY, |act, _| act.show(None));
        self.beat(ctx);
    }
}

impl Handler<Release> for KeeperActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Release, _: &mut Self::Context) -> Self::Result {
        self.is_leaving = true;
        let term = self.ownership.update(Lease::release);
        let connection = Arc::clone(&self.connection);
        let released = async move {
            // Waits for the beat under way.
            let mut connection = connection.lock().await;
            match term {
                Some(term) => connection.release(term).await.map(drop),
                None => Ok(()),
            }
        };
        let released = async move {
            timeout(RELEASE_WITHIN, released).await.unwrap_or_else(|_| Err(StoreError::timeout()))
        };
        Box::pin(released.into_actor(self).map(|released, _, ctx| {
            if let Err(error) = released {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the event log was not given back; another node claims it after a few seconds"
                );
            }
            ctx.stop();
        }))
    }
}
