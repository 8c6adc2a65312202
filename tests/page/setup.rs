//! Setting up a broker, from nothing.

use liveobject_test_support::{Mosquitto, Service};
use serde_json::{Value, json};

use crate::helpers::{connected, service, signed_in};

async fn config(service: &Service) -> Value {
    service.get("/api/v1/integrations/mqtt/config").await.expect(200)
}

#[tokio::test]
async fn a_first_start_leads_to_it_arrived() {
    let service = service().await;
    let broker = Mosquitto::builder().user("ann", "correct horse").start().await;
    let browser = signed_in(&service).await;
    browser.sees("Connect your MQTT broker").await;
    browser.enter("input[name=broker_host]", "127.0.0.1").await;
    browser.enter("input[name=broker_port]", &broker.port().to_string()).await;
    browser.enter("input[name=username]", "ann").await;
    browser.enter("input[name=password]", "wrong").await;
    browser.press("Test connection").await;
    browser.holds("return document.querySelector('.stage.bad') !== null").await;
    browser.enter("input[name=password]", "correct horse").await;
    browser.press("Test connection").await;
    browser.holds("return document.querySelectorAll('.stage.good').length >= 5").await;
    browser.press("Save").await;
    browser.sees("Connected").await;
    browser.sees("A secret is stored").await;
    browser.holds("return !document.querySelector('.test button').disabled").await;
    browser.press("Send a test message").await;
    browser.sees("It arrived").await;
    assert_eq!(config(&service).await["has_password"], true);
}

#[tokio::test]
async fn the_stages_of_a_trial_are_shown_as_they_happen() {
    let service = service().await;
    // It takes connections, and answers nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let browser = signed_in(&service).await;
    browser.enter("input[name=broker_host]", "127.0.0.1").await;
    browser.enter("input[name=broker_port]", &silent.local_addr().unwrap().port().to_string()).await;
    browser.press("Test connection").await;
    browser.holds("return document.querySelectorAll('.stage.good').length === 2").await;
    browser.holds("return document.querySelector('.stage.now .name')?.textContent === 'Log in'").await;
    drop(silent);
    browser.holds("return document.querySelector('.stage.bad .name')?.textContent === 'Log in'").await;
}

#[tokio::test]
async fn faults_are_shown_at_their_fields_and_nothing_is_saved() {
    let service = service().await;
    let browser = signed_in(&service).await;
    let fault = |field: &str| {
        format!(
            "[...document.querySelectorAll('.field')].find(f => f.querySelector('[name={field}]'))?.querySelector('.fault').textContent"
        )
    };
    browser.enter("input[name=broker_port]", "70000").await;
    browser
        .holds(&format!("return {} === 'must be a whole number from 1 to 65535'", fault("broker_port")))
        .await;
    browser.press("Save").await;
    browser.sees("nothing was saved").await;
    browser.enter("input[name=broker_port]", "1883").await;
    // Only the server knows that this is no certificate.
    browser.enter("input[name=broker_host]", "127.0.0.1").await;
    browser.click("input[name=use_tls]").await;
    browser.enter("textarea[name=ca_certificate]", "-----BEGIN CERTIFICATE-----\nnonsense").await;
    browser.press("Save").await;
    browser.holds(&format!("return {} !== ''", fault("ca_certificate"))).await;
    assert_eq!(config(&service).await["broker_host"], "");
}

#[tokio::test]
async fn a_broker_that_goes_and_comes_back_is_seen_live() {
    let (service, mut broker) = connected().await;
    let browser = signed_in(&service).await;
    browser.sees("Connected").await;
    broker.stop().await;
    browser
        .holds(
            "return ['waiting', 'connecting'].includes(document.querySelector('.connection').dataset.state)",
        )
        .await;
    browser.sees("Last error").await;
    broker.resume().await;
    browser.holds("return document.querySelector('.connection').dataset.state === 'connected'").await;
}

#[tokio::test]
async fn changes_that_are_not_saved_are_told_and_can_be_discarded() {
    let (service, _broker) = connected().await;
    let browser = signed_in(&service).await;
    browser.click("nav a[href='#settings']").await;
    browser.enter("input[name=topic_prefix]", "elsewhere").await;
    browser.sees("Unsaved changes").await;
    browser.press("Discard changes").await;
    browser.holds("return document.querySelector('[name=topic_prefix]').value === 'liveobject'").await;
    let dirty =
        browser.run("return document.querySelector('form').hasAttribute('data-dirty')", json!([])).await;
    assert_eq!(dirty, false);
}
