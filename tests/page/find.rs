//! Finding events: the search, the filters, the days and the timeline.

use chrono::{Local, TimeDelta, TimeZone as _};
use liveobject_test_support::{Browser, Service};
use serde_json::{Value, json};

use crate::{
    accessible::assert_accessible,
    helpers::{connected, event, signed_in},
};

/// Sends an event of a camera with one object.
async fn send(service: &Service, id: &str, camera: &str, object: &str, description: &str) {
    let mut event = event(id, description);
    event["camera_id"] = json!(camera);
    event["camera_name"] = json!(camera);
    event["objects_detected"] = json!([object]);
    let _ = service.post_event(&event).await.expect(202);
}

/// Waits until this is the fragment of the address.
async fn at(browser: &Browser, address: &str) {
    browser.wait_until(&format!("return location.hash === {}", json!(address))).await;
}

/// Waits until the list contains exactly the events with these ids.
async fn lists(browser: &Browser, ids: &[&str]) {
    let script = format!(
        "const rows = [...document.querySelectorAll('section:not([hidden]) .events .open')];
         return JSON.stringify(rows.map(row => row.getAttribute('href').replace('#event/', ''))) === {}",
        json!(json!(ids).to_string())
    );
    browser.wait_until(&script).await;
}

/// Types into the search.
async fn search(browser: &Browser, text: &str) {
    let script = "
        const input = document.querySelector('.search');
        input.focus();
        input.value = arguments[0];
        input.dispatchEvent(new Event('input', {bubbles: true}))";
    browser.run(script, json!([text])).await;
}

async fn run(browser: &Browser, script: &str) {
    let _: Value = browser.run(script, json!([])).await;
}

#[tokio::test]
async fn a_search_is_in_the_address_and_applies_to_new_events() {
    let (service, _broker) = connected().await;
    send(&service, "one", "gate", "car", "A red car stops").await;
    send(&service, "two", "door", "person", "A person with a package").await;
    send(&service, "three", "door", "person", "A person in a red jacket").await;
    let browser = signed_in(&service).await;
    lists(&browser, &["three", "two", "one"]).await;
    search(&browser, "RED pers").await;
    at(&browser, "#events?q=RED+pers").await;
    lists(&browser, &["three"]).await;
    search(&browser, "red").await;
    at(&browser, "#events?q=red").await;
    lists(&browser, &["three", "one"]).await;
    send(&service, "four", "gate", "car", "A blue car").await;
    send(&service, "five", "gate", "bicycle", "A red bicycle").await;
    lists(&browser, &["five", "three", "one"]).await;
    run(&browser, "location.reload()").await;
    browser.wait_until("return document.querySelector('.search')?.value === 'red'").await;
    lists(&browser, &["five", "three", "one"]).await;
    // What was typed is one step of the history.
    run(&browser, "history.back()").await;
    lists(&browser, &["five", "four", "three", "two", "one"]).await;
    browser.wait_until("return document.querySelector('.search').value === ''").await;
    search(&browser, "elephant").await;
    browser.wait_for_text("No events match these filters.").await;
    run(&browser, "document.querySelector('.event-list button:not([hidden])').click()").await;
    at(&browser, "#events").await;
    lists(&browser, &["five", "four", "three", "two", "one"]).await;
}

#[tokio::test]
async fn events_are_filtered_by_several_cameras_and_by_an_object() {
    let (service, _broker) = connected().await;
    send(&service, "one", "gate", "car", "A car").await;
    send(&service, "two", "door", "person", "A person").await;
    send(&service, "three", "yard", "person", "A person").await;
    let browser = signed_in(&service).await;
    let choose = |camera: &str| {
        format!(
            "const box = document.querySelector('.picker input[value={camera}]'); box?.click(); return box !== null"
        )
    };
    browser.wait_until(&choose("gate")).await;
    at(&browser, "#events?camera=gate").await;
    run(&browser, &choose("yard")).await;
    at(&browser, "#events?camera=gate%2Cyard").await;
    lists(&browser, &["three", "one"]).await;
    let label = "return document.querySelector('.picker summary').textContent";
    assert_eq!(browser.run(label, json!([])).await, "2 cameras");
    // The object of a row is a filter, too.
    run(&browser, "document.querySelector('.events a.tag').click()").await;
    at(&browser, "#events?camera=gate%2Cyard&object=person").await;
    lists(&browser, &["three"]).await;
    let summary = "return document.querySelector('.find details summary').textContent";
    assert_eq!(browser.run(summary, json!([])).await, "Filters (2)");
    browser.press("Clear filters").await;
    lists(&browser, &["three", "two", "one"]).await;
}

#[tokio::test]
async fn days_have_headings_and_a_timeline_leads_to_an_hour() {
    let (service, _broker) = connected().await;
    let today = Local::now().date_naive();
    let on = |days_ago: i64, hour: u32, minute: u32| {
        let time = (today - TimeDelta::days(days_ago)).and_hms_opt(hour, minute, 0).unwrap();
        Local.from_local_datetime(&time).earliest().unwrap().to_rfc3339()
    };
    for (id, timestamp) in
        [("old", on(3, 8, 0)), ("early", on(1, 9, 30)), ("first", on(1, 14, 10)), ("second", on(1, 14, 50))]
    {
        let mut event = event(id, "Person at the door");
        event["timestamp"] = json!(timestamp);
        let _ = service.post_event(&event).await.expect(202);
    }
    send(&service, "new", "door", "person", "A person").await;
    let browser = signed_in(&service).await;
    lists(&browser, &["new", "second", "first", "early", "old"]).await;
    let headings = "
        const all = [...document.querySelectorAll('.events .day')].map(day => day.textContent).filter(text => text);
        return all.length === 3 && all[0] === 'Today' && all[1] === 'Yesterday'";
    browser.wait_until(headings).await;
    browser
        .wait_until("return document.querySelector('.timeline summary').textContent === 'Today · 1 event'")
        .await;
    run(&browser, "document.querySelector('[aria-label=\"Day before\"]').click()").await;
    let yesterday = (today - TimeDelta::days(1)).format("%Y-%m-%d").to_string();
    at(&browser, &format!("#events?day={yesterday}")).await;
    lists(&browser, &["second", "first", "early"]).await;
    let counted = "return document.querySelector('.timeline summary').textContent === 'Yesterday · 3 events'";
    browser.wait_until(counted).await;
    let hour = "document.querySelectorAll('.hours button')[14]";
    browser.wait_until(&format!("return {hour}.title.endsWith(': 2 events')")).await;
    run(&browser, &format!("{hour}.click()")).await;
    at(&browser, &format!("#events?day={yesterday}&from=14%3A00&to=15%3A00")).await;
    lists(&browser, &["second", "first"]).await;
    browser.wait_until(&format!("return {hour}.getAttribute('aria-pressed') === 'true'")).await;
    // The arrow keys lead from hour to hour, of which one is in the order of the Tab key.
    let key = format!(
        "{hour}.focus(); {hour}.dispatchEvent(new KeyboardEvent('keydown', {{key: 'ArrowLeft', bubbles: true}}));
         const all = [...document.querySelectorAll('.hours button')];
         return all[13] === document.activeElement && all.filter(one => one.tabIndex === 0).length === 1"
    );
    browser.wait_until(&key).await;
    run(&browser, &format!("{hour}.click()")).await;
    lists(&browser, &["second", "first", "early"]).await;
    assert_accessible(&browser, "a day").await;
}

#[tokio::test]
async fn a_slash_leads_to_the_search_and_on_a_phone_everything_fits() {
    let (service, _broker) = connected().await;
    send(&service, "one", "gate", "car", "A red car").await;
    let browser = signed_in(&service).await;
    lists(&browser, &["one"]).await;
    let slash = "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: '/', bubbles: true, cancelable: true}));
        return document.activeElement === document.querySelector('.search')";
    browser.wait_until(slash).await;
    browser.resize(375, 812).await;
    run(&browser, "for (const details of document.querySelectorAll('details')) details.open = true").await;
    let fits = "return document.documentElement.scrollWidth <= 375";
    browser.wait_until(fits).await;
    let small = "
        const shown = [...document.querySelectorAll('.find button, .find input, .find select, .find summary')]
            .filter(one => one.offsetParent !== null && one.type !== 'checkbox');
        return shown.filter(one => one.getBoundingClientRect().height < 44).map(one => one.outerHTML)";
    assert_eq!(browser.run(small, json!([])).await, json!([]));
    assert_accessible(&browser, "filters").await;
}

#[tokio::test]
async fn new_events_do_not_push_out_what_somebody_reads() {
    let (service, _broker) = connected().await;
    let batch = |name: &str, count: usize| -> Vec<Value> {
        (0..count).map(|i| event(&format!("{name}{i}"), "Person at the door")).collect()
    };
    let _ = service.post("/api/v1/events/batch", &json!(batch("old", 330))).await.expect(202);
    let browser = signed_in(&service).await;
    browser.wait_until("return document.querySelectorAll('.events li').length >= 30").await;
    // Loads the list, down to the oldest event.
    for rows in [150, 250, 330] {
        let down = format!(
            "window.scrollTo(0, document.body.scrollHeight);
             return document.querySelectorAll('.events li').length >= {rows}"
        );
        browser.wait_until(&down).await;
    }
    // Away from the end, which moves while it is loaded.
    run(&browser, "window.scrollBy(0, -600)").await;
    let place = "document.querySelector(\".events a[href='#event/old10']\").getBoundingClientRect().top";
    let before = browser.run(&format!("return {place}"), json!([])).await.as_f64().unwrap();
    let _ = service.post("/api/v1/events/batch", &json!(batch("new", 300))).await.expect(202);
    browser.wait_for_text("300 new events ↑").await;
    let after = browser.run(&format!("return {place}"), json!([])).await.as_f64().unwrap();
    assert!((before - after).abs() < 2.0, "{before} {after}");
    browser.press("300 new events ↑").await;
    browser
        .wait_until(
            "return document.querySelector('.events .open')?.getAttribute('href') === '#event/new299'",
        )
        .await;
    browser.wait_until("return window.scrollY === 0").await;
}
