//! Failed logins: which kind they report, and that corrected settings take effect at once.

use std::time::Duration;

use liveobject_actors::domain::clock;
use liveobject_test_support::{Mosquitto, ScriptedBroker, mqtt5::ConnAck};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::helpers::{
    LONG_TIMEOUT, TIMEOUT, assert_metrics, error_message, fails_with, logged, service, settings, time,
    wait_for_error,
};

/// Time without a message after which the service has sent everything that follows a login.
const QUIET: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_wrong_password_is_reported_and_corrected_settings_connect_at_once() {
    let broker = Mosquitto::builder().user("camera", "right").start().await;
    let service = service().start().await;
    let wrong_password = settings(broker.port(), &json!({ "username": "camera", "password": "wrong" }));
    let _ = service.put_config(&wrong_password).await.expect(200);
    let third = |status: &Value| status["reconnect_attempt"] == 3 && status["state"] == "waiting";
    let waiting = service.wait_status("the third failure", LONG_TIMEOUT, third).await;
    assert_eq!(waiting["last_error"]["kind"], "not_authorized");
    let message = error_message(&waiting);
    assert!(
        message.contains("camera") && message.contains("password") && !message.contains("wrong "),
        "{message}"
    );
    let next_attempt = time(&waiting["next_attempt_at"]);
    assert!(
        next_attempt > clock::now() + Duration::from_secs(1),
        "the next attempt must be far enough away to detect an early one: {waiting}"
    );

    let correct_password = settings(broker.port(), &json!({ "username": "camera", "password": "right" }));
    let _ = service.put_config(&correct_password).await.expect(200);
    service.wait_connected(TIMEOUT).await;
    let connected = service.status().await;
    assert!(
        time(&connected["last_connected_at"]) < next_attempt,
        "the service waited for the next attempt: {waiting}, then {connected}"
    );
    assert_eq!((&connected["last_error"], &connected["reconnect_attempt"]), (&Value::Null, &0.into()));
    let failures = logged(&service, "WARN");
    assert!(failures.iter().all(|line| line["kind"] == "not_authorized"), "{failures:?}");
    assert_eq!(failures.len(), 3, "{failures:?}");
}

#[tokio::test]
async fn a_missing_password_is_reported() {
    let broker = Mosquitto::builder().user("camera", "right").start().await;
    let service = service().start().await;
    let failed = fails_with(&service, &settings(broker.port(), &json!({})), "not_authorized").await;
    let message = error_message(&failed);
    assert!(message.contains("without a user name"), "{message}");
}

#[tokio::test]
async fn user_name_and_password_reach_the_broker_unchanged() {
    let broker = ScriptedBroker::start().await;
    let service = service().start().await;
    let login = json!({ "username": "ca\u{fc}mera", "password": "p\u{e4}ss \"w\\ord\" \u{1f511}" });
    let _ = service.put_config(&settings(broker.port(), &login)).await.expect(200);
    service.wait_connected(TIMEOUT).await;
    let connect = &broker.connects()[0];
    assert_eq!(connect.username.as_deref(), login["username"].as_str());
    assert_eq!(connect.password.as_deref(), login["password"].as_str().map(str::as_bytes));
}

#[tokio::test]
async fn every_login_refusal_is_reported_as_the_correct_failure_kind() {
    let broker = ScriptedBroker::start().await;
    let service = service().start().await;
    for (reason, kind) in [
        (0x80, "refused"),
        (0x84, "protocol"),
        (0x85, "protocol"),
        (0x86, "bad_credentials"),
        (0x87, "not_authorized"),
        (0x88, "refused"),
        (0x89, "refused"),
        (0x8a, "not_authorized"),
        (0x8c, "bad_credentials"),
        (0x97, "refused"),
        (0x9a, "protocol"),
        (0x9b, "protocol"),
        (0x9c, "refused"),
        (0x9d, "refused"),
        (0x9f, "refused"),
    ] {
        broker.set_connack(ConnAck { reason, ..ConnAck::default() });
        let _ = service.put_config(&settings(broker.port(), &json!({}))).await.expect(200);
        let failed =
            service.wait_status("a failure", TIMEOUT, |status| !status["last_error"].is_null()).await;
        assert_eq!(failed["last_error"]["kind"], kind, "reason {reason:#x}: {failed}");
        assert_eq!(failed["connected"], false);
    }
    broker.set_connack(ConnAck::default());
    let _ = service.put_config(&settings(broker.port(), &json!({}))).await.expect(200);
    service.wait_connected(TIMEOUT).await;
}

#[tokio::test]
async fn a_broker_that_does_not_respond_to_the_login_is_reported_as_a_timeout() {
    let broker = ScriptedBroker::start().await;
    broker.answer_connect(false);
    let service = service().start().await;
    let short_timeout = settings(broker.port(), &json!({ "connect_timeout_seconds": 1 }));
    let failed = fails_with(&service, &short_timeout, "timeout").await;
    let message = error_message(&failed);
    assert!(message.contains("login"), "{message}");
    broker.answer_connect(true);
    service.wait_connected(TIMEOUT).await;
}

#[tokio::test]
async fn a_port_with_another_protocol_is_reported_as_no_broker() {
    let service = service().start().await;
    // The service's own HTTP port.
    let failed = fails_with(&service, &settings(service.port(), &json!({})), "protocol").await;
    assert!(failed["last_error"]["message"].as_str().is_some_and(|text| text.contains("MQTT")), "{failed}");
}

/// Waits until the service has sent everything that follows a login. A broker that closes the connection while
/// messages are on their way resets it, which is not the clean close that the test needs.
async fn wait_until_quiet(broker: &ScriptedBroker) {
    let mut received = usize::MAX;
    while received != broker.received().len() {
        received = broker.received().len();
        sleep(QUIET).await;
    }
}

#[tokio::test]
async fn a_broker_that_drops_each_connection_is_not_retried_in_a_tight_loop() {
    let broker = ScriptedBroker::start().await;
    let service = service().start().await;
    let _ = service.put_config(&settings(broker.port(), &json!({}))).await.expect(200);
    for attempt in 1..=3 {
        broker.wait_for("a connection", TIMEOUT, |broker| broker.open() == 1).await;
        service.wait_connected(TIMEOUT).await;
        wait_until_quiet(&broker).await;
        broker.close();
        let counted = |status: &Value| status["reconnect_attempt"] == attempt;
        service.wait_status(&format!("failure {attempt} in a row"), TIMEOUT, counted).await;
    }
    // To the service, this looks as if another client used the same id.
    assert_eq!(wait_for_error(&service, "taken_over").await["state"], "waiting");
    assert_eq!(broker.connects().len(), 3);
    assert_metrics(&service, &[("mqtt_reconnect_attempts_total", 2.0)]).await;
}
