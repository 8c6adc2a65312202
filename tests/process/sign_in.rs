//! The command `sign-in`, and the hint in the log of the first start.

use reqwest::Client;
use serde_json::{Value, json};

use crate::helpers::service;

const HINT: &str = "nobody has signed in to the page yet; for a link, run: ";

#[tokio::test]
async fn the_command_prints_a_link_that_signs_in_once_and_the_log_contains_no_code() {
    let mut service = service().start().await;
    assert_eq!(service.log_text().matches(HINT).count(), 1, "{}", service.log_text());

    let finished = service.run(&["sign-in"]).await;
    assert_eq!(finished.code, 0, "{finished:?}");
    let local = format!("http://127.0.0.1:{}/#code=", service.port());
    let link = finished.stdout.lines().find(|line| line.trim().starts_with(&local));
    let code = link.and_then(|line| line.split_once("#code=")).expect("a link with a code").1;
    assert!(finished.stdout.contains("once, within 10 minutes"), "{finished:?}");
    assert!(finished.stdout.contains("listens only on this machine"), "{finished:?}");
    assert!(!finished.stdout.contains('█'), "the output is not a terminal");

    let client = Client::builder().no_proxy().build().expect("a client");
    let sign_in = async || {
        let url = format!("http://127.0.0.1:{}/session", service.port());
        let call = client.post(url).header("Sec-Fetch-Site", "same-origin").json(&json!({ "code": code }));
        let response = call.send().await.expect("a response");
        (response.status().as_u16(), response.json::<Value>().await.expect("JSON"))
    };
    assert_eq!(
        sign_in().await,
        (200, json!({ "signed_in": true, "can_sign_out": true, "scopes": ["admin"] }))
    );
    assert_eq!(sign_in().await.0, 401, "the code works once");
    assert!(!service.log_text().contains(code), "the code is in the log");

    service.kill9().await;
    let finished = service.run(&["sign-in"]).await;
    assert_eq!(finished.code, 1, "{finished:?}");
    assert!(finished.stderr.contains("is it running?"), "{finished:?}");
    service.start().await;
    assert_eq!(service.log_text().matches(HINT).count(), 1, "only at the first start");
}
