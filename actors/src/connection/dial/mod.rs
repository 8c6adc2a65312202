//! From a name and a port to a stream that MQTT can be spoken on: TCP, perhaps TLS, perhaps a WebSocket, with a typed
//! failure for each way in which that can fail.
//!
//! Every address of the name is tried, in the resolver's order, all the way up: one that accepts connections but fails in
//! TLS or the WebSocket does not hide another one that works. What the broker answers to the login is not asked twice: a
//! wrong password is wrong at every address. When all fail, the failure of the address that led furthest is told.

mod diagnosing;
mod first_bytes;
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
    net::{TcpStream, lookup_host},
    time::{Instant, timeout, timeout_at},
};

use self::{
    diagnosing::{DiagnosingStream, Route},
    tls::Tls,
};
pub use self::{stages::Stages, tls::Secured};
use super::reason;
use crate::domain::{
    settings::{MqttSettings, Transport},
    status::Failure,
};

/// More addresses than this are not tried.
const MAX_ADDRESSES: usize = 16;

/// What MQTT can be spoken on.
pub trait Wire: AsyncRead + AsyncWrite + fmt::Debug + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + fmt::Debug + Send + Sync + Unpin> Wire for T {}

/// A stream, whatever it is made of.
pub type Stream = Box<dyn Wire>;

/// What carries one session: a stream that was opened before for it, if any, and what was found on the way.
#[derive(Debug, Clone, Default)]
pub struct SessionTransport(Arc<Mutex<Found>>);

#[derive(Debug, Default)]
struct Found {
    ready: Option<Stream>,
    secured: Option<Secured>,
}

impl SessionTransport {
    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next [`dial`] takes this stream.
    pub fn keep(&self, stream: Stream) {
        self.found().ready = Some(stream);
    }

    /// How the newest stream is encrypted; `None` when it is not.
    pub fn secured(&self) -> Option<Secured> {
        self.found().secured.clone()
    }
}

/// A stream as the MQTT client's connector wants it: the failure travels inside the error.
pub async fn dial(settings: &MqttSettings, line: &SessionTransport) -> Result<Stream, io::Error> {
    let ready = line.found().ready.take();
    if let Some(stream) = ready {
        return Ok(stream);
    }
    open(settings, line, &mut Stages::default()).await.map_err(io::Error::other)
}

/// Goes all the way within the settings' connect timeout, stage by stage; each address gets an equal share of what is left.
pub async fn open(
    settings: &MqttSettings,
    line: &SessionTransport,
    stages: &mut Stages,
) -> Result<Stream, Failure> {
    let deadline = Instant::now() + connect_timeout(settings);
    let addresses = resolve(settings, stages).await?;
    open_any(settings, &addresses, deadline, line, stages).await
}

/// The first of these addresses that leads all the way.
async fn open_any(
    settings: &MqttSettings,
    addresses: &[SocketAddr],
    deadline: Instant,
    line: &SessionTransport,
    stages: &mut Stages,
) -> Result<Stream, Failure> {
    let tls = if settings.use_tls { Some(Tls::new(settings).await) } else { None };
    let (resolved, mut tried, mut furthest) = (stages.clone(), Vec::new(), None::<(Stages, Failure)>);
    for (i, address) in addresses.iter().enumerate() {
        *stages = resolved.clone();
        let left = u32::try_from(addresses.len() - i).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        let way = open_address(settings, *address, tls.clone(), line, stages, &tried);
        let failure = match timeout_at(Instant::now() + share, way).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(failure)) => failure,
            Err(_) => timed_out(settings, stages.current()),
        };
        tried.push(format!("{address}: {}", failure.kind));
        if furthest.as_ref().is_none_or(|(stages_there, _)| stages_there.passed() <= stages.passed()) {
            furthest = Some((stages.clone(), failure));
        }
    }
    let (furthest, failure) = furthest.ok_or_else(|| no_address(settings))?;
    *stages = furthest;
    Err(failure)
}

/// The broker's addresses, IPv6 and IPv4 as the resolver orders them.
async fn resolve(settings: &MqttSettings, stages: &mut Stages) -> Result<Vec<SocketAddr>, Failure> {
    stages.begin("resolve");
    let host = settings.broker_host.as_str();
    let found = timeout(connect_timeout(settings), lookup_host((host, settings.broker_port)));
    let addresses: Vec<_> = match found.await {
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

/// All layers over one address.
async fn open_address(
    settings: &MqttSettings,
    address: SocketAddr,
    tls: Option<Result<Tls, Failure>>,
    line: &SessionTransport,
    stages: &mut Stages,
    tried: &[String],
) -> Result<Stream, Failure> {
    stages.begin("connect");
    let tcp = connect(settings, address).await?;
    let before = if tried.is_empty() { String::new() } else { format!(" (before: {})", tried.join(", ")) };
    stages.pass(format!("connected to {address}{before}"));
    let mut way = Route {
        broker: settings.broker(),
        host: settings.broker_host.clone(),
        address,
        handshake: None,
        is_websocket: settings.transport == Transport::Websocket,
    };
    let stream: Stream = match tls {
        None => {
            line.found().secured = None;
            Box::new(tcp)
        }
        Some(tls) => {
            stages.begin("tls");
            let (stream, secured) = tls?.secure(tcp).await?;
            stages.pass(secured.to_string());
            way.handshake = Some(secured.handshake.clone());
            line.found().secured = Some(secured);
            Box::new(stream)
        }
    };
    let stream: Stream = match settings.transport {
        Transport::Tcp => stream,
        Transport::Websocket => {
            // The first thing that is asked of the broker itself.
            stages.begin("login");
            Box::new(websocket::upgrade(settings, stream, &way).await?)
        }
    };
    Ok(Box::new(DiagnosingStream::new(stream, way)))
}

async fn connect(settings: &MqttSettings, address: SocketAddr) -> Result<TcpStream, Failure> {
    let stream =
        TcpStream::connect(address).await.map_err(|error| reason::of_io(&error, &settings.broker()))?;
    // Without it the tail of small messages waits for the peer's delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    Ok(stream)
}

fn no_address(settings: &MqttSettings) -> Failure {
    reason::name_not_found(&settings.broker_host, &"the answer was empty")
}

/// Nothing came in the stage that was under way.
pub fn timed_out(settings: &MqttSettings, stage: Option<&str>) -> Failure {
    reason::timed_out(&settings.broker(), settings.connect_timeout_seconds, stage)
}

/// The settings' connect timeout.
pub fn connect_timeout(settings: &MqttSettings) -> Duration {
    Duration::from_secs(settings.connect_timeout_seconds.into())
}

#[cfg(test)]
mod tests;
