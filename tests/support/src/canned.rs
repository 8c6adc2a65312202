//! A server that is no broker: whatever it is told, it says the same, or nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long it waits for the client to be done.
const PATIENCE: Duration = Duration::from_secs(5);

/// Accepts until it is dropped.
#[derive(Debug)]
pub struct Canned {
    port: u16,
    _task: JoinSet<()>,
}

#[derive(Clone, Debug)]
enum Says {
    Bytes(Bytes),
    Nothing,
    OpensWebSocket,
}

impl Canned {
    /// Answers the first thing that it is told with these bytes, and closes.
    pub async fn saying(bytes: impl Into<Bytes>) -> Self {
        Self::start(Ipv4Addr::LOCALHOST.into(), 0, Says::Bytes(bytes.into())).await
    }

    /// The same on an address and a port of the test's own.
    pub async fn saying_at(address: IpAddr, port: u16, bytes: impl Into<Bytes>) -> Self {
        Self::start(address, port, Says::Bytes(bytes.into())).await
    }

    /// Never answers, and does not close.
    pub async fn silent() -> Self {
        Self::start(Ipv4Addr::LOCALHOST.into(), 0, Says::Nothing).await
    }

    /// Opens WebSockets for whoever asks, without a word about the subprotocol.
    pub async fn web_sockets() -> Self {
        Self::start(Ipv4Addr::LOCALHOST.into(), 0, Says::OpensWebSocket).await
    }

    async fn start(address: IpAddr, port: u16, says: Says) -> Self {
        let listener = TcpListener::bind(SocketAddr::new(address, port)).await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                clients.spawn(serve(client, says.clone()));
            }
        });
        Self { port, _task: task }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

async fn serve(mut client: TcpStream, says: Says) {
    let mut told = [0; 4096];
    match says {
        Says::Bytes(bytes) => {
            // A client that is gone hears nothing.
            if client.read(&mut told).await.is_ok() && client.write_all(&bytes).await.is_ok() {
                let _ = client.shutdown().await;
                // To close with something unread would reset the connection, and take the answer with it.
                let drained = async { while client.read(&mut told).await.is_ok_and(|n| n > 0) {} };
                let _ = timeout(PATIENCE, drained).await;
            }
        }
        Says::Nothing => while client.read(&mut told).await.is_ok_and(|n| n > 0) {},
        Says::OpensWebSocket => {
            let opened = tokio_tungstenite::accept_async(client).await;
            drop(opened);
        }
    }
}
