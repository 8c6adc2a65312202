//! Forwards requests from a standby to the active node, with the caller's own token. Bodies are streamed in both
//! directions, so that their size does not matter.
//!
//! A node that is suspended or unplugged accepts requests and never responds. So each wait for the active node has a
//! limit, and all end as soon as another node is active.

use std::{
    cell::{Cell, OnceCell},
    io,
    net::IpAddr,
    pin::Pin,
    rc::Rc,
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
            CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, FORWARDED, HOST, HeaderName, HeaderValue,
            PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
            X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO,
        },
    },
    web::{Bytes, Payload},
};
use awc::{
    Client, ClientResponse, Connector,
    error::{ConnectError, SendRequestError},
};
use futures_util::{Stream, StreamExt as _, future::LocalBoxFuture, stream};
use liveobject_actors::domain::causes::with_causes;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::time::{Instant, sleep_until, timeout};

use super::{auth, connections::Connection, headers, problem::Problem};

/// Shows that a node has forwarded the request, and proves it to the active node (see
/// [`NodeKey`](liveobject_actors::domain::node_key::NodeKey)).
pub(super) const NODE: HeaderName = HeaderName::from_static("liveobject-node");

/// The value of [`NODE`] without a proof.
const UNPROVEN: &str = "-";

/// The methods of the API, and those that it refuses like any other request. A `CONNECT` has no body, but what follows
/// it would be read as one.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// Headers with which a proxy describes the client of a request begin so. Clients can send them as well.
const FORWARDED_PREFIX: &str = "x-forwarded-";

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
/// How long the active node may take to begin its response, and then to continue it. Longer than it waits for anything
/// itself, and than its streams are silent.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(75);
const EVENT_STREAM: &str = "text/event-stream";

/// The active node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name, for people.
    pub name: String,
    /// Its URL, without a trailing `/`.
    pub url: String,
    /// What proves to it that this node is one of its cluster. `None` if this node cannot prove it.
    pub proof: Option<String>,
}

/// Why the active node is not waited for any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Another node is active.
    TakenOver,
    /// This process ends.
    Stopping,
}

/// Completes when the active node must not be waited for any more.
pub(super) type Ending = LocalBoxFuture<'static, Ended>;

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
    builder.disable_timeout().finish()
}

/// Sends a request of this client to the active node, and returns its response.
pub(super) async fn forward(
    target: &Target,
    client_address: IpAddr,
    request: &HttpRequest,
    payload: Payload,
    mut ending: Ending,
) -> Result<HttpResponse, Problem> {
    if !METHODS.contains(request.method()) {
        return Err(Problem::method_not_allowed(METHODS.map(|method| method.to_string()).join(", ")));
    }
    if request.headers().contains_key(NODE) {
        // Two standbys that take each other for the active node must not forward in a circle.
        return Err(not_active(target));
    }
    let client = client(&target.url).map_err(|error| unreachable(target, &error))?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let mut outgoing =
        client.request(request.method().clone(), format!("{}{path}", target.url)).no_decompress();
    copy(request.headers(), outgoing.headers_mut());
    describe_client(client_address, request, outgoing.headers_mut(), target);
    let progress = Rc::new(Cell::new(Instant::now()));
    let body = |payload| Body::new(request, payload, Rc::clone(&progress));
    let length = content_length(request.headers());
    let has_body =
        length.is_some_and(|length| length > 0) || request.headers().contains_key(TRANSFER_ENCODING);
    let sending = match (has_body, length) {
        (false, _) => outgoing.send(),
        (true, Some(length)) => outgoing.send_body(SizedStream::new(length, body(payload))),
        (true, None) => outgoing.send_stream(body(payload)),
    };
    tokio::select! {
        biased;
        sent = sending => match sent {
            Ok(response) => Ok(returned(request.method(), response, ending)),
            Err(error) => Err(failed(target, &error)),
        },
        ended = &mut ending => Err(match ended {
            Ended::TakenOver => Problem::taken_over(),
            Ended::Stopping => Problem::forwarding_failed(&target.name),
        }),
        () = silence(&progress) => Err(Problem::forwarding_failed(&target.name)),
    }
}

/// Completes when nothing of the request was sent for a while.
async fn silence(progress: &Cell<Instant>) {
    loop {
        let until = progress.get() + SILENCE_TIMEOUT;
        if until <= Instant::now() {
            return;
        }
        sleep_until(until).await;
    }
}

/// The body of a request. While it arrives, the connection counts as one that waits for its client.
struct Body {
    payload: Payload,
    connection: Option<Arc<Connection>>,
    is_complete: bool,
    /// When the last part arrived, or was wanted.
    progress: Rc<Cell<Instant>>,
}

impl Body {
    fn new(request: &HttpRequest, payload: Payload, progress: Rc<Cell<Instant>>) -> Self {
        let connection = request.conn_data::<Arc<Connection>>().cloned();
        if let Some(connection) = &connection {
            connection.begin_body(Instant::now());
        }
        Self { payload, connection, is_complete: false, progress }
    }
}

impl Stream for Body {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.progress.set(Instant::now());
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

/// Copies the headers that neither concern only one connection nor describe the client.
fn copy(from: &HeaderMap, to: &mut HeaderMap) {
    let named: Vec<_> = headers::list(from, &CONNECTION).map(str::to_ascii_lowercase).collect();
    for (name, value) in from {
        let is_named = named.iter().any(|named| named == name.as_str());
        let is_of_request = *name == CONTENT_LENGTH || *name == HOST;
        let is_of_client = *name == FORWARDED || name.as_str().starts_with(FORWARDED_PREFIX);
        if !is_named && !is_of_request && !is_of_client && !NOT_FORWARDED.contains(name) {
            to.append(name.clone(), value.clone());
        }
    }
}

/// Adds what this node believes about the client of the request, and to which host it was sent. An active node that
/// does not believe this one sees only the host.
fn describe_client(address: IpAddr, request: &HttpRequest, headers: &mut HeaderMap, target: &Target) {
    let address = HeaderValue::try_from(address.to_canonical().to_string());
    headers.insert(X_FORWARDED_FOR, address.expect("an address has only ASCII characters"));
    let scheme = if auth::is_encrypted(request) { "https" } else { "http" };
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    let proof = target.proof.as_ref().and_then(|proof| HeaderValue::from_str(proof).ok());
    if let Some(host) = request.headers().get(HOST) {
        headers.insert(X_FORWARDED_HOST, host.clone());
        if proof.is_none() {
            headers.insert(HOST, host.clone());
        }
    }
    headers.insert(NODE, proof.unwrap_or(HeaderValue::from_static(UNPROVEN)));
}

/// Returns the proof in the headers of a forwarded request.
pub(super) fn proof(headers: &HeaderMap) -> Option<&str> {
    headers.get(NODE)?.to_str().ok().filter(|proof| *proof != UNPROVEN)
}

fn returned<S>(method: &Method, response: ClientResponse<S>, ending: Ending) -> HttpResponse
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
        Some(length) => builder.body(SizedStream::new(length, returned_body(response, false, ending))),
        None => {
            let content_type = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
            let is_stream = content_type.is_some_and(|value| value.starts_with(EVENT_STREAM.as_bytes()));
            builder.streaming(returned_body(response, is_stream, ending))
        }
    }
}

/// Returns the body of a response until the active node is not waited for any more. An event stream then ends as usual:
/// its client opens another one. Of everything else, the client must see that it is incomplete.
fn returned_body<S>(
    body: S,
    is_stream: bool,
    ending: Ending,
) -> Pin<Box<dyn Stream<Item = Result<Bytes, io::Error>>>>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin + 'static,
{
    let parts = stream::unfold(Some((body, ending)), move |state| async move {
        let (mut body, mut ending) = state?;
        let part = tokio::select! {
            biased;
            part = timeout(SILENCE_TIMEOUT, body.next()) => match part {
                Ok(part) => part?.map_err(io::Error::other),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            },
            _ = &mut ending => Err(io::ErrorKind::ConnectionAborted.into()),
        };
        match part {
            Ok(part) => Some((Ok(part), Some((body, ending)))),
            Err(_) if is_stream => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    parts.fuse().boxed_local()
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
    tracing::debug!(error = %with_causes(&error), url = target.url, "the active node did not respond to a request");
    Problem::forwarding_failed(&target.name)
}

/// The problem if no connection to the active node could be opened.
fn unreachable(target: &Target, error: &dyn std::error::Error) -> Problem {
    let Target { name, url, .. } = target;
    tracing::debug!(error = %with_causes(error), url, "cannot connect to the active node");
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
