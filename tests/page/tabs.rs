//! The page in several tabs of one browser.

use std::time::Duration;

use liveobject_test_support::Service;
use serde_json::json;
use tokio::time::sleep;

use crate::helpers::{connected, event, page, signed_in};

async fn open_streams(service: &Service) -> u64 {
    let text = service.get("/metrics").await.expect(200);
    let text = text.as_str().unwrap();
    let line = text.lines().find(|line| line.starts_with("liveobject_streams_open ")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Waits until this many streams are open. The service notices that a stream has ended when it writes to it, so this
/// posts events.
async fn wait_for_streams(service: &Service, expected: u64) {
    for number in 0..40 {
        let description = format!("Event {number}");
        let _ = service.post_event(&event(&description.replace(' ', "-"), &description)).await.expect(202);
        sleep(Duration::from_millis(500)).await;
        if open_streams(service).await == expected {
            return;
        }
    }
    panic!("{} streams are open", open_streams(service).await);
}

#[tokio::test]
async fn more_tabs_than_a_browser_has_connections_work() {
    let (service, _broker) = connected().await;
    let browser = signed_in(&service).await;
    let address = format!("{}#events", page(&service));
    let mut tabs = Vec::new();
    for _ in 0..8 {
        let tab = browser.open_tab(&address).await;
        browser.wait_for_text("Connected").await;
        assert_eq!(browser.run("return document.hidden", json!([])).await, false);
        tabs.push(tab);
    }
    let _ = service.post_event(&event("one", "Person at the door")).await.expect(202);
    browser.wait_for_text("Person at the door").await;
    wait_for_streams(&service, 1).await;
    browser.show_tab(&tabs[0]).await;
    browser.wait_for_text("Person at the door").await;
}

#[tokio::test]
async fn a_page_that_was_hidden_shows_what_happened_in_between() {
    let (service, _broker) = connected().await;
    let browser = signed_in(&service).await;
    let address = format!("{}#events", page(&service));
    let first = browser.open_tab(&address).await;
    browser.wait_for_text("Connected").await;
    let _second = browser.open_tab("about:blank").await;
    wait_for_streams(&service, 0).await;
    let _ = service.post_event(&event("one", "Person at the door")).await.expect(202);
    browser.show_tab(&first).await;
    browser.wait_for_text("Person at the door").await;
    browser.wait_for_text("Connected").await;
}
