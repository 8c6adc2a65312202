//! Who may call, and from where.

use reqwest::Method;
use serde_json::Value;

use crate::helpers::{Answer, TestApp};

const EVENTS: &str = "/api/v1/events";

#[actix_web::test]
async fn every_api_route_answers_401_without_the_token() {
    let app = TestApp::start();
    let document = app.get("/openapi.json").await.expect(200);
    let paths: Vec<_> =
        document["paths"].as_object().unwrap().keys().filter(|p| p.starts_with("/api")).collect();
    assert!(!paths.is_empty());
    let methods = [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS];
    for path in paths {
        for method in methods.clone() {
            let answer = Answer::to(app.anonymous(method, path)).await;
            answer.problem(401);
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
    }
    app.stop().await;
}

#[actix_web::test]
async fn whoever_lacks_the_token_does_not_learn_what_exists() {
    let app = TestApp::start();
    for path in [
        "/api",
        "/api/",
        "/api/v1",
        "/api/v1/nothing",
        "/api/v2/events",
        "/api//v1/events",
        "/%61pi/v1/events",
    ] {
        Answer::to(app.anonymous(Method::GET, path)).await.problem(401);
    }
    // What the router does not find under /api is not there for holders of the token either.
    for path in ["//api/v1/events", "/API/v1/events", "/apis", "/x/../../api"] {
        let status = Answer::to(app.anonymous(Method::GET, path)).await.status;
        assert!([401, 404].contains(&status), "{path}: {status}");
    }
    app.stop().await;
}

#[actix_web::test]
async fn a_wrong_token_opens_nothing() {
    let app = TestApp::start();
    let half = &app.token[..app.token.len() / 2];
    for token in ["", "x", half, &format!("{}x", app.token)] {
        Answer::to(app.anonymous(Method::GET, EVENTS).bearer_auth(token)).await.problem(401);
    }
    let basic = app.anonymous(Method::GET, EVENTS).header("Authorization", format!("Basic {}", app.token));
    Answer::to(basic).await.problem(401);
    Answer::to(app.anonymous(Method::GET, &format!("{EVENTS}?token={}", app.token))).await.problem(401);
    app.stop().await;
}

#[actix_web::test]
async fn health_metrics_and_the_document_need_no_token() {
    let app = TestApp::start();
    for path in ["/health/live", "/health/ready", "/metrics", "/openapi.json"] {
        assert_eq!(Answer::to(app.anonymous(Method::GET, path)).await.status, 200, "{path}");
    }
    app.stop().await;
}

#[actix_web::test]
async fn a_foreign_host_is_refused_on_every_route() {
    let app = TestApp::start();
    for path in ["/health/live", "/health/ready", "/metrics", "/openapi.json", EVENTS, "/nothing"] {
        let problem =
            Answer::to(app.request(Method::GET, path).header("Host", "evil.example")).await.problem(403);
        assert!(problem["detail"].as_str().unwrap().contains("[http] allowed_hosts"), "{problem}");
    }
    app.stop().await;
}

#[actix_web::test]
async fn own_names_are_accepted() {
    let app = TestApp::start();
    for host in
        ["localhost", "localhost:1", "192.168.1.2:8080", "[::1]:8080", "cams.example.org", "nas.lan:8080"]
    {
        assert_eq!(
            Answer::to(app.request(Method::GET, EVENTS).header("Host", host)).await.status,
            200,
            "{host}"
        );
    }
    app.stop().await;
}

#[actix_web::test]
async fn a_page_from_elsewhere_is_refused_even_with_the_token() {
    let app = TestApp::start();
    let from = |origin: String| app.request(Method::GET, EVENTS).header("Origin", origin);
    for origin in ["http://evil.example", "null", "http://localhost:3000", "http://127.0.0.1"] {
        Answer::to(from(origin.to_owned())).await.problem(403);
    }
    for origin in
        [format!("http://{}", app.address), "https://cams.example.org".into(), "http://nas.lan:99".into()]
    {
        assert_eq!(Answer::to(from(origin.clone())).await.status, 200, "{origin}");
    }
    app.stop().await;
}

#[actix_web::test]
async fn no_answer_shows_the_token() {
    let app = TestApp::start();
    let answer: Value = app.get("/api/v1/nothing").await.problem(404);
    assert!(!answer.to_string().contains(&app.token));
    app.stop().await;
}
