//! Setting up a broker in a service without settings.

use std::time::Duration;

use liveobject_test_support::{
    Mosquitto, Reply, Rule, SUPERVISOR_TOKEN, ScriptedBroker, Service, Supervisor, SupervisorReply,
    free_port, wait_until,
};
use serde_json::{Value, json};

use crate::{
    accessible::assert_accessible,
    helpers::{connected, page, service, signed_in},
};

async fn config(service: &Service) -> Value {
    service.get("/api/v1/integrations/mqtt/config").await.expect(200)
}

#[tokio::test]
async fn a_broker_can_be_set_up_and_receives_a_test_message() {
    let service = service().await;
    let broker = Mosquitto::builder().user("ann", "correct horse").start().await;
    let browser = signed_in(&service).await;
    browser.wait_for_text("Connect your MQTT broker").await;
    browser.enter("input[name=broker_host]", "127.0.0.1").await;
    browser.enter("input[name=broker_port]", &broker.port().to_string()).await;
    browser.enter("input[name=username]", "ann").await;
    browser.enter("input[name=password]", "wrong").await;
    browser.press("Test connection").await;
    browser.wait_until("return document.querySelector('.stage.bad') !== null").await;
    browser.enter("input[name=password]", "correct horse").await;
    browser.press("Test connection").await;
    browser.wait_until("return document.querySelectorAll('.stage.good').length >= 9").await;
    browser.press("Save").await;
    browser.wait_for_text("Connected").await;
    browser.wait_for_text("Saved (hidden)").await;
    browser.wait_until("return !document.querySelector('.test button').disabled").await;
    browser.press("Send a test message").await;
    browser.wait_for_text("Test message delivered").await;
    assert_eq!(config(&service).await["has_password"], true);
}

#[tokio::test]
async fn the_stages_of_a_connection_test_are_shown_as_they_happen() {
    let service = service().await;
    // Accepts connections, but never responds.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let browser = signed_in(&service).await;
    browser.enter("input[name=broker_host]", "127.0.0.1").await;
    browser.enter("input[name=broker_port]", &silent.local_addr().unwrap().port().to_string()).await;
    browser.press("Test connection").await;
    browser.wait_until("return document.querySelectorAll('.stage.good').length === 2").await;
    browser.wait_until("return document.querySelector('.stage.now .name')?.textContent === 'Log in'").await;
    drop(silent);
    browser.wait_until("return document.querySelector('.stage.bad .name')?.textContent === 'Log in'").await;
}

/// Connects the service to the broker on this port, waits for a warning of this kind, and asserts that the page shows
/// its text, and the same consequence and remedy in the failed stage of the connection test.
async fn assert_page_agrees(service: &Service, port: u16, kind: &str, stage: &str) {
    let settings = json!({ "enabled": true, "broker_host": "127.0.0.1", "broker_port": port });
    let _ = service.put_config(&settings).await.expect(200);
    let warning = async || {
        let status = service.status().await;
        let warnings = status["warnings"].as_array().unwrap().iter();
        let mut of_kind = warnings.filter(|warning| warning["kind"] == kind);
        of_kind.next().map(|warning| warning["message"].as_str().unwrap().to_owned())
    };
    let is_raised = async || warning().await.is_some();
    wait_until(&format!("the warning {kind}"), Duration::from_mins(1), is_raised).await;
    let message = warning().await.unwrap();
    let browser = signed_in(service).await;
    browser.wait_until("return document.querySelector('.warning-list details') !== null").await;
    let open =
        "for (const warning of document.querySelectorAll('.warning-list details')) warning.open = true";
    browser.run(open, json!([])).await;
    browser.wait_for_text(&message).await;
    browser.click("nav a[href='#settings']").await;
    browser.press("Test connection").await;
    browser.wait_until("return document.querySelector('.stages + .result.bad') !== null").await;
    let failed = "return [...document.querySelectorAll('.stage.bad')].map((stage) => \
                  [stage.querySelector('.name').textContent, stage.querySelector('.stage-detail').textContent])";
    let failed = browser.run(failed, json!([])).await;
    let [only] = failed.as_array().unwrap().as_slice() else { panic!("{failed}") };
    assert_eq!(only[0], stage, "{failed}");
    let sentence = only[1].as_str().unwrap();
    assert!(message.starts_with(sentence), "{message}\n{sentence}");
}

#[tokio::test]
async fn refused_discovery_is_shown_alike_in_the_status_and_in_the_connection_test() {
    let acl = "topic readwrite liveobject/#\ntopic read homeassistant/#";
    let broker = Mosquitto::builder().acl(acl).start().await;
    assert_page_agrees(&service().await, broker.port(), "topic_refused", "Discovery").await;
}

#[tokio::test]
async fn an_availability_topic_over_which_the_broker_closes_is_shown_alike_in_the_status_and_in_the_test() {
    let broker = ScriptedBroker::start().await;
    broker.rule(Rule::topic("liveobject/status", Reply::Close));
    assert_page_agrees(&service().await, broker.port(), "messages_left_out", "Availability topic").await;
}

#[tokio::test]
async fn errors_are_shown_next_to_their_fields_and_nothing_is_saved() {
    let service = service().await;
    let browser = signed_in(&service).await;
    let fault = |field: &str| {
        format!("document.querySelector('.field:has([name={field}])')?.querySelector('.fault').textContent")
    };
    browser.enter("input[name=broker_port]", "70000").await;
    browser
        .wait_until(&format!("return {} === 'must be a whole number from 1 to 65535'", fault("broker_port")))
        .await;
    browser.press("Save").await;
    browser.wait_for_text("Nothing was saved").await;
    browser.enter("input[name=broker_port]", "1883").await;
    // Only the server detects that this is not a certificate.
    browser.enter("input[name=broker_host]", "127.0.0.1").await;
    browser.click("input[name=use_tls]").await;
    browser.enter("textarea[name=ca_certificate]", "-----BEGIN CERTIFICATE-----\nnonsense").await;
    browser.press("Save").await;
    browser.wait_until(&format!("return {} !== ''", fault("ca_certificate"))).await;
    assert_eq!(config(&service).await["broker_host"], "");
}

#[tokio::test]
async fn the_page_shows_without_a_reload_that_the_broker_stops_and_returns() {
    let (service, mut broker) = connected().await;
    let browser = signed_in(&service).await;
    browser.wait_for_text("Connected").await;
    broker.stop().await;
    browser
        .wait_until(
            "return ['waiting', 'connecting'].includes(document.querySelector('.connection').dataset.state)",
        )
        .await;
    browser.wait_for_text("Last error").await;
    broker.resume().await;
    browser.wait_until("return document.querySelector('.connection').dataset.state === 'connected'").await;
    browser
        .wait_until("return !document.querySelector('.connection').innerText.includes('Last error')")
        .await;
}

#[tokio::test]
async fn unsaved_changes_are_marked_and_can_be_discarded() {
    let (service, _broker) = connected().await;
    let browser = signed_in(&service).await;
    browser.click("nav a[href='#settings']").await;
    browser.enter("input[name=topic_prefix]", "elsewhere").await;
    browser.wait_for_text("Unsaved changes").await;
    browser.press("Discard changes").await;
    browser.wait_until("return document.querySelector('[name=topic_prefix]').value === 'liveobject'").await;
    let dirty =
        browser.run("return document.querySelector('form').hasAttribute('data-dirty')", json!([])).await;
    assert_eq!(dirty, false);
}

#[tokio::test]
async fn a_stored_password_is_asked_for_as_soon_as_it_would_go_to_another_server() {
    let (service, broker) = connected().await;
    let config = json!({"enabled": true, "broker_host": "127.0.0.1", "broker_port": broker.port(),
        "username": "ann", "password": "secret"});
    let _ = service.put("/api/v1/integrations/mqtt/config", &config).await.expect(200);
    let browser = signed_in(&service).await;
    browser.click("nav a[href='#settings']").await;
    browser.wait_for_text("Saved (hidden)").await;
    let field = "document.querySelector('input[name=password]')";
    assert_eq!(browser.run(&format!("return {field}"), json!([])).await, Value::Null);
    browser.enter("input[name=broker_host]", "elsewhere").await;
    browser.wait_for_text("Needed again, because the server or the user changes").await;
    assert_eq!(browser.run(&format!("return {field}.value"), json!([])).await, "");
    // A broker without a password needs none, and a password that was not entered is kept if the server stays.
    browser.press("Clear").await;
    browser.wait_for_text("Will be cleared when you save").await;
    browser.press("Replace").await;
    browser.enter("input[name=broker_host]", "127.0.0.1").await;
    browser.wait_for_text("Saved (hidden)").await;
    assert_eq!(browser.run(&format!("return {field}"), json!([])).await, Value::Null);
}

#[tokio::test]
async fn saving_is_the_main_action_only_with_changes_and_messages_do_not_cover_the_result_of_a_test() {
    let (service, _broker) = connected().await;
    let browser = signed_in(&service).await;
    browser.click("nav a[href='#settings']").await;
    browser.wait_until("return document.querySelector('[name=topic_prefix]').value === 'liveobject'").await;
    let primary = "return document.querySelectorAll('.bar .primary').length";
    assert_eq!(browser.run(primary, json!([])).await, 0);
    browser.enter("input[name=activity_seconds]", "200").await;
    browser.wait_for_text("Unsaved changes").await;
    assert_eq!(browser.run(primary, json!([])).await, 1);
    browser.press("Save").await;
    browser.wait_for_text("Saved and applied.").await;
    assert_eq!(browser.run(primary, json!([])).await, 0);
    browser.press("Test connection").await;
    browser.wait_until("return document.querySelectorAll('.stage.good').length >= 5").await;
    assert!(!browser.text().await.contains("Saved and applied."));
    browser.press("Announce to Home Assistant again").await;
    let is_above = "
        const [toast, bar] = ['#toast', '.bar'].map((one) => document.querySelector(one).getBoundingClientRect());
        return toast.height > 0 && toast.bottom <= bar.top";
    browser.wait_until(is_above).await;
}

#[tokio::test]
async fn settings_that_the_configuration_manages_are_shown_but_cannot_be_changed() {
    let config = "[mqtt]\nmanaged = true\nbroker_host = \"broker.lan\"\n";
    let service = Service::builder(env!("CARGO_BIN_EXE_liveobject")).config(config).start().await;
    let browser = signed_in(&service).await;
    browser.open(&format!("{}#settings", page(&service))).await;
    browser.wait_for_text("These settings come from the configuration of the service").await;
    let host = "document.querySelector('input[name=broker_host]')";
    browser.wait_until(&format!("return {host}.value === 'broker.lan' && {host}.matches(':disabled')")).await;
    let save = "[...document.querySelectorAll('.bar button')].filter((b) => b.offsetParent !== null)";
    let shown = browser.run(&format!("return {save}.map((b) => b.textContent)"), json!([])).await;
    assert_eq!(shown, json!(["Test connection"]));
}

#[tokio::test]
async fn a_broker_that_home_assistant_provides_is_shown_but_only_other_settings_can_be_changed() {
    let (broker, port) = (Mosquitto::start().await, free_port());
    let _supervisor = Supervisor::start(port, SupervisorReply::broker(broker.port(), "", "")).await;
    let service = Service::builder(env!("CARGO_BIN_EXE_liveobject"))
        .env("LIVEOBJECT__MQTT__SOURCE", "supervisor")
        .env("LIVEOBJECT__HOME_ASSISTANT__SUPERVISOR_URL", format!("http://127.0.0.1:{port}"))
        .env("SUPERVISOR_TOKEN", SUPERVISOR_TOKEN)
        .start()
        .await;
    service.wait_connected(Duration::from_secs(20)).await;
    let browser = signed_in(&service).await;
    browser.open(&format!("{}#settings", page(&service))).await;
    browser.wait_for_text("Home Assistant provides the broker").await;
    let disabled = |name: &str, is: bool| {
        format!("return document.querySelector('input[name={name}]').matches(':disabled') === {is}")
    };
    for name in ["enabled", "broker_host", "broker_port", "username", "password", "use_tls"] {
        browser.wait_until(&disabled(name, true)).await;
    }
    browser.wait_until(&disabled("topic_prefix", false)).await;
    browser.enter("input[name=topic_prefix]", "elsewhere").await;
    browser.press("Save").await;
    wait_until("the change", Duration::from_secs(20), async || {
        config(&service).await["topic_prefix"] == "elsewhere"
    })
    .await;
    assert_eq!(config(&service).await["broker_port"], broker.port());
}

#[tokio::test]
async fn a_stage_without_a_definite_result_is_shown_in_its_place() {
    // With MQTT 3.1.1, only a message that comes back proves that it was accepted.
    let acl = "topic write liveobject/#\ntopic read liveobject/test\ntopic readwrite homeassistant/#";
    let broker = Mosquitto::builder().acl(acl).start().await;
    let service = service().await;
    let settings = json!({ "broker_host": "127.0.0.1", "broker_port": broker.port(), "protocol": "3.1.1" });
    let _ = service.put_config(&settings).await.expect(200);
    let browser = signed_in(&service).await;
    browser.click("nav a[href='#settings']").await;
    browser.press("Test connection").await;
    browser.wait_until("return document.querySelector('.stages + .result') !== null").await;
    let misplaced = "return [document.querySelectorAll('.stage.unsure').length > 0, \
        [...document.querySelectorAll('.stage')].filter((stage) => \
            getComputedStyle(stage).position !== 'static').length]";
    assert_eq!(browser.run(misplaced, json!([])).await, json!([true, 0]));
}

/// Holds the settings back until `window.release` is called.
const HOLD_SETTINGS: &str = "
    const original = window.fetch;
    window.fetch = async (...request) => {
        if (String(request[0]).includes('mqtt/config')) await new Promise((resolve) => { window.release = resolve; });
        return original(...request);
    };";

#[tokio::test]
async fn fields_can_be_changed_once_the_settings_have_arrived() {
    let (service, _broker) = connected().await;
    let browser = signed_in(&service).await;
    browser.run_in_new_pages(HOLD_SETTINGS).await;
    browser.open("about:blank").await;
    browser.open(&format!("{}#settings", page(&service))).await;
    browser.wait_until("return window.release !== undefined").await;
    // What somebody enters now would be replaced by the settings.
    let is_disabled = "return document.querySelector('[name=topic_prefix]').matches(':disabled')";
    browser.wait_until(is_disabled).await;
    browser.run("window.release()", json!([])).await;
    browser.enter("input[name=topic_prefix]", "cameras").await;
    assert_eq!(
        browser.run("return document.querySelector('[name=topic_prefix]').value", json!([])).await,
        "cameras"
    );
    browser.wait_for_text("Unsaved changes").await;
}

#[tokio::test]
async fn settings_that_were_changed_elsewhere_are_not_silently_undone() {
    let (service, _broker) = connected().await;
    let browser = signed_in(&service).await;
    browser.click("nav a[href='#settings']").await;
    browser.enter("input[name=activity_seconds]", "45").await;
    let mut other = config(&service).await;
    other["late_after_seconds"] = json!(301);
    let _ = service.put_config(&other).await.expect(200);
    browser.press("Save").await;
    browser.wait_for_text("the settings were changed elsewhere").await;
    browser.wait_for_text("300 → 301").await;
    assert_eq!(config(&service).await["activity_seconds"], other["activity_seconds"]);
    browser.press("Show these changes and keep mine").await;
    browser.wait_until("return document.querySelector('[name=late_after_seconds]').value === '301'").await;
    browser.wait_until("return document.querySelector('[name=activity_seconds]').value === '45'").await;
    browser.press("Save").await;
    browser.wait_for_text("Saved and applied").await;
    let saved = config(&service).await;
    assert_eq!((&saved["late_after_seconds"], &saved["activity_seconds"]), (&json!(301), &json!(45)));
    // A form without changes of its own shows what somebody else saved.
    browser.click("nav a[href='#events']").await;
    other["late_after_seconds"] = json!(302);
    let _ = service.put_config(&other).await.expect(200);
    browser.click("nav a[href='#settings']").await;
    browser.wait_until("return document.querySelector('[name=late_after_seconds]').value === '302'").await;
    // Somebody who has seen the changes can overwrite them.
    browser.enter("input[name=activity_seconds]", "46").await;
    other["late_after_seconds"] = json!(303);
    let _ = service.put_config(&other).await.expect(200);
    browser.press("Save").await;
    browser.wait_for_text("302 → 303").await;
    assert_accessible(&browser, "settings that were changed elsewhere").await;
    browser.press("Overwrite them").await;
    wait_until("the change", Duration::from_secs(20), async || {
        let saved = config(&service).await;
        (&saved["late_after_seconds"], &saved["activity_seconds"]) == (&json!(302), &json!(46))
    })
    .await;
}

#[tokio::test]
async fn discarding_changes_clears_their_errors_and_a_test_is_shown_where_it_was_started() {
    let (service, _broker) = connected().await;
    let browser = signed_in(&service).await;
    browser.click("nav a[href='#settings']").await;
    browser.enter("input[name=broker_port]", "70000").await;
    browser.press("Save").await;
    browser.wait_for_text("Nothing was saved").await;
    browser.press("Discard changes").await;
    browser.wait_until("return document.querySelector('.bar > .result').textContent === ''").await;
    browser.run("window.scrollTo(0, 0)", json!([])).await;
    browser.press("Test connection").await;
    browser.wait_until("return document.querySelectorAll('.stage.good').length >= 5").await;
    let is_seen = "
        const box = document.querySelector('.test-result').getBoundingClientRect();
        return box.top >= 0 && box.bottom <= innerHeight && window.scrollY === 0";
    browser.run("window.scrollTo(0, 0)", json!([])).await;
    browser.wait_until(is_seen).await;
}

#[tokio::test]
async fn a_failed_test_gives_its_reason_once_and_at_the_field_that_it_is_about() {
    let service = service().await;
    let broker = Mosquitto::builder().user("ann", "correct horse").start().await;
    let browser = signed_in(&service).await;
    browser.enter("input[name=broker_host]", "127.0.0.1").await;
    browser.enter("input[name=broker_port]", &broker.port().to_string()).await;
    browser.enter("input[name=username]", "ann").await;
    browser.enter("input[name=password]", "wrong").await;
    browser.press("Test connection").await;
    browser.wait_for_text("The test failed: Log in.").await;
    browser.wait_until("return document.activeElement.name === 'password'").await;
    let shown = "
        const result = document.querySelector('.test-result').innerText;
        const field = document.querySelector('[name=password]');
        return [field.getAttribute('aria-invalid'), result.split('refused the login').length - 1,
            result.includes('not_authorized')]";
    assert_eq!(browser.run(shown, json!([])).await, json!(["true", 1, false]));
}

#[tokio::test]
async fn discarding_changes_after_a_conflict_shows_what_is_stored() {
    let (service, broker) = crate::helpers::connected().await;
    let browser = signed_in(&service).await;
    browser.click("nav a[href='#settings']").await;
    browser.enter("[name=activity_seconds]", "200").await;
    let changed = json!({"enabled": true, "broker_host": "127.0.0.1", "broker_port": broker.port(),
        "late_after_seconds": 301});
    let _ = service.put_config(&changed).await.expect(200);
    browser.press("Save").await;
    browser.wait_for_text("the settings were changed elsewhere").await;
    browser.press("Discard changes").await;
    browser.wait_until("return document.querySelector('[name=late_after_seconds]').value === '301'").await;
}
