//! A TCP proxy that fails on purpose, in front of any loopback port.
//!
//! It forwards until told otherwise. How it treats bytes ([`Proxy::flow`], [`Proxy::stall`], [`Proxy::half_open`],
//! [`Proxy::delay`], [`Proxy::throttle`]) applies to connections that are open and to those that come; [`Proxy::cut`]
//! and [`Proxy::reset`] end those that are open. When the target refuses, a connection to the proxy is accepted and then
//! closed: for a refused connection use [`Proxy::refuse`].

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::ports::free_port;
use crate::wait::POLL;

mod pump;
mod tap;

use pump::{Mode, Treatment};
use tap::Ear;
pub use tap::{Passed, Piece};

const REOPEN: Duration = Duration::from_secs(5);
const PORT_ATTEMPTS: usize = 10;

/// A running proxy. It and its connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    treatment: watch::Sender<Treatment>,
    orders: mpsc::UnboundedSender<(Order, oneshot::Sender<()>)>,
    counts: Arc<Counts>,
    _acceptor: JoinSet<()>,
}

#[derive(Debug)]
enum Order {
    Cut { reset: bool },
    Refuse,
    Accept,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicUsize,
    open: AtomicUsize,
    unreachable: AtomicUsize,
}

impl Proxy {
    /// Listens on a free port and forwards to `target_port` on loopback, which need not listen yet.
    pub async fn start(target_port: u16) -> Self {
        Self::start_with(target_port, None).await
    }

    /// The same, and tells which events and answers pass, of connections that are not encrypted.
    pub async fn tapped(target_port: u16) -> (Self, mpsc::UnboundedReceiver<Passed>) {
        let (tap, passed) = mpsc::unbounded_channel();
        (Self::start_with(target_port, Some(tap)).await, passed)
    }

    async fn start_with(target_port: u16, tap: Option<mpsc::UnboundedSender<Passed>>) -> Self {
        let (port, listener) = listen_anywhere().await;
        let (treatment, _) = watch::channel(Treatment::default());
        let (orders, inbox) = mpsc::unbounded_channel();
        let counts = Arc::<Counts>::default();
        let acceptor = Acceptor {
            port,
            target_port,
            treatment: treatment.clone(),
            counts: Arc::clone(&counts),
            tap,
            connections: JoinSet::new(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(acceptor.run(listener, inbox));
        Self { port, treatment, orders, counts, _acceptor: tasks }
    }

    /// The port to connect to, the same for the proxy's whole life.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends all open connections, as a process that closes them does (FIN), and keeps accepting new ones.
    pub async fn cut(&self) {
        self.order(Order::Cut { reset: false }).await;
    }

    /// Ends all open connections with a reset (RST) and keeps accepting new ones.
    pub async fn reset(&self) {
        self.order(Order::Cut { reset: true }).await;
    }

    /// Closes the listener, so that connecting fails with "connection refused". Open connections stay.
    pub async fn refuse(&self) {
        self.order(Order::Refuse).await;
    }

    /// Listens again on the same port after [`Proxy::refuse`].
    ///
    /// # Panics
    ///
    /// When the port cannot be had again within 5 s.
    pub async fn accept(&self) {
        self.order(Order::Accept).await;
    }

    /// Forwards in both directions (again). Connections that lost bytes to [`Proxy::half_open`] end now.
    pub fn flow(&self) {
        self.treatment.send_modify(|treatment| treatment.mode = Mode::Flow);
    }

    /// Keeps connections open and forwards nothing, in either direction, until [`Proxy::flow`]. No byte is lost: they
    /// wait here and in the kernel, and writers feel it once the buffers are full.
    pub fn stall(&self) {
        self.treatment.send_modify(|treatment| treatment.mode = Mode::Stall);
    }

    /// Takes all bytes from both sides, forwards none and answers none, as a peer that has vanished does.
    pub fn half_open(&self) {
        self.treatment.send_modify(|treatment| treatment.mode = Mode::Swallow);
    }

    /// From now on every byte arrives so much later, in each direction; throughput stays.
    pub fn delay(&self, delay: Duration) {
        self.treatment.send_modify(|treatment| treatment.delay = delay);
    }

    /// From now on each connection carries so many bytes a second, in each direction; `None`: as many as it can.
    pub fn throttle(&self, bytes_per_second: Option<u32>) {
        self.treatment.send_modify(|treatment| treatment.bytes_per_second = bytes_per_second);
    }

    /// How many connections were ever accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }

    /// How many connections ended at once because the target could not be reached.
    #[must_use]
    pub fn unreachable(&self) -> usize {
        self.counts.unreachable.load(Ordering::SeqCst)
    }

    /// Returns when the order has been carried out.
    async fn order(&self, order: Order) {
        let (done, carried_out) = oneshot::channel();
        let sent = self.orders.send((order, done));
        assert!(sent.is_ok() && carried_out.await.is_ok(), "the proxy on port {} has ended", self.port);
    }
}

struct Acceptor {
    port: u16,
    target_port: u16,
    treatment: watch::Sender<Treatment>,
    counts: Arc<Counts>,
    tap: Option<mpsc::UnboundedSender<Passed>>,
    connections: JoinSet<()>,
}

impl Acceptor {
    async fn run(
        mut self,
        listener: TcpListener,
        mut orders: mpsc::UnboundedReceiver<(Order, oneshot::Sender<()>)>,
    ) {
        let mut listener = Some(listener);
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => {
                    let Some((order, done)) = order else { return };
                    match order {
                        Order::Cut { reset } => self.cut(reset).await,
                        Order::Refuse => listener = None,
                        Order::Accept if listener.is_none() => listener = Some(listen_again(self.port).await),
                        Order::Accept => {}
                    }
                    // Nobody waits any more when the caller gave up.
                    let _ = done.send(());
                }
                client = accepted(listener.as_ref()) => self.serve(client),
                Some(_) = self.connections.join_next() => {}
            }
        }
    }

    fn serve(&mut self, client: TcpStream) {
        let number = self.counts.accepted.fetch_add(1, Ordering::SeqCst) + 1;
        let ears = Ear::pair(number, self.tap.clone());
        let counts = Arc::clone(&self.counts);
        let treatment = self.treatment.subscribe();
        let target_port = self.target_port;
        self.connections.spawn(async move {
            match TcpStream::connect((Ipv4Addr::LOCALHOST, target_port)).await {
                Ok(target) => {
                    let _open = Open::new(&counts);
                    pump::run(client, target, treatment, ears).await;
                }
                Err(_) => {
                    counts.unreachable.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
    }

    async fn cut(&mut self, reset: bool) {
        // Each pump watches the generation; with a reset it gives up its sockets so that the kernel sends RST.
        self.treatment.send_modify(|treatment| {
            treatment.generation += 1;
            treatment.reset = reset;
        });
        while self.connections.join_next().await.is_some() {}
    }
}

/// Counts a connection as open for as long as it lives, however it ends.
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
        // An error here is about the one connection that is gone again, or a lack of handles that may pass.
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
    let deadline = Instant::now() + REOPEN;
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(listener) => return listener,
            Err(error) if Instant::now() >= deadline => panic!("port {port} cannot be had again: {error}"),
            Err(_) => sleep(POLL).await,
        }
    }
}
