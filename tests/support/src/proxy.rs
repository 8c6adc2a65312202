//! A TCP proxy that fails on purpose, in front of any loopback port.
//!
//! The proxy forwards by default. The handling of bytes ([`Proxy::flow`], [`Proxy::stall`],
//! [`Proxy::half_open`], [`Proxy::delay`], [`Proxy::throttle`]) applies to open and to future connections;
//! [`Proxy::cut`] and [`Proxy::reset`] end the open ones. If the target refuses, the proxy accepts a
//! connection and then closes it; use [`Proxy::refuse`] to refuse connections.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::mqtt5::Publish;
use crate::ports::free_port;
use crate::wait::POLL;

mod pump;
mod tap;

use pump::{Mode, Treatment};
use tap::{CloseRule, Tap};
pub use tap::{PacketKind, TappedPacket};

const REOPEN_TIMEOUT: Duration = Duration::from_secs(5);
const PORT_ATTEMPTS: usize = 10;

/// A running proxy. The proxy and its connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    treatment: watch::Sender<Treatment>,
    commands: mpsc::UnboundedSender<(Command, oneshot::Sender<()>)>,
    counts: Arc<Counts>,
    close_rule: CloseRule,
    target_port: Arc<AtomicU16>,
    _acceptor: JoinSet<()>,
}

#[derive(Debug)]
enum Command {
    Cut { reset: bool },
    Refuse,
    Accept,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicUsize,
    open: AtomicUsize,
    unreachable: AtomicUsize,
    connections: Mutex<Vec<ProxiedConnection>>,
}

/// A connection that reached the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxiedConnection {
    /// Connections are numbered from 1 in the order in which they were accepted.
    pub number: usize,
    /// When it was accepted.
    pub at: Instant,
    /// The port from which the proxy connected to the target. The kernel may use it again later.
    pub outgoing_port: u16,
}

impl Proxy {
    /// Starts a proxy on a free port that forwards to `target_port` on loopback. The target need not listen
    /// yet.
    pub async fn start(target_port: u16) -> Self {
        Self::start_with(target_port, None).await
    }

    /// Starts a proxy that also reports the events and acknowledgements on unencrypted connections.
    pub async fn tapped(target_port: u16) -> (Self, mpsc::UnboundedReceiver<TappedPacket>) {
        let (tap, passed) = mpsc::unbounded_channel();
        (Self::start_with(target_port, Some(tap)).await, passed)
    }

    async fn start_with(target_port: u16, tap: Option<mpsc::UnboundedSender<TappedPacket>>) -> Self {
        let (port, listener) = listen_anywhere().await;
        let (treatment, _) = watch::channel(Treatment::default());
        let (commands, inbox) = mpsc::unbounded_channel();
        let counts = Arc::<Counts>::default();
        let close_rule = CloseRule::default();
        let target_port = Arc::new(AtomicU16::new(target_port));
        let acceptor = Acceptor {
            port,
            target_port: Arc::clone(&target_port),
            treatment: treatment.clone(),
            counts: Arc::clone(&counts),
            close_rule: close_rule.clone(),
            tap,
            connections: JoinSet::new(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(acceptor.run(listener, inbox));
        Self { port, treatment, commands, counts, close_rule, target_port, _acceptor: tasks }
    }

    /// Returns the port to connect to, which never changes.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Forwards new connections to another port on loopback.
    pub fn retarget(&self, target_port: u16) {
        self.target_port.store(target_port, Ordering::SeqCst);
    }

    /// Closes all open connections with FIN, like a process that exits, and keeps accepting new ones.
    pub async fn cut(&self) {
        self.command(Command::Cut { reset: false }).await;
    }

    /// Ends all open connections with a reset (RST) and keeps accepting new ones.
    pub async fn reset(&self) {
        self.command(Command::Cut { reset: true }).await;
    }

    /// Closes the listener, so that connecting fails with "connection refused". Open connections stay open.
    pub async fn refuse(&self) {
        self.command(Command::Refuse).await;
    }

    /// Listens again on the same port after [`Proxy::refuse`].
    ///
    /// # Panics
    ///
    /// Panics if the port cannot be bound again within 5 s.
    pub async fn accept(&self) {
        self.command(Command::Accept).await;
    }

    /// Resumes forwarding in both directions. Connections that lost bytes to [`Proxy::half_open`] are closed.
    pub fn flow(&self) {
        self.treatment.send_modify(|treatment| treatment.mode = Mode::Flow);
    }

    /// Keeps connections open and forwards nothing in either direction until [`Proxy::flow`]. No byte is
    /// lost: bytes wait in the proxy and in the kernel, and writers block once the buffers are full.
    pub fn stall(&self) {
        self.treatment.send_modify(|treatment| treatment.mode = Mode::Stall);
    }

    /// Accepts all bytes from both sides and forwards none, like a peer that has vanished.
    pub fn half_open(&self) {
        self.treatment.send_modify(|treatment| treatment.mode = Mode::Swallow);
    }

    /// Delays every byte by this duration in each direction. The throughput stays the same.
    pub fn delay(&self, delay: Duration) {
        self.treatment.send_modify(|treatment| treatment.delay = delay);
    }

    /// Limits each connection to this many bytes per second in each direction; `None` removes the limit.
    pub fn throttle(&self, bytes_per_second: Option<u32>) {
        self.treatment.send_modify(|treatment| treatment.bytes_per_second = bytes_per_second);
    }

    /// Closes each connection on which the client publishes a message for which `matches` returns true, like a
    /// broker that does not permit the message. Earlier messages are forwarded, the message itself is not.
    /// This applies only to unencrypted connections of a proxy from [`Proxy::tapped`].
    pub fn close_on(&self, matches: impl Fn(&Publish) -> bool + Send + 'static) {
        self.close_rule.set(Some(Box::new(matches)));
    }

    /// Ends [`Proxy::close_on`].
    pub fn close_on_nothing(&self) {
        self.close_rule.set(None);
    }

    /// Returns how many connections were ever accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::SeqCst)
    }

    /// Returns the connections that reached the target, in the order in which they did.
    #[must_use]
    pub fn connections(&self) -> Vec<ProxiedConnection> {
        self.counts.connections.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns how many connections are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }

    /// Returns how many connections were closed at once because the target could not be reached.
    #[must_use]
    pub fn unreachable(&self) -> usize {
        self.counts.unreachable.load(Ordering::SeqCst)
    }

    /// Sends a command to the acceptor and waits until it has been carried out.
    async fn command(&self, command: Command) {
        let (done, carried_out) = oneshot::channel();
        let sent = self.commands.send((command, done));
        assert!(sent.is_ok() && carried_out.await.is_ok(), "the proxy on port {} has ended", self.port);
    }
}

struct Acceptor {
    port: u16,
    target_port: Arc<AtomicU16>,
    treatment: watch::Sender<Treatment>,
    counts: Arc<Counts>,
    close_rule: CloseRule,
    tap: Option<mpsc::UnboundedSender<TappedPacket>>,
    connections: JoinSet<()>,
}

impl Acceptor {
    async fn run(
        mut self,
        listener: TcpListener,
        mut commands: mpsc::UnboundedReceiver<(Command, oneshot::Sender<()>)>,
    ) {
        let mut listener = Some(listener);
        loop {
            tokio::select! {
                biased;
                command = commands.recv() => {
                    let Some((command, done)) = command else { return };
                    match command {
                        Command::Cut { reset } => self.cut(reset).await,
                        Command::Refuse => listener = None,
                        Command::Accept if listener.is_none() => listener = Some(listen_again(self.port).await),
                        Command::Accept => {}
                    }
                    // The receiver is gone if the caller was cancelled.
                    let _ = done.send(());
                }
                client = accepted(listener.as_ref()) => self.serve(client),
                Some(_) = self.connections.join_next() => {}
            }
        }
    }

    fn serve(&mut self, client: TcpStream) {
        let number = self.counts.accepted.fetch_add(1, Ordering::SeqCst) + 1;
        let taps = Tap::pair(number, self.tap.clone(), &self.close_rule);
        let counts = Arc::clone(&self.counts);
        let treatment = self.treatment.subscribe();
        let (target_port, at) = (self.target_port.load(Ordering::SeqCst), Instant::now());
        self.connections.spawn(async move {
            match TcpStream::connect((Ipv4Addr::LOCALHOST, target_port)).await {
                Ok(target) => {
                    if let Ok(address) = target.local_addr() {
                        let connection = ProxiedConnection { number, at, outgoing_port: address.port() };
                        counts.connections.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
                    }
                    let _open = Open::new(&counts);
                    pump::run(client, target, treatment, taps).await;
                }
                Err(_) => {
                    counts.unreachable.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
    }

    async fn cut(&mut self, reset: bool) {
        // Each pump watches the generation; on a reset it drops its sockets such that the kernel sends RST.
        self.treatment.send_modify(|treatment| {
            treatment.generation += 1;
            treatment.reset = reset;
        });
        while self.connections.join_next().await.is_some() {}
    }
}

/// Counts a connection as open while this value exists.
struct Open(Arc<Counts>);

impl Open {
    fn new(counts: &Arc<Counts>) -> Self {
        counts.open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(counts))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn accepted(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    loop {
        // The error concerns a single connection that is already gone, or a temporary lack of file handles.
        match listener.accept().await {
            Ok((client, _)) => return client,
            Err(_) => sleep(POLL).await,
        }
    }
}

pub(crate) async fn listen_anywhere() -> (u16, TcpListener) {
    for _ in 0..PORT_ATTEMPTS {
        let port = free_port();
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            return (port, listener);
        }
    }
    panic!("no port to listen on in {PORT_ATTEMPTS} attempts");
}

async fn listen_again(port: u16) -> TcpListener {
    let deadline = Instant::now() + REOPEN_TIMEOUT;
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(listener) => return listener,
            Err(error) if Instant::now() >= deadline => panic!("port {port} cannot be bound again: {error}"),
            Err(_) => sleep(POLL).await,
        }
    }
}
