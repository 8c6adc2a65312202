//! Who may call: holders of the token (everything under `/api`), under a name that is this service's (every route).

use actix_web::{
    Error, ResponseError,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        StatusCode,
        header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, ORIGIN},
    },
    middleware::Next,
    web::Data,
};

use super::{problem::Problem, state::ApiState};
use crate::token::ApiToken;

/// Middleware of `/api`: answers 401 to who has not the token, whatever lies at the address.
pub(super) async fn require_token<B: MessageBody + 'static>(
    state: Data<ApiState>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    if carries(request.headers().get(AUTHORIZATION), &state.token) {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    Ok(refuse(request, &Problem::unauthorized()))
}

/// Middleware of every route: answers 403 to requests that a web page elsewhere may have made a browser send.
pub(super) async fn check_source<B: MessageBody + 'static>(
    state: Data<ApiState>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let host = text(&request, &HOST);
    // Browsers always send a Host; what lacks it (HTTP/1.0 health checks) is no browser.
    if host.is_some_and(|host| !state.hosts.is_own(host)) {
        let detail =
            "this service does not go by the name in `Host`; [http] allowed_hosts lists the names it goes by";
        return Ok(refuse(request, &Problem::new(StatusCode::FORBIDDEN, detail)));
    }
    if text(&request, &ORIGIN).is_some_and(|origin| !state.hosts.is_same_origin(origin, host)) {
        let detail =
            "requests from this web page's `Origin` are not accepted; [http] allowed_hosts can name it";
        return Ok(refuse(request, &Problem::new(StatusCode::FORBIDDEN, detail)));
    }
    Ok(next.call(request).await?.map_into_left_body())
}

/// A header's text; what is not ASCII counts as a text that nothing matches.
fn text<'a>(request: &'a ServiceRequest, name: &HeaderName) -> Option<&'a str> {
    request.headers().get(name).map(|value| value.to_str().unwrap_or(""))
}

fn refuse<B>(request: ServiceRequest, problem: &Problem) -> ServiceResponse<EitherBody<B>> {
    request.into_response(problem.error_response()).map_into_right_body()
}

/// Whether a header carries the token (RFC 6750 section 2.1).
fn carries(authorization: Option<&HeaderValue>, token: &ApiToken) -> bool {
    let credentials =
        authorization.and_then(|value| value.to_str().ok()).and_then(|text| text.split_once(' '));
    credentials
        .is_some_and(|(scheme, given)| scheme.eq_ignore_ascii_case("Bearer") && token.matches(given.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_opens() {
        let directory = tempfile::tempdir().unwrap();
        let token = ApiToken::load_or_create(directory.path()).unwrap();
        let accepted = |header: &str| carries(Some(&HeaderValue::from_str(header).unwrap()), &token);
        let text = token.expose();
        for right in [format!("Bearer {text}"), format!("bearer  {text} ")] {
            assert!(accepted(&right), "{right}");
        }
        let short = &text[1..];
        for wrong in ["", "Bearer", "Bearer ", text] {
            assert!(!accepted(wrong), "{wrong}");
        }
        for wrong in ["Bearer x", "Bearer", "Basic "] {
            assert!(!accepted(&format!("{wrong}{text}")), "{wrong}");
        }
        assert!(!accepted(&format!("Bearer {short}")));
        assert!(!carries(None, &token));
    }
}
