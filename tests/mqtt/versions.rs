//! MQTT 5 or 3.1.1: which version the service tries after a refusal, and which refusals it remembers.

use liveobject_test_support::{
    Refusal, ScriptedBroker, Service,
    api::MQTT,
    mqtt5::{ConnAck, Version},
};
use serde_json::{Value, json};

use crate::helpers::{
    TIMEOUT, assert_metrics, connected_service, error_message, fails_with, logged, service, settings,
    wait_for_error,
};
use Version::{V5, V311};

/// A CONNACK of MQTT 5 with reason 0x84, unsupported protocol version.
const UNSUPPORTED: &[u8] = &[0x20, 3, 0, 0x84, 0];
/// A CONNACK with return code 1 (unacceptable protocol version), in the 3.1.1 format and in the MQTT 5
/// format.
const UNACCEPTABLE: &[u8] = &[0x20, 2, 0, 1];
const UNACCEPTABLE_IN_5: &[u8] = &[0x20, 3, 0, 1, 0];

/// The ways in which brokers refuse MQTT 5.
const REFUSALS: [Refusal; 5] = [
    Refusal::Answer(UNSUPPORTED),
    Refusal::Answer(UNACCEPTABLE),
    Refusal::Answer(UNACCEPTABLE_IN_5),
    Refusal::Close,
    Refusal::Reset,
];

fn versions(broker: &ScriptedBroker) -> Vec<Version> {
    broker.connects().iter().map(|connect| connect.version).collect()
}

async fn protocol(service: &Service) -> Value {
    service.status().await["protocol"].clone()
}

/// Ends the connection, and waits for the next one.
async fn reconnect(broker: &ScriptedBroker, service: &Service) {
    let connects = broker.connects().len();
    broker.close();
    broker.wait_for("a new login", TIMEOUT, |broker| broker.connects().len() > connects).await;
    service.wait_connected(TIMEOUT).await;
}

#[tokio::test]
async fn any_refusal_of_mqtt_5_falls_back_to_3_1_1_at_once_and_without_a_warning() {
    for refusal in REFUSALS {
        let broker = ScriptedBroker::start().await;
        broker.refuse(V5, refusal);
        let service = connected_service(broker.port(), &json!({})).await;
        assert_eq!(versions(&broker), [V5, V311], "{refusal:?}");
        let status = service.status().await;
        let actual = (&status["protocol"], &status["last_error"], &status["reconnect_attempt"]);
        assert_eq!(actual, (&"3.1.1".into(), &Value::Null, &0.into()), "{refusal:?}: {status}");
        assert_metrics(&service, &[("mqtt_reconnect_attempts_total", 0.0)]).await;
        assert!(logged(&service, "WARN").is_empty(), "{refusal:?}: {:?}", logged(&service, "WARN"));
        // After a close without a response, the service may probe for TLS, and that is not valid MQTT.
        if let Refusal::Answer(_) = refusal {
            assert_eq!(broker.violations(), Vec::<String>::new(), "{refusal:?}");
        }
    }
}

#[tokio::test]
async fn an_explicit_refusal_of_mqtt_5_is_remembered_until_the_settings_change() {
    let broker = ScriptedBroker::start().await;
    broker.refuse(V5, Refusal::Answer(UNSUPPORTED));
    let service = connected_service(broker.port(), &json!({})).await;
    reconnect(&broker, &service).await;
    assert_eq!(versions(&broker), [V5, V311, V311]);
    broker.accept_both_versions();
    reconnect(&broker, &service).await;
    assert_eq!(protocol(&service).await, "3.1.1", "an upgrade of the broker is not detected this soon");
    let _ =
        service.put_config(&settings(broker.port(), &json!({ "keep_alive_seconds": 50 }))).await.expect(200);
    let modern = |status: &Value| status["protocol"] == "5";
    service.wait_status("MQTT 5", TIMEOUT, modern).await;
}

#[tokio::test]
async fn a_close_on_mqtt_5_is_remembered_from_the_second_time_on() {
    let broker = ScriptedBroker::start().await;
    broker.refuse(V5, Refusal::Close);
    let service = connected_service(broker.port(), &json!({})).await;
    reconnect(&broker, &service).await;
    assert_eq!(versions(&broker), [V5, V311, V5, V311], "the first close may have been a restart");
    reconnect(&broker, &service).await;
    assert_eq!(versions(&broker)[4..], [V311]);
}

#[tokio::test]
async fn a_restart_during_a_login_does_not_cause_a_fallback_from_mqtt_5() {
    let broker = ScriptedBroker::start().await;
    let service = connected_service(broker.port(), &json!({})).await;
    assert_eq!(protocol(&service).await, "5");
    broker.refuse(V5, Refusal::Close);
    broker.close();
    wait_for_error(&service, "closed").await;
    broker.wait_for("the login that fails", TIMEOUT, |broker| broker.connects().len() == 2).await;
    broker.accept_both_versions();
    service.wait_connected(TIMEOUT).await;
    assert_eq!(protocol(&service).await, "5");
    assert_eq!(versions(&broker), [V5, V5, V5], "a broker that accepted MQTT 5 before still supports it");
}

#[tokio::test]
async fn an_older_broker_at_the_same_address_is_eventually_detected() {
    let broker = ScriptedBroker::start().await;
    let service = connected_service(broker.port(), &json!({})).await;
    broker.refuse(V5, Refusal::Close);
    broker.close();
    let old = |status: &Value| status["protocol"] == "3.1.1";
    service.wait_status("MQTT 3.1.1", TIMEOUT, old).await;
    assert_eq!(versions(&broker), [V5, V5, V5, V311]);
}

#[tokio::test]
async fn a_broker_that_no_longer_accepts_3_1_1_gets_mqtt_5_at_once() {
    let broker = ScriptedBroker::start().await;
    broker.refuse(V5, Refusal::Answer(UNACCEPTABLE_IN_5));
    let service = connected_service(broker.port(), &json!({})).await;
    broker.accept_both_versions();
    broker.refuse(V311, Refusal::Answer(UNACCEPTABLE));
    reconnect(&broker, &service).await;
    assert_eq!(versions(&broker), [V5, V311, V311, V5]);
    assert_eq!(protocol(&service).await, "5");
}

#[tokio::test]
async fn failures_unrelated_to_the_version_do_not_cause_a_fallback() {
    let broker = ScriptedBroker::start().await;
    let service = service().start().await;
    let short_timeout = settings(broker.port(), &json!({ "connect_timeout_seconds": 1 }));
    for (reason, kind) in [
        (0x86, "bad_credentials"),
        (0x87, "not_authorized"),
        (0x85, "protocol"),
        (0x82, "protocol"),
        (0x88, "refused"),
        (0x89, "refused"),
        (0x9f, "refused"),
    ] {
        broker.set_connack(ConnAck { reason, ..ConnAck::default() });
        fails_with(&service, &short_timeout, kind).await;
    }
    broker.answer_connect(false);
    fails_with(&service, &short_timeout, "timeout").await;
    assert!(versions(&broker).iter().all(|version| *version == V5), "{:?}", versions(&broker));
}

#[tokio::test]
async fn a_broker_that_closes_on_every_login_is_tried_with_both_versions_per_attempt() {
    let broker = ScriptedBroker::start().await;
    broker.refuse(V5, Refusal::Close);
    broker.refuse(V311, Refusal::Close);
    let service = service().start().await;
    let failed = fails_with(&service, &settings(broker.port(), &json!({})), "closed").await;
    let message = error_message(&failed);
    assert!(message.contains("with both MQTT 5 and MQTT 3.1.1"), "{message}");
    let third = |status: &Value| status["reconnect_attempt"] == 3;
    service.wait_status("three failures", TIMEOUT, third).await;
    assert_eq!(versions(&broker), [V5, V311, V5, V311, V5, V311]);
    assert_eq!(logged(&service, "WARN").len(), 3, "one for each attempt");
}

#[tokio::test]
async fn login_failures_over_3_1_1_are_reported_as_the_correct_failure_kind() {
    let broker = ScriptedBroker::start().await;
    let service = service().start().await;
    for (code, kind, words) in [
        (2, "protocol", "client_id"),
        (3, "refused", "at the moment"),
        (4, "bad_credentials", "password"),
        (5, "not_authorized", "camera"),
    ] {
        broker.accept_both_versions();
        broker.refuse(V5, Refusal::Answer(UNACCEPTABLE));
        broker.set_connack(ConnAck { reason: code, ..ConnAck::default() });
        for protocol in ["auto", "3.1.1"] {
            let login = json!({ "username": "camera", "password": "hush", "protocol": protocol });
            let failed = fails_with(&service, &settings(broker.port(), &login), kind).await;
            let message = error_message(&failed);
            assert!(message.contains(words) && !message.contains("MQTT 5"), "{message}");
        }
    }
}

#[tokio::test]
async fn a_configured_protocol_is_the_only_one_tried() {
    for (configured, version, other) in [("5", V5, "3.1.1"), ("3.1.1", V311, "5")] {
        let broker = ScriptedBroker::start().await;
        let service = connected_service(broker.port(), &json!({ "protocol": configured })).await;
        assert_eq!(protocol(&service).await, configured);
        assert_eq!(versions(&broker), [version]);
        broker.refuse(version, Refusal::Answer(if version == V5 { UNSUPPORTED } else { UNACCEPTABLE }));
        broker.close();
        let failed = wait_for_error(&service, "protocol").await;
        let message = error_message(&failed);
        assert!(message.contains("\"auto\"") && !message.contains(&format!("MQTT {other}")), "{message}");
        assert!(versions(&broker).iter().all(|tried| *tried == version), "{:?}", versions(&broker));
    }
}

#[tokio::test]
async fn the_connection_test_reports_the_fallback_from_mqtt_5() {
    let service = service().start().await;
    for (refusal, words) in
        [(REFUSALS[0], "was refused"), (REFUSALS[1], "MQTT 5 was"), (REFUSALS[3], "closing")]
    {
        let broker = ScriptedBroker::start().await;
        broker.refuse(V5, refusal);
        let tried = settings(broker.port(), &json!({}));
        let report = service.post(&format!("{MQTT}/test"), &tried).await.expect(200);
        assert_eq!(report["protocol"], "3.1.1", "{report}");
        let stages = report["stages"].as_array().expect("stages");
        let login = stages.iter().find(|stage| stage["name"] == "login").expect("a login");
        let detail = login["detail"].as_str().expect("a detail");
        assert!(detail.starts_with("MQTT 3.1.1, because MQTT 5 ") && detail.contains(words), "{detail}");
    }
}
