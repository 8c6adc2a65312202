//! Sending dead events again, and dismissing them.

use liveobject_actors::domain::{
    delivery::{DecideError, Decision},
    store_fault::StoreFault,
};
use reqwest::Method;
use serde_json::json;

use crate::helpers::{Answer, TestApp};

const RETRY: &str = "/api/v1/events/a/retry";
const DEAD: &str = "/api/v1/events/a/dead";

async fn with_event() -> TestApp {
    let app = TestApp::start();
    let event = json!({ "event_id": "a", "camera_id": "door", "description": "Somebody" });
    app.post("/api/v1/events", &event).await.expect(202);
    app
}

#[actix_web::test]
async fn a_retry_is_answered_with_the_event() {
    let app = with_event().await;
    let answer = Answer::to(app.request(Method::POST, RETRY)).await.expect(202);
    assert_eq!((&answer["event_id"], &answer["delivery"]["state"]), (&json!("a"), &json!("pending")));
    assert_eq!(app.script().decided[0].decision, Decision::Retry);
}

#[actix_web::test]
async fn a_dismissal_is_answered_with_nothing() {
    let app = with_event().await;
    let answer = Answer::to(app.request(Method::DELETE, DEAD)).await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    assert_eq!(app.script().decided[0].decision, Decision::Dismiss);
}

#[actix_web::test]
async fn what_is_not_dead_is_a_conflict_and_what_is_unknown_is_not_found() {
    let app = with_event().await;
    for (method, path) in [(Method::POST, RETRY), (Method::DELETE, DEAD)] {
        for (fails, status) in [
            (DecideError::NotDead, 409),
            (DecideError::Unknown, 404),
            (DecideError::TooMany, 503),
            (DecideError::Stopping, 503),
            (DecideError::Storage(StoreFault::Locked), 503),
        ] {
            app.script().decide_fails = Some(fails);
            let answer = Answer::to(app.request(method.clone(), path)).await;
            let problem = answer.problem(status);
            assert!(!problem.to_string().contains(&StoreFault::Locked.to_string()), "{problem}");
            assert_eq!(answer.header("retry-after").is_empty(), status != 503);
        }
        let path = path.replace("/a/", "/no%20id/");
        Answer::to(app.request(method, &path)).await.problem(404);
    }
}
