//! Late events never trigger automations.

use liveobject_test_support::{Ledger, Subscriber, wait_until};
use serde_json::{Value, json};

use crate::helpers::{
    SHORTEST, Scene, TIMEOUT, assert_metrics, connect, delivery, disable, event, logged, old_event, submit,
    wait_for_event, warnings,
};

const EVENT: &str = "liveobject/camera/door/event";
const HISTORY: &str = "liveobject/camera/door/history";

fn strict_settings() -> Value {
    json!({ "late_after_seconds": SHORTEST, "retain_messages": true })
}

fn ids_on(subscriber: &Subscriber, topic: &str) -> Vec<(String, Value)> {
    let messages = subscriber.on(topic);
    let events = messages.iter().map(liveobject_test_support::Message::json);
    events
        .map(|event| (event["event_id"].as_str().expect("an id").to_owned(), event["late"].clone()))
        .collect()
}

fn expected(ids: &[&str], late: &Value) -> Vec<(String, Value)> {
    ids.iter().map(|id| ((*id).to_owned(), late.clone())).collect()
}

#[tokio::test]
async fn an_event_that_is_already_old_when_accepted_goes_to_history_and_raises_a_warning() {
    let scene = Scene::with(&strict_settings()).await;
    let mut ledger = Ledger::new();
    let events = [event("new-1"), old_event("old-1", 60), old_event("old-2", 3600), event("new-2")];
    submit(&scene.service, &mut ledger, events).await;
    scene.assert_all_arrive(&mut ledger).await;
    assert_eq!(ids_on(&scene.subscriber, EVENT), expected(&["new-1", "new-2"], &Value::Null));
    assert_eq!(ids_on(&scene.subscriber, HISTORY), expected(&["old-1", "old-2"], &true.into()));
    assert_metrics(&scene.service, &[("liveobject_events_late_total", 2.0)]).await;
    let status = scene.service.status().await;
    assert_eq!(warnings(&status), ["late_on_arrival"], "{status}");
    assert_eq!(logged(&scene.service, "WARN").len(), 1, "one line, not one per event");
    scene.service.wait_until_delivered("old-1", TIMEOUT).await;
    scene.service.wait_until_delivered("new-1", TIMEOUT).await;
    assert_eq!(delivery(&scene.service, "old-1").await["late"], true);
    assert_eq!(delivery(&scene.service, "new-1").await["late"], false);
}

#[tokio::test]
async fn a_late_event_is_never_retained() {
    let scene = Scene::with(&strict_settings()).await;
    let mut ledger = Ledger::new();
    submit(&scene.service, &mut ledger, [event("new"), old_event("old", 60)]).await;
    scene.assert_all_arrive(&mut ledger).await;
    let newcomer = Subscriber::builder(scene.broker.port()).client_id("newcomer").start().await;
    wait_for_event(&newcomer, "new").await;
    // The broker sends retained messages before newer ones.
    let _ = scene.service.post_event(&event("newer")).await.expect(202);
    wait_for_event(&newcomer, "newer").await;
    assert_eq!(ids_on(&newcomer, HISTORY), []);
}

#[tokio::test]
async fn events_that_waited_too_long_go_to_history_and_newer_ones_do_not() {
    let scene = Scene::with(&strict_settings()).await;
    disable(&scene.service, scene.broker.port(), &strict_settings()).await;
    let mut ledger = Ledger::new();
    submit(&scene.service, &mut ledger, [event("waited-1"), event("waited-2")]).await;
    assert_eq!(delivery(&scene.service, "waited-2").await["late"], false);
    let late = async || delivery(&scene.service, "waited-2").await["late"] == true;
    wait_until("the events are late", TIMEOUT, late).await;
    submit(&scene.service, &mut ledger, [event("fresh-1"), event("fresh-2")]).await;
    connect(&scene.service, scene.broker.port(), &strict_settings()).await;
    scene.assert_all_arrive(&mut ledger).await;
    assert_eq!(ids_on(&scene.subscriber, HISTORY), expected(&["waited-1", "waited-2"], &true.into()));
    assert_eq!(ids_on(&scene.subscriber, EVENT), expected(&["fresh-1", "fresh-2"], &Value::Null));
    assert_metrics(&scene.service, &[("liveobject_events_late_total", 2.0)]).await;
    let status = scene.service.status().await;
    assert!(warnings(&status).is_empty(), "neither a clock nor a source is wrong: {status}");
}

#[tokio::test]
async fn with_late_after_seconds_0_no_event_is_ever_late() {
    let scene = Scene::with(&json!({ "late_after_seconds": 0 })).await;
    let _ = scene.service.post_event(&old_event("old", 30_000_000)).await.expect(202);
    let message = wait_for_event(&scene.subscriber, "old").await;
    assert_eq!((message.topic.as_str(), &message.json()["late"]), (EVENT, &Value::Null));
    assert_metrics(&scene.service, &[("liveobject_events_late_total", 0.0)]).await;
}
