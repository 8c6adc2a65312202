//! Access control. Requests under `/api` need a token with the required scope, the page's cookie, or a signed
//! link to the requested picture. On every route, the request must name this service as its host.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use actix_web::{
    Error, HttpMessage, HttpRequest, ResponseError,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode,
        header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, ORIGIN},
    },
    middleware::Next,
    web::Data,
};
use liveobject_actors::{
    EventId,
    domain::{
        clock::LogTime,
        links::Links,
        token::{Scope, Scopes, TokenHash},
    },
    messages::tokens::{Authenticate, Authenticated},
};
use tokio::time::Instant;

use super::{
    access::Access,
    connections::Connection,
    cookie,
    limiter::{Failure, Notice},
    page,
    problem::Problem,
    query, refused,
    state::{ApiState, ask},
    ticket::{self, Holder, Session},
};

const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// An authenticated caller; stored in the extensions of the request.
#[derive(Debug, Clone)]
enum Caller {
    /// The holder of a token with these scopes.
    Holder(Scopes),
    /// The holder of a signed link to the requested resource.
    Link,
}

/// Middleware for `/api`: responds with 401 to requests without a valid token, whether or not the path
/// exists.
pub(super) async fn require_token<B: MessageBody + 'static>(
    state: Data<ApiState>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    match holder(&state, &request).await {
        Ok((credential, scopes)) => {
            request.extensions_mut().insert(credential);
            pass(Caller::Holder(scopes), request, next).await
        }
        Err(problem) => Ok(refuse(request, &problem)),
    }
}

/// Middleware for a route that signed links can open: like [`require_token`], but a read needs no token if it
/// has a valid link to the event in the path.
pub(super) async fn require_token_or_link<B: MessageBody + 'static>(
    state: Data<ApiState>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let only_reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let event_id = request.match_info().get("event_id").unwrap_or_default();
    if only_reads
        && is_link_to(event_id, request.query_string(), &state.handle.links, state.handle.clock.now().log)
    {
        return pass(Caller::Link, request, next).await;
    }
    require_token(state, request, next).await
}

/// Middleware for endpoints that lead to secrets, to other data, or to access that outlasts the user: responds with 403
/// on a listener that needs no token. Home Assistant lets every user open an ingress, not only its administrators.
pub(super) async fn require_owner<B: MessageBody + 'static>(
    state: Data<ApiState>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    if state.trusted_peers.is_some() {
        let detail = "this is not available through Home Assistant, where every user could use it; use the service's \
                      own address and the admin token";
        return Ok(refuse(request, &Problem::new(StatusCode::FORBIDDEN, detail)));
    }
    Ok(next.call(request).await?.map_into_left_body())
}

/// Middleware for every endpoint: responds with 403 to tokens without the required scope.
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
        // Unreachable through the route table; denied anyway.
        (Access::Holder(_), Some(Caller::Link)) | (_, None) => Err(Problem::unauthorized()),
    }
}

/// Returns whether the caller of this request has this scope.
pub(super) fn may(request: &HttpRequest, scope: Scope) -> bool {
    match request.extensions().get::<Caller>() {
        Some(Caller::Holder(scopes)) => scopes.allow(scope),
        Some(Caller::Link) | None => false,
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

/// What a request was authenticated with; stored in the extensions of the request. It may become invalid while
/// a response is being sent.
#[derive(Debug, Clone)]
pub(super) struct Credential {
    holder: Holder,
    /// The hash of the admin token at the time.
    admin: TokenHash,
    /// The session of the page's cookie, if there was no token.
    session: Option<Session>,
    /// Whether the request came through a proxy that has checked the user.
    is_trusted: bool,
}

impl Credential {
    /// Returns whether the credential is still valid. While the tokens cannot be read, it is.
    pub(super) async fn is_valid(&self, state: &ApiState, now: LogTime) -> bool {
        if self.is_trusted {
            return true;
        }
        if self.session.as_ref().is_some_and(|session| ticket::has_ended(&state.sessions, session, now)) {
            return false;
        }
        match self.holder {
            Holder::Administrator => state.token.hash() == self.admin,
            Holder::Of(hash) => {
                let found = ask(&state.handle.authenticate, Authenticate(hash)).await;
                !matches!(found, Ok(Ok(None)))
            }
        }
    }
}

/// Returns the token in the header, or the page's cookie if there is no token, and its scopes. Fails if both
/// are missing, or if the one that is used is not valid.
async fn holder(state: &ApiState, request: &ServiceRequest) -> Result<(Credential, Scopes), Problem> {
    if let Some(token) = bearer(request.headers().get(AUTHORIZATION))
        && state.trusted_peers.is_none()
    {
        let admin = state.token.hash();
        let (holder, scopes) = holder_of(state, client(state, request.request()), token).await?;
        return Ok((Credential { holder, admin, session: None, is_trusted: false }, scopes));
    }
    let (credential, scopes) = signed_in(state, request.request(), state.handle.clock.now().log).await?;
    cookie::check_own_page(request.method(), request.headers())?;
    Ok((credential, scopes))
}

/// Returns the session of the page's cookie and its scopes. If there are several cookies, returns the first
/// one that is valid. Through a trusted proxy, everyone is signed in.
pub(super) async fn signed_in(
    state: &ApiState,
    request: &HttpRequest,
    now: LogTime,
) -> Result<(Credential, Scopes), Problem> {
    let admin = state.token.hash();
    if state.trusted_peers.is_some() {
        let credential = Credential { holder: Holder::Administrator, admin, session: None, is_trusted: true };
        return Ok((credential, Scopes::admin()));
    }
    for session in sessions(state, request, now) {
        let scopes = match session.holder {
            Holder::Administrator => Some(Scopes::admin()),
            Holder::Of(hash) => {
                ask(&state.handle.authenticate, Authenticate(hash)).await??.map(|found| found.scopes())
            }
        };
        if let Some(scopes) = scopes {
            let holder = session.holder;
            return Ok((Credential { holder, admin, session: Some(session), is_trusted: false }, scopes));
        }
    }
    Err(Problem::unauthorized())
}

/// Returns the sessions of the page's cookies.
pub(super) fn sessions(state: &ApiState, request: &HttpRequest, now: LogTime) -> Vec<Session> {
    let admin = state.token.current();
    cookie::tickets(request.headers(), state.sessions.instance(), is_encrypted(request))
        .filter_map(|ticket| ticket::open(&state.sessions, &admin, ticket, now))
        .collect()
}

/// Returns whether the client uses TLS, with this service or with a proxy that reports it. A client that forges
/// the header affects only its own session.
pub(super) fn is_encrypted(request: &HttpRequest) -> bool {
    let connection = request.conn_data::<Arc<Connection>>();
    connection.is_some_and(|connection| connection.is_encrypted)
        || request.connection_info().scheme() == "https"
}

/// Returns whether the cookie of this browser must be restricted to TLS. If neither the connection nor a proxy
/// shows that the page uses TLS, its `Origin` does, or `public_url`.
pub(super) fn is_secure(state: &ApiState, request: &HttpRequest) -> bool {
    let origin = request.headers().get(ORIGIN).map(HeaderValue::as_bytes);
    is_encrypted(request) || origin.map_or(state.is_public_https, |origin| origin.starts_with(b"https://"))
}

/// Returns the connection's peer address.
pub(super) fn address(peer: Option<SocketAddr>) -> IpAddr {
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip())
}

/// Returns the address of the client, which a trusted proxy reports. Headers of all others are ignored, because any
/// client can set them.
pub(super) fn client(state: &ApiState, request: &HttpRequest) -> IpAddr {
    let peer = address(request.peer_addr());
    if state.is_forwarded(request.headers()) {
        state.trusted_proxies.client_of(peer, request.headers())
    } else {
        state.trusted_proxies.client(peer, request.headers())
    }
}

/// Returns who holds this token, and its scopes. Counts invalid tokens.
pub(super) async fn holder_of(
    state: &ApiState,
    from: IpAddr,
    token: &str,
) -> Result<(Holder, Scopes), Problem> {
    if state.token.matches(token) {
        return Ok((Holder::Administrator, Scopes::admin()));
    }
    let hash = TokenHash::of(token);
    match ask(&state.handle.authenticate, Authenticate(hash)).await?? {
        Some(found) => Ok((Holder::Of(hash), found.scopes())),
        None => Err(failed_login(state, from)),
    }
}

/// Returns whose one-time code this is, and uses it up. An invalid code, or that of a token that was revoked in the
/// meantime, counts as a failed login.
pub(super) async fn holder_of_code(
    state: &ApiState,
    from: IpAddr,
    code: &str,
) -> Result<(Holder, Scopes), Problem> {
    let scopes = match state.take_sign_in_code(code) {
        Some(Holder::Administrator) => Some((Holder::Administrator, Scopes::admin())),
        Some(holder @ Holder::Of(hash)) => {
            let found = ask(&state.handle.authenticate, Authenticate(hash)).await??;
            found.map(|found| (holder, found.scopes()))
        }
        None => None,
    };
    scopes.ok_or_else(|| failed_login(state, from))
}

/// Returns the holder of the token, or of the session, with which a request was authenticated.
pub(super) fn token_holder(request: &HttpRequest) -> Result<Holder, Problem> {
    let holder = request.extensions().get::<Credential>().map(|credential| credential.holder);
    holder.ok_or_else(Problem::unauthorized)
}

/// Returns the scopes of the caller of this request.
pub(super) fn scopes(request: &HttpRequest) -> Result<Scopes, Problem> {
    match request.extensions().get::<Caller>() {
        Some(Caller::Holder(scopes)) => Ok(scopes.clone()),
        Some(Caller::Link) | None => Err(Problem::unauthorized()),
    }
}

/// Returns the name of the token with which a request was authenticated; `None` for the admin token of a node.
pub(super) async fn token_name(state: &ApiState, request: &HttpRequest) -> Result<Option<String>, Problem> {
    let Holder::Of(hash) = token_holder(request)? else { return Ok(None) };
    // It may have been revoked since.
    let found = ask(&state.handle.authenticate, Authenticate(hash)).await??;
    match found.ok_or_else(Problem::unauthorized)? {
        Authenticated::Token(found) => Ok(Some(found.name.as_str().to_owned())),
        Authenticated::Administrator => Ok(None),
    }
}

/// Counts a failed login, and logs it at most twice per burst.
fn failed_login(state: &ApiState, from: IpAddr) -> Problem {
    let failure = state.limiter().failed(from, Instant::now());
    match failure {
        Failure::TooMany { seconds } => return Problem::too_many_failures(seconds),
        Failure::Counted(Some(Notice::First)) => tracing::warn!(%from, "failed login: invalid token"),
        Failure::Counted(Some(Notice::TooMany)) => {
            tracing::warn!(%from, "too many failed logins; not logging those of this address for a while");
        }
        Failure::Counted(None) => {}
    }
    Problem::unauthorized()
}

/// Middleware for every route: responds with 403 to requests that another website may have made a browser
/// send.
pub(super) async fn check_source<B: MessageBody + 'static>(
    state: Data<ApiState>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    if let Some(peers) = &state.trusted_peers {
        return match check_trusted(&state, peers, &request) {
            Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
            Err(problem) => Ok(refuse(request, &problem)),
        };
    }
    state.await_node(request.headers()).await;
    let is_forwarded = state.is_forwarded(request.headers());
    let host =
        if is_forwarded { header_text(&request, &FORWARDED_HOST) } else { header_text(&request, &HOST) };
    // Browsers always send `Host`. A request without one, such as an HTTP/1.0 health check, comes from
    // another client. That of a forwarded request was checked by the node that has forwarded it.
    if !is_forwarded && host.is_some_and(|host| !state.hosts.is_own(host)) {
        if refused::is_asked_for_html(&request) {
            let response = refused::page(host.unwrap_or_default(), request.headers());
            return Ok(request.into_response(response).map_into_right_body());
        }
        return Ok(refuse(request, &Problem::unknown_host()));
    }
    // The page itself contains no secrets. Behind a proxy that is not configured yet, it loads and shows what is wrong.
    let is_page = matches!(*request.method(), Method::GET | Method::HEAD) && page::is_part(request.path());
    let is_foreign = |origin| !state.hosts.is_same_origin(origin, host);
    if !is_page && header_text(&request, &ORIGIN).is_some_and(is_foreign) {
        let detail = "the address of this page is not known to the service; set public_url in [http] of its \
                      configuration to the address in the browser, or add its host to allowed_hosts";
        return Ok(refuse(request, &Problem::new(StatusCode::FORBIDDEN, detail)));
    }
    Ok(next.call(request).await?.map_into_left_body())
}

/// Checks a request on a listener that needs no token: it must come from the trusted proxy, and from a page of the same
/// host. The name of the host is not known here: people open Home Assistant under many names.
fn check_trusted(state: &ApiState, peers: &[IpAddr], request: &ServiceRequest) -> Result<(), Problem> {
    if !peers.contains(&address(request.peer_addr()).to_canonical()) {
        let detail = "this port serves only the ingress of Home Assistant ([http] ingress_from)";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    // Of several proxies, the first one knows the host that the browser used.
    let forwarded =
        header_text(request, &FORWARDED_HOST).map(|hosts| hosts.split(',').next().unwrap_or("").trim());
    let host = forwarded.or_else(|| header_text(request, &HOST));
    if header_text(request, &ORIGIN).is_some_and(|origin| !state.hosts.is_same_origin(origin, host)) {
        let detail = "the web page in `Origin` is not the one of Home Assistant";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    Ok(())
}

/// Returns the text of a header. A value that is not ASCII becomes an empty string, which matches nothing.
fn header_text<'a>(request: &'a ServiceRequest, name: &HeaderName) -> Option<&'a str> {
    request.headers().get(name).map(|value| value.to_str().unwrap_or(""))
}

fn refuse<B>(request: ServiceRequest, problem: &Problem) -> ServiceResponse<EitherBody<B>> {
    request.into_response(problem.error_response()).map_into_right_body()
}

/// Returns the token of a header (RFC 6750 section 2.1).
fn bearer(authorization: Option<&HeaderValue>) -> Option<&str> {
    let (scheme, token) = authorization?.to_str().ok()?.split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty())
}

/// Returns whether the query string is that of a valid link to this event. The path must spell the id exactly
/// as the link does: valid ids need no percent-encoding.
fn is_link_to(event_id: &str, query: &str, links: &Links, now: LogTime) -> bool {
    let parameters = query::parameters(query).unwrap_or_default();
    let once = |name: &str| {
        let mut values = parameters.iter().filter(|(n, _)| n == name).map(|(_, value)| value);
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
    use liveobject_actors::domain::link_key::LinkKey;

    use super::*;

    #[test]
    fn only_the_exact_query_of_a_link_is_accepted() {
        let links = Links::new("", 1, LinkKey::generate().unwrap());
        let id = EventId::parse("a").unwrap();
        let at = LogTime(0);
        let url = links.url(&id, at);
        let query = url.split_once('?').unwrap().1;
        let (expires, signature) = query.split_once('&').unwrap();
        for valid in [query.to_owned(), format!("{signature}&{expires}"), format!("{query}&t=1")] {
            assert!(is_link_to("a", &valid, &links, at), "{valid}");
        }
        for invalid in [
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
            assert!(!is_link_to("a", &invalid, &links, at), "{invalid}");
        }
        for other in ["", "b", "%61", "a%2F..", "a/", "a "] {
            assert!(!is_link_to(other, query, &links, at), "{other}");
        }
    }

    #[test]
    fn only_a_bearer_header_carries_a_token() {
        let token = |header: &str| bearer(Some(&HeaderValue::from_str(header).unwrap())).map(str::to_owned);
        for valid in ["Bearer abc", "bearer  abc ", "BEARER abc"] {
            assert_eq!(token(valid).as_deref(), Some("abc"), "{valid}");
        }
        for invalid in ["", "Bearer", "Bearer ", "abc", "Basic abc", "Bearerabc"] {
            assert_eq!(token(invalid), None, "{invalid}");
        }
        assert_eq!(bearer(None), None);
        assert_eq!(bearer(Some(&HeaderValue::from_bytes(b"Bearer \xff").unwrap())), None);
    }

    #[test]
    fn an_endpoint_accepts_its_scope_admin_and_links_where_the_table_allows_them() {
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
