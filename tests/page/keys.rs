//! Keyboard shortcuts, and what an event's details offer.

use liveobject_test_support::Browser;
use serde_json::json;

use crate::{
    accessible::assert_accessible,
    helpers::{connected, event, signed_in, with_refusing_broker},
};

async fn press(browser: &Browser, key: &str) {
    let script = "(document.activeElement ?? document.body).dispatchEvent(
        new KeyboardEvent('keydown', {key: arguments[0], bubbles: true, cancelable: true}))";
    browser.run(script, json!([key])).await;
}

fn focus_is_on(selector: &str) -> String {
    format!("return document.activeElement === document.querySelector(\"{selector}\")")
}

#[tokio::test]
async fn the_list_and_the_events_are_reached_by_the_keyboard() {
    let (service, _broker) = connected().await;
    for id in ["one", "two", "three"] {
        let _ = service.post_event(&event(id, &format!("Event {id}"))).await.expect(202);
    }
    let browser = signed_in(&service).await;
    browser.wait_for_text("Event three").await;
    press(&browser, "j").await;
    browser.wait_until(&focus_is_on(".events li:nth-child(1) .open")).await;
    press(&browser, "j").await;
    press(&browser, "j").await;
    press(&browser, "k").await;
    browser.wait_until(&focus_is_on(".events li:nth-child(2) .open")).await;
    browser.run("document.activeElement.click()", json!([])).await;
    browser.wait_for_text("\"event_id\": \"two\"").await;
    press(&browser, "j").await;
    browser.wait_for_text("\"event_id\": \"one\"").await;
    press(&browser, "k").await;
    browser.wait_for_text("\"event_id\": \"two\"").await;
    browser.press("Close").await;
    press(&browser, "?").await;
    browser.wait_for_text("Keyboard shortcuts").await;
    assert_accessible(&browser, "keyboard shortcuts").await;
    // Speech input may press keys by mistake.
    browser.click("dialog [role=switch]").await;
    browser.press("Close").await;
    press(&browser, "?").await;
    assert_eq!(browser.run("return document.querySelector('dialog') === null", json!([])).await, true);
    browser.resize(1280, 900).await;
    browser.click(".keys-help").await;
    browser.wait_for_text("Use these shortcuts").await;
}

#[tokio::test]
async fn a_failed_event_is_sent_again_with_r_but_not_while_typing() {
    let (service, _broker) = with_refusing_broker().await;
    let _ = service.post_event(&event("one", "Refused")).await.expect(202);
    let browser = signed_in(&service).await;
    browser.wait_for_text("could not be delivered").await;
    browser.click(".events .open").await;
    browser.wait_until("return document.querySelector('dialog .delivery button.primary') !== null").await;
    press(&browser, "r").await;
    browser.wait_for_text("Failed again at").await;
    browser.press("Close").await;
    browser.click("nav a[href='#settings']").await;
    browser.click("input[name=broker_host]").await;
    press(&browser, "?").await;
    assert_eq!(browser.run("return document.querySelector('dialog') === null", json!([])).await, true);
}

#[tokio::test]
async fn an_automation_for_the_camera_and_the_object_is_copied() {
    let (service, _broker) = connected().await;
    let mut hostile = event("one", "Somebody");
    hostile["camera_id"] = json!("Front--Door_2");
    hostile["camera_name"] = json!("The \"front\": #1");
    hostile["objects_detected"] = json!(["it's {{ a }} fox 🦊"]);
    let _ = service.post_event(&hostile).await.expect(202);
    let browser = signed_in(&service).await;
    browser.click(".events .open").await;
    // The clipboard cannot be read without permission, so the text is taken on its way there.
    let intercept = "Object.defineProperty(navigator, 'clipboard',
        {value: {writeText: async (text) => { window.copied = text; }}})";
    browser.run(intercept, json!([])).await;
    browser.press("Make an automation").await;
    browser.wait_until("return typeof window.copied === 'string'").await;
    let copied = browser.run("return window.copied", json!([])).await;
    let expected = [
        r#"alias: "The \"front\": #1: it's {{ a }} fox 🦊""#,
        "triggers:",
        "  - trigger: state",
        "    entity_id: event.front_door_2_detection",
        "    # Without this, the last event is taken for a new one when Home Assistant starts.",
        "    not_from: unavailable",
        "    not_to:",
        "      - unavailable",
        "      - unknown",
        "conditions:",
        "  - condition: template",
        "    value_template: >-",
        concat!(
            r"      {{ 'it\U00000027s \U0000007b\U0000007b a \U0000007d\U0000007d fox \U0001f98a' in ",
            "(trigger.to_state.attributes.objects_detected or []) }}"
        ),
        "actions:",
        "  # Replace this with what should happen.",
        "  - action: persistent_notification.create",
        "    data:",
        r#"      title: "{{ trigger.to_state.attributes.camera_name }}""#,
        r#"      message: "{{ trigger.to_state.attributes.description }}""#,
        "mode: queued",
        "",
    ];
    assert_eq!(copied.as_str().unwrap(), expected.join("\n"));
}
