//! The charts, and the strip of the last 24 hours.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use crate::{
    accessible::assert_accessible,
    helpers::{connected, event, signed_in},
};

/// Outages of this length are recorded.
const RECORDED: Duration = Duration::from_millis(2500);

#[tokio::test]
async fn the_charts_show_the_metrics_on_screen_to_screen_readers_and_by_keyboard() {
    let (mut service, _broker) = connected().await;
    for i in 0..3 {
        let _ = service.post_event(&event(&format!("e{i}"), "Person at the door")).await.expect(202);
    }
    // The figures survive a restart.
    service.restart().await;
    let browser = signed_in(&service).await;
    browser.resize(1440, 900).await;
    browser.run("document.querySelector('.hour').open = true", json!([])).await;
    let requests = "
        const requested = (name) =>
            performance.getEntriesByType('resource').filter((entry) => entry.name.includes(name)).length;
        return requested('/history') > 0 && requested('/history') <= requested('/outages')";
    let label = "document.querySelector('.of-pending svg').getAttribute('aria-label')";
    browser.wait_until(&format!("return {label}?.includes('Now') === true")).await;
    // The strip and the charts share a response.
    browser.wait_until(requests).await;
    browser
        .wait_until(&format!("return {label}?.startsWith('Largest backlog, last 24 hours. Now') === true"))
        .await;
    let events = "document.querySelector('.of-events svg').getAttribute('aria-label')";
    browser.wait_until(&format!("return {events}.includes('maximum 0.6')")).await;
    browser.wait_for_text("Delivery time (median, 95th percentile)").await;
    // The only point with deliveries is visible, and the time before the first start is a gap.
    let drawn = "
        const path = (name) => document.querySelector(`.of-latency ${name}`).getAttribute('d');
        return path('.dots').startsWith('M') && path('.gap').startsWith('M')";
    assert_eq!(browser.run(drawn, json!([])).await, true);
    // The scale has a top, and the time axis a start, a middle and an end.
    let scale = "return [document.querySelector('.of-events .top-label').textContent,
        document.querySelector('.hour .axis').children.length]";
    assert_eq!(browser.run(scale, json!([])).await, json!(["1", 3]));
    browser.press("7 d").await;
    browser.wait_until(&format!("return {events}.startsWith('Events per minute, last 7 days.')")).await;
    browser.press("1 h").await;
    browser.wait_until(&format!("return {events}.startsWith('Events per minute, last hour.')")).await;
    // A selected point shows its time.
    let press_home = "
        const svg = document.querySelector('.of-events svg');
        svg.focus();
        svg.dispatchEvent(new KeyboardEvent('keydown', {key: 'Home', bubbles: true}));
        const time = document.querySelector('.of-events .value time');
        return document.activeElement === svg && time !== null";
    assert_eq!(browser.run(press_home, json!([])).await, true);
}

#[tokio::test]
async fn a_peak_is_cut_off_instead_of_flattening_the_rest() {
    let (service, _broker) = connected().await;
    let browser = signed_in(&service).await;
    let top = "
        return import('/page/modules/chart.js').then(({scaleTop}) =>
            [[], [0], [3], [1, 2, 3], [1, 2, 3, 2, 1, 2, 3, 2, 1, 2, 5000]].map(scaleTop))";
    assert_eq!(browser.run(top, json!([])).await, json!([1, 1, 5, 5, 10]));
}

#[tokio::test]
async fn the_strip_claims_what_became_of_the_events_that_waited_and_opens_them() {
    let (service, mut broker) = connected().await;
    broker.stop().await;
    sleep(RECORDED).await;
    for i in 0..3 {
        let _ = service.post_event(&event(&format!("e{i}"), "Person at the door")).await.expect(202);
    }
    let browser = signed_in(&service).await;
    browser.resize(1440, 1000).await;
    browser.wait_for_text("3 events waited · 3 still waiting").await;
    let text = browser.text().await;
    assert!(text.contains("1 interruption · 3 still waiting"), "{text}");
    assert!(!text.contains("nothing was lost") && !text.contains("all delivered"), "{text}");
    assert_eq!(browser.run("return document.querySelectorAll('.track .bad').length", json!([])).await, 1);
    broker.resume().await;
    browser.wait_for_text("3 events waited · all delivered, in order").await;
    browser.wait_for_text("1 interruption · nothing was lost").await;
    assert_eq!(browser.run("return document.querySelectorAll('.track .bad').length", json!([])).await, 0);
    // Each segment can be reached with the arrow keys, has the sentence as its name, and opens its events.
    let sentences = "
        const names = [];
        const segments = document.querySelectorAll('.track a');
        segments[segments.length - 1].focus();
        const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
        press('Home');
        for (let i = 0; i < segments.length; i++) {
            names.push(document.activeElement.getAttribute('aria-label').split(' ')[0]);
            press('ArrowRight');
        }
        return names";
    let names = browser.run(sentences, json!([])).await;
    let names: Vec<_> = names.as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
    assert_eq!(names[0], "Not", "nothing is known of the time before the first start");
    assert_eq!(names[names.len() - 3..], ["Connected", "Broker", "Connected"]);
    let link =
        browser.run("return document.querySelector('.outages a').getAttribute('href')", json!([])).await;
    let link = link.as_str().unwrap();
    assert!(link.starts_with("#events?day=20") && link.contains("&from="), "{link}");
    browser
        .run("for (const details of document.querySelectorAll('details')) details.open = true", json!([]))
        .await;
    assert_accessible(&browser, "strip").await;
    browser.resize(375, 800).await;
    let is_wide = "return document.documentElement.scrollWidth > 375";
    assert_eq!(browser.run(is_wide, json!([])).await, false);
}

#[tokio::test]
async fn the_strip_counts_stops_as_interruptions_and_failures_as_deliveries() {
    let (mut service, _broker) = crate::helpers::with_refusing_broker().await;
    let _ = service.post_event(&event("one", "Person at the door")).await.expect(202);
    let browser = signed_in(&service).await;
    browser.resize(1440, 1000).await;
    browser.wait_for_text("1 event could not be delivered").await;
    drop(browser);
    service.sigterm();
    service.wait().await;
    sleep(RECORDED).await;
    service.start().await;
    let browser = signed_in(&service).await;
    browser.resize(1440, 1000).await;
    browser.wait_for_text("service not running once").await;
    let text = browser.text().await;
    assert!(!text.contains("No interruption"), "{text}");
    // It was short and nothing waited: not worth a line of its own.
    browser.wait_for_text("of a few seconds without an event").await;
    assert!(!text.contains("Not running "), "{text}");
    // The event can be sent again later, so the figure is not one of events.
    browser.wait_for_text("1 delivery failed").await;
}
