//! Failed events: the banner, the reasons, and sending them again or dismissing them.

use std::time::Duration;

use liveobject_test_support::wait_until;
use serde_json::json;

use crate::helpers::{event, page, signed_in, with_refusing_broker};

#[tokio::test]
async fn a_dead_event_shows_the_reason_and_can_be_sent_again_or_dismissed() {
    let (service, _broker) = with_refusing_broker().await;
    let _ = service.post_event(&event("dead", "Person at the gate")).await.expect(202);
    let browser = signed_in(&service).await;
    let state =
        |name: &str| format!("return document.querySelector('.delivery .mark').className === 'mark {name}'");
    browser.wait_until("return document.querySelector('.events .mark.dead') !== null").await;
    browser.click(".events .open").await;
    browser.wait_for_text("The broker’s access rules refuse this topic").await;
    browser.press("Send again").await;
    let refused = async || service.status().await["publish_errors"] == 2;
    wait_until("the broker refuses it again", Duration::from_secs(15), refused).await;
    browser.wait_for_text("Failed again at").await;
    browser.wait_until(&state("dead")).await;
    browser.press("Dismiss").await;
    browser.wait_until("return document.querySelector('.delivery').innerText.startsWith('Dismissed')").await;
    browser.wait_until("return document.querySelector('.counts .bad') === null").await;
    assert_eq!(service.status().await["outbox"]["dead"], 0);
}

#[tokio::test]
async fn an_event_that_is_delivered_when_it_is_sent_again_shows_when() {
    let (service, mut broker) = with_refusing_broker().await;
    let _ = service.post_event(&event("dead", "Person at the gate")).await.expect(202);
    let browser = signed_in(&service).await;
    browser.wait_until("return document.querySelector('.events .mark.dead') !== null").await;
    browser.click(".events .open").await;
    browser.wait_for_text("The broker’s access rules refuse this topic").await;
    broker.set_acl("topic readwrite #").await;
    browser.press("Send again").await;
    browser.wait_for_text("Delivered at").await;
    let facts = "
        const names = [...document.querySelectorAll('.detail .facts dt')];
        return Object.fromEntries(names.map((name) => [name.innerText, name.nextElementSibling.innerText]));";
    let facts = browser.run(facts, json!([])).await;
    assert!(facts["Delivered"].is_string(), "{facts}");
    // The same date is not repeated.
    assert!(facts["Accepted"].as_str().unwrap().ends_with("ms later"), "{facts}");
}

#[tokio::test]
async fn all_dead_events_can_be_sent_again_or_dismissed_at_once() {
    let (service, _broker) = with_refusing_broker().await;
    for id in ["d1", "d2", "d3"] {
        let _ = service.post_event(&event(id, "Person at the gate")).await.expect(202);
    }
    let refusals = async |count: u64| {
        let refused = async || service.status().await["publish_errors"] == count;
        wait_until("the broker refuses them", Duration::from_secs(15), refused).await;
    };
    refusals(3).await;
    let browser = signed_in(&service).await;
    let choose = "
        const select = document.querySelector('.filters select');
        select.value = 'dead';
        select.dispatchEvent(new Event('change'));";
    browser.run(choose, json!([])).await;
    browser.wait_until("return location.hash === '#events?state=dead'").await;
    browser.press("Send all again").await;
    browser.wait_for_text("3 events are sent again").await;
    refusals(6).await;
    let dead = async || service.status().await["outbox"]["dead"] == 3;
    wait_until("they are dead again", Duration::from_secs(15), dead).await;
    // Those that have failed again are not sent once more while later ones wait.
    let answer = "
        const real = window.fetch;
        window.asked = [];
        window.fetch = (url, options) => {
            if (!String(url).includes('dead/retry')) return real(url, options);
            window.asked.push(String(url).replace(/.*retry/, ''));
            const isFirst = window.asked.length === 1;
            const body = {events: isFirst ? 2 : 1, complete: !isFirst, next_after: isFirst ? 7 : null};
            const headers = {'Content-Type': 'application/json'};
            return Promise.resolve(new Response(JSON.stringify(body), {status: 202, headers}));
        };";
    browser.run(answer, json!([])).await;
    browser.press("Send all again").await;
    browser.wait_until("return window.asked.length === 2").await;
    assert_eq!(browser.run("return window.asked", json!([])).await, json!(["?", "?after=7"]));
    browser.press("Dismiss all").await;
    let none = async || service.status().await["outbox"]["dead"] == 0;
    wait_until("they are dismissed", Duration::from_secs(15), none).await;
    browser.wait_until("return document.querySelectorAll('.events li').length === 0").await;
}

#[tokio::test]
async fn failed_events_are_shown_in_a_banner_in_the_title_in_the_icon_and_in_their_rows() {
    let (service, _broker) = with_refusing_broker().await;
    let browser = signed_in(&service).await;
    browser.open(&format!("{}#events", page(&service))).await;
    browser.wait_until("return document.title === 'Events · liveobject'").await;
    for id in ["d1", "d2"] {
        let _ = service.post_event(&event(id, "Person at the gate")).await.expect(202);
    }
    browser.wait_for_text("2 events could not be delivered").await;
    browser.wait_for_text("Front Door: The broker’s access rules refuse this topic").await;
    browser.wait_until("return document.title === '(2) Events · liveobject'").await;
    let shown = "
        const icon = document.querySelector('link[rel=icon]').href.endsWith('/page/icon-alert.svg');
        const reasons = [...document.querySelectorAll('.events .reason')].map(reason => reason.textContent);
        return icon && document.querySelector('.badge').innerText.startsWith('2')
            && reasons.length === 2 && reasons.every(text => text.startsWith('The broker’s access rules'))";
    browser.wait_until(shown).await;
    // Buttons for a camera whose events arrive would do nothing.
    browser.run("location.hash = '#events?camera=other'", json!([])).await;
    browser.wait_until("return document.querySelector('.failed-events .help').hidden").await;
    browser.run("location.hash = '#events?camera=front_door'", json!([])).await;
    browser.wait_for_text("The buttons apply only to the events of Front Door.").await;
    browser.run("location.hash = '#events'", json!([])).await;
    // The banner leads to the events.
    browser.click(".failed-events a.button").await;
    browser.wait_until("return location.hash === '#events?state=dead'").await;
    browser.wait_until("return document.querySelectorAll('.events li').length === 2").await;
    // A dismissed event leaves the list of the failed ones, and the banner goes with the last one.
    browser.click(".events li:first-child .open").await;
    browser.press("Dismiss").await;
    browser.wait_until("return document.querySelectorAll('.events li').length === 1").await;
    browser.press("Close").await;
    browser.wait_for_text("1 event could not be delivered").await;
    browser.press("Dismiss all").await;
    browser.wait_until("return document.querySelector('.failed-events').hidden").await;
    browser.wait_until("return document.title === 'Events · liveobject'").await;
}
