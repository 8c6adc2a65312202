//! The page shows errors where users look, tries failed requests again, and shows no state that it does not know.

use serde_json::json;

use crate::helpers::{connected, event, service, signed_in, with_refusing_broker};

/// Whether an element is painted above everything else at its middle.
const IS_ON_TOP: &str = "
    const element = document.querySelector(SELECTOR);
    if (!element || element.textContent === '') return false;
    const box = element.getBoundingClientRect();
    const top = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
    return top === element || element.contains(top)";

fn is_on_top(selector: &str) -> String {
    IS_ON_TOP.replace("SELECTOR", &json!(selector).to_string())
}

#[tokio::test]
async fn an_error_in_a_dialog_is_seen_in_the_dialog() {
    let (mut service, _broker) = with_refusing_broker().await;
    let _ = service.post_event(&event("dead", "Person at the gate")).await.expect(202);
    let browser = signed_in(&service).await;
    browser.wait_until("return document.querySelector('.events .mark.dead') !== null").await;
    browser.click(".events .open").await;
    browser.wait_for_text("Send again").await;
    service.kill9().await;
    browser.press("Send again").await;
    browser.wait_until(&is_on_top("#toast")).await;
    browser.wait_until(&is_on_top(".outcome")).await;
    browser.wait_for_text("The server is not responding").await;
}

#[tokio::test]
async fn a_rejected_name_is_marked_at_its_field() {
    let (service, _broker) = connected().await;
    let _ = service.post_event(&event("one", "Person at the door")).await.expect(202);
    let browser = signed_in(&service).await;
    browser.click("nav a[href='#cameras']").await;
    browser.click(".camera .cover").await;
    browser.press("Rename").await;
    browser.run("document.querySelector('dialog input').value = ' \\u0007 '", json!([])).await;
    browser.click("dialog .primary").await;
    browser.wait_until("return document.querySelector('dialog input[aria-invalid=true]') !== null").await;
    browser.wait_until(&is_on_top("dialog .fault")).await;
    browser.run("document.querySelector('dialog input').value = '  '", json!([])).await;
    browser.click("dialog .primary").await;
    browser.wait_for_text("Enter a name").await;
}

#[tokio::test]
async fn a_list_that_could_not_be_loaded_can_be_loaded_again_and_recovers_automatically() {
    let mut service = service().await;
    let _ = service.post_event(&event("one", "Person at the door")).await.expect(202);
    let browser = signed_in(&service).await;
    browser.click("nav a[href='#events']").await;
    browser.wait_for_text("Person at the door").await;
    service.kill9().await;
    // The page does not know the state of a broker while it has no contact with the service.
    browser.wait_until("return document.querySelector('.connection').dataset.state === 'unknown'").await;
    browser.wait_for_text("No contact with liveobject since").await;
    let choose = "
        const select = document.querySelector('.filters select');
        select.value = 'pending';
        select.dispatchEvent(new Event('change'));";
    browser.run(choose, json!([])).await;
    browser.wait_for_text("Try again").await;
    browser.press("Try again").await;
    browser.wait_for_text("Try again").await;
    service.start().await;
    browser.wait_for_text("Person at the door").await;
    browser.wait_until("return document.querySelector('.connection').dataset.state === 'disabled'").await;
}

#[tokio::test]
async fn the_hours_of_a_day_that_could_not_be_counted_are_counted_when_the_server_is_back() {
    let mut service = service().await;
    let _ = service.post_event(&event("one", "Person at the door")).await.expect(202);
    let browser = signed_in(&service).await;
    browser.click("nav a[href='#events']").await;
    browser.wait_for_text("Today · 1 event").await;
    service.kill9().await;
    browser.wait_for_text("No contact with liveobject since").await;
    browser.run("location.hash = '#events?camera=front_door'", json!([])).await;
    browser.wait_for_text("Try again").await;
    assert!(!browser.text().await.contains("Today · 1 event"));
    service.start().await;
    browser.wait_for_text("Today · 1 event").await;
}

#[tokio::test]
async fn a_burst_of_events_does_not_change_the_scroll_position() {
    let service = service().await;
    for i in 0..60 {
        let _ = service.post_event(&event(&format!("e{i}"), "Person at the door")).await.expect(202);
    }
    let browser = signed_in(&service).await;
    browser.click("nav a[href='#events']").await;
    browser.wait_until("return document.querySelectorAll('.events li').length >= 30").await;
    browser.run("window.scrollTo(0, document.body.scrollHeight)", json!([])).await;
    browser.wait_until("return document.querySelectorAll('.events li').length === 60").await;
    browser.run("window.scrollTo(0, 1500)", json!([])).await;
    let place = "document.querySelector(\".events a[href='#event/e35']\").getBoundingClientRect().top";
    let before = browser.run(&format!("return {place}"), json!([])).await.as_f64().unwrap();
    // More than the stream repeats: the list is fetched again.
    let batch: Vec<_> = (0..400).map(|i| event(&format!("b{i}"), "Part of the burst")).collect();
    let _ = service.post("/api/v1/events/batch", &json!(batch)).await.expect(202);
    browser.wait_for_text("Part of the burst").await;
    let after = browser.run(&format!("return {place}"), json!([])).await.as_f64().unwrap();
    assert!((before - after).abs() < 2.0, "{before} {after}");
}
