//! Opens the stream to the broker: TCP, optionally TLS, optionally a WebSocket. Each failure has a kind and
//! an explanation.
//!
//! The broker's addresses are tried in the resolver's order, each through all these layers. An address
//! that accepts connections but fails in TLS or the WebSocket upgrade does not prevent a later one from being used.
//! The MQTT login is not repeated for other addresses, since a wrong password is wrong at every address. If
//! all addresses fail, the failure of the address that completed the most stages is reported.

mod diagnosing;
mod first_bytes;
mod handshake;
mod stages;
mod tls;
mod tls_reason;
mod websocket;

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpSocket, TcpStream, lookup_host},
    time::{Instant, timeout, timeout_at},
};

use self::{
    diagnosing::{DiagnosingStream, Route},
    tls::Tls,
};
pub use self::{stages::Stages, tls::Secured};
use super::reason;
use crate::domain::{
    causes::with_causes,
    probe_report::Stage,
    settings::{MqttSettings, Transport},
    status::Failure,
};

/// Maximum number of addresses that are tried.
const MAX_ADDRESSES: usize = 16;

/// The size of the socket's send buffer, in bytes. By default, it can grow to megabytes, and a whole picture would
/// fit into it. With a small buffer, what the socket accepts shows how fast the network is.
const SEND_BUFFER: u32 = 128 * 1024;

/// A connection that can carry MQTT.
pub trait Wire: AsyncRead + AsyncWrite + fmt::Debug + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + fmt::Debug + Send + Sync + Unpin> Wire for T {}

/// A stream to the broker, through any combination of layers.
pub type Stream = Box<dyn Wire>;

/// The network connection of one session: a stream that was opened in advance, if any, and its TLS
/// properties.
#[derive(Debug, Clone, Default)]
pub struct SessionTransport(Arc<Mutex<TransportState>>);

#[derive(Debug, Default)]
struct TransportState {
    ready: Option<Stream>,
    secured: Option<Secured>,
}

impl SessionTransport {
    fn lock(&self) -> MutexGuard<'_, TransportState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a stream for the next [`dial`].
    pub fn keep(&self, stream: Stream) {
        self.lock().ready = Some(stream);
    }

    /// Returns how the latest stream is encrypted, or `None` if it is not.
    pub fn secured(&self) -> Option<Secured> {
        self.lock().secured.clone()
    }
}

/// Opens a stream for the MQTT client, or takes the one opened in advance. The I/O error contains a
/// [`Failure`].
pub async fn dial(settings: &MqttSettings, transport: &SessionTransport) -> Result<Stream, io::Error> {
    let ready = transport.lock().ready.take();
    if let Some(stream) = ready {
        return Ok(stream);
    }
    open(settings, transport, &mut Stages::default()).await.map_err(io::Error::other)
}

/// Opens a stream within the connect timeout, stage by stage. Each address gets an equal share of the
/// remaining time.
pub async fn open(
    settings: &MqttSettings,
    transport: &SessionTransport,
    stages: &mut Stages,
) -> Result<Stream, Failure> {
    let deadline = Instant::now() + connect_timeout(settings);
    let addresses = resolve(settings, stages).await?;
    open_any(settings, &addresses, deadline, transport, stages).await
}

/// Opens a stream to the first of these addresses that works.
async fn open_any(
    settings: &MqttSettings,
    addresses: &[SocketAddr],
    deadline: Instant,
    transport: &SessionTransport,
    stages: &mut Stages,
) -> Result<Stream, Failure> {
    let tls = if settings.use_tls { Some(Tls::new(settings).await) } else { None };
    let (resolved, mut tried, mut furthest) = (stages.clone(), Vec::new(), None::<(Stages, Failure)>);
    for (i, address) in addresses.iter().enumerate() {
        *stages = resolved.clone();
        let remaining = u32::try_from(addresses.len() - i).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / remaining;
        let opening = open_address(settings, *address, tls.clone(), transport, stages, &tried);
        let failure = match timeout_at(Instant::now() + share, opening).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(failure)) => failure,
            Err(_) => timed_out(settings, stages.current()),
        };
        tried.push(format!("{address}: {}", failure.kind));
        if furthest.as_ref().is_none_or(|(furthest, _)| furthest.completed() <= stages.completed()) {
            furthest = Some((stages.clone(), failure));
        }
    }
    let (furthest, failure) = furthest.ok_or_else(|| no_address(settings))?;
    *stages = furthest;
    Err(failure)
}

/// Resolves the broker's addresses, IPv6 and IPv4, in the resolver's order.
async fn resolve(settings: &MqttSettings, stages: &mut Stages) -> Result<Vec<SocketAddr>, Failure> {
    stages.begin(Stage::Resolve);
    let host = settings.broker_host.as_str();
    let lookup = timeout(connect_timeout(settings), lookup_host((host, settings.broker_port)));
    let addresses: Vec<_> = match lookup.await {
        Err(_) => return Err(reason::name_not_found(host, &"the name server did not answer in time")),
        Ok(Err(error)) => return Err(reason::name_not_found(host, &error)),
        Ok(Ok(addresses)) => addresses.take(MAX_ADDRESSES).collect(),
    };
    if addresses.is_empty() {
        return Err(no_address(settings));
    }
    stages.pass(addresses.iter().map(|a| a.ip().to_string()).collect::<Vec<_>>().join(", "));
    Ok(addresses)
}

/// Opens a stream to one address, through all layers. `tried` contains the previous addresses and their failures.
async fn open_address(
    settings: &MqttSettings,
    address: SocketAddr,
    tls: Option<Result<Tls, Failure>>,
    transport: &SessionTransport,
    stages: &mut Stages,
    tried: &[String],
) -> Result<Stream, Failure> {
    stages.begin(Stage::Connect);
    let tcp = connect(settings, address).await?;
    let before = if tried.is_empty() { String::new() } else { format!(" (after {})", tried.join(", ")) };
    stages.pass(format!("connected to {address}{before}"));
    let mut route = Route {
        broker: settings.broker(),
        host: settings.broker_host.clone(),
        address,
        handshake: None,
        is_websocket: settings.transport == Transport::Websocket,
    };
    let stream: Stream = match tls {
        None => {
            transport.lock().secured = None;
            Box::new(tcp)
        }
        Some(tls) => {
            stages.begin(Stage::Tls);
            let (stream, secured) = tls?.secure(tcp).await?;
            stages.pass(secured.to_string());
            route.handshake = Some(secured.handshake.clone());
            transport.lock().secured = Some(secured);
            Box::new(stream)
        }
    };
    let stream: Stream = match settings.transport {
        Transport::Tcp => stream,
        Transport::Websocket => {
            // The upgrade is the first request to the broker itself.
            stages.begin(Stage::Login);
            Box::new(websocket::upgrade(settings, stream, &route).await?)
        }
    };
    Ok(Box::new(DiagnosingStream::new(stream, route)))
}

async fn connect(settings: &MqttSettings, address: SocketAddr) -> Result<TcpStream, Failure> {
    let explain = |error: io::Error| reason::io_error(&error, &settings.broker());
    let socket =
        if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(explain)?;
    if let Err(error) = socket.set_send_buffer_size(SEND_BUFFER) {
        tracing::debug!(error = %with_causes(&error), "cannot set the size of the send buffer");
    }
    let stream = socket.connect(address).await.map_err(explain)?;
    // Without this, small messages wait for the peer's delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(error = %with_causes(&error), "cannot set TCP_NODELAY");
    }
    Ok(stream)
}

fn no_address(settings: &MqttSettings) -> Failure {
    reason::name_not_found(&settings.broker_host, &"the name server returned no address")
}

/// Explains that the stage in progress timed out.
pub fn timed_out(settings: &MqttSettings, stage: Option<Stage>) -> Failure {
    reason::timed_out(&settings.broker(), settings.connect_timeout_seconds, stage)
}

/// Returns the connect timeout from the settings.
pub fn connect_timeout(settings: &MqttSettings) -> Duration {
    Duration::from_secs(settings.connect_timeout_seconds.into())
}

#[cfg(test)]
mod tests;
