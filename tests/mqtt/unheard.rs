//! Events that the broker accepts and no subscriber receives.

use liveobject_test_support::{Mosquitto, Reply, Rule, Subscriber};
use serde_json::json;

use crate::helpers::{
    TIMEOUT, assert_metrics, connected_service, event, scripted_broker, wait_for_event, warnings,
};

#[tokio::test]
async fn a_lack_of_subscribers_raises_a_warning_until_one_subscribes() {
    let broker = Mosquitto::start().await;
    let service = connected_service(broker.port(), &json!({})).await;
    let _ = service.post_event(&event("unheard")).await.expect(202);
    service.wait_until_delivered("unheard", TIMEOUT).await;
    let status = service.status().await;
    assert_eq!(warnings(&status), ["no_subscribers"], "{status}");
    let message = status["warnings"][0]["message"].as_str().expect("a message");
    assert!(message.contains("liveobject/camera/door/event"), "{message}");
    assert_metrics(&service, &[("events_unheard_total", 1.0), ("mqtt_messages_published_total", 1.0)]).await;

    let subscriber = Subscriber::builder(broker.port()).filter("liveobject/camera/#").start().await;
    let _ = service.post_event(&event("heard")).await.expect(202);
    wait_for_event(&subscriber, "heard").await;
    service.wait_until_delivered("heard", TIMEOUT).await;
    let status = service.status().await;
    assert!(warnings(&status).is_empty(), "{status}");
    assert_metrics(&service, &[("events_unheard_total", 1.0), ("mqtt_messages_published_total", 2.0)]).await;
}

#[tokio::test]
async fn with_qos_2_a_lack_of_subscribers_raises_a_warning_too() {
    let (broker, service) = scripted_broker(&json!({ "qos": 2 })).await;
    broker.rule(Rule::event("unheard", Reply::Reason(0x10)));
    let _ = service.post_event(&event("unheard")).await.expect(202);
    service.wait_until_delivered("unheard", TIMEOUT).await;
    assert_eq!(warnings(&service.status().await), ["no_subscribers"]);
    assert_metrics(&service, &[("events_unheard_total", 1.0)]).await;
    let _ = service.post_event(&event("heard")).await.expect(202);
    service.wait_until_delivered("heard", TIMEOUT).await;
    assert!(warnings(&service.status().await).is_empty());
    assert_metrics(&service, &[("events_unheard_total", 1.0)]).await;
}
