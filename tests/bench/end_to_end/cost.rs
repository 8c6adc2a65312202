//! The costs of running the service: memory, idle CPU time, disk space, and the time to start.

use std::time::Duration;

use liveobject_test_support::Mosquitto;
use tokio::time::{Instant, sleep};

use crate::{
    events::SINGLES,
    service::Running,
    stats::{number, rate},
    tls::Links,
    usage,
};

/// The measured costs.
#[derive(Debug, Default)]
pub struct Cost {
    pub idle_mib: f64,
    /// Share of one core.
    pub idle_cpu_percent: f64,
    /// Number of pending events that the following fields refer to.
    pub pending: usize,
    /// Memory after the events were accepted.
    pub accepted_mib: f64,
    /// Memory after startup with the events pending.
    pub pending_mib: f64,
    /// Peak memory while the events were delivered.
    pub draining_mib: f64,
    /// Time from process start until the service reports that it is live.
    pub start_seconds: f64,
    /// Time from setting the broker until the broker acknowledged the first event.
    pub first_delivered_seconds: f64,
    pub drained_per_second: f64,
    pub disk_bytes_per_event: f64,
}

/// Time after the last event in which a connected service finishes its work and becomes idle.
const SETTLED: Duration = Duration::from_secs(5);

/// Measures the costs of a service that is idle for this long, and of one with this many pending events.
pub async fn measure(broker: &Mosquitto, idle: Duration, pending: usize) -> Cost {
    let links = Links::plain(broker);
    let mut cost = Cost { pending, ..Cost::default() };
    {
        let running = Running::connected(links, 1).await;
        // The usual state of an idle service: connected, after a few events.
        running.post_from(SINGLES, 64).await;
        running.wait_acknowledged(64).await;
        sleep(SETTLED).await;
        let before = usage::fine_cpu(running.pid());
        sleep(idle).await;
        let used = usage::fine_cpu(running.pid()).saturating_sub(before);
        cost.idle_cpu_percent = used.as_secs_f64() / idle.as_secs_f64() * 100.0;
        cost.idle_mib = usage::resident_mib(running.pid());
    }
    let mut running = Running::start(links).await;
    running.fill(pending).await;
    cost.accepted_mib = usage::resident_mib(running.pid());
    running.service.kill9().await;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let bytes = usage::bytes_in(&running.data_dir()) as f64;
    cost.disk_bytes_per_event = bytes / number(pending);

    let started = Instant::now();
    running.service.start().await;
    cost.start_seconds = started.elapsed().as_secs_f64();
    cost.pending_mib = usage::resident_mib(running.pid());

    let started = Instant::now();
    running.connect(1).await;
    running.wait_first_acknowledged().await;
    cost.first_delivered_seconds = started.elapsed().as_secs_f64();
    running.wait_acknowledged(pending).await;
    cost.drained_per_second = rate(pending, started.elapsed());
    cost.draining_mib = usage::peak_mib(running.pid());
    cost
}
