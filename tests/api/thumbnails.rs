//! Pictures, from end to end: the real actors, files on a disk, and requests over HTTP.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

use actix_web::dev::ServerHandle;
use liveobject::{
    http::{ApiState, HostRules, serve},
    token::ApiToken,
};
use liveobject_actors::{
    EventId, Service, ServiceOptions,
    domain::{clock, event_log::QueryError, links::Links, store_fault::StoreFault},
    messages::thumbnails::ThumbnailError,
    thumbnails,
};
use reqwest::{Client, Method, Response, header::HeaderMap};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::helpers::{Answer, TestApp};

/// A grey pixel.
const JPEG: &[u8] = &[
    0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 1, 0xff, 0xc0, 0, 11, 8, 0, 1, 0, 1, 1, 1, 0x11, 0, 0xff, 0xda, 0, 8, 1,
    1, 0, 0, 63, 0, 0x7f, 0xff, 0x00, 0xff, 0xd9,
];

/// A red pixel.
const PNG: &[u8] = &[
    0x89, b'P', b'N', b'G', 13, 10, 26, 10, 0, 0, 0, 13, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0, 0, 1, 8,
    2, 0, 0, 0, 0x90, 0x77, 0x53, 0xde, 0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82,
];

const MAX: usize = 2 * 1024 * 1024;

fn path(id: &str) -> String {
    format!("/api/v1/events/{id}/thumbnail")
}

/// The real actors behind a server.
struct Live {
    service: Service,
    server: ServerHandle,
    base: String,
    token: String,
    client: Client,
    dir: tempfile::TempDir,
}

impl Live {
    async fn start() -> Self {
        Self::open(tempfile::tempdir().unwrap()).await
    }

    async fn open(dir: tempfile::TempDir) -> Self {
        let token = ApiToken::load_or_create(dir.path()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let options = ServiceOptions { public_url: base.clone(), ..ServiceOptions::in_dir(dir.path()) };
        let service = Service::start(options).await.unwrap();
        let state = ApiState::new(service.handle(), token.clone(), HostRules::new(&base, &[]));
        let server = serve(listener, state).unwrap();
        let stop = server.handle();
        #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
        actix_web::rt::spawn(server);
        let client = Client::builder().no_proxy().build().unwrap();
        Self { service, server: stop, base, token: token.expose().to_owned(), client, dir }
    }

    async fn restart(self) -> Self {
        self.server.stop(false).await;
        self.service.stop().await;
        Self::open(self.dir).await
    }

    /// Stops the whole of it, so that the next test has the processor for itself.
    async fn stop(self) {
        self.server.stop(false).await;
        self.service.stop().await;
    }

    /// Accepts an event, and answers the path and the query of its `thumbnail_url`.
    async fn event(&self, id: &str) -> String {
        let event = json!({"event_id": id, "camera_id": "door", "description": "Somebody"});
        let events = format!("{}/api/v1/events", self.base);
        let posted = self.client.post(&events).bearer_auth(&self.token).json(&event).send().await.unwrap();
        assert_eq!(posted.status(), 202);
        self.link(id).await
    }

    async fn link(&self, id: &str) -> String {
        let event = format!("{}/api/v1/events/{id}", self.base);
        let event = self.client.get(event).bearer_auth(&self.token).send().await.unwrap();
        let event: Value = event.json().await.unwrap();
        let url = event["thumbnail_url"].as_str().unwrap();
        let (path, _) = url.split_once('?').unwrap();
        assert_eq!(path, format!("{}/api/v1/events/{id}/thumbnail", self.base));
        url.strip_prefix(&self.base).unwrap().to_owned()
    }

    async fn put(&self, id: &str, image: impl Into<reqwest::Body>) -> Response {
        let url = format!("{}{}", self.base, path(id));
        self.client.put(url).bearer_auth(&self.token).body(image).send().await.unwrap()
    }

    /// Without the token.
    async fn open_link(&self, method: Method, link: &str) -> (u16, HeaderMap, Vec<u8>) {
        let answer = self.client.request(method, format!("{}{link}", self.base)).send().await.unwrap();
        (answer.status().as_u16(), answer.headers().clone(), answer.bytes().await.unwrap().to_vec())
    }

    /// The status for a path that no client has tidied up.
    async fn status_as_written(&self, path: &str) -> u16 {
        let address = self.base.strip_prefix("http://").unwrap().to_owned();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        let answered = spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap()
        });
        answered.await.unwrap()
    }

    async fn status(&self, link: &str) -> u16 {
        self.open_link(Method::GET, link).await.0
    }
}

#[actix_web::test]
async fn a_link_opens_its_picture_without_the_token() {
    let it = Live::start().await;
    let link = it.event("a").await;
    assert_eq!(it.status(&link).await, 404, "a good link to an event without a picture");
    assert_eq!(it.put("a", JPEG).await.status(), 204);
    let (status, headers, image) = it.open_link(Method::GET, &link).await;
    assert_eq!((status, image.as_slice()), (200, JPEG));
    for (name, value) in [
        ("content-type", "image/jpeg"),
        ("content-length", "36"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "private, max-age=300"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert_eq!(headers["x-request-id"].len(), 36);
    let (status, headers, image) = it.open_link(Method::HEAD, &link).await;
    assert_eq!((status, headers["content-length"].to_str().unwrap(), image.len()), (200, "36", 0));
    it.stop().await;
}

#[actix_web::test]
async fn a_link_opens_nothing_else() {
    let it = Live::start().await;
    let link = it.event("a").await;
    it.event("b").await;
    for id in ["a", "b"] {
        assert_eq!(it.put(id, JPEG).await.status(), 204);
    }
    let query = link.split_once('?').unwrap().1;
    for other in [
        "/api/v1/events/b/thumbnail",
        "/api/v1/events/a",
        "/api/v1/events",
        "/api/v1/events/a/thumbnail/",
        "/api/v1/events/a/thumbnail/x",
        "/api/v1/events/a%2Fthumbnail",
        "/api/v1/events//a/thumbnail",
        "/api/v1/events/a/thumbnail%2F..%2F..%2Fb",
        "/api/v1/events/a%2F..%2Fb/thumbnail",
        "/api/v1/events/b%2F..%2Fa/thumbnail",
        "/api/v1/events/a%00/thumbnail",
        "/api/v1/events/%/thumbnail",
        "/api/v1/integrations/mqtt/config",
        "/api/v1/integrations/mqtt/config/thumbnail",
        "/api/v1/cameras/a/thumbnail",
    ] {
        let path = format!("{other}?{query}");
        assert_eq!(it.status(&path).await, 401, "{other}");
    }
    for other in [
        "/api/v1/events/a/thumbnail/../../b",
        "/api/v1/events/b/../a/thumbnail",
        "/api/v1/events/a/../b/thumbnail",
        "/api/v1/./events/a/thumbnail",
        "/api/v1/events/a/thumbnail/..",
        "/api/v1/events/a;b/thumbnail",
    ] {
        assert_eq!(it.status_as_written(&format!("{other}?{query}")).await, 401, "{other}");
    }
    assert_eq!(it.status_as_written(&link).await, 200);
    for method in [Method::PUT, Method::POST, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        assert_eq!(it.open_link(method.clone(), &link).await.0, 401, "{method}");
    }
    assert_eq!(it.status(&path("a")).await, 401, "no link at all");
    // The same event in other letters is the same event.
    assert_eq!(it.status(&format!("/api/v1/events/%61/thumbnail?{query}")).await, 200);
    it.stop().await;
}

#[actix_web::test]
async fn an_altered_or_expired_link_opens_nothing() {
    let it = Live::start().await;
    let link = it.event("a").await;
    assert_eq!(it.put("a", JPEG).await.status(), 204);
    let (start, signature) = link.rsplit_once('=').unwrap();
    let expires = start.split(['=', '&']).nth(1).unwrap();
    let later = (expires.parse::<i64>().unwrap() + 1).to_string();
    let last = if signature.ends_with('0') { '1' } else { '0' };
    for altered in [
        link.replace(expires, &later),
        format!("{start}={}{last}", &signature[..63]),
        format!("{start}="),
        start.to_owned(),
        format!("{link}&expires={later}"),
        format!("{}?{}", path("a"), "expires=9999999999&signature="),
    ] {
        let (status, headers, _) = it.open_link(Method::GET, &altered).await;
        assert_eq!((status, headers["www-authenticate"].to_str().unwrap()), (401, "Bearer"), "{altered}");
    }
    let links = Links::new(&it.base, 7, thumbnails::load_or_create(it.dir.path()).unwrap());
    let made = |seconds_ago: i64| {
        let at = clock::now() - chrono::Duration::seconds(7 * 86_400 + seconds_ago);
        links.url(&EventId::parse("a").unwrap(), at).strip_prefix(&it.base).unwrap().to_owned()
    };
    assert_eq!(it.status(&made(-60)).await, 200);
    assert_eq!(it.status(&made(1)).await, 401, "expired");
    it.stop().await;
}

#[actix_web::test]
async fn a_foreign_host_is_refused_even_with_a_good_link() {
    let it = Live::start().await;
    let link = it.event("a").await;
    let answer = it.client.get(format!("{}{link}", it.base)).header("Host", "evil.example").send().await;
    assert_eq!(answer.unwrap().status(), 403);
    it.stop().await;
}

#[actix_web::test]
async fn pictures_and_links_survive_a_restart_and_a_replacement() {
    let it = Live::start().await;
    let link = it.event("evt:1.a").await;
    assert_eq!(it.put("evt:1.a", JPEG).await.status(), 204);
    let it = it.restart().await;
    assert_eq!(it.open_link(Method::GET, &link).await.2, JPEG);
    assert_eq!(it.put("evt:1.a", PNG).await.status(), 204);
    let (_, headers, image) = it.open_link(Method::GET, &link).await;
    assert_eq!((headers["content-type"].to_str().unwrap(), image.as_slice()), ("image/png", PNG));
    it.stop().await;
}

#[actix_web::test]
async fn what_is_not_kept_says_why() {
    let it = Live::start().await;
    it.event("a").await;
    assert_eq!(it.put("nothing", JPEG).await.status(), 404);
    for other in [b"".as_slice(), b"GIF89a", b"<svg/>", &JPEG[..30]] {
        let refused = it.put("a", other).await;
        assert_eq!(refused.status(), 422, "{}", other.escape_ascii());
        let problem: Value = refused.json().await.unwrap();
        assert_eq!(problem["errors"][0]["field"], "thumbnail", "{problem}");
    }
    let mut large = PNG.to_vec();
    large.resize(MAX, 0);
    assert_eq!(it.put("a", large.clone()).await.status(), 204);
    let (status, _, image) = it.open_link(Method::GET, &it.link("a").await).await;
    assert_eq!((status, image == large), (200, true));
    large.push(0);
    assert_eq!(it.put("a", large).await.status(), 413);
    it.stop().await;
}

#[actix_web::test]
async fn many_pictures_come_and_go_at_once() {
    let it = Live::start().await;
    let link = it.event("a").await;
    let mut large = PNG.to_vec();
    large.resize(MAX, 0);
    assert_eq!(it.put("a", large.clone()).await.status(), 204);
    // More than the memory that is set aside at once: they wait for their turn.
    let all = futures_util::future::join_all((0..100).map(|_| it.open_link(Method::GET, &link))).await;
    for (status, _, image) in all {
        assert_eq!((status, image.len()), (200, MAX));
    }
    it.stop().await;
}

#[actix_web::test]
async fn failures_say_when_to_come_back_and_hide_their_cause() {
    let app = TestApp::start();
    app.script().query_fails = Some(QueryError(StoreFault::Locked));
    let got = app.get(&path("a")).await;
    app.script().put_thumbnail_fails = Some(ThumbnailError::Storage(StoreFault::DiskFull));
    let put = Answer::to(app.request(Method::PUT, &path("a")).body(JPEG)).await;
    app.script().put_thumbnail_fails = Some(ThumbnailError::Busy);
    let busy = Answer::to(app.request(Method::PUT, &path("a")).body(JPEG)).await;
    for (answer, retry_after) in [(got, "5"), (put, "5"), (busy, "1")] {
        answer.problem(503);
        assert_eq!(answer.header("retry-after"), retry_after);
        for cause in [StoreFault::Locked, StoreFault::DiskFull] {
            assert!(!answer.text.contains(&cause.to_string()), "{}", answer.text);
        }
    }
    app.stop().await;
}
