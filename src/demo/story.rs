//! The demo's course: the broker goes away, the events wait, and then they arrive.

use std::time::Duration;

use liveobject_actors::{
    Handle,
    domain::clock,
    messages::{
        outbox::{GetOutbox, OutboxStatus},
        supervisor::GetStatus,
    },
};
use tokio::time::{Instant, sleep, sleep_until};

use super::{broker::Broker, ledger::Ledger};

/// Without an end given, the broker goes away after so long.
const OUTAGE_AFTER: Duration = Duration::from_secs(20);
const OUTAGE: Duration = Duration::from_secs(8);

/// When the broker comes back, the service's next attempt is at least so far away: the subscriber is there first.
const HEAD_START: Duration = Duration::from_millis(500);

const DELIVERED_WITHIN: Duration = Duration::from_secs(20);

/// Tells the story, for so long or for ever.
pub async fn tell(duration: Option<Duration>, broker: &mut Broker, handle: &Handle) {
    let start = Instant::now();
    let outage_after = duration.map_or(OUTAGE_AFTER, |duration| duration.mul_f64(0.4));
    let outage = duration.map_or(OUTAGE, |duration| OUTAGE.min(duration.mul_f64(0.25)));
    sleep_until(start + outage_after).await;
    say(&format!("The broker is stopped for {:.0} s. The cameras go on.", outage.as_secs_f64()));
    broker.stop();
    show_waiting(start + outage_after + outage, handle).await;
    wait_for_head_start(handle).await;
    come_back(broker);
    match duration {
        Some(duration) => sleep_until(start + duration).await,
        None => std::future::pending().await,
    }
}

/// Returns when everything accepted has arrived, or after some seconds.
pub async fn wait_until_delivered(broker: &mut Broker, handle: &Handle, ledger: &Ledger) {
    if !broker.is_running() {
        wait_for_head_start(handle).await;
        come_back(broker);
    }
    let deadline = Instant::now() + DELIVERED_WITHIN;
    while Instant::now() < deadline && (ledger.lost() > 0 || outbox(handle).await.pending > 0) {
        sleep(Duration::from_millis(50)).await;
    }
}

fn come_back(broker: &mut Broker) {
    match broker.resume() {
        Ok(()) => say("The broker is back. What waited is sent, in order."),
        Err(error) => say(&format!("The broker did not come back: {error}")),
    }
}

async fn show_waiting(until: Instant, handle: &Handle) {
    let mut told = 0;
    while Instant::now() < until {
        sleep_until(until.min(Instant::now() + Duration::from_secs(1))).await;
        let pending = outbox(handle).await.pending;
        if pending != told {
            told = pending;
            say(&format!("{pending} waiting, safe on disk"));
        }
    }
}

async fn wait_for_head_start(handle: &Handle) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        let status = handle.status.send(GetStatus).await;
        let next = status.ok().and_then(|status| status.next_attempt_at);
        if next.is_some_and(|at| (at - clock::now()).to_std().is_ok_and(|wait| wait >= HEAD_START)) {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn outbox(handle: &Handle) -> OutboxStatus {
    // A service that does not answer is told of by whoever runs it.
    handle.outbox.send(GetOutbox).await.unwrap_or_default()
}

fn say(text: &str) {
    println!("  ── {text}");
}
