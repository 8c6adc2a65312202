//! Applied to every request: an id for its log lines, a measurement of its duration, the common response
//! headers, and a note in the table of connections while it is in progress.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use actix_web::{
    Error, ResponseError as _,
    body::{BodySize, EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        ConnectionType, Method,
        header::{HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING},
    },
    middleware::Next,
    web::{Bytes, Data},
};
use liveobject_actors::metrics::{Metrics, RequestLabels};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tracing::{Instrument, Span};
use uuid::Uuid;

use super::{connections::Connection, headers, health, problem::Problem, state::ApiState};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID: usize = 64;
const REMOTE_USER: HeaderName = HeaderName::from_static("x-remote-user-name");

/// The outermost middleware.
pub(super) async fn observe<B: MessageBody + 'static>(
    state: Data<ApiState>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<Tracked<EitherBody<B>>>, Error> {
    let started = Instant::now();
    let connection = request.conn_data::<Arc<Connection>>().cloned();
    let progress = InProgress::begin(&request);
    let id = request_id(request.headers());
    let method = method(request.method());
    let is_encrypted = connection.as_ref().is_some_and(|connection| connection.is_encrypted);
    let only_tls = state.owns_host && is_encrypted;
    let is_health_only = connection.is_some_and(|connection| connection.is_health_only);
    // At the highest level, so that no log filter removes the id from the lines within the span.
    let span = tracing::error_span!("request", request_id = id, user = tracing::field::Empty);
    // Others could write any name into the log.
    let peer = request.peer_addr().map(|peer| peer.ip().to_canonical());
    if let (Some(peers), Some(peer)) = (&state.trusted_peers, peer)
        && peers.contains(&peer)
        && let Some(user) = remote_user(request.headers())
    {
        span.record("user", user);
    }
    let mut response = if is_health_only && !request.path().starts_with(health::PREFIX) {
        let detail =
            "too many connections are open; see [http] max_connections_per_address and max_connections";
        let refusal = Problem::unavailable(detail, 1).error_response();
        request.into_response(refusal).map_into_right_body()
    } else {
        next.call(request).instrument(span.clone()).await?.map_into_left_body()
    };
    if is_health_only {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    let id = HeaderValue::from_str(&id).expect("a request id has only safe characters");
    response.headers_mut().insert(REQUEST_ID, id);
    if state.trusted_peers.is_some() {
        headers::allow_frame(response.headers_mut());
    }
    headers::complete(response.headers_mut(), only_tls);
    record(&state, &span, method, &response, started);
    Ok(response.map_body(|_, body| Tracked::new(body, progress)))
}

/// A request in progress; dropping it marks the connection as idle.
pub(super) struct InProgress(Arc<Connection>);

impl InProgress {
    /// Notes that this request is in progress. Returns `None` if its connection is not in the table.
    pub(super) fn begin(request: &ServiceRequest) -> Option<Self> {
        let connection = request.conn_data::<Arc<Connection>>()?;
        connection.begin(request.headers().contains_key(TRANSFER_ENCODING), Instant::now());
        Some(Self(Arc::clone(connection)))
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.end(Instant::now());
    }
}

pin_project! {
    /// The body of a response. The request is in progress until it is dropped.
    pub(super) struct Tracked<B> {
        #[pin]
        body: B,
        _progress: Option<InProgress>,
    }
}

impl<B> Tracked<B> {
    pub(super) fn new(body: B, progress: Option<InProgress>) -> Self {
        Self { body, _progress: progress }
    }
}

impl<B: MessageBody> MessageBody for Tracked<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, B::Error>>> {
        self.project().body.poll_next(cx)
    }
}

/// Creates the histograms of accepted and refused events, with 0. Otherwise, `rate` misses the first refusal.
pub(super) fn create_known_labels(metrics: &Metrics) {
    for route in ["/api/v1/events", "/api/v1/events/batch"] {
        for status in [202, 500, 503] {
            let labels = RequestLabels { method: "POST".to_owned(), route: route.to_owned(), status };
            drop(metrics.http_request_duration_seconds.get_or_create(&labels));
        }
    }
}

/// Logs a response and adds its duration to the metrics.
fn record<B>(
    state: &ApiState,
    span: &Span,
    method: &'static str,
    response: &ServiceResponse<B>,
    started: Instant,
) {
    let (status, took) = (response.status().as_u16(), started.elapsed());
    let route = response.request().match_pattern().unwrap_or_else(|| "unmatched".to_owned());
    span.in_scope(|| tracing::debug!(method, route, status, ms = took.as_secs_f64() * 1000.0, "responded"));
    let labels = RequestLabels { method: method.to_owned(), route, status };
    state.handle.metrics.http_request_duration_seconds.get_or_create(&labels).observe(took.as_secs_f64());
}

/// Returns the client's id if it is safe in a log line, or else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let is_safe = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(is_safe))
        .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// Returns the name of the user whom Home Assistant has checked, if it is safe in a log line.
fn remote_user(headers: &HeaderMap) -> Option<&str> {
    let name = str::from_utf8(headers.get(REMOTE_USER)?.as_bytes()).ok()?;
    ((1..=MAX_REQUEST_ID).contains(&name.len()) && !name.contains(char::is_control)).then_some(name)
}

/// Returns the label of a method. Clients can send any word as a method, so unknown ones share a label.
fn method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(sent: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_str(sent).unwrap());
        request_id(&headers)
    }

    #[test]
    fn a_safe_request_id_is_kept() {
        assert_eq!(id_for("job-7.a_B"), "job-7.a_B");
        assert_eq!(id_for(&"x".repeat(64)), "x".repeat(64));
    }

    #[test]
    fn any_other_request_id_is_replaced() {
        for sent in ["", "a b", "a\"b", &"x".repeat(65)] {
            assert!(Uuid::parse_str(&id_for(sent)).is_ok(), "{sent}");
        }
        assert!(Uuid::parse_str(&request_id(&HeaderMap::new())).is_ok());
    }

    #[test]
    fn unknown_methods_share_one_label() {
        assert_eq!(method(&Method::GET), "GET");
        assert_eq!(method(&Method::from_bytes(b"BREW").unwrap()), "other");
    }
}
