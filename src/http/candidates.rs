//! The search for brokers. It does not use the service's connection or its settings.

use actix_web::{HttpResponse, web::Data};

use super::{problem::Problem, state::ApiState};
use crate::finder::Found;

const RETRY_AFTER_SECONDS: u32 = 5;

/// Search for brokers on this machine and in the local networks.
///
/// Tries usual addresses and names and those of `[mqtt] candidates`, asks by multicast DNS, and tests each broker up to
/// the login, within six seconds. The tests send no user name and no password and publish nothing; nothing is saved,
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
    const TOO_LONG: &str = "other searches for brokers take too long; try again in a few seconds";

    let found = state.finder.find().await;
    let found = found.ok_or_else(|| Problem::unavailable(TOO_LONG, RETRY_AFTER_SECONDS))?;
    Ok(HttpResponse::Ok().json(found))
}
