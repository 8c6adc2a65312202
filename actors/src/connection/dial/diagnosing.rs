//! The stream that the MQTT client gets: until the broker has answered the login, it looks at what comes instead.
//!
//! A client that is told *reset by peer* cannot know that the port expects TLS, or that the broker wants a certificate:
//! those who see the bytes can. What they find travels inside the error, as a [`Failure`], whichever client reads it.

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
    tls,
    tls_reason::{self, Handshake},
};
use crate::domain::status::{Failure, FailureKind};

/// How long a port may take to answer whether it speaks TLS.
const ANSWER: Duration = Duration::from_secs(1);

/// The way that a stream was opened.
#[derive(Debug, Clone)]
pub struct Route {
    /// `host:port`.
    pub broker: String,
    /// The name that TLS would be asked for.
    pub host: String,
    /// Where it leads.
    pub address: SocketAddr,
    /// How it was encrypted; `None`: it was not.
    pub handshake: Option<Handshake>,
    /// Whether MQTT travels in a WebSocket: what the port speaks is known then.
    pub is_websocket: bool,
}

impl Route {
    /// The port expects TLS, and got none.
    pub fn tls_expected(&self) -> Failure {
        let message = format!(
            "{} expects TLS on this port. Set use_tls to true, or take the port without TLS.",
            self.broker
        );
        Failure::new(FailureKind::Tls, message)
    }

    /// Asks a port that closed without a word whether it speaks TLS: it is sent the beginning of a handshake, and nothing
    /// else. Only where the connection was not encrypted.
    pub async fn wants_tls(&self) -> Option<Failure> {
        if self.handshake.is_some() {
            return None;
        }
        timeout(ANSWER, speaks_tls(self.address, &self.host)).await.ok()?.ok()?.then(|| self.tls_expected())
    }

    /// What TLS has to say of an error.
    fn explain(&self, error: &io::Error) -> Option<Failure> {
        let handshake = self.handshake.as_ref()?;
        tls::inside(error).map(|error| tls_reason::of_error(error, handshake))
    }

    /// The same, before the login was answered. With TLS 1.3 a broker judges our certificate only then, and its verdict may
    /// be lost in the reset that follows.
    pub fn explain_early(&self, error: &io::Error) -> Option<Failure> {
        let is_reset = matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted
        );
        self.explain(error).or_else(|| {
            let handshake = self.handshake.as_ref().filter(|it| is_reset && it.witness.was_asked())?;
            Some(tls_reason::not_accepted(None, handshake))
        })
    }

    /// What speaks here, when it is not MQTT.
    fn foreign(&self, first: &[u8]) -> Option<Failure> {
        let broker = &self.broker;
        let protocol = |message: String| Failure::new(FailureKind::Protocol, message);
        match PeerKind::of(first) {
            PeerKind::Tls if self.handshake.is_none() => Some(self.tls_expected()),
            PeerKind::Http { wants_tls: true } if self.handshake.is_none() => Some(protocol(format!(
                "An HTTPS server answers at {broker}, not an MQTT broker: MQTT is usually on port 1883, with TLS on 8883. For \
                 MQTT over WebSockets set transport to \"websocket\" and use_tls to true."
            ))),
            PeerKind::Http { .. } => Some(protocol(format!(
                "An HTTP server answers at {broker}, not an MQTT broker: MQTT is usually on port 1883, with TLS on 8883. For \
                 MQTT over WebSockets set transport to \"websocket\"."
            ))),
            PeerKind::Text(words) => Some(protocol(format!(
                "{broker} answers {words:?}: that is no MQTT broker. Check broker_port."
            ))),
            PeerKind::Tls | PeerKind::Other => None,
        }
    }
}

async fn speaks_tls(address: SocketAddr, host: &str) -> io::Result<bool> {
    let hello = tls::hello(host).or_else(|| tls::hello("localhost")).unwrap_or_default();
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&hello).await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    Ok(PeerKind::of(&answer) == PeerKind::Tls)
}

type Question = Pin<Box<dyn Future<Output = Option<Failure>> + Send + Sync>>;

enum State {
    /// Nothing came yet.
    Waiting,
    /// It ended before anything came; why is asked.
    Asking(Question, Option<io::Error>),
    /// The client knows what it reads.
    Through,
}

/// See the module's documentation.
pub struct DiagnosingStream {
    inner: Stream,
    way: Route,
    state: State,
}

impl fmt::Debug for DiagnosingStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("way", &self.way).finish_non_exhaustive()
    }
}

impl DiagnosingStream {
    /// The stream, watched until something came.
    pub fn new(inner: Stream, way: Route) -> Self {
        Self { inner, way, state: State::Waiting }
    }

    fn read_through(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.inner).poll_read(cx, buf)) {
            Err(error) => Poll::Ready(match self.way.explain(&error) {
                Some(failure) => Err(io::Error::other(failure)),
                None => end_of_stream(error),
            }),
            Ok(()) => Poll::Ready(Ok(())),
        }
    }

    /// What came first; `None`: it ended, and why is being asked.
    fn read_first(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Option<io::Result<()>>> {
        let before = buf.filled().len();
        let ended = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        let first = &buf.filled()[before..];
        if ended.is_ok() && !first.is_empty() {
            self.state = State::Through;
            return Poll::Ready(Some(self.way.foreign(first).map_or(Ok(()), |it| Err(io::Error::other(it)))));
        }
        let error = match ended.err().map(|error| (self.way.explain_early(&error), error)) {
            Some((Some(failure), _)) => {
                self.state = State::Through;
                return Poll::Ready(Some(Err(io::Error::other(failure))));
            }
            Some((None, error)) => end_of_stream(error).err(),
            None => None,
        };
        let way = self.way.clone();
        let question = async move { if way.is_websocket { None } else { way.wants_tls().await } };
        self.state = State::Asking(Box::pin(question), error);
        Poll::Ready(None)
    }
}

/// Many brokers end TLS without saying so; MQTT knows by itself where its packets end.
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
                State::Through => return self.read_through(cx, buf),
                State::Asking(question, error) => {
                    let found = ready!(question.as_mut().poll(cx));
                    let error = found.map(io::Error::other).or(error.take());
                    self.state = State::Through;
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
    /// Before the login was answered, the reading side knows better than the writing side why it ended.
    fn written<T>(&self, written: io::Result<T>, instead: T) -> io::Result<T> {
        match self.state {
            State::Through => written,
            State::Waiting | State::Asking(..) => Ok(written.unwrap_or(instead)),
        }
    }
}

impl AsyncWrite for DiagnosingStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf));
        Poll::Ready(self.written(written, buf.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs));
        Poll::Ready(self.written(written, bufs.iter().map(|buf| buf.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.inner).poll_flush(cx));
        Poll::Ready(self.written(flushed, ()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
