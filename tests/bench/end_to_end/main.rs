//! How fast liveobject is, beside a bare publisher over the same MQTT client, and what it costs: everything in one run,
//! one way after the other and again, because machines are noisy.
//!
//! `cargo bench --bench end_to_end` measures everything; `-- --quick` a tenth of it, to see that it works; `-- --only
//! rest_batch` (or `latency`) one way beside the yardstick, for a profiler to look at. The broker is a mosquitto of its own on a
//! private port; mosquitto and `mosquitto_sub` have to be installed.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to its terminal")]

mod client;
mod cost;
mod embedded;
mod events;
mod hindered;
mod latency;
mod listener;
mod raw;
mod report;
mod service;
mod stats;
mod throughput;
mod usage;

use std::{process::ExitCode, time::Duration};

use liveobject_test_support::Mosquitto;

use latency::Latencies;
use report::Report;
use throughput::{Counts, Samples, WAYS};

/// As the program's: the service in the classifier's process is measured in this one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How much is measured.
struct Extent {
    rounds: usize,
    /// Of the other QoS, and with a subscriber.
    other_rounds: usize,
    divided_by: usize,
    latency_turns: usize,
    idle: Duration,
    waiting: usize,
}

const FULL: Extent = Extent {
    rounds: 7,
    other_rounds: 3,
    divided_by: 1,
    latency_turns: 20,
    idle: Duration::from_secs(30),
    waiting: 1_000_000,
};

const QUICK: Extent = Extent {
    rounds: 2,
    other_rounds: 1,
    divided_by: 10,
    latency_turns: 2,
    idle: Duration::from_secs(3),
    waiting: 100_000,
};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let extent = if has("--quick") { QUICK } else { FULL };
    let only = arguments.iter().skip_while(|argument| *argument != "--only").nth(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    if let Some(way) = only {
        let table = match way.as_str() {
            "latency" => report::latency(&runtime.block_on(latencies(&extent))),
            way => report::speeds(1, false, &runtime.block_on(speed(way, &extent))),
        };
        println!("{table}");
        return ExitCode::SUCCESS;
    }
    let report = runtime.block_on(measure(extent));
    println!("{}", report.table());
    println!("written to {}", report.write().display());
    if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One way's speed beside the yardstick's.
async fn speed(way: &str, extent: &Extent) -> Samples {
    let broker = broker().await;
    let mut samples = Samples::new();
    let ways: Vec<_> = WAYS.into_iter().filter(|known| *known == way).collect();
    for _ in 0..extent.rounds {
        throughput::round(&broker, &ways, 1, false, Counts::FULL.divided(extent.divided_by), &mut samples)
            .await;
    }
    samples
}

async fn latencies(extent: &Extent) -> Latencies {
    latency::measure(&broker().await, extent.latency_turns).await
}

async fn broker() -> Mosquitto {
    Mosquitto::builder().persistence(false).start().await
}

async fn measure(extent: Extent) -> Report {
    let broker = broker().await;
    let mut throughput = vec![
        (1, false, Samples::new()),
        (1, true, Samples::new()),
        (0, false, Samples::new()),
        (2, false, Samples::new()),
    ];
    for round in 0..extent.rounds {
        for (number, (qos, subscriber, samples)) in throughput.iter_mut().enumerate() {
            if number > 0 && round >= extent.other_rounds {
                continue;
            }
            eprintln!("round {} of {}: QoS {qos}, subscriber: {subscriber}", round + 1, extent.rounds);
            let counts = if number == 0 { Counts::FULL } else { Counts::PART };
            let counts = counts.divided(extent.divided_by);
            throughput::round(&broker, &WAYS, *qos, *subscriber, counts, samples).await;
        }
    }
    eprintln!("latency");
    let latencies = latency::measure(&broker, extent.latency_turns).await;
    eprintln!("cost");
    let cost = cost::measure(&broker, extent.idle, extent.waiting).await;
    eprintln!("beside those who are slow");
    let hindered = hindered::measure(12_800 / extent.divided_by, extent.other_rounds).await;
    Report { throughput, latencies, cost, hindered }
}
