//! Forwards requests from a standby to the active node, with the caller's own token. Bodies are streamed in both
//! directions, so that their size does not matter.

use std::{
    cell::OnceCell,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actix_http::{body::SizedStream, error::PayloadError, header::HeaderMap};
use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{
        Method, Version,
        header::{
            CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
            PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, X_FORWARDED_FOR, X_FORWARDED_HOST,
            X_FORWARDED_PROTO,
        },
    },
    web::{Bytes, Payload},
};
use awc::{
    Client, ClientResponse, Connector,
    error::{ConnectError, SendRequestError},
};
use futures_util::{Stream, StreamExt as _};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::time::Instant;

use super::{connections::Connection, headers, problem::Problem};

/// Proves to the active node that another node has forwarded a request. Only nodes know its value, which they read
/// from the database.
pub(super) const NODE: HeaderName = HeaderName::from_static("liveobject-node");

/// Headers that concern only one connection (RFC 9110, section 7.6.1), and those that a new request gets anyway.
const NOT_FORWARDED: [HeaderName; 11] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    EXPECT,
    NODE,
];

/// Each worker of the server has a client of its own. Requests must not wait here for those of other clients: the
/// active node limits the connections from one address, and ends those that wait longest for their client.
const CONNECTIONS: usize = 256;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the active node may take to begin its response. Longer than it waits for anything itself.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// The active node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name, for people.
    pub name: String,
    /// Its URL, without a trailing `/`.
    pub url: String,
    /// What proves to it that this node is one of its cluster.
    pub proof: String,
}

thread_local! {
    static PLAIN: OnceCell<Client> = const { OnceCell::new() };
    static TLS: OnceCell<Client> = const { OnceCell::new() };
}

/// Returns this thread's client for this URL.
fn client(url: &str) -> Result<Client, rustls::Error> {
    if !url.starts_with("https:") {
        return Ok(PLAIN.with(|client| client.get_or_init(|| new_client(None)).clone()));
    }
    if let Some(client) = TLS.with(|client| client.get().cloned()) {
        return Ok(client);
    }
    let new = new_client(Some(tls()?));
    Ok(TLS.with(|client| client.get_or_init(|| new).clone()))
}

/// Returns the configuration of a client that trusts the system's authorities.
fn tls() -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn new_client(tls: Option<ClientConfig>) -> Client {
    let mut connector =
        Connector::new().timeout(CONNECT_TIMEOUT).limit(CONNECTIONS).max_http_version(Version::HTTP_11);
    if let Some(tls) = tls {
        connector = connector.rustls_0_23(Arc::new(tls));
    }
    let builder = Client::builder().connector(connector).disable_redirects().no_default_headers();
    builder.timeout(HEAD_TIMEOUT).finish()
}

/// Sends a request to the active node, and returns its response.
pub(super) async fn forward(
    target: &Target,
    request: &HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    if request.headers().contains_key(NODE) {
        // Two standbys that take each other for the active node must not forward in a circle.
        return Err(not_active(target));
    }
    let client = client(&target.url).map_err(|error| unreachable(target, &error))?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let mut outgoing =
        client.request(request.method().clone(), format!("{}{path}", target.url)).no_decompress();
    copy(request.headers(), outgoing.headers_mut());
    add_forwarding(request, outgoing.headers_mut(), target);
    let length = content_length(request.headers());
    let has_body =
        length.is_some_and(|length| length > 0) || request.headers().contains_key(TRANSFER_ENCODING);
    let sent = match (has_body, length) {
        (false, _) => outgoing.send().await,
        (true, Some(length)) => {
            outgoing.send_body(SizedStream::new(length, Body::new(request, payload))).await
        }
        (true, None) => outgoing.send_stream(Body::new(request, payload)).await,
    };
    match sent {
        Ok(response) => Ok(returned(request.method(), response)),
        Err(error) => Err(failed(target, &error)),
    }
}

/// The body of a request. While it arrives, the connection counts as one that waits for its client.
struct Body {
    payload: Payload,
    connection: Option<Arc<Connection>>,
    is_complete: bool,
}

impl Body {
    fn new(request: &HttpRequest, payload: Payload) -> Self {
        let connection = request.conn_data::<Arc<Connection>>().cloned();
        if let Some(connection) = &connection {
            connection.begin_body(Instant::now());
        }
        Self { payload, connection, is_complete: false }
    }
}

impl Stream for Body {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.payload).poll_next(cx);
        self.is_complete |= matches!(next, Poll::Ready(None));
        next
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.end_body(self.is_complete, Instant::now());
        }
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Copies the headers that do not concern only one connection.
fn copy(from: &HeaderMap, to: &mut HeaderMap) {
    let named: Vec<_> = headers::list(from, &CONNECTION).map(str::to_ascii_lowercase).collect();
    for (name, value) in from {
        let is_named = named.iter().any(|named| named == name.as_str());
        if !is_named && !NOT_FORWARDED.contains(name) && *name != CONTENT_LENGTH && *name != HOST {
            to.append(name.clone(), value.clone());
        }
    }
}

/// Adds which client has sent the request, and to which host.
fn add_forwarding(request: &HttpRequest, headers: &mut HeaderMap, target: &Target) {
    if let Some(peer) = request.peer_addr() {
        let peer = HeaderValue::try_from(peer.ip().to_canonical().to_string());
        headers.append(X_FORWARDED_FOR, peer.expect("an address has only ASCII characters"));
    }
    if !headers.contains_key(X_FORWARDED_HOST)
        && let Some(host) = request.headers().get(HOST)
    {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
    if !headers.contains_key(X_FORWARDED_PROTO) {
        let scheme = HeaderValue::from_str(request.connection_info().scheme());
        headers.insert(X_FORWARDED_PROTO, scheme.unwrap_or(HeaderValue::from_static("http")));
    }
    if let Ok(proof) = HeaderValue::from_str(&target.proof) {
        headers.insert(NODE, proof);
    }
}

fn returned<S>(method: &Method, response: ClientResponse<S>) -> HttpResponse
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin + 'static,
{
    let mut builder = HttpResponseBuilder::new(response.status());
    let length = content_length(response.headers());
    for (name, value) in response.headers() {
        if !NOT_FORWARDED.contains(name) && *name != CONTENT_LENGTH {
            builder.append_header((name.clone(), value.clone()));
        }
    }
    let has_none = response.status().is_informational() || matches!(response.status().as_u16(), 204 | 304);
    match length {
        _ if has_none => builder.finish(),
        // A response to HEAD has a length, but no body.
        Some(length) if *method == Method::HEAD => {
            builder.body(SizedStream::new(length, futures_util::stream::empty::<Result<_, std::io::Error>>()))
        }
        Some(length) => builder.body(SizedStream::new(length, response.boxed_local())),
        None => builder.streaming(response.boxed_local()),
    }
}

/// The problem of a node that cannot answer itself, and does not forward either.
pub(super) fn not_active(target: &Target) -> Problem {
    Problem::unavailable(format!("this node is a standby; the active node is {}", target.name), 1)
}

fn failed(target: &Target, error: &SendRequestError) -> Problem {
    match error {
        // The connection has ended before the response.
        SendRequestError::Connect(ConnectError::Disconnected) => {}
        SendRequestError::Connect(_) | SendRequestError::Url(_) => return unreachable(target, error),
        _ => {}
    }
    tracing::debug!(%error, url = target.url, "the active node did not respond to a request");
    Problem::forwarding_failed(&target.name)
}

/// The problem if no connection to the active node could be opened.
fn unreachable(target: &Target, error: &impl fmt::Display) -> Problem {
    let Target { name, url, .. } = target;
    tracing::debug!(%error, url, "cannot connect to the active node");
    Problem::unavailable(
        format!(
            "the active node {name} cannot be reached at {url} ([database] node_url of that node); another node takes \
             over if it has ended"
        ),
        1,
    )
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
