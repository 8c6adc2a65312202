//! Live events are sent ahead of a backlog that is late.

use std::time::Duration;

use liveobject_test_support::{Ledger, Message, Mosquitto, Proxy, Service, Subscriber, wait_until};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::helpers::{
    LONG_TIMEOUT, SHORTEST, TIMEOUT, assert_all_arrive, connect, delivery, disable, event, event_ids,
    event_of, service, settings, submit_batch, submit_batch_of,
};

/// How soon a new event must be heard.
const SOON: Duration = Duration::from_secs(2);

/// Posts one event a second, and asserts that each of them is soon heard on the event topic.
async fn assert_each_is_heard_live(
    service: &Service,
    subscriber: &Subscriber,
    ledger: &mut Ledger,
    count: usize,
) {
    for id in event_ids("new", count) {
        let posted = Instant::now();
        // The events of both cameras that have a backlog.
        let camera = if ledger.accepted_count() % 2 == 0 { "door" } else { "yard" };
        ledger.accepted_receipt(&service.post_event(&event_of(camera, &id)).await.expect(202));
        let is_it = |message: &Message| message.is_event() && message.json()["event_id"] == id.as_str();
        let messages = subscriber.wait_for(|messages| messages.iter().any(is_it), &id, TIMEOUT).await;
        let took = posted.elapsed();
        let message = messages.into_iter().find(is_it).expect("the wait succeeded");
        assert_eq!(message.topic, format!("liveobject/camera/{camera}/event"), "{id} after {took:?}");
        assert!(took <= SOON, "{id} took {took:?}");
        sleep(Duration::from_secs(1).saturating_sub(posted.elapsed())).await;
    }
}

/// Accepts a backlog of two cameras, and waits until all of it is late.
async fn late_backlog(service: &Service, port: u16, other: &Value, ledger: &mut Ledger, batches: usize) {
    disable(service, port, other).await;
    for batch in 0..batches {
        let camera = if batch % 2 == 0 { "door" } else { "yard" };
        submit_batch_of(service, ledger, camera, &format!("old-{batch}"), 1000).await;
    }
    let last = format!("old-{}-1000", batches - 1);
    let late = async || delivery(service, &last).await["late"] == true;
    wait_until("the backlog is late", TIMEOUT, late).await;
}

async fn broker_and_subscriber() -> (Mosquitto, Subscriber) {
    let broker = Mosquitto::builder().upgrade_outgoing_qos().start().await;
    let subscriber = Subscriber::start(broker.port()).await;
    (broker, subscriber)
}

#[tokio::test]
async fn behind_a_slow_line_each_new_event_is_heard_live_while_a_nights_backlog_drains() {
    let (broker, subscriber) = broker_and_subscriber().await;
    let proxy = Proxy::start(broker.port()).await;
    let other = json!({ "late_after_seconds": SHORTEST });
    let (service, mut ledger) = (service().start().await, Ledger::new());
    late_backlog(&service, proxy.port(), &other, &mut ledger, 20).await;
    proxy.throttle(Some(100 * 1024));
    connect(&service, proxy.port(), &other).await;
    assert_each_is_heard_live(&service, &subscriber, &mut ledger, 10).await;
    let waiting = service.status().await["outbox"]["pending"].as_u64().expect("a number");
    assert!((1000..20_000).contains(&waiting), "the backlog drains all the time: {waiting}");
    proxy.throttle(None);
    assert_all_arrive(&service, &[&subscriber], &mut ledger).await;
    assert_eq!(ledger.duplicates(), 0, "{}", ledger.summary());
}

#[tokio::test]
async fn with_a_rate_limit_each_new_event_is_heard_live_while_the_backlog_drains() {
    let (broker, subscriber) = broker_and_subscriber().await;
    let other = json!({ "late_after_seconds": SHORTEST, "max_events_per_second": 10 });
    let (service, mut ledger) = (service().start().await, Ledger::new());
    late_backlog(&service, broker.port(), &other, &mut ledger, 5).await;
    connect(&service, broker.port(), &other).await;
    assert_each_is_heard_live(&service, &subscriber, &mut ledger, 8).await;
    let history =
        subscriber.messages().into_iter().filter(|message| message.topic.ends_with("/history")).count();
    assert!((20..=100).contains(&history), "the backlog has the rest of the rate: {history}");
    let unlimited = json!({ "late_after_seconds": SHORTEST });
    let _ = service.put_config(&settings(broker.port(), &unlimited)).await.expect(200);
    assert_all_arrive(&service, &[&subscriber], &mut ledger).await;
}

#[tokio::test]
async fn after_kills_no_event_is_lost_and_none_that_was_heard_live_is_sent_again() {
    let (broker, subscriber) = broker_and_subscriber().await;
    let proxy = Proxy::start(broker.port()).await;
    let other = json!({ "late_after_seconds": SHORTEST });
    let (mut service, mut ledger) = (service().start().await, Ledger::new());
    late_backlog(&service, proxy.port(), &other, &mut ledger, 10).await;
    proxy.throttle(Some(100 * 1024));
    connect(&service, proxy.port(), &other).await;
    for round in 0..5 {
        for id in event_ids(&format!("live-{round}"), 10) {
            ledger.accepted_receipt(&service.post_event(&event(&id)).await.expect(202));
        }
        let last = format!("live-{round}-10");
        service.wait_until_delivered(&last, TIMEOUT).await;
        // The deliveries are recorded within 50 ms.
        sleep(Duration::from_millis(200)).await;
        service.kill9().await;
        service.start().await;
        service.wait_connected(TIMEOUT).await;
        assert_eq!(delivery(&service, &last).await["state"], "delivered", "before everything else is");
    }
    proxy.throttle(None);
    submit_batch(&service, &mut ledger, "last", 10).await;
    service.wait_outbox_empty(LONG_TIMEOUT).await;
    assert_all_arrive(&service, &[&subscriber], &mut ledger).await;
    let mut live: Vec<_> = subscriber.messages();
    live.retain(|message| message.topic.ends_with("/event"));
    assert_eq!(live.len(), 60, "each of them once");
}
