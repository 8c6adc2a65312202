//! Who may call: holders of the token (everything under `/api`) or of a signed link (the one thing that it names), under a
//! name that is this service's (every route).

use actix_web::{
    Error, ResponseError,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode,
        header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, ORIGIN},
    },
    middleware::Next,
    web::{Data, Query},
};
use liveobject_actors::{
    EventId,
    clock::{self, Timestamp},
    thumbnails::Links,
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

/// Middleware of a route that signed links open as well: [`require_token`], but whoever only looks needs none with a link
/// that was made for the event in the path and is still good.
pub(super) async fn require_token_or_link<B: MessageBody + 'static>(
    state: Data<ApiState>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    let event_id = request.match_info().get("event_id").unwrap_or_default();
    let opens = || opens(event_id, request.query_string(), &state.handle.links, clock::now());
    if carries(request.headers().get(AUTHORIZATION), &state.token) || (looks && opens()) {
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

/// Whether a query is that of a link to this event. What the path spells in another way than the link did (`%2E`) is
/// not looked at further: an event's id has no such letters.
fn opens(event_id: &str, query: &str, links: &Links, now: Timestamp) -> bool {
    let pairs = Query::<Vec<(String, String)>>::from_query(query).map(Query::into_inner).unwrap_or_default();
    let once = |name: &str| {
        let mut values = pairs.iter().filter(|(n, _)| n == name).map(|(_, value)| value);
        values.next().filter(|_| values.next().is_none())
    };
    let (Ok(event_id), Some(expires), Some(signature)) =
        (EventId::parse(event_id), once("expires"), once("signature"))
    else {
        return false;
    };
    expires.parse().is_ok_and(|expires| links.verify(&event_id, expires, signature, now))
}

#[cfg(test)]
mod tests {
    use liveobject_actors::thumbnails::LinkKey;

    use super::*;

    #[test]
    fn only_the_links_own_query_opens() {
        let links = Links::new("", 1, LinkKey::generate().unwrap());
        let id = EventId::parse("a").unwrap();
        let at = clock::from_micros(0);
        let url = links.url(&id, at);
        let query = url.split_once('?').unwrap().1;
        let (expires, signature) = query.split_once('&').unwrap();
        for right in [query.to_owned(), format!("{signature}&{expires}"), format!("{query}&t=1")] {
            assert!(opens("a", &right, &links, at), "{right}");
        }
        for wrong in [
            String::new(),
            expires.to_owned(),
            signature.to_owned(),
            format!("{query}&{expires}"),
            format!("expires=1&{query}"),
            format!("{query}&signature=00"),
            format!("expires=x&{signature}"),
            format!("expires=99999999999999999999&{signature}"),
            format!("expires=9223372036854775807&{signature}"),
            query.to_uppercase(),
            format!("{query}%00"),
        ] {
            assert!(!opens("a", &wrong, &links, at), "{wrong}");
        }
        for other in ["", "b", "%61", "a%2F..", "a/", "a "] {
            assert!(!opens(other, query, &links, at), "{other}");
        }
    }

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
