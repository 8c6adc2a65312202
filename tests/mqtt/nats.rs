//! NATS as the broker. It supports only MQTT 3.1.1 and rejects MQTT 5 with a return code.

use liveobject_test_support::{Ledger, Message, Nats, Proxy, Subscriber, api::MQTT, mqtt5::Version};
use serde_json::{Value, json};

use crate::helpers::{
    LONG_TIMEOUT, Stream, TIMEOUT, assert_all_arrive, assert_metrics, connect, connected_service,
    error_message, fails_with, logged, service, settings, submit_batch, warnings,
};

async fn subscriber(broker: &Nats, client_id: &str) -> Subscriber {
    let subscriber = Subscriber::builder(broker.port()).version(Version::V311).client_id(client_id);
    subscriber.filter("liveobject/#").qos(1).start().await
}

#[tokio::test]
async fn nats_is_detected_as_mqtt_3_1_1() {
    let broker = Nats::start().await;
    let service = connected_service(broker.port(), &json!({})).await;
    assert_eq!(service.status().await["protocol"], "3.1.1");
    assert_metrics(&service, &[("mqtt_reconnect_attempts_total", 0.0)]).await;
    assert!(logged(&service, "WARN").is_empty(), "{:?}", logged(&service, "WARN"));

    let report = service.post(&format!("{MQTT}/test"), &Value::Null).await.expect(200);
    assert_eq!((&report["success"], &report["protocol"]), (&true.into(), &"3.1.1".into()), "{report}");
    let stages = report["stages"].as_array().expect("stages");
    assert!(stages.iter().all(|stage| stage["ok"] == true), "{report}");
    let check = service.run(&["check"]).await;
    assert!(check.code == 0 && check.stdout.contains("because MQTT 5 was"), "{check:?}");

    let failed = fails_with(&service, &settings(broker.port(), &json!({ "protocol": "5" })), "closed").await;
    let message = error_message(&failed);
    assert!(message.contains("\"auto\""), "{message}");
}

#[tokio::test]
async fn events_arrive_in_order_and_states_are_retained() {
    let broker = Nats::start().await;
    for qos in [0, 1] {
        let observer = subscriber(&broker, &format!("observer-{qos}")).await;
        let service = connected_service(broker.port(), &json!({ "qos": qos })).await;
        let mut ledger = Ledger::new();
        submit_batch(&service, &mut ledger, &format!("qos{qos}"), 300).await;
        assert_all_arrive(&service, &[&observer], &mut ledger).await;
        let counted = |message: &Message| {
            message.topic == "liveobject/camera/door/counts" && message.json()["events_today"] == 300
        };
        observer.wait_for(|messages| messages.iter().any(counted), "the counts", TIMEOUT).await;
        let newcomer = subscriber(&broker, &format!("newcomer-{qos}")).await;
        let has_states = |messages: &[Message]| {
            ["liveobject/status", "liveobject/camera/door/status", "liveobject/camera/door/counts"]
                .iter()
                .all(|topic| messages.iter().any(|message| message.topic == **topic && message.retain))
        };
        newcomer.wait_for(has_states, "the states", TIMEOUT).await;
    }
}

#[tokio::test]
async fn nothing_is_lost_or_reordered_when_nats_restarts_or_the_network_is_cut() {
    let mut broker = Nats::start().await;
    let observer = subscriber(&broker, "observer").await;
    let proxy = Proxy::start(broker.port()).await;
    let service = connected_service(proxy.port(), &json!({})).await;
    let mut ledger = Ledger::new();
    for round in 0..2 {
        // NATS itself may lose messages that it acknowledges while stopping, so it stops while nothing is in
        // flight.
        submit_batch(&service, &mut ledger, &format!("before-{round}"), 50).await;
        assert_all_arrive(&service, &[&observer], &mut ledger.clone()).await;
        broker.stop().await;
        submit_batch(&service, &mut ledger, &format!("during-{round}"), 200).await;
        broker.resume().await;
        service.wait_connected(LONG_TIMEOUT).await;
    }
    assert_all_arrive(&service, &[&observer], &mut ledger.clone()).await;
    let stream = Stream::start(&service);
    for _ in 0..3 {
        stream.wait_for_more(60).await;
        proxy.reset().await;
    }
    let mut streamed = stream.stop().await;
    assert_all_arrive(&service, &[&observer], &mut streamed).await;
}

#[tokio::test]
async fn nats_reports_a_wrong_password_and_publishes_the_will() {
    let broker = Nats::with_login("camera", "right").await;
    let mut service = service().start().await;
    let wrong_password = settings(broker.port(), &json!({ "username": "camera", "password": "wrong" }));
    fails_with(&service, &wrong_password, "not_authorized").await;
    connect(&service, broker.port(), &json!({ "username": "camera", "password": "right" })).await;
    let observer = Subscriber::builder(broker.port()).version(Version::V311).login("camera", "right").qos(1);
    let observer = observer.filter("liveobject/status").start().await;
    service.kill9().await;
    let offline = |messages: &[Message]| messages.iter().any(|message| message.text() == "offline");
    observer.wait_for(offline, "the will", TIMEOUT).await;
}

#[tokio::test]
async fn missing_qos_2_support_in_nats_is_detected_and_events_are_sent_with_qos_1() {
    let broker = Nats::start().await;
    let observer = subscriber(&broker, "observer").await;
    let service = connected_service(broker.port(), &json!({ "qos": 2 })).await;
    let mut ledger = Ledger::new();
    submit_batch(&service, &mut ledger, "event", 100).await;
    assert_all_arrive(&service, &[&observer], &mut ledger).await;
    assert!(warnings(&service.status().await).contains(&"qos_lowered"), "{}", service.status().await);
    assert_eq!(logged(&service, "WARN").iter().filter(|line| line["message"] == "disconnected").count(), 2);
}
