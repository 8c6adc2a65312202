//! What every request needs: the addresses of the actors, the access rules, and whether the service is
//! stopping.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix::{Message, Recipient};
use actix_web::{
    HttpRequest,
    http::header::{HOST, HeaderMap},
};
use ipnet::IpNet;
use liveobject_actors::{
    Handle,
    domain::{hex, node::NodeView, node_key::NodeKey},
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use uuid::Uuid;

use super::{
    DatabaseView, HostRules, Limits,
    budget::{Budget, Share},
    connections::Connections,
    forward, headers,
    limiter::Limiter,
    observe,
    problem::Problem,
    proxies::TrustedProxies,
    sign_in_code::SignInCodes,
    ticket::Holder,
    user_streams::UserStreams,
    warnings::WarningTimes,
};
use crate::{
    addresses::{Addresses, Reach},
    backup::{Locations, Restores},
    finder::Finder,
    history::History,
    sessions::Sessions,
    telemetry::recent::RecentLines,
    token::AdminToken,
};

/// How long a request waits for an actor. Few clients wait longer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request waits for an action that itself waits for the broker. A connection test takes at most
/// 10 s, and a test message as long as the broker may take to acknowledge it.
pub(super) const BROKER_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a request waits until the node that has forwarded it is known to be alive. That takes two beats.
const NODE_WITHIN: Duration = Duration::from_secs(3);

/// Default number of failed logins that are allowed per address and minute.
pub const FAILED_LOGINS: u32 = 10;

// Total size of the batches in memory: four of the largest ones. Further batches wait unread.
const MAX_BATCH_BYTES: usize = 32 * 1024 * 1024;
// Total size of the pictures that are being received: 16 of the largest ones.
const MAX_UPLOAD_BYTES: usize = 32 * 1024 * 1024;
// Total size of the pictures that are being sent, however slowly clients read them. Enough for hundreds of
// usual size.
const MAX_DOWNLOAD_BYTES: usize = 64 * 1024 * 1024;

/// What [`ApiState`] is made from.
#[derive(Debug)]
pub struct ApiOptions {
    /// The actors.
    pub handle: Handle,
    /// The admin token.
    pub token: AdminToken,
    /// The sessions of the page.
    pub sessions: Sessions,
    /// The service's host names.
    pub hosts: HostRules,
    /// The charts of the last hour.
    pub history: History,
    /// Where clients reach the service.
    pub addresses: Addresses,
    /// Failed logins that are allowed per address and minute.
    pub failed_logins_per_minute: u32,
    /// The limits of connections.
    pub limits: Limits,
    /// The reverse proxies that report the addresses of their clients.
    pub trusted_proxies: TrustedProxies,
    /// The files of which a backup is made; `None` if no backup can be made.
    pub backup: Option<Locations>,
    /// Searches for brokers.
    pub finder: Finder,
    /// Receives backups that are restored at the next start; `None` if that is not possible.
    pub restores: Option<Restores>,
    /// The last lines of the log.
    pub log: RecentLines,
    /// For how many days events are kept.
    pub retention_days: u32,
    /// Where the data is stored.
    pub database: DatabaseView,
    /// The nodes that share the database; `None` if no others can use it.
    pub nodes: Option<watch::Receiver<NodeView>>,
}

/// What every request needs. Cheap to clone; clones share all limits.
#[derive(Debug, Clone)]
pub struct ApiState {
    pub(super) handle: Handle,
    pub(super) token: AdminToken,
    pub(super) sessions: Sessions,
    pub(super) hosts: HostRules,
    pub(super) history: History,
    /// Whether browsers may be instructed to use TLS for everything on this host.
    pub(super) owns_host: bool,
    pub(super) connections: Connections,
    pub(super) trusted_proxies: TrustedProxies,
    pub(super) backup: Option<Locations>,
    pub(super) finder: Finder,
    pub(super) restores: Option<Restores>,
    pub(super) log: RecentLines,
    pub(super) retention_days: u32,
    pub(super) database: DatabaseView,
    pub(super) nodes: Option<watch::Receiver<NodeView>>,
    /// What verifies that another node has forwarded a request.
    node_key: NodeKey,
    pub(super) warning_times: WarningTimes,
    /// Whether `public_url` uses https.
    pub(super) is_public_https: bool,
    addresses: Arc<Addresses>,
    /// The only peers that are served, without a token: the proxy of Home Assistant, which has checked the user. `None`
    /// on an ordinary listener.
    pub(super) trusted_peers: Option<Arc<[IpAddr]>>,
    limiter: Arc<Mutex<Limiter>>,
    sign_in_codes: Arc<Mutex<SignInCodes>>,
    /// Changes when a token was revoked or a session has ended, so that open streams check their credentials at once.
    pub(super) revocations: watch::Sender<()>,
    /// The connections of the listener for ingress, which have limits of their own.
    ingress_connections: Arc<OnceLock<Connections>>,
    pub(super) user_streams: UserStreams,
    started: Instant,
    stopping: Arc<AtomicBool>,
    batches: Arc<Budget>,
    uploads: Arc<Budget>,
    downloads: Arc<Budget>,
}

/// Work that needs much memory, so that only a limited amount is in progress at a time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    /// Reading and parsing a batch.
    ReadBatch,
    /// Receiving a picture.
    ReceivePicture,
    /// Sending a picture.
    SendPicture,
}

impl ApiState {
    /// Creates the state of an API that is ready for requests.
    pub fn new(options: ApiOptions) -> Self {
        let ApiOptions {
            handle,
            token,
            sessions,
            hosts,
            history,
            addresses,
            failed_logins_per_minute,
            limits,
            trusted_proxies,
            backup,
            finder,
            restores,
            log,
            retention_days,
            database,
            nodes,
        } = options;
        observe::create_known_labels(&handle.metrics);
        let node_key = handle.links.node_key();
        Self {
            handle,
            token,
            sessions,
            hosts,
            history,
            owns_host: headers::owns_its_host(&addresses.public_url),
            connections: Connections::new(limits, trusted_proxies.clone()),
            trusted_proxies,
            backup,
            finder,
            restores,
            log,
            retention_days,
            database,
            nodes,
            node_key,
            warning_times: WarningTimes::default(),
            is_public_https: addresses.public_url.starts_with("https://"),
            addresses: Arc::new(addresses),
            trusted_peers: None,
            sign_in_codes: Arc::default(),
            revocations: watch::Sender::new(()),
            ingress_connections: Arc::default(),
            user_streams: UserStreams::default(),
            limiter: Arc::new(Mutex::new(Limiter::new(failed_logins_per_minute))),
            started: Instant::now(),
            stopping: Arc::default(),
            batches: Arc::new(Budget::new(MAX_BATCH_BYTES)),
            uploads: Arc::new(Budget::new(MAX_UPLOAD_BYTES)),
            downloads: Arc::new(Budget::new(MAX_DOWNLOAD_BYTES)),
        }
    }

    /// Returns this state for a listener that serves only these peers, and gives them full access. All users share the
    /// address of the proxy, so connections from there are limited only in total, and separately from those of other
    /// listeners.
    #[must_use]
    pub fn for_ingress(&self, peers: &[IpAddr]) -> Self {
        let proxies: Vec<_> = peers.iter().map(|peer| IpNet::from(*peer)).collect();
        let connections = self.ingress_connections.get_or_init(|| {
            let limits = *self.connections.limits();
            // A peer on this machine is a proxy, too.
            let limits = Limits { max_loopback_connections: limits.max_connections, ..limits };
            self.connections.another_group(limits, TrustedProxies::new(&proxies))
        });
        Self { trusted_peers: Some(peers.into()), connections: connections.clone(), ..self.clone() }
    }

    /// Returns the connections of all listeners, in groups with limits of their own.
    pub(super) fn all_connections(&self) -> impl Iterator<Item = &Connections> {
        std::iter::once(&self.connections).chain(self.ingress_connections.get())
    }

    /// Returns whether another node, which is alive, has forwarded the request with these headers, so that its client
    /// and host are those in them.
    pub(super) fn is_forwarded(&self, headers: &HeaderMap) -> bool {
        let Some((nodes, boot)) = self.prover(headers) else { return false };
        is_alive(&nodes.borrow(), boot)
    }

    /// If another node has forwarded the request with these headers, waits until that node is known to be alive, for at
    /// most [`NODE_WITHIN`]: one of both nodes may have just started. Others cannot make a request wait, because they
    /// have no proof.
    pub(super) async fn await_node(&self, headers: &HeaderMap) {
        if let Some((nodes, boot)) = self.prover(headers) {
            let mut nodes = nodes.clone();
            let known = nodes.wait_for(|view| is_alive(view, boot));
            let _known = timeout(NODE_WITHIN, known).await;
        }
    }

    /// Returns which run of a node has proved that it has forwarded the request with these headers.
    fn prover(&self, headers: &HeaderMap) -> Option<(&watch::Receiver<NodeView>, Uuid)> {
        let (nodes, proof) = (self.nodes.as_ref()?, forward::proof(headers)?);
        let here = nodes.borrow().boot;
        Some((nodes, self.node_key.verify(proof, here)?))
    }

    /// Locks the limiter of failed logins. Do not hold the guard across an `await`.
    pub(super) fn limiter(&self) -> MutexGuard<'_, Limiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the URLs under which the page can be opened now. `request` has come under one of them.
    pub(super) fn reach(&self, request: &HttpRequest) -> Reach {
        // A trusted proxy calls the service by a name that only it can use.
        let is_direct = self.trusted_peers.is_none();
        let host = request.headers().get(HOST).filter(|_| is_direct).and_then(|host| host.to_str().ok());
        self.addresses.reach(host)
    }

    /// Returns for how long the API has been there.
    pub(super) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns links that open the page and sign in, once and within ten minutes, and whether they work only on this
    /// machine. Print them to a terminal, never to a log.
    pub fn new_sign_in_links(&self) -> (Vec<String>, bool) {
        self.sign_in_links(self.addresses.reach(None), Holder::Administrator)
    }

    /// Like [`new_sign_in_links`](Self::new_sign_in_links), for this holder at these URLs.
    pub(super) fn sign_in_links(&self, reach: Reach, holder: Holder) -> (Vec<String>, bool) {
        let (Reach { urls, is_local_only }, code) = (reach, self.new_sign_in_code(holder));
        (urls.iter().map(|url| format!("{url}/#code={code}")).collect(), is_local_only)
    }

    /// Returns a new code that signs in to the page once, within ten minutes.
    fn new_sign_in_code(&self, holder: Holder) -> String {
        let code: [u8; 16] = rand::random();
        let mut text = String::with_capacity(32);
        hex::push(&mut text, &code);
        self.sign_in_codes().add(&text, holder, self.token.hash(), Instant::now());
        text
    }

    /// Uses a code up. Returns whom it signs in, or `None` if it was not valid.
    pub(super) fn take_sign_in_code(&self, code: &str) -> Option<Holder> {
        self.sign_in_codes().take(code, self.token.hash(), Instant::now())
    }

    fn sign_in_codes(&self) -> MutexGuard<'_, SignInCodes> {
        self.sign_in_codes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the service as not ready, so that load balancers send no more requests.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Returns the flag that is set when the service stops.
    pub(super) fn stopping(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stopping)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Waits a few seconds for memory for this work. Dropping the share returns it.
    pub(super) async fn share(&self, work: Work, bytes: usize) -> Result<Share, Problem> {
        let (budget, busy) = match work {
            Work::ReadBatch => (&self.batches, "too many batches at the same time; try again in a second"),
            Work::ReceivePicture => {
                (&self.uploads, "too many pictures at the same time; try again in a second")
            }
            Work::SendPicture => {
                (&self.downloads, "too many pictures at the same time; try again in a second")
            }
        };
        budget.share(bytes).await.ok_or_else(|| Problem::unavailable(busy, 1))
    }
}

fn is_alive(view: &NodeView, boot: Uuid) -> bool {
    view.nodes.iter().any(|node| node.boot == boot && node.is_alive)
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
