//! A connected broker that does not respond: the service reports *connected* only while the broker responds.

use liveobject_test_support::{Ledger, Proxy};
use serde_json::{Value, json};

use crate::helpers::{
    LONG_TIMEOUT, SHORTEST, Scene, TIMEOUT, assert_all_arrive, connect, logged, scripted_broker,
    submit_batch, wait_for_error, wait_for_event,
};

fn impatient_settings() -> Value {
    json!({ "ack_timeout_seconds": SHORTEST, "connect_timeout_seconds": 1 })
}

#[tokio::test]
async fn a_hanging_broker_is_reported_as_stalled_and_everything_arrives_when_it_resumes() {
    let mut scene = Scene::with(&impatient_settings()).await;
    let mut ledger = Ledger::new();
    submit_batch(&scene.service, &mut ledger, "before", 20).await;
    scene.service.wait_outbox_empty(TIMEOUT).await;
    scene.broker.freeze();
    submit_batch(&scene.service, &mut ledger, "during", 20).await;
    let stalled = wait_for_error(&scene.service, "stalled").await;
    assert_eq!((&stalled["connected"], &stalled["outbox"]["pending"]), (&false.into(), &20.into()));
    assert_eq!(stalled["outbox"]["in_flight"], 0);
    // The service tries to reconnect, but the broker does not respond to that either.
    wait_for_error(&scene.service, "timeout").await;
    submit_batch(&scene.service, &mut ledger, "later", 20).await;
    scene.broker.thaw();
    scene.service.wait_connected(LONG_TIMEOUT).await;
    scene.assert_all_arrive(&mut ledger).await;
    assert_eq!(logged(&scene.service, "WARN")[0]["kind"], "stalled");
}

#[tokio::test]
async fn a_broker_that_responds_only_to_pings_is_reported_as_stalled() {
    use liveobject_test_support::Acks;
    let (broker, service) = scripted_broker(&impatient_settings()).await;
    broker.set_acks(Acks::Withhold);
    let mut ledger = Ledger::new();
    submit_batch(&service, &mut ledger, "e", 3).await;
    wait_for_error(&service, "stalled").await;
    broker.set_acks(Acks::All);
    service.wait_outbox_empty(LONG_TIMEOUT).await;
    let received = crate::helpers::events_received(&broker);
    let sent: Vec<_> =
        received.iter().map(|event| (event.connection, crate::helpers::event_id(event))).collect();
    let expected = [(0, "e-1"), (0, "e-2"), (0, "e-3"), (1, "e-1"), (1, "e-2"), (1, "e-3")];
    assert_eq!(sent, expected.map(|(connection, id)| (connection, id.to_owned())));
    assert!(
        received.iter().all(|event| !event.publish.dup),
        "in a new session, no message may be marked as a duplicate"
    );
}

#[tokio::test]
async fn an_idle_connection_is_checked_by_pings() {
    let mut idle = impatient_settings();
    idle["keep_alive_seconds"] = SHORTEST.into();
    let (broker, service) = scripted_broker(&idle).await;
    broker.wait_for("a ping", TIMEOUT, |broker| broker.pings() == 1).await;
    assert_eq!(service.status().await["connected"], true);
    broker.answer_pings(false);
    wait_for_error(&service, "stalled").await;
    broker.answer_pings(true);
    service.wait_connected(TIMEOUT).await;
}

#[tokio::test]
async fn a_stalled_network_is_detected_and_nothing_is_lost() {
    assert_detects_stall(Proxy::stall).await;
}

#[tokio::test]
async fn a_vanished_peer_is_detected_and_nothing_is_lost() {
    assert_detects_stall(Proxy::half_open).await;
}

async fn assert_detects_stall(fault: impl Fn(&Proxy)) {
    let scene = Scene::start().await;
    let proxy = Proxy::start(scene.broker.port()).await;
    connect(&scene.service, proxy.port(), &impatient_settings()).await;
    let mut ledger = Ledger::new();
    submit_batch(&scene.service, &mut ledger, "before", 20).await;
    wait_for_event(&scene.subscriber, "before-20").await;
    fault(&proxy);
    submit_batch(&scene.service, &mut ledger, "during", 20).await;
    wait_for_error(&scene.service, "stalled").await;
    proxy.flow();
    scene.service.wait_connected(LONG_TIMEOUT).await;
    assert_all_arrive(&scene.service, &[&scene.subscriber], &mut ledger).await;
}
