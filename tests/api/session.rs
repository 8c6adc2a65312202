//! Signing in to the page, and what its cookie opens.

use liveobject_actors::domain::token::Scope;
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::helpers::{Answer, TestApp};

const SESSION: &str = "/session";
const EVENTS: &str = "/api/v1/events";

/// A request as the page makes it.
fn of_page(app: &TestApp, method: Method, path: &str) -> RequestBuilder {
    app.anonymous(method, path).header("Origin", format!("http://{}", app.address))
}

async fn sign_in(app: &TestApp, token: &str) -> Answer {
    Answer::to(of_page(app, Method::POST, SESSION).json(&json!({"token": token}))).await
}

/// The cookie that an answer sets, as a browser sends it back.
fn cookie(answer: &Answer) -> String {
    answer.header("set-cookie").split(';').next().unwrap().to_owned()
}

#[actix_web::test]
async fn a_token_becomes_a_cookie_that_opens_what_the_token_opens() {
    let app = TestApp::start();
    let answer = sign_in(&app, &app.token).await;
    assert_eq!(answer.expect(200), json!({"signed_in": true, "scopes": ["admin"]}));
    let set = answer.header("set-cookie");
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict") && set.contains("Path=/"), "{set}");
    assert!(!set.contains(&app.token), "the cookie is not the token");
    let cookie = cookie(&answer);
    let with = |method, path| of_page(&app, method, path).header("Cookie", &cookie);
    Answer::to(with(Method::GET, EVENTS)).await.expect(200);
    let event = json!({"camera_id": "a", "description": "x"});
    Answer::to(with(Method::POST, EVENTS).json(&event)).await.expect(202);
    let look = Answer::to(with(Method::GET, SESSION)).await;
    assert_eq!(look.expect(200)["scopes"], json!(["admin"]));
    let look = Answer::to(app.anonymous(Method::GET, SESSION)).await;
    assert_eq!(look.expect(200), json!({"signed_in": false, "scopes": null}));
    app.stop().await;
}

#[actix_web::test]
async fn a_cookie_has_the_scopes_of_its_token_and_ends_with_it() {
    let app = TestApp::start();
    let token = app.token_for(&[Scope::Read]);
    let cookie = cookie(&sign_in(&app, &token).await);
    let with = |method, path| of_page(&app, method, path).header("Cookie", &cookie);
    Answer::to(with(Method::GET, EVENTS)).await.expect(200);
    Answer::to(with(Method::POST, EVENTS).json(&json!({}))).await.problem(403);
    app.script().tokens.clear();
    Answer::to(with(Method::GET, EVENTS)).await.problem(401);
    app.stop().await;
}

#[actix_web::test]
async fn a_call_with_the_cookie_comes_from_the_page_or_is_refused() {
    let app = TestApp::start();
    let cookie = cookie(&sign_in(&app, &app.token).await);
    let event = json!({"camera_id": "a", "description": "x"});
    let post = || app.anonymous(Method::POST, EVENTS).header("Cookie", &cookie);
    Answer::to(post().json(&event)).await.problem(403);
    for site in ["same-site", "cross-site", "none"] {
        Answer::to(post().header("Sec-Fetch-Site", site).json(&event)).await.problem(403);
    }
    let foreign = post().header("Origin", "http://localhost:3000").json(&event);
    Answer::to(foreign).await.problem(403);
    let form = of_page(&app, Method::POST, EVENTS).header("Cookie", &cookie).body(event.to_string());
    Answer::to(form.header("Content-Type", "text/plain")).await.problem(415);
    let look = app.anonymous(Method::GET, EVENTS).header("Cookie", &cookie);
    Answer::to(look.header("Sec-Fetch-Site", "same-site")).await.problem(403);
    assert!(app.script().accepted.is_empty());
    Answer::to(post().header("Sec-Fetch-Site", "same-origin").json(&event)).await.expect(202);
    app.stop().await;
}

#[actix_web::test]
async fn signing_in_with_wrong_tokens_is_counted() {
    let app = TestApp::limiting(2);
    for _ in 0..2 {
        let answer = sign_in(&app, "guess").await;
        answer.problem(401);
        assert_eq!(answer.header("set-cookie"), "");
    }
    sign_in(&app, "guess").await.problem(429);
    sign_in(&app, &app.token).await.problem(429);
    app.stop().await;
}

#[actix_web::test]
async fn what_is_no_sign_in_is_told_so() {
    let app = TestApp::start();
    for body in [json!({}), json!({"token": null}), json!({"token": 1}), json!({"token": "x", "colour": 1})] {
        let answer = Answer::to(of_page(&app, Method::POST, SESSION).json(&body)).await;
        assert!(!answer.faults().is_empty());
    }
    // A page of another port, or a form, cannot sign somebody in or out.
    let token = json!({"token": app.token});
    Answer::to(app.anonymous(Method::POST, SESSION).json(&token)).await.problem(403);
    Answer::to(app.anonymous(Method::DELETE, SESSION)).await.problem(403);
    app.stop().await;
}

#[actix_web::test]
async fn signing_out_removes_the_cookie() {
    let app = TestApp::start();
    let cookie = cookie(&sign_in(&app, &app.token).await);
    let answer = Answer::to(of_page(&app, Method::DELETE, SESSION).header("Cookie", cookie)).await;
    assert_eq!(answer.status, 204);
    assert!(answer.header("set-cookie").starts_with("liveobject_session=; Path=/; Max-Age=0;"));
    app.stop().await;
}

#[actix_web::test]
async fn a_cookie_that_was_made_up_opens_nothing() {
    let app = TestApp::start();
    for made_up in ["", "x", "9999999999.admin.00", &app.token] {
        let cookie = format!("liveobject_session={made_up}");
        Answer::to(app.anonymous(Method::GET, EVENTS).header("Cookie", cookie)).await.problem(401);
    }
    app.stop().await;
}
