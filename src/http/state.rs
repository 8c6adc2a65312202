//! What every request needs: the actors' addresses, who may call, and whether the service is stopping.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix::{Message, Recipient};
use liveobject_actors::Handle;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{HostRules, problem::Problem};
use crate::token::ApiToken;

/// How long an actor may take. A sender's own patience is seldom longer.
const PATIENCE: Duration = Duration::from_secs(10);

// Batches that are read at once: together they hold at most 32 MiB. More of them wait their turn, unread.
const BATCHES_AT_ONCE: usize = 4;
const TURN_WITHIN: Duration = Duration::from_secs(5);

/// What every request needs. Cheap to clone; clones share the readiness.
#[derive(Debug, Clone)]
pub struct ApiState {
    pub(super) handle: Handle,
    pub(super) token: ApiToken,
    pub(super) hosts: HostRules,
    stopping: Arc<AtomicBool>,
    batches: Arc<Semaphore>,
}

impl ApiState {
    /// The API of the service behind `handle`, for holders of `token`, under the names of `hosts`.
    pub fn new(handle: Handle, token: ApiToken, hosts: HostRules) -> Self {
        Self {
            handle,
            token,
            hosts,
            stopping: Arc::default(),
            batches: Arc::new(Semaphore::new(BATCHES_AT_ONCE)),
        }
    }

    /// From now on the service is not ready: whoever balances the load sends nothing more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The permission to read one batch; it ends when it is dropped.
    pub(super) async fn batch_turn(&self) -> Result<OwnedSemaphorePermit, Problem> {
        match timeout(TURN_WITHIN, Arc::clone(&self.batches).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Problem::unavailable("too many batches at once; send it again in a second", 1)),
        }
    }
}

/// Sends one message and awaits its answer. A full mailbox is waited for as well.
pub(super) async fn ask<M>(to: &Recipient<M>, message: M) -> Result<M::Result, Problem>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    ask_within(PATIENCE, to, message).await
}

/// [`ask`] with a patience of its own. It covers the wait for a full mailbox, which the request's own timeout does not.
pub(super) async fn ask_within<M>(
    patience: Duration,
    to: &Recipient<M>,
    message: M,
) -> Result<M::Result, Problem>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    match timeout(patience, to.send(message)).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Problem::no_answer(std::any::type_name::<M>(), patience)),
    }
}
