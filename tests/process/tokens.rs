//! Additional tokens: created, used, listed and revoked on the command line, while the service runs or is
//! stopped.

use std::time::Duration;

use liveobject_test_support::{Service, wait_until};
use reqwest::Method;
use serde_json::json;

use crate::helpers::{TIMEOUT, contains_bytes, event, names, service, stop};

const EVENTS: &str = "/api/v1/events";
/// Time within which the running service refuses a revoked token.
const REVOKED_WITHIN: Duration = Duration::from_secs(2);

async fn create(service: &Service, name: &str, scope: &str) -> String {
    let created = service.run(&["token", "create", name, "--scope", scope]).await;
    assert_eq!((created.code, created.stderr.as_str()), (0, ""), "{created:?}");
    let token = created.stdout.trim().to_owned();
    assert_eq!(created.stdout, format!("{token}\n"), "scripts expect the token alone");
    token
}

#[tokio::test]
async fn a_token_can_be_created_used_listed_and_revoked_while_the_service_runs() {
    let service = service().start().await;
    let token = create(&service, "classifier-2", "events:write").await;
    let classifier = service.with_token(&token);
    let _ = classifier.post_event(&event("e")).await.expect(202);
    let problem = classifier.get(EVENTS).await.expect(403);
    assert!(problem["detail"].as_str().unwrap().contains("`read`"), "{problem}");

    let listed = service.run(&["token", "list"]).await;
    assert!(listed.stdout.contains("classifier-2") && listed.stdout.contains("events:write"), "{listed:?}");
    assert!(!listed.stdout.contains(&token), "{listed:?}");
    let by_api = service.get("/api/v1/tokens").await.expect(200);
    assert_eq!(by_api["tokens"][0]["name"], "classifier-2");
    assert_eq!(by_api["tokens"].as_array().map(Vec::len), Some(1), "{by_api}");
    wait_until("the token's last use is listed", TIMEOUT, async || {
        service.get("/api/v1/tokens").await.expect(200)["tokens"][0]["last_used_at"].is_string()
    })
    .await;

    let revoked = service.run(&["token", "revoke", "classifier-2"]).await;
    assert_eq!(revoked.code, 0, "{revoked:?}");
    wait_until("the token is refused", REVOKED_WITHIN, async || {
        classifier.post_event(&event("e")).await.status == 401
    })
    .await;
    let again = service.run(&["token", "revoke", "classifier-2"]).await;
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.stderr.contains("there is no token named classifier-2"), "{again:?}");
}

#[tokio::test]
async fn a_token_created_while_the_service_is_stopped_is_valid_after_a_restart() {
    let mut service = service().start().await;
    stop(&mut service).await;
    let token = create(&service, "panel", "read").await;
    service.start().await;
    let _ = service.with_token(&token).get(EVENTS).await.expect(200);
    service.restart().await;
    let _ = service.with_token(&token).get(EVENTS).await.expect(200);
    let _ = service.with_token(&token).post_event(&event("e")).await.expect(403);
}

#[tokio::test]
async fn duplicate_names_and_unknown_scopes_are_refused() {
    let mut service = service().start().await;
    stop(&mut service).await;
    create(&service, "door", "read,events:write").await;
    let again = service.run(&["token", "create", "door", "--scope", "admin"]).await;
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.stderr.contains("a token named door already exists"), "{again:?}");
    for arguments in
        [["token", "create", "a/b", "--scope", "read"], ["token", "create", "a", "--scope", "write"]]
    {
        let output = service.run(&arguments).await;
        assert_eq!(output.code, 2, "{output:?}");
    }
}

#[tokio::test]
async fn a_token_created_over_the_api_works_at_once_is_shown_once_and_is_in_no_file_or_log() {
    let mut service = service().env("LIVEOBJECT__LOG__FILTER", "trace,actix_http=trace").start().await;
    let created =
        service.post("/api/v1/tokens", &json!({"name": "admin-2", "scopes": ["admin"]})).await.expect(201);
    let token = created["token"].as_str().unwrap().to_owned();
    let other = service.with_token(&token);
    let listed = other.get("/api/v1/tokens").await.expect(200);
    assert!(!listed.to_string().contains(&token));
    let invalid = format!("{token}-wrong");
    let _ = service.with_token(&invalid).get(EVENTS).await.expect(401);
    let _ = other.delete("/api/v1/tokens/admin-2").await;
    let _ = other.get(EVENTS).await.expect(401);
    let log = service.log_text();
    for message in ["created a token", "failed login: invalid token", "revoked a token"] {
        assert!(log.contains(message), "{message:?} is not in the log");
    }
    assert!(!log.contains(&token), "a token is in the log");
    for name in names(service.data_dir()) {
        assert!(!contains_bytes(&service.data_dir().join(&name), token.as_bytes()), "the token is in {name}");
    }
    stop(&mut service).await;
}

#[tokio::test]
async fn invalid_tokens_are_rate_limited_and_logged_once_per_burst() {
    let service = service().env("LIVEOBJECT__HTTP__FAILED_LOGINS_PER_MINUTE", 4).start().await;
    let _ = service.get(EVENTS).await.expect(200);
    let mut statuses = Vec::new();
    for i in 0..50 {
        statuses.push(service.with_token(&format!("guess-{i}")).get(EVENTS).await.status);
    }
    assert_eq!(statuses[..4], [401; 4]);
    assert!(statuses[4..].iter().all(|status| *status == 429), "{statuses:?}");
    let _ = service.get(EVENTS).await.expect(200);
    let log = service.log_text();
    assert_eq!(log.matches("failed login").count(), 2, "{log}");
    assert!(log.contains("127.0.0.1") && !log.contains("guess"), "{log}");
}

#[tokio::test]
async fn a_rotated_admin_token_ends_the_old_one_its_sessions_and_its_streams_while_the_service_runs() {
    let service = service().start().await;
    let old = service.token();
    let with_old = service.with_token(&old);
    let origin = format!("http://127.0.0.1:{}", service.port());
    let sign_in = service.without_token().request(Method::POST, "/session").header("Origin", &origin);
    let signed_in = sign_in.json(&json!({"token": old})).send().await.unwrap();
    let cookie = signed_in.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let with_cookie = || {
        let request = service.without_token().request(Method::GET, EVENTS).header("Cookie", &cookie);
        async move { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(with_cookie().await, 200);
    let mut stream = with_old.stream("").await;
    assert!(stream.next(TIMEOUT).await.is_some());

    let rotated = service.run(&["token", "rotate"]).await;
    assert_eq!((rotated.code, rotated.stderr.as_str()), (0, ""), "{rotated:?}");
    let new = rotated.stdout.trim().to_owned();
    assert_ne!(new, old);
    assert_eq!(service.token(), new, "the file contains it");
    wait_until("the old token is refused", Duration::from_secs(4), async || {
        with_old.get(EVENTS).await.status == 401
    })
    .await;
    let _ = service.with_token(&new).get(EVENTS).await.expect(200);
    assert_eq!(with_cookie().await, 401);
    let ended = async { while stream.next(TIMEOUT).await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(4), ended).await.expect("the stream ends");
    let log = service.log_text();
    assert!(log.contains("new admin token") && !log.contains(&new) && !log.contains(&old), "{log}");
}
