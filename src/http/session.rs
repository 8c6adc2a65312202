//! Signing in to the page and out of it: a token becomes a cookie that scripts cannot read and other sites do not send.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method, StatusCode,
        header::{
            CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, ORIGIN, SET_COOKIE,
            TRANSFER_ENCODING,
        },
    },
    web::Data,
};
use liveobject_actors::{
    Invalid,
    domain::{clock, fields::Fields, token::Scopes},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::Value;

use super::{
    auth,
    body::{EVENT_BYTES, Json},
    problem::Problem,
    schema,
    state::ApiState,
    ticket,
};

const NAME: &str = "liveobject_session";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Who is signed in.
#[derive(Serialize)]
struct View {
    signed_in: bool,
    /// What they may do.
    scopes: Option<Scopes>,
}

/// Sign in, with a token: sets the cookie that stands for it.
///
/// The cookie permits what the token permits, for 30 days, until the token is revoked, or until the administrator's token is
/// replaced. It is not readable for scripts, and a call that comes with it must come from this service's own page.
#[utoipa::path(
    post, path = "/session", tag = "session", request_body = schema::SignIn,
    responses(
        (status = 200, description = "Signed in", body = schema::Session,
            headers(("Set-Cookie" = String, description = "The session"))),
        (status = 401, description = "A wrong token"),
        (status = 422, description = "Fields are at fault"),
        (status = 429, description = "Too many wrong tokens from this address"),
        (status = 503, description = "The database is away"),
    ),
)]
pub(super) async fn sign_in(
    state: Data<ApiState>,
    request: HttpRequest,
    body: Json<EVENT_BYTES>,
) -> Result<HttpResponse, Problem> {
    from_own_page(request.method(), request.headers())?;
    let token = read(body.0)?;
    let (holder, scopes) =
        auth::holder_of(&state, auth::address(request.peer_addr()), token.expose_secret()).await?;
    let ticket = ticket::issue(&state.token, holder, clock::now());
    let cookie = cookie(&ticket, ticket::LIFETIME_SECONDS, is_encrypted(&request));
    Ok(HttpResponse::Ok()
        .insert_header((SET_COOKIE, cookie))
        .json(View { signed_in: true, scopes: Some(scopes) }))
}

/// Whether somebody is signed in, and what they may do.
#[utoipa::path(
    get, path = "/session", tag = "session",
    responses(
        (status = 200, description = "Who is signed in", body = schema::Session),
        (status = 503, description = "The database is away"),
    ),
)]
pub(super) async fn look(state: Data<ApiState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let scopes = match auth::signed_in(&state, request.headers()).await {
        Ok(scopes) => Some(scopes),
        Err(problem) if problem.is_unauthorized() => None,
        Err(problem) => return Err(problem),
    };
    Ok(HttpResponse::Ok().json(View { signed_in: scopes.is_some(), scopes }))
}

/// Sign out: removes the cookie.
#[utoipa::path(
    delete, path = "/session", tag = "session",
    responses((status = 204, description = "Signed out", headers(("Set-Cookie" = String, description = "None any more")))),
)]
pub(super) async fn sign_out(request: HttpRequest) -> Result<HttpResponse, Problem> {
    from_own_page(request.method(), request.headers())?;
    let cookie = cookie("", 0, is_encrypted(&request));
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

fn cookie(value: &str, max_age: i64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{NAME}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}")
}

/// Whether the browser talks TLS: to us, or to a proxy that says so. Whoever lies about it harms only their own session.
fn is_encrypted(request: &HttpRequest) -> bool {
    request.connection_info().scheme() == "https"
}

/// The ticket among the cookies of a request.
pub(super) fn ticket_of(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|text| text.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(NAME)?.strip_prefix('='))
}

/// What a call with the cookie must show, since a browser adds the cookie by itself, also for a page of another port of this
/// host: that our own page made it. What changes something must prove that; what only looks must not disprove it. Whether
/// `Origin` is ours was checked before.
pub(super) fn from_own_page(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let looks = matches!(*method, Method::GET | Method::HEAD);
    let site = headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes);
    let is_own = match site {
        Some(b"same-origin") => true,
        // Typed into the address bar.
        Some(b"none") => looks,
        Some(_) => false,
        // Sent to localhost and over TLS only; `Origin` comes with every change.
        None => looks || headers.contains_key(ORIGIN),
    };
    if !is_own {
        let detail = "a call with the page's cookie must come from the page itself; others use a token";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    let length = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    let has_body = headers.contains_key(TRANSFER_ENCODING) || length.is_some_and(|length| length != b"0");
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    if !looks && has_body && !kind.eq_ignore_ascii_case("application/json") {
        let detail = "a call with the page's cookie must have the content type application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError as _;

    use super::*;

    fn status(method: Method, headers: &[(HeaderName, &'static str)]) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(name.clone(), HeaderValue::from_static(value));
        }
        from_own_page(&method, &map).map_or_else(|problem| problem.status_code().as_u16(), |()| 200)
    }

    #[test]
    fn what_changes_something_must_prove_that_the_page_did_it() {
        let own = (SEC_FETCH_SITE, "same-origin");
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            assert_eq!(status(method.clone(), &[]), 403, "{method}");
            assert_eq!(status(method.clone(), std::slice::from_ref(&own)), 200);
            assert_eq!(status(method.clone(), &[(ORIGIN, "http://nas:8080")]), 200);
            for site in ["same-site", "cross-site", "none", ""] {
                let given = [(SEC_FETCH_SITE, site), (ORIGIN, "http://nas:8080")];
                assert_eq!(status(method.clone(), &given), 403, "{method} {site}");
            }
        }
    }

    #[test]
    fn what_only_looks_must_not_come_from_elsewhere() {
        for (site, expected) in [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403)]
        {
            assert_eq!(status(Method::GET, &[(SEC_FETCH_SITE, site)]), expected, "{site}");
        }
        assert_eq!(status(Method::GET, &[]), 200);
    }

    #[test]
    fn a_body_is_json_and_says_so() {
        let own = (SEC_FETCH_SITE, "same-origin");
        let with = |kind, length| [own.clone(), (CONTENT_TYPE, kind), (CONTENT_LENGTH, length)];
        assert_eq!(status(Method::PUT, &with("application/json; charset=utf-8", "2")), 200);
        assert_eq!(status(Method::POST, &with("", "0")), 200);
        for wrong in ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
            assert_eq!(status(Method::PUT, &with(wrong, "2")), 415, "{wrong}");
        }
        assert_eq!(status(Method::PUT, &[own, (TRANSFER_ENCODING, "chunked")]), 415);
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        assert_eq!(ticket_of(&headers), None);
        headers.append(COOKIE, HeaderValue::from_static("a=b; liveobject_session2=x"));
        assert_eq!(ticket_of(&headers), None);
        headers.append(COOKIE, HeaderValue::from_static("c=d;liveobject_session=1.admin.ab; e=f"));
        assert_eq!(ticket_of(&headers), Some("1.admin.ab"));
    }

    #[test]
    fn scripts_and_other_sites_do_not_get_the_cookie() {
        let plain = cookie("t", 5, false);
        assert_eq!(plain, "liveobject_session=t; Path=/; Max-Age=5; HttpOnly; SameSite=Strict");
        assert_eq!(cookie("t", 5, true), format!("{plain}; Secure"));
    }
}
