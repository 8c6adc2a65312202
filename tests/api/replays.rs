//! Replays over the API.

use reqwest::Method;
use serde_json::json;

use crate::helpers::{Answer, TestApp};

const REPLAYS: &str = "/api/v1/replays";

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_new_replay_is_returned_with_its_location_and_number_of_events() {
    let app = TestApp::start();
    let answer = app.post(REPLAYS, &json!({"from": "1969-12-31T00:00:00+02:00", "topic": "again"})).await;
    assert_eq!(answer.expect(202), json!({"id": 7, "events": 3}));
    assert_eq!(answer.header("location"), "/api/v1/replays/7");
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn every_fault_of_a_replay_is_named() {
    let app = TestApp::start();
    let body = json!({
        "from": "yesterday", "topic": "liveobject/camera/door/event", "max_per_second": 0, "speed": 1
    });
    let faults = app.post(REPLAYS, &body).await.faults();
    assert_eq!(faults.len(), 4, "{faults:?}");
    let problem = app.post(REPLAYS, &json!({"from": "1969-12-31T00:00:00Z", "camera_id": "busy"})).await;
    let problem = problem.problem(409);
    assert!(problem["detail"].as_str().unwrap().contains("already 8 unfinished replays"), "{problem}");
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_progress_of_replays_is_shown() {
    let app = TestApp::start();
    let expected = json!({
        "id": 7, "state": "running", "waiting_for": "connection", "from": "1969-12-31T23:00:00Z",
        "to": "1970-01-01T00:00:00Z", "camera_id": null, "topic": "history", "max_per_second": 50, "events": 3,
        "published": 1, "skipped": 0, "reason": null, "created_at": "1970-01-01T00:00:00Z", "ended_at": null,
    });
    assert_eq!(app.get(REPLAYS).await.expect(200), json!({ "replays": [expected] }));
    assert_eq!(app.get("/api/v1/replays/7").await.expect(200), expected);
    for unknown in ["8", "-7", "x", "99999999999999999999"] {
        app.get(&format!("{REPLAYS}/{unknown}")).await.problem(404);
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_replay_is_stopped_by_its_id() {
    let app = TestApp::start();
    let delete = |id: &str| Answer::send(app.request(Method::DELETE, &format!("{REPLAYS}/{id}")));
    assert_eq!(delete("7").await.expect(200)["state"], "cancelled");
    for unknown in ["8", "x"] {
        delete(unknown).await.problem(404);
    }
    app.stop().await;
}
