//! Events, as they come.

use std::time::Duration;

use liveobject_test_support::{Mosquitto, wait_until};
use serde_json::json;

use crate::helpers::{connected, event, put_picture, service, signed_in};

#[tokio::test]
async fn an_event_appears_with_its_delivery() {
    let (service, _broker) = connected().await;
    let browser = signed_in(&service).await;
    browser.sees("No events yet").await;
    let _ = service.post_event(&event("one", "Person at the door with a package")).await.expect(202);
    browser.sees("Person at the door with a package").await;
    browser.sees("Delivered in").await;
    // A source hands in the picture with a second call.
    put_picture(&service, "one").await;
    browser.holds("return document.querySelector('.events img.thumb')?.naturalWidth === 1").await;
    browser.click(".events .open").await;
    browser.sees("liveobject/camera/front_door/event").await;
    browser.sees("\"event_id\": \"one\"").await;
}

#[tokio::test]
async fn a_dead_event_says_why_and_can_be_sent_again_or_dismissed() {
    let rules = "topic readwrite liveobject/status\ntopic readwrite liveobject/camera/other/#\n";
    let (service, broker) = (service().await, Mosquitto::builder().acl(rules).start().await);
    service.connect_to(broker.port()).await;
    let _ = service.post_event(&event("dead", "Person at the gate")).await.expect(202);
    let browser = signed_in(&service).await;
    let state =
        |name: &str| format!("return document.querySelector('.delivery .mark').className === 'mark {name}'");
    browser.holds("return document.querySelector('.events .mark.dead') !== null").await;
    browser.click(".events .open").await;
    browser.sees("The broker does not permit publishing to this topic").await;
    browser.press("Send again").await;
    let refused = async || service.status().await["publish_errors"] == 2;
    wait_until("the broker refuses it once more", Duration::from_secs(15), refused).await;
    browser.holds(&state("dead")).await;
    browser.press("Dismiss").await;
    browser.holds("return document.querySelector('.delivery').innerText.startsWith('Dismissed')").await;
    browser.holds("return document.querySelector('.counts .bad') === null").await;
    assert_eq!(service.status().await["outbox"]["dead"], 0);
}

#[tokio::test]
async fn hostile_texts_are_shown_as_texts() {
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
    browser.holds("return document.querySelectorAll('.events li').length === 4").await;
    for text in [
        "<script>document.title='owned'</script>",
        "<img src=x onerror",
        "<b>Front</b> \"Door\"",
        "<i>person</i>",
    ] {
        browser.sees(text).await;
    }
    browser.click(".events li:last-child .open").await;
    browser.sees("\"description\": \"<script>").await;
    let harm = "return document.title.includes('owned') || document.querySelector('.events script, .events b, .events i, dialog script') !== null \
                || document.documentElement.scrollWidth > 375";
    assert_eq!(browser.run(harm, json!([])).await, false);
}
