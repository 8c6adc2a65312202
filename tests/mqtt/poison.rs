//! Events that make the broker end the connection each time they are sent.

use std::time::Duration;

use liveobject_test_support::{
    Ledger, Mosquitto, Proxy, Reply, Rule, ScriptedBroker, Service, Subscriber, wait_until,
};
use serde_json::{Value, json};

use crate::helpers::{
    LONG_TIMEOUT, assert_all_arrive, assert_metrics, connected_service, delivery, event, event_id, event_ids,
    events_received, large_event, settings, submit, wait_for_error,
};

/// How long a connection must last to count as stable. A poison message is sent, and ends the connection,
/// well within this time.
const STABLE_AFTER: Duration = Duration::from_secs(1);

/// Skips the wait before the next attempt by applying settings, which makes the service connect at once.
async fn skip_wait(service: &Service, port: u16) {
    if service.status().await["state"] == "waiting" {
        let _ = service.put_config(&settings(port, &json!({}))).await.expect(200);
    }
}

/// Waits until a connection is stable, regardless of what ended the earlier ones.
async fn skip_waits_until_stable(service: &Service, port: u16) {
    let is_stable = async || {
        skip_wait(service, port).await;
        let connected = async || {
            let status = service.status().await;
            (status["state"] == "connected").then(|| status["last_connected_at"].clone())
        };
        let since = connected().await;
        tokio::time::sleep(STABLE_AFTER).await;
        since.is_some() && since == connected().await
    };
    wait_until("a connection stays open", LONG_TIMEOUT, is_stable).await;
}

/// Waits until the event is dead and the next connection attempt has begun.
async fn skip_waits_until_dead(service: &Service, port: u16, event_id: &str) {
    let is_dead = async || {
        skip_wait(service, port).await;
        delivery(service, event_id).await["state"] == "dead"
    };
    wait_until("the event that breaks every connection is dead", LONG_TIMEOUT, is_dead).await;
    skip_wait(service, port).await;
}

fn with_neighbors(poison: Value) -> Vec<Value> {
    let mut events: Vec<_> = event_ids("e", 6).iter().map(|id| event(id)).collect();
    events.insert(3, poison);
    events
}

#[tokio::test]
async fn an_event_above_a_real_brokers_size_limit_does_not_block_the_others() {
    let broker = Mosquitto::builder().message_size_limit(1000).upgrade_outgoing_qos().start().await;
    let subscriber = Subscriber::start(broker.port()).await;
    let service = connected_service(broker.port(), &json!({})).await;
    let mut ledger = Ledger::new();
    submit(&service, &mut ledger, with_neighbors(large_event("poison", 1000))).await;
    wait_for_error(&service, "protocol").await;
    skip_waits_until_dead(&service, broker.port(), "poison").await;
    assert_eq!(delivery(&service, "poison").await["reason"], "refused_repeatedly");
    ledger.dead(4);
    // The discovery message of the camera exceeds the limit too.
    skip_waits_until_stable(&service, broker.port()).await;
    assert_all_arrive(&service, &[&subscriber], &mut ledger).await;
    assert_metrics(&service, &[("events_dead_total{reason=\"refused_repeatedly\"}", 1.0)]).await;
}

#[tokio::test]
async fn a_state_above_a_real_brokers_size_limit_causes_no_dead_event() {
    let broker = Mosquitto::builder().message_size_limit(1000).upgrade_outgoing_qos().start().await;
    let subscriber = Subscriber::start(broker.port()).await;
    let service = connected_service(broker.port(), &json!({})).await;
    let mut ledger = Ledger::new();
    let events: Vec<_> = event_ids("e", 6).iter().map(|id| event(id)).collect();
    submit(&service, &mut ledger, events).await;
    wait_for_error(&service, "protocol").await;
    skip_waits_until_stable(&service, broker.port()).await;
    assert_all_arrive(&service, &[&subscriber], &mut ledger).await;
    assert_eq!(service.status().await["outbox"]["dead"], 0);
    let blamed =
        |line: &Value| line["message"].as_str().is_some_and(|text| text.contains("because of this message"));
    let topics: Vec<_> =
        service.log_lines().into_iter().filter(blamed).map(|line| line["topic"].clone()).collect();
    assert!(topics.contains(&json!("homeassistant/device/liveobject_door/config")), "{topics:?}");
    // The connection still carries messages that are small enough.
    submit(&service, &mut ledger, [event("later")]).await;
    assert_all_arrive(&service, &[&subscriber], &mut ledger).await;
}

/// Tests that the other events are delivered if a broker replies to the poison event like this.
async fn assert_others_are_delivered(reply: Reply) {
    let broker = ScriptedBroker::start().await;
    broker.rule(Rule::event("poison", reply));
    let service = connected_service(broker.port(), &json!({})).await;
    let mut ledger = Ledger::new();
    submit(&service, &mut ledger, with_neighbors(event("poison"))).await;
    skip_waits_until_dead(&service, broker.port(), "poison").await;
    service.wait_outbox_empty(LONG_TIMEOUT).await;
    for id in event_ids("e", 6) {
        service.wait_until_delivered(&id, LONG_TIMEOUT).await;
    }
    let poison = events_received(&broker).iter().filter(|received| event_id(received) == "poison").count();
    assert!((5..=7).contains(&poison), "sent {poison} times");
}

#[tokio::test]
async fn an_unknown_reason_code_is_eventually_attributed_to_the_event() {
    assert_others_are_delivered(Reply::Reason(0x95)).await;
}

#[tokio::test]
async fn repeated_disconnects_are_eventually_attributed_to_the_event() {
    assert_others_are_delivered(Reply::Disconnect(0x95)).await;
}

#[tokio::test]
async fn a_broker_that_closes_connections_for_a_while_causes_no_dead_event() {
    let broker = ScriptedBroker::start().await;
    broker.rule(Rule::event("e-1", Reply::Close).times(8));
    let service = connected_service(broker.port(), &json!({})).await;
    let mut ledger = Ledger::new();
    submit(&service, &mut ledger, [event("e-1")]).await;
    let delivered = async || {
        skip_wait(&service, broker.port()).await;
        delivery(&service, "e-1").await["state"] == "delivered"
    };
    wait_until("the event is delivered", LONG_TIMEOUT, delivered).await;
    assert_eq!(events_received(&broker).len(), 9);
    assert_eq!(service.status().await["outbox"]["dead"], 0);
}

#[tokio::test]
async fn a_network_that_resets_connections_for_a_while_causes_no_dead_event() {
    let broker = ScriptedBroker::start().await;
    broker.rule(Rule::event("e-1", Reply::Withhold).times(8));
    let proxy = Proxy::start(broker.port()).await;
    let service = connected_service(proxy.port(), &json!({})).await;
    let mut ledger = Ledger::new();
    submit(&service, &mut ledger, [event("e-1")]).await;
    for times in 1..=8 {
        let sent = |broker: &ScriptedBroker| events_received(broker).len() == times;
        broker.wait_for(&format!("the event, {times} times"), LONG_TIMEOUT, sent).await;
        proxy.reset().await;
        let is_waiting = |status: &Value| status["state"] == "waiting";
        let status = service.wait_status("the connection is lost", LONG_TIMEOUT, is_waiting).await;
        assert_eq!(status["last_error"]["kind"], "closed", "{status}");
        skip_wait(&service, proxy.port()).await;
    }
    service.wait_until_delivered("e-1", LONG_TIMEOUT).await;
    assert_eq!(service.status().await["outbox"]["dead"], 0);
}
