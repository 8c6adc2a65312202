//! The search for brokers. It does not involve the service's connection or settings.

use actix_web::{HttpResponse, web::Data};

use super::{problem::Problem, state::ApiState};
use crate::finder::Found;

const RETRY_AFTER_SECONDS: u32 = 5;

/// Search for brokers on this machine and in the local networks.
///
/// Tries usual addresses and names and those of `[mqtt] candidates`, asks by multicast DNS, and tests each broker up to
/// the login, in about five seconds. The tests send no user name and no password and publish nothing; nothing is saved,
/// and the service connects to none of the brokers. One search runs at a time: simultaneous requests, and those within
/// three seconds after a search, get the same result.
#[utoipa::path(
    post, path = "/api/v1/integrations/mqtt/candidates", tag = "mqtt",
    responses(
        (status = 200, description = "The brokers that were found, at most 24", body = Found),
        (status = 503, description = "Other searches take too long. Try again after `Retry-After` seconds"),
    ),
)]
pub(super) async fn search(state: Data<ApiState>) -> Result<HttpResponse, Problem> {
    match state.finder.find().await {
        Some(found) => Ok(HttpResponse::Ok().json(found)),
        None => Err(Problem::unavailable("another search for brokers is in progress", RETRY_AFTER_SECONDS)),
    }
}
