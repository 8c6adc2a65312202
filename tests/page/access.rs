//! Signing in and out.

use liveobject_test_support::Browser;
use serde_json::json;

use crate::helpers::{event, page, service, signed_in};

#[tokio::test]
async fn a_wrong_token_is_told_and_the_right_one_opens_the_page_until_signing_out() {
    let service = service().await;
    let browser = Browser::start().await;
    browser.open(&page(&service)).await;
    browser.sees("Sign in").await;
    browser.enter("input[name=token]", "not-the-token").await;
    browser.click("form button").await;
    browser.sees("That is not a token of this service").await;
    browser.enter("input[name=token]", &service.token()).await;
    browser.click("form button").await;
    browser.sees("Sign out").await;
    // It lasts over a visit, and over a restart of the service.
    browser.open(&page(&service)).await;
    browser.sees("Sign out").await;
    browser.press("Sign out").await;
    browser.sees("Sign in").await;
    browser.open(&page(&service)).await;
    browser.holds("return document.querySelector('input[name=token]') !== null").await;
}

#[tokio::test]
async fn a_link_with_the_token_signs_in_and_leaves_no_token_behind() {
    let service = service().await;
    let browser = signed_in(&service).await;
    let left =
        browser.run("return location.href + document.cookie + JSON.stringify(localStorage)", json!([])).await;
    assert!(!left.to_string().contains(&service.token()), "{left}");
    assert_eq!(browser.run("return document.cookie", json!([])).await, "", "scripts do not see the cookie");
}

#[tokio::test]
async fn a_server_that_was_lost_is_told_and_comes_back_by_itself() {
    let mut service = service().await;
    let browser = signed_in(&service).await;
    browser.sees("Not connected").await;
    service.kill9().await;
    browser.sees("The page has lost the server").await;
    service.start().await;
    browser.holds("return document.querySelector('.lost').textContent === ''").await;
    browser.sees("Sign out").await;
    let _ = service.post_event(&event("after", "Seen after the restart")).await.expect(202);
    browser.click("nav a[href='#events']").await;
    browser.sees("Seen after the restart").await;
}
