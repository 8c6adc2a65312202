//! The most important paths through the page in Firefox. Chromium is used for everything else.

use liveobject_test_support::{Firefox, Mosquitto, Service};
use serde_json::json;

use crate::helpers::{connected, event, page, put_picture};

async fn signed_in(languages: &str, button: &str) -> (Service, Mosquitto, Firefox) {
    let (service, broker) = connected().await;
    for id in ["one", "two", "three"] {
        let _ = service.post_event(&event(id, &format!("Event {id}"))).await.expect(202);
    }
    put_picture(&service, "one").await;
    put_picture(&service, "three").await;
    let browser = Firefox::start(languages).await;
    browser.resize(1280, 900).await;
    browser.open(&page(&service)).await;
    browser.wait_until("return document.querySelector('input[name=token]') !== null").await;
    browser.enter("input[name=token]", &service.token()).await;
    browser.click("form button").await;
    browser.wait_for_text(button).await;
    (service, broker, browser)
}

/// Waits until this is the fragment of the address.
async fn at(browser: &Firefox, address: &str) {
    browser.wait_until(&format!("return location.hash === {}", json!(address))).await;
}

#[tokio::test]
async fn events_arrive_and_are_found_opened_and_enlarged_in_firefox() {
    let (service, _broker, browser) = signed_in("en", "Sign out").await;
    browser.wait_for_text("Event three").await;
    browser.wait_until("return document.querySelector('.events img.thumb')?.naturalWidth === 1").await;
    let _ = service.post_event(&event("four", "A fox in the garden")).await.expect(202);
    browser.wait_for_text("A fox in the garden").await;
    browser.wait_for_text("Delivered in").await;

    browser.enter("input[type=search]", "fox").await;
    at(&browser, "#events?q=fox").await;
    browser.wait_until("return document.querySelectorAll('.events li').length === 1").await;
    browser.run("history.back()", json!([])).await;
    browser.wait_until("return document.querySelectorAll('.events li').length === 4").await;

    browser.click(".events li:nth-child(2) .open").await;
    at(&browser, "#event/three").await;
    browser.wait_for_text("\"event_id\": \"three\"").await;
    browser.click(".enlarge").await;
    at(&browser, "#event/three/picture").await;
    browser.wait_until("return document.querySelector('.lightbox img')?.naturalWidth === 1").await;
    // The key "arrow right" of WebDriver.
    browser.type_keys("\u{e014}").await;
    at(&browser, "#event/one/picture").await;
    browser.run("history.back()", json!([])).await;
    at(&browser, "#event/one").await;
    // The key "escape".
    browser.type_keys("\u{e00c}").await;
    browser.wait_until("return document.querySelector('dialog') === null").await;

    browser.run("window.isOld = true; location.reload()", json!([])).await;
    browser
        .wait_until("return !window.isOld && document.body?.innerText.includes('A fox in the garden')")
        .await;
    browser.press("Sign out").await;
    browser.wait_until("return document.querySelector('input[name=token]') !== null").await;
}

#[tokio::test]
async fn settings_are_saved_and_dialogs_work_in_firefox() {
    let (service, _broker, browser) = signed_in("en", "Sign out").await;
    browser.click("nav a[href='#settings']").await;
    browser.wait_until("return document.querySelector('[name=activity_seconds]')?.value === '300'").await;
    browser.enter("[name=activity_seconds]", "0").await;
    browser
        .wait_until("return document.querySelector('[name=activity_seconds][aria-invalid=true]') !== null")
        .await;
    browser.enter("[name=activity_seconds]", "45").await;
    browser.press("Save").await;
    browser.wait_for_text("Saved and applied").await;
    let settings = service.get("/api/v1/integrations/mqtt/config").await.expect(200);
    assert_eq!(settings["activity_seconds"], json!(45));

    browser.click("nav a[href='#cameras']").await;
    browser.click(".cameras .cover").await;
    at(&browser, "#camera/front_door").await;
    browser.press("Rename").await;
    browser
        .wait_until("return document.querySelector('dialog[open] input') === document.activeElement")
        .await;
    browser.enter("dialog input", "Porch").await;
    browser.click("dialog form .primary").await;
    browser.wait_until("return document.querySelector('dialog') === null").await;
    browser.wait_for_text("Porch").await;
    browser.type_keys("?").await;
    browser.wait_for_text("Keyboard shortcuts").await;
    browser.press("Close").await;
    browser.resize(375, 700).await;
    let is_narrow = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth";
    browser.wait_until(is_narrow).await;
}
