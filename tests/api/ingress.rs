//! The ingress of Home Assistant: no token, only one peer, its own origin, in its frame.

use std::time::Duration;

use liveobject_test_support::EventStream;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::helpers::{Answer, TestApp};

const EVENTS: &str = "/api/v1/events";
const TIMEOUT: Duration = Duration::from_secs(10);
const SETTINGS: &str = "/api/v1/integrations/mqtt/config";
/// The host under which a browser opened Home Assistant.
const HOME_ASSISTANT: &str = "homeassistant.local:8123";

/// A request as Home Assistant forwards it.
fn forwarded(app: &TestApp, method: Method, path: &str) -> RequestBuilder {
    app.anonymous(method, path)
        .header("Host", HOME_ASSISTANT)
        .header("X-Forwarded-Host", HOME_ASSISTANT)
        .header("X-Remote-User-Name", "anna")
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_page_in_the_frame_of_home_assistant_needs_no_token() {
    let app = TestApp::with_ingress_from("127.0.0.1");
    let page = Answer::send(forwarded(&app, Method::GET, "/")).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("x-frame-options"), "SAMEORIGIN");
    assert!(page.header("content-security-policy").contains("frame-ancestors 'self'"));
    let session = Answer::send(forwarded(&app, Method::GET, "/session")).await;
    let expected = json!({ "signed_in": true, "can_sign_out": false, "scopes": ["admin"] });
    assert_eq!(session.expect(200), expected);
    Answer::send(forwarded(&app, Method::GET, EVENTS)).await.expect(200);
    let put = forwarded(&app, Method::PUT, SETTINGS)
        .header("Origin", format!("http://{HOME_ASSISTANT}"))
        .header("Sec-Fetch-Site", "same-origin")
        .json(&json!({}));
    Answer::send(put).await.expect(200);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_user_of_home_assistant_gets_no_secrets_and_no_lasting_access() {
    let app = TestApp::with_ingress_from("127.0.0.1");
    for (method, path) in [
        (Method::GET, "/api/v1/backup"),
        (Method::GET, "/api/v1/restore"),
        (Method::POST, "/api/v1/restore"),
        (Method::DELETE, "/api/v1/restore"),
        (Method::GET, "/api/v1/tokens"),
        (Method::POST, "/api/v1/tokens"),
        (Method::GET, "/api/v1/%74okens"),
        (Method::GET, "/api/v1/%62ackup"),
        (Method::POST, "/api/v1/%74okens"),
        (Method::POST, "/api/v1/sign-in-link%73"),
        (Method::DELETE, "/api/v1/tokens/a"),
        (Method::POST, "/api/v1/sign-in-links"),
    ] {
        let request = forwarded(&app, method, path).header("Sec-Fetch-Site", "same-origin").json(&json!({}));
        Answer::send(request).await.problem(403);
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn other_peers_get_nothing_not_even_with_a_token() {
    let app = TestApp::with_ingress_from("127.0.0.2");
    for path in ["/", "/page/main.js", "/session", EVENTS, "/metrics"] {
        Answer::send(app.request(Method::GET, path)).await.problem(403);
        Answer::send(forwarded(&app, Method::GET, path)).await.problem(403);
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn other_web_pages_cannot_use_the_ingress() {
    let app = TestApp::with_ingress_from("127.0.0.1");
    let put = || forwarded(&app, Method::PUT, SETTINGS);
    let own = format!("http://{HOME_ASSISTANT}");
    for (what, request) in [
        ("another origin", put().header("Origin", "http://evil.example").json(&json!({}))),
        ("another port", put().header("Origin", "http://homeassistant.local:9000").json(&json!({}))),
        ("no evidence of its origin", put().json(&json!({}))),
        (
            "another site according to the browser",
            put().header("Origin", &own).header("Sec-Fetch-Site", "cross-site").json(&json!({})),
        ),
    ] {
        let answer = Answer::send(request).await;
        assert_eq!(answer.status, 403, "{what}");
    }
    // A form of another page.
    Answer::send(put().header("Origin", &own).header("Content-Type", "text/plain").body("{}"))
        .await
        .problem(415);
    let read = forwarded(&app, Method::GET, EVENTS).header("Sec-Fetch-Site", "cross-site");
    Answer::send(read).await.problem(403);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_first_proxy_knows_the_host_of_the_browser() {
    let app = TestApp::with_ingress_from("127.0.0.1");
    let put = app
        .anonymous(Method::PUT, SETTINGS)
        .header("Host", "127.0.0.1:8123")
        .header("X-Forwarded-Host", "home.example.org, 127.0.0.1:8123")
        .header("Origin", "https://home.example.org")
        .json(&json!({}));
    Answer::send(put).await.expect(200);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_ingress_sets_no_cookie_because_nobody_signs_in_or_out_there() {
    let app = TestApp::with_ingress_from("127.0.0.1");
    for method in [Method::POST, Method::DELETE] {
        let request = forwarded(&app, method.clone(), "/session").header("Sec-Fetch-Site", "same-origin");
        let answer = Answer::send(request.json(&json!({ "token": app.token }))).await;
        assert_eq!(answer.status, 403, "{method}");
        assert_eq!(answer.header("set-cookie"), "", "{method}");
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn an_ordinary_listener_trusts_no_header() {
    let app = TestApp::start();
    let request = app.anonymous(Method::GET, EVENTS);
    let request = request.header("X-Forwarded-Host", HOME_ASSISTANT).header("X-Remote-User-Name", "anna");
    Answer::send(request).await.problem(401);
    let session = Answer::send(app.anonymous(Method::GET, "/session")).await.expect(200);
    assert_eq!(session["scopes"], Value::Null);
    let page = Answer::send(app.anonymous(Method::GET, "/")).await;
    assert_eq!(page.header("x-frame-options"), "DENY");
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_page_loads_behind_an_unknown_proxy_and_can_show_the_reason() {
    let app = TestApp::start();
    let foreign = |path: &str| app.anonymous(Method::GET, path).header("Origin", "https://cams.example.net");
    for path in ["/", "/page/main.js"] {
        assert_eq!(Answer::send(foreign(path)).await.status, 200, "{path}");
    }
    let refused = Answer::send(foreign("/session")).await;
    refused.problem(403);
    assert!(refused.text.contains("public_url"), "{}", refused.text);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_user_with_many_open_pages_does_not_lock_others_out() {
    let app = TestApp::with_ingress_from("127.0.0.1");
    let stream = |user: &str| forwarded(&app, Method::GET, "/api/v1/stream").header("X-Remote-User-Id", user);
    let mut first = EventStream::open(stream("anna")).await;
    let mut others = Vec::new();
    for _ in 0..7 {
        others.push(EventStream::open(stream("anna")).await);
    }
    let mut of_bert = EventStream::open(stream("bert")).await;
    for stream in others.iter_mut().chain([&mut first, &mut of_bert]) {
        // The first message, and the status.
        assert!(stream.next(TIMEOUT).await.is_some());
        assert!(stream.next(TIMEOUT).await.is_some());
    }
    others.push(EventStream::open(stream("anna")).await);
    assert_eq!(first.next(TIMEOUT).await, None, "the oldest stream of the same user ends");
    let submit = forwarded(&app, Method::POST, EVENTS).header("Sec-Fetch-Site", "same-origin");
    let submit = submit.json(&json!({ "camera_id": "a", "description": "Somebody" }));
    Answer::send(submit).await.expect(202);
    for stream in others.iter_mut().chain([&mut of_bert]) {
        stream.wait_for("the event", TIMEOUT, |message| message.event == "event").await;
    }
    app.stop().await;
}

/// Sends a request, and returns whether there is a response.
async fn exchange(connection: &mut TcpStream) -> bool {
    let request = format!("GET /session HTTP/1.1\r\nHost: {HOME_ASSISTANT}\r\n\r\n");
    let mut response = [0; 2048];
    connection.write_all(request.as_bytes()).await.is_ok()
        && connection
            .read(&mut response)
            .await
            .is_ok_and(|length| response[..length].starts_with(b"HTTP/1.1 200"))
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_connections_of_home_assistant_are_not_limited_as_those_of_one_client() {
    const MORE_THAN_ONE_CLIENT_MAY_HAVE: usize = 150;
    let app = TestApp::with_ingress_from("127.0.0.1");
    let mut connections = Vec::new();
    for _ in 0..MORE_THAN_ONE_CLIENT_MAY_HAVE {
        let mut connection = TcpStream::connect(app.address).await.unwrap();
        assert!(exchange(&mut connection).await);
        connections.push(connection);
    }
    assert!(exchange(&mut connections[0]).await, "the first connection was closed");
    app.stop().await;
}
