//! Who may call the API, and from where.

use std::{collections::BTreeSet, net::IpAddr};

use liveobject::http::Limits;
use liveobject_actors::domain::token::Scope;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::helpers::{Answer, TestApp};

const EVENTS: &str = "/api/v1/events";

/// Methods that clients use, and some that no client uses.
fn methods() -> Vec<Method> {
    let names = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "BREW"];
    names.map(|name| Method::from_bytes(name.as_bytes()).unwrap()).to_vec()
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn every_api_route_returns_401_without_a_valid_token_for_any_method() {
    let app = TestApp::with_login_limit(10_000);
    app.token_for(&[Scope::Admin]);
    let paths: BTreeSet<_> = app.routes().await.into_iter().map(|(_, path, _)| path).collect();
    let paths: Vec<_> = paths.into_iter().filter(|path| path.starts_with("/api")).collect();
    assert!(paths.len() > 10, "{paths:?}");
    for path in &paths {
        for method in methods() {
            let invalid = app.anonymous(method.clone(), path).bearer_auth("lo_wrong");
            let stale = app.anonymous(method.clone(), &format!("{path}?expires=1&signature=00"));
            for request in [app.anonymous(method.clone(), path), invalid, stale] {
                let answer = Answer::send(request).await;
                assert_eq!(answer.status, 401, "{method} {path}");
                assert_eq!(answer.header("www-authenticate"), "Bearer");
                if method != Method::HEAD {
                    answer.problem(401);
                }
            }
        }
    }
    assert!(app.script().accepted.is_empty());
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_foreign_origin_or_a_rebound_host_name_is_refused_on_every_route_even_with_the_token() {
    let app = TestApp::start();
    for (_, path, _) in app.routes().await {
        for method in methods() {
            let rebound = app.request(method.clone(), &path).header("Host", "evil.example");
            let foreign = app.request(method.clone(), &path).header("Origin", "http://evil.example");
            // Reading the page itself reveals nothing, and it can then show why the API refuses it.
            let is_page =
                matches!(method, Method::GET | Method::HEAD) && (path == "/" || path.starts_with("/page/"));
            for (request, is_refused) in [(rebound, true), (foreign, !is_page)] {
                let answer = Answer::send(request).await;
                assert_eq!(answer.status == 403, is_refused, "{method} {path}");
                assert!(answer.header("access-control-allow-origin").is_empty());
            }
        }
    }
    assert!(app.script().accepted.is_empty());
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_token_permits_exactly_the_routes_of_its_scopes() {
    let app = TestApp::start();
    let routes = app.routes().await;
    for scopes in [
        vec![Scope::EventsWrite],
        vec![Scope::Read],
        vec![Scope::Admin],
        vec![Scope::EventsWrite, Scope::Read],
    ] {
        let token = app.token_for(&scopes);
        for (method, path, operation) in routes.iter().filter(|(_, path, _)| path.starts_with("/api")) {
            let needed = operation["security"][0]["bearer"][0].as_str().expect("a scope");
            let permitted = scopes.iter().any(|scope| *scope == Scope::Admin || scope.as_str() == needed);
            let request = app.anonymous(method.clone(), path).bearer_auth(&token);
            if permitted {
                // Only the status: the body of a stream never ends.
                let status = request.send().await.unwrap().status().as_u16();
                assert!(![401, 403, 405].contains(&status), "{token} {method} {path}: {status}");
            } else {
                let answer = Answer::send(request).await;
                let problem = answer.problem(403);
                let expected = format!("needs a token with the scope `{needed}`");
                assert!(problem["detail"].as_str().unwrap().contains(&expected), "{problem}");
                assert!(answer.header("www-authenticate").contains(&format!("scope=\"{needed}\"")));
            }
        }
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn head_requires_the_scope_of_get_and_other_methods_are_not_allowed() {
    let app = TestApp::start();
    let (reads, writes) = (app.token_for(&[Scope::Read]), app.token_for(&[Scope::EventsWrite]));
    for (token, status) in [(&reads, 200), (&writes, 403)] {
        let answer = Answer::send(app.anonymous(Method::HEAD, EVENTS).bearer_auth(token)).await;
        assert_eq!((answer.status, answer.text.as_str()), (status, ""));
    }
    Answer::send(app.anonymous(Method::PATCH, EVENTS).bearer_auth(&writes)).await.problem(405);
    Answer::send(app.anonymous(Method::GET, "/api/v1/nothing").bearer_auth(&writes)).await.problem(404);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn an_address_with_too_many_failed_logins_gets_429_with_retry_after() {
    let app = TestApp::with_login_limit(3);
    let with_token = |token: &str| app.anonymous(Method::GET, EVENTS).bearer_auth(token);
    let (known, new) = (app.token_for(&[Scope::Read]), app.token_for(&[Scope::Admin]));
    assert_eq!(Answer::send(with_token(&known)).await.status, 200);
    for i in 0..3 {
        Answer::send(with_token(&format!("guess-{i}"))).await.problem(401);
    }
    for _ in 0..2 {
        let answer = Answer::send(with_token("guess")).await;
        answer.problem(429);
        let seconds: u32 = answer.header("retry-after").parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
    }
    assert_eq!(Answer::send(with_token(&new)).await.status, 200, "a valid token is never shut out");
    assert_eq!(
        Answer::send(with_token(&known)).await.status,
        200,
        "a token that worked from this address keeps working"
    );
    assert_eq!(
        Answer::send(app.anonymous(Method::GET, EVENTS)).await.status,
        401,
        "a request without a token is not a guess"
    );
    assert_eq!(Answer::send(app.anonymous(Method::GET, "/health/live")).await.status, 200);
    let elsewhere = Client::builder().no_proxy().local_address(IpAddr::from([127, 0, 0, 2])).build().unwrap();
    let elsewhere = elsewhere.get(format!("http://{}{EVENTS}", app.address)).bearer_auth(&new);
    assert_eq!(Answer::send(elsewhere).await.status, 200, "addresses are counted separately");
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn forwarding_headers_do_not_change_the_client_address() {
    let app = TestApp::with_login_limit(2);
    for i in 0..2 {
        let guess = app.anonymous(Method::GET, EVENTS).bearer_auth("guess");
        let guess =
            guess.header("X-Forwarded-For", format!("10.0.0.{i}")).header("Forwarded", "for=10.1.1.1");
        Answer::send(guess).await.problem(401);
    }
    let guess = app.anonymous(Method::GET, EVENTS).bearer_auth("guess").header("X-Forwarded-For", "10.0.0.9");
    Answer::send(guess).await.problem(429);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn failed_logins_behind_a_trusted_proxy_are_counted_for_each_client() {
    let app = TestApp::with_trusted_proxies("127.0.0.0/8", 2, Limits::default());
    let guess = |forwarded: &str| {
        let guess = app.anonymous(Method::GET, EVENTS).bearer_auth("guess");
        Answer::send(guess.header("X-Forwarded-For", forwarded.to_owned()))
    };
    for _ in 0..2 {
        guess("192.0.2.1").await.problem(401);
    }
    guess("192.0.2.1").await.problem(429);
    guess("203.0.113.9, 192.0.2.1, 127.0.0.1").await.problem(429);
    guess("192.0.2.2").await.problem(401);
    // The page counts in the same way.
    let sign_in = app.anonymous(Method::POST, "/session").header("Sec-Fetch-Site", "same-origin");
    let sign_in = sign_in.header("X-Forwarded-For", "192.0.2.2").json(&json!({ "token": "guess" }));
    Answer::send(sign_in).await.problem(401);
    guess("192.0.2.2").await.problem(429);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn without_the_token_database_only_the_administrator_token_works_and_others_get_503() {
    let app = TestApp::start();
    let token = app.token_for(&[Scope::Read]);
    app.script().tokens_unavailable = true;
    let answer = Answer::send(app.anonymous(Method::GET, EVENTS).bearer_auth(&token)).await;
    answer.problem(503);
    assert_eq!(answer.header("retry-after"), "5");
    app.get(EVENTS).await.expect(200);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn clients_without_a_token_cannot_tell_which_paths_exist() {
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
        Answer::send(app.anonymous(Method::GET, path)).await.problem(401);
    }
    // None of these paths matches a route, so a 404 reveals nothing either.
    for path in ["//api/v1/events", "/API/v1/events", "/apis", "/x/../../api"] {
        let status = Answer::send(app.anonymous(Method::GET, path)).await.status;
        assert!([401, 404].contains(&status), "{path}: {status}");
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn an_invalid_token_permits_nothing() {
    let app = TestApp::start();
    let half = &app.token[..app.token.len() / 2];
    for token in ["", "x", half, &format!("{}x", app.token)] {
        Answer::send(app.anonymous(Method::GET, EVENTS).bearer_auth(token)).await.problem(401);
    }
    let basic = app.anonymous(Method::GET, EVENTS).header("Authorization", format!("Basic {}", app.token));
    Answer::send(basic).await.problem(401);
    Answer::send(app.anonymous(Method::GET, &format!("{EVENTS}?token={}", app.token))).await.problem(401);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn health_metrics_and_the_openapi_document_need_no_token() {
    let app = TestApp::start();
    for path in ["/health/live", "/health/ready", "/metrics", "/openapi.json"] {
        assert_eq!(Answer::send(app.anonymous(Method::GET, path)).await.status, 200, "{path}");
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_foreign_host_is_refused_on_every_route() {
    let app = TestApp::start();
    for path in ["/health/live", "/health/ready", "/metrics", "/openapi.json", EVENTS, "/nothing"] {
        let problem =
            Answer::send(app.request(Method::GET, path).header("Host", "evil.example")).await.problem(403);
        assert!(problem["detail"].as_str().unwrap().contains("add the name to allowed_hosts"), "{problem}");
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_browser_with_a_foreign_host_gets_a_page_that_explains_what_to_do() {
    let app = TestApp::start();
    for (languages, text) in [
        (None, "lang=\"en\""),
        (Some("en-US,en;q=0.9,de;q=0.8"), "does not know the name “homeserver”"),
        (Some("de-DE,de;q=0.9,en;q=0.8"), "lang=\"de\""),
        (Some("fr,de;q=0.5"), "kennt den Namen „homeserver“ nicht"),
    ] {
        let mut request =
            app.request(Method::GET, "/").header("Host", "homeserver:8080").header("Accept", "text/html,*/*");
        if let Some(languages) = languages {
            request = request.header("Accept-Language", languages);
        }
        let answer = Answer::send(request).await;
        assert_eq!((answer.status, answer.header("content-type")), (403, "text/html; charset=utf-8"));
        assert!(answer.text.contains(text), "{}", answer.text);
        assert!(answer.text.contains("allowed_hosts = [\"homeserver\"]"), "{}", answer.text);
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_hosts_own_names_are_accepted() {
    let app = TestApp::start();
    for host in
        ["localhost", "localhost:1", "192.168.1.2:8080", "[::1]:8080", "cams.example.org", "nas.lan:8080"]
    {
        assert_eq!(
            Answer::send(app.request(Method::GET, EVENTS).header("Host", host)).await.status,
            200,
            "{host}"
        );
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn requests_from_a_foreign_origin_are_refused_even_with_the_token() {
    let app = TestApp::start();
    let from = |origin: String| app.request(Method::GET, EVENTS).header("Origin", origin);
    for origin in ["http://evil.example", "null", "http://localhost:3000", "http://127.0.0.1"] {
        Answer::send(from(origin.to_owned())).await.problem(403);
    }
    for origin in
        [format!("http://{}", app.address), "https://cams.example.org".into(), "http://nas.lan:99".into()]
    {
        assert_eq!(Answer::send(from(origin.clone())).await.status, 200, "{origin}");
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn error_responses_do_not_contain_the_token() {
    let app = TestApp::start();
    let answer: Value = app.get("/api/v1/nothing").await.problem(404);
    assert!(!answer.to_string().contains(&app.token));
    app.stop().await;
}
