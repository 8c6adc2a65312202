//! Every view passes the rules of axe-core: light and dark, on a phone and on a desktop.

use liveobject_test_support::{Browser, Mosquitto, Service};
use serde_json::json;

use crate::helpers::{connected, event, page, put_picture, service, signed_in};

const AXE: &str = include_str!("axe/axe.min.js");

/// Returns the violations that axe-core finds, each with the elements concerned.
const FIND_VIOLATIONS: &str = r"
    return axe.run(document, {resultTypes: ['violations']}).then(({violations}) => violations.map(violation => {
        const nodes = violation.nodes.map(node => `    ${node.html}\n    ${node.failureSummary}`);
        return [`${violation.impact} ${violation.id}: ${violation.help}`, ...nodes].join('\n');
    }))";

/// Asserts that no rule is violated, in both color schemes and at both widths.
pub async fn assert_accessible(browser: &Browser, view: &str) {
    if browser.run("return typeof axe === 'undefined'", json!([])).await == true {
        browser.run(AXE, json!([])).await;
    }
    for (width, height) in [(375, 800), (1440, 900)] {
        browser.resize(width, height).await;
        for scheme in ["light", "dark"] {
            browser.set_color_scheme(scheme).await;
            let found = browser.run(FIND_VIOLATIONS, json!([])).await;
            let violations: Vec<_> =
                found.as_array().unwrap().iter().filter_map(|violation| violation.as_str()).collect();
            assert!(violations.is_empty(), "{view}, {scheme}, {width} px:\n{}", violations.join("\n"));
        }
    }
}

#[tokio::test]
async fn signing_in_and_the_first_start_violate_no_accessibility_rule() {
    let service = service().await;
    let browser = Browser::start().await;
    browser.open(&page(&service)).await;
    browser.wait_for_text("Sign in").await;
    assert_accessible(&browser, "sign-in").await;
    browser.enter("input[name=token]", "not-the-token").await;
    browser.click("form button").await;
    browser.wait_for_text("This token isn’t valid here").await;
    assert_accessible(&browser, "rejected sign-in").await;
    browser.enter("input[name=token]", &service.token()).await;
    browser.click("form button").await;
    browser.wait_for_text("Connect your MQTT broker").await;
    assert_accessible(&browser, "first start").await;
    browser.click("nav a[href='#events']").await;
    browser.wait_for_text("No events yet").await;
    assert_accessible(&browser, "no events").await;
    browser.click("nav a[href='#cameras']").await;
    assert_accessible(&browser, "no cameras").await;
}

async fn with_events() -> (Service, Mosquitto, Browser) {
    let (service, broker) = connected().await;
    for i in 0..3 {
        let _ = service.post_event(&event(&format!("e{i}"), "Person at the door")).await.expect(202);
    }
    put_picture(&service, "e1").await;
    let browser = signed_in(&service).await;
    browser
        .run("for (const details of document.querySelectorAll('details')) details.open = true", json!([]))
        .await;
    (service, broker, browser)
}

#[tokio::test]
async fn events_and_cameras_violate_no_accessibility_rule() {
    let (_service, _broker, browser) = with_events().await;
    browser.wait_for_text("Delivered in").await;
    // The charts have their first point after the second sample.
    browser.wait_until("return document.querySelector('.chart .line')?.getAttribute('d')?.length > 0").await;
    assert_accessible(&browser, "events").await;
    browser.click(".events .open").await;
    browser.wait_for_text("liveobject/camera/front_door/event").await;
    assert_accessible(&browser, "one event").await;
    browser.press("Close").await;
    browser.click(".events li:nth-child(2) .open").await;
    browser.click(".enlarge").await;
    browser.wait_until("return document.querySelector('.lightbox img')?.naturalWidth === 1").await;
    assert_accessible(&browser, "a large picture").await;
    browser.click(".lightbox header button:last-child").await;
    browser.wait_until("return document.querySelector('.lightbox') === null").await;
    browser.press("Close").await;
    browser.click("nav a[href='#cameras']").await;
    browser.wait_for_text("Front Door").await;
    assert_accessible(&browser, "cameras").await;
    browser.click(".camera .cover").await;
    browser.wait_for_text("Rename").await;
    assert_accessible(&browser, "one camera").await;
    browser.press("Rename").await;
    assert_accessible(&browser, "rename").await;
    browser.press("Close").await;
    browser.click(".camera-page .danger").await;
    browser.wait_for_text("are removed from Home Assistant").await;
    assert_accessible(&browser, "delete").await;
}

#[tokio::test]
async fn settings_and_the_connection_test_violate_no_accessibility_rule() {
    let (_service, mut broker, browser) = with_events().await;
    browser.click("nav a[href='#settings']").await;
    browser.wait_for_text("Topic prefix").await;
    assert_accessible(&browser, "settings").await;
    browser.press("Restore a backup …").await;
    assert_accessible(&browser, "restore").await;
    browser.press("Close").await;
    browser.press("Test connection").await;
    browser.wait_until("return document.querySelectorAll('.stage.good').length >= 5").await;
    assert_accessible(&browser, "a passed test").await;
    broker.stop().await;
    browser.press("Test connection").await;
    browser.wait_until("return document.querySelector('.stage.bad') !== null").await;
    browser.click("input[name=use_tls]").await;
    browser.enter("input[name=topic_prefix]", "/no").await;
    browser.press("Save").await;
    browser.wait_for_text("Nothing was saved").await;
    assert_accessible(&browser, "invalid fields, a failed test, and a broker that is down").await;
}
