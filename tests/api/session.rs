//! Signing in to the page, and what the session cookie permits.

use liveobject_actors::domain::token::Scope;
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::helpers::{Answer, TestApp};

const SESSION: &str = "/session";
const EVENTS: &str = "/api/v1/events";

/// Builds a request as the page sends it.
fn page_request(app: &TestApp, method: Method, path: &str) -> RequestBuilder {
    app.anonymous(method, path).header("Origin", format!("http://{}", app.address))
}

async fn sign_in(app: &TestApp, token: &str) -> Answer {
    Answer::send(page_request(app, Method::POST, SESSION).json(&json!({"token": token}))).await
}

/// Returns the cookie that a response sets, as a browser sends it back.
fn cookie(answer: &Answer) -> String {
    answer.header("set-cookie").split(';').next().unwrap().to_owned()
}

#[actix_web::test]
async fn signing_in_exchanges_a_token_for_a_cookie_with_the_same_permissions() {
    let app = TestApp::start();
    let answer = sign_in(&app, &app.token).await;
    assert_eq!(answer.expect(200), json!({"signed_in": true, "scopes": ["admin"]}));
    let set = answer.header("set-cookie");
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict") && set.contains("Path=/"), "{set}");
    assert!(!set.contains(&app.token), "the cookie must not contain the token");
    let cookie = cookie(&answer);
    let with = |method, path| page_request(&app, method, path).header("Cookie", &cookie);
    Answer::send(with(Method::GET, EVENTS)).await.expect(200);
    let event = json!({"camera_id": "a", "description": "x"});
    Answer::send(with(Method::POST, EVENTS).json(&event)).await.expect(202);
    let session = Answer::send(with(Method::GET, SESSION)).await;
    assert_eq!(session.expect(200)["scopes"], json!(["admin"]));
    let session = Answer::send(app.anonymous(Method::GET, SESSION)).await;
    assert_eq!(session.expect(200), json!({"signed_in": false, "scopes": null}));
    app.stop().await;
}

#[actix_web::test]
async fn a_cookie_has_the_scopes_of_its_token_and_expires_with_it() {
    let app = TestApp::start();
    let token = app.token_for(&[Scope::Read]);
    let cookie = cookie(&sign_in(&app, &token).await);
    let with = |method, path| page_request(&app, method, path).header("Cookie", &cookie);
    Answer::send(with(Method::GET, EVENTS)).await.expect(200);
    Answer::send(with(Method::POST, EVENTS).json(&json!({}))).await.problem(403);
    app.script().tokens.clear();
    Answer::send(with(Method::GET, EVENTS)).await.problem(401);
    app.stop().await;
}

#[actix_web::test]
async fn the_cookie_works_only_for_requests_from_the_page() {
    let app = TestApp::start();
    let cookie = cookie(&sign_in(&app, &app.token).await);
    let event = json!({"camera_id": "a", "description": "x"});
    let post = || app.anonymous(Method::POST, EVENTS).header("Cookie", &cookie);
    Answer::send(post().json(&event)).await.problem(403);
    for site in ["same-site", "cross-site", "none"] {
        Answer::send(post().header("Sec-Fetch-Site", site).json(&event)).await.problem(403);
    }
    let foreign = post().header("Origin", "http://localhost:3000").json(&event);
    Answer::send(foreign).await.problem(403);
    let form = page_request(&app, Method::POST, EVENTS).header("Cookie", &cookie).body(event.to_string());
    Answer::send(form.header("Content-Type", "text/plain")).await.problem(415);
    let session = app.anonymous(Method::GET, EVENTS).header("Cookie", &cookie);
    Answer::send(session.header("Sec-Fetch-Site", "same-site")).await.problem(403);
    assert!(app.script().accepted.is_empty());
    Answer::send(post().header("Sec-Fetch-Site", "same-origin").json(&event)).await.expect(202);
    app.stop().await;
}

#[actix_web::test]
async fn failed_sign_ins_are_counted_and_limited() {
    let app = TestApp::with_login_limit(2);
    for _ in 0..2 {
        let answer = sign_in(&app, "guess").await;
        answer.problem(401);
        assert_eq!(answer.header("set-cookie"), "");
    }
    sign_in(&app, "guess").await.problem(429);
    sign_in(&app, &app.token).await.expect(200);
    app.stop().await;
}

#[actix_web::test]
async fn malformed_or_cross_site_sign_ins_are_refused() {
    let app = TestApp::start();
    for body in [json!({}), json!({"token": null}), json!({"token": 1}), json!({"token": "x", "colour": 1})] {
        let answer = Answer::send(page_request(&app, Method::POST, SESSION).json(&body)).await;
        assert!(!answer.faults().is_empty());
    }
    // A page on another port, or a form, can neither sign a user in nor out.
    let token = json!({"token": app.token});
    Answer::send(app.anonymous(Method::POST, SESSION).json(&token)).await.problem(403);
    Answer::send(app.anonymous(Method::DELETE, SESSION)).await.problem(403);
    app.stop().await;
}

#[actix_web::test]
async fn signing_out_removes_the_cookie() {
    let app = TestApp::start();
    let cookie = cookie(&sign_in(&app, &app.token).await);
    let answer = Answer::send(page_request(&app, Method::DELETE, SESSION).header("Cookie", cookie)).await;
    assert_eq!(answer.status, 204);
    assert!(answer.header("set-cookie").starts_with("liveobject_session=; Path=/; Max-Age=0;"));
    app.stop().await;
}

#[actix_web::test]
async fn a_forged_cookie_permits_nothing() {
    let app = TestApp::start();
    for made_up in ["", "x", "9999999999.admin.00", &app.token] {
        let cookie = format!("liveobject_session={made_up}");
        Answer::send(app.anonymous(Method::GET, EVENTS).header("Cookie", cookie)).await.problem(401);
    }
    app.stop().await;
}
