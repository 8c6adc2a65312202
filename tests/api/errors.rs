//! Every error has the same form and states what to do.

use reqwest::Method;
use serde_json::json;

use crate::helpers::{Answer, TestApp};

const EVENTS: &str = "/api/v1/events";
const BATCH: &str = "/api/v1/events/batch";
const CONFIG: &str = "/api/v1/integrations/mqtt/config";

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_body_that_is_not_json_gets_400() {
    let app = TestApp::start();
    for path in [EVENTS, BATCH, "/api/v1/integrations/mqtt/test"] {
        for body in ["{", "nonsense", "{\"a\":}", "\u{1}"] {
            let answer = Answer::send(app.request(Method::POST, path).body(body)).await;
            let problem = answer.problem(400);
            assert!(problem["detail"].as_str().unwrap().contains("line 1 column"), "{problem}");
        }
    }
    Answer::send(app.request(Method::POST, EVENTS)).await.problem(400);
    Answer::send(app.request(Method::PUT, CONFIG).body("{")).await.problem(400);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_deeply_nested_body_gets_400() {
    let app = TestApp::start();
    for path in [EVENTS, BATCH] {
        Answer::send(app.request(Method::POST, path).body("[".repeat(60_000))).await.problem(400);
    }
    let nested = format!("[{}{}]", "[".repeat(30_000), "]".repeat(30_000));
    Answer::send(app.request(Method::POST, BATCH).body(nested)).await.problem(400);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_content_type_does_not_matter_but_compression_does() {
    let app = TestApp::start();
    let event = json!({"camera_id": "a", "description": "x"}).to_string();
    let post = || app.request(Method::POST, EVENTS).body(event.clone());
    Answer::send(post()).await.expect(202);
    Answer::send(post().header("Content-Type", "text/plain")).await.expect(202);
    Answer::send(post().header("Content-Encoding", "gzip")).await.problem(415);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn an_unknown_path_gets_404() {
    let app = TestApp::start();
    for path in
        ["/page", "/page/", "/nothing", "/api/v1/nothing", "/api/v1/events/", "/api/v1/events/a/b", "/health"]
    {
        app.get(path).await.problem(404);
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn an_unsupported_method_gets_405_with_the_allowed_methods() {
    let app = TestApp::start();
    for (method, path, allow) in [
        (Method::DELETE, EVENTS, "POST, GET, HEAD"),
        (Method::PATCH, CONFIG, "GET, HEAD, PUT"),
        (Method::POST, "/health/live", "GET, HEAD"),
        // An event may have the id `batch`.
        (Method::PATCH, BATCH, "GET, HEAD"),
        (Method::from_bytes(b"BREW").unwrap(), "/metrics", "GET, HEAD"),
    ] {
        let answer = Answer::send(app.request(method, path)).await;
        answer.problem(405);
        assert_eq!(answer.header("allow"), allow, "{path}");
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn head_is_served_wherever_get_is() {
    let app = TestApp::start();
    let answer = Answer::send(app.anonymous(Method::HEAD, "/health/live")).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_body_above_the_size_limit_gets_413() {
    let app = TestApp::start();
    for (method, path, bound) in [
        (Method::POST, EVENTS, 64 << 10),
        (Method::POST, BATCH, 8 << 20),
        (Method::PUT, CONFIG, 256 << 10),
        (Method::POST, "/api/v1/integrations/mqtt/test", 256 << 10),
    ] {
        // A body up to the limit is read, and rejected because it is not JSON.
        let fits = " ".repeat(bound - 1) + "{";
        Answer::send(app.request(method.clone(), path).body(fits)).await.problem(400);
        let too_large = " ".repeat(bound) + "{";
        let problem = Answer::send(app.request(method, path).body(too_large)).await.problem(413);
        assert!(problem["detail"].as_str().unwrap().contains(&bound.to_string()), "{problem}");
    }
    assert!(app.script().accepted.is_empty());
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_valid_request_id_is_kept_and_others_are_replaced() {
    let app = TestApp::start();
    let with = |id: &str| app.request(Method::GET, "/api/v1/nothing").header("X-Request-Id", id.to_owned());
    assert_eq!(Answer::send(with("job-7.a_B")).await.header("x-request-id"), "job-7.a_B");
    let long = "x".repeat(65);
    for sent in ["a b", "<script>", long.as_str()] {
        let answer = Answer::send(with(sent)).await;
        assert_eq!(answer.header("x-request-id").len(), 36, "{sent}");
    }
    // Refused requests have an id, too.
    let response = Answer::send(app.anonymous(Method::GET, EVENTS).header("Host", "evil.example")).await;
    assert_eq!(response.header("x-request-id").len(), 36);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn responses_forbid_content_sniffing_and_caching() {
    let app = TestApp::start();
    for path in [EVENTS, "/api/v1/nothing", "/health/live", "/nothing"] {
        let answer = app.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn when_the_actors_are_gone_every_request_gets_503_with_retry_after() {
    let app = TestApp::start();
    app.stop_actors().await;
    let event = json!({"camera_id": "a", "description": "x"});
    for answer in [
        app.post(EVENTS, &event).await,
        app.post(BATCH, &json!([event])).await,
        app.get(EVENTS).await,
        app.get("/api/v1/events/a").await,
        app.get("/api/v1/events/a/thumbnail").await,
        app.put("/api/v1/events/a/thumbnail", &json!({})).await,
        app.get(CONFIG).await,
        app.put(CONFIG, &json!({})).await,
        app.get("/api/v1/integrations/mqtt/status").await,
        app.post("/api/v1/integrations/mqtt/test", &json!({})).await,
        app.post("/api/v1/integrations/mqtt/test-message", &json!({})).await,
        app.get("/health/ready").await,
    ] {
        answer.problem(503);
        assert_eq!(answer.header("retry-after"), "5");
    }
    assert_eq!(app.get("/health/live").await.status, 200);
    app.stop().await;
}
