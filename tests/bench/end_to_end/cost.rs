//! What it costs to have the service: memory, idle processor time, disk, and the time to start.

use std::time::Duration;

use liveobject_test_support::Mosquitto;
use tokio::time::{Instant, sleep};

use crate::{service::Running, stats::number, usage};

/// What the service costs.
#[derive(Debug, Default)]
pub struct Cost {
    pub idle_mib: f64,
    /// Of one processor.
    pub idle_cpu_percent: f64,
    /// Waiting events that the following is about.
    pub waiting: usize,
    /// After they were accepted.
    pub accepted_mib: f64,
    /// After a start with them.
    pub waiting_mib: f64,
    /// The most while they were delivered.
    pub draining_mib: f64,
    /// From the start of the process until it answers that it lives.
    pub start_seconds: f64,
    /// Until the first of them is acknowledged by the broker.
    pub first_delivered_seconds: f64,
    /// How many a second left then.
    pub drained_per_second: f64,
    pub disk_bytes_per_event: f64,
}

/// Measures it, with so many seconds of idleness and so many waiting events.
pub async fn measure(broker: &Mosquitto, idle: Duration, waiting: usize) -> Cost {
    let mut cost = Cost { waiting, ..Cost::default() };
    {
        let running = Running::connected(broker.port(), 1).await;
        // Connected, and a few events seen: the usual state of a service where nothing happens.
        running.post_singles(64).await;
        running.acknowledged(64).await;
        sleep(Duration::from_secs(5)).await;
        let before = usage::fine_cpu(running.pid());
        sleep(idle).await;
        let used = usage::fine_cpu(running.pid()).saturating_sub(before);
        cost.idle_cpu_percent = used.as_secs_f64() / idle.as_secs_f64() * 100.0;
        cost.idle_mib = usage::resident_mib(running.pid());
    }
    let mut running = Running::start().await;
    running.fill(waiting).await;
    cost.accepted_mib = usage::resident_mib(running.pid());
    running.service.kill9().await;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let bytes = usage::bytes_in(&running.data_dir()) as f64;
    cost.disk_bytes_per_event = bytes / number(waiting);

    let started = Instant::now();
    running.service.start().await;
    cost.start_seconds = started.elapsed().as_secs_f64();
    cost.waiting_mib = usage::resident_mib(running.pid());

    let started = Instant::now();
    running.connect(broker.port(), 1).await;
    running.acknowledged_some().await;
    cost.first_delivered_seconds = started.elapsed().as_secs_f64();
    running.acknowledged(waiting).await;
    cost.drained_per_second = number(waiting) / started.elapsed().as_secs_f64();
    cost.draining_mib = usage::peak_mib(running.pid());
    cost
}
