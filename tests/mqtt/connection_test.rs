//! The connection test: `POST …/mqtt/test`, `POST …/mqtt/test-message`, and the command `check`.

use liveobject_test_support::{Mosquitto, Service, Subscriber, api::MQTT, free_port};
use serde_json::{Value, json};

use crate::helpers::{Scene, TIMEOUT, connect, connected_service, service, settings, warnings};

/// Tests these settings. Returns the report, and the name and outcome of each stage.
async fn run_test(service: &Service, settings: &Value) -> (Value, Vec<(String, Value)>) {
    let report = service.post(&format!("{MQTT}/test"), settings).await.expect(200);
    let stages = report["stages"].as_array().expect("stages").iter();
    let stages =
        stages.map(|stage| (stage["name"].as_str().expect("a name").to_owned(), stage["ok"].clone()));
    let stages = stages.collect();
    (report, stages)
}

fn stages(passed: &[&str], last: &str, ok: Option<bool>) -> Vec<(String, Value)> {
    let passed = passed.iter().map(|name| ((*name).to_owned(), true.into()));
    passed.chain([(last.to_owned(), json!(ok))]).collect()
}

/// Asserts that the connection test fails in this stage, after the passed ones, with a detail that starts
/// with `words`.
async fn assert_fails_in(service: &Service, settings: &Value, passed: &[&str], stage: &str, words: &str) {
    let (report, reached) = run_test(service, settings).await;
    assert_eq!(report["success"], false, "{report}");
    assert_eq!(reached[..=passed.len()], stages(passed, stage, Some(false)), "{report}");
    let detail = report["stages"][passed.len()]["detail"].as_str().expect("a detail");
    assert!(detail.starts_with(words), "{report}");
    assert!(report["message"].as_str().is_some_and(|text| !text.is_empty()), "{report}");
}

#[tokio::test]
async fn a_good_broker_passes_every_stage_without_side_effects() {
    let scene = Scene::start().await;
    let other = Mosquitto::builder().user("camera", "right").start().await;
    let before = scene.service.get(&format!("{MQTT}/config")).await.expect(200);
    let login = settings(other.port(), &json!({ "username": "camera", "password": "right" }));
    for tested in [Value::Null, login] {
        let (report, reached) = run_test(&scene.service, &tested).await;
        assert_eq!((&report["success"], &report["protocol"]), (&true.into(), &"5".into()), "{report}");
        let passed =
            ["resolve", "connect", "login", "publish", "loopback", "availability", "discovery", "events"];
        assert_eq!(reached, stages(&passed, "states", Some(true)), "{report}");
        assert!(report["stages"][0]["duration_ms"].is_u64(), "{report}");
    }
    assert_eq!(scene.service.get(&format!("{MQTT}/config")).await.expect(200), before);
    let status = scene.service.status().await;
    assert_eq!((&status["connected"], &status["last_error"]), (&true.into(), &Value::Null));
    let availability = scene.subscriber.on("liveobject/status");
    let (tests, others): (Vec<_>, Vec<_>) =
        availability.iter().partition(|message| message.text().starts_with("connection test "));
    assert_eq!((tests.len(), others.len()), (1, 1), "no birth and no will message: {availability:?}");
    assert_eq!(warnings(&status), [""; 0], "the service does not take it for the message of another one");
}

#[tokio::test]
async fn the_connection_test_reports_the_stage_that_fails() {
    let secured = Mosquitto::builder().user("camera", "right").start().await;
    let service = service().start().await;
    let name =
        settings(1883, &json!({ "broker_host": "no-such-host.invalid", "connect_timeout_seconds": 2 }));
    assert_fails_in(&service, &name, &[], "resolve", "name_not_found").await;
    let port = settings(free_port(), &json!({}));
    assert_fails_in(&service, &port, &["resolve"], "connect", "refused").await;
    let password = settings(secured.port(), &json!({ "username": "camera", "password": "wrong" }));
    assert_fails_in(&service, &password, &["resolve", "connect"], "login", "not_authorized").await;
    let http = settings(service.port(), &json!({}));
    assert_fails_in(&service, &http, &["resolve", "connect"], "login", "protocol").await;
    assert_eq!(service.status().await["state"], "disabled");
}

#[tokio::test]
async fn the_connection_test_reports_a_broker_that_does_not_respond() {
    let mut broker = Mosquitto::start().await;
    broker.freeze();
    let service = service().start().await;
    let frozen = settings(broker.port(), &json!({ "connect_timeout_seconds": 1 }));
    assert_fails_in(&service, &frozen, &["resolve", "connect"], "login", "timeout").await;
}

#[tokio::test]
async fn the_connection_test_reports_a_missing_permission_to_publish() {
    let broker = Mosquitto::builder().acl("topic read #").start().await;
    let service = service().start().await;
    let passed = ["resolve", "connect", "login"];
    assert_fails_in(&service, &settings(broker.port(), &json!({})), &passed, "publish", "not_authorized")
        .await;
}

#[tokio::test]
async fn the_connection_test_claims_no_acknowledgement_of_a_broker_that_supports_only_qos_0() {
    let service = service().start().await;
    let broker = Mosquitto::builder().max_qos(0).start().await;
    let (report, _) = run_test(&service, &settings(broker.port(), &json!({}))).await;
    assert_eq!(report["success"], true, "{report}");
    let detail = report["stages"][3]["detail"].as_str().expect("a detail");
    assert!(detail.contains("which acknowledges nothing"), "{report}");
    // The broker drops the message.
    let broker = Mosquitto::builder().max_qos(0).acl("topic read #").start().await;
    let passed = ["resolve", "connect", "login", "publish"];
    let words = "not_authorized";
    assert_fails_in(&service, &settings(broker.port(), &json!({})), &passed, "loopback", words).await;
}

#[tokio::test]
async fn a_user_who_may_only_publish_passes_with_an_inconclusive_loopback() {
    let broker =
        Mosquitto::builder().acl("topic write liveobject/#\ntopic write homeassistant/#").start().await;
    let service = service().start().await;
    let (report, reached) = run_test(&service, &settings(broker.port(), &json!({}))).await;
    assert_eq!(report["success"], true, "{report}");
    let passed = ["resolve", "connect", "login", "publish"];
    assert_eq!(reached[..5], stages(&passed, "loopback", None), "{report}");
    assert!(reached[5..].iter().all(|(_, ok)| *ok == true), "acknowledgements are sufficient: {report}");
}

#[tokio::test]
async fn a_test_message_arrives_on_its_topic_and_is_not_retained() {
    let scene = Scene::with(&json!({ "topic_prefix": "house" })).await;
    let answer = scene.service.post(&format!("{MQTT}/test-message"), &json!({})).await.expect(200);
    assert_eq!(answer["success"], true, "{answer}");
    let arrived = |messages: &[liveobject_test_support::Message]| {
        messages.iter().any(|message| message.topic == "house/test")
    };
    scene.subscriber.wait_for(arrived, "test message", TIMEOUT).await;
    let newcomer = Subscriber::builder(scene.broker.port()).client_id("newcomer").start().await;
    let status = |messages: &[liveobject_test_support::Message]| !messages.is_empty();
    newcomer.wait_for(status, "retained status", TIMEOUT).await;
    assert!(newcomer.on("house/test").is_empty());
}

#[tokio::test]
async fn a_test_message_fails_without_a_connection_or_a_permission() {
    let service = service().start().await;
    let path = format!("{MQTT}/test-message");
    let answer = service.post(&path, &json!({})).await.expect(200);
    assert_eq!(answer["success"], false, "{answer}");
    let broker = Mosquitto::builder().acl("topic write liveobject/status").start().await;
    connect(&service, broker.port(), &json!({})).await;
    let answer = service.post(&path, &json!({})).await.expect(200);
    assert_eq!(answer["success"], false, "{answer}");
    assert_eq!(service.status().await["connected"], true);
}

#[tokio::test]
async fn the_check_command_prints_the_stages_and_sets_the_exit_code() {
    let mut broker = Mosquitto::start().await;
    let fresh = service().start().await;
    let unset = fresh.run(&["check"]).await;
    assert_eq!(unset.code, 1, "{unset:?}");
    assert!(unset.stdout.contains("No broker configured"), "{unset:?}");

    let mut service =
        connected_service(broker.port(), &json!({ "username": "camera", "password": "hush-hush" })).await;
    let good = service.run(&["check"]).await;
    assert_eq!(good.code, 0, "{good:?}");
    for stage in ["resolve", "connect", "login", "publish", "loopback", "availability", "discovery"] {
        assert!(good.stdout.contains(stage), "{good:?}");
    }
    assert_eq!(service.status().await["connected"], true, "a running service is not disturbed");
    assert!(good.stdout.contains("Running service: connected; 0 events pending, 0 dead"), "{good:?}");

    let login = json!({ "username": "camera", "password": "hush-hush", "discovery_enabled": false });
    connect(&service, broker.port(), &login).await;
    let silent = service.run(&["check"]).await;
    assert!(silent.stdout.contains("discovery_enabled is false"), "{silent:?}");
    let mut settings = service.get(&format!("{MQTT}/config")).await.expect(200);
    settings["enabled"] = false.into();
    let _ = service.put_config(&settings).await.expect(200);
    let off = service.run(&["check"]).await;
    assert_eq!(off.code, 1, "no event is sent: {off:?}");
    assert!(off.stdout.contains("MQTT is switched off"), "{off:?}");
    assert!(off.stdout.contains("the running service is not connected"), "{off:?}");

    broker.stop().await;
    service.sigterm();
    assert_eq!(service.wait().await, 0);
    let bad = service.run(&["check"]).await;
    assert_eq!(bad.code, 1, "{bad:?}");
    assert!(bad.stdout.contains("FAILED") && bad.stdout.contains("refused"), "{bad:?}");
    for finished in [good, bad] {
        assert!(!format!("{finished:?}").contains("hush-hush"), "{finished:?}");
    }
}
