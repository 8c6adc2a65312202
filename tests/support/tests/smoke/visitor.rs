//! The messages that a visitor receives and publishes.

use liveobject_test_support::{Mosquitto, Subscriber, visitor};

use crate::client::{Client, TIMEOUT};

#[tokio::test]
async fn a_visitor_receives_exactly_the_retained_messages() {
    let broker = Mosquitto::builder().upgrade_outgoing_qos().start().await;
    let mut client = Client::connect(broker.port()).await;
    for i in 0..500 {
        client.retain(&format!("retained/{i}"), "x").await;
    }
    client.retain("retained/7", "").await;
    client.retain("retained/8", "y").await;
    visitor::publish(broker.port(), "live", "x", false).await;
    let retained = visitor::retained(broker.port()).await;
    assert_eq!(retained.len(), 499);
    assert_eq!(retained.get("retained/7"), None);
    assert_eq!(retained["retained/8"], b"y");
}

#[tokio::test]
async fn a_visitor_publishes_with_and_without_retain() {
    let broker = Mosquitto::start().await;
    let subscriber = Subscriber::start(broker.port()).await;
    visitor::publish(broker.port(), "a", "live", false).await;
    visitor::publish(broker.port(), "b", "kept", true).await;
    subscriber.wait_for(|messages| messages.len() == 2, "two messages", TIMEOUT).await;
    assert_eq!(visitor::retained(broker.port()).await.into_keys().collect::<Vec<_>>(), ["b"]);
}
