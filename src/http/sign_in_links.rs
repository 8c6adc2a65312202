//! Links that open the page and sign in once, for `liveobject sign-in`.

use actix_web::{HttpRequest, HttpResponse, web::Data};
use serde::Serialize;
use utoipa::ToSchema;

use super::{auth, problem::Problem, qr_code, sign_in_code, state::ApiState};

/// Links that open the page and sign in.
#[derive(Serialize, ToSchema)]
pub(super) struct SignInLinks {
    /// One link for each address of the service, at least one. All contain the same code.
    links: Vec<String>,
    /// Whether the service listens only on its own machine.
    local_only: bool,
    /// How long the code is valid.
    expires_in_seconds: u64,
    /// A QR code of the first link, as SVG; `null` if only this machine can use the link.
    #[schema(required = true)]
    qr_code: Option<String>,
}

/// Create links that sign in once.
///
/// Each link opens the page in a browser and signs in with the scopes of the token of this request. The links share one
/// code, which works once, within ten minutes. The session ends when that token is revoked or replaced.
#[utoipa::path(
    post, path = "/api/v1/sign-in-links", tag = "session",
    responses((status = 201, description = "Created", body = SignInLinks)),
)]
pub(super) async fn create(state: Data<ApiState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let (links, local_only) = state.sign_in_links(state.reach(&request), auth::token_holder(&request)?);
    let expires_in_seconds = sign_in_code::LIFETIME.as_secs();
    let qr_code = links.first().filter(|_| !local_only).and_then(|link| qr_code::svg(link));
    Ok(HttpResponse::Created().json(SignInLinks { links, local_only, expires_in_seconds, qr_code }))
}
