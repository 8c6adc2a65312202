//! What the broker sends last counts, however the connection ends.

use liveobject_test_support::{Ledger, Mosquitto, Reply, Rule, Subscriber};
use serde_json::{Value, json};

use crate::helpers::{
    TIMEOUT, assert_all_arrive, connected_service, delivery, event, event_id, events_received, large_event,
    logged, metric, scripted_broker, submit, wait_for_dead, wait_for_error,
};

/// Lets the broker reply like this to one of three events, and asserts that each event is sent once.
async fn assert_acknowledged_once(reply: Reply, protocol: &str, qos: u8) {
    let (broker, service) = scripted_broker(&json!({ "protocol": protocol, "qos": qos })).await;
    broker.rule(Rule::event("last", reply).times(1));
    let mut ledger = Ledger::new();
    for id in ["first", "last"] {
        submit(&service, &mut ledger, [event(id)]).await;
        service.wait_until_delivered(id, TIMEOUT).await;
    }
    submit(&service, &mut ledger, [event("next")]).await;
    service.wait_until_delivered("next", TIMEOUT).await;
    let sent: Vec<_> = events_received(&broker).iter().map(event_id).collect();
    assert_eq!(sent, ["first", "last", "next"], "{reply:?}, MQTT {protocol}, QoS {qos}");
}

#[tokio::test]
async fn an_acknowledgement_that_arrives_with_the_end_of_the_connection_counts() {
    for reply in [Reply::AcknowledgeAndClose(0), Reply::AcknowledgeAndDisconnect(0x8b)] {
        assert_acknowledged_once(reply, "5", 1).await;
    }
    assert_acknowledged_once(Reply::AcknowledgeAndClose(0), "3.1.1", 1).await;
}

#[tokio::test]
async fn a_refusal_that_arrives_with_the_end_of_the_connection_counts() {
    let (broker, service) = scripted_broker(&json!({})).await;
    broker.rule(Rule::event("refused", Reply::AcknowledgeAndClose(0x87)));
    let mut ledger = Ledger::new();
    submit(&service, &mut ledger, [event("refused"), event("next")]).await;
    service.wait_until_delivered("next", TIMEOUT).await;
    wait_for_dead(&service, 1).await;
    assert_eq!(delivery(&service, "refused").await["reason"], "not_authorized");
    let sent = events_received(&broker).iter().filter(|received| event_id(received) == "refused").count();
    assert_eq!(sent, 1);
}

#[tokio::test]
async fn a_second_acknowledgement_is_ignored_with_a_warning() {
    for (protocol, qos) in [("5", 1), ("5", 2), ("3.1.1", 1), ("3.1.1", 2)] {
        let (broker, service) = scripted_broker(&json!({ "protocol": protocol, "qos": qos })).await;
        broker.rule(Rule::event("twice", Reply::AcknowledgeTwice));
        let mut ledger = Ledger::new();
        for id in ["twice", "next"] {
            submit(&service, &mut ledger, [event(id)]).await;
            service.wait_until_delivered(id, TIMEOUT).await;
        }
        assert_eq!(broker.connects().len(), 1, "the connection stays (MQTT {protocol}, QoS {qos})");
        let ignored = |line: &&Value| {
            line["message"].as_str().is_some_and(|text| text.contains("ignored an acknowledgement"))
        };
        assert_eq!(logged(&service, "WARN").iter().filter(ignored).count(), 1);
    }
}

#[tokio::test]
async fn a_disconnect_that_consists_of_its_reason_is_understood() {
    for (reason, kind) in [(0x95, "protocol"), (0x87, "not_authorized"), (0x8e, "taken_over")] {
        let (broker, service) = scripted_broker(&json!({})).await;
        broker.rule(Rule::event("e", Reply::ShortDisconnect(reason)).times(1));
        let mut ledger = Ledger::new();
        submit(&service, &mut ledger, [event("e")]).await;
        wait_for_error(&service, kind).await;
        service.wait_until_delivered("e", TIMEOUT).await;
    }
}

#[tokio::test]
async fn an_event_above_a_real_brokers_size_limit_is_dead_with_the_reason_and_the_connection_stays() {
    let broker = Mosquitto::builder().message_size_limit(1500).upgrade_outgoing_qos().start().await;
    let subscriber = Subscriber::start(broker.port()).await;
    let service = connected_service(broker.port(), &json!({ "discovery_enabled": false })).await;
    let mut ledger = Ledger::new();
    submit(&service, &mut ledger, [event("a"), large_event("large", 1500), event("b")]).await;
    wait_for_dead(&service, 1).await;
    assert_eq!(delivery(&service, "large").await["reason"], "packet_too_large");
    ledger.dead(2);
    assert_all_arrive(&service, &[&subscriber], &mut ledger).await;
    let reconnects = metric(&service, "mqtt_reconnect_attempts_total").await;
    assert!(reconnects < 0.5, "{reconnects} reconnects");
}
