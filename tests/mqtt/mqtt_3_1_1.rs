//! MQTT 3.1.1, which gives the same guarantees as MQTT 5.

use liveobject_test_support::{
    Acks, Ledger, Message, Mosquitto, Reply, Rule, ScriptedBroker, api::MQTT, mqtt5::Version,
};
use serde_json::{Value, json};

use crate::helpers::{
    SHORTEST, Scene, TIMEOUT, connected_service, event, event_id, event_ids, events_received, large_event,
    logged, put_large_picture, scripted_broker, service, settings, submit, submit_batch, wait_for_error,
    wait_for_ids, warnings, with,
};

/// Returns this stage of a connection test.
fn stage<'a>(report: &'a Value, name: &str) -> &'a Value {
    let mut stages = report["stages"].as_array().expect("stages").iter();
    stages.find(|stage| stage["name"] == name).expect("the stage")
}

/// Returns settings for MQTT 3.1.1, with these changes.
fn mqtt_3_1_1(other: &Value) -> Value {
    with(json!({ "protocol": "3.1.1" }), other.clone())
}

#[tokio::test]
async fn events_of_each_qos_arrive_once_and_in_order() {
    for qos in [0, 1, 2] {
        let scene = Scene::with(&mqtt_3_1_1(&json!({ "qos": qos, "retain_messages": true }))).await;
        let mut ledger = Ledger::new();
        // More than the broker's max_inflight_messages, which MQTT 3.1.1 does not announce.
        submit_batch(&scene.service, &mut ledger, "event", 700).await;
        scene.assert_all_arrive(&mut ledger).await;
        assert_eq!(ledger.duplicates(), 0, "QoS {qos}");
        let status = scene.service.status().await;
        assert_eq!((&status["protocol"], warnings(&status)), (&"3.1.1".into(), Vec::new()), "{status}");
        assert!(logged(&scene.service, "WARN").is_empty(), "{:?}", logged(&scene.service, "WARN"));
    }
}

#[tokio::test]
async fn login_and_messages_are_those_of_mqtt_5_without_its_properties() {
    let other = json!({
        "username": "camera", "password": "hush", "client_id": "eye", "keep_alive_seconds": 7, "qos": 2,
        "message_expiry_seconds": 60, "will_message": "gone", "retain_messages": true,
    });
    let (broker, service) = scripted_broker(&mqtt_3_1_1(&other)).await;
    let _ = service.post_event(&event("a")).await.expect(202);
    let received = wait_for_ids(&broker, &["a".to_owned()]).await;
    let connect = &broker.connects()[0];
    assert_eq!(connect.version, Version::V311);
    assert_eq!((connect.client_id.as_str(), connect.keep_alive, connect.clean_start), ("eye", 7, true));
    assert_eq!(connect.username.as_deref(), Some("camera"));
    assert_eq!(connect.password.as_deref(), Some("hush".as_bytes()));
    let will = connect.will.as_ref().expect("a will");
    assert_eq!(
        (will.topic.as_str(), &will.payload[..], will.qos, will.retain),
        ("liveobject/status", &b"gone"[..], 1, true)
    );
    let publish = &received[0].publish;
    assert_eq!((publish.qos, publish.retain, publish.message_expiry), (2, true, None));
    assert_eq!(broker.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn nothing_is_lost_or_reordered_when_the_broker_restarts() {
    let mut scene = Scene::with(&mqtt_3_1_1(&json!({}))).await;
    scene.restart_broker_under_load().await;
    assert_eq!(scene.service.status().await["protocol"], "3.1.1");
}

#[tokio::test]
async fn reordered_acknowledgements_and_a_cut_connection_neither_lose_nor_reorder_events() {
    let (broker, service) = scripted_broker(&mqtt_3_1_1(&json!({}))).await;
    broker.set_acks(Acks::ReverseWithin(50));
    let mut ledger = Ledger::new();
    submit_batch(&service, &mut ledger, "reversed", 500).await;
    wait_for_ids(&broker, &event_ids("reversed", 500)).await;
    broker.set_acks(Acks::All);
    service.wait_outbox_empty(TIMEOUT).await;
    broker.set_acks(Acks::Withhold);
    submit_batch(&service, &mut ledger, "unacknowledged", 20).await;
    wait_for_ids(&broker, &event_ids("unacknowledged", 20)).await;
    broker.close();
    broker.set_acks(Acks::All);
    service.wait_outbox_empty(TIMEOUT).await;
    for received in events_received(&broker) {
        ledger.delivered_event(&serde_json::from_slice(&received.publish.payload).expect("JSON"));
    }
    ledger.assert_nothing_lost();
    ledger.assert_in_order();
    let last = events_received(&broker).into_iter().filter(|received| received.connection == 1);
    let resent: Vec<_> = last.map(|received| event_id(&received)).collect();
    assert_eq!(
        resent,
        event_ids("unacknowledged", 20),
        "the resend begins at the first unacknowledged event"
    );
    assert_eq!(broker.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_connection_to_an_unresponsive_broker_is_closed_and_replaced() {
    let (broker, service) = scripted_broker(&mqtt_3_1_1(&json!({ "ack_timeout_seconds": SHORTEST }))).await;
    broker.set_acks(Acks::Withhold);
    let _ = service.post_event(&event("a")).await.expect(202);
    wait_for_error(&service, "stalled").await;
    broker.set_acks(Acks::All);
    service.wait_until_delivered("a", TIMEOUT).await;

    broker.answer_pings(false);
    let quiet = mqtt_3_1_1(&json!({ "ack_timeout_seconds": SHORTEST, "keep_alive_seconds": 5 }));
    let _ = service.put_config(&settings(broker.port(), &quiet)).await.expect(200);
    service.wait_connected(TIMEOUT).await;
    wait_for_error(&service, "stalled").await;
}

#[tokio::test]
async fn a_frozen_broker_is_detected_and_nothing_is_lost() {
    let mut scene = Scene::with(&mqtt_3_1_1(&json!({ "ack_timeout_seconds": SHORTEST }))).await;
    let mut ledger = Ledger::new();
    submit_batch(&scene.service, &mut ledger, "before", 20).await;
    scene.broker.freeze();
    submit_batch(&scene.service, &mut ledger, "during", 200).await;
    wait_for_error(&scene.service, "stalled").await;
    scene.broker.thaw();
    scene.assert_all_arrive(&mut ledger).await;
}

#[tokio::test]
async fn the_client_does_not_limit_the_size_of_events_and_pictures() {
    let scene = Scene::with(&mqtt_3_1_1(&json!({}))).await;
    let mut ledger = Ledger::new();
    submit(&scene.service, &mut ledger, [large_event("large", 4_000)]).await;
    let picture = put_large_picture(&scene.service, "large", 1, 1_000_000).await;
    scene.assert_all_arrive(&mut ledger).await;
    let topic = "liveobject/camera/door/thumbnail";
    let has_picture = |messages: &[Message]| {
        messages.iter().any(|message| message.topic == topic && message.payload == picture)
    };
    scene.subscriber.wait_for(has_picture, "the picture", TIMEOUT).await;
}

#[tokio::test]
async fn offline_is_published_by_the_will_after_a_kill_and_by_the_service_on_a_clean_stop() {
    let mut scene = Scene::with(&mqtt_3_1_1(&json!({}))).await;
    let payloads = |messages: &[Message]| {
        let of_status = messages.iter().filter(|message| message.topic == "liveobject/status");
        of_status.map(Message::text).collect::<Vec<_>>()
    };
    scene.service.kill9().await;
    let count_reached = |count| move |messages: &[Message]| payloads(messages).len() >= count;
    scene.subscriber.wait_for(count_reached(2), "the will", TIMEOUT).await;
    scene.service.start().await;
    scene.service.wait_connected(TIMEOUT).await;
    scene.service.sigterm();
    assert_eq!(scene.service.wait().await, 0);
    let messages =
        scene.subscriber.wait_for(count_reached(4), "the message before the disconnect", TIMEOUT).await;
    assert_eq!(payloads(&messages), ["online", "offline", "online", "offline"]);
}

#[tokio::test]
async fn a_silently_dropped_message_is_detected_by_the_loopback_stage() {
    let broker = Mosquitto::builder().acl("topic read #").start().await;
    let service = service().start().await;
    let report = service
        .post(&format!("{MQTT}/test"), &settings(broker.port(), &mqtt_3_1_1(&json!({}))))
        .await
        .expect(200);
    let loopback = stage(&report, "loopback");
    assert_eq!((&report["success"], &loopback["ok"]), (&false.into(), &false.into()), "{report}");
    let detail = loopback["detail"].as_str().expect("a detail");
    assert!(detail.starts_with("not_authorized: ") && detail.contains("liveobject/test"), "{report}");
}

#[tokio::test]
async fn the_loopback_stage_is_inconclusive_without_a_subscription() {
    let (broker, service) = scripted_broker(&mqtt_3_1_1(&json!({}))).await;
    broker.grant_subscriptions(false);
    let mosquitto = Mosquitto::builder().acl("topic readwrite liveobject/#").start().await;
    for (port, ok) in [(mosquitto.port(), json!(true)), (broker.port(), Value::Null)] {
        let tested = settings(port, &mqtt_3_1_1(&json!({})));
        let report = service.post(&format!("{MQTT}/test"), &tested).await.expect(200);
        assert_eq!(report["success"], true, "{report}");
        assert_eq!(stage(&report, "loopback")["ok"], ok, "{report}");
    }
}

#[tokio::test]
async fn a_close_on_the_test_message_suggests_a_missing_permission() {
    let (broker, service) = scripted_broker(&mqtt_3_1_1(&json!({}))).await;
    broker.rule(Rule::topic("liveobject/test", Reply::Close));
    let tested = settings(broker.port(), &mqtt_3_1_1(&json!({})));
    let report = service.post(&format!("{MQTT}/test"), &tested).await.expect(200);
    let publish = stage(&report, "publish");
    assert_eq!(publish["ok"], false, "{report}");
    assert!(
        publish["detail"].as_str().is_some_and(|detail| detail.contains("this user not allowed")),
        "{report}"
    );
}

#[tokio::test]
async fn the_service_subscribes_to_home_assistants_birth_message_over_3_1_1() {
    let (broker, service) = scripted_broker(&mqtt_3_1_1(&json!({}))).await;
    let subscribed = |broker: &ScriptedBroker| {
        broker.subscriptions().iter().any(|(topic, ..)| topic == "homeassistant/status")
    };
    broker.wait_for("the subscription", TIMEOUT, subscribed).await;
    let connected = connected_service(broker.port(), &json!({ "protocol": "auto" })).await;
    assert_eq!(connected.status().await["protocol"], "5");
    assert_eq!(service.status().await["protocol"], "3.1.1", "both services use their own protocol version");
}
