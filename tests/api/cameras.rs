//! Cameras: which requests are refused, and with which errors.

use liveobject_actors::domain::token::Scope;
use reqwest::Method;
use serde_json::json;

use crate::helpers::{Answer, KNOWN_CAMERA, TestApp};

#[actix_rt::test(system = "liveobject_actors::System")]
async fn an_unknown_camera_is_not_found() {
    let app = TestApp::start();
    for (method, path) in [
        (Method::GET, "/api/v1/cameras/door"),
        (Method::DELETE, "/api/v1/cameras/door"),
        (Method::GET, "/api/v1/cameras/a%2Fb"),
    ] {
        let _ = Answer::send(app.request(method, path)).await.problem(404);
    }
    let _ = app.put("/api/v1/cameras/door/status", &json!({"status": "online"})).await.problem(404);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn every_invalid_field_of_a_camera_is_reported() {
    let app = TestApp::start();
    let invalid = json!({"camera_name": "a\nb", "source_type": "", "is_doorbell": "yes", "colour": 1});
    let answer = app.put("/api/v1/cameras/door", &invalid).await;
    assert_eq!(answer.faults(), ["camera_name", "source_type", "is_doorbell", "colour"]);
    assert_eq!(app.put("/api/v1/cameras/a.b", &json!({})).await.faults(), ["camera_id"]);
    let status = "/api/v1/cameras/door/status";
    assert_eq!(app.put(status, &json!({"status": "asleep"})).await.faults(), ["status"]);
    assert_eq!(app.put(status, &json!({})).await.faults(), ["status"]);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_camera_above_the_limit_gets_409_with_the_limit() {
    let app = TestApp::start();
    let problem = app.put("/api/v1/cameras/door", &json!({})).await.problem(409);
    assert!(problem["detail"].as_str().unwrap().contains("limit of 7 cameras"), "{problem}");
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn publish_discovery_returns_200_even_if_nothing_was_published() {
    let app = TestApp::start();
    let answer = app.post("/api/v1/integrations/mqtt/publish-discovery", &json!({})).await.expect(200);
    assert_eq!(
        answer,
        json!({"success": false, "message": "not connected to a broker", "cameras_published": 0})
    );
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_token_that_may_only_write_does_not_read_the_camera_when_it_sets_the_status() {
    let app = TestApp::start();
    let path = format!("/api/v1/cameras/{KNOWN_CAMERA}/status");
    let set = async |token: &str| {
        let request = app.anonymous(Method::PUT, &path).bearer_auth(token);
        Answer::send(request.json(&json!({"status": "online"}))).await.expect(200)
    };
    let writer = set(&app.token_for(&[Scope::EventsWrite])).await;
    let names: Vec<_> = writer.as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["camera_id", "status"], "{writer}");
    for token in [app.token.clone(), app.token_for(&[Scope::EventsWrite, Scope::Read])] {
        assert!(set(&token).await.get("last_event").is_some());
    }
    app.stop().await;
}
