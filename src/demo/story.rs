//! The script of the demo: the broker stops, events are queued, the broker returns, and the events arrive.

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
use crate::output::demo_line;

/// When the broker stops, in a demo without a time limit.
const OUTAGE_AFTER: Duration = Duration::from_secs(20);
/// How long the broker stays stopped; shorter in a short demo.
const OUTAGE: Duration = Duration::from_secs(8);

/// Minimum time from the broker's return to the service's next connection attempt, so that the subscriber
/// reconnects first.
const HEAD_START: Duration = Duration::from_millis(500);

/// How long the demo waits for undelivered events at its end.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs the script for `duration`, or forever.
pub async fn run(duration: Option<Duration>, broker: &mut Broker, handle: &Handle) {
    let start = Instant::now();
    let outage_after = duration.map_or(OUTAGE_AFTER, |duration| duration.mul_f64(0.4));
    let outage = duration.map_or(OUTAGE, |duration| OUTAGE.min(duration.mul_f64(0.25)));
    sleep_until(start + outage_after).await;
    let seconds = (outage.as_secs_f64() * 10.0).round() / 10.0;
    print_note(&format!("Stopping the broker for {seconds} s. The cameras continue."));
    broker.stop();
    print_queue_length(start + outage_after + outage, handle).await;
    wait_for_head_start(handle).await;
    resume(broker);
    match duration {
        Some(duration) => sleep_until(start + duration).await,
        None => std::future::pending().await,
    }
}

/// Waits until all accepted events have arrived, or until a timeout.
pub async fn wait_until_delivered(broker: &mut Broker, handle: &Handle, ledger: &Ledger) {
    if !broker.is_running() {
        wait_for_head_start(handle).await;
        resume(broker);
    }
    let deadline = Instant::now() + DELIVERY_TIMEOUT;
    while Instant::now() < deadline && (ledger.missing() > 0 || outbox(handle).await.pending > 0) {
        sleep(Duration::from_millis(50)).await;
    }
}

fn resume(broker: &mut Broker) {
    match broker.resume() {
        Ok(()) => print_note("The broker is back. The queued events are delivered in order."),
        Err(error) => print_note(&format!("The broker could not be restarted: {error}")),
    }
}

/// Prints the number of queued events whenever it changes, until the given time.
async fn print_queue_length(until: Instant, handle: &Handle) {
    let mut printed = 0;
    while Instant::now() < until {
        sleep_until(until.min(Instant::now() + Duration::from_secs(1))).await;
        let pending = outbox(handle).await.pending;
        if pending != printed {
            printed = pending;
            let events = if pending == 1 { "event" } else { "events" };
            print_note(&format!("{pending} {events} queued, safe on disk"));
        }
    }
}

/// Waits until the service's next connection attempt is at least [`HEAD_START`] away.
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
    // If the service does not respond, `App::run_until` ends the demo.
    handle.outbox.send(GetOutbox).await.unwrap_or_default()
}

fn print_note(text: &str) {
    demo_line(format_args!("  ── {text}"));
}
