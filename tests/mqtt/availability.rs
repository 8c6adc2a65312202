//! `online` and `offline`: birth, last will, and the message before a clean disconnect.

use liveobject_test_support::{Message, Mosquitto, Subscriber};
use serde_json::json;

use crate::helpers::{SOON, Scene, connected, scripted};

const STATUS: &str = "liveobject/status";

fn texts(messages: &[Message], topic: &str) -> Vec<String> {
    messages.iter().filter(|message| message.topic == topic).map(Message::text).collect()
}

/// Waits until these and no other texts have come to the topic.
async fn wait_for_texts(subscriber: &Subscriber, topic: &str, expected: &[&str]) {
    let reached = |messages: &[Message]| texts(messages, topic).len() >= expected.len();
    let messages = subscriber.wait_for(reached, &format!("{expected:?} on {topic}"), SOON).await;
    assert_eq!(texts(&messages, topic), expected);
}

/// What a subscriber with this id, who comes for the first time, is told at once.
async fn retained(broker: &Mosquitto, topic: &str, client_id: &str) -> String {
    let late_comer = Subscriber::builder(broker.port()).client_id(client_id).filter(topic).start().await;
    let messages = late_comer.wait_for(|messages| !messages.is_empty(), "retained message", SOON).await;
    assert!(messages[0].retain, "{:?} was not retained", messages[0]);
    messages[0].text()
}

#[tokio::test]
async fn online_is_retained_and_a_service_that_stops_says_offline() {
    let mut scene = Scene::start().await;
    wait_for_texts(&scene.subscriber, STATUS, &["online"]).await;
    assert_eq!(retained(&scene.broker, STATUS, "while-up").await, "online");
    scene.service.sigterm();
    assert_eq!(scene.service.wait().await, 0);
    wait_for_texts(&scene.subscriber, STATUS, &["online", "offline"]).await;
    assert_eq!(retained(&scene.broker, STATUS, "late-comer").await, "offline");
}

#[tokio::test]
async fn the_will_says_offline_for_a_service_that_was_killed() {
    let mut scene = Scene::start().await;
    scene.service.kill9().await;
    wait_for_texts(&scene.subscriber, STATUS, &["online", "offline"]).await;
    assert_eq!(retained(&scene.broker, STATUS, "late-comer").await, "offline");
    scene.service.start().await;
    scene.service.wait_connected(SOON).await;
    wait_for_texts(&scene.subscriber, STATUS, &["online", "offline", "online"]).await;
}

#[tokio::test]
async fn topic_and_texts_can_be_chosen() {
    let other = json!({
        "availability_topic": "home/cams/alive",
        "birth_message": "here",
        "will_message": "gone",
    });
    let mut scene = Scene::with(&other).await;
    wait_for_texts(&scene.subscriber, "home/cams/alive", &["here"]).await;
    scene.service.kill9().await;
    wait_for_texts(&scene.subscriber, "home/cams/alive", &["here", "gone"]).await;
    assert_eq!(retained(&scene.broker, "home/cams/alive", "late-comer").await, "gone");
    assert!(scene.subscriber.on(STATUS).is_empty());
}

#[tokio::test]
async fn a_clean_stop_says_offline_itself_and_leaves_the_will_unused() {
    let (broker, mut service) = scripted(&json!({})).await;
    let will = broker.connects()[0].will.clone().expect("a will");
    assert_eq!((will.topic.as_str(), &will.payload[..], will.retain), (STATUS, b"offline".as_slice(), true));
    service.sigterm();
    assert_eq!(service.wait().await, 0);
    broker.wait_for("the end of the connection", SOON, |broker| broker.open() == 0).await;
    assert_eq!(broker.disconnects(), [0], "a normal disconnect, without will");
    let received = broker.received();
    let said = received.iter().map(|received| &received.publish).filter(|publish| publish.topic == STATUS);
    let said: Vec<_> = said.map(|publish| (&publish.payload[..], publish.retain)).collect();
    assert_eq!(said, [(b"online".as_slice(), true), (b"offline".as_slice(), true)]);
    assert_eq!(received.last().expect("messages").publish.topic, STATUS, "it is the last word");
}

#[tokio::test]
async fn the_client_id_stays_over_restarts_and_differs_between_installations() {
    let (broker, mut service) = scripted(&json!({})).await;
    service.restart().await;
    service.wait_connected(SOON).await;
    let _other = connected(broker.port(), &json!({})).await;
    let ids: Vec<_> = broker.connects().into_iter().map(|connect| connect.client_id).collect();
    assert_eq!(ids.len(), 3, "{ids:?}");
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    let digits = ids[0].strip_prefix("liveobject-").expect("the default client id");
    assert!(digits.len() == 8 && digits.bytes().all(|c| c.is_ascii_hexdigit()), "{ids:?}");
}
