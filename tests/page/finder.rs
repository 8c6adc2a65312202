//! Finding a broker in the guide.

use std::path::PathBuf;

use liveobject_test_support::{Browser, Mosquitto, Service};
use serde_json::json;

use crate::{accessible::assert_accessible, helpers::signed_in};

/// Starts a service whose search also tries these addresses.
async fn service_that_tries(candidates: &str) -> Service {
    let config = format!("[mqtt]\ncandidates = [{candidates}]\n");
    Service::builder(env!("CARGO_BIN_EXE_liveobject")).config(&config).start().await
}

/// Returns the text of the element of the broker with this port, once it is shown.
async fn shown(browser: &Browser, port: u16) -> String {
    let element = format!(
        "[...document.querySelectorAll('.broker')].find((item) => item.querySelector('strong').textContent === \
         '127.0.0.1:{port}')"
    );
    browser.wait_until(&format!("return {element} !== undefined")).await;
    browser.run(&format!("return {element}.textContent"), json!([])).await.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_broker_that_the_guide_finds_is_filled_in_and_connected_to_only_after_the_user_saves() {
    let broker = Mosquitto::builder().user("ann", "correct horse").start().await;
    let open = Mosquitto::start().await;
    let (port, open_port) = (broker.port(), open.port());
    let service = service_that_tries(&format!(r#""127.0.0.1:{port}", "127.0.0.1:{open_port}""#)).await;
    let browser = signed_in(&service).await;
    let text = shown(&browser, port).await;
    assert!(text.contains("Requires a user name and a password"), "{text}");
    let text = shown(&browser, open_port).await;
    assert!(text.contains("Accepts clients without a user name"), "{text}");
    // Nothing has been chosen, so nothing is configured.
    let config = service.get("/api/v1/integrations/mqtt/config").await.expect(200);
    assert_eq!((&config["broker_host"], &config["enabled"]), (&json!(""), &json!(false)));

    browser.click(&format!("button[aria-label='Use this one: 127.0.0.1:{port}']")).await;
    let filled =
        "return [...document.querySelectorAll('[name=broker_host], [name=broker_port]')].map((i) => i.value)";
    let filled = browser.run(filled, json!([])).await;
    assert_eq!(filled, json!(["127.0.0.1", port.to_string()]));
    let focused = browser.run("return document.activeElement.name", json!([])).await;
    assert_eq!(focused, "username");
    browser.enter("input[name=username]", "ann").await;
    browser.enter("input[name=password]", "correct horse").await;
    browser.press("Save").await;
    browser.wait_for_text("Connected").await;
}

#[tokio::test]
async fn the_guide_explains_what_to_do_when_a_broker_does_not_respond() {
    let silent = liveobject_test_support::free_port();
    let service = service_that_tries(&format!(r#""127.0.0.1:{silent}""#)).await;
    let browser = signed_in(&service).await;
    let text = shown(&browser, silent).await;
    assert!(text.contains("Is the broker running"), "{text}");
}

/// Replaces the response of the next searches.
const REPLACE_RESPONSE: &str = "const original = window.fetch; window.fetch = (url, options) => \
    url.endsWith('/candidates') ? Promise.resolve(Response.json(arguments[0])) : original(url, options)";

/// Searches again, with this response of the server.
async fn search(browser: &Browser, response: serde_json::Value) {
    browser.wait_until("return document.querySelector('.finder > button')?.disabled === false").await;
    let replace = REPLACE_RESPONSE.replace("arguments[0]", &response.to_string());
    browser.run(&replace, json!([])).await;
    browser.press("Look for a broker").await;
}

#[tokio::test]
async fn a_broker_with_tls_fills_in_the_tls_settings_and_its_name_is_only_text() {
    let service = service_that_tries("").await;
    let browser = signed_in(&service).await;
    let candidate = json!({
        "broker_host": "fd00::5", "broker_port": 1884, "use_tls": true, "state": "tls_failed",
        "names": ["[fd00::5]:1884", "<b>Evil</b>"], "found_by": ["announced"], "message": "Not trusted.",
        "protocol": null, "stages": [],
    });
    search(&browser, json!({ "candidates": [candidate], "left_out": 2 })).await;
    browser.wait_for_text("Also known as <b>Evil</b>").await;
    browser.wait_for_text("there were too many: 2").await;
    assert_accessible(&browser, "brokers").await;
    browser.resize(375, 800).await;
    let widest = browser.run("return document.documentElement.scrollWidth", json!([])).await;
    assert!(widest.as_u64().is_some_and(|widest| widest <= 375), "{widest}");
    if let Some(directory) = std::env::var_os("PAGE_SCREENSHOTS").map(PathBuf::from) {
        browser.screenshot(&directory.join("brokers-375.png")).await;
        browser.resize(1000, 900).await;
        browser.screenshot(&directory.join("brokers-1000.png")).await;
    }
    browser.click(".broker button").await;
    let filled = "return [...document.querySelectorAll('[name=broker_host], [name=broker_port]')].map((i) => i.value)\
                  .concat(document.querySelector('[name=use_tls]').checked)";
    assert_eq!(browser.run(filled, json!([])).await, json!(["fd00::5", "1884", true]));
}

#[tokio::test]
async fn the_guide_explains_what_to_do_when_nothing_is_found() {
    let service = service_that_tries("").await;
    let browser = signed_in(&service).await;
    search(&browser, json!({ "candidates": [], "left_out": 0 })).await;
    browser.wait_for_text("No broker was found. Is it running").await;
}
