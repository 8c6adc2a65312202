//! The window for pictures: keys, swipes, zoom and download.

use serde_json::json;

use crate::helpers::{connected, event, put_picture, signed_in};

/// Moves a finger across an element.
const SWIPE: &str = "
    const [selector, from, to] = arguments;
    const target = document.querySelector(selector);
    const touch = (x) => new Touch({identifier: 1, target, clientX: x, clientY: 300});
    const send = (kind, touches, changed) =>
        target.dispatchEvent(new TouchEvent(kind, {bubbles: true, touches, changedTouches: [changed]}));
    send('touchstart', [touch(from)], touch(from));
    send('touchend', [], touch(to));";

fn press(key: &str) -> String {
    format!(
        "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}}));"
    )
}

#[tokio::test]
async fn pictures_are_shown_large_one_after_the_other_and_can_be_downloaded() {
    let (service, _broker) = connected().await;
    for id in ["one", "two", "three"] {
        let _ = service.post_event(&event(id, &format!("Event {id}"))).await.expect(202);
    }
    // The event in the middle has no picture.
    put_picture(&service, "one").await;
    put_picture(&service, "three").await;
    let browser = signed_in(&service).await;
    browser.wait_for_text("Event three").await;
    browser.click(".events li:first-child .open").await;
    browser.click(".enlarge").await;
    browser.wait_until("return location.hash === '#event/three/picture'").await;
    let shows = |id: &str| {
        format!(
            "return /events.{id}.thumbnail.version=[0-9a-f]{{16}}$/.test(document.querySelector('.lightbox img').src) &&
            document.querySelector('.lightbox img').naturalWidth === 1"
        )
    };
    browser.wait_until(&shows("three")).await;
    let heading =
        "return /^Front Door · .*\\d:\\d\\d/.test(document.querySelector('.lightbox h2').textContent)";
    browser.wait_until(heading).await;
    browser.run(&press("ArrowRight"), json!([])).await;
    browser.wait_until(&shows("one")).await;
    browser.run(SWIPE, json!([".lightbox .zoom", 100, 300])).await;
    browser.wait_until(&shows("three")).await;
    browser.run(SWIPE, json!([".lightbox .zoom", 300, 100])).await;
    browser.wait_until(&shows("one")).await;
    let download = "const link = document.querySelector('.lightbox a[download]');
        return /events.one.thumbnail.version=[0-9a-f]{16}$/.test(link.href) && link.download.startsWith('front_door-')";
    browser.wait_until(download).await;
    let width = "document.querySelector('.lightbox img').clientWidth";
    let whole = browser.run(&format!("return {width}"), json!([])).await.as_f64().unwrap();
    browser.click(".lightbox .zoom").await;
    let zoomed = browser.run(&format!("return {width}"), json!([])).await.as_f64().unwrap();
    assert!(zoomed > 2.0 * whole, "{zoomed} {whole}");
    // Back leads to the event of the picture, then to the list.
    browser.run("history.back()", json!([])).await;
    browser
        .wait_until("return location.hash === '#event/one' && document.querySelector('.lightbox') === null")
        .await;
    browser.wait_for_text("\"event_id\": \"one\"").await;
    browser.run(&press("ArrowLeft"), json!([])).await;
    browser.wait_until("return location.hash === '#event/two'").await;
    browser.wait_for_text("\"event_id\": \"two\"").await;
    browser.run("history.back()", json!([])).await;
    browser.wait_until("return document.querySelector('dialog') === null").await;
}

#[tokio::test]
async fn the_search_for_the_next_picture_ends_after_a_few_hundred_events() {
    let (service, _broker) = connected().await;
    let many = |numbers: std::ops::Range<usize>| {
        let events = numbers.map(|i| event(&format!("e{i}"), "No picture"));
        json!(events.collect::<Vec<_>>())
    };
    let _ = service.post("/api/v1/events/batch", &many(0..500)).await.expect(202);
    put_picture(&service, "e0").await;
    let _ = service.post_event(&event("newest", "With a picture")).await.expect(202);
    put_picture(&service, "newest").await;
    let browser = signed_in(&service).await;
    browser.wait_for_text("With a picture").await;
    browser.click(".events li:first-child .open").await;
    browser.click(".enlarge").await;
    let older = "document.querySelector('.lightbox .step[title^=\"Older picture\"]')";
    browser.wait_until(&format!("return {older}?.title === 'Older picture: none nearby'")).await;
    let disabled = browser.run(&format!("return {older}.getAttribute('aria-disabled')"), json!([])).await;
    assert_eq!(disabled, "true");
    let rows = browser.run("return document.querySelectorAll('.events li').length", json!([])).await;
    assert!((300..=400).contains(&rows.as_u64().unwrap()), "{rows}");
}

#[tokio::test]
async fn a_camera_has_a_page_with_its_picture_and_its_events() {
    let (service, _broker) = connected().await;
    let _ = service.post_event(&event("one", "Person at the door")).await.expect(202);
    put_picture(&service, "one").await;
    let mut other = event("two", "Car at the gate");
    other["camera_id"] = json!("gate");
    let _ = service.post_event(&other).await.expect(202);
    let browser = signed_in(&service).await;
    browser.click("nav a[href='#cameras']").await;
    browser.click(".cover[href='#camera/front_door']").await;
    browser.wait_until("return document.querySelector('.camera-page img.large')?.naturalWidth === 1").await;
    let rows = "document.querySelectorAll('section:not([hidden]) .events li')";
    browser.wait_until(&format!("return {rows}.length === 1")).await;
    // New events of this camera appear; those of others do not.
    let _ = service.post_event(&event("three", "Person with a parcel")).await.expect(202);
    browser.wait_until(&format!("return {rows}.length === 2")).await;
    browser.click(".camera-page .enlarge").await;
    browser.wait_until("return location.hash === '#event/one/picture'").await;
}
