//! A proxy for HTTP/1.1 on loopback that withholds requests until the test lets them pass.
//!
//! What a page shows before a file arrives can so be seen without a guess at how long anything takes.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream, tcp};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Time limit for a request, on a busy machine.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A running gate. It and its connections end when it is dropped.
#[derive(Debug)]
pub struct RequestGate {
    port: u16,
    withheld: watch::Sender<Vec<String>>,
    passed: watch::Sender<Vec<String>>,
    _acceptor: JoinSet<()>,
}

impl RequestGate {
    /// Starts a gate on a free port that forwards to `target_port` on loopback, and withholds nothing.
    ///
    /// # Panics
    ///
    /// Panics if no port is free.
    pub async fn start(target_port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (withheld, passed) = (watch::Sender::default(), watch::Sender::default());
        let mut acceptor = JoinSet::new();
        let (rules, record) = (withheld.clone(), passed.clone());
        acceptor.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(forward(client, target_port, rules.subscribe(), record.clone()));
            }
        });
        Self { port, withheld, passed, _acceptor: acceptor }
    }

    /// Returns the port on which the gate listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Withholds the requests whose path ends with one of these. All others pass, those that were withheld too.
    pub fn withhold(&self, ends: &[&str]) {
        let _ = self.withheld.send_replace(ends.iter().map(ToString::to_string).collect());
    }

    /// Waits until a request whose path ends with this has passed.
    ///
    /// # Panics
    ///
    /// Panics with the paths that have passed if there is none within 30 s.
    pub async fn passed(&self, end: &str) {
        let mut passed = self.passed.subscribe();
        let is_there = passed.wait_for(|paths| paths.iter().any(|path| path.ends_with(end)));
        let is_there = timeout(REQUEST_TIMEOUT, is_there).await.is_ok();
        assert!(is_there, "{end} has not been requested, but: {:?}", &*self.passed.borrow());
    }
}

/// Forwards a connection in both directions, until either side closes it.
async fn forward(
    client: TcpStream,
    target_port: u16,
    withheld: watch::Receiver<Vec<String>>,
    passed: watch::Sender<Vec<String>>,
) {
    // If the service does not listen, the client sees a closed connection.
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target_port)).await else { return };
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    tokio::select! {
        () = forward_requests(from_client, to_server, withheld, passed) => {}
        _ = copy(&mut from_server, &mut to_client) => {}
    }
}

/// Browsers send a request on a connection only after the response to the one before. So each begins a read.
async fn forward_requests(
    mut from_client: tcp::OwnedReadHalf,
    mut to_server: tcp::OwnedWriteHalf,
    mut withheld: watch::Receiver<Vec<String>>,
    passed: watch::Sender<Vec<String>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
        let path = requested_path(&buffer[..read]).map(str::to_owned);
        if let Some(path) = &path {
            let may_pass = withheld.wait_for(|ends| !ends.iter().any(|end| path.ends_with(end.as_str())));
            if may_pass.await.is_err() {
                return;
            }
        }
        if to_server.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        passed.send_modify(|paths| paths.extend(path));
    }
}

/// Returns the path and query of the GET request that these bytes begin.
fn requested_path(bytes: &[u8]) -> Option<&str> {
    let line = bytes.split(|byte| *byte == b'\r').next()?;
    str::from_utf8(line).ok()?.strip_prefix("GET ")?.strip_suffix(" HTTP/1.1")
}
