//! Measures the speed of liveobject, compared with a bare publisher that uses the same MQTT client, and its
//! costs. Each run measures all paths in turn, several times, because machines are noisy.
//!
//! `cargo bench --bench end_to_end` measures everything. `-- --quick` measures a tenth of it, to check that
//! the benchmark works. `-- --only rest_batch` (or another path, or `latency`) measures one path and the
//! baseline, for use with a profiler; `-- --only wear` measures what is written to the disk, `-- --only tls` what TLS
//! costs. `-- --database postgres` compares a PostgreSQL server on the same machine with SQLite; `--only` then selects
//! a path, `latency` or `idle`. The benchmark starts its own mosquitto on a private port; mosquitto and `mosquitto_sub`
//! must be installed, and PostgreSQL to measure it. strace counts the syncs. `BENCH_PROGRAM` is the path of another
//! program to measure, such as that of a package.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for the command line")]

mod client;
mod cost;
mod database;
mod embedded;
mod engines;
mod events;
mod latency;
mod listener;
mod raw;
mod report;
mod service;
mod slow_peers;
#[path = "../stats.rs"]
mod stats;
mod throughput;
mod tls;
mod usage;
mod wear;

use std::{process::ExitCode, time::Duration};

use liveobject_test_support::Mosquitto;

use engines::Engines;
use latency::Latencies;
use report::Report;
use throughput::{Counts, Encrypted, PATHS, Samples};
use tls::Tls;
use wear::Wears;

/// The allocator of the program, because the embedded service runs in this process.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How much to measure.
struct Extent {
    rounds: usize,
    /// Number of rounds with another QoS or with a subscriber.
    other_rounds: usize,
    /// Divisor of all event counts.
    divided_by: usize,
    latency_turns: usize,
    idle: Duration,
    /// How long to measure what an idle service writes.
    unused: Duration,
    pending: usize,
}

const FULL: Extent = Extent {
    rounds: 7,
    other_rounds: 3,
    divided_by: 1,
    latency_turns: 20,
    idle: Duration::from_secs(30),
    unused: Duration::from_mins(4),
    pending: 1_000_000,
};

const QUICK: Extent = Extent {
    rounds: 2,
    other_rounds: 1,
    divided_by: 10,
    latency_turns: 2,
    idle: Duration::from_secs(3),
    unused: Duration::from_secs(6),
    pending: 100_000,
};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let extent = if has("--quick") { QUICK } else { FULL };
    let only = arguments.iter().skip_while(|argument| *argument != "--only").nth(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let database = arguments.iter().skip_while(|argument| *argument != "--database").nth(1);
    if let Some(database) = database {
        assert_eq!(database, "postgres", "the only value of `--database`");
        let measured = runtime.block_on(measure_engines(&extent, only.map(String::as_str)));
        println!("{}", measured.table());
        return if measured.meets_targets() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if let Some(path) = only {
        let table = match path.as_str() {
            "latency" => report::latency_table(&runtime.block_on(measure_latencies(&extent))),
            "tls" => report::encrypted_table(&runtime.block_on(measure_encrypted(&extent))),
            "wear" => report::wear_table(&runtime.block_on(measure_wear(&extent))),
            path => report::speed_table(1, false, &runtime.block_on(measure_path(path, &extent))),
        };
        println!("{table}");
        return ExitCode::SUCCESS;
    }
    let report = runtime.block_on(measure(extent));
    println!("{}", report.table());
    println!("written to {}", report.write().display());
    if report.meets_targets() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Measures the throughput of one path and of the baseline.
async fn measure_path(path: &str, extent: &Extent) -> Samples {
    let broker = start_broker().await;
    let mut samples = Samples::new();
    let paths: Vec<_> = PATHS.into_iter().filter(|known| *known == path).collect();
    for _ in 0..extent.rounds {
        throughput::round(&broker, &paths, 1, false, Counts::FULL.divided(extent.divided_by), &mut samples)
            .await;
    }
    samples
}

async fn measure_latencies(extent: &Extent) -> Latencies {
    latency::measure(&start_broker().await, extent.latency_turns).await
}

/// Measures all paths over TLS and without it.
async fn measure_encrypted(extent: &Extent) -> Encrypted {
    let tls = Tls::new();
    let broker = tls.add_to(Mosquitto::builder().persistence(false)).start().await;
    let (counts, mut samples) = (Counts::PART.divided(extent.divided_by), Encrypted::default());
    for round in 0..extent.other_rounds {
        eprintln!("round {} of {}: over TLS", round + 1, extent.other_rounds);
        throughput::encrypted_round(&broker, &tls, counts, &mut samples).await;
    }
    samples
}

async fn measure_engines(extent: &Extent, only: Option<&str>) -> Engines {
    engines::measure(&start_broker().await, extent, only).await
}

async fn measure_wear(extent: &Extent) -> Wears {
    wear::measure(&start_broker().await, extent.unused, extent.divided_by).await
}

async fn start_broker() -> Mosquitto {
    Mosquitto::builder().persistence(false).start().await
}

async fn measure(extent: Extent) -> Report {
    let broker = start_broker().await;
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
            throughput::round(&broker, &PATHS, *qos, *subscriber, counts, samples).await;
        }
    }
    let encrypted = measure_encrypted(&extent).await;
    eprintln!("latency");
    let latencies = latency::measure(&broker, extent.latency_turns).await;
    eprintln!("cost");
    let cost = cost::measure(&broker, extent.idle, extent.pending).await;
    eprintln!("wear of the disk");
    let wears = wear::measure(&broker, extent.unused, extent.divided_by).await;
    eprintln!("slow clients and a slow broker");
    let slow_peers = slow_peers::measure(12_800 / extent.divided_by, extent.other_rounds).await;
    Report { throughput, encrypted, latencies, cost, wears, slow_peers }
}
