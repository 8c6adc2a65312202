//! The addresses of the page: views, filters, events and cameras have one, and the history works.

use liveobject_test_support::{Browser, ReverseProxy, Service, free_port};
use serde_json::json;

use crate::helpers::{connected, event, page, service, signed_in};

/// Waits until this is the fragment of the address.
async fn at(browser: &Browser, address: &str) {
    browser.wait_until(&format!("return location.hash === {}", json!(address))).await;
}

/// Waits until the list of events contains exactly these descriptions.
async fn lists(browser: &Browser, descriptions: &[&str]) {
    let script = format!(
        "const rows = [...document.querySelectorAll('section:not([hidden]) .events .text')];
         return JSON.stringify(rows.map(row => row.textContent)) === {}",
        json!(json!(descriptions).to_string())
    );
    browser.wait_until(&script).await;
}

async fn back(browser: &Browser) {
    browser.run("history.back()", json!([])).await;
}

/// Sends an event of this camera.
async fn send(service: &Service, id: &str, camera: &str, description: &str) {
    let mut event = event(id, description);
    event["camera_id"] = json!(camera);
    event["camera_name"] = json!(camera);
    let _ = service.post_event(&event).await.expect(202);
}

const CHOOSE_GATE: &str = "
    const box = document.querySelector('.picker input[value=gate]');
    box?.click();
    return box !== null";

#[tokio::test]
async fn filters_and_events_have_addresses_and_back_and_reload_work() {
    let (service, _broker) = connected().await;
    send(&service, "one", "gate", "Car at the gate").await;
    send(&service, "two", "door", "Person at the door").await;
    let browser = signed_in(&service).await;
    lists(&browser, &["Person at the door", "Car at the gate"]).await;
    browser.wait_until(CHOOSE_GATE).await;
    at(&browser, "#events?camera=gate").await;
    lists(&browser, &["Car at the gate"]).await;
    browser.click(".events .open").await;
    at(&browser, "#event/one").await;
    browser.wait_for_text("\"event_id\": \"one\"").await;
    // Loading it again shows the event above the same view.
    browser.run("location.reload()", json!([])).await;
    browser.wait_for_text("\"event_id\": \"one\"").await;
    back(&browser).await;
    at(&browser, "#events?camera=gate").await;
    browser.wait_until("return document.querySelector('dialog') === null").await;
    lists(&browser, &["Car at the gate"]).await;
    back(&browser).await;
    lists(&browser, &["Person at the door", "Car at the gate"]).await;
    browser.run("history.forward()", json!([])).await;
    lists(&browser, &["Car at the gate"]).await;
    browser.run("location.reload()", json!([])).await;
    browser.wait_for_text("Car at the gate").await;
    lists(&browser, &["Car at the gate"]).await;
}

#[tokio::test]
async fn closing_an_event_returns_to_the_view_below_it() {
    let (service, _broker) = connected().await;
    send(&service, "one", "gate", "Car at the gate").await;
    send(&service, "two", "door", "Person at the door").await;
    let browser = signed_in(&service).await;
    browser.click("nav a[href='#cameras']").await;
    browser.click(".camera .cover[href='#camera/gate']").await;
    at(&browser, "#camera/gate").await;
    lists(&browser, &["Car at the gate"]).await;
    browser.wait_until("return document.title === 'gate · liveobject'").await;
    browser.click("section:not([hidden]) .events .open").await;
    at(&browser, "#event/one").await;
    browser.press("Close").await;
    at(&browser, "#camera/gate").await;
    // A link that somebody sent opens the event. Below it is the list of all events.
    browser.open("about:blank").await;
    browser.open(&format!("{}#event/two", page(&service))).await;
    browser.wait_for_text("\"event_id\": \"two\"").await;
    browser.press("Close").await;
    at(&browser, "#events").await;
    lists(&browser, &["Person at the door", "Car at the gate"]).await;
    browser.open("about:blank").await;
    browser.open(&format!("{}#event/unknown", page(&service))).await;
    browser.wait_for_text("This event does not exist").await;
}

#[tokio::test]
async fn signing_in_leads_to_the_address_that_was_opened() {
    let (service, _broker) = connected().await;
    send(&service, "one", "gate", "Car at the gate").await;
    let browser = Browser::start().await;
    browser.open(&format!("{}#event/one", page(&service))).await;
    browser.wait_until("return document.querySelector('input[name=token]') !== null").await;
    browser.enter("input[name=token]", &service.token()).await;
    browser.click("form button").await;
    browser.wait_for_text("\"event_id\": \"one\"").await;
}

#[tokio::test]
async fn each_view_keeps_its_scroll_position() {
    let (service, _broker) = connected().await;
    for i in 0..40 {
        send(&service, &format!("e{i}"), &format!("camera{i}"), "Person at the door").await;
    }
    let browser = signed_in(&service).await;
    browser.wait_until("return document.querySelectorAll('.events li').length >= 30").await;
    browser.run("window.scrollTo(0, 700)", json!([])).await;
    browser.wait_until("return window.scrollY === 700").await;
    browser.run("document.querySelector(\"nav a[href='#cameras']\").click()", json!([])).await;
    browser.wait_until("return location.hash === '#cameras' && window.scrollY === 0").await;
    browser.wait_until("return document.querySelectorAll('.camera').length === 40").await;
    browser.run("window.scrollTo(0, 300)", json!([])).await;
    browser.wait_until("return window.scrollY === 300").await;
    back(&browser).await;
    browser.wait_until("return !location.hash.includes('cameras') && window.scrollY === 700").await;
    browser.run("history.forward()", json!([])).await;
    browser.wait_until("return location.hash === '#cameras' && window.scrollY === 300").await;
    browser.run("location.reload()", json!([])).await;
    browser
        .wait_until("return document.querySelectorAll('.camera').length === 40 && window.scrollY === 300")
        .await;
}

#[tokio::test]
async fn a_link_to_a_view_can_be_copied() {
    let service = service().await;
    let _ = service.post_event(&event("one", "Person at the door")).await.expect(202);
    let browser = signed_in(&service).await;
    browser.open(&format!("{}#event/one", page(&service))).await;
    browser.wait_for_text("Copy link").await;
    let watch = "navigator.clipboard.writeText = async (text) => { window.copied = text; }";
    browser.run(watch, json!([])).await;
    browser.click("dialog .tools [aria-label^='Copy link']").await;
    let copied = json!(format!("{}#event/one", page(&service)));
    browser.wait_until(&format!("return window.copied === {copied}")).await;
    browser.wait_for_text("Copied").await;
}

#[tokio::test]
async fn addresses_work_below_the_path_of_a_proxy() {
    let port = free_port();
    let location = format!(
        "location /home/cams/ {{ proxy_pass http://127.0.0.1:{port}/; proxy_set_header Host $http_host; \
         proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering off; }}"
    );
    let nginx = ReverseProxy::nginx(&format!("server {{ listen 127.0.0.1:PORT; {location} }}")).await;
    let base = format!("http://127.0.0.1:{}/home/cams/", nginx.port());
    let config = format!("[http]\npublic_url = \"{base}\"\n");
    let service = Service::builder(env!("CARGO_BIN_EXE_liveobject")).config(&config).port(port).start().await;
    send(&service, "one", "gate", "Car at the gate").await;
    let browser = Browser::start().await;
    browser.open(&format!("{base}#event/one")).await;
    browser.wait_until("return document.querySelector('input[name=token]') !== null").await;
    browser.enter("input[name=token]", &service.token()).await;
    browser.click("form button").await;
    browser.wait_for_text("\"event_id\": \"one\"").await;
    browser.press("Close").await;
    at(&browser, "#events").await;
    browser.run("document.querySelector(\"nav a[href='#cameras']\").click()", json!([])).await;
    browser.click(".cover[href='#camera/gate']").await;
    browser.run("location.reload()", json!([])).await;
    browser.wait_until("return document.querySelector('.camera-page h2')?.textContent === 'gate'").await;
    let path = browser.run("return location.pathname + location.hash", json!([])).await;
    assert_eq!(path, "/home/cams/#camera/gate");
    // The examples for programs contain the address of the proxy.
    let example = "return document.querySelector('.example pre').textContent";
    let example = browser.run(example, json!([])).await;
    assert!(example.as_str().unwrap().contains(&format!("curl {base}api/v1/events")), "{example}");
}
