//! Reads request bodies, bounded in size and time. JSON bodies are accepted with any content type; a foreign
//! web page cannot exploit that, because it has no token.

use std::{future::Future, pin::Pin, sync::Arc};

use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    http::{
        StatusCode,
        header::{CONTENT_ENCODING, CONTENT_LENGTH},
    },
    web::{Bytes, BytesMut, Data},
};
use futures_util::StreamExt as _;
use liveobject_actors::domain::image::MAX_THUMBNAIL_BYTES;
use serde_json::Value;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{
    budget::{Progress, Share},
    connections::Connection,
    problem::Problem,
    state::{ApiState, Work},
};

/// Maximum size of one event.
pub(super) const EVENT_BYTES: usize = 64 * 1024;
/// Maximum batch size.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Maximum size of the settings, which contain up to three PEM strings.
pub(super) const SETTINGS_BYTES: usize = 256 * 1024;

type BodyFuture<T> = Pin<Box<dyn Future<Output = Result<T, Problem>>>>;

/// A JSON body of at most `MAX` bytes.
#[derive(Debug)]
pub(super) struct Json<const MAX: usize>(pub(super) Value);

impl<const MAX: usize> FromRequest for Json<MAX> {
    type Error = Problem;
    type Future = BodyFuture<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = Incoming::new(request, payload, MAX).read();
        Box::pin(async move { parse(&body.await?).map(Self) })
    }
}

/// A JSON body of at most `MAX` bytes. `null` and an empty body both become `None`.
#[derive(Debug)]
pub(super) struct OptionalJson<const MAX: usize>(pub(super) Option<Value>);

impl<const MAX: usize> FromRequest for OptionalJson<MAX> {
    type Error = Problem;
    type Future = BodyFuture<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = Incoming::new(request, payload, MAX).read();
        Box::pin(async move {
            let body = body.await?;
            let none = without_bom(&body).trim_ascii().is_empty();
            let value = if none { Value::Null } else { parse(&body)? };
            Ok(Self(Some(value).filter(|value| !value.is_null())))
        })
    }
}

/// A batch, unparsed.
#[derive(Debug)]
pub(super) struct BatchBody(pub(super) LimitedBody);

impl FromRequest for BatchBody {
    type Error = Problem;
    type Future = BodyFuture<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = Incoming::new(request, payload, BATCH_BYTES).read_for(Work::ReadBatch);
        Box::pin(async move { body.await.map(Self) })
    }
}

/// A picture.
#[derive(Debug)]
pub(super) struct PictureBody(pub(super) LimitedBody);

impl FromRequest for PictureBody {
    type Error = Problem;
    type Future = BodyFuture<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = Incoming::new(request, payload, MAX_THUMBNAIL_BYTES).read_for(Work::ReceivePicture);
        Box::pin(async move { body.await.map(Self) })
    }
}

/// Maximum size of an event with its picture: 2 MiB in base64, and the event.
const SUBMISSION_BYTES: usize = 3 * 1024 * 1024;

/// An event, unparsed, perhaps with its picture. An event alone needs no share of the memory for pictures.
#[derive(Debug)]
pub(super) struct SubmissionBody(pub(super) LimitedBody);

impl FromRequest for SubmissionBody {
    type Error = Problem;
    type Future = BodyFuture<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = Incoming::new(request, payload, SUBMISSION_BYTES);
        let body = body.receive_in_time(Some(Work::ReceivePicture), EVENT_BYTES);
        Box::pin(async move { body.await.map(Self) })
    }
}

/// A large body. It holds a share of the memory for such bodies, unless it is empty.
#[derive(Debug)]
pub(super) struct LimitedBody {
    pub(super) bytes: Bytes,
    _share: Option<Share>,
}

pub(super) fn parse(body: &[u8]) -> Result<Value, Problem> {
    serde_json::from_slice(without_bom(body)).map_err(Problem::not_json)
}

/// Removes the byte order mark that some Windows programs put before UTF-8. A parser may ignore it (RFC 8259,
/// section 8.1).
pub(super) fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// A body that has not been read yet.
struct Incoming {
    state: Data<ApiState>,
    connection: Option<Arc<Connection>>,
    payload: Payload,
    max: usize,
    is_encoded: bool,
    /// The value of `Content-Length`.
    announced: Option<u64>,
}

impl Incoming {
    fn new(request: &HttpRequest, payload: &mut Payload, max: usize) -> Self {
        let headers = request.headers();
        let encoding = headers.get(CONTENT_ENCODING);
        Self {
            state: request.app_data::<Data<ApiState>>().cloned().expect("the server has its state"),
            connection: request.conn_data::<Arc<Connection>>().cloned(),
            payload: payload.take(),
            max,
            is_encoded: encoding.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")),
            announced: headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()),
        }
    }

    async fn read(self) -> Result<Bytes, Problem> {
        Ok(self.receive_in_time(None, 0).await?.bytes)
    }

    /// Reads a body that needs a share of the memory for `work`. The share is taken when the first bytes
    /// arrive, and given up if the sender is stuck while others wait.
    async fn read_for(self, work: Work) -> Result<LimitedBody, Problem> {
        self.receive_in_time(Some(work), 0).await
    }

    /// Like [`read_for`](Self::read_for), but the share is taken when more than `free` bytes have arrived.
    async fn receive_in_time(mut self, work: Option<Work>, free: usize) -> Result<LimitedBody, Problem> {
        if self.is_encoded {
            let detail = "the body must not be compressed";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        if self.announced.is_some_and(|length| length > self.max as u64) {
            return Err(Problem::too_large(self.max));
        }
        if let Some(connection) = &self.connection {
            connection.begin_body(Instant::now());
        }
        // A sender that trickles its body must not occupy a connection forever.
        let within = self.state.connections.limits().body_timeout;
        let received = timeout(within, self.receive(work, free)).await.unwrap_or_else(|_| {
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body was not received in time"))
        });
        if let Some(connection) = &self.connection {
            connection.end_body(received.is_ok(), Instant::now());
        }
        received
    }

    async fn receive(&mut self, work: Option<Work>, free: usize) -> Result<LimitedBody, Problem> {
        let mut bytes = BytesMut::new();
        let mut held: Option<Held> = None;
        loop {
            let chunk = match &mut held {
                Some(held) => tokio::select! {
                    biased;
                    _ = &mut held.revoked => return Err(Problem::too_slow()),
                    chunk = self.payload.next() => chunk,
                },
                None => self.payload.next().await,
            };
            let Some(chunk) = chunk else { break };
            let chunk = chunk.map_err(|cause| {
                Problem::new(StatusCode::BAD_REQUEST, format!("the body could not be read: {cause}"))
            })?;
            if bytes.len() + chunk.len() > self.max {
                return Err(Problem::too_large(self.max));
            }
            if let (Some(work), None) = (work, &held)
                && bytes.len() + chunk.len() > free
            {
                held = Some(self.take_share(work).await?);
            }
            if let Some(held) = &held {
                held.progress.add(chunk.len(), Instant::now());
            }
            bytes.extend_from_slice(&chunk);
        }
        let share = held.map(|held| held.share);
        if let Some(share) = &share {
            share.forbid_revocation();
        }
        Ok(LimitedBody { bytes: bytes.freeze(), _share: share })
    }

    /// Takes a share for the announced size of the body, or for the largest one.
    async fn take_share(&self, work: Work) -> Result<Held, Problem> {
        let announced = self.announced.and_then(|length| usize::try_from(length).ok());
        let share = self.state.share(work, announced.unwrap_or(self.max)).await?;
        let (revoke, revoked) = oneshot::channel();
        share.allow_revocation(move || {
            // The sender may be done.
            let _gone = revoke.send(());
        });
        Ok(Held { progress: share.progress(), share, revoked })
    }
}

/// A share that is held while the body arrives.
struct Held {
    share: Share,
    progress: Progress,
    revoked: oneshot::Receiver<()>,
}
