//! `max_events_per_second`: a backlog does not flood the broker.

use liveobject_test_support::{Ledger, Message};
use serde_json::json;

use crate::helpers::{Scene, accept_batch, connect, settings};

const RATE: u16 = 25;
const EVENTS: u16 = 76;
/// What may leave at once, and what a busy machine may bunch.
const SLACK: u16 = 10;

#[tokio::test]
async fn a_backlog_leaves_no_faster_than_the_rate() {
    let scene = Scene::start().await;
    let paced = json!({ "max_events_per_second": RATE });
    let mut away = settings(scene.broker.port(), &paced);
    away["enabled"] = false.into();
    let _ = scene.service.put_config(&away).await.expect(200);
    let mut ledger = Ledger::new();
    accept_batch(&scene.service, &mut ledger, "e", EVENTS.into()).await;
    connect(&scene.service, scene.broker.port(), &paced).await;
    scene.assert_all_arrive(&mut ledger).await;
    let arrived: Vec<_> = scene.subscriber.messages().into_iter().filter(Message::is_event).collect();
    let first = arrived[0].at;
    for (message, before) in arrived.iter().zip(0..EVENTS) {
        let at_least = f64::from(before.saturating_sub(SLACK)) / f64::from(RATE);
        let after = (message.at - first).as_secs_f64();
        assert!(after >= at_least, "event {before} came {after} s after the first one, at {RATE} a second");
    }
    let all = (arrived[arrived.len() - 1].at - first).as_secs_f64();
    assert!(all < 2.0 * f64::from(EVENTS) / f64::from(RATE), "the rate was not reached: {all} s");
}
