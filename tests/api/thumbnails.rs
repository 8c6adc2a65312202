//! Pictures end to end: the real actors, files on disk, and requests over HTTP.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use actix_web::dev::ServerHandle;
use liveobject::{
    addresses::Addresses,
    finder::Finder,
    history::History,
    http::{ApiOptions, ApiState, DatabaseView, FAILED_LOGINS, HostRules, Limits, TrustedProxies, serve},
    sessions::Sessions,
    telemetry::recent::RecentLines,
    token::AdminToken,
};
use liveobject_actors::{
    EventId, Service, ServiceOptions,
    domain::{calendar::Calendar, event_log::QueryError, links::Links, store_fault::StoreFault},
    messages::thumbnails::ThumbnailError,
    thumbnails,
};
use liveobject_test_support::{JPEG, served_database};
use reqwest::{Client, Method, Response, header::HeaderMap};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpSocket, task::spawn_blocking, time::timeout};

use crate::helpers::{Answer, TestApp};

/// A red pixel.
const PNG: &[u8] = &[
    0x89, b'P', b'N', b'G', 13, 10, 26, 10, 0, 0, 0, 13, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0, 0, 1, 8,
    2, 0, 0, 0, 0x90, 0x77, 0x53, 0xde, 0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82,
];

const MAX_BYTES: usize = 2 * 1024 * 1024;

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
        let token = AdminToken::load_or_create(dir.path()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let options = ServiceOptions {
            public_url: base.clone(),
            database_url: served_database(dir.path()).map(Into::into),
            ..ServiceOptions::in_dir(dir.path())
        };
        let database = DatabaseView::of(&options.database().unwrap());
        let service = Service::start(options).await.unwrap();
        let handle = service.handle();
        let state = ApiState::new(ApiOptions {
            history: History::new(handle.metrics.clone(), Calendar::system().0, 0),
            handle,
            token: token.clone(),
            sessions: Sessions::load_or_create(dir.path()).unwrap(),
            hosts: HostRules::new(&base, &[]),
            addresses: Addresses { public_url: base.clone(), is_configured: true, bound: Vec::new() },
            failed_logins_per_minute: FAILED_LOGINS,
            // Some tests open many connections at once.
            limits: Limits {
                max_connections_per_address: 256,
                max_loopback_connections: 256,
                ..Limits::default()
            },
            trusted_proxies: TrustedProxies::default(),
            backup: None,
            finder: Finder::new(&[]),
            restores: None,
            log: RecentLines::default(),
            retention_days: 7,
            database,
            nodes: None,
        });
        let server = serve(listener, state).unwrap();
        let handle = server.handle();
        #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
        actix_web::rt::spawn(server);
        let client = Client::builder().no_proxy().build().unwrap();
        Self { service, server: handle, base, token: token.current().expose().to_owned(), client, dir }
    }

    async fn restart(self) -> Self {
        self.server.stop(false).await;
        self.service.stop().await;
        Box::pin(Self::open(self.dir)).await
    }

    /// Stops everything, so that it does not compete with the next test for CPU time.
    async fn stop(self) {
        self.server.stop(false).await;
        self.service.stop().await;
    }

    /// Submits an event and returns the path and query of its `thumbnail_url`.
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

    /// Opens a link without the token.
    async fn get_link(&self, method: Method, link: &str) -> (u16, HeaderMap, Vec<u8>) {
        let answer = self.client.request(method, format!("{}{link}", self.base)).send().await.unwrap();
        (answer.status().as_u16(), answer.headers().clone(), answer.bytes().await.unwrap().to_vec())
    }

    /// Returns the status for a path exactly as written: HTTP clients would normalize it.
    async fn raw_status(&self, path: &str) -> u16 {
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
        self.get_link(Method::GET, link).await.0
    }
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_link_opens_its_picture_without_the_token() {
    let live = Live::start().await;
    let link = live.event("a").await;
    assert_eq!(live.status(&link).await, 404, "a valid link to an event without a picture");
    assert_eq!(live.put("a", JPEG).await.status(), 204);
    let (status, headers, image) = live.get_link(Method::GET, &link).await;
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
    let (status, headers, image) = live.get_link(Method::HEAD, &link).await;
    assert_eq!((status, headers["content-length"].to_str().unwrap(), image.len()), (200, "36", 0));
    live.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_link_of_an_event_that_was_accepted_with_its_picture_works_at_once() {
    let live = Live::start().await;
    let event = json!({"event_id": "a", "camera_id": "door", "description": "Somebody"}).to_string();
    let body = [
        b"--cut\r\nContent-Disposition: form-data; name=\"event\"\r\n\r\n".as_slice(),
        event.as_bytes(),
        b"\r\n--cut\r\nContent-Disposition: form-data; name=\"thumbnail\"; filename=\"a.jpg\"\r\n",
        b"Content-Type: image/jpeg\r\n\r\n",
        JPEG,
        b"\r\n--cut--\r\n",
    ];
    let request = live.client.post(format!("{}/api/v1/events", live.base)).bearer_auth(&live.token);
    let request = request.header("Content-Type", "multipart/form-data; boundary=cut").body(body.concat());
    assert_eq!(request.send().await.unwrap().status(), 202);
    let link = live.link("a").await;
    assert_eq!(live.get_link(Method::GET, &link).await.2, JPEG);
    live.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_link_permits_nothing_else() {
    let live = Live::start().await;
    let link = live.event("a").await;
    live.event("b").await;
    for id in ["a", "b"] {
        assert_eq!(live.put(id, JPEG).await.status(), 204);
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
        assert_eq!(live.status(&path).await, 401, "{other}");
    }
    for other in [
        "/api/v1/events/a/thumbnail/../../b",
        "/api/v1/events/b/../a/thumbnail",
        "/api/v1/events/a/../b/thumbnail",
        "/api/v1/./events/a/thumbnail",
        "/api/v1/events/a/thumbnail/..",
        "/api/v1/events/a;b/thumbnail",
    ] {
        assert_eq!(live.raw_status(&format!("{other}?{query}")).await, 401, "{other}");
    }
    assert_eq!(live.raw_status(&link).await, 200);
    for method in [Method::PUT, Method::POST, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        assert_eq!(live.get_link(method.clone(), &link).await.0, 401, "{method}");
    }
    assert_eq!(live.status(&path("a")).await, 401, "not a signed link");
    // The same id, percent-encoded, is the same event.
    assert_eq!(live.status(&format!("/api/v1/events/%61/thumbnail?{query}")).await, 200);
    live.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn an_altered_or_expired_link_permits_nothing() {
    let live = Live::start().await;
    let link = live.event("a").await;
    assert_eq!(live.put("a", JPEG).await.status(), 204);
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
        let (status, headers, _) = live.get_link(Method::GET, &altered).await;
        assert_eq!((status, headers["www-authenticate"].to_str().unwrap()), (401, "Bearer"), "{altered}");
    }
    let links = Links::new(&live.base, 7, thumbnails::load_or_create(live.dir.path()).unwrap());
    let now = live.service.handle().clock.now().log;
    let link_expired_for = |seconds_ago: i64| {
        let issued_at = now.before(chrono::Duration::seconds(7 * 86_400 + seconds_ago));
        links.url(&EventId::parse("a").unwrap(), issued_at).strip_prefix(&live.base).unwrap().to_owned()
    };
    assert_eq!(live.status(&link_expired_for(-60)).await, 200);
    assert_eq!(live.status(&link_expired_for(1)).await, 401, "expired");
    live.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_foreign_host_is_refused_even_with_a_valid_link() {
    let live = Live::start().await;
    let link = live.event("a").await;
    let answer = live.client.get(format!("{}{link}", live.base)).header("Host", "evil.example").send().await;
    assert_eq!(answer.unwrap().status(), 403);
    live.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn pictures_and_links_survive_a_restart_and_a_replacement() {
    let live = Live::start().await;
    let link = live.event("evt:1.a").await;
    assert_eq!(live.put("evt:1.a", JPEG).await.status(), 204);
    let live = live.restart().await;
    assert_eq!(live.get_link(Method::GET, &link).await.2, JPEG);
    assert_eq!(live.put("evt:1.a", PNG).await.status(), 204);
    let (_, headers, image) = live.get_link(Method::GET, &link).await;
    assert_eq!((headers["content-type"].to_str().unwrap(), image.as_slice()), ("image/png", PNG));
    live.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_refused_picture_reports_why() {
    let live = Live::start().await;
    live.event("a").await;
    assert_eq!(live.put("nothing", JPEG).await.status(), 404);
    for other in [b"".as_slice(), b"GIF89a", b"<svg/>", &JPEG[..30]] {
        let response = live.put("a", other).await;
        assert_eq!(response.status(), 422, "{}", other.escape_ascii());
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["errors"][0]["field"], "thumbnail", "{problem}");
    }
    let mut large = PNG.to_vec();
    large.resize(MAX_BYTES, 0);
    assert_eq!(live.put("a", large.clone()).await.status(), 204);
    let (status, _, image) = live.get_link(Method::GET, &live.link("a").await).await;
    assert_eq!((status, image == large), (200, true));
    large.push(0);
    assert_eq!(live.put("a", large).await.status(), 413);
    live.stop().await;
}

/// A PNG picture of 800 × 400 pixels in stored (uncompressed) blocks.
fn large_picture() -> Vec<u8> {
    let rows = (0..400_u32).flat_map(|y| {
        std::iter::once(0)
            .chain((0..800 * 3_u32).map(move |x| (x.wrapping_mul(y ^ 0x1eef) >> 3).to_le_bytes()[0]))
    });
    let rows: Vec<u8> = rows.collect();
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::none());
    encoder.write_all(&rows).unwrap();
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let header = [0, 0, 3, 32, 0, 0, 1, 144, 8, 2, 0, 0, 0];
    for (kind, data) in [(b"IHDR", header.as_slice()), (b"IDAT", &encoder.finish().unwrap()), (b"IEND", &[])]
    {
        png.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        let chunk = [kind.as_slice(), data].concat();
        let mut crc = flate2::Crc::new();
        crc.update(&chunk);
        png.extend(&chunk);
        png.extend(crc.sum().to_be_bytes());
    }
    png
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn small_renditions_are_offered_and_cached_by_their_version() {
    let live = Live::start().await;
    let link = live.event("a").await;
    let large = large_picture();
    assert_eq!(live.put("a", large.clone()).await.status(), 204);
    let (_, headers, image) = live.get_link(Method::GET, &link).await;
    assert_eq!(
        (image.len(), headers["cache-control"].to_str().unwrap()),
        (large.len(), "private, max-age=300")
    );
    let (status, headers, small) = live.get_link(Method::GET, &format!("{link}&width=192")).await;
    assert_eq!((status, headers["content-type"].to_str().unwrap()), (200, "image/jpeg"));
    assert!(small.len() < large.len() / 10, "{} of {} bytes", small.len(), large.len());
    let get = async |path: &str, tag: &str| {
        let request = live.client.get(format!("{}{path}", live.base)).bearer_auth(&live.token);
        let answer = request.header("If-None-Match", tag).send().await.unwrap();
        let header = |name| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        (answer.status().as_u16(), header("cache-control").unwrap(), header("etag").unwrap())
    };
    let json = async |path: &str| -> Value {
        let request = live.client.get(format!("{}{path}", live.base)).bearer_auth(&live.token);
        request.send().await.unwrap().json().await.unwrap()
    };
    let version = json("/api/v1/events/a").await["thumbnail_version"].as_str().unwrap().to_owned();
    let tag = format!("\"{version}-192\"");
    let small = format!("{}?width=192&version={version}", path("a"));
    let immutable = "private, max-age=31536000, immutable";
    assert_eq!(get(&small, "\"x\"").await, (200, immutable.to_owned(), tag.clone()));
    assert_eq!(get(&small, &format!("\"x\", {tag}")).await, (304, immutable.to_owned(), tag.clone()));
    // A picture that was replaced is another one, which must not be cached under the old version.
    assert_eq!(live.put("a", PNG).await.status(), 204);
    let (status, cached, new_tag) = get(&small, &tag).await;
    assert_eq!((status, cached.as_str(), new_tag != tag), (200, "private, max-age=300", true));
    let camera = "/api/v1/cameras/door/thumbnail";
    let mut version = Value::Null;
    for _ in 0..100 {
        version = json("/api/v1/cameras/door").await["thumbnail_version"].take();
        if version != Value::Null {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let versioned = format!("{camera}?version={}&width=768", version.as_str().unwrap());
    assert_eq!(get(&versioned, "\"x\"").await.1, immutable);
    for address in [camera.to_owned(), path("a")] {
        for width in ["0", "193", "x", ""] {
            let url = format!("{}{address}?width={width}", live.base);
            let answer = live.client.get(url).bearer_auth(&live.token).send().await.unwrap();
            assert_eq!(answer.status(), 422, "{width}");
            let problem: Value = answer.json().await.unwrap();
            let error = &problem["errors"][0];
            assert_eq!(
                (&error["field"], &error["message"]),
                (&json!("width"), &json!("must be 192, 384 or 768"))
            );
        }
    }
    live.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn many_pictures_are_read_at_once() {
    let live = Live::start().await;
    let link = live.event("a").await;
    let mut large = PNG.to_vec();
    large.resize(MAX_BYTES, 0);
    assert_eq!(live.put("a", large.clone()).await.status(), 204);
    // More than the memory budget allows at once, so some of them wait.
    let all = futures_util::future::join_all((0..100).map(|_| live.get_link(Method::GET, &link))).await;
    for (status, _, image) in all {
        assert_eq!((status, image.len()), (200, MAX_BYTES));
    }
    live.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn readers_that_are_stuck_in_a_picture_do_not_hold_the_turns_of_others() {
    let live = Live::start().await;
    let link = live.event("a").await;
    let mut large = PNG.to_vec();
    large.resize(MAX_BYTES, 0);
    assert_eq!(live.put("a", large).await.status(), 204);
    let address = live.base.strip_prefix("http://").unwrap().parse().unwrap();
    let mut stuck = Vec::new();
    for _ in 0..66 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        let request = format!("GET {link} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stuck.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let live_check =
        timeout(Duration::from_secs(1), live.client.get(format!("{}/health/live", live.base)).send());
    assert_eq!(live_check.await.expect("a response within a second").unwrap().status(), 200);
    let read = timeout(Duration::from_secs(5), live.get_link(Method::GET, &link)).await;
    assert_eq!(read.expect("a response").0, 200);
    live.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn failures_report_when_to_retry_and_hide_their_cause() {
    let app = TestApp::start();
    app.script().query_error = Some(QueryError(StoreFault::Locked));
    let got = app.get(&path("a")).await;
    app.script().put_thumbnail_error = Some(ThumbnailError::Storage(StoreFault::DiskFull));
    let put = Answer::send(app.request(Method::PUT, &path("a")).body(JPEG)).await;
    app.script().put_thumbnail_error = Some(ThumbnailError::Busy);
    let busy = Answer::send(app.request(Method::PUT, &path("a")).body(JPEG)).await;
    for (answer, retry_after) in [(got, "5"), (put, "5"), (busy, "1")] {
        answer.problem(503);
        assert_eq!(answer.header("retry-after"), retry_after);
        for cause in [StoreFault::Locked, StoreFault::DiskFull] {
            assert!(!answer.text.contains(&cause.to_string()), "{}", answer.text);
        }
    }
    app.stop().await;
}
