//! `online` and `offline`: the birth message, the last will, and the message before a clean disconnect.

use std::time::Duration;

use liveobject_test_support::{Message, Mosquitto, Subscriber, visitor};
use serde_json::json;

use crate::helpers::{
    Retained, Scene, TIMEOUT, connect, connected_service, scripted_broker, service, warnings,
};

const STATUS: &str = "liveobject/status";

/// The birth message is published again at most this often.
const CORRECT_AGAIN_AFTER: Duration = Duration::from_secs(5);

fn payloads(messages: &[Message], topic: &str) -> Vec<String> {
    messages.iter().filter(|message| message.topic == topic).map(Message::text).collect()
}

/// Waits until exactly these payloads have arrived on the topic.
async fn wait_for_texts(subscriber: &Subscriber, topic: &str, expected: &[&str]) {
    let reached = |messages: &[Message]| payloads(messages, topic).len() >= expected.len();
    let messages = subscriber.wait_for(reached, &format!("{expected:?} on {topic}"), TIMEOUT).await;
    assert_eq!(payloads(&messages, topic), expected);
}

/// Returns the retained message that a new subscriber with this client id receives at once.
async fn first_retained(broker: &Mosquitto, topic: &str, client_id: &str) -> String {
    let newcomer = Subscriber::builder(broker.port()).client_id(client_id).filter(topic).start().await;
    let messages = newcomer.wait_for(|messages| !messages.is_empty(), "retained message", TIMEOUT).await;
    assert!(messages[0].retain, "{:?} was not retained", messages[0]);
    messages[0].text()
}

#[tokio::test]
async fn online_is_retained_until_a_stopping_service_publishes_offline() {
    let mut scene = Scene::start().await;
    wait_for_texts(&scene.subscriber, STATUS, &["online"]).await;
    assert_eq!(first_retained(&scene.broker, STATUS, "while-up").await, "online");
    scene.service.sigterm();
    assert_eq!(scene.service.wait().await, 0);
    wait_for_texts(&scene.subscriber, STATUS, &["online", "offline"]).await;
    assert_eq!(first_retained(&scene.broker, STATUS, "newcomer").await, "offline");
}

#[tokio::test]
async fn the_will_publishes_offline_for_a_killed_service() {
    let mut scene = Scene::start().await;
    scene.service.kill9().await;
    wait_for_texts(&scene.subscriber, STATUS, &["online", "offline"]).await;
    assert_eq!(first_retained(&scene.broker, STATUS, "newcomer").await, "offline");
    scene.service.start().await;
    scene.service.wait_connected(TIMEOUT).await;
    wait_for_texts(&scene.subscriber, STATUS, &["online", "offline", "online"]).await;
}

#[tokio::test]
async fn availability_topic_and_payloads_are_configurable() {
    let other = json!({
        "availability_topic": "home/cams/alive",
        "birth_message": "here",
        "will_message": "gone",
    });
    let mut scene = Scene::with(&other).await;
    wait_for_texts(&scene.subscriber, "home/cams/alive", &["here"]).await;
    scene.service.kill9().await;
    wait_for_texts(&scene.subscriber, "home/cams/alive", &["here", "gone"]).await;
    assert_eq!(first_retained(&scene.broker, "home/cams/alive", "newcomer").await, "gone");
    assert!(scene.subscriber.on(STATUS).is_empty());
}

#[tokio::test]
async fn a_clean_stop_publishes_offline_without_the_will() {
    let (broker, mut service) = scripted_broker(&json!({})).await;
    let will = broker.connects()[0].will.clone().expect("a will");
    assert_eq!((will.topic.as_str(), &will.payload[..], will.retain), (STATUS, b"offline".as_slice(), true));
    service.sigterm();
    assert_eq!(service.wait().await, 0);
    broker.wait_for("the end of the connection", TIMEOUT, |broker| broker.open() == 0).await;
    assert_eq!(broker.disconnects(), [0], "a normal disconnect, which discards the will");
    let received = broker.received();
    let published =
        received.iter().map(|received| &received.publish).filter(|publish| publish.topic == STATUS);
    let published: Vec<_> = published.map(|publish| (&publish.payload[..], publish.retain)).collect();
    assert_eq!(published, [(b"online".as_slice(), true), (b"offline".as_slice(), true)]);
    assert_eq!(received.last().expect("messages").publish.topic, STATUS, "it must be the last message");
}

#[tokio::test]
async fn the_client_id_survives_restarts_and_differs_between_installations() {
    let (broker, mut service) = scripted_broker(&json!({})).await;
    service.restart().await;
    service.wait_connected(TIMEOUT).await;
    let _other = connected_service(broker.port(), &json!({})).await;
    let ids: Vec<_> = broker.connects().into_iter().map(|connect| connect.client_id).collect();
    assert_eq!(ids.len(), 3, "{ids:?}");
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    let digits = ids[0].strip_prefix("liveobject-").expect("the default client id");
    assert!(digits.len() == 8 && digits.bytes().all(|c| c.is_ascii_hexdigit()), "{ids:?}");
}

async fn wait_for_online(port: u16) {
    let is_online = |snapshot: &Retained| snapshot.text(STATUS) == "online";
    Retained::wait_for(port, "online", is_online).await;
}

#[tokio::test]
async fn a_foreign_offline_is_corrected_and_reported() {
    let scene = Scene::start().await;
    let port = scene.broker.port();
    wait_for_online(port).await;
    assert!(warnings(&scene.service.status().await).is_empty());
    visitor::publish(port, STATUS, "offline", true).await;
    wait_for_online(port).await;
    let status = scene.service.status().await;
    assert_eq!(warnings(&status), ["availability_overwritten"], "{status}");
    let message = status["warnings"][0]["message"].as_str().expect("a message");
    assert!(message.contains("liveobject/status once since"), "{message}");
    assert!(message.contains(r#""offline""#) && message.contains("topic_prefix"), "{message}");
    visitor::publish(port, STATUS, "offline", true).await;
    wait_for_online(port).await;
}

#[tokio::test]
async fn a_second_service_that_leaves_does_not_make_the_first_one_unavailable() {
    let broker = Mosquitto::start().await;
    let port = broker.port();
    let first = connected_service(port, &json!({})).await;
    let mut second = service().start().await;
    connect(&second, port, &json!({})).await;
    second.sigterm();
    assert_eq!(second.wait().await, 0);
    wait_for_online(port).await;
    first
        .wait_status("the warning", TIMEOUT, |status| warnings(status).contains(&"availability_overwritten"))
        .await;
}

#[tokio::test]
async fn two_services_with_different_birth_messages_do_not_correct_each_other_in_a_loop() {
    let broker = Mosquitto::start().await;
    let port = broker.port();
    let subscriber = Subscriber::builder(port).filter(STATUS).start().await;
    let _first = connected_service(port, &json!({})).await;
    let _second = connected_service(port, &json!({ "birth_message": "up" })).await;
    tokio::time::sleep(2 * CORRECT_AGAIN_AFTER).await;
    let messages = subscriber.on(STATUS).len();
    assert!(messages > 2, "each corrects the other");
    // Two births, then at most one correction by each service after a second and one in each period.
    assert!(messages <= 2 + 2 * 3, "{messages} messages");
}
