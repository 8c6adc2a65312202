//! The search in the event log.
//!
//! [`SearchActor`] keeps the index up to date: once a minute, it adds the events of complete blocks of 2,048, if there
//! are new ones, in small transactions that delay no commit. Nothing depends on the index but the speed: what is not in
//! it is read from the log. After an upgrade, the first indexing takes a minute for about 300,000 events.
//!
//! It also counts events: those in each step of the timeline, and all of them. The outbox lists events, because it
//! knows the state of their delivery.

#[cfg(test)]
mod tests;

use std::time::Duration;

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, Context, Handler, ResponseFuture, WrapFuture as _,
};
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    domain::{
        causes::with_causes,
        event_log::{LogSize, QueryError},
        search::Density,
    },
    lifecycle::{CrashGuard, stops_on_request},
    messages::search::{CountEvents, MeasureLog},
    store::{IndexProgress, Store, StoreError},
};

/// Maximum number of requests in the mailbox. The HTTP layer waits while it is full.
const MAILBOX: usize = 64;

/// When the first events are added after startup: after the first sweep, which removes old ones.
const FIRST_AFTER: Duration = Duration::from_mins(2);

const INDEX_EVERY: Duration = Duration::from_mins(1);

/// See the module's documentation.
#[derive(Debug)]
pub struct SearchActor {
    store: Store,
    progress: IndexProgress,
    is_indexing: bool,
    /// Whether the last attempt failed, so that a lasting fault is logged once.
    has_failed: bool,
    _crash_guard: CrashGuard,
}

impl SearchActor {
    /// Creates the actor for the events in `store`.
    pub fn new(store: Store, crashed: UnboundedSender<&'static str>) -> Self {
        Self {
            store,
            progress: IndexProgress::default(),
            is_indexing: false,
            has_failed: false,
            _crash_guard: CrashGuard::new("search", crashed),
        }
    }

    fn index(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.is_indexing, true) {
            return;
        }
        let (store, mut progress) = (self.store.clone(), self.progress.clone());
        let index = async move { (store.index_events(&mut progress).await, progress) };
        ctx.spawn(index.into_actor(self).map(|(added, progress), act, _| {
            act.is_indexing = false;
            act.progress = progress;
            match added {
                Ok(0) => act.has_failed = false,
                Ok(blocks) => {
                    act.has_failed = false;
                    tracing::debug!(blocks, "added events to the search index");
                }
                Err(error) if !act.has_failed => {
                    act.has_failed = true;
                    tracing::warn!(
                        error = %with_causes(&error),
                        "the search index was not updated, so a search is slower; will retry every minute"
                    );
                }
                Err(_) => {}
            }
        }));
    }
}

impl Actor for SearchActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_later(FIRST_AFTER, |act, ctx| {
            act.index(ctx);
            ctx.run_interval(INDEX_EVERY, Self::index);
        });
    }
}

impl Handler<CountEvents> for SearchActor {
    type Result = ResponseFuture<Result<Density, QueryError>>;

    fn handle(&mut self, CountEvents(query): CountEvents, _: &mut Self::Context) -> Self::Result {
        let store = self.store.clone();
        Box::pin(async move { store.density(&query).await.map_err(|error| unreadable(&error)) })
    }
}

impl Handler<MeasureLog> for SearchActor {
    type Result = ResponseFuture<Result<LogSize, QueryError>>;

    fn handle(&mut self, _: MeasureLog, _: &mut Self::Context) -> Self::Result {
        let store = self.store.clone();
        Box::pin(async move { store.log_size().await.map_err(|error| unreadable(&error)) })
    }
}

/// Logs that the event log could not be read, and returns the error for the sender of the request.
fn unreadable(error: &StoreError) -> QueryError {
    tracing::error!(error = %with_causes(error), "the event log could not be read");
    QueryError(error.fault())
}

stops_on_request!(SearchActor);
