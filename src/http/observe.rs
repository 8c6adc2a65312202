//! Applied to every request: an id for its log lines, a measurement of its duration, and the common response
//! headers.

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
    web::Data,
};
use liveobject_actors::metrics::RequestLabels;
use tokio::time::Instant;
use tracing::{Instrument, Span};
use uuid::Uuid;

use super::{headers, state::ApiState};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID: usize = 64;

/// The outermost middleware.
pub(super) async fn observe<B: MessageBody + 'static>(
    state: Data<ApiState>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let started = Instant::now();
    let id = request_id(request.headers());
    let method = method(request.method());
    let only_tls = state.owns_host && request.app_config().secure();
    // At the highest level, so that no log filter removes the id from the lines within the span.
    let span = tracing::error_span!("request", request_id = id);
    let mut response = next.call(request).instrument(span.clone()).await?;
    let id = HeaderValue::from_str(&id).expect("a request id has only safe characters");
    response.headers_mut().insert(REQUEST_ID, id);
    headers::complete(response.headers_mut(), only_tls);
    record(&state, &span, method, &response, started);
    Ok(response)
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
