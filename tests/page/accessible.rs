//! The rules of axe-core, in every view: light and dark, on a telephone and on a desktop.

use liveobject_test_support::{Browser, Mosquitto, Service};
use serde_json::json;

use crate::helpers::{connected, event, page, put_picture, service, signed_in};

const AXE: &str = include_str!("axe/axe.min.js");

/// What axe-core finds fault with, each with the elements at fault.
const LOOK: &str = "return axe.run(document, {resultTypes: ['violations']}).then(({violations}) => violations.map(v => \
    `${v.impact} ${v.id}: ${v.help}\\n` + v.nodes.map(n => `    ${n.html}\\n    ${n.failureSummary}`).join('\\n')))";

/// Every rule holds here, in both schemes and both widths.
async fn is_accessible(browser: &Browser, view: &str) {
    if browser.run("return typeof axe === 'undefined'", json!([])).await == true {
        browser.run(AXE, json!([])).await;
    }
    for (width, height) in [(375, 800), (1440, 900)] {
        browser.resize(width, height).await;
        for scheme in ["light", "dark"] {
            browser.prefer(scheme).await;
            let found = browser.run(LOOK, json!([])).await;
            let faults: Vec<_> =
                found.as_array().unwrap().iter().filter_map(|fault| fault.as_str()).collect();
            assert!(faults.is_empty(), "{view}, {scheme}, {width} px:\n{}", faults.join("\n"));
        }
    }
}

#[tokio::test]
async fn signing_in_and_the_first_start_break_no_rule_of_accessibility() {
    let service = service().await;
    let browser = Browser::start().await;
    browser.open(&page(&service)).await;
    browser.sees("Sign in").await;
    is_accessible(&browser, "sign-in").await;
    browser.enter("input[name=token]", "not-the-token").await;
    browser.click("form button").await;
    browser.sees("That is not a token of this service").await;
    is_accessible(&browser, "sign-in, refused").await;
    browser.enter("input[name=token]", &service.token()).await;
    browser.click("form button").await;
    browser.sees("Connect your MQTT broker").await;
    is_accessible(&browser, "first start").await;
    browser.click("nav a[href='#events']").await;
    browser.sees("No events yet").await;
    is_accessible(&browser, "no events").await;
    browser.click("nav a[href='#cameras']").await;
    is_accessible(&browser, "no cameras").await;
}

async fn with_events() -> (Service, Mosquitto, Browser) {
    let (service, broker) = connected().await;
    for i in 0..3 {
        let _ = service.post_event(&event(&format!("e{i}"), "Person at the door")).await.expect(202);
    }
    put_picture(&service, "e1").await;
    let browser = signed_in(&service).await;
    browser.run("for (const one of document.querySelectorAll('details')) one.open = true", json!([])).await;
    (service, broker, browser)
}

#[tokio::test]
async fn events_and_cameras_break_no_rule_of_accessibility() {
    let (_service, _broker, browser) = with_events().await;
    browser.sees("Delivered within").await;
    // The first point of the charts comes with the second reading.
    browser.holds("return document.querySelector('.chart .line')?.getAttribute('d')?.length > 0").await;
    is_accessible(&browser, "events").await;
    browser.click(".events .open").await;
    browser.sees("liveobject/camera/front_door/event").await;
    is_accessible(&browser, "one event").await;
    browser.press("Close").await;
    browser.click("nav a[href='#cameras']").await;
    browser.sees("Front Door").await;
    is_accessible(&browser, "cameras").await;
    browser.press("Rename").await;
    is_accessible(&browser, "rename").await;
    browser.press("Close").await;
    browser.click(".camera .danger").await;
    browser.sees("Its device disappears").await;
    is_accessible(&browser, "delete").await;
}

#[tokio::test]
async fn settings_and_their_trial_break_no_rule_of_accessibility() {
    let (_service, mut broker, browser) = with_events().await;
    browser.click("nav a[href='#settings']").await;
    browser.sees("Topic prefix").await;
    is_accessible(&browser, "settings").await;
    browser.press("Test connection").await;
    browser.holds("return document.querySelectorAll('.stage.good').length >= 5").await;
    is_accessible(&browser, "a trial that passed").await;
    broker.stop().await;
    browser.press("Test connection").await;
    browser.holds("return document.querySelector('.stage.bad') !== null").await;
    browser.click("input[name=use_tls]").await;
    browser.enter("input[name=topic_prefix]", "/no").await;
    browser.press("Save").await;
    browser.sees("nothing was saved").await;
    is_accessible(&browser, "faults, a trial that failed, and a broker that is away").await;
}
