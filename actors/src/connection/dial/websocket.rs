//! MQTT over WebSockets: the upgrade, and the frames that carry MQTT (MQTT 5 section 6).

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use futures_util::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self, ClientRequestBuilder, Message,
        error::ProtocolError,
        http::{Response, StatusCode, Uri, header},
        protocol::WebSocketConfig,
    },
};

use super::{
    Stream,
    diagnosing::Route,
    first_bytes::{PeerKind, Recorded},
};
use crate::domain::{
    settings::MqttSettings,
    status::{Failure, FailureKind},
};

/// The WebSocket subprotocol of MQTT.
const SUBPROTOCOL: &str = "mqtt";

/// Maximum size of an incoming frame or message; far more than acknowledgements and subscribed messages need.
const MAX_MESSAGE: usize = 1024 * 1024;

/// Size of the buffers. It is small, because incoming messages are small and outgoing ones are written in
/// batches.
const BUFFER: usize = 16 * 1024;

/// Upgrades the stream to a WebSocket at the configured path.
pub async fn upgrade(settings: &MqttSettings, stream: Stream, route: &Route) -> Result<Frames, Failure> {
    let scheme = if settings.use_tls { "wss" } else { "ws" };
    let (broker, path) = (settings.broker(), &settings.websocket_path);
    let uri: Uri = format!("{scheme}://{broker}{path}").parse().map_err(|_| {
        let message =
            format!("{path:?} at {broker} is not a valid URL. Check broker_host and websocket_path.");
        Failure::new(FailureKind::Protocol, message)
    })?;
    let request = ClientRequestBuilder::new(uri).with_sub_protocol(SUBPROTOCOL);
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let (stream, first) = Recorded::new(stream);
    match client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => Ok(Frames { socket, unread: Bytes::new() }),
        Err(error) => {
            if let tungstenite::Error::Io(error) = &error
                && let Some(failure) = route.explain_early(error)
            {
                return Err(failure);
            }
            // If the server sent nothing at all, it may expect TLS.
            let is_silent = first.bytes().is_empty() && !matches!(error, tungstenite::Error::Http(_));
            if is_silent && let Some(failure) = route.check_tls_expected().await {
                return Err(failure);
            }
            Err(upgrade_failure(error, first.bytes(), settings, route))
        }
    }
}

fn upgrade_failure(
    error: tungstenite::Error,
    first: &[u8],
    settings: &MqttSettings,
    route: &Route,
) -> Failure {
    let (broker, path) = (settings.broker(), &settings.websocket_path);
    let protocol = |message: String| Failure::new(FailureKind::Protocol, message);
    match error {
        tungstenite::Error::Http(response) => status_failure(&response, settings),
        tungstenite::Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => protocol(format!(
            "{broker} has a WebSocket at {path}, but not for MQTT (it does not accept the subprotocol \
             \"{SUBPROTOCOL}\"). Check websocket_path."
        )),
        error => match PeerKind::from_bytes(first) {
            PeerKind::Tls => route.tls_expected(),
            PeerKind::Text(greeting) => protocol(format!(
                "{broker} is not a web server: it responds with {greeting:?}. Check broker_port."
            )),
            PeerKind::Other if first.is_empty() => protocol(format!(
                "{broker} closed the connection instead of opening a WebSocket. If this is the port for MQTT \
                 over TCP, set transport to \"tcp\"; otherwise check broker_port."
            )),
            PeerKind::Http { .. } | PeerKind::Other => {
                protocol(format!("{broker} did not open a WebSocket at {path} ({error})."))
            }
        },
    }
}

/// Explains a response other than *101 Switching Protocols*.
fn status_failure(response: &Response<Option<Vec<u8>>>, settings: &MqttSettings) -> Failure {
    let (broker, path) = (settings.broker(), &settings.websocket_path);
    let status = response.status();
    let body = response.body().as_deref().unwrap_or_default();
    let wants_tls = String::from_utf8_lossy(body).to_ascii_lowercase().contains("https");
    let (kind, message) = match status {
        StatusCode::BAD_REQUEST if wants_tls && !settings.use_tls => {
            (FailureKind::Tls, format!("{broker} expects TLS (it requires HTTPS). Set use_tls to true."))
        }
        StatusCode::NOT_FOUND => (
            FailureKind::Protocol,
            format!(
                "{broker} has no WebSocket at {path} (404). Set websocket_path to the broker's path, usually \
                 /mqtt, / or /ws."
            ),
        ),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (
            FailureKind::NotAuthorized,
            format!(
                "The web server at {broker} refused the WebSocket at {path} ({status}). It requires a login \
                 of its own, before the MQTT login; this is not supported."
            ),
        ),
        status if status.is_redirection() => {
            let location = response.headers().get(header::LOCATION);
            let location = location.and_then(|location| location.to_str().ok()).unwrap_or("?");
            (
                FailureKind::Protocol,
                format!(
                    "{broker} redirects {path} to {location:?}. Set broker_host, broker_port and \
                     websocket_path to that address."
                ),
            )
        }
        status if status.is_server_error() => (
            FailureKind::Refused,
            format!("The web server at {broker} responds with {status}. Is the broker behind it running?"),
        ),
        status => (
            FailureKind::Protocol,
            format!(
                "{broker} is an HTTP server but does not open a WebSocket at {path} ({status}). Check \
                 broker_port and websocket_path."
            ),
        ),
    };
    Failure::new(kind, message)
}

/// A WebSocket as a stream of bytes.
#[derive(Debug)]
pub struct Frames {
    socket: WebSocketStream<Recorded<Stream>>,
    /// The part of a frame that has not been read yet.
    unread: Bytes,
}

impl AsyncRead for Frames {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.unread = bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::Error::other(Failure::new(
                        FailureKind::Protocol,
                        "The WebSocket sends text messages, which MQTT does not use. Check websocket_path.",
                    ))));
                }
                Some(Err(error)) => return Poll::Ready(end_or_error(error)),
            }
        }
        let length = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread[..length]);
        self.unread.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Frames {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    /// Writes all buffers as one frame.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut socket = Pin::new(&mut self.socket);
        ready!(socket.as_mut().poll_ready(cx)).map_err(to_io_error)?;
        let mut frame = Vec::with_capacity(bufs.iter().map(|buf| buf.len()).sum());
        for buf in bufs {
            frame.extend_from_slice(buf);
        }
        let length = frame.len();
        socket.start_send(Message::Binary(frame.into())).map_err(to_io_error)?;
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(to_io_error)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(to_io_error)
    }
}

/// Treats the end of the WebSocket as the end of the stream, even without a closing handshake.
fn end_or_error(error: tungstenite::Error) -> io::Result<()> {
    match error {
        tungstenite::Error::ConnectionClosed
        | tungstenite::Error::AlreadyClosed
        | tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Ok(()),
        error => Err(to_io_error(error)),
    }
}

fn to_io_error(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            io::ErrorKind::ConnectionAborted.into()
        }
        error => io::Error::other(Failure::new(
            FailureKind::Protocol,
            format!("The WebSocket connection violates its protocol ({error})."),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::reason;

    #[test]
    fn every_response_other_than_an_upgrade_explains_what_to_do() {
        let settings = MqttSettings { broker_host: "b".to_owned(), ..MqttSettings::defaults("c") };
        for (status, body, kind, words) in [
            (404, "", FailureKind::Protocol, "websocket_path"),
            (400, "", FailureKind::Protocol, "is an HTTP server"),
            (400, "The plain HTTP request was sent to HTTPS port", FailureKind::Tls, "use_tls"),
            (426, "", FailureKind::Protocol, "426"),
            (200, "", FailureKind::Protocol, "does not open a WebSocket"),
            (401, "", FailureKind::NotAuthorized, "login of its own"),
            (403, "", FailureKind::NotAuthorized, "refused the WebSocket"),
            (301, "", FailureKind::Protocol, "\"https://b/ws\""),
            (502, "", FailureKind::Refused, "Is the broker behind it running"),
        ] {
            let response = Response::builder().status(status).header("location", "https://b/ws");
            let response = response.body(Some(body.as_bytes().to_vec())).unwrap();
            let failure = status_failure(&response, &settings);
            assert_eq!(failure.kind, kind, "{status}");
            assert!(failure.message.contains(words), "{}", failure.message);
        }
    }

    #[test]
    fn a_lost_socket_is_the_end_of_the_stream() {
        end_or_error(tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)).unwrap();
        let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
        let error = end_or_error(tungstenite::Error::Io(reset())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(reason::io_error(&error, "b:80").kind, FailureKind::Closed);
    }
}
