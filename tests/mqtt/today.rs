//! The count of events delivered today, and the history of the last hour.

use serde_json::{Value, json};

use crate::helpers::{Scene, TIMEOUT};

fn event(id: &str) -> Value {
    json!({"event_id": id, "camera_id": "door", "description": "Somebody"})
}

#[tokio::test]
async fn the_count_of_events_delivered_today_survives_a_restart() {
    let mut scene = Scene::start().await;
    let counted = |status: &Value, n: u64| status["outbox"]["delivered_today"] == n;
    for i in 0..3 {
        let _ = scene.service.post_event(&event(&format!("e{i}"))).await.expect(202);
    }
    scene.service.wait_status("three delivered today", TIMEOUT, |status| counted(status, 3)).await;
    scene.service.wait_outbox_empty(TIMEOUT).await;
    scene.service.restart().await;
    scene.service.wait_connected(TIMEOUT).await;
    let status = scene.service.status().await;
    assert!(counted(&status, 3) && status["messages_published"] == 0, "{status}");
    let _ = scene.service.post_event(&event("e3")).await.expect(202);
    scene.service.wait_status("four delivered today", TIMEOUT, |status| counted(status, 4)).await;
}

#[tokio::test]
async fn the_history_contains_points_of_the_last_hour() {
    let scene = Scene::start().await;
    for i in 0..3 {
        let _ = scene.service.post_event(&event(&format!("e{i}"))).await.expect(202);
    }
    let first = async || scene.service.get("/api/v1/history").await.expect(200)["points"][0].clone();
    liveobject_test_support::wait_until("a first point", TIMEOUT, async || first().await.is_object()).await;
    let point = first().await;
    assert_eq!(point["events_per_minute"], 3, "{point}");
    assert!(point["pending"].as_u64().is_some_and(|pending| pending <= 3), "{point}");
    let (median, p95) = (&point["delivery_p50_seconds"], &point["delivery_p95_seconds"]);
    assert!(median.as_f64().unwrap() > 0.0 && median.as_f64() <= p95.as_f64(), "{point}");
}
