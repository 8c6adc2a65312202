//! `max_events_per_second`: a backlog does not flood the broker.

use liveobject_test_support::{Ledger, Message};
use serde_json::json;

use crate::helpers::{Scene, connect, disable, submit_batch};

const RATE: u16 = 25;
const EVENTS: u16 = 76;
/// Number of events that may be sent at once, or that a busy machine may bunch up.
const SLACK: u16 = 10;
/// The slowest acceptable pace, as a multiple of the ideal time between events.
const SLOWEST: f64 = 2.0;

#[tokio::test]
async fn a_backlog_is_sent_no_faster_than_the_rate() {
    let scene = Scene::start().await;
    let paced = json!({ "max_events_per_second": RATE });
    disable(&scene.service, scene.broker.port(), &paced).await;
    let mut ledger = Ledger::new();
    submit_batch(&scene.service, &mut ledger, "e", EVENTS.into()).await;
    connect(&scene.service, scene.broker.port(), &paced).await;
    scene.assert_all_arrive(&mut ledger).await;
    let arrived: Vec<_> = scene.subscriber.messages().into_iter().filter(Message::is_event).collect();
    let first = arrived[0].at;
    for (message, before) in arrived.iter().zip(0..EVENTS) {
        let at_least = f64::from(before.saturating_sub(SLACK)) / f64::from(RATE);
        let after = (message.at - first).as_secs_f64();
        assert!(
            after >= at_least,
            "event {before} arrived {after} s after the first one, at {RATE} events per second"
        );
    }
    // This is the median of windows rather than the total, so that the test still passes if a busy machine
    // pauses once.
    let mut windows: Vec<_> = arrived
        .windows(usize::from(SLACK) + 1)
        .map(|window| (window[usize::from(SLACK)].at - window[0].at).as_secs_f64())
        .collect();
    windows.sort_by(f64::total_cmp);
    let median = windows[windows.len() / 2];
    let ideal = f64::from(SLACK) / f64::from(RATE);
    assert!(median < SLOWEST * ideal, "the rate was not reached: {SLACK} events took {median} s");
}
