//! Whether the process lives, and whether it can take events.

use std::time::Duration;

use actix_web::{HttpResponse, web::Data};
use liveobject_actors::messages::outbox::GetOutbox;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    problem::Problem,
    state::{ApiState, ask_within},
};

// A log that answers later than this takes no events in useful time either.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// That all is well.
#[derive(Serialize, ToSchema)]
#[schema(as = Health)]
pub(super) struct HealthView {
    /// `live` or `ready`.
    status: &'static str,
}

/// Whether the process answers.
#[utoipa::path(
    get, path = "/health/live", tag = "operation",
    responses((status = 200, description = "It does", body = HealthView)),
)]
pub(super) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(HealthView { status: "live" })
}

/// Whether events can be taken. That does not depend on the broker.
#[utoipa::path(
    get, path = "/health/ready", tag = "operation",
    responses(
        (status = 200, description = "They can", body = HealthView),
        (status = 503, description = "Stopping, or the outbox does not answer"),
    ),
)]
pub(super) async fn ready(state: Data<ApiState>) -> Result<HttpResponse, Problem> {
    if state.is_stopping() {
        return Err(Problem::unavailable("the service is stopping", 5));
    }
    let outbox = ask_within(READY_WITHIN, &state.handle.outbox, GetOutbox).await?;
    if outbox.database_is_away {
        return Err(Problem::unavailable("the database takes no events at the moment; the log says why", 5));
    }
    Ok(HttpResponse::Ok().json(HealthView { status: "ready" }))
}
