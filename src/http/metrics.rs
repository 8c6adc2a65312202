//! The metrics, for Prometheus.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{ACCEPT, HeaderMap, VARY},
    },
    web::Data,
};
use liveobject_actors::{
    domain::causes::with_causes,
    metrics::{Format, Metrics},
};

use super::{problem::Problem, state::ApiState};

const OPENMETRICS: &str = "application/openmetrics-text";
const PROMETHEUS: &str = "text/plain";

/// All metrics, in the text format of Prometheus or, with `Accept: application/openmetrics-text`, in that of
/// OpenMetrics.
#[utoipa::path(
    get, path = "/metrics", tag = "operation",
    responses(
        (
            status = 200, description = "The metrics",
            content(
                (String = "text/plain; version=0.0.4; charset=utf-8"),
                (String = "application/openmetrics-text; version=1.0.0; charset=utf-8"),
            ),
        ),
        (status = 500, description = "The metrics could not be encoded"),
    ),
)]
pub(super) async fn metrics(state: Data<ApiState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    respond(&state.handle.metrics, &request)
}

/// Responds with these metrics, in the format that the client asks for.
pub(super) fn respond(metrics: &Metrics, request: &HttpRequest) -> Result<HttpResponse, Problem> {
    let format = negotiate(request.headers());
    let text = metrics.encode(format).map_err(|error| {
        tracing::error!(error = %with_causes(&error), "cannot encode the metrics");
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the metrics could not be encoded; see the service's log",
        )
    })?;
    Ok(HttpResponse::Ok().content_type(format.media_type()).insert_header((VARY, "Accept")).body(text))
}

/// Returns the format for a request: OpenMetrics if the client asks for it and does not prefer the other one,
/// which every client can read.
fn negotiate(headers: &HeaderMap) -> Format {
    let accepted = headers.get_all(ACCEPT).filter_map(|value| value.to_str().ok());
    let ranges: Vec<_> = accepted.flat_map(|value| value.split(',')).map(media_range).collect();
    let weight = |wanted: &str| {
        ranges
            .iter()
            .filter(|(range, _)| range.eq_ignore_ascii_case(wanted))
            .map(|(_, weight)| *weight)
            .fold(0.0, f32::max)
    };
    let openmetrics = weight(OPENMETRICS);
    if openmetrics > 0.0 && openmetrics >= weight(PROMETHEUS) {
        Format::OpenMetrics
    } else {
        Format::Prometheus
    }
}

/// Returns the media type of an element of `Accept`, and its weight from 0 to 1.
fn media_range(element: &str) -> (&str, f32) {
    let mut parts = element.split(';').map(str::trim);
    let range = parts.next().unwrap_or_default();
    let weight = parts.find_map(|parameter| parameter.strip_prefix("q=")?.parse().ok());
    (range, weight.unwrap_or(1.0))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn only_a_client_that_asks_for_openmetrics_gets_it() {
        use Format::{OpenMetrics, Prometheus};
        for (accept, format) in [
            ("*/*", Prometheus),
            ("", Prometheus),
            ("text/plain", Prometheus),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Prometheus),
            ("application/json", Prometheus),
            ("application/openmetrics-text", OpenMetrics),
            ("Application/OpenMetrics-Text; version=1.0.0; charset=utf-8", OpenMetrics),
            ("application/openmetrics-text;q=0", Prometheus),
            ("application/openmetrics-text;q=0.2,text/plain;q=0.5", Prometheus),
            // What Prometheus 3 sends.
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,\
                 text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                OpenMetrics,
            ),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(negotiate(&headers), format, "{accept}");
        }
        assert_eq!(negotiate(&HeaderMap::new()), Prometheus);
    }
}
