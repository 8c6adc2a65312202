//! Tokens of others: made, used, listed and revoked on the command line, while the service runs and while it does not.

use std::time::Duration;

use liveobject_test_support::{Service, wait_until};
use serde_json::json;

use crate::helpers::{SOON, event, holds, names, service};

const EVENTS: &str = "/api/v1/events";

async fn create(service: &Service, name: &str, scope: &str) -> String {
    let made = service.run(&["token", "create", name, "--scope", scope]).await;
    assert_eq!((made.code, made.stderr.as_str()), (0, ""), "{made:?}");
    let token = made.stdout.trim().to_owned();
    assert_eq!(made.stdout, format!("{token}\n"), "the token alone, for scripts");
    token
}

#[tokio::test]
async fn a_token_is_made_used_listed_and_revoked_beside_the_running_service() {
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
    wait_until("its use is noted", SOON, async || {
        service.get("/api/v1/tokens").await.expect(200)["tokens"][0]["last_used_at"].is_string()
    })
    .await;

    let revoked = service.run(&["token", "revoke", "classifier-2"]).await;
    assert_eq!(revoked.code, 0, "{revoked:?}");
    wait_until("it is refused", Duration::from_secs(2), async || {
        classifier.post_event(&event("e")).await.status == 401
    })
    .await;
    let again = service.run(&["token", "revoke", "classifier-2"]).await;
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.stderr.contains("there is no token named classifier-2"), "{again:?}");
}

#[tokio::test]
async fn a_token_that_was_made_before_the_first_start_holds_after_it_and_after_a_restart() {
    let mut service = service().build();
    let token = create(&service, "panel", "read").await;
    service.start().await;
    let _ = service.with_token(&token).get(EVENTS).await.expect(200);
    service.restart().await;
    let _ = service.with_token(&token).get(EVENTS).await.expect(200);
    let _ = service.with_token(&token).post_event(&event("e")).await.expect(403);
}

#[tokio::test]
async fn a_name_is_given_once_and_a_scope_must_be_one() {
    let service = service().build();
    create(&service, "door", "read,events:write").await;
    let again = service.run(&["token", "create", "door", "--scope", "admin"]).await;
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.stderr.contains("there is a token named door already"), "{again:?}");
    for arguments in
        [["token", "create", "a/b", "--scope", "read"], ["token", "create", "a", "--scope", "write"]]
    {
        let refused = service.run(&arguments).await;
        assert_eq!(refused.code, 2, "{refused:?}");
    }
}

#[tokio::test]
async fn a_token_of_the_api_is_told_once_holds_at_once_and_is_in_no_file_and_no_log() {
    let mut service = service().env("LIVEOBJECT__LOG__FILTER", "trace,actix_http=trace").start().await;
    let made =
        service.post("/api/v1/tokens", &json!({"name": "admin-2", "scopes": ["admin"]})).await.expect(201);
    let token = made["token"].as_str().unwrap().to_owned();
    let other = service.with_token(&token);
    let listed = other.get("/api/v1/tokens").await.expect(200);
    assert!(!listed.to_string().contains(&token));
    let wrong = format!("{token}-wrong");
    let _ = service.with_token(&wrong).get(EVENTS).await.expect(401);
    let _ = other.delete("/api/v1/tokens/admin-2").await;
    let _ = other.get(EVENTS).await.expect(401);
    let log = service.log_text();
    for told in ["a token was made", "failed login: invalid token", "a token was revoked"] {
        assert!(log.contains(told), "{told} is not told");
    }
    assert!(!log.contains(&token), "a token is in the log");
    for name in names(service.data_dir()) {
        assert!(!holds(&service.data_dir().join(&name), token.as_bytes()), "the token is in {name}");
    }
    service.sigterm();
    assert_eq!(service.wait().await, 0);
}

#[tokio::test]
async fn wrong_tokens_are_limited_and_logged_once_a_burst() {
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
