//! MQTT 5 or 3.1.1: what the broker refuses, what is tried next, and what is remembered.

use liveobject_test_support::{
    Refusal, ScriptedBroker, Service,
    api::MQTT,
    mqtt5::{ConnAck, Version},
};
use serde_json::{Value, json};

use crate::helpers::{
    SOON, assert_metrics, connected, fails_with, logged, service, settings, wait_for_error,
};
use Version::{V5, V311};

/// A CONNACK of MQTT 5 with reason 0x84, unsupported protocol version.
const UNSUPPORTED: &[u8] = &[0x20, 3, 0, 0x84, 0];
/// The same of MQTT 3.1.1, with return code 1, and as a broker may send it that counts in MQTT 5's.
const UNACCEPTABLE: &[u8] = &[0x20, 2, 0, 1];
const UNACCEPTABLE_5: &[u8] = &[0x20, 3, 0, 1, 0];

/// Every way in which brokers refuse MQTT 5.
const REFUSALS: [Refusal; 5] = [
    Refusal::Answer(UNSUPPORTED),
    Refusal::Answer(UNACCEPTABLE),
    Refusal::Answer(UNACCEPTABLE_5),
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
    broker.wait_for("a new login", SOON, |broker| broker.connects().len() > connects).await;
    service.wait_connected(SOON).await;
}

#[tokio::test]
async fn a_broker_that_refuses_mqtt_5_in_whatever_way_is_spoken_to_in_3_1_1_at_once_and_in_silence() {
    for refusal in REFUSALS {
        let broker = ScriptedBroker::start().await;
        broker.refuse(V5, refusal);
        let service = connected(broker.port(), &json!({})).await;
        assert_eq!(versions(&broker), [V5, V311], "{refusal:?}");
        let status = service.status().await;
        let told = (&status["protocol"], &status["last_error"], &status["reconnect_attempt"]);
        assert_eq!(told, (&"3.1.1".into(), &Value::Null, &0.into()), "{refusal:?}: {status}");
        assert_metrics(&service, &[("mqtt_reconnect_attempts_total", 0.0)]).await;
        assert!(logged(&service, "WARN").is_empty(), "{refusal:?}: {:?}", logged(&service, "WARN"));
        // A port that closes without a word may be asked whether it expects TLS: that is no MQTT.
        if let Refusal::Answer(_) = refusal {
            assert_eq!(broker.violations(), Vec::<String>::new(), "{refusal:?}");
        }
    }
}

#[tokio::test]
async fn a_broker_that_said_that_it_does_not_speak_mqtt_5_is_not_asked_again_until_the_settings_change() {
    let broker = ScriptedBroker::start().await;
    broker.refuse(V5, Refusal::Answer(UNSUPPORTED));
    let service = connected(broker.port(), &json!({})).await;
    reconnect(&broker, &service).await;
    assert_eq!(versions(&broker), [V5, V311, V311]);
    broker.refuse_nobody();
    reconnect(&broker, &service).await;
    assert_eq!(protocol(&service).await, "3.1.1", "an upgrade is not noticed by itself so soon");
    let _ =
        service.put_config(&settings(broker.port(), &json!({ "keep_alive_seconds": 50 }))).await.expect(200);
    let modern = |status: &Value| status["protocol"] == "5";
    service.wait_status("MQTT 5", SOON, modern).await;
}

#[tokio::test]
async fn a_broker_that_only_closes_the_connection_on_mqtt_5_is_believed_the_second_time() {
    let broker = ScriptedBroker::start().await;
    broker.refuse(V5, Refusal::Close);
    let service = connected(broker.port(), &json!({})).await;
    reconnect(&broker, &service).await;
    assert_eq!(versions(&broker), [V5, V311, V5, V311], "it may have been restarting");
    reconnect(&broker, &service).await;
    assert_eq!(versions(&broker)[4..], [V311]);
}

#[tokio::test]
async fn a_broker_that_restarts_in_the_middle_of_a_login_is_spoken_to_in_mqtt_5_afterwards() {
    let broker = ScriptedBroker::start().await;
    let service = connected(broker.port(), &json!({})).await;
    assert_eq!(protocol(&service).await, "5");
    broker.refuse(V5, Refusal::Close);
    broker.close();
    wait_for_error(&service, "closed").await;
    broker.wait_for("the login that fails", SOON, |broker| broker.connects().len() == 2).await;
    broker.refuse_nobody();
    service.wait_connected(SOON).await;
    assert_eq!(protocol(&service).await, "5");
    assert_eq!(versions(&broker), [V5, V5, V5], "a broker that has spoken MQTT 5 has not unlearnt it");
}

#[tokio::test]
async fn another_broker_at_the_same_address_is_found_to_be_old_after_all() {
    let broker = ScriptedBroker::start().await;
    let service = connected(broker.port(), &json!({})).await;
    broker.refuse(V5, Refusal::Close);
    broker.close();
    let old = |status: &Value| status["protocol"] == "3.1.1";
    service.wait_status("MQTT 3.1.1", SOON, old).await;
    assert_eq!(versions(&broker), [V5, V5, V5, V311]);
}

#[tokio::test]
async fn a_broker_that_unlearnt_3_1_1_is_spoken_to_in_mqtt_5_at_once() {
    let broker = ScriptedBroker::start().await;
    broker.refuse(V5, Refusal::Answer(UNACCEPTABLE_5));
    let service = connected(broker.port(), &json!({})).await;
    broker.refuse_nobody();
    broker.refuse(V311, Refusal::Answer(UNACCEPTABLE));
    reconnect(&broker, &service).await;
    assert_eq!(versions(&broker), [V5, V311, V311, V5]);
    assert_eq!(protocol(&service).await, "5");
}

#[tokio::test]
async fn what_says_nothing_of_the_version_is_no_reason_to_try_the_other_one() {
    let broker = ScriptedBroker::start().await;
    let service = service().start().await;
    let impatient = settings(broker.port(), &json!({ "connect_timeout_seconds": 1 }));
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
        fails_with(&service, &impatient, kind).await;
    }
    broker.answer_connect(false);
    fails_with(&service, &impatient, "timeout").await;
    assert!(versions(&broker).iter().all(|version| *version == V5), "{:?}", versions(&broker));
}

#[tokio::test]
async fn a_broker_that_closes_on_every_login_is_tried_with_both_versions_and_waited_for_as_ever() {
    let broker = ScriptedBroker::start().await;
    broker.refuse(V5, Refusal::Close);
    broker.refuse(V311, Refusal::Close);
    let service = service().start().await;
    let failed = fails_with(&service, &settings(broker.port(), &json!({})), "closed").await;
    let message = failed["last_error"]["message"].as_str().expect("a message");
    assert!(message.contains("with both MQTT 5 and MQTT 3.1.1"), "{message}");
    let third = |status: &Value| status["reconnect_attempt"] == 3;
    service.wait_status("three failures", SOON, third).await;
    assert_eq!(versions(&broker), [V5, V311, V5, V311, V5, V311]);
    assert_eq!(logged(&service, "WARN").len(), 3, "one for each attempt");
}

#[tokio::test]
async fn the_password_is_found_wrong_by_a_broker_of_old_times_too() {
    let broker = ScriptedBroker::start().await;
    let service = service().start().await;
    for (code, kind, words) in [
        (2, "protocol", "client_id"),
        (3, "refused", "at the moment"),
        (4, "bad_credentials", "password"),
        (5, "not_authorized", "camera"),
    ] {
        broker.refuse_nobody();
        broker.refuse(V5, Refusal::Answer(UNACCEPTABLE));
        broker.set_connack(ConnAck { reason: code, ..ConnAck::default() });
        for protocol in ["auto", "3.1.1"] {
            let login = json!({ "username": "camera", "password": "hush", "protocol": protocol });
            let failed = fails_with(&service, &settings(broker.port(), &login), kind).await;
            let message = failed["last_error"]["message"].as_str().expect("a message");
            assert!(message.contains(words) && !message.contains("MQTT 5"), "{message}");
        }
    }
}

#[tokio::test]
async fn a_protocol_that_is_asked_for_is_the_only_one() {
    for (asked, version, other) in [("5", V5, "3.1.1"), ("3.1.1", V311, "5")] {
        let broker = ScriptedBroker::start().await;
        let service = connected(broker.port(), &json!({ "protocol": asked })).await;
        assert_eq!(protocol(&service).await, asked);
        assert_eq!(versions(&broker), [version]);
        broker.refuse(version, Refusal::Answer(if version == V5 { UNSUPPORTED } else { UNACCEPTABLE }));
        broker.close();
        let failed = wait_for_error(&service, "protocol").await;
        let message = failed["last_error"]["message"].as_str().expect("a message");
        assert!(message.contains("\"auto\"") && !message.contains(&format!("MQTT {other}")), "{message}");
        assert!(versions(&broker).iter().all(|tried| *tried == version), "{:?}", versions(&broker));
    }
}

#[tokio::test]
async fn the_test_tells_that_mqtt_5_was_refused_and_what_is_spoken_instead() {
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
