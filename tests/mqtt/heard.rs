//! Live events wait for a subscriber that was there before, so that it misses none when it comes back.

use std::time::Duration;

use liveobject_test_support::{Message, Mosquitto, Service, Subscriber, wait_until};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::helpers::{
    LONG_TIMEOUT, SHORTEST, TIMEOUT, assert_metrics, connected_service, delivery, event, event_ids, event_of,
    settings, wait_for_event, warnings, with,
};

const DOOR: &str = "liveobject/camera/door/event";
const YARD: &str = "liveobject/camera/yard/event";

/// A client without a session, so that it misses what is published while it is away. It leaves when it is dropped.
async fn listener(port: u16, filter: &str) -> Subscriber {
    Subscriber::builder(port).client_id("listener").without_session().filter(filter).start().await
}

async fn post(service: &Service, camera: &str, ids: &[String]) {
    for id in ids {
        let _ = service.post_event(&event_of(camera, id)).await.expect(202);
    }
}

/// Returns the ids of the events on this topic, in the order of their arrival.
fn ids_on(subscriber: &Subscriber, topic: &str) -> Vec<String> {
    let id = |message: &Message| message.json()["event_id"].as_str().expect("an id").to_owned();
    subscriber.on(topic).iter().map(id).collect()
}

/// Starts a broker, a service without discovery, and a listener of the door that has heard an event.
async fn scene(other: &Value) -> (Mosquitto, Service, Subscriber) {
    let broker = Mosquitto::start().await;
    let listener = listener(broker.port(), DOOR).await;
    let service =
        connected_service(broker.port(), &with(json!({ "discovery_enabled": false }), other.clone())).await;
    let _ = service.post_event(&event("first")).await.expect(202);
    wait_for_event(&listener, "first").await;
    service.wait_until_delivered("first", TIMEOUT).await;
    (broker, service, listener)
}

#[tokio::test]
async fn after_a_restart_of_the_broker_a_subscriber_that_comes_back_later_hears_every_event_of_the_gap_live()
{
    let (mut broker, service, old) = scene(&json!({})).await;
    broker.stop().await;
    drop(old);
    post(&service, "door", &event_ids("gap", 10)).await;
    broker.resume().await;
    service.wait_connected(TIMEOUT).await;
    post(&service, "door", &event_ids("back", 10)).await;
    sleep(Duration::from_secs(10)).await;
    let status = service.status().await;
    assert_eq!(
        (warnings(&status), &status["outbox"]["held"]),
        (vec!["waiting_for_subscriber"], &json!(20)),
        "{status}"
    );
    let message = status["warnings"][0]["message"].as_str().expect("a message");
    assert!(message.contains(DOOR), "{message}");
    assert_metrics(&service, &[("liveobject_events_held", 20.0)]).await;
    let listener = listener(broker.port(), DOOR).await;
    service.wait_outbox_empty(TIMEOUT).await;
    let expected = [event_ids("gap", 10), event_ids("back", 10)].concat();
    wait_for_event(&listener, "back-10").await;
    assert_eq!(ids_on(&listener, DOOR), expected, "each once, in order");
    let status = service.status().await;
    assert_eq!((warnings(&status), &status["outbox"]["held"]), (vec![], &json!(0)), "{status}");
    assert_metrics(
        &service,
        &[("liveobject_events_held", 0.0), ("liveobject_events_heard_after_waiting_total", 20.0)],
    )
    .await;
    assert_eq!(delivery(&service, "gap-1").await["heard"], true);
}

#[tokio::test]
async fn a_subscriber_that_leaves_for_good_delays_no_other_camera_and_its_events_go_to_history() {
    let (broker, service, old) = scene(&json!({ "late_after_seconds": SHORTEST })).await;
    let others =
        Subscriber::builder(broker.port()).filter(YARD).filter("liveobject/camera/+/history").start().await;
    drop(old);
    // Gives the broker time to notice that the subscriber is gone.
    sleep(Duration::from_millis(500)).await;
    for n in 1..=14 {
        post(&service, "door", &[format!("door-{n}")]).await;
        let posted = Instant::now();
        post(&service, "yard", &[format!("yard-{n}")]).await;
        wait_for_event(&others, &format!("yard-{n}")).await;
        assert!(posted.elapsed() < Duration::from_secs(2), "{n}: {:?}", posted.elapsed());
        sleep(Duration::from_millis(500)).await;
    }
    service.wait_outbox_empty(LONG_TIMEOUT).await;
    wait_for_event(&others, "door-14").await;
    let history = "liveobject/camera/door/history";
    assert_eq!(ids_on(&others, history), event_ids("door", 14), "all of them, in order");
    assert_eq!(ids_on(&others, YARD), event_ids("yard", 14));
    assert_eq!(warnings(&service.status().await), ["no_subscribers"; 0]);
    assert_metrics(&service, &[("liveobject_events_unheard_total", 14.0)]).await;
}

#[tokio::test]
async fn a_topic_that_was_never_heard_is_not_waited_for() {
    let (broker, service, _listener) = scene(&json!({})).await;
    post(&service, "yard", &event_ids("yard", 3)).await;
    service.wait_outbox_empty(TIMEOUT).await;
    assert_eq!(delivery(&service, "yard-3").await["heard"], false);
    drop(broker);
}

#[tokio::test]
async fn a_subscriber_with_a_session_hears_while_it_is_away() {
    let broker = Mosquitto::start().await;
    let service = connected_service(broker.port(), &json!({ "discovery_enabled": false })).await;
    let with_session = Subscriber::builder(broker.port()).client_id("keeper").filter(DOOR).start().await;
    post(&service, "door", &event_ids("a", 1)).await;
    wait_for_event(&with_session, "a-1").await;
    drop(with_session);
    sleep(Duration::from_millis(500)).await;
    post(&service, "door", &event_ids("b", 3)).await;
    service.wait_outbox_empty(TIMEOUT).await;
    assert_eq!(delivery(&service, "b-3").await["heard"], true);
}

#[tokio::test]
async fn without_the_setting_nothing_waits_and_switching_it_off_ends_the_waiting() {
    let (broker, service, old) = scene(&json!({})).await;
    drop(old);
    sleep(Duration::from_millis(500)).await;
    post(&service, "door", &event_ids("a", 3)).await;
    let held = async || service.status().await["outbox"]["held"] == 3;
    wait_until("three events wait", TIMEOUT, held).await;
    let off = settings(broker.port(), &json!({ "discovery_enabled": false, "wait_for_subscribers": false }));
    let _ = service.put_config(&off).await.expect(200);
    service.wait_outbox_empty(TIMEOUT).await;
    assert_eq!(delivery(&service, "a-1").await["heard"], false);
    post(&service, "door", &event_ids("b", 3)).await;
    service.wait_outbox_empty(TIMEOUT).await;
}

#[tokio::test]
async fn events_that_wait_survive_a_kill_and_are_heard_once() {
    let (broker, mut service, old) = scene(&json!({})).await;
    drop(old);
    // It is recorded within a second that the topic has a subscriber.
    sleep(Duration::from_millis(1500)).await;
    post(&service, "door", &event_ids("a", 5)).await;
    post(&service, "yard", &event_ids("yard", 5)).await;
    service.wait_until_delivered("yard-5", TIMEOUT).await;
    sleep(Duration::from_millis(200)).await;
    service.kill9().await;
    let all = Subscriber::builder(broker.port()).filter(YARD).start().await;
    service.start().await;
    service.wait_connected(TIMEOUT).await;
    let listener = listener(broker.port(), DOOR).await;
    service.wait_outbox_empty(TIMEOUT).await;
    wait_for_event(&listener, "a-5").await;
    assert_eq!(ids_on(&listener, DOOR), event_ids("a", 5));
    assert_eq!(ids_on(&all, YARD), [""; 0], "what was delivered ahead of them is not sent again");
}
