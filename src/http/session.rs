//! Signing in to the page and out of it: exchanges a token for a cookie that scripts cannot read and that
//! other sites cannot send.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, http::header::SET_COOKIE, web::Data};
use liveobject_actors::{
    Invalid,
    domain::{
        clock,
        fields::Fields,
        token::{Scope, Scopes},
    },
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    auth,
    body::{EVENT_BYTES, Json},
    connections::Connection,
    cookie,
    problem::Problem,
    schema,
    state::ApiState,
    ticket,
};

/// Whether the caller is signed in.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
pub(super) struct SessionView {
    signed_in: bool,
    /// The scopes of the session; `null` if nobody is signed in.
    #[schema(required = true, value_type = Option<Vec<Scope>>)]
    scopes: Option<Scopes>,
}

/// Sign in with a token.
///
/// This sets the session cookie. The cookie has the scopes of the token. It is valid for 30 days, until the
/// token is revoked, or until the admin token is replaced. Scripts cannot read it, and a request with it must
/// come from the service's own page.
#[utoipa::path(
    post, path = "/session", tag = "session", request_body = schema::SignIn,
    responses(
        (status = 200, description = "Signed in", body = SessionView,
            headers(("Set-Cookie" = String, description = "The session"))),
        (status = 401, description = "The token is not valid"),
        (status = 422, description = "Some fields are invalid"),
        (status = 429, description = "Too many failed logins from this address"),
        (status = 503, description = "The database is unavailable"),
    ),
)]
pub(super) async fn sign_in(
    state: Data<ApiState>,
    request: HttpRequest,
    body: Json<EVENT_BYTES>,
) -> Result<HttpResponse, Problem> {
    cookie::check_own_page(request.method(), request.headers())?;
    let token = read(body.0)?;
    let (holder, scopes) =
        auth::holder_of(&state, auth::address(request.peer_addr()), token.expose_secret()).await?;
    let ticket = ticket::issue(&state.token, holder, clock::now());
    let cookie = cookie::set(&ticket, ticket::LIFETIME_SECONDS, is_encrypted(&request));
    Ok(HttpResponse::Ok()
        .insert_header((SET_COOKIE, cookie))
        .json(SessionView { signed_in: true, scopes: Some(scopes) }))
}

/// Whether the caller is signed in, and with which scopes.
#[utoipa::path(
    get, path = "/session", tag = "session",
    responses(
        (status = 200, description = "The session", body = SessionView),
        (status = 503, description = "The database is unavailable"),
    ),
)]
pub(super) async fn look(state: Data<ApiState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let scopes = match auth::signed_in(&state, request.headers()).await {
        Ok(scopes) => Some(scopes),
        Err(problem) if problem.is_unauthorized() => None,
        Err(problem) => return Err(problem),
    };
    Ok(HttpResponse::Ok().json(SessionView { signed_in: scopes.is_some(), scopes }))
}

/// Sign out, and remove the session cookie.
#[utoipa::path(
    delete, path = "/session", tag = "session",
    responses((status = 204, description = "Signed out",
        headers(("Set-Cookie" = String, description = "Removes the cookie")))),
)]
pub(super) async fn sign_out(request: HttpRequest) -> Result<HttpResponse, Problem> {
    cookie::check_own_page(request.method(), request.headers())?;
    let cookie = cookie::set("", 0, is_encrypted(&request));
    Ok(HttpResponse::NoContent().insert_header((SET_COOKIE, cookie)).finish())
}

fn read(body: Value) -> Result<SecretString, Invalid> {
    let mut fields = Fields::of(body)?;
    let token = fields.text("token");
    if token.is_none() && !fields.faults.has("token") {
        fields.faults.push("token", "is required");
    }
    fields.finish().finish()?;
    token.map(|token| SecretString::from(token.trim())).ok_or_else(|| Invalid::one("token", "is required"))
}

/// Whether the browser uses TLS, with this service or with a proxy that reports it. A client that forges the
/// header affects only its own session.
fn is_encrypted(request: &HttpRequest) -> bool {
    let connection = request.conn_data::<Arc<Connection>>();
    connection.is_some_and(|connection| connection.is_encrypted)
        || request.connection_info().scheme() == "https"
}
