//! A server that is not a broker: it gives every client the same reply, or none.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long to wait for the client to finish.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A server with a fixed reply. It accepts connections until it is dropped.
#[derive(Debug)]
pub struct CannedServer {
    port: u16,
    _task: JoinSet<()>,
}

#[derive(Clone, Debug)]
enum Behavior {
    Bytes(Bytes),
    Silence,
    WebSocketHandshake,
}

impl CannedServer {
    /// Starts a server that replies to the first bytes it receives with these bytes, and closes.
    pub async fn replying(bytes: impl Into<Bytes>) -> Self {
        Self::start(Ipv4Addr::LOCALHOST.into(), 0, Behavior::Bytes(bytes.into())).await
    }

    /// Starts a server like [`Self::replying`] on this address and port.
    pub async fn replying_at(address: IpAddr, port: u16, bytes: impl Into<Bytes>) -> Self {
        Self::start(address, port, Behavior::Bytes(bytes.into())).await
    }

    /// Starts a server that never replies and never closes.
    pub async fn silent() -> Self {
        Self::start(Ipv4Addr::LOCALHOST.into(), 0, Behavior::Silence).await
    }

    /// Starts a server that accepts every WebSocket handshake without naming a subprotocol.
    pub async fn websockets() -> Self {
        Self::start(Ipv4Addr::LOCALHOST.into(), 0, Behavior::WebSocketHandshake).await
    }

    async fn start(address: IpAddr, port: u16, behavior: Behavior) -> Self {
        let listener = TcpListener::bind(SocketAddr::new(address, port)).await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                clients.spawn(serve(client, behavior.clone()));
            }
        });
        Self { port, _task: task }
    }

    /// Returns the port on which the server listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

async fn serve(mut client: TcpStream, behavior: Behavior) {
    let mut buffer = [0; 4096];
    match behavior {
        Behavior::Bytes(bytes) => {
            // A client that has already closed needs no reply.
            if client.read(&mut buffer).await.is_ok() && client.write_all(&bytes).await.is_ok() {
                let _ = client.shutdown().await;
                // Closing with unread data would reset the connection and discard the reply.
                let drained = async { while client.read(&mut buffer).await.is_ok_and(|n| n > 0) {} };
                let _ = timeout(DRAIN_TIMEOUT, drained).await;
            }
        }
        Behavior::Silence => while client.read(&mut buffer).await.is_ok_and(|n| n > 0) {},
        Behavior::WebSocketHandshake => {
            let opened = tokio_tungstenite::accept_async(client).await;
            drop(opened);
        }
    }
}
