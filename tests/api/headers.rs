//! The response headers that OWASP recommends.

use reqwest::Method;
use serde_json::json;

use crate::helpers::{Answer, TestApp};

const ALWAYS: [(&str, &str); 6] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("cross-origin-opener-policy", "same-origin"),
    ("x-permitted-cross-domain-policies", "none"),
];

async fn answers(app: &TestApp) -> Vec<Answer> {
    let get = |path| app.request(Method::GET, path);
    let mut answers = vec![
        Answer::send(get("/health/live")).await,
        Answer::send(get("/metrics")).await,
        Answer::send(get("/openapi.json")).await,
        Answer::send(get("/api/v1/events")).await,
        Answer::send(get("/api/v1/events?limit=0")).await,
        Answer::send(get("/api/v1/nothing")).await,
        Answer::send(get("/nothing")).await,
        Answer::send(get("/health/live").header("Host", "evil.example")).await,
        Answer::send(app.anonymous(Method::GET, "/api/v1/events")).await,
        Answer::send(app.request(Method::PATCH, "/api/v1/events")).await,
        Answer::send(app.request(Method::POST, "/api/v1/events").body("{")).await,
    ];
    app.script().outbox_hangs = true;
    answers.push(app.get("/health/ready").await);
    answers
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn every_response_carries_the_security_headers() {
    let app = TestApp::start();
    let answers = answers(&app).await;
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 422, 404, 404, 403, 401, 405, 400, 503]);
    for answer in answers {
        for (name, value) in ALWAYS {
            assert_eq!(answer.header(name), value, "{answer:?}");
        }
        assert_eq!(answer.header("cache-control"), "no-store", "{answer:?}");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin", "{answer:?}");
        assert!(answer.header("permissions-policy").contains("camera=()"), "{answer:?}");
        assert_eq!(answer.header("strict-transport-security"), "", "browsers ignore it without TLS");
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_picture_may_be_embedded_by_other_pages_and_cached_briefly() {
    let app = TestApp::start();
    app.post("/api/v1/events", &json!({"event_id": "a", "camera_id": "a", "description": "x"})).await;
    let answer = app.get("/api/v1/events/a/thumbnail").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cross-origin-resource-policy"), "cross-origin");
    assert_eq!(answer.header("cache-control"), "private, max-age=300");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    app.stop().await;
}
