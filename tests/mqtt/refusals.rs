//! A broker that refuses individual events.

use liveobject_test_support::{Acks, Ledger, Mosquitto, Reply, Rule, ScriptedBroker, Subscriber};
use serde_json::{Value, json};

use crate::helpers::{
    TIMEOUT, assert_all_arrive, assert_metrics, connected_service, delivery, event, event_id, event_ids,
    event_of, events_received, logged, scripted_broker, submit, submit_batch, wait_for_dead,
};

/// Access rules that forbid publishing the events from the camera `safe`.
const ACL: &str = "topic deny liveobject/camera/safe/event\n\
    topic write liveobject/#\ntopic write homeassistant/#\ntopic read #";

fn forbidden(event_id: &str) -> Value {
    event_of("safe", event_id)
}

async fn assert_forbidden_events_are_dead(qos: u8) {
    let broker = Mosquitto::builder().upgrade_outgoing_qos().acl(ACL).start().await;
    let subscriber = Subscriber::start(broker.port()).await;
    let service = connected_service(broker.port(), &json!({ "qos": qos })).await;
    let mut ledger = Ledger::new();
    let events = [event("a"), forbidden("x"), event("b"), forbidden("y"), event("c")];
    submit(&service, &mut ledger, events).await;
    let dead = wait_for_dead(&service, 2).await;
    assert_eq!(dead.iter().map(|event| &event["event_id"]).collect::<Vec<_>>(), ["y", "x"], "newest first");
    for event in &dead {
        assert_eq!(event["delivery"]["state"], "dead");
        assert_eq!(event["delivery"]["reason"], "not_authorized");
        ledger.dead(event["seq"].as_u64().expect("a number"));
    }
    assert_all_arrive(&service, &[&subscriber], &mut ledger).await;
    assert_eq!(subscriber.events().len(), 3);
    assert_metrics(
        &service,
        &[
            ("liveobject_events_dead_total{reason=\"not_authorized\"}", 2.0),
            ("mqtt_publish_errors_total{reason=\"not_authorized\"}", 2.0),
            ("mqtt_messages_published_total", 3.0),
            ("mqtt_reconnect_attempts_total", 0.0),
        ],
    )
    .await;
    let status = service.status().await;
    assert_eq!((&status["publish_errors"], &status["connected"]), (&2.into(), &true.into()));
    let warned = logged(&service, "WARN");
    let of_state = |line: &&Value| line["message"].as_str().is_some_and(|text| text.starts_with("state"));
    let (of_state, others): (Vec<_>, Vec<_>) = warned.iter().partition(of_state);
    assert_eq!(others.len(), 2, "{warned:#?}");
    assert!(of_state.len() <= 2, "once for states and once for discovery: {warned:#?}");
}

#[tokio::test]
async fn with_qos_1_forbidden_events_are_dead_and_the_others_arrive() {
    assert_forbidden_events_are_dead(1).await;
}

#[tokio::test]
async fn with_qos_2_forbidden_events_are_dead_and_the_others_arrive() {
    assert_forbidden_events_are_dead(2).await;
}

/// Lets the broker refuse the second of five events twice with this reason, and asserts that all five are
/// delivered.
async fn assert_retried_after_two_refusals(reason: u8, name: &str, qos: u8) {
    let (broker, service) = scripted_broker(&json!({ "qos": qos })).await;
    broker.rule(Rule::event("e-2", Reply::Reason(reason)).times(2));
    let mut ledger = Ledger::new();
    submit_batch(&service, &mut ledger, "e", 5).await;
    service.wait_outbox_empty(TIMEOUT).await;
    for id in event_ids("e", 5) {
        service.wait_until_delivered(&id, TIMEOUT).await;
    }
    let sent: Vec<_> = events_received(&broker).iter().map(event_id).collect();
    assert_eq!(sent.iter().filter(|id| *id == "e-2").count(), 3, "{sent:?}");
    assert_eq!(sent.len(), 7, "only the refused one was sent again: {sent:?}");
    let refusals = format!("mqtt_publish_errors_total{{reason=\"{name}\"}}");
    assert_metrics(&service, &[(&refusals, 2.0), ("mqtt_messages_published_total", 5.0)]).await;
    assert_eq!(service.status().await["outbox"]["dead"], 0);
    assert_eq!(broker.connects().len(), 1, "the connection stayed");
    assert_eq!(broker.violations(), [""; 0]);
}

#[tokio::test]
async fn an_event_that_exceeds_a_quota_is_retried() {
    assert_retried_after_two_refusals(0x97, "quota_exceeded", 1).await;
}

#[tokio::test]
async fn a_state_that_exceeds_a_quota_is_retried() {
    let broker = ScriptedBroker::start().await;
    for part in ["\"events_today\":1", "\"identifiers\":[\"liveobject_door\"]"] {
        broker.rule(Rule::payload(part, Reply::Reason(0x97)).times(2));
    }
    let service = connected_service(broker.port(), &json!({})).await;
    let _ = service.post_event(&event("e1")).await.expect(202);
    for end in ["door/counts", "liveobject_door/config"] {
        let sent = |broker: &ScriptedBroker| {
            broker.received().iter().filter(|received| received.publish.topic.ends_with(end)).count()
        };
        broker.wait_for(&format!("{end}, twice refused"), TIMEOUT, |broker| sent(broker) == 3).await;
    }
    assert!(logged(&service, "WARN").is_empty());
}

#[tokio::test]
async fn with_qos_2_an_event_that_exceeds_a_quota_is_retried() {
    assert_retried_after_two_refusals(0x97, "quota_exceeded", 2).await;
}

#[tokio::test]
async fn an_unspecified_error_is_retried() {
    assert_retried_after_two_refusals(0x80, "unspecified_error", 1).await;
}

#[tokio::test]
async fn each_permanent_refusal_makes_the_event_dead_with_its_reason() {
    let (broker, service) = scripted_broker(&json!({})).await;
    let refusals = [(0x87, "not_authorized"), (0x90, "topic_name_invalid"), (0x99, "payload_format_invalid")];
    for (reason, name) in refusals {
        broker.rule(Rule::event(name, Reply::Reason(reason)));
    }
    let mut ledger = Ledger::new();
    submit(&service, &mut ledger, refusals.map(|(_, name)| event(name))).await;
    submit(&service, &mut ledger, [event("last")]).await;
    wait_for_dead(&service, 3).await;
    for (_, name) in refusals {
        assert_eq!(delivery(&service, name).await["reason"], name);
        assert_metrics(&service, &[(&format!("liveobject_events_dead_total{{reason=\"{name}\"}}"), 1.0)])
            .await;
    }
    service.wait_until_delivered("last", TIMEOUT).await;
    assert_eq!(events_received(&broker).len(), 4, "none was sent twice");
    assert_eq!(broker.connects().len(), 1);
}

#[tokio::test]
async fn a_dead_event_stays_dead_after_a_restart() {
    let (broker, mut service) = scripted_broker(&json!({})).await;
    broker.rule(Rule::event("bad", Reply::Reason(0x87)));
    let mut ledger = Ledger::new();
    submit(&service, &mut ledger, [event("a"), event("bad"), event("b")]).await;
    wait_for_dead(&service, 1).await;
    service.wait_until_delivered("b", TIMEOUT).await;
    service.restart().await;
    service.wait_connected(TIMEOUT).await;
    submit(&service, &mut ledger, [event("c")]).await;
    service.wait_until_delivered("c", TIMEOUT).await;
    assert_eq!(delivery(&service, "bad").await["reason"], "not_authorized");
    let sent: Vec<_> = events_received(&broker).iter().map(event_id).collect();
    assert_eq!(sent, ["a", "bad", "b", "c"], "nothing was sent again");
}

#[tokio::test]
async fn acknowledgements_may_arrive_in_any_order() {
    for qos in [1, 2] {
        let (broker, mut service) = scripted_broker(&json!({ "qos": qos })).await;
        broker.set_acks(Acks::ReverseWithin(10));
        let mut ledger = Ledger::new();
        submit_batch(&service, &mut ledger, "e", 50).await;
        service.wait_outbox_empty(TIMEOUT).await;
        // Acknowledgements survive a restart: nothing is sent again.
        broker.set_acks(Acks::All);
        service.restart().await;
        service.wait_connected(TIMEOUT).await;
        submit(&service, &mut ledger, [event("last")]).await;
        service.wait_until_delivered("last", TIMEOUT).await;
        let mut expected = event_ids("e", 50);
        expected.push("last".to_owned());
        assert_eq!(events_received(&broker).iter().map(event_id).collect::<Vec<_>>(), expected);
        assert_eq!(broker.violations(), [""; 0]);
    }
}
