//! Who may call: holders of a token, or of the cookie that stands for one (what it permits, under `/api`), or of a signed
//! link (the one thing that it names), under a name that is this service's (every route).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use actix_web::{
    Error, HttpMessage, ResponseError,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode,
        header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN},
    },
    middleware::Next,
    web::{Data, Query},
};
use liveobject_actors::{
    EventId,
    domain::{
        clock::{self, Timestamp},
        links::Links,
        token::{Scopes, TokenHash},
    },
    messages::tokens::Authenticate,
};
use tokio::time::Instant;

use super::{
    limiter::{Gate, Notice},
    problem::Problem,
    route::Access,
    session,
    state::{ApiState, ask},
    ticket::{self, Holder},
};

/// Who calls, once that is known. Lies with the request.
#[derive(Debug, Clone)]
enum Caller {
    /// Whoever holds a token with these scopes.
    Holder(Scopes),
    /// Whoever has a signed link to what is asked for.
    Link,
}

/// Middleware of `/api`: answers 401 to who has no token, whatever lies at the address.
pub(super) async fn require_token<B: MessageBody + 'static>(
    state: Data<ApiState>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    match holder(&state, &request).await {
        Ok(scopes) => pass(Caller::Holder(scopes), request, next).await,
        Err(problem) => Ok(refuse(request, &problem)),
    }
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
    if looks && opens(event_id, request.query_string(), &state.handle.links, clock::now()) {
        return pass(Caller::Link, request, next).await;
    }
    require_token(state, request, next).await
}

/// Middleware of every endpoint: answers 403 to who holds a token that does not permit this.
pub(super) async fn require<B: MessageBody + 'static>(
    access: Access,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let caller = request.extensions().get::<Caller>().cloned();
    match permits(access, caller.as_ref()) {
        Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
        Err(problem) => Ok(refuse(request, &problem)),
    }
}

fn permits(access: Access, caller: Option<&Caller>) -> Result<(), Problem> {
    match (access, caller) {
        (Access::Anyone, _) | (Access::HolderOrLink(_), Some(Caller::Link)) => Ok(()),
        (Access::Holder(scope) | Access::HolderOrLink(scope), Some(Caller::Holder(scopes))) => {
            if scopes.allow(scope) { Ok(()) } else { Err(Problem::lacks(scope, scopes)) }
        }
        // Nothing of ours gets here without being asked who it is; if it did, it would not be let in.
        (Access::Holder(_), Some(Caller::Link)) | (_, None) => Err(Problem::unauthorized()),
    }
}

async fn pass<B: MessageBody + 'static>(
    caller: Caller,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    request.extensions_mut().insert(caller);
    Ok(next.call(request).await?.map_into_left_body())
}

/// What the caller may do, by a token in the header or else by the page's cookie; what to answer when there is neither, or
/// none that is good.
async fn holder(state: &ApiState, request: &ServiceRequest) -> Result<Scopes, Problem> {
    if let Some(token) = bearer(request.headers().get(AUTHORIZATION)) {
        return Ok(holder_of(state, address(request.peer_addr()), token).await?.1);
    }
    let scopes = signed_in(state, request.headers()).await?;
    session::from_own_page(request.method(), request.headers())?;
    Ok(scopes)
}

/// What the page's cookie permits.
pub(super) async fn signed_in(state: &ApiState, headers: &HeaderMap) -> Result<Scopes, Problem> {
    let ticket = session::ticket_of(headers).ok_or_else(Problem::unauthorized)?;
    match ticket::open(&state.token, ticket, clock::now()).ok_or_else(Problem::unauthorized)? {
        Holder::Administrator => Ok(Scopes::admin()),
        Holder::Of(hash) => {
            let found = ask(&state.handle.authenticate, Authenticate(hash)).await??;
            found.map(|found| found.scopes).ok_or_else(Problem::unauthorized)
        }
    }
}

/// The address of the connection: what a proxy, or anybody, writes into a header is not believed.
pub(super) fn address(peer: Option<SocketAddr>) -> IpAddr {
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip())
}

/// Whose token this is and what it permits. Wrong tokens are counted.
pub(super) async fn holder_of(
    state: &ApiState,
    from: IpAddr,
    token: &str,
) -> Result<(Holder, Scopes), Problem> {
    let hash = TokenHash::of(token);
    if let Gate::Closed { seconds } = state.limiter().gate(from, &hash, Instant::now()) {
        return Err(Problem::too_many_failures(seconds));
    }
    let found = if state.token.matches(token) {
        Some((Holder::Administrator, Scopes::admin()))
    } else {
        let found = ask(&state.handle.authenticate, Authenticate(hash)).await??;
        found.map(|found| (Holder::Of(hash), found.scopes))
    };
    let Some(found) = found else {
        failed(state, from);
        return Err(Problem::unauthorized());
    };
    state.limiter().succeeded(from, hash, Instant::now());
    Ok(found)
}

/// Counts a wrong token, and logs it once a burst.
fn failed(state: &ApiState, from: IpAddr) {
    let notice = state.limiter().failed(from, Instant::now());
    match notice {
        Some(Notice::First) => tracing::warn!(%from, "a call with a wrong token"),
        Some(Notice::TooMany) => {
            tracing::warn!(%from, "too many wrong tokens: others from this address are not looked at for a while");
        }
        None => {}
    }
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

/// The token in a header (RFC 6750 section 2.1).
fn bearer(authorization: Option<&HeaderValue>) -> Option<&str> {
    let (scheme, token) = authorization?.to_str().ok()?.split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty())
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
    use liveobject_actors::domain::{link_key::LinkKey, token::Scope};

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
    fn only_a_bearer_header_carries_a_token() {
        let carried = |header: &str| bearer(Some(&HeaderValue::from_str(header).unwrap())).map(str::to_owned);
        for right in ["Bearer abc", "bearer  abc ", "BEARER abc"] {
            assert_eq!(carried(right).as_deref(), Some("abc"), "{right}");
        }
        for wrong in ["", "Bearer", "Bearer ", "abc", "Basic abc", "Bearerabc"] {
            assert_eq!(carried(wrong), None, "{wrong}");
        }
        assert_eq!(bearer(None), None);
        assert_eq!(bearer(Some(&HeaderValue::from_bytes(b"Bearer \xff").unwrap())), None);
    }

    #[test]
    fn an_endpoint_is_open_to_its_scope_to_admin_and_where_it_says_so_to_links() {
        let holder = |scope| Caller::Holder(Scopes::of([scope]).unwrap());
        let status = |access, caller: Option<&Caller>| {
            permits(access, caller)
                .map_or_else(|problem| problem.error_response().status().as_u16(), |()| 200)
        };
        for needed in Scope::ALL {
            for access in [Access::Holder(needed), Access::HolderOrLink(needed)] {
                for scope in Scope::ALL {
                    let expected = if scope == needed || scope == Scope::Admin { 200 } else { 403 };
                    assert_eq!(status(access, Some(&holder(scope))), expected, "{access:?} {scope}");
                }
                assert_eq!(status(access, None), 401);
            }
            assert_eq!(status(Access::Holder(needed), Some(&Caller::Link)), 401);
            assert_eq!(status(Access::HolderOrLink(needed), Some(&Caller::Link)), 200);
        }
        assert_eq!(status(Access::Anyone, None), 200);
    }
}
