//! Health checks: whether the process runs, and whether it accepts events.

use std::time::Duration;

use actix_web::{HttpResponse, web::Data};
use liveobject_actors::messages::outbox::GetOutbox;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    problem::Problem,
    state::{ApiState, ask_within},
};

/// The beginning of the paths of the health checks.
pub(super) const PREFIX: &str = "/health/";

// If the outbox takes longer to reply, it does not accept events in reasonable time either.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// The service is healthy.
#[derive(Serialize, ToSchema)]
#[schema(as = Health)]
pub(super) struct HealthView {
    /// `live` or `ready`.
    status: &'static str,
}

/// Whether the process responds.
#[utoipa::path(
    get, path = "/health/live", tag = "operation",
    responses((status = 200, description = "It responds", body = HealthView)),
)]
pub(super) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(HealthView { status: "live" })
}

/// Whether the service accepts events, and none in its database are damaged or missing.
///
/// This does not depend on the broker.
#[utoipa::path(
    get, path = "/health/ready", tag = "operation",
    responses(
        (status = 200, description = "It accepts events", body = HealthView),
        (status = 503, description = "The service is stopping, the outbox is not responding, the database accepts \
                                      no events, or events in it are damaged or missing"),
    ),
)]
pub(super) async fn ready(state: Data<ApiState>) -> Result<HttpResponse, Problem> {
    if state.is_stopping() {
        return Err(Problem::unavailable("the service is stopping", 5));
    }
    let outbox = ask_within(READY_WITHIN, &state.handle.outbox, GetOutbox).await?;
    if outbox.database_unavailable {
        return Err(Problem::unavailable(
            "the database does not accept events at the moment; see the service's log",
            5,
        ));
    }
    if outbox.database_damaged {
        return Err(Problem::unavailable(
            "events in the database are damaged or missing; see the status",
            60,
        ));
    }
    Ok(HttpResponse::Ok().json(HealthView { status: "ready" }))
}
