//! An MQTT broker inside this process, for the demo.
//!
//! The broker has its own thread and runtime, and listens on one port of the loopback interface. It supports
//! MQTT 3.1.1 and 5 on that port, accepts every login, and can be stopped and resumed. Stopping closes all
//! connections and the port, as a crash would.
//!
//! Sessions and retained messages are kept in memory and are gone after a stop. The broker is not reachable
//! from other machines and not meant for production. A message without subscribers is acknowledged with
//! *success*, not with the reason code *no matching subscribers* of MQTT 5.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rmqtt::context::ServerContext;
use rmqtt::net::{Builder, Listener};
use rmqtt::router::DefaultRouter;
use rmqtt::server::MqttServer;
use rmqtt::shared::DefaultShared;
use tokio::sync::oneshot;

use super::retain::Retained;

/// The first port of the range that is searched for a free port. The range is below the ephemeral ports:
/// otherwise a client that reconnects to a stopped broker could get the broker's port as its own source port,
/// and occupy it.
const FIRST_PORT: u16 = 18_830;
const PORTS: u16 = 1_000;

/// How long a start may take; it usually takes milliseconds.
const START_LIMIT: Duration = Duration::from_secs(5);

/// How long each of the two steps of a stop may take: freeing the broker's memory, and ending its runtime.
/// Both usually take milliseconds.
const STOP_LIMIT: Duration = Duration::from_millis(250);

/// Maximum number of unacknowledged QoS 1 and 2 messages per client and direction, announced as the Receive
/// Maximum. Well above the service's window.
const MAX_INFLIGHT: NonZeroU16 = NonZeroU16::new(1_000).expect("not zero");

/// Maximum number of messages queued for a slow subscriber; above this limit, the oldest ones are dropped (with
/// QoS 0, the newest). Enough for minutes of events while the terminal is paused.
const MAX_QUEUED: usize = 10_000;

/// Maximum number of connected clients, and of clients that are logging in. Far more than a demo needs.
const MAX_CLIENTS: usize = 200;

/// Why the broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The thread or its runtime could not be created.
    #[error("cannot start a thread for the demo broker")]
    Thread(#[source] io::Error),
    /// The port cannot be opened, usually because it is in use.
    #[error("the demo broker cannot listen on 127.0.0.1:{port}")]
    Listen {
        /// The port that was tried; the last one if several were.
        port: u16,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The broker ended while starting, or was not ready in time.
    #[error("the demo broker failed to start, or was not ready within {} s", START_LIMIT.as_secs())]
    NotReady,
}

/// The broker of the demo; dropping it stops it.
#[derive(Debug)]
pub struct Broker {
    port: u16,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Broker {
    /// Starts a broker on a free port. When this returns, it accepts connections. Fails if no port of the
    /// range is free, if no thread can be created, or if the broker is not ready in time.
    pub fn start() -> Result<Self, BrokerError> {
        let mut last_error = BrokerError::NotReady;
        for port in ports() {
            match Running::start(port) {
                Ok(running) => {
                    return Ok(Self { port, running: Some(running) });
                }
                Err(error @ BrokerError::Listen { .. }) => last_error = error,
                Err(error) => return Err(error),
            }
        }
        Err(last_error)
    }

    /// Returns the port on 127.0.0.1. It never changes.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns whether the broker is running, that is, not stopped by [`Broker::stop`].
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Closes all connections and the port. When this returns, connections are refused. Blocks for a few
    /// milliseconds, at most for half a second. Does nothing if the broker is already stopped.
    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }

    /// Starts the broker again on the same port, without sessions and retained messages. Does nothing if it
    /// is running. Fails if another program has taken the port, if no thread can be created, or if the broker
    /// is not ready in time.
    pub fn resume(&mut self) -> Result<(), BrokerError> {
        if self.running.is_none() {
            self.running = Some(Running::start(self.port)?);
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Running {
    fn start(port: u16) -> Result<Self, BrokerError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(BrokerError::Thread)?;
        let (started, outcome) = mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("demo-broker".to_owned())
            .spawn(move || {
                runtime.block_on(serve(port, started, stopped));
                // There is no other way to stop the broker: its tasks and sockets end with their runtime.
                runtime.shutdown_timeout(STOP_LIMIT);
            })
            .map_err(BrokerError::Thread)?;
        let running = Self { stop, thread };
        match outcome.recv_timeout(START_LIMIT) {
            Ok(Ok(())) => Ok(running),
            Ok(Err(source)) => Err(BrokerError::Listen { port, source }),
            Err(_) => Err(BrokerError::NotReady),
        }
    }

    fn stop(self) {
        // Sending fails if the thread has already ended, and then there is nothing to stop.
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::warn!("the demo broker panicked");
        }
    }
}

/// Returns all ports of the range. The first one depends on the process and the call, which usually avoids the
/// port of another demo whose broker is stopped temporarily.
fn ports() -> impl Iterator<Item = u16> {
    static CALLS: AtomicU16 = AtomicU16::new(0);
    let calls = u32::from(CALLS.fetch_add(1, Ordering::Relaxed));
    let first = std::process::id().wrapping_mul(16).wrapping_add(calls);
    (0..PORTS).map(move |n| {
        let offset = first.wrapping_add(u32::from(n)) % u32::from(PORTS);
        FIRST_PORT + u16::try_from(offset).unwrap_or_default()
    })
}

/// Runs a broker until it receives a stop message, or until the sender is dropped.
async fn serve(port: u16, started: mpsc::SyncSender<Result<(), io::Error>>, stopped: oneshot::Receiver<()>) {
    // If `start` has given up, sending the outcome fails, and `stopped` ends this immediately.
    let listener = match listen(port) {
        Ok(listener) => listener,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    // The check for a busy system would refuse clients on a loaded machine, and constantly uses CPU time.
    let context = ServerContext::new().busy_check_enable(false).build().await;
    *context.extends.retain_mut().await = Box::new(Retained::new());
    let server = MqttServer::new(context.clone()).listener(listener).build();
    // The operating system accepts connections since `listen`; the server handles them as soon as it runs.
    let _ = started.send(Ok(()));
    tokio::select! {
        ended = server.run() => tracing::warn!(?ended, "the demo broker ended unexpectedly"),
        _ = stopped => {}
    }
    if tokio::time::timeout(STOP_LIMIT, break_cycles(&context)).await.is_err() {
        tracing::debug!("the demo broker was too busy to be freed; its memory is leaked");
    }
}

/// Breaks the reference cycles between the context and two of its parts. Otherwise no session and no file
/// descriptor of the runtime would ever be freed. No part of the broker runs afterwards.
async fn break_cycles(context: &ServerContext) {
    let mut shared = context.extends.shared_mut().await;
    let mut router = context.extends.router_mut().await;
    *shared = Box::new(DefaultShared::new(None));
    *router = Box::new(DefaultRouter::new(None));
}

/// Binds the port and sets the broker's limits.
fn listen(port: u16) -> Result<Listener, io::Error> {
    Builder::new()
        .name("demo")
        .laddr(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        // On Unix, a resumed broker can bind its port while old connections are in TIME_WAIT. Windows allows
        // that anyway; there the option would let two programs share a port.
        .reuseaddr(Some(cfg!(unix)))
        .nodelay(true)
        .max_connections(MAX_CLIENTS)
        .max_handshaking_limit(MAX_CLIENTS)
        .max_inflight(MAX_INFLIGHT)
        .max_mqueue_len(MAX_QUEUED)
        // Messages expire only if their publisher set an expiry. Nothing is sent twice on one connection:
        // MQTT 5 forbids that, and it would break the order.
        .message_expiry_interval(Duration::ZERO)
        .message_retry_interval(Duration::ZERO)
        .bind()
        .and_then(Listener::tcp)
        .map_err(|error| error.downcast().unwrap_or_else(io::Error::other))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    const CONNECT_V4: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a";
    const CONNECT_V5: &[u8] = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01b";

    fn open(broker: &Broker) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, broker.port()))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(stream)
    }

    /// Sends a packet, and returns the first byte and the body of the next packet from the broker.
    fn request(stream: &mut TcpStream, packet: &[u8]) -> (u8, Vec<u8>) {
        stream.write_all(packet).unwrap();
        next(stream)
    }

    /// Returns the first byte and the body of the next packet. The body must be shorter than 128 bytes.
    fn next(stream: &mut TcpStream) -> (u8, Vec<u8>) {
        let mut header = [0; 2];
        stream.read_exact(&mut header).unwrap();
        let mut body = vec![0; usize::from(header[1])];
        stream.read_exact(&mut body).unwrap();
        (header[0], body)
    }

    #[test]
    fn both_protocol_versions_are_accepted_on_the_same_port() {
        let broker = Broker::start().unwrap();
        for connect in [CONNECT_V4, CONNECT_V5] {
            let (kind, body) = request(&mut open(&broker).unwrap(), connect);
            assert_eq!((kind, body[1]), (0x20, 0), "CONNACK, success");
        }
    }

    #[test]
    fn a_retained_message_is_sent_to_a_later_subscriber() {
        let broker = Broker::start().unwrap();
        let mut stream = open(&broker).unwrap();
        request(&mut stream, CONNECT_V4);
        let (kind, _) = request(&mut stream, b"\x33\x08\x00\x03a/b\x00\x01x");
        assert_eq!(kind, 0x40, "PUBACK");
        let (kind, _) = request(&mut stream, b"\x82\x08\x00\x02\x00\x03a/#\x01");
        assert_eq!(kind, 0x90, "SUBACK");
        let (kind, body) = next(&mut stream);
        assert_eq!(kind & 0xf1, 0x31, "PUBLISH, retained");
        assert!(body.starts_with(b"\0\x03a/b") && body.ends_with(b"x"));
    }

    #[test]
    fn an_empty_retained_message_clears_the_topic() {
        let broker = Broker::start().unwrap();
        let mut stream = open(&broker).unwrap();
        request(&mut stream, CONNECT_V4);
        request(&mut stream, b"\x33\x08\x00\x03a/b\x00\x01x");
        request(&mut stream, b"\x33\x07\x00\x03a/b\x00\x01");
        request(&mut stream, b"\x33\x08\x00\x03a/c\x00\x01y");
        request(&mut stream, b"\x82\x08\x00\x02\x00\x03a/#\x00");
        let (_, body) = next(&mut stream);
        assert!(body.starts_with(b"\0\x03a/c"), "only the other topic has a retained message");
        let (kind, _) = request(&mut stream, b"\xc0\x00");
        assert_eq!(kind, 0xd0, "PINGRESP, nothing before it");
    }

    #[test]
    fn many_messages_that_are_sent_at_once_arrive_exactly_once_and_in_order() {
        const MANY: u16 = 500;
        let broker = Broker::start().unwrap();
        let (mut publisher, mut subscriber) = (open(&broker).unwrap(), open(&broker).unwrap());
        request(&mut subscriber, CONNECT_V4);
        request(&mut subscriber, b"\x82\x08\x00\x02\x00\x03a/#\x01");
        request(&mut publisher, CONNECT_V5);
        for n in 1..=MANY {
            let [high, low] = n.to_be_bytes();
            let publish = [b"\x32\x0a\x00\x03a/b".as_slice(), &[high, low], b"\0", &[high, low]].concat();
            publisher.write_all(&publish).unwrap();
        }
        for n in 1..=MANY {
            let (kind, body) = next(&mut publisher);
            assert_eq!((kind, &body[..2]), (0x40, n.to_be_bytes().as_slice()), "PUBACK");
            let (kind, body) = next(&mut subscriber);
            assert_eq!((kind, &body[7..]), (0x32, n.to_be_bytes().as_slice()), "PUBLISH, not a duplicate");
            subscriber.write_all(&[b"\x40\x02", &body[5..7]].concat()).unwrap();
        }
    }

    #[test]
    fn a_message_without_subscribers_is_acknowledged_with_success() {
        let broker = Broker::start().unwrap();
        let mut stream = open(&broker).unwrap();
        request(&mut stream, CONNECT_V5);
        let (kind, body) = request(&mut stream, b"\x32\x09\x00\x03a/b\x00\x01\x00x");
        assert_eq!((kind, &body[..2]), (0x40, b"\0\x01".as_slice()), "PUBACK");
        assert!(body.get(2).is_none_or(|reason| *reason == 0), "success");
    }

    #[test]
    fn the_will_is_published_when_a_connection_breaks() {
        let broker = Broker::start().unwrap();
        let (mut publisher, mut subscriber) = (open(&broker).unwrap(), open(&broker).unwrap());
        request(&mut subscriber, CONNECT_V4);
        request(&mut subscriber, b"\x82\x08\x00\x02\x00\x03a/#\x00");
        request(&mut publisher, b"\x10\x15\x00\x04MQTT\x04\x06\x00\x3c\x00\x01w\x00\x03a/w\x00\x01x");
        drop(publisher);
        let (kind, body) = next(&mut subscriber);
        assert_eq!((kind & 0xf0, body.as_slice()), (0x30, b"\0\x03a/wx".as_slice()));
    }

    #[test]
    fn stopping_closes_connections_and_the_port_and_resuming_opens_it_again() {
        let mut broker = Broker::start().unwrap();
        let port = broker.port();
        for _ in 0..3 {
            let mut stream = open(&broker).unwrap();
            request(&mut stream, CONNECT_V5);
            broker.stop();
            assert!(!broker.is_running() && open(&broker).is_err());
            // No DISCONNECT, as in a crash; a reset if the broker had unread data.
            let end = stream.read_to_end(&mut Vec::new());
            assert!(end.is_ok() || end.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
            broker.resume().unwrap();
            assert_eq!(broker.port(), port);
        }
        request(&mut open(&broker).unwrap(), CONNECT_V4);
    }

    #[test]
    fn every_port_of_the_range_is_tried_once() {
        let mut all: Vec<u16> = ports().collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(FIRST_PORT..FIRST_PORT + PORTS));
    }

    #[test]
    fn two_brokers_use_different_ports() {
        let (one, two) = (Broker::start().unwrap(), Broker::start().unwrap());
        assert_ne!(one.port(), two.port());
    }

    #[test]
    fn resuming_on_a_port_in_use_fails() {
        let mut broker = Broker::start().unwrap();
        broker.stop();
        let _other = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, broker.port())).unwrap();
        assert!(matches!(broker.resume(), Err(BrokerError::Listen { .. })));
    }
}
