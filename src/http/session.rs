//! Signing in to the page and out of it: exchanges a token for a cookie that scripts cannot read and that
//! other sites cannot send.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::SET_COOKIE},
    web::{self, Data},
};
use liveobject_actors::{
    Invalid,
    domain::{
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
    cookie,
    problem::Problem,
    schema,
    state::{ApiState, ask},
    ticket,
};

/// Whether the caller is signed in.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
pub(super) struct SessionView {
    signed_in: bool,
    /// Whether the caller can sign out; not in the frame of Home Assistant, which has checked the user.
    can_sign_out: bool,
    /// The scopes of the session; `null` if nobody is signed in.
    #[schema(required = true, value_type = Option<Vec<Scope>>)]
    scopes: Option<Scopes>,
}

/// Sign in with a token.
///
/// This sets the session cookie. The cookie has the scopes of the token, or those of the admin token for a
/// one-time code. It is valid for 30 days, until somebody signs out with it, until the token is revoked, or
/// until the admin token is replaced. Scripts cannot read it, and a request with it must come from the
/// service's own page.
#[utoipa::path(
    post, path = "/session", tag = "session", request_body = schema::SignIn,
    responses(
        (status = 200, description = "Signed in", body = SessionView,
            headers(("Set-Cookie" = String, description = "The session"))),
        (status = 401, description = "The token or the code is not valid"),
        (status = 403, description = "Home Assistant has checked the user, so nobody can sign in here"),
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
    check_has_sessions(&state)?;
    let from = auth::client(&state, &request);
    let (holder, scopes) = match read(body.0)? {
        Proof::Token(token) => auth::holder_of(&state, from, token.expose_secret()).await?,
        Proof::Code(code) => auth::holder_of_code(&state, from, code.expose_secret()).await?,
    };
    let ticket = ticket::issue(&state.sessions, &state.token.current(), holder, state.handle.clock.now().log);
    let is_secure = auth::is_secure(&state, &request);
    let cookie = cookie::set(state.sessions.instance(), &ticket, ticket::LIFETIME_SECONDS, is_secure);
    Ok(HttpResponse::Ok().insert_header((SET_COOKIE, cookie)).json(SessionView {
        signed_in: true,
        can_sign_out: true,
        scopes: Some(scopes),
    }))
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
    let scopes = match auth::signed_in(&state, &request, state.handle.clock.now().log).await {
        Ok((_, scopes)) => Some(scopes),
        Err(problem) if problem.is_unauthorized() => None,
        Err(problem) => return Err(problem),
    };
    let signed_in = scopes.is_some();
    let can_sign_out = signed_in && state.trusted_peers.is_none();
    Ok(HttpResponse::Ok().json(SessionView { signed_in, can_sign_out, scopes }))
}

/// Sign out: end the session, and remove its cookie.
#[utoipa::path(
    delete, path = "/session", tag = "session",
    responses(
        (status = 204, description = "Signed out",
            headers(("Set-Cookie" = String, description = "Removes the cookie"))),
        (status = 403, description = "Home Assistant has checked the user, so nobody can sign out here"),
    ),
)]
pub(super) async fn sign_out(state: Data<ApiState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    cookie::check_own_page(request.method(), request.headers())?;
    check_has_sessions(&state)?;
    let (is_secure, now) = (auth::is_secure(&state, &request), state.handle.clock.now().log);
    let mut has_ended = false;
    for session in auth::sessions(&state, &request, now) {
        state.sessions.end(&session.id, session.expires, now);
        has_ended = true;
    }
    if has_ended {
        state.revocations.send_replace(());
        store(&state).await;
    }
    let cookie = cookie::set(state.sessions.instance(), "", 0, is_secure);
    Ok(HttpResponse::NoContent().insert_header((SET_COOKIE, cookie)).finish())
}

/// Stores which sessions have ended. If that fails, they have ended in any case, but not for the next start.
async fn store(state: &ApiState) {
    if let Some(ended) = state.sessions.take_unstored() {
        let stored = ask(&state.handle.end_sessions, ended.clone()).await;
        if !matches!(stored, Ok(Ok(()))) {
            state.sessions.not_stored(ended);
        }
        return;
    }
    let sessions = state.sessions.clone();
    // Fails only if the server stops.
    let _stored = web::block(move || sessions.store()).await;
}

/// Fails on the listener for Home Assistant's frame. A cookie would be set for Home Assistant's own host, where all of
/// its apps receive it.
fn check_has_sessions(state: &ApiState) -> Result<(), Problem> {
    if state.trusted_peers.is_some() {
        let detail = "sign-in and sign-out are not available here: Home Assistant has checked the user";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    Ok(())
}

/// What somebody signs in with.
enum Proof {
    Token(SecretString),
    /// The one-time code of a link.
    Code(SecretString),
}

fn read(body: Value) -> Result<Proof, Invalid> {
    let mut fields = Fields::of(body)?;
    let [token, code] =
        ["token", "code"].map(|name| fields.text(name).map(|text| SecretString::from(text.trim())));
    match (&token, &code) {
        (None, None) if !fields.faults.has("token") && !fields.faults.has("code") => {
            fields.faults.push("token", "is required, unless there is a code");
        }
        (Some(_), Some(_)) => fields.faults.push("code", "must not be given together with a token"),
        _ => {}
    }
    fields.finish().finish()?;
    let proof = token.map(Proof::Token).or(code.map(Proof::Code));
    proof.ok_or_else(|| Invalid::one("token", "is required, unless there is a code"))
}
