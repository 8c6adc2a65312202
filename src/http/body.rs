//! Reads request bodies, bounded in size and time. JSON bodies are accepted with any content type; a foreign
//! web page cannot exploit that, because it has no token.

use std::{future::Future, pin::Pin, sync::Arc};

use actix_web::{
    FromRequest, HttpRequest,
    body::{BodyStream, to_bytes_limited},
    dev::Payload,
    http::{
        StatusCode,
        header::{CONTENT_ENCODING, CONTENT_LENGTH},
    },
    web::{Bytes, Data},
};
use liveobject_actors::domain::image::MAX_THUMBNAIL_BYTES;
use serde_json::Value;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout},
};

use super::{
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
        let body = read(request, payload, MAX);
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
        let body = read(request, payload, MAX);
        Box::pin(async move {
            let body = body.await?;
            let none = body.trim_ascii().is_empty();
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
        let body = read_with_permit(request, payload, BATCH_BYTES, Work::ReadBatch);
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
        let body = read_with_permit(request, payload, MAX_THUMBNAIL_BYTES, Work::ReceivePicture);
        Box::pin(async move { body.await.map(Self) })
    }
}

/// A large body. Only a few exist at a time; each holds a permit.
#[derive(Debug)]
pub(super) struct LimitedBody {
    pub(super) bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

/// Waits for a permit, and only then reads the body.
fn read_with_permit(
    request: &HttpRequest,
    payload: &mut Payload,
    max: usize,
    work: Work,
) -> impl Future<Output = Result<LimitedBody, Problem>> + use<> {
    let state = request.app_data::<Data<ApiState>>().cloned().expect("the server has its state");
    let body = read(request, payload, max);
    async move {
        let permit = state.permit(work).await?;
        Ok(LimitedBody { bytes: body.await?, _permit: permit })
    }
}

fn parse(body: &[u8]) -> Result<Value, Problem> {
    serde_json::from_slice(body).map_err(Problem::not_json)
}

/// Starts to read the body when the future is polled, not before.
fn read(
    request: &HttpRequest,
    payload: &mut Payload,
    max: usize,
) -> impl Future<Output = Result<Bytes, Problem>> + use<> {
    let headers = request.headers();
    let is_encoded =
        headers.get(CONTENT_ENCODING).is_some_and(|v| !v.as_bytes().eq_ignore_ascii_case(b"identity"));
    let announced = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let payload = BodyStream::new(payload.take());
    let connection = request.conn_data::<Arc<Connection>>().cloned();
    let state = request.app_data::<Data<ApiState>>().expect("the server has its state");
    // A sender that trickles its body must not occupy a connection, or a batch permit, forever.
    let within = state.connections.limits().body_timeout;
    async move {
        if is_encoded {
            let detail = "the body must not be compressed";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        if announced.is_some_and(|length| length > max as u64) {
            return Err(Problem::too_large(max));
        }
        if let Some(connection) = &connection {
            connection.begin_body(Instant::now());
        }
        let received = timeout(within, to_bytes_limited(payload, max)).await;
        if let Some(connection) = &connection {
            connection.end_body(matches!(received, Ok(Ok(Ok(_)))), Instant::now());
        }
        match received {
            Ok(Ok(Ok(bytes))) => Ok(bytes),
            Ok(Ok(Err(cause))) => {
                Err(Problem::new(StatusCode::BAD_REQUEST, format!("the body could not be read: {cause}")))
            }
            Ok(Err(_)) => Err(Problem::too_large(max)),
            Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body was not received in time")),
        }
    }
}
