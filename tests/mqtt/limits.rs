//! Limits that a broker announces, and that the service respects.

use liveobject_test_support::{Acks, Ledger, Mosquitto, ScriptedBroker, Service, Subscriber, mqtt5::ConnAck};
use serde_json::{Value, json};

use crate::helpers::{
    TIMEOUT, assert_metrics, connect, connected_service, event, event_id, event_ids, events_received,
    large_event, logged, service, submit, submit_batch, wait_for_dead, wait_for_event, wait_for_ids,
    warnings,
};

async fn connected_with_limits(connack: ConnAck, other: &Value) -> (ScriptedBroker, Service) {
    let broker = ScriptedBroker::start().await;
    broker.set_connack(connack);
    let service = connected_service(broker.port(), other).await;
    (broker, service)
}

#[tokio::test]
async fn events_in_flight_do_not_exceed_the_receive_maximum() {
    for (qos, receive_maximum) in [(1, 1), (1, 5), (2, 3)] {
        let connack = ConnAck { receive_maximum: Some(receive_maximum), ..ConnAck::default() };
        let (broker, mut service) = connected_with_limits(connack, &json!({ "qos": qos })).await;
        broker.set_acks(Acks::Withhold);
        let mut ledger = Ledger::new();
        submit_batch(&service, &mut ledger, "e", 60).await;
        let maximum = usize::from(receive_maximum);
        broker.wait_for("a full window", TIMEOUT, |broker| broker.withheld() == maximum).await;
        let status = service.status().await;
        assert_eq!(
            (&status["outbox"]["in_flight"], &status["outbox"]["pending"]),
            (&maximum.into(), &60.into())
        );
        broker.set_acks(Acks::All);
        service.wait_outbox_empty(TIMEOUT).await;
        assert_eq!(events_received(&broker).iter().map(event_id).collect::<Vec<_>>(), event_ids("e", 60));
        service.sigterm();
        assert_eq!(service.wait().await, 0);
        assert_eq!(broker.violations(), [""; 0], "receive maximum {receive_maximum}");
    }
}

#[tokio::test]
async fn events_in_flight_do_not_exceed_the_window() {
    let broker = ScriptedBroker::start().await;
    let service = service().env("LIVEOBJECT__OUTBOX__WINDOW", 7).start().await;
    connect(&service, broker.port(), &json!({})).await;
    broker.set_acks(Acks::Withhold);
    let mut ledger = Ledger::new();
    submit_batch(&service, &mut ledger, "e", 60).await;
    // States are withheld too, but only events count towards the window.
    broker.wait_for("a full window", TIMEOUT, |broker| events_received(broker).len() == 7).await;
    assert_metrics(
        &service,
        &[("liveobject_outbox_in_flight_events", 7.0), ("liveobject_outbox_pending_events", 60.0)],
    )
    .await;
    broker.set_acks(Acks::All);
    service.wait_outbox_empty(TIMEOUT).await;
    assert_eq!(events_received(&broker).len(), 60);
}

#[tokio::test]
async fn an_event_above_the_maximum_packet_size_becomes_dead_and_the_connection_stays_up() {
    let connack = ConnAck { maximum_packet_size: Some(1000), ..ConnAck::default() };
    let (broker, service) = connected_with_limits(connack, &json!({})).await;
    let mut ledger = Ledger::new();
    submit(&service, &mut ledger, [event("a"), large_event("large", 1000), event("b")]).await;
    service.wait_outbox_empty(TIMEOUT).await;
    let dead = &wait_for_dead(&service, 1).await[0];
    assert_eq!(
        (&dead["event_id"], &dead["delivery"]["reason"]),
        (&"large".into(), &"packet_too_large".into())
    );
    assert_metrics(&service, &[("liveobject_events_dead_total{reason=\"packet_too_large\"}", 1.0)]).await;
    assert_eq!(events_received(&broker).iter().map(event_id).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((broker.connects().len(), broker.violations()), (1, vec![]));
}

#[tokio::test]
async fn an_event_above_the_maximum_packet_size_of_a_real_broker_becomes_dead() {
    let broker = Mosquitto::builder().max_packet_size(1000).start().await;
    let subscriber = Subscriber::start(broker.port()).await;
    let service = connected_service(broker.port(), &json!({})).await;
    let mut ledger = Ledger::new();
    submit(&service, &mut ledger, [event("a"), large_event("large", 1000), event("b")]).await;
    wait_for_event(&subscriber, "b").await;
    assert_eq!(wait_for_dead(&service, 1).await[0]["delivery"]["reason"], "packet_too_large");
    assert_metrics(&service, &[("mqtt_reconnect_attempts_total", 0.0)]).await;
}

#[tokio::test]
async fn events_are_sent_with_the_highest_qos_that_the_broker_supports() {
    for (maximum, warned) in [(Some(0), true), (Some(1), true), (None, false)] {
        let connack = ConnAck { maximum_qos: maximum, ..ConnAck::default() };
        let (broker, service) = connected_with_limits(connack, &json!({ "qos": 2 })).await;
        let _ = service.post_event(&event("a")).await.expect(202);
        service.wait_until_delivered("a", TIMEOUT).await;
        let received = wait_for_ids(&broker, &["a".to_owned()]).await;
        assert_eq!(received[0].publish.qos, maximum.unwrap_or(2));
        let status = service.status().await;
        assert_eq!(warnings(&status).contains(&"qos_lowered"), warned, "{status}");
        assert_eq!(logged(&service, "WARN").len(), usize::from(warned));
        assert_eq!(broker.violations(), [""; 0]);
    }
}

#[tokio::test]
async fn the_last_message_respects_the_brokers_limits_too() {
    let connack = ConnAck { maximum_qos: Some(0), retain_available: Some(false), ..ConnAck::default() };
    let (broker, mut service) = connected_with_limits(connack, &json!({})).await;
    service.sigterm();
    assert_eq!(service.wait().await, 0);
    broker.wait_for("the end of the connection", TIMEOUT, |broker| broker.open() == 0).await;
    let received = broker.received();
    let last = &received.last().expect("a message").publish;
    assert_eq!((&last.payload[..], last.qos, last.retain), (b"offline".as_slice(), 0, false));
    assert_eq!(broker.violations(), [""; 0]);
}

#[tokio::test]
async fn a_broker_without_retained_messages_raises_a_warning_and_gets_events_without_retain() {
    let connack = ConnAck { retain_available: Some(false), ..ConnAck::default() };
    let (broker, service) = connected_with_limits(connack, &json!({ "retain_messages": true })).await;
    let _ = service.post_event(&event("a")).await.expect(202);
    service.wait_until_delivered("a", TIMEOUT).await;
    assert!(broker.received().iter().all(|received| !received.publish.retain));
    let status = service.status().await;
    assert_eq!(warnings(&status), ["retain_unavailable"], "{status}");
    assert_eq!(broker.violations(), [""; 0]);
}

async fn assert_uses_maximum_qos(qos: u8) {
    let broker = Mosquitto::builder().max_qos(qos).start().await;
    let subscriber = Subscriber::builder(broker.port()).qos(qos).start().await;
    let service = connected_service(broker.port(), &json!({ "qos": 2 })).await;
    let _ = service.post_event(&event("a")).await.expect(202);
    assert_eq!(wait_for_event(&subscriber, "a").await.qos, qos);
    let status = service.status().await;
    assert!(warnings(&status).contains(&"qos_lowered"), "{status}");
}

#[tokio::test]
async fn a_real_broker_limited_to_qos_1_gets_events_with_qos_1() {
    assert_uses_maximum_qos(1).await;
}

#[tokio::test]
async fn a_real_broker_limited_to_qos_0_gets_events_with_qos_0() {
    assert_uses_maximum_qos(0).await;
}

#[tokio::test]
async fn a_real_broker_without_retained_messages_gets_events() {
    let broker = Mosquitto::builder().line("retain_available false").start().await;
    let subscriber = Subscriber::start(broker.port()).await;
    let service = connected_service(broker.port(), &json!({ "retain_messages": true })).await;
    let _ = service.post_event(&event("a")).await.expect(202);
    wait_for_event(&subscriber, "a").await;
    let status = service.status().await;
    assert_eq!(warnings(&status), ["retain_unavailable"], "{status}");
}
