//! Clients that hold what others need. During each attack, a health check from this machine gets its response
//! within a second.

use std::{net::SocketAddr, time::Duration};

use liveobject::http::Limits;
use liveobject_actors::domain::token::Scope;
use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};

use crate::helpers::{Answer, TestApp};

const WHOLE_REQUEST: &str = "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn few() -> Limits {
    Limits {
        max_connections: 8,
        max_connections_per_address: 8,
        max_loopback_connections: 12,
        max_health_connections: 4,
        head_timeout: Duration::from_secs(1),
        ..Limits::default()
    }
}

async fn connect_from(source: &str, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    socket.connect(address).await.unwrap()
}

async fn read_some(stream: &mut TcpStream) -> String {
    let mut buffer = [0; 4096];
    let n = timeout(Duration::from_secs(5), stream.read(&mut buffer)).await.expect("a response").unwrap();
    String::from_utf8_lossy(&buffer[..n]).into_owned()
}

/// Returns after how long the server closes this connection.
async fn closed_after(stream: &mut TcpStream, limit: Duration) -> Option<Duration> {
    let started = Instant::now();
    let closed = timeout(limit, async {
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
    });
    closed.await.ok().map(|()| started.elapsed())
}

/// Asserts that a health check over a new connection gets its response within a second.
#[track_caller]
fn assert_live(app: &TestApp) -> impl Future<Output = ()> {
    let address = app.address;
    async move {
        let check = async {
            let mut stream = connect_from("127.0.0.1", address).await;
            stream.write_all(WHOLE_REQUEST.as_bytes()).await.unwrap();
            read_some(&mut stream).await
        };
        let answer = timeout(Duration::from_secs(1), check).await.expect("a response within a second");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    }
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn every_request_head_of_a_connection_has_a_deadline() {
    let app = TestApp::with_limits(few());
    for whole_requests in 0..3 {
        let mut stream = connect_from("127.0.0.2", app.address).await;
        for _ in 0..whole_requests {
            stream.write_all(WHOLE_REQUEST.as_bytes()).await.unwrap();
            assert!(read_some(&mut stream).await.starts_with("HTTP/1.1 200"));
        }
        stream.write_all(b"G").await.unwrap();
        let after = closed_after(&mut stream, Duration::from_secs(5)).await;
        assert!(after.is_some_and(|after| after > Duration::from_millis(500)), "{whole_requests}: {after:?}");
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_unread_rest_of_a_body_has_a_deadline() {
    let app = TestApp::with_limits(few());
    let mut stream = connect_from("127.0.0.2", app.address).await;
    let head = "POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(read_some(&mut stream).await.starts_with("HTTP/1.1 401"));
    let after = closed_after(&mut stream, Duration::from_secs(5)).await;
    assert!(after.is_some(), "the connection is still open");
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn stuck_connections_of_one_address_shut_out_nobody() {
    let app = TestApp::with_limits(Limits { head_timeout: Duration::from_mins(1), ..few() });
    let mut stuck = Vec::new();
    for source in ["127.0.0.1", "127.0.0.2"] {
        for _ in 0..50 {
            let mut stream = connect_from(source, app.address).await;
            stream.write_all(WHOLE_REQUEST.as_bytes()).await.unwrap();
            assert!(read_some(&mut stream).await.starts_with("HTTP/1.1 200"));
            stream.write_all(b"G").await.unwrap();
            stuck.push(stream);
        }
        assert_live(&app).await;
        let events = app.get("/api/v1/events");
        timeout(Duration::from_secs(1), events).await.expect("a response").expect(200);
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    let status = app.get("/api/v1/integrations/mqtt/status").await.expect(200);
    assert_eq!(status["warnings"][0]["kind"], "too_many_connections", "{status}");
    let message = status["warnings"][0]["message"].as_str().unwrap();
    assert!(message.contains("127.0.0.1") && message.contains("max_connections_per_address"), "{message}");
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn bodies_that_never_end_shut_out_nobody() {
    let app = TestApp::with_limits(few());
    let mut stuck = Vec::new();
    for _ in 0..50 {
        let mut stream = connect_from("127.0.0.1", app.address).await;
        let head = "POST /session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n{";
        stream.write_all(head.as_bytes()).await.unwrap();
        stuck.push(stream);
    }
    // Both workers accept connections; one may still have a queue of stuck ones.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_live(&app).await;
    app.get("/api/v1/events").await.expect(200);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn while_all_connections_of_an_address_are_busy_health_checks_work_and_others_get_503() {
    let app = TestApp::with_limits(few());
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = connect_from("127.0.0.1", app.address).await;
        let head = format!(
            "GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
            app.token
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        assert!(read_some(&mut stream).await.starts_with("HTTP/1.1 200"));
        streams.push(stream);
    }
    assert_live(&app).await;
    let answer = Answer::send(app.request(Method::GET, "/api/v1/events")).await;
    answer.problem(503);
    assert_eq!((answer.header("retry-after"), answer.header("connection")), ("1", "close"));
    drop(streams);
    app.stop().await;
}

/// Sends the head of a request and one byte of its body.
async fn stuck_body(app: &TestApp, method: &str, path: &str, length: usize) -> TcpStream {
    let mut stream = connect_from("127.0.0.2", app.address).await;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Content-Length: {length}\r\n\r\n[",
        app.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn senders_that_are_stuck_in_a_body_do_not_hold_the_turns_of_others() {
    const MIB: usize = 1024 * 1024;
    let app = TestApp::start();
    let mut stuck = Vec::new();
    for _ in 0..8 {
        stuck.push(stuck_body(&app, "POST", "/api/v1/events/batch", 8 * MIB).await);
    }
    for _ in 0..32 {
        stuck.push(stuck_body(&app, "PUT", "/api/v1/events/a/thumbnail", 2 * MIB).await);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_live(&app).await;
    let events = json!([{"camera_id": "a", "description": "x"}]);
    let batch = app.post("/api/v1/events/batch", &events);
    timeout(Duration::from_secs(3), batch).await.expect("a response").expect(202);
    let picture = app.request(Method::PUT, "/api/v1/events/a/thumbnail").body(vec![0; 2 * MIB]);
    let stored = timeout(Duration::from_secs(3), Answer::send(picture)).await.expect("a response");
    assert_eq!(stored.status, 204, "{stored:?}");
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn wrong_tokens_never_shut_out_good_ones_and_the_limit_holds_for_requests_at_once() {
    let app = TestApp::with_login_limit(10);
    let good: Vec<_> = Scope::ALL.iter().map(|scope| app.token_for(&[*scope])).collect();
    let guess = |i: usize| app.anonymous(Method::GET, "/api/v1/events").bearer_auth(format!("guess-{i}"));
    let answers = futures_util::future::join_all((0..40).map(|i| Answer::send(guess(i)))).await;
    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(401), count(429)), (10, 30));
    for token in good.iter().chain([&app.token]) {
        let answer = Answer::send(app.anonymous(Method::GET, "/api/v1/none").bearer_auth(token)).await;
        assert_eq!(answer.status, 404, "the token is valid, the path is not");
    }
    assert_live(&app).await;
    app.stop().await;
}
