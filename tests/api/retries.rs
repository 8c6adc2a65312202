//! Retrying and dismissing dead events.

use liveobject_actors::domain::{
    delivery::{DeadReason, DecideError, Decision},
    ids::Seq,
    store_fault::StoreFault,
};
use reqwest::Method;
use serde_json::json;

use crate::helpers::{Answer, TestApp};

const RETRY: &str = "/api/v1/events/a/retry";
const DEAD: &str = "/api/v1/events/a/dead";

async fn app_with_event() -> TestApp {
    let app = TestApp::start();
    let event = json!({ "event_id": "a", "camera_id": "door", "description": "Somebody" });
    app.post("/api/v1/events", &event).await.expect(202);
    app
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_retry_returns_the_event() {
    let app = app_with_event().await;
    let answer = Answer::send(app.request(Method::POST, RETRY)).await.expect(202);
    assert_eq!((&answer["event_id"], &answer["delivery"]["state"]), (&json!("a"), &json!("pending")));
    assert_eq!(app.script().decided[0].decision, Decision::Retry);
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_dismissal_returns_no_content() {
    let app = app_with_event().await;
    let answer = Answer::send(app.request(Method::DELETE, DEAD)).await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    assert_eq!(app.script().decided[0].decision, Decision::Dismiss);
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_decision_gets_409_for_an_event_that_is_not_dead_and_404_for_an_unknown_one() {
    let app = app_with_event().await;
    for (method, path) in [(Method::POST, RETRY), (Method::DELETE, DEAD)] {
        for (fails, status) in [
            (DecideError::NotDead, 409),
            (DecideError::Unknown, 404),
            (DecideError::TooMany, 503),
            (DecideError::Stopping, 503),
            (DecideError::Storage(StoreFault::Locked), 503),
        ] {
            app.script().decide_error = Some(fails);
            let answer = Answer::send(app.request(method.clone(), path)).await;
            let problem = answer.problem(status);
            assert!(!problem.to_string().contains(&StoreFault::Locked.to_string()), "{problem}");
            assert_eq!(answer.header("retry-after").is_empty(), status != 503);
        }
        let path = path.replace("/a/", "/no%20id/");
        Answer::send(app.request(method, &path)).await.problem(404);
    }
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn all_dead_events_that_match_are_retried_or_dismissed_at_once() {
    let app = TestApp::start();
    let send = async |method, path: &str| Answer::send(app.request(method, path)).await;
    let path = "/api/v1/events/dead/retry?camera_id=door&before=9&after=2";
    let answer = send(Method::POST, path).await.expect(202);
    assert_eq!(answer, json!({"events": 3, "complete": false, "next_after": 7}));
    let path = "/api/v1/events/dead?reason=not_authorized";
    let answer = send(Method::DELETE, path).await.expect(200);
    assert_eq!(answer, json!({"events": 3, "complete": false, "next_after": 7}));
    let decided = app.script().decided_all.clone();
    assert_eq!((decided[0].decision, decided[1].decision), (Decision::Retry, Decision::Dismiss));
    assert_eq!(decided[0].filter.camera_id.as_ref().unwrap().as_str(), "door");
    assert_eq!((decided[0].filter.before, decided[0].filter.after), (Some(Seq(9)), Some(Seq(2))));
    assert_eq!(decided[1].filter.reason, Some(DeadReason::NotAuthorized));
    send(Method::DELETE, "/api/v1/events/dead?reason=boredom").await.expect(422);
    app.stop().await;
}
