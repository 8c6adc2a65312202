//! The table of topics that may hold something of ours: read, changed and asked again one step after the other.

use std::time::Duration;

use actix::{ActorFutureExt as _, AsyncContext as _, Context, WrapFuture as _};
use tokio::time::Instant;

use super::RetainedActor;
use crate::domain::{ids::LinkId, retained::Kind};

/// How long to wait before the table is asked again after the database failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl RetainedActor {
    /// Reads the rows of a new link's broker; then removes those whose topics are cleared, and writes those that topics
    /// need before anything is sent there.
    pub(super) fn see_to_rows(&mut self, ctx: &mut Context<Self>) {
        let Some(link) = self.link.as_ref().filter(|_| !self.rows_busy) else { return };
        let (id, broker) = (link.id, link.broker.clone());
        if !self.shelf.is_linked() {
            return self.load_rows(id, broker, ctx);
        }
        let (cleared, unrecorded) = (self.shelf.take_cleared(), self.shelf.take_rowless());
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
                Ok(rows) if is_current => act.shelf.link_up(rows, Instant::now()),
                Err(error) if is_current => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the list of retained topics could not be read; tried again in a second"
                    );
                    return act.rest(ctx);
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
                Ok(()) if is_current => act.shelf.rows_written(&unrecorded, Instant::now()),
                Err(error) if is_current => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the list of retained topics could not be written; tried again in a second"
                    );
                    act.shelf.rows_failed(cleared, unrecorded);
                    return act.rest(ctx);
                }
                _ => {}
            }
            act.pump(ctx);
        }));
    }

    /// Leaves the database alone for a while: it has failed.
    fn rest(&mut self, ctx: &mut Context<Self>) {
        self.rows_busy = true;
        ctx.run_later(RETRY_AFTER, |act, ctx| {
            act.rows_busy = false;
            act.pump(ctx);
        });
    }
}
