//! Links that open the page and sign in once, for `liveobject sign-in`.

use actix_web::{HttpResponse, web::Data};
use serde::Serialize;
use utoipa::ToSchema;

use super::{sign_in_code, state::ApiState};

/// Links that open the page and sign in.
#[derive(Serialize, ToSchema)]
pub(super) struct SignInLinks {
    /// One link for each address of the service, at least one. All contain the same code.
    links: Vec<String>,
    /// Whether the service listens only on its own machine.
    local_only: bool,
    /// How long the code is valid.
    expires_in_seconds: u64,
}

/// Create links that sign in once.
///
/// Each link opens the page in a browser and signs in with the scopes of the admin token. The links share one code,
/// which works once, within ten minutes.
#[utoipa::path(
    post, path = "/api/v1/sign-in-links", tag = "session",
    responses((status = 201, description = "Created", body = SignInLinks)),
)]
pub(super) async fn create(state: Data<ApiState>) -> HttpResponse {
    let (links, local_only) = state.new_sign_in_links();
    let expires_in_seconds = sign_in_code::LIFETIME.as_secs();
    HttpResponse::Created().json(SignInLinks { links, local_only, expires_in_seconds })
}
