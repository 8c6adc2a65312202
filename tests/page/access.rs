//! Signing in and out.

use std::process::Stdio;

use liveobject_test_support::Browser;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use crate::helpers::{event, page, service, signed_in};

#[tokio::test]
async fn an_invalid_token_is_rejected_and_a_valid_one_opens_the_page_until_signing_out() {
    let service = service().await;
    let browser = Browser::start().await;
    browser.open(&page(&service)).await;
    browser.wait_for_text("Sign in").await;
    browser.enter("input[name=token]", "not-the-token").await;
    browser.click("form button").await;
    browser.wait_for_text("This token isn’t valid here").await;
    browser.enter("input[name=token]", &service.token()).await;
    browser.click("form button").await;
    browser.wait_for_text("Sign out").await;
    // The session survives loading the page again.
    browser.open(&page(&service)).await;
    browser.wait_for_text("Sign out").await;
    browser.press("Sign out").await;
    browser.wait_for_text("Sign in").await;
    browser.open(&page(&service)).await;
    browser.wait_until("return document.querySelector('input[name=token]') !== null").await;
}

#[tokio::test]
async fn the_link_of_the_demo_signs_in_once_and_leaves_no_secret_behind() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_liveobject"))
        .args(["demo", "--for", "2m"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let (mut link, mut token) = (String::new(), String::new());
    while token.is_empty() {
        let printed = lines.next_line().await.unwrap().expect("the demo prints a link and a token");
        if let Some(found) = printed.trim().strip_prefix("Page ") {
            found.trim().clone_into(&mut link);
        }
        if let Some(found) = printed.trim().strip_prefix("Token ") {
            found.trim().clone_into(&mut token);
        }
    }
    assert!(link.contains("#code=") && !link.contains(&token), "{link}");
    let browser = Browser::start().await;
    browser.open(&link).await;
    browser.wait_for_text("Sign out").await;
    let storage =
        browser.run("return location.href + document.cookie + JSON.stringify(localStorage)", json!([])).await;
    assert!(!storage.to_string().contains("code="), "{storage}");
    assert_eq!(browser.run("return document.cookie", json!([])).await, "", "scripts cannot see the cookie");
    // A browser that is signed in stays so.
    browser.open("about:blank").await;
    browser.open(&link).await;
    browser.wait_for_text("Sign out").await;
    let other = Browser::start().await;
    other.open(&link).await;
    other.wait_for_text("This link has expired or was already used").await;
    demo.kill().await.unwrap();
}

#[tokio::test]
async fn an_unreachable_server_is_reported_and_the_page_reconnects_automatically() {
    let mut service = service().await;
    let browser = signed_in(&service).await;
    browser.wait_for_text("Not connected").await;
    service.kill9().await;
    browser.wait_for_text("Connection to liveobject lost").await;
    service.start().await;
    browser.wait_until("return document.querySelector('.lost').textContent === ''").await;
    browser.wait_for_text("Sign out").await;
    let _ = service.post_event(&event("after", "Seen after the restart")).await.expect(202);
    browser.click("nav a[href='#events']").await;
    browser.wait_for_text("Seen after the restart").await;
}

#[tokio::test]
async fn an_admin_can_download_a_backup_on_the_page() {
    let service = service().await;
    let browser = signed_in(&service).await;
    browser.wait_for_text("Download backup").await;
    let script = "fetch(document.querySelector('a[download]').href).then(async (response) => {\
                  const start = new TextDecoder().decode((await response.arrayBuffer()).slice(0, 13));\
                  window.downloaded = [response.status, response.headers.get('content-type'), start].join(' ');\
                  }); return true";
    browser.run(script, json!([])).await;
    let expected = "return window.downloaded === '200 application/x-tar manifest.json'";
    browser.wait_until(expected).await;
}
