//! Tokens over the API.

use reqwest::Method;
use serde_json::json;

use crate::helpers::{Answer, TestApp};

const TOKENS: &str = "/api/v1/tokens";

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_new_token_is_returned_once_with_its_location() {
    let app = TestApp::start();
    let answer = app.post(TOKENS, &json!({"name": "door", "scopes": ["read", "events:write"]})).await;
    let made = answer.expect(201);
    let expected = json!({
        "name": "door", "scopes": ["events:write", "read"], "token": "lo_secret",
        "created_at": "1970-01-01T00:00:00Z", "last_used_at": null,
    });
    assert_eq!(made, expected);
    assert_eq!(answer.header("location"), "/api/v1/tokens/door");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(app.get(TOKENS).await.expect(200), json!({"tokens": []}));
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn invalid_duplicate_and_unstorable_tokens_are_refused() {
    let app = TestApp::start();
    assert_eq!(app.post(TOKENS, &json!({"name": "a b", "scopes": [], "more": 1})).await.faults().len(), 3);
    let problem = app.post(TOKENS, &json!({"name": "taken", "scopes": ["read"]})).await.problem(409);
    assert!(problem["detail"].as_str().unwrap().contains("named taken already"), "{problem}");
    app.script().tokens_unavailable = true;
    app.post(TOKENS, &json!({"name": "door", "scopes": ["read"]})).await.problem(503);
    app.get(TOKENS).await.problem(503);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_token_is_revoked_by_name() {
    let app = TestApp::start();
    let delete = |name: &str| Answer::send(app.request(Method::DELETE, &format!("{TOKENS}/{name}")));
    let answer = delete("door").await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    for unknown in ["unknown", "%20", "-x"] {
        delete(unknown).await.problem(404);
    }
    app.stop().await;
}
