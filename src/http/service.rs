//! What the page shows about the service itself.

use actix_web::{HttpResponse, web::Data};
use serde::Serialize;
use utoipa::ToSchema;

use super::state::ApiState;
use crate::addresses::Reach;

/// The service itself.
#[derive(Serialize, ToSchema)]
#[schema(as = Service)]
pub(super) struct ServiceView {
    /// The version; in parentheses, the git revision and the features of this build.
    version: &'static str,
    #[schema(minimum = 0)]
    uptime_seconds: u64,
    /// The URLs under which the page can be opened, the most useful one first. At least one.
    urls: Vec<String>,
    /// Whether the service listens only on its own machine.
    local_only: bool,
    /// The size of the database file and its write-ahead log. `null` until it is known.
    #[schema(required = true, minimum = 0)]
    database_bytes: Option<i64>,
    /// The free space on the disk of the database. `null` until it is known.
    #[schema(required = true, minimum = 0)]
    disk_free_bytes: Option<i64>,
}

/// The version of the service, its addresses and its storage.
#[utoipa::path(
    get, path = "/api/v1/service", tag = "operation",
    responses((status = 200, description = "The service", body = ServiceView)),
)]
pub(super) async fn service(state: Data<ApiState>) -> HttpResponse {
    let Reach { urls, is_local_only } = state.reach();
    let metrics = &state.handle.metrics;
    // A gauge is 0 until it is set.
    let known = |bytes: i64| (bytes > 0).then_some(bytes);
    HttpResponse::Ok().json(ServiceView {
        version: env!("LIVEOBJECT_VERSION"),
        uptime_seconds: state.uptime().as_secs(),
        urls,
        local_only: is_local_only,
        database_bytes: known(metrics.database_bytes.get()),
        disk_free_bytes: known(metrics.disk_free.get()),
    })
}
