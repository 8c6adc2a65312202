//! `RabbitMQ` as the broker, which speaks only MQTT 3.1.1 and closes the connection on MQTT 5.

use liveobject_test_support::{Ledger, Message, RabbitMq, Subscriber, mqtt5::Version};
use serde_json::json;

use crate::helpers::{
    LONG_TIMEOUT, Stream, TIMEOUT, connect, fails_with, logged, service, settings, settle, submit_batch,
};

#[tokio::test]
async fn rabbitmq_is_detected_as_3_1_1_gets_every_event_and_publishes_the_will() {
    let mut broker = RabbitMq::start("camera", "right").await;
    let mut service = service().start().await;
    let login = |password: &str, qos: u8| json!({ "username": "camera", "password": password, "qos": qos });
    fails_with(&service, &settings(broker.port(), &login("wrong", 1)), "bad_credentials").await;

    let observer = Subscriber::builder(broker.port()).version(Version::V311).login("camera", "right").qos(1);
    let observer = observer.filter("liveobject/#").start().await;
    let mut ledger = Ledger::new();
    for qos in [0, 1, 2] {
        connect(&service, broker.port(), &login("right", qos)).await;
        assert_eq!(service.status().await["protocol"], "3.1.1");
        submit_batch(&service, &mut ledger, &format!("qos{qos}"), 100).await;
        settle(&service, &[&observer], &mut ledger.clone()).await;
    }
    let failures = logged(&service, "WARN");
    assert!(failures.iter().all(|line| line["kind"] == "bad_credentials"), "{failures:?}");

    connect(&service, broker.port(), &login("right", 1)).await;
    let stream = Stream::start(&service);
    stream.wait_for_more(50).await;
    broker.restart().await;
    stream.wait_for_more(50).await;
    service.wait_connected(LONG_TIMEOUT).await;
    let mut streamed = stream.stop().await;
    settle(&service, &[&observer], &mut streamed).await;
    let of_the_stream = |id: &str| id.starts_with("stream");
    assert!(observer.events().iter().any(|event| event["event_id"].as_str().is_some_and(of_the_stream)));

    service.kill9().await;
    let offline = |messages: &[Message]| {
        messages
            .iter()
            .rev()
            .find(|message| message.topic == "liveobject/status")
            .is_some_and(|message| message.text() == "offline")
    };
    observer.wait_for(offline, "the will", TIMEOUT).await;
}
