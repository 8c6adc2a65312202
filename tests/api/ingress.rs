//! The ingress of Home Assistant: no token, only one peer, its own origin, in its frame.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::helpers::{Answer, TestApp};

const EVENTS: &str = "/api/v1/events";
const SETTINGS: &str = "/api/v1/integrations/mqtt/config";
/// The host under which a browser opened Home Assistant.
const HOME_ASSISTANT: &str = "homeassistant.local:8123";

/// A request as Home Assistant forwards it.
fn forwarded(app: &TestApp, method: Method, path: &str) -> RequestBuilder {
    app.anonymous(method, path)
        .header("Host", HOME_ASSISTANT)
        .header("X-Forwarded-Host", HOME_ASSISTANT)
        .header("X-Remote-User-Name", "anna")
}

#[actix_web::test]
async fn a_page_in_the_frame_of_home_assistant_needs_no_token() {
    let app = TestApp::with_ingress_from("127.0.0.1");
    let page = Answer::send(forwarded(&app, Method::GET, "/")).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("x-frame-options"), "SAMEORIGIN");
    assert!(page.header("content-security-policy").contains("frame-ancestors 'self'"));
    let session = Answer::send(forwarded(&app, Method::GET, "/session")).await;
    let expected = json!({ "signed_in": true, "can_sign_out": false, "scopes": ["admin"] });
    assert_eq!(session.expect(200), expected);
    Answer::send(forwarded(&app, Method::GET, EVENTS)).await.expect(200);
    let put = forwarded(&app, Method::PUT, SETTINGS)
        .header("Origin", format!("http://{HOME_ASSISTANT}"))
        .header("Sec-Fetch-Site", "same-origin")
        .json(&json!({}));
    Answer::send(put).await.expect(200);
    app.stop().await;
}

#[actix_web::test]
async fn a_user_of_home_assistant_gets_no_secrets_and_no_lasting_access() {
    let app = TestApp::with_ingress_from("127.0.0.1");
    for (method, path) in [
        (Method::GET, "/api/v1/backup"),
        (Method::GET, "/api/v1/restore"),
        (Method::POST, "/api/v1/restore"),
        (Method::DELETE, "/api/v1/restore"),
        (Method::GET, "/api/v1/tokens"),
        (Method::POST, "/api/v1/tokens"),
        (Method::DELETE, "/api/v1/tokens/a"),
        (Method::POST, "/api/v1/sign-in-links"),
    ] {
        let request = forwarded(&app, method, path).header("Sec-Fetch-Site", "same-origin").json(&json!({}));
        Answer::send(request).await.problem(403);
    }
    app.stop().await;
}

#[actix_web::test]
async fn other_peers_get_nothing_not_even_with_a_token() {
    let app = TestApp::with_ingress_from("127.0.0.2");
    for path in ["/", "/page/main.js", "/session", EVENTS, "/metrics"] {
        Answer::send(app.request(Method::GET, path)).await.problem(403);
        Answer::send(forwarded(&app, Method::GET, path)).await.problem(403);
    }
    app.stop().await;
}

#[actix_web::test]
async fn other_web_pages_cannot_use_the_ingress() {
    let app = TestApp::with_ingress_from("127.0.0.1");
    let put = || forwarded(&app, Method::PUT, SETTINGS);
    let own = format!("http://{HOME_ASSISTANT}");
    for (what, request) in [
        ("another origin", put().header("Origin", "http://evil.example").json(&json!({}))),
        ("another port", put().header("Origin", "http://homeassistant.local:9000").json(&json!({}))),
        ("no evidence of its origin", put().json(&json!({}))),
        (
            "another site according to the browser",
            put().header("Origin", &own).header("Sec-Fetch-Site", "cross-site").json(&json!({})),
        ),
    ] {
        let answer = Answer::send(request).await;
        assert_eq!(answer.status, 403, "{what}");
    }
    // A form of another page.
    Answer::send(put().header("Origin", &own).header("Content-Type", "text/plain").body("{}"))
        .await
        .problem(415);
    let read = forwarded(&app, Method::GET, EVENTS).header("Sec-Fetch-Site", "cross-site");
    Answer::send(read).await.problem(403);
    app.stop().await;
}

#[actix_web::test]
async fn the_first_proxy_knows_the_host_of_the_browser() {
    let app = TestApp::with_ingress_from("127.0.0.1");
    let put = app
        .anonymous(Method::PUT, SETTINGS)
        .header("Host", "127.0.0.1:8123")
        .header("X-Forwarded-Host", "home.example.org, 127.0.0.1:8123")
        .header("Origin", "https://home.example.org")
        .json(&json!({}));
    Answer::send(put).await.expect(200);
    app.stop().await;
}

#[actix_web::test]
async fn the_ingress_sets_no_cookie_because_nobody_signs_in_or_out_there() {
    let app = TestApp::with_ingress_from("127.0.0.1");
    for method in [Method::POST, Method::DELETE] {
        let request = forwarded(&app, method.clone(), "/session").header("Sec-Fetch-Site", "same-origin");
        let answer = Answer::send(request.json(&json!({ "token": app.token }))).await;
        assert_eq!(answer.status, 403, "{method}");
        assert_eq!(answer.header("set-cookie"), "", "{method}");
    }
    app.stop().await;
}

#[actix_web::test]
async fn an_ordinary_listener_trusts_no_header() {
    let app = TestApp::start();
    let request = app.anonymous(Method::GET, EVENTS);
    let request = request.header("X-Forwarded-Host", HOME_ASSISTANT).header("X-Remote-User-Name", "anna");
    Answer::send(request).await.problem(401);
    let session = Answer::send(app.anonymous(Method::GET, "/session")).await.expect(200);
    assert_eq!(session["scopes"], Value::Null);
    let page = Answer::send(app.anonymous(Method::GET, "/")).await;
    assert_eq!(page.header("x-frame-options"), "DENY");
    app.stop().await;
}

#[actix_web::test]
async fn the_page_loads_behind_an_unknown_proxy_and_can_show_the_reason() {
    let app = TestApp::start();
    let foreign = |path: &str| app.anonymous(Method::GET, path).header("Origin", "https://cams.example.net");
    for path in ["/", "/page/main.js"] {
        assert_eq!(Answer::send(foreign(path)).await.status, 200, "{path}");
    }
    let refused = Answer::send(foreign("/session")).await;
    refused.problem(403);
    assert!(refused.text.contains("public_url"), "{}", refused.text);
    app.stop().await;
}
