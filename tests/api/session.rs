//! Signing in to the page, and what the session cookie permits.

use std::time::Duration;

use liveobject_actors::domain::token::Scope;
use liveobject_test_support::EventStream;
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::helpers::{Answer, TestApp};

const SESSION: &str = "/session";
const EVENTS: &str = "/api/v1/events";
const TIMEOUT: Duration = Duration::from_secs(10);

/// Builds a request as the page sends it.
fn page_request(app: &TestApp, method: Method, path: &str) -> RequestBuilder {
    let request = app.anonymous(method.clone(), path).header("Origin", format!("http://{}", app.address));
    if method == Method::GET { request } else { request.header("Content-Type", "application/json") }
}

async fn sign_in(app: &TestApp, token: &str) -> Answer {
    Answer::send(page_request(app, Method::POST, SESSION).json(&json!({"token": token}))).await
}

/// Returns the cookie that a response sets, as a browser sends it back.
fn cookie(answer: &Answer) -> String {
    answer.header("set-cookie").split(';').next().unwrap().to_owned()
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn signing_in_exchanges_a_token_for_a_cookie_with_the_same_permissions() {
    let app = TestApp::start();
    let answer = sign_in(&app, &app.token).await;
    assert_eq!(answer.expect(200), json!({"signed_in": true, "can_sign_out": true, "scopes": ["admin"]}));
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
    assert_eq!(session.expect(200), json!({"signed_in": false, "can_sign_out": false, "scopes": null}));
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
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

#[actix_rt::test(system = "liveobject_actors::System")]
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
    let origin = format!("http://{}", app.address);
    let form = || post().header("Origin", &origin);
    Answer::send(form().header("Content-Type", "text/plain").body(event.to_string())).await.problem(415);
    let session = app.anonymous(Method::GET, EVENTS).header("Cookie", &cookie);
    Answer::send(session.header("Sec-Fetch-Site", "same-site")).await.problem(403);
    assert!(app.script().accepted.is_empty());
    Answer::send(post().header("Sec-Fetch-Site", "same-origin").json(&event)).await.expect(202);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
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

#[actix_rt::test(system = "liveobject_actors::System")]
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

#[actix_rt::test(system = "liveobject_actors::System")]
async fn signing_out_removes_the_cookie() {
    let app = TestApp::start();
    let cookie = cookie(&sign_in(&app, &app.token).await);
    let (name, _) = cookie.split_once('=').unwrap();
    let answer = Answer::send(page_request(&app, Method::DELETE, SESSION).header("Cookie", &cookie)).await;
    assert_eq!(answer.status, 204);
    let set = answer.header("set-cookie");
    assert!(set.starts_with(&format!("{name}=; Path=/; Max-Age=0;")), "{set}");
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_forged_cookie_permits_nothing() {
    let app = TestApp::start();
    let cookie = cookie(&sign_in(&app, &app.token).await);
    let (name, _) = cookie.split_once('=').unwrap();
    for made_up in ["", "x", "9999999999.admin.00.00", &app.token] {
        let cookie = format!("{name}={made_up}");
        Answer::send(app.anonymous(Method::GET, EVENTS).header("Cookie", cookie)).await.problem(401);
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn signing_out_ends_this_session_at_the_server_and_no_other() {
    let app = TestApp::start();
    let one = cookie(&sign_in(&app, &app.token).await);
    let other = cookie(&sign_in(&app, &app.token).await);
    let signed_out = page_request(&app, Method::DELETE, SESSION).header("Cookie", &one);
    assert_eq!(Answer::send(signed_out).await.status, 204);
    Answer::send(page_request(&app, Method::GET, EVENTS).header("Cookie", &one)).await.problem(401);
    let session = Answer::send(page_request(&app, Method::GET, SESSION).header("Cookie", &one)).await;
    assert_eq!(session.expect(200)["signed_in"], false);
    Answer::send(page_request(&app, Method::GET, EVENTS).header("Cookie", &other)).await.expect(200);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_cookie_is_restricted_to_tls_where_the_page_uses_it() {
    let app = TestApp::with_public_url("https://cams.example.org");
    let sign_in = |origin: Option<&str>, proto: Option<&str>| {
        let mut request = app.anonymous(Method::POST, SESSION).header("Sec-Fetch-Site", "same-origin");
        for (name, value) in [("Origin", origin), ("X-Forwarded-Proto", proto)] {
            request = value.iter().fold(request, |request, value| request.header(name, *value));
        }
        Answer::send(request.json(&json!({"token": app.token})))
    };
    let plain = format!("http://{}", app.address);
    for (origin, proto, is_secure) in [
        (Some("https://cams.example.org"), None, true),
        (None, None, true),
        (Some(plain.as_str()), Some("https"), true),
        // A browser would not store a secure cookie here.
        (Some(plain.as_str()), None, false),
    ] {
        let answer = sign_in(origin, proto).await;
        let set = answer.header("set-cookie");
        assert_eq!(set.starts_with("__Host-liveobject_session_"), is_secure, "{origin:?}: {set}");
        assert_eq!(set.ends_with("; Secure"), is_secure, "{origin:?}: {set}");
        let get = app.anonymous(Method::GET, EVENTS).header("Cookie", cookie(&answer));
        Answer::send(get).await.expect(200);
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn all_cookies_of_the_name_are_tried_and_each_installation_has_its_own_name() {
    let (app, other) = (TestApp::start(), TestApp::start());
    let good = cookie(&sign_in(&app, &app.token).await);
    let (name, _) = good.split_once('=').unwrap();
    let several = format!("{name}=x; {name}=; {good}; a=b");
    Answer::send(page_request(&app, Method::GET, EVENTS).header("Cookie", several)).await.expect(200);
    let elsewhere = cookie(&sign_in(&other, &other.token).await);
    assert_ne!(elsewhere.split_once('=').unwrap().0, name, "two installations on one host share all cookies");
    let both = format!("{elsewhere}; {good}");
    Answer::send(page_request(&app, Method::GET, EVENTS).header("Cookie", &both)).await.expect(200);
    Answer::send(page_request(&other, Method::GET, EVENTS).header("Cookie", &both)).await.expect(200);
    app.stop().await;
    other.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_page_on_another_port_of_an_allowed_host_cannot_make_calls_without_a_body() {
    let app = TestApp::start();
    let cookie = cookie(&sign_in(&app, &app.token).await);
    for (method, path) in [
        (Method::POST, "/api/v1/integrations/mqtt/publish-discovery"),
        (Method::DELETE, "/api/v1/cameras/known"),
        (Method::DELETE, SESSION),
    ] {
        let call =
            app.anonymous(method, path).header("Cookie", &cookie).header("Origin", "http://nas.lan:9000");
        Answer::send(call).await.problem(415);
    }
    Answer::send(page_request(&app, Method::GET, EVENTS).header("Cookie", &cookie)).await.expect(200);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_code_of_a_link_signs_in_once() {
    let app = TestApp::with_login_limit(3);
    let code = async || {
        let links = app.post("/api/v1/sign-in-links", &json!({})).await.expect(201);
        assert_eq!(links["expires_in_seconds"], 600);
        links["links"][0].as_str().unwrap().split_once("/#code=").unwrap().1.to_owned()
    };
    let first = code().await;
    let sign_in = |code: &str| page_request(&app, Method::POST, SESSION).json(&json!({"code": code}));
    let answer = Answer::send(sign_in(&first)).await;
    assert_eq!(answer.expect(200)["scopes"], json!(["admin"]));
    let get = page_request(&app, Method::GET, EVENTS).header("Cookie", cookie(&answer));
    Answer::send(get).await.expect(200);
    Answer::send(sign_in(&first)).await.problem(401);
    for _ in 0..11 {
        Answer::send(sign_in("wrong")).await;
    }
    Answer::send(sign_in("wrong")).await.problem(429);
    Answer::send(sign_in(&code().await)).await.expect(200);
    let both = page_request(&app, Method::POST, SESSION).json(&json!({"code": "x", "token": "y"}));
    assert_eq!(Answer::send(both).await.faults(), ["code"]);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_session_of_a_link_has_the_token_that_requested_the_link_and_ends_with_it() {
    let app = TestApp::start();
    let token = app.token_for(&[Scope::Admin]);
    let code = async || {
        let request = app.anonymous(Method::POST, "/api/v1/sign-in-links").bearer_auth(&token);
        let links = Answer::send(request.json(&json!({}))).await.expect(201);
        links["links"][0].as_str().unwrap().split_once("/#code=").unwrap().1.to_owned()
    };
    let sign_in = |code: &str| page_request(&app, Method::POST, SESSION).json(&json!({"code": code}));
    let answer = Answer::send(sign_in(&code().await)).await;
    let unused = code().await;
    let cookie = cookie(&answer);
    assert_eq!(answer.expect(200)["scopes"], json!(["admin"]));
    let with_cookie = |method, path: &str| page_request(&app, method, path).header("Cookie", &cookie);
    let link_of_session = with_cookie(Method::POST, "/api/v1/sign-in-links").json(&json!({}));
    let links = Answer::send(link_of_session).await.expect(201);
    let of_session = links["links"][0].as_str().unwrap().split_once("/#code=").unwrap().1.to_owned();
    let mut stream = EventStream::open(with_cookie(Method::GET, "/api/v1/stream")).await;
    let mut of_admin = app.stream("").await;
    for stream in [&mut stream, &mut of_admin] {
        assert!(stream.next(TIMEOUT).await.is_some());
        assert!(stream.next(TIMEOUT).await.is_some());
    }

    app.script().tokens.clear();
    assert_eq!(Answer::send(app.request(Method::DELETE, "/api/v1/tokens/phone")).await.status, 204);
    assert_eq!(stream.next(TIMEOUT).await, None);
    Answer::send(with_cookie(Method::GET, EVENTS)).await.problem(401);
    for code in [unused, of_session] {
        Answer::send(sign_in(&code)).await.problem(401);
    }
    app.post(EVENTS, &json!({"camera_id": "a", "description": "Somebody"})).await.expect(202);
    of_admin.wait_for("the event", TIMEOUT, |message| message.event == "event").await;
    app.stop().await;
}
