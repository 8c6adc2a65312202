//! QoS, retain and expiry, as they are on the wire.

use std::time::Duration;

use liveobject_test_support::{Mosquitto, Service, Subscriber, wait_until};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::helpers::{
    SOON, assert_metrics, connect, connected, event, event_id, events_received, ids, scripted, service,
    settings, wait_for_event, wait_for_ids,
};

const DOOR: &str = "liveobject/camera/door/event";

async fn disable(service: &Service, port: u16, other: &Value) {
    let mut settings = settings(port, other);
    settings["enabled"] = false.into();
    let _ = service.put_config(&settings).await.expect(200);
}

#[tokio::test]
async fn each_qos_is_seen_by_a_subscriber_and_its_events_are_delivered() {
    // This broker delivers with the QoS that was published, as the subscriber takes them all.
    let broker = Mosquitto::start().await;
    let subscriber = Subscriber::start(broker.port()).await;
    let service = service().start().await;
    for qos in [0, 1, 2] {
        connect(&service, broker.port(), &json!({ "qos": qos })).await;
        let id = format!("qos-{qos}");
        let _ = service.post_event(&event(&id)).await.expect(202);
        assert_eq!(wait_for_event(&subscriber, &id).await.qos, qos);
        service.wait_until_delivered(&id, SOON).await;
    }
    assert_metrics(&service, &[("mqtt_messages_published_total", 3.0)]).await;
}

#[tokio::test]
async fn qos_and_retain_are_those_of_the_moment_of_sending() {
    let (broker, service) = scripted(&json!({ "qos": 0, "retain_messages": false })).await;
    disable(&service, broker.port(), &json!({ "qos": 0, "retain_messages": false })).await;
    let _ = service.post_event(&event("a")).await.expect(202);
    connect(&service, broker.port(), &json!({ "qos": 2, "retain_messages": true })).await;
    service.wait_until_delivered("a", SOON).await;
    connect(&service, broker.port(), &json!({ "qos": 0, "retain_messages": false })).await;
    let _ = service.post_event(&event("b")).await.expect(202);
    service.wait_until_delivered("b", SOON).await;
    let received = wait_for_ids(&broker, &["a".to_owned(), "b".to_owned()]).await;
    let seen: Vec<_> =
        received.iter().map(|one| (event_id(one), one.publish.qos, one.publish.retain)).collect();
    assert_eq!(seen, [("a".to_owned(), 2, true), ("b".to_owned(), 0, false)]);
    assert_eq!(broker.violations(), [""; 0]);
}

#[tokio::test]
async fn a_retained_event_is_there_for_a_subscriber_that_comes_later() {
    let broker = Mosquitto::start().await;
    let service = connected(broker.port(), &json!({ "retain_messages": true })).await;
    let _ = service.post_event(&event("kept")).await.expect(202);
    service.wait_until_delivered("kept", SOON).await;
    let subscriber = Subscriber::start(broker.port()).await;
    assert!(wait_for_event(&subscriber, "kept").await.retain);
    assert_eq!(subscriber.on(DOOR).len(), 1);
}

#[tokio::test]
async fn message_expiry_counts_from_acceptance() {
    let expiring = json!({ "message_expiry_seconds": 60 });
    let (broker, service) = scripted(&expiring).await;
    disable(&service, broker.port(), &expiring).await;
    let accepted = Instant::now();
    let _ = service.post_event(&event("waited")).await.expect(202);
    let two_seconds = async || accepted.elapsed() > Duration::from_millis(2100);
    wait_until("two seconds have passed", SOON, two_seconds).await;
    let _ = service.post_event(&event("fresh")).await.expect(202);
    connect(&service, broker.port(), &expiring).await;
    let received = wait_for_ids(&broker, &["waited".to_owned(), "fresh".to_owned()]).await;
    let (waited, fresh) = (received[0].publish.message_expiry, received[1].publish.message_expiry);
    let waited = waited.expect("the event that waited expires");
    let fresh = fresh.expect("the fresh event expires");
    assert!((40..=58).contains(&waited), "{waited} s left");
    assert!(fresh <= 60 && fresh >= waited + 2, "{fresh} s left, and {waited} s for the one that waited");
    let status = broker.received().into_iter().find(|one| one.publish.topic == "liveobject/status");
    assert_eq!(status.expect("a status").publish.message_expiry, None, "state does not expire");
}

#[tokio::test]
async fn without_an_expiry_no_message_has_one() {
    let (broker, service) = scripted(&json!({})).await;
    let _ = service.post_event(&event("a")).await.expect(202);
    wait_for_ids(&broker, &ids("a", 0)).await;
    broker.wait_for("the event", SOON, |broker| !events_received(broker).is_empty()).await;
    assert_eq!(events_received(&broker)[0].publish.message_expiry, None);
}
