//! Events as a subscriber receives them.

use liveobject_actors::domain::clock;
use liveobject_test_support::Ledger;
use serde_json::{Value, json};

use crate::helpers::{
    EVENTS, Scene, TIMEOUT, assert_metrics, event, event_ids, submit, submit_batch, time, wait_for_event,
};

const TOPIC: &str = "liveobject/camera/front_door/event";

fn keys(event: &Value) -> Vec<String> {
    let mut keys: Vec<_> = event.as_object().expect("an object").keys().cloned().collect();
    keys.sort();
    keys
}

#[tokio::test]
async fn an_event_arrives_with_exactly_the_documented_fields() {
    let scene = Scene::start().await;
    let now = clock::now();
    let time_zone = chrono::FixedOffset::east_opt(2 * 3600).expect("a valid offset");
    let mut event = json!({
        "event_id": "full.1",
        "camera_id": "front_door",
        "camera_name": "Front door \u{1f6aa}",
        "description": "Person says \"hello\"\nwith a \\ and a \t",
        "objects_detected": ["person", "package"],
        "confidence": 91,
        "source_type": "rtsp",
        "smart_detection_type": "person",
        "timestamp": now.with_timezone(&time_zone).to_rfc3339(),
        "is_doorbell_ring": true,
        "ai_confidence": 88,
        "provider_used": "openai",
        "analysis_mode": "multi_frame",
        "low_confidence": false,
        "correlation_group_id": "group-7",
        "delivery_carrier": "fedex",
        "delivery_carrier_display": "FedEx",
    });
    let receipt = scene.service.post_event(&event).await.expect(202);
    assert_eq!(receipt["duplicate"], false);
    let message = wait_for_event(&scene.subscriber, "full.1").await;
    assert_eq!((message.topic.as_str(), message.qos, message.retain), (TOPIC, 2, false));
    let payload = message.json();
    let thumbnail = payload["thumbnail_url"].as_str().expect("a URL");
    assert!(thumbnail.contains("/api/v1/events/full.1/thumbnail?expires="), "{thumbnail}");
    event["thumbnail_url"] = thumbnail.into();
    event["seq"] = receipt["seq"].clone();
    let timestamp = payload["timestamp"].as_str().expect("a time");
    assert!(timestamp.ends_with('Z'), "{timestamp} is not UTC");
    assert_eq!(chrono::DateTime::parse_from_rfc3339(timestamp).expect("RFC 3339"), clock::truncated(now));
    event["timestamp"] = timestamp.into();
    assert_eq!(payload, event);
}

#[tokio::test]
async fn a_minimal_event_arrives_with_exactly_the_mandatory_fields() {
    let scene = Scene::start().await;
    let event = json!({ "camera_id": "front_door", "description": "Somebody" });
    let receipt = scene.service.post_event(&event).await.expect(202);
    let event_id = receipt["event_id"].as_str().expect("an id");
    let payload = wait_for_event(&scene.subscriber, event_id).await.json();
    let mandatory = [
        "camera_id",
        "camera_name",
        "confidence",
        "description",
        "event_id",
        "objects_detected",
        "seq",
        "smart_detection_type",
        "source_type",
        "thumbnail_url",
        "timestamp",
    ];
    assert_eq!(keys(&payload), mandatory);
    assert_eq!(payload["camera_name"], "front_door");
    assert_eq!(payload["objects_detected"], json!([]));
    assert_eq!(payload["confidence"], Value::Null, "an unknown confidence is not one of 0 %");
    assert_eq!(payload["smart_detection_type"], Value::Null);
    assert_eq!(payload["seq"], receipt["seq"]);
}

#[tokio::test]
async fn events_arrive_once_and_in_the_order_of_acceptance() {
    let scene = Scene::start().await;
    let mut ledger = Ledger::new();
    submit_batch(&scene.service, &mut ledger, "batch", 1000).await;
    submit(&scene.service, &mut ledger, event_ids("one", 50).iter().map(|id| event(id))).await;
    submit_batch(&scene.service, &mut ledger, "more", 300).await;
    scene.assert_all_arrive(&mut ledger).await;
    assert_eq!(ledger.duplicates(), 0, "{}", ledger.summary());
    assert!(ledger.unconfirmed().is_empty(), "{}", ledger.summary());
    let expected = [("liveobject_events_accepted_total", 1350.0), ("mqtt_messages_published_total", 1350.0)];
    assert_metrics(&scene.service, &expected).await;
    assert_eq!(scene.service.status().await["messages_published"], 1350);
}

#[tokio::test]
async fn an_event_is_delivered_as_soon_as_the_status_reports_that_nothing_is_pending() {
    let scene = Scene::start().await;
    for id in event_ids("e", 50) {
        let _ = scene.service.post_event(&event(&id)).await.expect(202);
        while scene.service.status().await["outbox"]["pending"] != 0 {}
        let record = scene.service.get(&format!("{EVENTS}/{id}")).await.expect(200);
        assert_eq!(record["delivery"]["state"], "delivered", "{record}");
        let (received_at, delivered_at) =
            (time(&record["received_at"]), time(&record["delivery"]["delivered_at"]));
        assert!(received_at <= delivered_at && delivered_at <= clock::now(), "{record}");
        let listed = scene.service.get(&format!("{EVENTS}?state=delivered&limit=1")).await.expect(200);
        assert_eq!(listed["events"][0], record);
    }
}

#[tokio::test]
async fn a_resubmitted_event_does_not_arrive_again() {
    let scene = Scene::start().await;
    let first = scene.service.post_event(&event("a")).await.expect(202);
    scene.service.wait_until_delivered("a", TIMEOUT).await;
    let again = scene.service.post_event(&event("a")).await.expect(202);
    assert_eq!((&again["seq"], &again["duplicate"]), (&first["seq"], &json!(true)));
    let _ = scene.service.post_event(&event("b")).await.expect(202);
    let events = scene.subscriber.wait_for_events(2, TIMEOUT).await;
    assert_eq!(events.iter().map(|event| &event["event_id"]).collect::<Vec<_>>(), ["a", "b"]);
}
