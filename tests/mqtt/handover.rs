//! What the service has handed to its MQTT client can no longer be changed: it must not wait there.

use std::time::{Duration, SystemTime};

use liveobject_test_support::{
    Acks, Ledger, Mosquitto, Proxy, Reply, Rule, ScriptedBroker, mqtt5::ConnAck, scripted::Received,
    wait_until,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::helpers::{
    LONG_TIMEOUT, Retained, SHORTEST, TIMEOUT, connect, connected_service, event, event_id, event_ids,
    events_received, metric, put_large_picture, submit, submit_batch, time, wait_for_ids,
};

/// How long the slow broker takes for an event.
const SLOW: Duration = Duration::from_millis(500);

/// How long the slow broker is slow: twice the age at which an event is late.
const SLOW_FOR: Duration = Duration::from_secs(2 * SHORTEST + 2);

/// Returns how old an event was when the broker received it.
fn age(received: &Received) -> Duration {
    let event: Value = serde_json::from_slice(&received.publish.payload).expect("an event is JSON");
    received.at.duration_since(SystemTime::from(time(&event["timestamp"]))).unwrap_or_default()
}

async fn assert_nothing_old_on_the_live_topic(receive_maximum: u16) {
    let broker = ScriptedBroker::start().await;
    broker.set_connack(ConnAck { receive_maximum: Some(receive_maximum), ..ConnAck::default() });
    let service = connected_service(broker.port(), &json!({ "late_after_seconds": SHORTEST })).await;
    let mut ledger = Ledger::new();
    submit_batch(&service, &mut ledger, "quick", 200).await;
    wait_for_ids(&broker, &event_ids("quick", 100)).await;
    broker.set_acks(Acks::Withhold);
    submit_batch(&service, &mut ledger, "slow", 80).await;
    let start = Instant::now();
    while start.elapsed() < SLOW_FOR {
        sleep(SLOW).await;
        broker.release_one();
    }
    broker.set_acks(Acks::All);
    service.wait_outbox_empty(LONG_TIMEOUT).await;
    let bound = Duration::from_secs(SHORTEST + 1);
    let events = events_received(&broker);
    let is_live = |received: &&Received| received.publish.topic.ends_with("/event");
    let old: Vec<_> = events.iter().filter(is_live).map(age).filter(|age| *age > bound).collect();
    assert!(old.is_empty(), "Receive Maximum {receive_maximum}: {old:?} on the live topic");
    if receive_maximum < 80 {
        assert!(events.iter().any(|received| !is_live(&received)), "some are late");
    }
    assert_eq!(broker.violations(), [""; 0]);
}

#[tokio::test]
async fn a_broker_that_becomes_slow_gets_no_old_event_on_the_live_topic() {
    tokio::join!(
        assert_nothing_old_on_the_live_topic(1),
        assert_nothing_old_on_the_live_topic(20),
        assert_nothing_old_on_the_live_topic(65_535),
    );
}

#[tokio::test]
async fn an_event_that_has_not_left_does_not_overtake_a_deferred_one() {
    let broker = ScriptedBroker::start().await;
    broker.set_connack(ConnAck { receive_maximum: Some(20), ..ConnAck::default() });
    broker.rule(Rule::event("e-100", Reply::Reason(0x97)).times(1));
    let service = connected_service(broker.port(), &json!({})).await;
    let mut ledger = Ledger::new();
    submit_batch(&service, &mut ledger, "e", 500).await;
    service.wait_outbox_empty(LONG_TIMEOUT).await;
    let sent: Vec<_> = events_received(&broker).iter().map(event_id).collect();
    let places: Vec<_> = sent.iter().enumerate().filter(|(_, id)| *id == "e-100").map(|(i, _)| i).collect();
    let [first, second] = places[..] else { panic!("sent {} times", places.len()) };
    // What was in flight when the broker deferred the event has left.
    assert!(second - first <= 20, "overtaken by {}", second - first - 1);
    assert_eq!(sent[second + 1..].len(), 500 - second, "{sent:?}");
}

#[tokio::test]
async fn a_picture_on_a_slow_line_is_sent_once_and_the_connection_stays() {
    let broker = Mosquitto::start().await;
    let proxy = Proxy::start(broker.port()).await;
    for protocol in ["5", "3.1.1"] {
        proxy.throttle(None);
        let service = crate::helpers::service().start().await;
        let patience = json!({ "ack_timeout_seconds": SHORTEST, "protocol": protocol });
        connect(&service, proxy.port(), &patience).await;
        let mut ledger = Ledger::new();
        submit(&service, &mut ledger, [event("with-picture")]).await;
        service.wait_until_delivered("with-picture", TIMEOUT).await;
        proxy.throttle(Some(50 * 1024));
        let picture = put_large_picture(&service, "with-picture", 1, 1_000_000).await;
        Retained::wait_within(LONG_TIMEOUT, broker.port(), "the picture", |retained| {
            retained.get("liveobject/camera/door/thumbnail") == Some(&picture)
        })
        .await;
        let reconnects = metric(&service, "mqtt_reconnect_attempts_total").await;
        assert!(reconnects < 0.5, "{reconnects} reconnects with {protocol}");
    }
}

#[tokio::test]
async fn a_picture_on_a_slow_line_delays_an_event_by_a_bounded_time() {
    let broker = Mosquitto::start().await;
    let proxy = Proxy::start(broker.port()).await;
    let service = connected_service(proxy.port(), &json!({ "ack_timeout_seconds": 15 })).await;
    let mut ledger = Ledger::new();
    submit(&service, &mut ledger, [event("with-picture")]).await;
    service.wait_until_delivered("with-picture", TIMEOUT).await;
    proxy.throttle(Some(20 * 1024));
    put_large_picture(&service, "with-picture", 1, 2_000_000).await;
    sleep(Duration::from_secs(2)).await;
    submit(&service, &mut ledger, [event("urgent")]).await;
    service.wait_until_delivered("urgent", LONG_TIMEOUT).await;
    let left_out = async || {
        let status = service.status().await;
        let warnings = status["warnings"].as_array().expect("a list");
        warnings.iter().any(|warning| {
            let message = warning["message"].as_str().expect("a message");
            warning["kind"] == "messages_left_out" && message.contains("thumbnail")
        })
    };
    wait_until("the picture is left out", TIMEOUT, left_out).await;
    submit(&service, &mut ledger, [event("later")]).await;
    service.wait_until_delivered("later", TIMEOUT).await;
    let reconnects = metric(&service, "mqtt_reconnect_attempts_total").await;
    assert!((0.5..1.5).contains(&reconnects), "{reconnects} reconnects");
}
