//! Another client with the same client id.

use std::time::Duration;

use liveobject_test_support::{Mosquitto, ScriptedBroker, Subscriber};
use serde_json::{Value, json};

use crate::helpers::{
    SERVICE_DEVICE, Scene, TIMEOUT, connected_service, error_message, event, scripted_broker, wait_for_error,
    wait_for_event, warnings,
};

/// In this time, a broker on the same machine answers everything that a new connection sends.
const ALL_ANSWERED: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_second_client_with_the_same_id_causes_no_loss() {
    let scene = Scene::with(&json!({ "client_id": "twin" })).await;
    let other_client =
        Subscriber::builder(scene.broker.port()).client_id("twin").filter("other/#").start().await;
    let is_disconnected = |status: &Value| status["connected"] == false;
    let status = scene.service.wait_status("the connection is lost", TIMEOUT, is_disconnected).await;
    // Not every broker version reports why it closes the older connection.
    let kind = status["last_error"]["kind"].as_str().expect("a kind");
    assert!(["taken_over", "closed"].contains(&kind), "{status}");
    let _ = scene.service.post_event(&event("a")).await.expect(202);
    drop(other_client);
    wait_for_event(&scene.subscriber, "a").await;
    scene.service.wait_until_delivered("a", TIMEOUT).await;
}

/// Waits until the service has sent all of its initial messages. If it were still sending, a failed write
/// could be reported instead of the DISCONNECT.
async fn wait_for_first_messages(broker: &ScriptedBroker) {
    let all_sent = |broker: &ScriptedBroker| {
        let received = broker.received();
        let has = |topic: &str| received.iter().any(|received| received.publish.topic == topic);
        has(SERVICE_DEVICE) && has("liveobject/outbox") && !broker.subscriptions().is_empty()
    };
    broker.wait_for("the first messages", TIMEOUT, all_sent).await;
}

#[tokio::test]
async fn each_disconnect_reason_is_reported_as_the_correct_failure_kind() {
    for (reason, kind) in [
        (0x8e, "taken_over"),
        (0x87, "not_authorized"),
        (0x8d, "stalled"),
        (0x82, "protocol"),
        (0x8b, "closed"),
        (0x98, "closed"),
    ] {
        let (broker, service) = scripted_broker(&json!({})).await;
        wait_for_first_messages(&broker).await;
        broker.disconnect(reason);
        let status = service.wait_status("an error", TIMEOUT, |status| !status["last_error"].is_null()).await;
        assert_eq!(status["last_error"]["kind"], kind, "reason {reason:#x}: {status}");
    }
}

/// Eight attempts: the pauses between them grow to a minute.
const DETECTION_TIMEOUT: Duration = Duration::from_secs(140);

/// Time in which all messages of the service are answered. Ends while a message is unanswered do not count.
const TWIN_RECONNECTS: Duration = Duration::from_millis(500);

/// The service may not read its own topics, so it does not receive its own last will when the broker ends its session.
const WRITES_ONLY: &str = "topic write #\ntopic read other/#\n";
const EVERYTHING: &str = "topic readwrite #\n";

#[tokio::test]
async fn a_second_client_that_keeps_reconnecting_is_detected_even_if_the_broker_does_not_report_it() {
    for (protocol, acl) in
        [("5", WRITES_ONLY), ("3.1.1", WRITES_ONLY), ("5", EVERYTHING), ("3.1.1", EVERYTHING)]
    {
        let broker = Mosquitto::builder().acl(acl).start().await;
        let settings = json!({ "client_id": "twin", "protocol": protocol, "discovery_enabled": false });
        let service = connected_service(broker.port(), &settings).await;
        let twin = Subscriber::builder(broker.port()).client_id("twin").filter("other/#");
        let _twin = twin.reconnect_after(TWIN_RECONNECTS).start().await;
        let suspected = |status: &Value| status["last_error"]["kind"] == "taken_over";
        let status = service.wait_status("a takeover", DETECTION_TIMEOUT, suspected).await;
        let message = error_message(&status);
        assert!(message.contains("nother client") && message.contains("client_id"), "{message}");
    }
}

#[tokio::test]
async fn a_suspected_takeover_raises_a_warning_while_connected() {
    let (broker, service) = scripted_broker(&json!({ "protocol": "3.1.1", "client_id": "twin" })).await;
    for attempt in 1..=3 {
        service.wait_connected(TIMEOUT).await;
        // A message that the broker has not answered would be a more likely reason.
        tokio::time::sleep(ALL_ANSWERED).await;
        broker.close();
        let counted = |status: &Value| status["reconnect_attempt"] == attempt;
        service.wait_status(&format!("failure {attempt} in a row"), TIMEOUT, counted).await;
    }
    let status = wait_for_error(&service, "taken_over").await;
    let message = error_message(&status);
    assert!(message.contains("probably another client") && message.contains("\"twin\""), "{message}");
    service.wait_connected(TIMEOUT).await;
    assert_eq!(warnings(&service.status().await), ["client_id_taken_over"]);
}
