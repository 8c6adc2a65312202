//! Messages that the broker will not take must not stop the others: it ends the connection over them, refuses
//! them and then ends the connection, or does not acknowledge them.

use std::time::Duration;

use liveobject_test_support::{
    Ledger, Mosquitto, Proxy, Reply, Rule, ScriptedBroker, Service, Subscriber, api::MQTT, wait_until,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::helpers::{
    EVENTS, LONG_TIMEOUT, SHORTEST, TIMEOUT, assert_all_arrive, assert_metrics, connect, connected_service,
    delivery, event, event_id, event_ids, event_of, events_received, large_event, metric, put_large_picture,
    service, settings, submit, wait_for_dead, wait_for_error, warnings,
};

const AVAILABILITY: &str = "liveobject/status";

fn with_neighbors(poison: Value) -> Vec<Value> {
    let mut events: Vec<_> = event_ids("e", 6).iter().map(|id| event(id)).collect();
    events.insert(3, poison);
    events
}

/// Returns the messages of the warnings of this kind.
async fn warned(service: &Service, kind: &str) -> Vec<String> {
    let status = service.status().await;
    let warnings = status["warnings"].as_array().expect("a list of warnings");
    let of_kind = warnings.iter().filter(|warning| warning["kind"] == kind);
    of_kind.map(|warning| warning["message"].as_str().expect("a message").to_owned()).collect()
}

/// Waits until there is a warning of this kind that contains this text.
async fn wait_for_warning(service: &Service, kind: &str, text: &str) {
    let found = async || warned(service, kind).await.iter().any(|message| message.contains(text));
    wait_until(&format!("a warning {kind} about {text}"), LONG_TIMEOUT, found).await;
}

/// Tests that the other events are delivered within a minute if a broker replies to one event like this.
async fn assert_one_event_does_not_block_the_others(reply: Reply, other: &Value, reason: &str) {
    let broker = ScriptedBroker::start().await;
    broker.rule(Rule::event("poison", reply));
    let service = connected_service(broker.port(), other).await;
    let (mut ledger, start) = (Ledger::new(), Instant::now());
    submit(&service, &mut ledger, with_neighbors(event("poison"))).await;
    for id in event_ids("e", 6) {
        service.wait_until_delivered(&id, LONG_TIMEOUT).await;
    }
    assert!(start.elapsed() < LONG_TIMEOUT, "{reply:?}: {:?}", start.elapsed());
    wait_for_dead(&service, 1).await;
    assert_eq!(delivery(&service, "poison").await["reason"], reason, "{reply:?}");
    assert_metrics(&service, &[(&format!("liveobject_events_dead_total{{reason=\"{reason}\"}}"), 1.0)]).await;
    let poison = events_received(&broker).iter().filter(|received| event_id(received) == "poison").count();
    assert!(poison <= 6, "{reply:?}: sent {poison} times");
    let status = service.status().await;
    assert_ne!(status["last_error"]["kind"], "taken_over", "{status}");
    wait_for_warning(&service, "messages_left_out", "liveobject/camera/door/event").await;
    assert!(!warnings(&status).contains(&"client_id_taken_over"), "{status}");
}

#[tokio::test]
async fn an_event_over_which_the_broker_closes_does_not_block_the_others() {
    for protocol in ["5", "3.1.1"] {
        let protocol = json!({ "protocol": protocol });
        let reason = "connection_closed_by_broker";
        assert_one_event_does_not_block_the_others(Reply::Close, &protocol, reason).await;
    }
}

#[tokio::test]
async fn an_event_that_is_sent_again_gets_all_its_attempts_and_can_die_again() {
    let broker = ScriptedBroker::start().await;
    broker.rule(Rule::event("poison", Reply::Close));
    let service = connected_service(broker.port(), &json!({})).await;
    let mut ledger = Ledger::new();
    submit(&service, &mut ledger, [event("poison")]).await;
    wait_for_dead(&service, 1).await;
    let before = events_received(&broker).len();
    let _ = service.post(&format!("{EVENTS}/poison/retry"), &Value::Null).await.expect(202);
    wait_for_dead(&service, 1).await;
    let again = events_received(&broker).len() - before;
    assert!((3..=6).contains(&again), "sent {again} times");
}

#[tokio::test]
async fn an_event_over_which_the_broker_disconnects_does_not_block_the_others() {
    for reply in [Reply::Disconnect(0x95), Reply::Disconnect(0x97), Reply::ShortDisconnect(0x87)] {
        assert_one_event_does_not_block_the_others(reply, &json!({}), "connection_closed_by_broker").await;
    }
}

#[tokio::test]
async fn an_event_that_the_broker_ignores_does_not_block_the_others() {
    let broker = ScriptedBroker::start().await;
    broker.rule(Rule::event("ignored", Reply::Withhold));
    let service = service().config("[outbox]\nwindow = 10\n").start().await;
    connect(&service, broker.port(), &json!({ "ack_timeout_seconds": SHORTEST })).await;
    let mut ledger = Ledger::new();
    // More than eight windows, beyond which nothing is sent while one event is unanswered.
    submit(&service, &mut ledger, [event("ignored")]).await;
    let others = event_ids("e", 150);
    submit(&service, &mut ledger, others.iter().map(|id| event(id))).await;
    service.wait_until_delivered("e-150", LONG_TIMEOUT).await;
    wait_for_dead(&service, 1).await;
    assert_eq!(delivery(&service, "ignored").await["reason"], "ignored_by_broker");
    for id in &others {
        assert_eq!(delivery(&service, id).await["state"], "delivered");
    }
}

#[tokio::test]
async fn a_topic_over_which_the_broker_closes_does_not_block_other_topics() {
    let broker = ScriptedBroker::start().await;
    broker.rule(Rule::topic("liveobject/camera/yard/event", Reply::Close));
    let service = connected_service(broker.port(), &json!({})).await;
    let (mut ledger, start) = (Ledger::new(), Instant::now());
    let both = |i: usize| [event_of("yard", &format!("y-{i}")), event_of("door", &format!("d-{i}"))];
    submit(&service, &mut ledger, (1..=100).flat_map(both)).await;
    service.wait_until_delivered("d-100", LONG_TIMEOUT).await;
    assert!(start.elapsed() < LONG_TIMEOUT, "{:?}", start.elapsed());
    let all_dead = |status: &Value| status["outbox"]["dead"] == 100 && status["outbox"]["pending"] == 0;
    service.wait_status("100 dead events, all of the other camera", LONG_TIMEOUT, all_dead).await;
    let dead = service.get("/api/v1/events?state=dead").await.expect(200);
    let dead = dead["events"].as_array().expect("a list");
    assert!(dead.iter().all(|event| event["camera_id"] == "yard"));
    let connects = broker.connects().len();
    assert!(connects <= 12, "{connects} connections");
    wait_for_warning(&service, "messages_left_out", "liveobject/camera/yard/event").await;
}

/// With the default time-out, and with more events of the topic than may be in flight.
#[tokio::test]
async fn a_topic_that_the_broker_ignores_does_not_block_other_topics() {
    let broker = ScriptedBroker::start().await;
    broker.rule(Rule::topic("liveobject/camera/yard/event", Reply::Withhold));
    let service = service().config("[outbox]\nwindow = 10\n").start().await;
    connect(&service, broker.port(), &json!({})).await;
    let (mut ledger, start) = (Ledger::new(), Instant::now());
    let both = |i: usize| [event_of("yard", &format!("y-{i}")), event_of("door", &format!("d-{i}"))];
    submit(&service, &mut ledger, (1..=100).flat_map(both)).await;
    service.wait_until_delivered("d-100", LONG_TIMEOUT).await;
    assert!(start.elapsed() < LONG_TIMEOUT, "{:?}", start.elapsed());
    let all_dead = |status: &Value| status["outbox"]["dead"] == 100 && status["outbox"]["pending"] == 0;
    service.wait_status("100 dead events, all of the other camera", LONG_TIMEOUT, all_dead).await;
    wait_for_warning(&service, "messages_left_out", "liveobject/camera/yard/event").await;
}

#[tokio::test]
async fn discovery_over_which_the_broker_closes_is_left_out_and_events_flow() {
    for protocol in ["5", "3.1.1"] {
        let broker = ScriptedBroker::start().await;
        broker.rule(Rule::when(|publish| publish.topic.starts_with("homeassistant/"), Reply::Close));
        let service = connected_service(broker.port(), &json!({ "protocol": protocol })).await;
        let (mut ledger, start) = (Ledger::new(), Instant::now());
        let events = (1..=100).map(|i| event_of(&format!("camera-{}", i % 10), &format!("e-{i}")));
        submit(&service, &mut ledger, events).await;
        service.wait_outbox_empty(LONG_TIMEOUT).await;
        assert!(start.elapsed() < LONG_TIMEOUT, "{:?}", start.elapsed());
        assert_eq!(service.status().await["outbox"]["dead"], 0);
        wait_for_warning(&service, "messages_left_out", "homeassistant/#").await;
        service.wait_connected(TIMEOUT).await;
        let published = service.post(&format!("{MQTT}/publish-discovery"), &Value::Null).await.expect(200);
        assert_eq!(published["success"], false, "{published}");
        let connects = broker.connects().len();
        assert!(connects <= 15, "{connects} connections");
    }
}

#[tokio::test]
async fn the_availability_is_left_out_if_the_broker_closes_over_it() {
    for protocol in ["5", "3.1.1"] {
        let broker = ScriptedBroker::start().await;
        broker.rule(Rule::topic(AVAILABILITY, Reply::Close));
        let service = service().start().await;
        let _ =
            service.put_config(&settings(broker.port(), &json!({ "protocol": protocol }))).await.expect(200);
        let mut ledger = Ledger::new();
        submit(&service, &mut ledger, with_neighbors(event("e"))).await;
        service.wait_outbox_empty(LONG_TIMEOUT).await;
        assert_eq!(service.status().await["outbox"]["dead"], 0);
        wait_for_warning(&service, "messages_left_out", AVAILABILITY).await;
    }
}

/// An ACL that permits neither the availability nor discovery.
const CAMERAS_ONLY: &str = "topic readwrite liveobject/camera/#\n";

#[tokio::test]
async fn a_forbidden_availability_topic_does_not_block_events_if_a_real_broker_closes_after_each_refusal() {
    let broker = Mosquitto::builder().acl(CAMERAS_ONLY).max_queued_messages(0).start().await;
    let subscriber = Subscriber::builder(broker.port()).filter("liveobject/camera/#").start().await;
    let service = service().start().await;
    let _ = service.put_config(&settings(broker.port(), &json!({}))).await.expect(200);
    let status = wait_for_error(&service, "not_authorized").await;
    let message = status["last_error"]["message"].as_str().expect("a message");
    assert!(message.contains(AVAILABILITY), "{message}");
    let mut ledger = Ledger::new();
    submit(&service, &mut ledger, event_ids("e", 15).iter().map(|id| event(id))).await;
    assert_all_arrive(&service, &[&subscriber], &mut ledger).await;
    wait_for_warning(&service, "messages_left_out", AVAILABILITY).await;
    service.wait_connected(LONG_TIMEOUT).await;
}

#[tokio::test]
async fn a_forbidden_availability_topic_raises_a_warning_until_it_is_permitted() {
    let mut broker = Mosquitto::builder().acl(CAMERAS_ONLY).start().await;
    let service = connected_service(broker.port(), &json!({})).await;
    wait_for_warning(&service, "topic_refused", AVAILABILITY).await;
    wait_for_warning(&service, "topic_refused", "homeassistant/#").await;
    let mut ledger = Ledger::new();
    submit(&service, &mut ledger, event_ids("e", 15).iter().map(|id| event(id))).await;
    service.wait_outbox_empty(TIMEOUT).await;
    broker.set_acl("topic readwrite #\n").await;
    let _ = service.put_config(&settings(broker.port(), &json!({}))).await.expect(200);
    service.wait_connected(TIMEOUT).await;
    let gone = async || warned(&service, "topic_refused").await.is_empty();
    wait_until("the warning is gone", TIMEOUT, gone).await;
}

#[tokio::test]
async fn a_picture_above_a_real_brokers_limit_is_sent_few_times() {
    let broker = Mosquitto::builder().max_packet_size(100_000).upgrade_outgoing_qos().start().await;
    let subscriber = Subscriber::start(broker.port()).await;
    let service = connected_service(broker.port(), &json!({ "protocol": "3.1.1" })).await;
    let mut ledger = Ledger::new();
    submit(&service, &mut ledger, [event("with-picture")]).await;
    put_large_picture(&service, "with-picture", 1, 1_500_000).await;
    wait_for_warning(&service, "messages_left_out", "liveobject/camera/door/thumbnail").await;
    service.wait_connected(TIMEOUT).await;
    submit(&service, &mut ledger, with_neighbors(event("later"))).await;
    assert_all_arrive(&service, &[&subscriber], &mut ledger).await;
    let reconnects = metric(&service, "mqtt_reconnect_attempts_total").await;
    assert!((1.0..=4.0).contains(&reconnects), "{reconnects} reconnects");
    assert_eq!(service.status().await["outbox"]["dead"], 0);
}

#[tokio::test]
async fn a_picture_over_which_the_broker_disconnects_is_sent_few_times() {
    for reply in [Reply::Disconnect(0x97), Reply::ShortDisconnect(0x95), Reply::Close] {
        let broker = ScriptedBroker::start().await;
        broker.rule(Rule::when(|publish| publish.payload.len() > 100_000, reply));
        let service = connected_service(broker.port(), &json!({})).await;
        let mut ledger = Ledger::new();
        submit(&service, &mut ledger, [event("with-picture")]).await;
        put_large_picture(&service, "with-picture", 1, 1_500_000).await;
        wait_for_warning(&service, "messages_left_out", "liveobject/camera/door/thumbnail").await;
        submit(&service, &mut ledger, with_neighbors(event("later"))).await;
        service.wait_outbox_empty(LONG_TIMEOUT).await;
        let pictures =
            broker.received().iter().filter(|received| received.publish.payload.len() > 100_000).count();
        assert!(pictures <= 3, "{reply:?}: sent {pictures} times");
        assert_eq!(service.status().await["outbox"]["dead"], 0);
    }
}

#[tokio::test]
async fn a_state_above_a_real_brokers_size_limit_raises_a_warning_and_the_connection_stays() {
    let broker = Mosquitto::builder().message_size_limit(1000).upgrade_outgoing_qos().start().await;
    let subscriber = Subscriber::start(broker.port()).await;
    let service = connected_service(broker.port(), &json!({})).await;
    let mut ledger = Ledger::new();
    submit(&service, &mut ledger, with_neighbors(large_event("large", 1000))).await;
    wait_for_dead(&service, 1).await;
    assert_eq!(delivery(&service, "large").await["reason"], "packet_too_large");
    ledger.dead(4);
    // The discovery message of the camera exceeds the limit too.
    wait_for_warning(&service, "topic_refused", "homeassistant/").await;
    assert_all_arrive(&service, &[&subscriber], &mut ledger).await;
    assert_metrics(&service, &[("mqtt_reconnect_attempts_total", 0.0)]).await;
}

#[tokio::test]
async fn two_coincidental_closes_over_the_same_event_cause_no_dead_event() {
    let broker = ScriptedBroker::start().await;
    broker.rule(Rule::event("e-1", Reply::Close).times(2));
    let service = connected_service(broker.port(), &json!({})).await;
    let mut ledger = Ledger::new();
    submit(&service, &mut ledger, [event("e-1")]).await;
    service.wait_until_delivered("e-1", LONG_TIMEOUT).await;
    assert_eq!(events_received(&broker).len(), 3);
    assert_eq!(service.status().await["outbox"]["dead"], 0);
}

#[tokio::test]
async fn a_broker_that_closes_every_connection_causes_no_dead_event() {
    let broker = ScriptedBroker::start().await;
    broker.rule(Rule::event("e-1", Reply::Withhold));
    let service = connected_service(broker.port(), &json!({})).await;
    let mut ledger = Ledger::new();
    submit(&service, &mut ledger, [event("e-1")]).await;
    // It closes soon after each login, whether or not there is a message.
    for attempt in 1..=4 {
        let accepted = |broker: &ScriptedBroker| broker.connects().len() == attempt && broker.open() == 1;
        broker.wait_for(&format!("login {attempt}"), LONG_TIMEOUT, accepted).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        broker.close();
    }
    broker.clear_rules();
    service.wait_until_delivered("e-1", LONG_TIMEOUT).await;
    assert_eq!(service.status().await["outbox"]["dead"], 0);
}

#[tokio::test]
async fn a_network_that_resets_connections_for_a_while_causes_no_dead_event() {
    let broker = ScriptedBroker::start().await;
    broker.rule(Rule::event("e-1", Reply::Withhold).times(5));
    let proxy = Proxy::start(broker.port()).await;
    let service = connected_service(proxy.port(), &json!({})).await;
    let mut ledger = Ledger::new();
    submit(&service, &mut ledger, [event("e-1")]).await;
    for times in 1..=5 {
        let sent = |broker: &ScriptedBroker| events_received(broker).len() == times;
        broker.wait_for(&format!("the event, {times} times"), LONG_TIMEOUT, sent).await;
        proxy.reset().await;
        let is_waiting = |status: &Value| status["state"] == "waiting";
        let status = service.wait_status("the connection is lost", LONG_TIMEOUT, is_waiting).await;
        assert_eq!(status["last_error"]["kind"], "closed", "{status}");
    }
    service.wait_until_delivered("e-1", LONG_TIMEOUT).await;
    assert_eq!(service.status().await["outbox"]["dead"], 0);
}

#[tokio::test]
async fn a_state_that_the_broker_refuses_before_it_resets_the_connection_is_left_out() {
    let broker = ScriptedBroker::start().await;
    broker.rule(Rule::topic("liveobject/outbox", Reply::AcknowledgeAndReset(0x87)));
    let service = connected_service(broker.port(), &json!({})).await;
    let mut ledger = Ledger::new();
    submit(&service, &mut ledger, with_neighbors(event("e"))).await;
    service.wait_outbox_empty(TIMEOUT).await;
    wait_for_warning(&service, "messages_left_out", "liveobject/outbox").await;
    let connects = broker.connects().len();
    assert!(connects <= 3, "{connects} connections");
}

#[tokio::test]
async fn a_refusal_long_before_the_broker_closes_is_not_the_reason() {
    let broker = ScriptedBroker::start().await;
    broker.rule(Rule::topic(AVAILABILITY, Reply::Reason(0x87)).times(1));
    let service = connected_service(broker.port(), &json!({ "discovery_enabled": false })).await;
    wait_for_warning(&service, "topic_refused", AVAILABILITY).await;
    // The broker restarts later.
    tokio::time::sleep(Duration::from_secs(3)).await;
    broker.close();
    let published_again = |broker: &ScriptedBroker| {
        broker.received().iter().filter(|received| received.publish.topic == AVAILABILITY).count() == 2
    };
    broker.wait_for("the availability, twice", TIMEOUT, published_again).await;
    assert!(warned(&service, "messages_left_out").await.is_empty());
}
