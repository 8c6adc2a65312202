//! Outages and the kept history, with a real broker that goes away and returns.

use std::time::Duration;

use liveobject_test_support::{Mosquitto, Subscriber, wait_until};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::helpers::{Scene, TIMEOUT, connected_service, disable, event, event_of, old_event};

/// Outages of this length are recorded.
const RECORDED: Duration = Duration::from_millis(2500);

/// Returns the outages of one kind, oldest first.
async fn outages(scene: &Scene, kind: &str) -> Vec<Value> {
    let list = scene.service.get("/api/v1/outages").await.expect(200);
    let all = list["outages"].as_array().expect("a list").iter();
    all.filter(|outage| outage["kind"] == kind).cloned().collect()
}

async fn last(scene: &Scene) -> Value {
    outages(scene, "broker_away").await.pop().expect("an outage")
}

async fn post(scene: &Scene, name: &str, count: usize) {
    for n in 0..count {
        let _ = scene.service.post_event(&event(&format!("{name}-{n}"))).await.expect(202);
    }
}

/// Waits until the last outage has this outcome and this number of late events, which is known once they are recorded.
async fn wait_for_outcome(scene: &Scene, outcome: &str, late: u64) -> Value {
    let is_reached = |outage: &Value| outage["outcome"] == outcome && outage["late"] == late;
    wait_until(outcome, TIMEOUT, async || is_reached(&last(scene).await)).await;
    last(scene).await
}

#[tokio::test]
async fn an_outage_claims_delivery_in_order_only_when_all_events_are_delivered() {
    let mut scene = Scene::start().await;
    post(&scene, "before", 3).await;
    scene.service.wait_outbox_empty(TIMEOUT).await;
    assert_eq!(outages(&scene, "broker_away").await, Vec::<Value>::new());
    scene.broker.stop().await;
    sleep(RECORDED).await;
    post(&scene, "during", 7).await;
    let open = last(&scene).await;
    assert_eq!((&open["to"], &open["events"], &open["waiting"]), (&Value::Null, &json!(7), &json!(7)));
    assert_eq!(open["outcome"], "waiting");
    assert!(open["reason"].is_string(), "{open}");
    scene.broker.resume().await;
    scene.service.wait_connected(TIMEOUT).await;
    let ended = wait_for_outcome(&scene, "delivered_in_order", 0).await;
    assert_eq!((&ended["id"], &ended["from"], &ended["events"]), (&open["id"], &open["from"], &json!(7)));
    assert!(ended["to"].is_string());
    assert_eq!((&ended["waiting"], &ended["dead"], &ended["late"]), (&json!(0), &json!(0), &json!(0)));

    // Events that come later belong to no outage.
    post(&scene, "after", 2).await;
    scene.service.wait_outbox_empty(TIMEOUT).await;
    assert_eq!(last(&scene).await["events"], 7);

    // The report and the figures survive an orderly restart, which is a gap.
    scene.service.restart().await;
    assert_eq!(last(&scene).await, ended);
    assert_eq!(outages(&scene, "not_running").await.len(), 2);
    for (range, interval) in [("1h", 60), ("24h", 300), ("7d", 1800)] {
        let history = scene.service.get(&format!("/api/v1/history?range={range}")).await.expect(200);
        assert_eq!(history["interval_seconds"], interval);
        let points = history["points"].as_array().unwrap();
        let events: u64 = points.iter().filter_map(|point| point["events"].as_u64()).sum();
        assert_eq!(events, 12, "{range}");
        assert_eq!((&points[0]["state"], &points[0]["events"]), (&json!("unknown"), &Value::Null));
    }
}

#[tokio::test]
async fn an_outage_that_was_open_when_the_service_was_killed_is_known_afterwards() {
    let mut scene = Scene::start().await;
    scene.broker.stop().await;
    sleep(RECORDED).await;
    post(&scene, "during", 5).await;
    scene.service.kill9().await;
    scene.service.start().await;
    let away = outages(&scene, "broker_away").await;
    assert_eq!((&away[0]["events"], &away[0]["waiting"]), (&json!(5), &json!(5)));
    assert!(away[0]["to"].is_string(), "it ends with the last proof that the service was running");
    assert_eq!(outages(&scene, "unknown").await.len(), 1);
    scene.broker.resume().await;
    scene.service.wait_connected(TIMEOUT).await;
    scene.service.wait_outbox_empty(TIMEOUT).await;
    let away = outages(&scene, "broker_away").await;
    assert_eq!(away[0]["outcome"], "delivered_in_order", "{away:?}");
    assert_eq!(outages(&scene, "unknown").await[0]["outcome"], "delivered_in_order");
}

/// Access rules that forbid publishing the events from the camera `safe`.
const ACL: &str = "topic deny liveobject/camera/safe/event\n\
    topic write liveobject/#\ntopic write homeassistant/#\ntopic read #";

#[tokio::test]
async fn late_failed_and_repeated_events_are_reported_as_such() {
    let broker = Mosquitto::builder().upgrade_outgoing_qos().acl(ACL).start().await;
    let subscriber = Subscriber::start(broker.port()).await;
    let service = connected_service(broker.port(), &json!({})).await;
    let mut scene = Scene { broker, subscriber, service };
    scene.broker.stop().await;
    sleep(RECORDED).await;
    post(&scene, "live", 2).await;
    for other in [old_event("late", 3600), event_of("safe", "refused")] {
        let _ = scene.service.post_event(&other).await.expect(202);
    }
    scene.broker.resume().await;
    scene.service.wait_connected(TIMEOUT).await;
    let failed = wait_for_outcome(&scene, "failed", 1).await;
    assert_eq!((&failed["events"], &failed["dead"], &failed["late"]), (&json!(4), &json!(1), &json!(1)));
    let _ = scene.service.delete("/api/v1/events/refused/dead").await.expect(204);
    assert_eq!(last(&scene).await["outcome"], "failed", "a dismissed event was not delivered");
    scene.broker.set_acl("topic readwrite #").await;
    let _ = scene.service.post("/api/v1/events/refused/retry", &json!({})).await.expect(202);
    let delivered = wait_for_outcome(&scene, "delivered", 1).await;
    assert_eq!((&delivered["dead"], &delivered["waiting"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn a_disabled_connection_is_not_an_absent_broker() {
    let scene = Scene::start().await;
    disable(&scene.service, scene.broker.port(), &json!({})).await;
    sleep(RECORDED).await;
    let disabled = outages(&scene, "disabled").await.pop().expect("a period without a connection");
    assert_eq!((&disabled["to"], &disabled["outcome"]), (&Value::Null, &json!("nothing_waited")));
    assert_eq!(outages(&scene, "broker_away").await.len(), 0);
}
