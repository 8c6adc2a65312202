//! What several services with one database on a PostgreSQL server share: keys, admin tokens and pictures.

use liveobject_test_support::{Postgres, Service, wait_until};
use reqwest::Method;
use serde_json::json;

use crate::helpers::{PNG, TIMEOUT, assert_exits, event, service, stop};

const URL: &str = "LIVEOBJECT__DATABASE__URL";
pub const IDENTITY: &str = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
const EVENTS: &str = "/api/v1/events";
const PICTURE: &str = "/api/v1/events/e/thumbnail";

fn node(url: &str) -> Service {
    service().env(URL, url).env("LIVEOBJECT_IDENTITY", IDENTITY).build()
}

async fn is_active(node: &Service) -> bool {
    let ready = node.without_token().get("/health/ready").await;
    ready.status == 200 && ready.body["status"] == "ready"
}

/// Signs in to the page. Returns the cookie.
async fn sign_in(node: &Service, token: &str) -> String {
    let origin = format!("http://127.0.0.1:{}", node.port());
    let request = node.without_token().request(Method::POST, "/session").header("Origin", &origin);
    let signed_in = request.json(&json!({ "token": token })).send().await.expect("a response");
    assert_eq!(signed_in.status(), 200);
    let cookie = signed_in.headers()["set-cookie"].to_str().expect("text");
    cookie.split(';').next().expect("a cookie").to_owned()
}

async fn status(node: &Service, path: &str, cookie: &str) -> u16 {
    let request = node.without_token().request(Method::GET, path).header("Cookie", cookie);
    request.send().await.expect("a response").status().as_u16()
}

#[tokio::test]
async fn tokens_sessions_links_and_pictures_survive_the_loss_of_the_active_node() {
    let postgres = Postgres::shared();
    let url = postgres.url(&postgres.create_database());
    let (mut a, mut b) = (node(&url), node(&url));
    a.start().await;
    b.start().await;
    let (of_a, of_b) = (a.token(), b.token());
    assert!(is_active(&a).await && of_a != of_b);
    wait_until("the active node accepts the admin token of the other one", TIMEOUT, async || {
        a.with_token(&of_b).get(EVENTS).await.status == 200
    })
    .await;
    assert_eq!(a.with_token(&of_b).get("/api/v1/tokens").await.status, 200, "with all its rights");

    let _ = a.post_event(&event("e")).await.expect(202);
    let stored = a.request(Method::PUT, PICTURE).body(PNG).send().await.expect("a response");
    assert_eq!(stored.status(), 204);
    let events = a.get(EVENTS).await.expect(200);
    let link = events["events"][0]["thumbnail_url"].as_str().expect("a link").to_owned();
    let path = &link[link.find("/api/").expect("a path")..];
    let (kept, ended) = (sign_in(&a, &of_a).await, sign_in(&a, &of_a).await);
    let origin = format!("http://127.0.0.1:{}", a.port());
    let sign_out = a.without_token().request(Method::DELETE, "/session").header("Origin", &origin);
    let sign_out = sign_out.header("Cookie", &ended).header("Content-Type", "application/json");
    let signed_out = sign_out.send().await.expect("a response");
    assert_eq!(signed_out.status(), 204);
    assert_eq!((status(&a, EVENTS, &kept).await, status(&a, EVENTS, &ended).await), (200, 401));

    a.kill9().await;
    wait_until("the other node is active", TIMEOUT, async || is_active(&b).await).await;
    for token in [&of_a, &of_b] {
        assert_eq!(b.with_token(token).get(EVENTS).await.status, 200);
    }
    assert_eq!(status(&b, EVENTS, &kept).await, 200, "the browser stays signed in");
    assert_eq!(status(&b, EVENTS, &ended).await, 401, "a session that was ended is not revived");
    assert_eq!(status(&b, path, "").await, 200, "the link is valid");
    let picture = b.request(Method::GET, PICTURE).send().await.expect("a response");
    assert_eq!(picture.bytes().await.expect("a picture"), PNG);
    stop(&mut b).await;
}

#[tokio::test]
async fn a_link_key_that_is_not_that_of_the_other_nodes_is_refused() {
    let postgres = Postgres::shared();
    let url = postgres.url(&postgres.create_database());
    let mut first = node(&url);
    first.start().await;
    stop(&mut first).await;
    let builder = service().env(URL, &url).env("LIVEOBJECT_IDENTITY", IDENTITY);
    let mut second = builder.env("LIVEOBJECT_THUMBNAIL_KEY", "0".repeat(64)).build();
    assert_exits(&mut second, 78, &["is not the one that the nodes with this database share"]).await;
}
