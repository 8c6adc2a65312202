//! What every request needs: the addresses of the actors, the access rules, and whether the service is
//! stopping.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix::{Message, Recipient};
use liveobject_actors::{
    Handle,
    domain::{image::MAX_THUMBNAIL_BYTES, numbers::saturate},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{HostRules, Limits, connections::Connections, headers, limiter::Limiter, problem::Problem};
use crate::{history::History, token::ApiToken};

/// How long a request waits for an actor. Few clients wait longer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request waits for an action that itself waits for the broker. A connection test takes at most
/// 10 s, and a test message as long as the broker may take to acknowledge it.
pub(super) const BROKER_TIMEOUT: Duration = Duration::from_secs(15);

/// Default number of failed logins that are allowed per address and minute.
pub const FAILED_LOGINS: u32 = 10;

// Number of batches in memory at a time, 32 MiB in total. Further batches wait unread.
const MAX_BATCHES: usize = 4;
// Number of pictures that are received at a time, 32 MiB in total.
const MAX_UPLOADS: usize = 16;
// Total size of the pictures that are being sent, however slowly clients read them. Enough for hundreds of
// usual size.
const MAX_DOWNLOAD_BYTES: usize = 64 * 1024 * 1024;
// How long a request waits for a permit.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// What [`ApiState`] is made from.
#[derive(Debug)]
pub struct ApiOptions {
    /// The actors.
    pub handle: Handle,
    /// The admin token.
    pub token: ApiToken,
    /// The service's host names.
    pub hosts: HostRules,
    /// The charts of the last hour.
    pub history: History,
    /// The URL of the service as clients see it.
    pub public_url: String,
    /// Failed logins that are allowed per address and minute.
    pub failed_logins_per_minute: u32,
    /// The limits of connections.
    pub limits: Limits,
}

/// What every request needs. Cheap to clone; clones share all limits.
#[derive(Debug, Clone)]
pub struct ApiState {
    pub(super) handle: Handle,
    pub(super) token: ApiToken,
    pub(super) hosts: HostRules,
    pub(super) history: History,
    /// Whether browsers may be instructed to use TLS for everything on this host.
    pub(super) owns_host: bool,
    pub(super) connections: Connections,
    limiter: Arc<Mutex<Limiter>>,
    stopping: Arc<AtomicBool>,
    batches: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    download_bytes: Arc<Semaphore>,
}

/// Work that needs much memory, so that only a limited amount is in progress at a time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    /// Reading and parsing a batch.
    ReadBatch,
    /// Receiving a picture.
    ReceivePicture,
    /// Sending a picture. The permit has one unit per byte, enough for the largest picture; the caller can
    /// split off and return what it does not need.
    SendPicture,
}

impl ApiState {
    /// Creates the state of an API that is ready for requests.
    pub fn new(options: ApiOptions) -> Self {
        let ApiOptions { handle, token, hosts, history, public_url, failed_logins_per_minute, limits } =
            options;
        Self {
            handle,
            token,
            hosts,
            history,
            owns_host: headers::owns_its_host(&public_url),
            connections: Connections::new(limits),
            limiter: Arc::new(Mutex::new(Limiter::new(failed_logins_per_minute))),
            stopping: Arc::default(),
            batches: Arc::new(Semaphore::new(MAX_BATCHES)),
            uploads: Arc::new(Semaphore::new(MAX_UPLOADS)),
            download_bytes: Arc::new(Semaphore::new(MAX_DOWNLOAD_BYTES)),
        }
    }

    /// Locks the limiter of failed logins. Do not hold the guard across an `await`.
    pub(super) fn limiter(&self) -> MutexGuard<'_, Limiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the service as not ready, so that load balancers send no more requests.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Waits a few seconds for a permit for this work. Dropping the permit returns it.
    pub(super) async fn permit(&self, work: Work) -> Result<OwnedSemaphorePermit, Problem> {
        let (permits, units, busy) = match work {
            Work::ReadBatch => (&self.batches, 1, "too many batches at the same time; try again in a second"),
            Work::ReceivePicture => {
                (&self.uploads, 1, "too many pictures at the same time; try again in a second")
            }
            Work::SendPicture => (
                &self.download_bytes,
                saturate(MAX_THUMBNAIL_BYTES),
                "too many pictures at the same time; try again in a second",
            ),
        };
        match timeout(PERMIT_TIMEOUT, Arc::clone(permits).acquire_many_owned(units)).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Problem::unavailable(busy, 1)),
        }
    }
}

/// Sends a message and waits for the reply, also while the mailbox is full.
pub(super) async fn ask<M>(recipient: &Recipient<M>, message: M) -> Result<M::Result, Problem>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    ask_within(TIMEOUT, recipient, message).await
}

/// Like [`ask`], with another time limit. The limit includes the wait for a full mailbox, which the timeout
/// of actix's requests does not.
pub(super) async fn ask_within<M>(
    limit: Duration,
    recipient: &Recipient<M>,
    message: M,
) -> Result<M::Result, Problem>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    match timeout(limit, recipient.send(message)).await {
        Ok(reply) => Ok(reply?),
        Err(_) => Err(Problem::no_response(std::any::type_name::<M>(), limit)),
    }
}
