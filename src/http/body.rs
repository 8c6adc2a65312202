//! Reading a request's body: bounded in size and time, and JSON whatever the content type says. (A page elsewhere cannot
//! use that: it has no token.)

use std::{future::Future, pin::Pin, time::Duration};

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
use serde_json::Value;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{problem::Problem, state::ApiState};

/// The most that one event may take.
pub(super) const EVENT_BYTES: usize = 64 * 1024;
/// The most that one batch may take.
pub(super) const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// The most that a picture may take.
pub(super) const PICTURE_BYTES: usize = liveobject_actors::domain::image::MAX_THUMBNAIL_BYTES;
/// The most that settings may take: they hold up to three PEM texts.
pub(super) const SETTINGS_BYTES: usize = 256 * 1024;

// A sender that trickles must not hold its connection, or its turn among the batches, for ever.
const READ_WITHIN: Duration = Duration::from_secs(30);

type Reading<T> = Pin<Box<dyn Future<Output = Result<T, Problem>>>>;

/// A body of at most `MAX` bytes that is JSON.
#[derive(Debug)]
pub(super) struct Json<const MAX: usize>(pub(super) Value);

impl<const MAX: usize> FromRequest for Json<MAX> {
    type Error = Problem;
    type Future = Reading<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = read(request, payload, MAX);
        Box::pin(async move { parse(&body.await?).map(Self) })
    }
}

/// A body of at most `MAX` bytes that is JSON; `null` and none at all are the same.
#[derive(Debug)]
pub(super) struct OptionalJson<const MAX: usize>(pub(super) Option<Value>);

impl<const MAX: usize> FromRequest for OptionalJson<MAX> {
    type Error = Problem;
    type Future = Reading<Self>;

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

/// A body of at most [`BATCH_BYTES`], unparsed; only a few of them exist at a time.
#[derive(Debug)]
pub(super) struct BatchBody {
    pub(super) bytes: Bytes,
    _turn: OwnedSemaphorePermit,
}

impl FromRequest for BatchBody {
    type Error = Problem;
    type Future = Reading<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let state = request.app_data::<Data<ApiState>>().cloned().expect("the server was given its state");
        let body = read(request, payload, BATCH_BYTES);
        Box::pin(async move {
            let turn = state.batch_turn().await?;
            Ok(Self { bytes: body.await?, _turn: turn })
        })
    }
}

/// A body of at most [`PICTURE_BYTES`]; only a few of them exist at a time.
#[derive(Debug)]
pub(super) struct PictureBody {
    pub(super) bytes: Bytes,
    _turn: OwnedSemaphorePermit,
}

impl FromRequest for PictureBody {
    type Error = Problem;
    type Future = Reading<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let state = request.app_data::<Data<ApiState>>().cloned().expect("the server was given its state");
        let body = read(request, payload, PICTURE_BYTES);
        Box::pin(async move {
            let turn = state.upload_turn().await?;
            Ok(Self { bytes: body.await?, _turn: turn })
        })
    }
}

fn parse(body: &[u8]) -> Result<Value, Problem> {
    serde_json::from_slice(body).map_err(Problem::not_json)
}

/// Nothing is read before the future is polled.
fn read(
    request: &HttpRequest,
    payload: &mut Payload,
    max: usize,
) -> impl Future<Output = Result<Bytes, Problem>> + use<> {
    let headers = request.headers();
    let encoded =
        headers.get(CONTENT_ENCODING).is_some_and(|v| !v.as_bytes().eq_ignore_ascii_case(b"identity"));
    let announced = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let payload = BodyStream::new(payload.take());
    async move {
        if encoded {
            let detail = "the body must not be compressed";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        if announced.is_some_and(|length| length > max as u64) {
            return Err(Problem::too_large(max));
        }
        match timeout(READ_WITHIN, to_bytes_limited(payload, max)).await {
            Ok(Ok(Ok(bytes))) => Ok(bytes),
            Ok(Ok(Err(cause))) => {
                Err(Problem::new(StatusCode::BAD_REQUEST, format!("the body could not be read: {cause}")))
            }
            Ok(Err(_)) => Err(Problem::too_large(max)),
            Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
        }
    }
}
