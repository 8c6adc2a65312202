//! The open connections: who has a place, and who must give it up. Performs no I/O.
//!
//! The number of connections is limited in total and for each address. At a limit, a new connection takes the
//! place of the one that has waited longest for its client, so that idle and stuck clients never shut out
//! others. If all of them are busy, the new connection may only ask for the service's health. Connections
//! from this machine have places of their own.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
    time::Duration,
};

use futures_util::task::AtomicWaker;
use liveobject_actors::{
    domain::status::{Warning, WarningKind},
    ticks,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::proxies::TrustedProxies;

/// How often connections are checked for their deadlines, while there are any.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);
/// How long a connection that may only ask for the service's health can wait for its request.
const HEALTH_HEAD: Duration = Duration::from_secs(2);
/// How long the warning about an address stays after the address was last at its limit.
const WARN_FOR: Duration = Duration::from_mins(1);
/// Maximum number of addresses with a warning.
const MAX_CROWDED: usize = 16;
/// The server closes idle connections itself; this is the additional time until they are closed here.
const IDLE_GRACE: Duration = Duration::from_secs(5);

/// The limits of the HTTP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of connections from other machines.
    pub max_connections: usize,
    /// Maximum number of connections from one IPv4 address or IPv6 /64 network.
    pub max_connections_per_address: usize,
    /// Maximum number of connections from this machine. They are not counted in `max_connections`.
    pub max_loopback_connections: usize,
    /// Maximum number of additional connections, which may only ask for the service's health.
    pub max_health_connections: usize,
    /// How long a request head may take, and the unread rest of a body after its response.
    pub head_timeout: Duration,
    /// How long a connection may be idle between two requests.
    pub keep_alive: Duration,
    /// How long a body may take.
    pub body_timeout: Duration,
}

impl Limits {
    /// Default of [`max_connections`](Self::max_connections).
    pub const MAX_CONNECTIONS: usize = 512;
    /// Default of [`max_connections_per_address`](Self::max_connections_per_address).
    pub const MAX_CONNECTIONS_PER_ADDRESS: usize = 64;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: Self::MAX_CONNECTIONS,
            max_connections_per_address: Self::MAX_CONNECTIONS_PER_ADDRESS,
            max_loopback_connections: 128,
            max_health_connections: 32,
            head_timeout: Duration::from_secs(10),
            // Longer than the minute for which proxies and HTTP clients keep idle connections for reuse.
            keep_alive: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
        }
    }
}

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It waits for the first byte of the next request.
    Idle = 0,
    /// It receives a request head, or the rest of a body that nobody reads.
    Receiving = 1,
    /// It receives a body that a handler reads.
    Body = 2,
    /// A handler works, or the response is being sent.
    Busy = 3,
}

/// One open connection. Shared by its stream, its requests and the table of all connections.
pub(super) struct Connection {
    network: IpAddr,
    is_loopback: bool,
    /// Whether the connection may only ask for the service's health.
    pub(super) is_health_only: bool,
    /// Whether the connection uses TLS.
    pub(super) is_encrypted: bool,
    epoch: Instant,
    /// The phase in the lowest two bits, and above them when it began, in milliseconds since `epoch`.
    state: AtomicU64,
    /// Whether a part of the request's body has not been read.
    has_unread_body: AtomicBool,
    is_closed: AtomicBool,
    /// Whether the client has closed its side, or the connection is lost.
    has_ended: AtomicBool,
    task: AtomicWaker,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("network", &self.network).finish_non_exhaustive()
    }
}

impl Connection {
    fn set(&self, phase: Phase, now: Instant) {
        let since = u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX);
        self.state.store(since << 2 | phase as u64, Ordering::Relaxed);
    }

    /// Returns the phase, and for how long the connection has been in it.
    fn phase(&self, now: Instant) -> (Phase, Duration) {
        let state = self.state.load(Ordering::Relaxed);
        let phase = match state & 3 {
            0 => Phase::Idle,
            1 => Phase::Receiving,
            2 => Phase::Body,
            _ => Phase::Busy,
        };
        (phase, now.saturating_duration_since(self.epoch + Duration::from_millis(state >> 2)))
    }

    /// Records that a request head is expected from now on.
    pub(super) fn expect_head(&self, now: Instant) {
        self.set(Phase::Receiving, now);
    }

    /// Records that bytes arrived.
    pub(super) fn received(&self, now: Instant) {
        match self.phase(now).0 {
            Phase::Idle => self.set(Phase::Receiving, now),
            Phase::Body => self.set(Phase::Body, now),
            Phase::Receiving | Phase::Busy => {}
        }
    }

    /// Records that the client has closed its side, or that the connection is lost.
    pub(super) fn end_input(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
    }

    /// Returns whether the client has closed its side, or the connection is lost.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    /// Records that a request has begun, and whether it has a body of unknown length.
    pub(super) fn begin(&self, has_unread_body: bool, now: Instant) {
        self.has_unread_body.store(has_unread_body, Ordering::Relaxed);
        self.set(Phase::Busy, now);
    }

    /// Records that a handler reads the body.
    pub(super) fn begin_body(&self, now: Instant) {
        self.set(Phase::Body, now);
    }

    /// Records that the handler has the whole body, or gave up.
    pub(super) fn end_body(&self, is_complete: bool, now: Instant) {
        if is_complete {
            self.has_unread_body.store(false, Ordering::Relaxed);
        }
        self.set(Phase::Busy, now);
    }

    /// Records that the response has been sent.
    pub(super) fn end(&self, now: Instant) {
        let is_unread = self.has_unread_body.load(Ordering::Relaxed);
        self.set(if is_unread { Phase::Receiving } else { Phase::Idle }, now);
    }

    /// Closes the connection: its next read or write fails, and its task is woken.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.task.wake();
    }

    /// Returns whether the connection must end.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Registers the task that must be woken to end the connection. Check
    /// [`is_closed`](Self::is_closed) afterwards.
    pub(super) fn wake_on_close(&self, waker: &Waker) {
        self.task.register(waker);
    }

    fn has_expired(&self, limits: &Limits, now: Instant) -> bool {
        let (phase, time) = self.phase(now);
        match phase {
            Phase::Idle => time >= limits.keep_alive + IDLE_GRACE,
            Phase::Receiving if self.is_health_only => time >= HEALTH_HEAD.min(limits.head_timeout),
            Phase::Receiving => time >= limits.head_timeout,
            // The handler has its own limit for the body.
            Phase::Body | Phase::Busy => false,
        }
    }

    /// Returns for how long the connection has waited for its client; `None` while it does not.
    fn waiting(&self, now: Instant) -> Option<Duration> {
        let (phase, time) = self.phase(now);
        (phase != Phase::Busy).then_some(time)
    }
}

/// All open connections. Cheap to clone; clones share the connections.
#[derive(Debug, Clone)]
pub(super) struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    proxies: TrustedProxies,
    epoch: Instant,
    table: Mutex<Table>,
    /// Is notified of the first connection. Groups of connections that are checked together share it.
    opened: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Table {
    /// The connections of each network, the oldest first.
    networks: HashMap<IpAddr, Vec<Arc<Connection>>>,
    public: usize,
    loopback: usize,
    health: Vec<Arc<Connection>>,
    /// Networks that were at their limit, and when.
    crowded: Vec<(IpAddr, Instant)>,
    /// When all places were taken.
    full_at: Option<Instant>,
}

impl Connections {
    /// Applies these limits. Connections of these proxies are limited only in total, because their clients share them.
    pub(super) fn new(limits: Limits, proxies: TrustedProxies) -> Self {
        Self::notifying(limits, proxies, Arc::default())
    }

    /// Creates a group with limits of its own. [`next_check`](Self::next_check) of this group waits for both.
    pub(super) fn another_group(&self, limits: Limits, proxies: TrustedProxies) -> Self {
        Self::notifying(limits, proxies, Arc::clone(&self.0.opened))
    }

    fn notifying(limits: Limits, proxies: TrustedProxies, opened: Arc<Notify>) -> Self {
        let (epoch, table) = (Instant::now(), Mutex::default());
        Self(Arc::new(Shared { limits, proxies, epoch, table, opened }))
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Gives a new connection a place, if necessary that of another one. Returns `None` if there is none.
    pub(super) fn admit(&self, peer: IpAddr, is_encrypted: bool, now: Instant) -> Option<Place> {
        let limits = &self.0.limits;
        let (network, is_loopback) = (network(peer), peer.to_canonical().is_loopback());
        let mut table = self.table();
        let is_crowded =
            table.count(network) >= limits.max_connections_per_address && !self.0.proxies.contains(peer);
        let has_place = if is_crowded {
            table.make_place_in(network, now)
        } else {
            table.make_place(is_loopback, limits, now)
        };
        if !has_place && !table.make_health_place(limits, now) {
            return None;
        }
        let connection = Arc::new(Connection {
            network,
            is_loopback,
            is_health_only: !has_place,
            is_encrypted,
            epoch: self.0.epoch,
            state: AtomicU64::new(0),
            has_unread_body: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            task: AtomicWaker::new(),
        });
        connection.expect_head(now);
        if table.is_empty() {
            self.0.opened.notify_one();
        }
        table.add(Arc::clone(&connection));
        Some(Place { connections: self.clone(), connection })
    }

    /// Returns whether there is no connection.
    pub(super) fn is_empty(&self) -> bool {
        self.table().is_empty()
    }

    /// Waits for the next check of the connections, at most [`SWEEP_INTERVAL`]. If `is_open` is false, there is nothing
    /// that a check could change, and it first waits for a connection: that saves an idle service two checks a second.
    pub(super) async fn next_check(&self, is_open: bool) {
        if !is_open {
            self.0.opened.notified().await;
        }
        sleep(ticks::until_next(SWEEP_INTERVAL)).await;
    }

    /// Closes the connections whose time is up.
    pub(super) fn sweep(&self, now: Instant) {
        let table = self.table();
        for connection in table.networks.values().flatten().chain(&table.health) {
            if connection.has_expired(&self.0.limits, now) {
                connection.close();
            }
        }
    }

    /// Returns the warnings about addresses that are at their limit, or were within the last minute.
    pub(super) fn warnings(&self, now: Instant) -> Vec<Warning> {
        let mut table = self.table();
        table.crowded.retain(|(_, at)| now.saturating_duration_since(*at) < WARN_FOR);
        table.full_at = table.full_at.filter(|at| now.saturating_duration_since(*at) < WARN_FOR);
        let Limits { max_connections, max_connections_per_address: per_address, .. } = self.0.limits;
        let mut messages = Vec::new();
        if let Some((address, _)) = table.crowded.first() {
            let others = match table.crowded.len() - 1 {
                0 => String::new(),
                n => format!(" (and {n} more)"),
            };
            messages.push(format!(
                "{address}{others} has {per_address} connections open, the maximum for one address, and tries \
                 to open more ([http] max_connections_per_address). If it is a reverse proxy, add it to [http] \
                 trusted_proxies; otherwise look for the program that opens them."
            ));
        }
        if table.full_at.is_some() {
            messages.push(format!(
                "All {max_connections} connections are in use. If you expect this number of clients, raise [http] \
                 max_connections; otherwise restrict who can reach this service."
            ));
        }
        messages.into_iter().map(|message| Warning::new(WarningKind::TooManyConnections, message)).collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.health.is_empty()
    }

    /// Returns the number of connections of this network.
    fn count(&self, network: IpAddr) -> usize {
        self.networks.get(&network).map_or(0, Vec::len)
    }

    /// Returns whether a connection of this network, which is at its limit, could be closed to make a place.
    fn make_place_in(&mut self, network: IpAddr, now: Instant) -> bool {
        self.note_crowded(network, now);
        self.close_longest_waiting(now, |connection| connection.network == network)
    }

    /// Returns whether there is a place for one more connection, after closing another one if necessary.
    fn make_place(&mut self, is_loopback: bool, limits: &Limits, now: Instant) -> bool {
        let (used, max) = if is_loopback {
            (self.loopback, limits.max_loopback_connections)
        } else {
            (self.public, limits.max_connections)
        };
        if used >= max {
            if !is_loopback {
                self.full_at = Some(now);
            }
            return self.close_longest_waiting(now, |connection| connection.is_loopback == is_loopback);
        }
        true
    }

    fn make_health_place(&mut self, limits: &Limits, now: Instant) -> bool {
        if self.health.len() < limits.max_health_connections {
            return true;
        }
        let waiting =
            self.health.iter().filter_map(|connection| Some((connection.waiting(now)?, connection)));
        let longest = waiting.max_by_key(|(time, _)| *time).map(|(_, connection)| Arc::clone(connection));
        longest.is_some_and(|connection| {
            self.remove(&connection);
            connection.close();
            true
        })
    }

    /// Closes the connection that has waited longest for its client, of the network with the most
    /// connections. Returns whether there was one.
    fn close_longest_waiting(&mut self, now: Instant, is_candidate: impl Fn(&Connection) -> bool) -> bool {
        let candidates = self
            .networks
            .values()
            .flat_map(|connections| connections.iter().map(|connection| (connections.len(), connection)));
        let found = candidates
            .filter(|(_, connection)| is_candidate(connection))
            .filter_map(|(size, connection)| Some(((size, connection.waiting(now)?), connection)))
            .max_by_key(|(order, _)| *order)
            .map(|(_, connection)| Arc::clone(connection));
        found.is_some_and(|connection| {
            self.remove(&connection);
            connection.close();
            true
        })
    }

    fn note_crowded(&mut self, network: IpAddr, now: Instant) {
        if let Some((_, at)) = self.crowded.iter_mut().find(|(known, _)| *known == network) {
            *at = now;
        } else if self.crowded.len() < MAX_CROWDED {
            tracing::warn!(%network, "an address has reached its maximum number of connections");
            self.crowded.push((network, now));
        }
    }

    fn add(&mut self, connection: Arc<Connection>) {
        if connection.is_health_only {
            self.health.push(connection);
            return;
        }
        *self.used(connection.is_loopback) += 1;
        self.networks.entry(connection.network).or_default().push(connection);
    }

    /// Removes a connection, unless it has been removed before.
    fn remove(&mut self, connection: &Arc<Connection>) {
        let position = |list: &[Arc<Connection>]| list.iter().position(|one| Arc::ptr_eq(one, connection));
        if let Some(i) = position(&self.health) {
            self.health.swap_remove(i);
            return;
        }
        let Some(list) = self.networks.get_mut(&connection.network) else { return };
        let Some(i) = position(list) else { return };
        list.remove(i);
        if list.is_empty() {
            self.networks.remove(&connection.network);
        }
        *self.used(connection.is_loopback) -= 1;
    }

    fn used(&mut self, is_loopback: bool) -> &mut usize {
        if is_loopback { &mut self.loopback } else { &mut self.public }
    }
}

/// A connection's place; dropping it makes room for another one.
#[derive(Debug)]
pub(super) struct Place {
    connections: Connections,
    pub(super) connection: Arc<Connection>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.table().remove(&self.connection);
    }
}

/// Returns what identifies one caller: an IPv4 address, or an IPv6 /64 network, in which each host can have
/// any number of addresses.
pub(super) fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
