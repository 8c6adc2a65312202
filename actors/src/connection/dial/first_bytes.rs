//! Recognizes a server by the first bytes that it sends.

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many bytes are recorded.
const MAX_RECORDED: usize = 512;

/// How many characters of an unknown greeting are shown.
const MAX_GREETING: usize = 40;

/// The first bytes that a server sent.
#[derive(Debug, Clone, Default)]
pub struct FirstBytes(Arc<OnceLock<Vec<u8>>>);

impl FirstBytes {
    /// Returns the bytes; empty if none have arrived.
    pub fn bytes(&self) -> &[u8] {
        self.0.get().map_or(&[], Vec::as_slice)
    }

    fn record(&self, bytes: &[u8]) {
        if !bytes.is_empty() && self.0.get().is_none() {
            let recorded = bytes.get(..MAX_RECORDED).unwrap_or(bytes).to_vec();
            self.0.get_or_init(|| recorded);
        }
    }
}

/// The kind of a server, recognized by its first bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerKind {
    /// An HTTP server; whether its response asks for HTTPS.
    Http { wants_tls: bool },
    /// TLS: an alert or a handshake.
    Tls,
    /// A server with a text greeting.
    Text(String),
    /// Any other server, including an MQTT broker.
    Other,
}

impl PeerKind {
    /// Recognizes the server that sent these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        match bytes {
            [b'H', b'T', b'T', b'P', b'/', ..] => {
                let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
                Self::Http { wants_tls: text.contains("https") }
            }
            // RFC 8446 section 5.1: alert (21) or handshake (22), and a version that begins with 3.
            [0x15 | 0x16, 0x03, ..] => Self::Tls,
            // An MQTT CONNACK begins with the byte of a space, which is not graphic.
            [first, ..] if first.is_ascii_graphic() => match greeting(bytes) {
                Some(greeting) => Self::Text(greeting),
                None => Self::Other,
            },
            _ => Self::Other,
        }
    }
}

/// Returns the first line if it is readable text.
fn greeting(bytes: &[u8]) -> Option<String> {
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    let is_text = line.len() >= 4 && line.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    is_text.then(|| String::from_utf8_lossy(line).chars().take(MAX_GREETING).collect())
}

/// A stream that records the first bytes it reads.
#[derive(Debug)]
pub struct Recorded<S> {
    inner: S,
    first: FirstBytes,
}

impl<S> Recorded<S> {
    /// Wraps the stream. Returns it together with the record of its first bytes.
    pub fn new(inner: S) -> (Self, FirstBytes) {
        let first = FirstBytes::default();
        (Self { inner, first: first.clone() }, first)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Recorded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.first.record(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Recorded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_recognized_by_its_first_bytes() {
        let text = |text: &str| PeerKind::Text(text.to_owned());
        for (bytes, kind) in [
            (b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(), PeerKind::Http { wants_tls: false }),
            (
                b"HTTP/1.0 400 Bad Request\r\n\r\nplain HTTP sent to HTTPS port",
                PeerKind::Http { wants_tls: true },
            ),
            (&[0x15, 3, 1, 0, 2, 2, 70], PeerKind::Tls),
            (&[0x16, 3, 3, 0, 90], PeerKind::Tls),
            (b"SSH-2.0-OpenSSH_9.2p1\r\n", text("SSH-2.0-OpenSSH_9.2p1")),
            (b"220 mail.example.org ESMTP", text("220 mail.example.org ESMTP")),
            (&[0x20, 3, 0, 0, 0], PeerKind::Other),
            (&[0x20, 2, 0, 1], PeerKind::Other),
            (&[], PeerKind::Other),
            (&[b'a', 0, 1, 2, 3], PeerKind::Other),
        ] {
            assert_eq!(PeerKind::from_bytes(bytes), kind, "{bytes:?}");
        }
    }
}
