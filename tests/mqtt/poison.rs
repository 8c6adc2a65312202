//! An event that makes the broker end the connection, each time it is sent.

use std::time::Duration;

use liveobject_test_support::{
    Ledger, Mosquitto, Proxy, Reply, Rule, ScriptedBroker, Service, Subscriber, wait_until,
};
use serde_json::{Value, json};

use crate::helpers::{
    LATER, accept, assert_metrics, connected, delivery, event, event_id, events_received, ids, large_event,
    settings, settle, wait_for_error,
};

/// Saves the test the wait before the next attempt: settings that are put in force connect at once.
async fn hurry(service: &Service, port: u16) {
    if service.status().await["state"] == "waiting" {
        let _ = service.put_config(&settings(port, &json!({}))).await.expect(200);
    }
}

/// Waits until a connection stays, whatever ended the ones before.
async fn hurry_until_it_stays(service: &Service, port: u16) {
    let stays = async || {
        hurry(service, port).await;
        let connected = async || {
            let status = service.status().await;
            (status["state"] == "connected").then(|| status["last_connected_at"].clone())
        };
        let since = connected().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        since.is_some() && since == connected().await
    };
    wait_until("a connection stays", LATER, stays).await;
}

/// Waits until the event is dead and the next connection is under way.
async fn hurry_until_dead(service: &Service, port: u16, event_id: &str) {
    let is_dead = async || {
        hurry(service, port).await;
        delivery(service, event_id).await["state"] == "dead"
    };
    wait_until("the event that breaks every connection is dead", LATER, is_dead).await;
    hurry(service, port).await;
}

fn surrounded(poison: Value) -> Vec<Value> {
    let mut events: Vec<_> = ids("e", 6).iter().map(|id| event(id)).collect();
    events.insert(3, poison);
    events
}

#[tokio::test]
async fn an_event_above_a_real_brokers_size_limit_does_not_hold_up_the_others() {
    let broker = Mosquitto::builder().message_size_limit(1000).upgrade_outgoing_qos().start().await;
    let subscriber = Subscriber::start(broker.port()).await;
    let service = connected(broker.port(), &json!({})).await;
    let mut ledger = Ledger::new();
    accept(&service, &mut ledger, surrounded(large_event("poison", 1000))).await;
    wait_for_error(&service, "protocol").await;
    hurry_until_dead(&service, broker.port(), "poison").await;
    assert_eq!(delivery(&service, "poison").await["reason"], "refused_repeatedly");
    ledger.dead(4);
    // What Home Assistant is told of the camera is above the limit too.
    hurry_until_it_stays(&service, broker.port()).await;
    settle(&service, &[&subscriber], &mut ledger).await;
    ledger.assert_nothing_lost();
    ledger.assert_in_order();
    assert_metrics(&service, &[("events_dead_total{reason=\"refused_repeatedly\"}", 1.0)]).await;
}

#[tokio::test]
async fn a_state_above_a_real_brokers_size_limit_costs_no_event() {
    let broker = Mosquitto::builder().message_size_limit(1000).upgrade_outgoing_qos().start().await;
    let subscriber = Subscriber::start(broker.port()).await;
    let service = connected(broker.port(), &json!({})).await;
    let mut ledger = Ledger::new();
    let events: Vec<_> = ids("e", 6).iter().map(|id| event(id)).collect();
    accept(&service, &mut ledger, events).await;
    wait_for_error(&service, "protocol").await;
    hurry_until_it_stays(&service, broker.port()).await;
    settle(&service, &[&subscriber], &mut ledger).await;
    ledger.assert_nothing_lost();
    ledger.assert_in_order();
    assert_eq!(service.status().await["outbox"]["dead"], 0);
    let blamed =
        |line: &Value| line["message"].as_str().is_some_and(|text| text.contains("over this message"));
    let topics: Vec<_> =
        service.log_lines().into_iter().filter(blamed).map(|line| line["topic"].clone()).collect();
    assert!(topics.contains(&json!("homeassistant/device/liveobject_door/config")), "{topics:?}");
    // The connection is good for what is small enough.
    accept(&service, &mut ledger, [event("later")]).await;
    settle(&service, &[&subscriber], &mut ledger).await;
    ledger.assert_nothing_lost();
}

/// As above, with a broker that does this when the poison comes.
async fn poisoned(reply: Reply) {
    let broker = ScriptedBroker::start().await;
    broker.rule(Rule::event("poison", reply));
    let service = connected(broker.port(), &json!({})).await;
    let mut ledger = Ledger::new();
    accept(&service, &mut ledger, surrounded(event("poison"))).await;
    hurry_until_dead(&service, broker.port(), "poison").await;
    service.wait_outbox_empty(LATER).await;
    for id in ids("e", 6) {
        service.wait_until_delivered(&id, LATER).await;
    }
    let poison = events_received(&broker).iter().filter(|one| event_id(one) == "poison").count();
    assert!((5..=7).contains(&poison), "sent {poison} times");
}

#[tokio::test]
async fn an_answer_that_mqtt_does_not_know_is_believed_to_be_about_the_event_in_the_end() {
    poisoned(Reply::Reason(0x95)).await;
}

#[tokio::test]
async fn a_broker_that_disconnects_over_an_event_is_believed_in_the_end() {
    poisoned(Reply::Disconnect(0x95)).await;
}

#[tokio::test]
async fn a_broker_that_closes_the_connection_for_a_while_makes_no_dead_events() {
    let broker = ScriptedBroker::start().await;
    broker.rule(Rule::event("e-1", Reply::Close).times(8));
    let service = connected(broker.port(), &json!({})).await;
    let mut ledger = Ledger::new();
    accept(&service, &mut ledger, [event("e-1")]).await;
    let delivered = async || {
        hurry(&service, broker.port()).await;
        delivery(&service, "e-1").await["state"] == "delivered"
    };
    wait_until("the event is delivered", LATER, delivered).await;
    assert_eq!(events_received(&broker).len(), 9);
    assert_eq!(service.status().await["outbox"]["dead"], 0);
}

#[tokio::test]
async fn a_network_that_resets_the_connection_for_a_while_makes_no_dead_events() {
    let broker = ScriptedBroker::start().await;
    broker.rule(Rule::event("e-1", Reply::Withhold).times(8));
    let proxy = Proxy::start(broker.port()).await;
    let service = connected(proxy.port(), &json!({})).await;
    let mut ledger = Ledger::new();
    accept(&service, &mut ledger, [event("e-1")]).await;
    for times in 1..=8 {
        let sent = |broker: &ScriptedBroker| events_received(broker).len() == times;
        broker.wait_for(&format!("the event, {times} times"), LATER, sent).await;
        proxy.reset().await;
        let lost = |status: &Value| status["state"] == "waiting";
        let status = service.wait_status("the link is lost", LATER, lost).await;
        assert_eq!(status["last_error"]["kind"], "closed", "{status}");
        hurry(&service, proxy.port()).await;
    }
    service.wait_until_delivered("e-1", LATER).await;
    assert_eq!(service.status().await["outbox"]["dead"], 0);
}
