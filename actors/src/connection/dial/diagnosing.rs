//! The stream that the MQTT client uses. Until the broker answers the login, it examines unexpected
//! responses.
//!
//! A client that gets *connection reset by peer* cannot know that the port expects TLS, or that the broker
//! requires a client certificate. This stream sees the bytes and can determine the cause. It wraps the
//! result, a [`Failure`], in the I/O error, so that every client passes it on.

use std::{
    fmt,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    time::timeout,
};

use super::{
    Stream,
    first_bytes::PeerKind,
    handshake::{Handshake, tls_error},
    tls, tls_reason,
};
use crate::domain::status::{Failure, FailureKind};

/// How long to wait for a port to show whether it expects TLS.
const TLS_CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// How a stream was opened.
#[derive(Debug, Clone)]
pub struct Route {
    /// `host:port`.
    pub broker: String,
    /// The host name, for TLS.
    pub host: String,
    /// The broker's address.
    pub address: SocketAddr,
    /// The TLS handshake; `None` if the connection is not encrypted.
    pub handshake: Option<Handshake>,
    /// Whether MQTT is sent over a WebSocket. In this case, the kind of port is already known.
    pub is_websocket: bool,
}

impl Route {
    /// Explains that the port expects TLS but the connection is not encrypted.
    pub fn tls_expected(&self) -> Failure {
        let message = format!(
            "{} expects TLS on this port. Set use_tls to true, or use the port without TLS.",
            self.broker
        );
        Failure::new(FailureKind::Tls, message)
    }

    /// Checks whether a port that closed the connection without a response expects TLS, by sending it the
    /// beginning of a handshake on a new connection. Returns `None` if the connection was already encrypted.
    pub async fn check_tls_expected(&self) -> Option<Failure> {
        if self.handshake.is_some() {
            return None;
        }
        timeout(TLS_CHECK_TIMEOUT, speaks_tls(self.address, &self.host))
            .await
            .ok()?
            .ok()?
            .then(|| self.tls_expected())
    }

    /// Explains a TLS error.
    fn explain(&self, error: &io::Error) -> Option<Failure> {
        let handshake = self.handshake.as_ref()?;
        tls_error(error).map(|error| tls_reason::explain(error, handshake))
    }

    /// Explains an error that occurred before the login was answered. With TLS 1.3, a broker verifies the
    /// client certificate only at that point, and its alert may be lost if it resets the connection.
    pub fn explain_early(&self, error: &io::Error) -> Option<Failure> {
        let is_reset = matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted
        );
        self.explain(error).or_else(|| {
            let handshake = self
                .handshake
                .as_ref()
                .filter(|handshake| is_reset && handshake.observations.client_certificate_requested())?;
            Some(tls_reason::client_certificate_rejected(None, handshake))
        })
    }

    /// Explains the first bytes if the server is not an MQTT broker.
    fn not_mqtt(&self, first: &[u8]) -> Option<Failure> {
        let broker = &self.broker;
        let protocol = |message: String| Failure::new(FailureKind::Protocol, message);
        match PeerKind::from_bytes(first) {
            PeerKind::Tls if self.handshake.is_none() => Some(self.tls_expected()),
            PeerKind::Http { wants_tls: true } if self.handshake.is_none() => Some(protocol(format!(
                "{broker} is an HTTPS server, not an MQTT broker. MQTT usually uses port 1883, or 8883 with \
                 TLS. For MQTT over WebSockets, set transport to \"websocket\" and use_tls to true."
            ))),
            PeerKind::Http { .. } => Some(protocol(format!(
                "{broker} is an HTTP server, not an MQTT broker. MQTT usually uses port 1883, or 8883 with \
                 TLS. For MQTT over WebSockets, set transport to \"websocket\"."
            ))),
            PeerKind::Text(greeting) => Some(protocol(format!(
                "{broker} is not an MQTT broker: it responds with {greeting:?}. Check broker_port."
            ))),
            PeerKind::Tls | PeerKind::Other => None,
        }
    }
}

async fn speaks_tls(address: SocketAddr, host: &str) -> io::Result<bool> {
    let hello = tls::client_hello(host).or_else(|| tls::client_hello("localhost")).unwrap_or_default();
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&hello).await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    Ok(PeerKind::from_bytes(&answer) == PeerKind::Tls)
}

type TlsCheck = Pin<Box<dyn Future<Output = Option<Failure>> + Send + Sync>>;

enum State {
    /// Nothing has arrived yet.
    Waiting,
    /// The connection ended before anything arrived. The cause is being checked.
    Checking(TlsCheck, Option<io::Error>),
    /// Something arrived: everything passes through.
    PassThrough,
}

/// See the module's documentation.
pub struct DiagnosingStream {
    inner: Stream,
    route: Route,
    state: State,
}

impl fmt::Debug for DiagnosingStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiagnosingStream").field("route", &self.route).finish_non_exhaustive()
    }
}

impl DiagnosingStream {
    /// Wraps a stream that was opened as `route` describes.
    pub fn new(inner: Stream, route: Route) -> Self {
        Self { inner, route, state: State::Waiting }
    }

    fn pass_through(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.inner).poll_read(cx, buf)) {
            Err(error) => Poll::Ready(match self.route.explain(&error) {
                Some(failure) => Err(io::Error::other(failure)),
                None => end_of_stream(error),
            }),
            Ok(()) => Poll::Ready(Ok(())),
        }
    }

    /// Reads the first bytes. Returns `None` if the connection ended and the cause must be checked.
    fn read_first(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Option<io::Result<()>>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        let first = &buf.filled()[before..];
        if result.is_ok() && !first.is_empty() {
            self.state = State::PassThrough;
            return Poll::Ready(Some(
                self.route.not_mqtt(first).map_or(Ok(()), |failure| Err(io::Error::other(failure))),
            ));
        }
        let error = match result.err().map(|error| (self.route.explain_early(&error), error)) {
            Some((Some(failure), _)) => {
                self.state = State::PassThrough;
                return Poll::Ready(Some(Err(io::Error::other(failure))));
            }
            Some((None, error)) => end_of_stream(error).err(),
            None => None,
        };
        let route = self.route.clone();
        let check = async move { if route.is_websocket { None } else { route.check_tls_expected().await } };
        self.state = State::Checking(Box::pin(check), error);
        Poll::Ready(None)
    }
}

/// Treats an unexpected end of TLS as a normal end of the stream: many brokers do not send `close_notify`,
/// and MQTT does not need it to detect truncated packets.
fn end_of_stream(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::UnexpectedEof { Ok(()) } else { Err(error) }
}

impl AsyncRead for DiagnosingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match &mut self.state {
                State::PassThrough => return self.pass_through(cx, buf),
                State::Checking(check, error) => {
                    let failure = ready!(check.as_mut().poll(cx));
                    let error = failure.map(io::Error::other).or(error.take());
                    self.state = State::PassThrough;
                    return Poll::Ready(error.map_or(Ok(()), Err));
                }
                State::Waiting => {
                    if let Some(read) = ready!(self.read_first(cx, buf)) {
                        return Poll::Ready(read);
                    }
                }
            }
        }
    }
}

impl DiagnosingStream {
    /// Hides write errors until something has been read. Until then, the read side determines the cause.
    fn hide_early_error<T>(&self, result: io::Result<T>, fallback: T) -> io::Result<T> {
        match self.state {
            State::PassThrough => result,
            State::Waiting | State::Checking(..) => Ok(result.unwrap_or(fallback)),
        }
    }
}

impl AsyncWrite for DiagnosingStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf));
        Poll::Ready(self.hide_early_error(written, buf.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs));
        Poll::Ready(self.hide_early_error(written, bufs.iter().map(|buf| buf.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.inner).poll_flush(cx));
        Poll::Ready(self.hide_early_error(flushed, ()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
