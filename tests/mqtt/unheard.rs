//! Events that the broker accepts and no subscriber receives.

use liveobject_test_support::{Mosquitto, Reply, Rule, Subscriber};
use serde_json::json;

use crate::helpers::{
    TIMEOUT, assert_metrics, connected_service, delivery, event, old_event, scripted_broker, wait_for_event,
    warnings,
};

#[tokio::test]
async fn a_lack_of_subscribers_raises_a_warning_that_outlasts_the_next_event() {
    let broker = Mosquitto::start().await;
    let service = connected_service(broker.port(), &json!({})).await;
    let _ = service.post_event(&event("unheard")).await.expect(202);
    service.wait_until_delivered("unheard", TIMEOUT).await;
    let status = service.status().await;
    assert_eq!(warnings(&status), ["no_subscribers"], "{status}");
    let message = status["warnings"][0]["message"].as_str().expect("a message");
    assert!(message.contains("liveobject/camera/door/event"), "{message}");
    assert_metrics(
        &service,
        &[("liveobject_events_unheard_total", 1.0), ("mqtt_messages_published_total", 1.0)],
    )
    .await;

    let subscriber = Subscriber::builder(broker.port()).filter("liveobject/camera/#").start().await;
    let _ = service.post_event(&event("heard")).await.expect(202);
    wait_for_event(&subscriber, "heard").await;
    service.wait_until_delivered("heard", TIMEOUT).await;
    let status = service.status().await;
    assert_eq!(warnings(&status), ["no_subscribers"], "{status}");
    let message = status["warnings"][0]["message"].as_str().expect("a message");
    assert!(message.contains("accepted 1 event since"), "{message}");
    assert!(message.contains("Somebody subscribes to it again"), "{message}");
    assert_eq!(delivery(&service, "unheard").await["heard"], false);
    assert_eq!(delivery(&service, "heard").await["heard"], true);
    assert_metrics(
        &service,
        &[("liveobject_events_unheard_total", 1.0), ("mqtt_messages_published_total", 2.0)],
    )
    .await;
}

#[tokio::test]
async fn with_qos_2_a_lack_of_subscribers_raises_a_warning_too() {
    let (broker, service) = scripted_broker(&json!({ "qos": 2 })).await;
    broker.rule(Rule::event("unheard", Reply::Reason(0x10)));
    let _ = service.post_event(&event("unheard")).await.expect(202);
    service.wait_until_delivered("unheard", TIMEOUT).await;
    assert_eq!(warnings(&service.status().await), ["no_subscribers"]);
    assert_metrics(&service, &[("liveobject_events_unheard_total", 1.0)]).await;
    let _ = service.post_event(&event("heard")).await.expect(202);
    service.wait_until_delivered("heard", TIMEOUT).await;
    assert_eq!(delivery(&service, "unheard").await["heard"], false);
    assert_eq!(delivery(&service, "heard").await["heard"], true);
    assert_metrics(&service, &[("liveobject_events_unheard_total", 1.0)]).await;
}

#[tokio::test]
async fn a_late_event_raises_no_warning_about_subscribers_unless_somebody_listened_to_history_before() {
    let (broker, service) = scripted_broker(&json!({})).await;
    for id in ["late-1", "late-3"] {
        broker.rule(Rule::event(id, Reply::Reason(0x10)));
    }
    for (id, heard, expected) in [
        ("late-1", false, &["late_on_arrival"][..]),
        ("late-2", true, &["late_on_arrival"]),
        ("late-3", false, &["no_subscribers", "late_on_arrival"]),
    ] {
        let _ = service.post_event(&old_event(id, 3600)).await.expect(202);
        service.wait_until_delivered(id, TIMEOUT).await;
        assert_eq!(delivery(&service, id).await["heard"], heard, "{id}");
        assert_eq!(warnings(&service.status().await), expected, "{id}");
    }
}

#[tokio::test]
async fn with_mqtt_3_1_1_it_is_unknown_whether_an_event_was_heard() {
    let broker = Mosquitto::start().await;
    let service = connected_service(broker.port(), &json!({ "protocol": "3.1.1" })).await;
    let _ = service.post_event(&event("a")).await.expect(202);
    service.wait_until_delivered("a", TIMEOUT).await;
    assert_eq!(delivery(&service, "a").await["heard"], json!(null));
}
