//! Broker restarts, and how status and metrics report them.

use liveobject_actors::domain::clock;
use liveobject_test_support::Ledger;
use serde_json::Value;

use crate::helpers::{Scene, TIMEOUT, assert_metrics, logged, metric, submit_batch, time};

#[tokio::test]
async fn events_accepted_while_the_broker_restarts_arrive_in_order() {
    let mut scene = Scene::start().await;
    let ledger = scene.restart_broker_under_load().await;
    assert!(ledger.unconfirmed().is_empty(), "{}", ledger.summary());
}

#[tokio::test]
async fn status_and_metrics_follow_a_broker_that_stops_and_restarts() {
    let mut scene = Scene::start().await;
    let up = scene.service.status().await;
    assert_eq!((&up["state"], &up["protocol"]), (&"connected".into(), &"5".into()));
    assert_eq!(up["broker"], format!("127.0.0.1:{}", scene.broker.port()));
    assert_eq!((&up["last_error"], &up["next_attempt_at"]), (&Value::Null, &Value::Null));
    assert_eq!(up["reconnect_attempt"], 0);
    assert_metrics(&scene.service, &[("mqtt_connection_status", 1.0)]).await;

    scene.broker.stop().await;
    let refused_twice = |status: &Value| {
        status["state"] == "waiting"
            && status["last_error"]["kind"] == "refused"
            && status["reconnect_attempt"] == 3
    };
    let down = scene.service.wait_status("waiting after two refusals", TIMEOUT, refused_twice).await;
    assert_eq!((&down["connected"], &down["protocol"]), (&false.into(), &Value::Null));
    let (error, next) = (&down["last_error"], time(&down["next_attempt_at"]));
    assert!(time(&error["at"]) > time(&up["last_connected_at"]), "{down}");
    let wait = (next - time(&error["at"])).as_seconds_f64();
    assert!((3.1..=4.1).contains(&wait), "the third wait must be 4 s, minus at most a fifth: {down}");
    assert!(next <= clock::now() + std::time::Duration::from_secs(4), "{down}");
    assert!(error["message"].as_str().is_some_and(|text| text.contains("broker")), "{down}");

    let mut ledger = Ledger::new();
    submit_batch(&scene.service, &mut ledger, "during", 30).await;
    // The time is looked up in the database.
    let is_known = |status: &Value| !status["outbox"]["oldest_pending_at"].is_null();
    let status = scene.service.wait_status("the oldest pending event", TIMEOUT, is_known).await;
    let outbox = &status["outbox"];
    assert_eq!((&outbox["pending"], &outbox["in_flight"]), (&30.into(), &0.into()));
    assert!(time(&outbox["oldest_pending_at"]) > time(&error["at"]), "{outbox}");
    let expected = [
        ("mqtt_connection_status", 0.0),
        ("mqtt_reconnect_attempts_total", 2.0),
        ("liveobject_outbox_pending_events", 30.0),
        ("liveobject_outbox_in_flight_events", 0.0),
    ];
    assert_metrics(&scene.service, &expected).await;
    assert!(metric(&scene.service, "liveobject_outbox_oldest_pending_seconds").await > 0.0);

    scene.broker.resume().await;
    scene.service.wait_connected(TIMEOUT).await;
    scene.assert_all_arrive(&mut ledger).await;
    let again = scene.service.status().await;
    assert!(time(&again["last_connected_at"]) > time(&error["at"]), "{again}");
    assert_eq!((&again["state"], &again["next_attempt_at"]), (&"connected".into(), &Value::Null));
    assert_eq!(again["outbox"]["oldest_pending_at"], Value::Null);
    let expected = [
        ("mqtt_connection_status", 1.0),
        ("mqtt_reconnect_attempts_total", 3.0),
        ("liveobject_outbox_pending_events", 0.0),
        ("liveobject_outbox_oldest_pending_seconds", 0.0),
    ];
    assert_metrics(&scene.service, &expected).await;

    let warned = logged(&scene.service, "WARN");
    let log: Vec<_> = warned.iter().map(|line| (&line["message"], &line["kind"])).collect();
    let failed = (&"connection attempt failed".into(), &"refused".into());
    assert_eq!(log, [(&"disconnected".into(), &"closed".into()), failed, failed]);
}
