//! The metrics, for Prometheus.

use actix_web::{HttpResponse, http::StatusCode, web::Data};
use liveobject_actors::metrics::CONTENT_TYPE;

use super::{problem::Problem, state::ApiState};

/// All metrics, in the OpenMetrics text format.
#[utoipa::path(
    get, path = "/metrics", tag = "operation",
    responses((status = 200, description = "The metrics", body = String,
        content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8")),
)]
pub(super) async fn metrics(state: Data<ApiState>) -> Result<HttpResponse, Problem> {
    let text = state.handle.metrics.encode().map_err(|error| {
        tracing::error!(%error, "cannot encode the metrics");
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the metrics could not be encoded; see the service's log",
        )
    })?;
    Ok(HttpResponse::Ok().content_type(CONTENT_TYPE).body(text))
}
