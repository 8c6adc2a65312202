//! From a new service to the first event: the sample event and the examples for programs.

use std::{process::Stdio, time::Duration};

use liveobject_test_support::{Browser, Mosquitto, Service, wait_until};
use serde_json::json;
use tokio::process::Command;

use crate::helpers::{connected, service, signed_in};

#[tokio::test]
async fn the_guide_ends_with_a_sample_event_that_has_a_picture_and_arrives() {
    let service = service().await;
    let broker = Mosquitto::start().await;
    let browser = signed_in(&service).await;
    browser.wait_for_text("Connect your MQTT broker").await;
    // An address that cannot be right completes no step.
    browser.enter("input[name=broker_host]", "mqtt://broker").await;
    browser
        .wait_until("return document.querySelector('input[name=broker_host][aria-invalid]') !== null")
        .await;
    let done = "[...document.querySelectorAll('.guide li')].map(step => step.className).join()";
    browser.wait_until(&format!("return {done} === 'now,,,'")).await;
    browser.enter("input[name=broker_host]", "127.0.0.1").await;
    browser.enter("input[name=broker_port]", &broker.port().to_string()).await;
    browser.wait_until(&format!("return {done} === 'done,now,,'")).await;
    browser.press("Save").await;
    browser.wait_until(&format!("return {done} === 'done,done,done,now'")).await;
    browser.click(".guide .primary").await;
    browser.wait_for_text("Delivered to the broker").await;
    browser.wait_until(&format!("return {done} === 'done,done,done,done'")).await;
    let events = service.get("/api/v1/events").await.expect(200);
    assert_eq!(events["events"][0]["camera_id"], "sample_camera");
    assert_eq!(events["events"][0]["has_thumbnail"], true);
    // The camera is registered, with its name.
    let has_camera = async || {
        let cameras = service.get("/api/v1/cameras").await.expect(200);
        cameras["cameras"][0]["camera_name"] == "Sample camera"
    };
    wait_until("the camera exists", Duration::from_secs(15), has_camera).await;
    browser.press("Show the events").await;
    browser.wait_for_text("Sample event: a person brings a parcel to the door").await;
    browser.wait_until("return document.querySelector('.events img.thumb')?.naturalWidth > 0").await;
}

#[tokio::test]
async fn empty_views_offer_the_sample_event() {
    let (service, _broker) = connected().await;
    let browser = signed_in(&service).await;
    browser.click("nav a[href='#cameras']").await;
    browser.wait_for_text("No cameras yet").await;
    browser.wait_for_text("Send a sample event").await;
    browser.click("nav a[href='#events']").await;
    browser.wait_for_text("No events yet").await;
    browser.click("section:not([hidden]) > .first-event .primary").await;
    browser.wait_for_text("Sample event: a person brings a parcel to the door").await;
    browser.wait_for_text("Delivered in").await;
    browser
        .wait_until(
            "return document.querySelector('section:not([hidden]) > .first-event:not([hidden])') === null",
        )
        .await;
}

/// Copies an example, which creates its token, and returns its text.
async fn copied(browser: &Browser, number: usize) -> String {
    let example = format!(".first-event:not([hidden]) .example:nth-child({number})");
    let open = format!("document.querySelector('section:not([hidden]) > {example}').open = true");
    browser.run(&open, json!([])).await;
    browser.run("window.copied = ''", json!([])).await;
    browser.click(&format!("section:not([hidden]) > {example} button")).await;
    browser.wait_until("return window.copied !== ''").await;
    browser.run("return window.copied", json!([])).await.as_str().unwrap().to_owned()
}

async fn run(program: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    let output = command.args(arguments).stdin(Stdio::null()).output().await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("\"seq\""), "{printed} {output:?}");
}

async fn count(service: &Service) -> usize {
    service.get("/api/v1/events").await.expect(200)["events"].as_array().unwrap().len()
}

#[tokio::test]
async fn the_examples_work_as_copied_with_one_token_that_the_next_visit_replaces() {
    let service = service().await;
    let browser = signed_in(&service).await;
    browser.click("nav a[href='#events']").await;
    browser.wait_for_text("No events yet").await;
    let watch = "navigator.clipboard.writeText = async (text) => { window.copied = text; }";
    browser.run(watch, json!([])).await;
    let (curl, home_assistant, python) =
        (copied(&browser, 1).await, copied(&browser, 2).await, copied(&browser, 3).await);
    let expected = ["rest_command:", "authorization: Bearer lo_", "/api/v1/events", "{{ event | to_json }}"];
    assert!(expected.iter().all(|part| home_assistant.contains(part)), "{home_assistant}");
    let token = token_in(&curl);
    assert_eq!((token_in(&home_assistant), token_in(&python)), (token, token));
    assert_only_token(&service).await;

    browser.run("location.reload()", json!([])).await;
    let is_loaded = "return window.copied === undefined && document.querySelector('.first-event') !== null";
    browser.wait_until(is_loaded).await;
    browser.wait_for_text("It is replaced when you copy an example").await;
    browser.run(watch, json!([])).await;
    let (curl, python) = (copied(&browser, 1).await, copied(&browser, 3).await);
    assert_ne!(token_in(&curl), token);
    assert_only_token(&service).await;
    run("bash", &["-c", &curl.replacen("curl", "curl --silent --noproxy '*'", 1)]).await;
    run("env", &["no_proxy=*", "python3", "-c", &python]).await;
    assert_eq!(count(&service).await, 2);
}

fn token_in(example: &str) -> &str {
    let token = example.split("Bearer ").nth(1).expect("a token");
    token.split(['\'', '"', '\n']).next().expect("its end")
}

async fn assert_only_token(service: &Service) {
    let tokens = service.get("/api/v1/tokens").await.expect(200);
    let tokens = tokens["tokens"].as_array().unwrap();
    let [token] = tokens.as_slice() else { panic!("{tokens:?}") };
    assert_eq!((&token["name"], &token["scopes"]), (&json!("page-examples"), &json!(["events:write"])));
}
