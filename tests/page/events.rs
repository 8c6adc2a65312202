//! The events view: live events, their deliveries and their pictures.

use std::time::Duration;

use liveobject_test_support::Subscriber;
use serde_json::json;

use crate::helpers::{PIXEL, connected, event, put_picture, signed_in};

#[tokio::test]
async fn an_event_appears_with_its_delivery() {
    let (service, _broker) = connected().await;
    let browser = signed_in(&service).await;
    browser.wait_for_text("No events yet").await;
    let _ = service.post_event(&event("one", "Person at the door with a package")).await.expect(202);
    browser.wait_for_text("Person at the door with a package").await;
    browser.wait_for_text("Delivered in").await;
    // A client uploads the picture with a second request.
    put_picture(&service, "one").await;
    browser.wait_until("return document.querySelector('.events img.thumb')?.naturalWidth === 1").await;
    browser.click(".events .open").await;
    browser.wait_for_text("liveobject/camera/front_door/event").await;
    browser.wait_for_text("\"event_id\": \"one\"").await;
}

#[tokio::test]
async fn the_payload_is_shown_as_it_is_published() {
    let (service, broker) = connected().await;
    let subscriber = Subscriber::start(broker.port()).await;
    let _ = service.post_event(&event("one", "Person at the door")).await.expect(202);
    subscriber.wait_for_events(1, Duration::from_secs(30)).await;
    let published = subscriber.on("liveobject/camera/front_door/event")[0].text();
    let browser = signed_in(&service).await;
    browser.click(".events .open").await;
    browser.wait_for_text("liveobject/camera/front_door/event").await;
    let shown =
        "return JSON.stringify(JSON.parse([...document.querySelectorAll('dialog pre')].at(-1).textContent))";
    assert_eq!(browser.run(shown, json!([])).await, json!(published));
}

/// Sends an event and then its picture, as a client does. Returns the milliseconds until both are visible.
const SEND_AND_WAIT: &str = "
    const [id, token, pixel] = arguments;
    const start = performance.now();
    const headers = {Authorization: `Bearer ${token}`};
    const event = {event_id: id, camera_id: 'gate', description: `Seen ${id}`, confidence: 90};
    const json = {...headers, 'Content-Type': 'application/json'};
    fetch('api/v1/events', {method: 'POST', headers: json, body: JSON.stringify(event)}).then(() =>
        fetch(`api/v1/events/${id}/thumbnail`, {method: 'PUT', headers, body: new Uint8Array(pixel)}));
    return new Promise((resolve) => {
        const look = () => {
            const image = document.querySelector('.events li img.thumb');
            if (image?.src.includes(`/${id}/`) && image.naturalWidth === 1) resolve(performance.now() - start);
            else if (performance.now() - start > 10000) resolve(null);
            else setTimeout(look, 10);
        };
        look();
    })";

#[tokio::test]
async fn an_event_with_a_thumbnail_appears_within_a_second() {
    let (service, _broker) = connected().await;
    let browser = signed_in(&service).await;
    browser.wait_for_text("No events yet").await;
    let mut took = Vec::new();
    for id in ["one", "two", "three"] {
        let milliseconds = browser.run(SEND_AND_WAIT, json!([id, service.token(), PIXEL.to_vec()])).await;
        took.push(milliseconds.as_f64().expect("the event appears with its picture"));
    }
    // The fastest of three counts: the machine may be busy with other tests.
    let fastest = took.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(fastest < 1000.0, "{took:?} ms");
}

#[tokio::test]
async fn a_picture_that_does_not_exist_is_not_requested() {
    let (service, _broker) = connected().await;
    let _ = service.post_event(&event("before", "Seen before the page")).await.expect(202);
    let browser = signed_in(&service).await;
    browser.wait_for_text("Seen before the page").await;
    let _ = service.post_event(&event("after", "Seen by the page")).await.expect(202);
    browser.wait_for_text("Seen by the page").await;
    browser.click(".events .open").await;
    browser.wait_for_text("liveobject/camera/front_door/event").await;
    browser.press("Close").await;
    browser.click("nav a[href='#cameras']").await;
    browser.wait_for_text("Front Door").await;
    let requested = "
        const names = performance.getEntriesByType('resource').map(resource => resource.name);
        return names.filter(name => name.includes('/thumbnail'))";
    assert_eq!(browser.run(requested, json!([])).await, json!([]));
}

#[tokio::test]
async fn hostile_text_is_shown_as_text() {
    let (service, _broker) = connected().await;
    let browser = signed_in(&service).await;
    let hostile = [
        "<script>document.title='owned'</script>",
        "<img src=x onerror=\"document.title='owned'\">",
        "\u{202e}drawkcab \u{1f4e6}\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
        &"w".repeat(4096),
    ];
    for (i, text) in hostile.into_iter().enumerate() {
        let mut event = event(&format!("h{i}"), text);
        event["camera_name"] = json!("<b>Front</b> \"Door\"");
        event["objects_detected"] = json!(["<i>person</i>", "x".repeat(64)]);
        let _ = service.post_event(&event).await.expect(202);
    }
    browser.resize(375, 800).await;
    browser.wait_until("return document.querySelectorAll('.events li').length === 4").await;
    for text in [
        "<script>document.title='owned'</script>",
        "<img src=x onerror",
        "<b>Front</b> \"Door\"",
        "<i>person</i>",
    ] {
        browser.wait_for_text(text).await;
    }
    browser.click(".events li:last-child .open").await;
    browser.wait_for_text("\"description\": \"<script>").await;
    let harm = "
        const injected = '.events script, .events b, .events i, dialog script';
        return document.title.includes('owned') || document.querySelector(injected) !== null
            || document.documentElement.scrollWidth > 375";
    assert_eq!(browser.run(harm, json!([])).await, false);
}
