//! The subscriber, including restarts and network failures of its broker.

use liveobject_test_support::{Ledger, Mosquitto, Proxy, Subscriber};
use rumqttc::QoS;
use serde_json::json;

use crate::client::{Client, TIMEOUT, options};

#[tokio::test]
async fn each_message_arrives_with_its_qos() {
    let broker = Mosquitto::start().await;
    let subscriber = Subscriber::start(broker.port()).await;
    let mut client = Client::connect(broker.port()).await;
    for (topic, qos) in [("a", QoS::AtMostOnce), ("b", QoS::AtLeastOnce), ("c", QoS::ExactlyOnce)] {
        client.publish(topic, "x", qos).await;
    }
    let messages = subscriber.wait_for(|messages| messages.len() == 3, "three messages", TIMEOUT).await;
    let received: Vec<_> =
        messages.iter().map(|message| (message.topic.as_str(), message.qos, message.order)).collect();
    assert_eq!(received, [("a", 0, 0), ("b", 1, 1), ("c", 2, 2)]);
}

#[tokio::test]
async fn events_are_parsed_and_other_topics_are_ignored() {
    let broker = Mosquitto::start().await;
    let subscriber = Subscriber::builder(broker.port()).filter("p/#").filter("q").qos(1).start().await;
    let mut client = Client::connect(broker.port()).await;
    for (topic, seq) in
        [("p/camera/a/event", 1), ("p/camera/a/history", 2), ("p/status", 3), ("other", 4), ("q", 5)]
    {
        client
            .publish(topic, &json!({ "event_id": seq.to_string(), "seq": seq }).to_string(), QoS::AtLeastOnce)
            .await;
    }
    subscriber.wait_for(|messages| messages.len() == 4, "four messages", TIMEOUT).await;
    let seqs: Vec<_> =
        subscriber.wait_for_events(2, TIMEOUT).await.iter().map(|event| event["seq"].clone()).collect();
    assert_eq!(seqs, [1, 2]);
    assert_eq!(subscriber.on("p/status").len(), 1);
    subscriber.clear();
    assert_eq!(subscriber.count(), 0);
}

#[tokio::test]
async fn the_subscriber_can_log_in() {
    let broker = Mosquitto::builder().user("ann", "secret").start().await;
    let subscriber = Subscriber::builder(broker.port()).login("ann", "secret").start().await;
    let mut login = options(broker.port());
    login.set_credentials("ann", "secret");
    let mut client = Client::try_connect(login).await.expect("the login is accepted");
    client.publish("a", "x", QoS::ExactlyOnce).await;
    subscriber.wait_for(|messages| messages.len() == 1, "the message", TIMEOUT).await;
}

#[tokio::test]
async fn lost_connections_and_broker_restarts_cause_neither_loss_nor_duplicates() {
    let mut broker = Mosquitto::builder().upgrade_outgoing_qos().start().await;
    let proxy = Proxy::start(broker.port()).await;
    let subscriber = Subscriber::start(proxy.port()).await;
    let mut ledger = Ledger::new();
    for seq in 1..=300_u64 {
        if seq % 50 == 0 {
            proxy.cut().await;
        }
        if seq % 100 == 0 {
            broker.restart().await;
        }
        let mut client = Client::connect(broker.port()).await;
        let event = json!({ "event_id": seq.to_string(), "seq": seq });
        client.publish("camera/event", &event.to_string(), QoS::AtLeastOnce).await;
        ledger.accepted_receipt(&event);
    }
    subscriber.wait_for_events(300, TIMEOUT).await.iter().for_each(|event| ledger.delivered_event(event));
    ledger.assert_nothing_lost();
    ledger.assert_in_order();
    assert_eq!(ledger.duplicates(), 0, "{}", ledger.summary());
    assert!(subscriber.connections() > 6);
}

#[tokio::test]
#[should_panic(expected = "no pigs within")]
async fn a_failed_wait_reports_what_was_missing() {
    let broker = Mosquitto::start().await;
    let subscriber = Subscriber::start(broker.port()).await;
    subscriber.wait_for(|_| false, "pigs", std::time::Duration::from_millis(50)).await;
}
