//! The last lines of the log.

use liveobject_actors::domain::token::Scope;
use reqwest::Method;
use serde_json::{Value, json};
use tracing_subscriber::{layer::SubscriberExt as _, registry};

use crate::helpers::{Answer, TestApp};

/// Logs to the lines of this server.
fn log(app: &TestApp, act: impl FnOnce()) {
    tracing::subscriber::with_default(registry().with(app.log.clone()), act);
}

fn numbers(log: &Value) -> Vec<u64> {
    log["lines"].as_array().unwrap().iter().map(|line| line["number"].as_u64().unwrap()).collect()
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_log_is_read_by_level_and_followed() {
    let app = TestApp::start();
    log(&app, || {
        tracing::info!(target: "liveobject::app", address = "127.0.0.1:8080", "listening");
        tracing::debug!("details");
        tracing::warn!(target: "liveobject_actors::supervisor", "disconnected");
    });
    let first = app.get("/api/v1/log").await.expect(200);
    assert_eq!((numbers(&first), &first["next_after"], &first["missed"]), (vec![1, 3], &json!(3), &json!(0)));
    let line = &first["lines"][0];
    assert_eq!((&line["level"], &line["target"]), (&json!("info"), &json!("app")));
    assert_eq!(line["message"], "listening address=\"127.0.0.1:8080\"");
    assert_eq!(line["truncated"], false);
    assert_eq!(numbers(&app.get("/api/v1/log?level=debug&limit=2").await.expect(200)), [2, 3]);
    assert_eq!(numbers(&app.get("/api/v1/log?level=warn").await.expect(200)), [3]);
    log(&app, || tracing::error!("failed"));
    let next = app.get("/api/v1/log?after=3").await.expect(200);
    assert_eq!((numbers(&next), &next["began_at"]), (vec![4], &first["began_at"]));
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn only_an_administrator_reads_the_log() {
    let app = TestApp::start();
    for scope in [Scope::Read, Scope::EventsWrite] {
        let token = app.token_for(&[scope]);
        let request = app.anonymous(Method::GET, "/api/v1/log").bearer_auth(token);
        Answer::send(request).await.problem(403);
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn every_invalid_parameter_of_the_log_is_reported() {
    let app = TestApp::start();
    let faults = app.get("/api/v1/log?level=loud&after=-1&limit=1001&colour=red").await.faults();
    assert_eq!(faults, ["level", "after", "limit", "colour"]);
    app.stop().await;
}
