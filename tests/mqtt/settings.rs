//! New settings take effect at once, and no event is lost.

use liveobject_test_support::{Acks, Ledger, Message, ScriptedBroker, Subscriber};
use serde_json::{Value, json};

use crate::helpers::{
    Scene, Stream, TIMEOUT, assert_all_arrive, assert_metrics, connect, connected_service, disable, event,
    event_ids, logged, scripted_broker, settings, submit_batch, wait_for_event, wait_for_ids,
};

#[tokio::test]
async fn changing_the_prefix_and_qos_under_load_loses_nothing() {
    let scene = Scene::start().await;
    let port = scene.broker.port();
    let stream = Stream::start(&scene.service);
    for other in [
        json!({ "topic_prefix": "house/a" }),
        json!({ "topic_prefix": "house/a", "qos": 2 }),
        json!({ "topic_prefix": "house/b", "qos": 2, "client_id": "another" }),
    ] {
        stream.wait_for_more(50).await;
        connect(&scene.service, port, &other).await;
    }
    stream.wait_for_more(50).await;
    let mut ledger = stream.stop().await;
    scene.assert_all_arrive(&mut ledger).await;
    assert!(ledger.unconfirmed().is_empty(), "{}", ledger.summary());
    for prefix in ["liveobject", "house/a", "house/b"] {
        assert!(!scene.subscriber.on(&format!("{prefix}/camera/door/event")).is_empty(), "{prefix}");
    }
    // The service clears the retained status below an old prefix some time after it has published `offline`.
    let last = |topic: &str| {
        let messages = scene.subscriber.on(topic);
        messages.iter().rev().map(Message::text).find(|text| !text.is_empty())
    };
    assert_eq!(last("liveobject/status").as_deref(), Some("offline"));
    assert_eq!(last("house/a/status").as_deref(), Some("offline"));
    assert_eq!(last("house/b/status").as_deref(), Some("online"));
    assert_eq!(logged(&scene.service, "WARN"), Vec::<Value>::new());
}

#[tokio::test]
async fn switching_to_another_broker_under_load_loses_nothing() {
    let old = Scene::start().await;
    let new = Scene::start().await;
    let stream = Stream::start(&old.service);
    stream.wait_for_more(100).await;
    connect(&old.service, new.broker.port(), &json!({})).await;
    stream.wait_for_more(100).await;
    let mut ledger = stream.stop().await;
    assert_all_arrive(&old.service, &[&old.subscriber, &new.subscriber], &mut ledger).await;
    assert!(!old.subscriber.events().is_empty() && !new.subscriber.events().is_empty());
    let status = old.subscriber.on("liveobject/status");
    assert_eq!(status.iter().map(Message::text).collect::<Vec<_>>(), ["online", "offline"]);
}

#[tokio::test]
async fn offline_is_published_to_the_old_broker_before_the_new_one_is_connected() {
    let (old, service) = scripted_broker(&json!({})).await;
    let new = ScriptedBroker::start().await;
    old.set_acks(Acks::Withhold);
    let _ = service.put_config(&settings(new.port(), &json!({}))).await.expect(200);
    let offline = |broker: &ScriptedBroker| {
        broker.received().last().is_some_and(|received| received.publish.payload == "offline")
    };
    old.wait_for("offline", TIMEOUT, offline).await;
    assert!(new.connects().is_empty(), "the old broker has not acknowledged yet");
    old.set_acks(Acks::All);
    new.wait_for("online", TIMEOUT, |broker| !broker.received().is_empty()).await;
    assert_eq!(old.disconnects(), [0]);
    let online = &new.received()[0].publish;
    assert_eq!((online.topic.as_str(), &online.payload[..]), ("liveobject/status", b"online".as_slice()));
}

#[tokio::test]
async fn disabling_the_connection_ends_it_cleanly_and_events_stay_pending() {
    let (broker, service) = scripted_broker(&json!({})).await;
    disable(&service, broker.port(), &json!({})).await;
    broker.wait_for("the end of the connection", TIMEOUT, |broker| broker.open() == 0).await;
    assert_eq!(broker.disconnects(), [0]);
    assert_eq!(&broker.received().last().expect("a message").publish.payload[..], b"offline");
    let disabled = |status: &Value| status["state"] == "disabled" && status["connected"] == false;
    let status = service.wait_status("disabled", TIMEOUT, disabled).await;
    assert_eq!((&status["last_error"], &status["next_attempt_at"]), (&Value::Null, &Value::Null));
    assert_metrics(&service, &[("mqtt_connection_status", 0.0)]).await;
    let mut ledger = Ledger::new();
    submit_batch(&service, &mut ledger, "e", 5).await;
    assert_eq!(service.status().await["outbox"]["pending"], 5);
    connect(&service, broker.port(), &json!({})).await;
    service.wait_outbox_empty(TIMEOUT).await;
    assert_eq!(broker.connects().len(), 2);
}

#[tokio::test]
async fn events_in_flight_during_a_settings_change_are_sent_again() {
    let (old, service) = scripted_broker(&json!({})).await;
    old.set_acks(Acks::Withhold);
    let mut ledger = Ledger::new();
    submit_batch(&service, &mut ledger, "e", 20).await;
    wait_for_ids(&old, &event_ids("e", 20)).await;
    let new = Scene::start().await;
    connect(&service, new.broker.port(), &json!({})).await;
    assert_all_arrive(&service, &[&new.subscriber], &mut ledger).await;
    assert_eq!(ledger.duplicates(), 0, "{}", ledger.summary());
}

#[tokio::test]
async fn settings_survive_a_kill() {
    let scene = Scene::start().await;
    let other = json!({ "topic_prefix": "house", "qos": 2, "username": "camera", "password": "secret" });
    let mut service = connected_service(scene.broker.port(), &other).await;
    service.kill9().await;
    service.start().await;
    service.wait_connected(TIMEOUT).await;
    let _ = service.post_event(&event("a")).await.expect(202);
    assert_eq!(wait_for_event(&scene.subscriber, "a").await.topic, "house/camera/door/event");
}

#[tokio::test]
async fn the_initial_settings_come_from_the_configuration_file() {
    let scene = Scene::start().await;
    let port = scene.broker.port();
    let config = format!(
        "[mqtt]\nenabled = true\nbroker_host = \"127.0.0.1\"\nbroker_port = {port}\ntopic_prefix = \"file\"\n"
    );
    let service = crate::helpers::service().config(&config).start().await;
    service.wait_connected(TIMEOUT).await;
    let subscriber = Subscriber::builder(port).client_id("second").filter("file/#").start().await;
    let _ = service.post_event(&event("a")).await.expect(202);
    wait_for_event(&subscriber, "a").await;
}
