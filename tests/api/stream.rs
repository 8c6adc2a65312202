//! The event stream over HTTP.

use std::time::Duration;

use liveobject_actors::domain::token::Scope;
use liveobject_test_support::EventStream;
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{Answer, TestApp};

const STREAM: &str = "/api/v1/stream";
const TIMEOUT: Duration = Duration::from_secs(10);

fn event(event_id: &str, camera_id: &str) -> Value {
    json!({ "event_id": event_id, "camera_id": camera_id, "description": "Somebody" })
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_stream_has_the_headers_that_proxies_need() {
    let app = TestApp::start();
    let stream = app.stream("").await;
    assert_eq!(stream.response.status(), 200);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store"),
        ("x-accel-buffering", "no"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(stream.response.headers()[name], value, "{name}");
    }
    let head = Answer::send(app.request(Method::HEAD, "/api/v1/stream")).await;
    assert_eq!((head.status, head.header("content-type")), (200, "text/event-stream"));
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_stream_needs_a_token_and_valid_parameters() {
    let app = TestApp::start();
    Answer::send(app.anonymous(Method::GET, "/api/v1/stream")).await.problem(401);
    let invalid = app.get("/api/v1/stream?camera_id=a%2Fb&last_event_id=x&colour=red").await;
    assert_eq!(invalid.faults(), ["camera_id", "last_event_id", "colour"]);
    let header = app.request(Method::GET, "/api/v1/stream").header("last-event-id", "x");
    assert_eq!(Answer::send(header).await.faults(), ["Last-Event-ID"]);
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_stream_begins_with_the_status_as_the_status_endpoint_returns_it() {
    let app = TestApp::start();
    let mut stream = app.stream("").await;
    assert_eq!(stream.next(TIMEOUT).await.unwrap().retry, "2000");
    let status = stream.next(TIMEOUT).await.unwrap();
    assert_eq!((status.event.as_str(), status.id.as_str()), ("status", "0-0"));
    assert_eq!(status.data, app.get("/api/v1/integrations/mqtt/status").await.expect(200));
    app.script().outbox.pending = 7;
    let status = stream.next(TIMEOUT).await.unwrap();
    assert_eq!((status.event.as_str(), &status.data["outbox"]["pending"]), ("status", &json!(7)));
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn an_event_is_streamed_as_the_list_returns_it_and_filtered_by_camera() {
    let app = TestApp::start();
    let (mut all, mut door) = (app.stream("").await, app.stream("?camera_id=door").await);
    for (id, camera) in [("a", "yard"), ("b", "door")] {
        app.post("/api/v1/events", &event(id, camera)).await.expect(202);
    }
    for id in ["a", "b"] {
        let event = all.wait_for("an event", TIMEOUT, |message| message.event == "event").await;
        assert_eq!(event.data["event_id"], id);
        let mut listed = app.get(&format!("/api/v1/events/{id}")).await.expect(200);
        // The list is rendered for each request, so its times differ.
        for field in ["received_at", "timestamp"] {
            listed[field] = event.data[field].clone();
        }
        assert_eq!(event.data, listed);
    }
    let event = door.wait_for("an event", TIMEOUT, |message| message.event == "event").await;
    assert_eq!((event.data["event_id"].as_str(), event.id.as_str()), (Some("b"), "2-0"));
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_change_of_the_settings_is_streamed_with_its_revision_and_without_the_settings() {
    let app = TestApp::start();
    let mut stream = app.stream("").await;
    stream.wait_for("the status", TIMEOUT, |message| message.event == "status").await;
    app.revise_settings("6f1f3c").await;
    let message = stream.wait_for("the settings", TIMEOUT, |message| message.event == "settings").await;
    assert_eq!((&message.data, message.id.as_str()), (&json!({"revision": "6f1f3c"}), "0-0"));
    let mut second = app.stream("").await;
    let message = second.wait_for("the settings", TIMEOUT, |message| message.event == "settings").await;
    assert_eq!(message.data["revision"], "6f1f3c");
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_returning_client_receives_what_it_missed() {
    let app = TestApp::start();
    for id in ["a", "b", "c"] {
        app.post("/api/v1/events", &event(id, "door")).await.expect(202);
    }
    let by_header =
        app.request(Method::GET, "/api/v1/stream?last_event_id=0-0").header("last-event-id", "1-0");
    let mut by_header = liveobject_test_support::EventStream::open(by_header).await;
    for stream in [&mut by_header, &mut app.stream("?last_event_id=1-0").await] {
        for id in ["b", "c"] {
            let event = stream.wait_for("an event", TIMEOUT, |message| message.event == "event").await;
            assert_eq!(event.data["event_id"], id);
        }
        assert_eq!(stream.last_id, "3-0");
    }
    let mut from_another_log = app.stream("?last_event_id=9-0").await;
    let reset = from_another_log.wait_for("a reset", TIMEOUT, |message| message.event == "reset").await;
    assert_eq!((reset.data, reset.id.as_str()), (json!({}), "3-0"));
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_stream_above_the_limit_gets_503_with_retry_after() {
    let app = TestApp::start();
    let mut open = Vec::new();
    for _ in 0..32 {
        open.push(app.stream("").await);
    }
    let response = app.get("/api/v1/stream").await;
    assert!(response.problem(503)["detail"].as_str().unwrap().contains("32"));
    assert_eq!(response.header("retry-after"), "5");
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn an_idle_stream_sends_a_heartbeat_every_15_seconds() {
    let app = TestApp::start();
    let mut stream = app.stream("").await;
    let heartbeat =
        stream.wait_for("a heartbeat", Duration::from_secs(25), |message| !message.comment.is_empty()).await;
    assert_eq!(heartbeat.comment, "heartbeat");
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_stream_ends_when_its_token_is_revoked_or_its_session_ends() {
    let app = TestApp::start();
    let token = app.token_for(&[Scope::Read]);
    let mut of_token = EventStream::open(app.anonymous(Method::GET, STREAM).bearer_auth(&token)).await;
    let origin = format!("http://{}", app.address);
    let sign_in = app.anonymous(Method::POST, "/session").header("Origin", &origin);
    let answer = Answer::send(sign_in.json(&json!({"token": app.token}))).await;
    let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
    let mut of_session =
        EventStream::open(app.anonymous(Method::GET, STREAM).header("Cookie", &cookie)).await;
    let mut of_admin = app.stream("").await;
    for stream in [&mut of_token, &mut of_session, &mut of_admin] {
        assert!(stream.next(TIMEOUT).await.is_some());
        assert!(stream.next(TIMEOUT).await.is_some());
    }
    app.script().tokens.clear();
    let sign_out = app.anonymous(Method::DELETE, "/session").header("Origin", &origin);
    let sign_out = sign_out.header("Cookie", &cookie).header("Content-Type", "application/json");
    assert_eq!(Answer::send(sign_out).await.status, 204);
    let within = Duration::from_secs(4);
    assert_eq!(of_token.next(within).await, None);
    assert_eq!(of_session.next(within).await, None);
    app.post("/api/v1/events", &event("e", "a")).await.expect(202);
    of_admin.wait_for("the event", TIMEOUT, |message| message.event == "event").await;
    app.stop().await;
}
