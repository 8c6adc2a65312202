//! QoS, retain and expiry on the wire.

use std::time::Duration;

use liveobject_test_support::{Mosquitto, Subscriber, wait_until};
use serde_json::json;
use tokio::time::Instant;

use crate::helpers::{
    TIMEOUT, assert_metrics, connect, connected_service, disable, event, event_id, event_ids,
    events_received, scripted_broker, service, wait_for_event, wait_for_ids,
};

/// Long enough to shorten the expiry of an event that waited by at least two whole seconds.
const WAIT: Duration = Duration::from_millis(2100);

const DOOR: &str = "liveobject/camera/door/event";

#[tokio::test]
async fn events_are_delivered_with_each_qos() {
    // This broker delivers with the QoS of the publisher, since the subscriber accepts every QoS.
    let broker = Mosquitto::start().await;
    let subscriber = Subscriber::start(broker.port()).await;
    let service = service().start().await;
    for qos in [0, 1, 2] {
        connect(&service, broker.port(), &json!({ "qos": qos })).await;
        let id = format!("qos-{qos}");
        let _ = service.post_event(&event(&id)).await.expect(202);
        assert_eq!(wait_for_event(&subscriber, &id).await.qos, qos);
        service.wait_until_delivered(&id, TIMEOUT).await;
    }
    assert_metrics(&service, &[("mqtt_messages_published_total", 3.0)]).await;
}

#[tokio::test]
async fn qos_and_retain_follow_the_settings_at_the_time_of_sending() {
    let (broker, service) = scripted_broker(&json!({ "qos": 0, "retain_messages": false })).await;
    disable(&service, broker.port(), &json!({ "qos": 0, "retain_messages": false })).await;
    let _ = service.post_event(&event("a")).await.expect(202);
    connect(&service, broker.port(), &json!({ "qos": 2, "retain_messages": true })).await;
    service.wait_until_delivered("a", TIMEOUT).await;
    connect(&service, broker.port(), &json!({ "qos": 0, "retain_messages": false })).await;
    let _ = service.post_event(&event("b")).await.expect(202);
    service.wait_until_delivered("b", TIMEOUT).await;
    let received = wait_for_ids(&broker, &["a".to_owned(), "b".to_owned()]).await;
    let received: Vec<_> =
        received.iter().map(|event| (event_id(event), event.publish.qos, event.publish.retain)).collect();
    assert_eq!(received, [("a".to_owned(), 2, true), ("b".to_owned(), 0, false)]);
    assert_eq!(broker.violations(), [""; 0]);
}

#[tokio::test]
async fn a_retained_event_reaches_later_subscribers() {
    let broker = Mosquitto::start().await;
    let service = connected_service(broker.port(), &json!({ "retain_messages": true })).await;
    let _ = service.post_event(&event("kept")).await.expect(202);
    service.wait_until_delivered("kept", TIMEOUT).await;
    let subscriber = Subscriber::start(broker.port()).await;
    assert!(wait_for_event(&subscriber, "kept").await.retain);
    assert_eq!(subscriber.on(DOOR).len(), 1);
}

#[tokio::test]
async fn the_message_expiry_counts_from_acceptance() {
    let expiring = json!({ "message_expiry_seconds": 60 });
    let (broker, service) = scripted_broker(&expiring).await;
    disable(&service, broker.port(), &expiring).await;
    let accepted = Instant::now();
    let _ = service.post_event(&event("waited")).await.expect(202);
    let waited = async || accepted.elapsed() > WAIT;
    wait_until("the first event has waited", TIMEOUT, waited).await;
    let _ = service.post_event(&event("fresh")).await.expect(202);
    connect(&service, broker.port(), &expiring).await;
    let received = wait_for_ids(&broker, &["waited".to_owned(), "fresh".to_owned()]).await;
    let (waited, fresh) = (received[0].publish.message_expiry, received[1].publish.message_expiry);
    let waited = waited.expect("the event that waited expires");
    let fresh = fresh.expect("the fresh event expires");
    assert!((40..=58).contains(&waited), "{waited} s left");
    assert!(fresh <= 60 && fresh >= waited + 2, "{fresh} s left, and {waited} s for the one that waited");
    let status = broker.received().into_iter().find(|message| message.publish.topic == "liveobject/status");
    assert_eq!(status.expect("a status").publish.message_expiry, None, "states must not expire");
}

#[tokio::test]
async fn without_the_setting_no_message_has_an_expiry() {
    let (broker, service) = scripted_broker(&json!({})).await;
    let _ = service.post_event(&event("a")).await.expect(202);
    wait_for_ids(&broker, &event_ids("a", 0)).await;
    broker.wait_for("the event", TIMEOUT, |broker| !events_received(broker).is_empty()).await;
    assert_eq!(events_received(&broker)[0].publish.message_expiry, None);
}
