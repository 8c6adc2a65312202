//! A client's connection, plain or with TLS, which can be ended from outside.
//!
//! The HTTP server of actix has a deadline only for the first request head of a connection. This wrapper lets
//! the table of [`Connections`](super::connections::Connections) end a connection at any time: reads and
//! writes then fail, and the server drops the connection.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actix_http::{Protocol, error::DispatchError};
use actix_web::rt::net::TcpStream;
use liveobject_actors::domain::causes::with_causes;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::connections::{Connection, Connections, Place};

/// How long a client may read nothing. Without this limit, a stream or a picture would wait forever for a client that
/// is gone or stuck.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// After this time without data, the kernel checks whether the client still exists.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Gives a new connection a place, and performs the TLS handshake if there is an acceptor.
pub(super) async fn accept(
    connections: Connections,
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
) -> Result<(Transport, Protocol, Option<SocketAddr>), DispatchError> {
    let peer = stream.peer_addr()?;
    let Some(place) = connections.admit(peer.ip(), tls.is_some(), Instant::now()) else {
        return Err(ended().into());
    };
    if let Err(error) = configure(&stream) {
        tracing::debug!(error = %with_causes(&error), "cannot set the options of a connection");
    }
    let connection = Arc::clone(&place.connection);
    let stream = Watched { stream, place };
    let transport = match tls {
        Some(acceptor) => Transport::Tls(Box::new(acceptor.accept(stream).await?)),
        None => Transport::Plain(stream),
    };
    connection.expect_head(Instant::now());
    Ok((transport, Protocol::Http1, Some(peer)))
}

fn configure(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(WRITE_TIMEOUT))?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)
}

/// Returns the error of a connection that the service closed or did not admit.
fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the service closed the connection")
}

/// A connection with or without TLS.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(Watched),
    Tls(Box<TlsStream<Watched>>),
}

impl Transport {
    pub(super) fn connection(&self) -> &Arc<Connection> {
        match self {
            Self::Plain(stream) => &stream.place.connection,
            Self::Tls(stream) => &stream.get_ref().0.place.connection,
        }
    }
}

/// A TCP stream that fails once its connection has been closed in the table.
#[derive(Debug)]
pub(super) struct Watched {
    stream: TcpStream,
    place: Place,
}

impl Watched {
    /// Polls the stream, unless the connection has to end.
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let connection = &self.place.connection;
        if connection.is_closed() {
            return Poll::Ready(Err(ended()));
        }
        let polled = poll(Pin::new(&mut self.stream), cx);
        if polled.is_pending() {
            connection.wake_on_close(cx.waker());
            if connection.is_closed() {
                return Poll::Ready(Err(ended()));
            }
        }
        polled
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = self.poll(cx, |stream, cx| stream.poll_read(cx, buf));
        if buf.filled().len() > before {
            self.place.connection.received(Instant::now());
        } else if polled.is_ready() && buf.remaining() > 0 {
            self.place.connection.end_input();
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(cx, |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, AsyncWrite::poll_shutdown)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(cx, |stream, cx| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
