//! WebSockets: the upgrade, and MQTT's bytes in frames (MQTT 5 section 6).

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

/// The subprotocol that stands for MQTT.
const MQTT: &str = "mqtt";

/// The largest frame, and message, that is taken: far more than acknowledgements and what is subscribed to need.
const MAX_MESSAGE: usize = 1024 * 1024;

/// Small: what comes in is small, and what goes out is written in batches.
const BUFFER: usize = 16 * 1024;

/// Asks for a WebSocket at the settings' path, and has MQTT in its frames from then on.
pub async fn upgrade(settings: &MqttSettings, stream: Stream, way: &Route) -> Result<Frames, Failure> {
    let scheme = if settings.use_tls { "wss" } else { "ws" };
    let (broker, path) = (settings.broker(), &settings.websocket_path);
    let uri: Uri = format!("{scheme}://{broker}{path}").parse().map_err(|_| {
        let message = format!("{path:?} at {broker} makes no URL. Check broker_host and websocket_path.");
        Failure::new(FailureKind::Protocol, message)
    })?;
    let request = ClientRequestBuilder::new(uri).with_sub_protocol(MQTT);
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let (stream, first) = Recorded::new(stream);
    match client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => Ok(Frames { socket, rest: Bytes::new() }),
        Err(error) => {
            if let tungstenite::Error::Io(error) = &error
                && let Some(failure) = way.explain_early(error)
            {
                return Err(failure);
            }
            // Only where nothing at all was said, it is asked.
            let is_silent = first.bytes().is_empty() && !matches!(error, tungstenite::Error::Http(_));
            if is_silent && let Some(failure) = way.wants_tls().await {
                return Err(failure);
            }
            Err(refused(error, first.bytes(), settings, way))
        }
    }
}

fn refused(error: tungstenite::Error, first: &[u8], settings: &MqttSettings, way: &Route) -> Failure {
    let (broker, path) = (settings.broker(), &settings.websocket_path);
    let protocol = |message: String| Failure::new(FailureKind::Protocol, message);
    match error {
        tungstenite::Error::Http(response) => of_status(&response, settings),
        tungstenite::Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => protocol(format!(
            "{broker} opens a WebSocket at {path}, but not for MQTT (it does not agree to the subprotocol \"{MQTT}\"). Check \
             websocket_path."
        )),
        error => match PeerKind::of(first) {
            PeerKind::Tls => way.tls_expected(),
            PeerKind::Text(words) => {
                protocol(format!("{broker} answers {words:?}: that is no web server. Check broker_port."))
            }
            PeerKind::Other if first.is_empty() => protocol(format!(
                "{broker} closed the connection instead of opening a WebSocket. If this is the port of MQTT over TCP, set \
                 transport to \"tcp\"; else check broker_port."
            )),
            PeerKind::Http { .. } | PeerKind::Other => {
                protocol(format!("{broker} does not open a WebSocket at {path} ({error})."))
            }
        },
    }
}

/// What an answer means that is not *Switching Protocols*.
fn of_status(response: &Response<Option<Vec<u8>>>, settings: &MqttSettings) -> Failure {
    let (broker, path) = (settings.broker(), &settings.websocket_path);
    let status = response.status();
    let body = response.body().as_deref().unwrap_or_default();
    let wants_tls = String::from_utf8_lossy(body).to_ascii_lowercase().contains("https");
    let (kind, message) = match status {
        StatusCode::BAD_REQUEST if wants_tls && !settings.use_tls => {
            (FailureKind::Tls, format!("{broker} expects TLS (it asks for HTTPS). Set use_tls to true."))
        }
        StatusCode::NOT_FOUND => (
            FailureKind::Protocol,
            format!(
                "{broker} has no WebSocket at {path} (404). Set websocket_path as the broker has it; usual are /mqtt, / and \
                 /ws."
            ),
        ),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (
            FailureKind::NotAuthorized,
            format!(
                "The web server at {broker} does not permit the WebSocket at {path} ({status}); it asks for a login of its \
                 own, before MQTT's."
            ),
        ),
        status if status.is_redirection() => {
            let to = response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("?");
            (
                FailureKind::Protocol,
                format!(
                    "{broker} redirects {path} to {to:?}. Set broker_host, broker_port and websocket_path to where it leads."
                ),
            )
        }
        status if status.is_server_error() => (
            FailureKind::Refused,
            format!("The web server at {broker} answers {status}: the broker behind it seems to be away."),
        ),
        status => (
            FailureKind::Protocol,
            format!(
                "An HTTP server answers at {broker}, but opens no WebSocket at {path} ({status}). Check broker_port and \
                 websocket_path."
            ),
        ),
    };
    Failure::new(kind, message)
}

/// A WebSocket as a stream of bytes.
#[derive(Debug)]
pub struct Frames {
    socket: WebSocketStream<Recorded<Stream>>,
    /// What of a frame was not read yet.
    rest: Bytes,
}

impl AsyncRead for Frames {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::Error::other(Failure::new(
                        FailureKind::Protocol,
                        "The WebSocket brings text, which MQTT never does. Check websocket_path.",
                    ))));
                }
                Some(Err(error)) => return Poll::Ready(ended(error)),
            }
        }
        let part = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..part]);
        self.rest.advance(part);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Frames {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    /// One frame for all.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut socket = Pin::new(&mut self.socket);
        ready!(socket.as_mut().poll_ready(cx)).map_err(broken)?;
        let mut frame = Vec::with_capacity(bufs.iter().map(|buf| buf.len()).sum());
        for buf in bufs {
            frame.extend_from_slice(buf);
        }
        let length = frame.len();
        socket.start_send(Message::Binary(frame.into())).map_err(broken)?;
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(broken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(broken)
    }
}

/// The end of a WebSocket is the end of the stream, also one without the closing handshake.
fn ended(error: tungstenite::Error) -> io::Result<()> {
    match error {
        tungstenite::Error::ConnectionClosed
        | tungstenite::Error::AlreadyClosed
        | tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Ok(()),
        error => Err(broken(error)),
    }
}

fn broken(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            io::ErrorKind::ConnectionAborted.into()
        }
        error => io::Error::other(Failure::new(
            FailureKind::Protocol,
            format!("The WebSocket brings what is not permitted there ({error})."),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::reason;

    #[test]
    fn every_answer_that_is_no_upgrade_says_what_to_do() {
        let settings = MqttSettings { broker_host: "b".to_owned(), ..MqttSettings::defaults("c") };
        for (status, body, kind, words) in [
            (404, "", FailureKind::Protocol, "websocket_path"),
            (400, "", FailureKind::Protocol, "An HTTP server"),
            (400, "The plain HTTP request was sent to HTTPS port", FailureKind::Tls, "use_tls"),
            (426, "", FailureKind::Protocol, "426"),
            (200, "", FailureKind::Protocol, "opens no WebSocket"),
            (401, "", FailureKind::NotAuthorized, "login of its own"),
            (403, "", FailureKind::NotAuthorized, "does not permit"),
            (301, "", FailureKind::Protocol, "\"https://b/ws\""),
            (502, "", FailureKind::Refused, "away"),
        ] {
            let response = Response::builder().status(status).header("location", "https://b/ws");
            let response = response.body(Some(body.as_bytes().to_vec())).unwrap();
            let failure = of_status(&response, &settings);
            assert_eq!(failure.kind, kind, "{status}");
            assert!(failure.message.contains(words), "{}", failure.message);
        }
    }

    #[test]
    fn a_lost_socket_is_the_end_of_the_stream() {
        ended(tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)).unwrap();
        let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
        let error = ended(tungstenite::Error::Io(reset())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(reason::of_io(&error, "b:80").kind, FailureKind::Closed);
    }
}
