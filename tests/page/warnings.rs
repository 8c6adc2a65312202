//! The warnings of the connection card.

use serde_json::json;

use crate::{
    accessible::assert_accessible,
    helpers::{connected, event, signed_in, with_refusing_broker},
};

const HIDE: &str = "Hide until it comes again or gets worse";
const IS_SHOWN: &str = "return document.querySelector('.warning-list details') !== null";

#[tokio::test]
async fn a_warning_is_hidden_until_it_gets_worse_and_the_state_is_never_green() {
    let (service, _broker) = connected().await;
    let browser = signed_in(&service).await;
    browser.wait_for_text("Connected").await;
    let color = "return getComputedStyle(document.querySelector('.connection .dot')).backgroundColor";
    let green = browser.run(color, json!([])).await;
    // Nobody subscribes.
    let _ = service.post_event(&event("one", "Person")).await.expect(202);
    browser.wait_for_text("No subscribers").await;
    browser.wait_for_text("Check that the subscriber is connected").await;
    assert_accessible(&browser, "a warning").await;
    browser.press(HIDE).await;
    browser.wait_for_text("Show 1 hidden warning").await;
    assert_accessible(&browser, "a hidden warning").await;
    let summary = "return document.querySelector('.connection .summary').textContent.includes('1 warning')";
    assert_eq!(browser.run(summary, json!([])).await, true);
    assert_ne!(browser.run(color, json!([])).await, green);
    // This browser remembers it.
    browser.run("location.reload()", json!([])).await;
    browser.wait_for_text("Show 1 hidden warning").await;
    assert_eq!(browser.run(IS_SHOWN, json!([])).await, false);
    // Twice as many events.
    let _ = service.post_event(&event("two", "Person")).await.expect(202);
    browser.wait_until(IS_SHOWN).await;
    browser.press(HIDE).await;
    browser.press("Show 1 hidden warning").await;
    browser.wait_until(IS_SHOWN).await;
}

#[tokio::test]
async fn a_hidden_warning_that_comes_again_is_shown() {
    let (service, _broker) = connected().await;
    let browser = signed_in(&service).await;
    let _ = service.post_event(&event("one", "Person")).await.expect(202);
    browser.wait_for_text("No subscribers").await;
    browser.press(HIDE).await;
    browser.wait_for_text("Show 1 hidden warning").await;
    // As if it had been hidden during an earlier occurrence.
    let earlier = "
        const key = 'liveobject-hidden-warnings';
        const hidden = JSON.parse(localStorage.getItem(key));
        hidden.no_subscribers.since = '2026-01-01T00:00:00Z';
        localStorage.setItem(key, JSON.stringify(hidden));
        location.reload()";
    browser.run(earlier, json!([])).await;
    browser.wait_until(IS_SHOWN).await;
}

#[tokio::test]
async fn several_warnings_are_headings_that_open() {
    let (service, _broker) = with_refusing_broker().await;
    let _ = service.post_event(&event("one", "Person")).await.expect(202);
    let other = json!({"event_id": "two", "camera_id": "other", "description": "x"});
    let _ = service.post_event(&other).await.expect(202);
    let browser = signed_in(&service).await;
    browser.wait_until("return document.querySelectorAll('.warning-list details').length >= 2").await;
    browser.run("location.reload()", json!([])).await;
    browser.wait_until("return document.querySelectorAll('.warning-list details').length >= 2").await;
    let headings = "return [...document.querySelectorAll('.warning-list h3')].map((h) => h.textContent)";
    let headings = browser.run(headings, json!([])).await;
    let headings = headings.as_array().unwrap();
    assert!(headings.contains(&json!("The broker refuses a topic")), "{headings:?}");
    assert!(headings.contains(&json!("No subscribers")), "{headings:?}");
    assert_eq!(
        browser.run("return document.querySelectorAll('.warning-list [open]').length", json!([])).await,
        0
    );
    browser.click(".warning-list summary").await;
    browser.wait_until("return document.querySelectorAll('.warning-list [open]').length === 1").await;
    // It stays open when the status changes.
    let third = json!({"event_id": "three", "camera_id": "other", "description": "x"});
    let _ = service.post_event(&third).await.expect(202);
    browser.wait_for_text("2 events").await;
    browser.wait_until("return document.querySelectorAll('.warning-list [open]').length === 1").await;
}
