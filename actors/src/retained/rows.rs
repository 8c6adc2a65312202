//! The table of topics that may hold a message of this service. Only one read or write runs at a time. A
//! failed one is retried.

use std::time::Duration;

use actix::{ActorFutureExt as _, AsyncContext as _, Context, WrapFuture as _};
use tokio::time::Instant;

use super::RetainedActor;
use crate::domain::{causes::with_causes, ids::LinkId, retained::Kind};

/// How long to wait after a database error before the next attempt.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl RetainedActor {
    /// Reads the broker's rows after a new connection. Later, removes the rows of topics that were
    /// cleared, and adds the rows of topics that will be published.
    pub(super) fn sync_rows(&mut self, ctx: &mut Context<Self>) {
        let Some(link) = self.link.as_ref().filter(|_| !self.rows_busy) else { return };
        let (id, broker) = (link.id, link.broker.clone());
        if !self.state.is_linked() {
            return self.load_rows(id, broker, ctx);
        }
        let (cleared, unrecorded) = (self.state.take_cleared(), self.state.take_unrecorded());
        if !cleared.is_empty() || !unrecorded.is_empty() {
            self.change_rows(id, broker, cleared, unrecorded, ctx);
        }
    }

    fn load_rows(&mut self, id: LinkId, broker: String, ctx: &mut Context<Self>) {
        self.rows_busy = true;
        let store = self.store.clone();
        let rows = async move { store.list_topics(&broker).await };
        ctx.spawn(rows.into_actor(self).map(move |rows, act, ctx| {
            act.rows_busy = false;
            let is_current = act.link.as_ref().is_some_and(|link| link.id == id);
            match rows {
                Ok(rows) if is_current => act.state.link_up(rows, Instant::now()),
                Err(error) if is_current => {
                    tracing::error!(
                        error = %with_causes(&error),
                        "cannot read the list of retained topics; retrying in 1 s"
                    );
                    return act.back_off(ctx);
                }
                _ => {}
            }
            act.pump(ctx);
        }));
    }

    fn change_rows(
        &mut self,
        id: LinkId,
        broker: String,
        cleared: Vec<String>,
        unrecorded: Vec<(String, Kind)>,
        ctx: &mut Context<Self>,
    ) {
        self.rows_busy = true;
        let store = self.store.clone();
        let changed = async move {
            let changed = store.change_topics(&broker, &cleared, &unrecorded).await;
            (cleared, unrecorded, changed)
        };
        ctx.spawn(changed.into_actor(self).map(move |(cleared, unrecorded, changed), act, ctx| {
            act.rows_busy = false;
            let is_current = act.link.as_ref().is_some_and(|link| link.id == id);
            match changed {
                Ok(()) if is_current => act.state.rows_written(&unrecorded, Instant::now()),
                Err(error) if is_current => {
                    tracing::warn!(
                        error = %with_causes(&error),
                        "cannot write the list of retained topics; retrying in 1 s"
                    );
                    act.state.rows_failed(cleared, unrecorded);
                    return act.back_off(ctx);
                }
                _ => {}
            }
            act.pump(ctx);
        }));
    }

    /// Waits after a database error before the table is used again.
    fn back_off(&mut self, ctx: &mut Context<Self>) {
        self.rows_busy = true;
        ctx.run_later(RETRY_AFTER, |act, ctx| {
            act.rows_busy = false;
            act.pump(ctx);
        });
    }
}
