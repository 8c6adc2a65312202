//! What every request needs: the actors' addresses, who may call, and whether the service is stopping.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix::{Message, Recipient};
use liveobject_actors::{Handle, domain::calendar::Calendar};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{HostRules, body::PICTURE_BYTES, headers, limiter::Limiter, problem::Problem};
use crate::{history::History, token::ApiToken};

/// How long an actor may take. A sender's own patience is seldom longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many wrong tokens an address may show in a minute, unless it is set otherwise.
pub const FAILED_LOGINS: u32 = 10;

// Batches that are read at once: together they hold at most 32 MiB. More of them wait their turn, unread.
const BATCHES_AT_ONCE: usize = 4;
// Pictures that are received at once: together they hold at most 32 MiB.
const UPLOADS_AT_ONCE: usize = 16;
// Pictures that are being sent hold at most so much, however slowly they are taken: hundreds of the usual size.
const DOWNLOAD_BYTES: usize = 64 * 1024 * 1024;
const TURN_WITHIN: Duration = Duration::from_secs(5);

/// What every request needs. Cheap to clone; clones share the readiness.
#[derive(Debug, Clone)]
pub struct ApiState {
    pub(super) handle: Handle,
    pub(super) token: ApiToken,
    pub(super) hosts: HostRules,
    pub(super) history: History,
    /// Whether browsers may be told that everything under this host's name uses TLS.
    pub(super) owns_host: bool,
    limiter: Arc<Mutex<Limiter>>,
    stopping: Arc<AtomicBool>,
    batches: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    downloads: Arc<Semaphore>,
}

impl ApiState {
    /// The API of the service behind `handle`, for holders of `token`, under the names of `hosts`.
    pub fn new(handle: Handle, token: ApiToken, hosts: HostRules) -> Self {
        let history = History::new(handle.metrics.clone(), Calendar::system().0, 0);
        Self {
            handle,
            history,
            token,
            hosts,
            owns_host: false,
            limiter: Arc::new(Mutex::new(Limiter::new(FAILED_LOGINS))),
            stopping: Arc::default(),
            batches: Arc::new(Semaphore::new(BATCHES_AT_ONCE)),
            uploads: Arc::new(Semaphore::new(UPLOADS_AT_ONCE)),
            downloads: Arc::new(Semaphore::new(DOWNLOAD_BYTES)),
        }
    }

    /// Lets an address show so many wrong tokens a minute.
    #[must_use]
    pub fn limiting(self, failed_logins: u32) -> Self {
        Self { limiter: Arc::new(Mutex::new(Limiter::new(failed_logins))), ..self }
    }

    /// The service is reached there.
    #[must_use]
    pub fn at(self, public_url: &str) -> Self {
        Self { owns_host: headers::owns_its_host(public_url), ..self }
    }

    /// Tells of the last hour by this.
    #[must_use]
    pub fn with_history(self, history: History) -> Self {
        Self { history, ..self }
    }

    /// Who showed wrong tokens. Not to be kept over an `await`.
    pub(super) fn limiter(&self) -> MutexGuard<'_, Limiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
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
        turn(&self.batches, 1, "too many batches at once; send it again in a second").await
    }

    /// The permission to receive one picture; it ends when it is dropped.
    pub(super) async fn upload_turn(&self) -> Result<OwnedSemaphorePermit, Problem> {
        turn(&self.uploads, 1, "too many pictures at once; send it again in a second").await
    }

    /// The permission to hold one picture of the largest size, a permit a byte; what it has too many can be split off.
    pub(super) async fn download_turn(&self) -> Result<OwnedSemaphorePermit, Problem> {
        turn(&self.downloads, PICTURE_BYTES, "too many pictures at once; ask again in a second").await
    }
}

async fn turn(
    of: &Arc<Semaphore>,
    permits: usize,
    too_many: &'static str,
) -> Result<OwnedSemaphorePermit, Problem> {
    let permits = u32::try_from(permits).unwrap_or(u32::MAX);
    match timeout(TURN_WITHIN, Arc::clone(of).acquire_many_owned(permits)).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(Problem::unavailable(too_many, 1)),
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
