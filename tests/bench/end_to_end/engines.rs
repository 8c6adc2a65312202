//! Compares a database on a PostgreSQL server on the same machine with SQLite. The server syncs each commit.

use std::{fmt::Write as _, time::Duration};

use liveobject_test_support::{Mosquitto, Postgres, memory};
use tokio::time::sleep;

use crate::{
    Extent,
    database::{Engine, start_server},
    events::{BATCHES, SINGLES},
    latency::{self, Latencies},
    report::{latency_row, median_of, or_dash, speeds},
    service::Running,
    throughput::{Counts, ENGINE_PATHS, Sample, Samples, engines_round},
    tls::Links,
    usage,
};

/// Minimum numbers of events per second, with everything on two cores.
const TARGETS: [(&str, f64); 2] = [("rest_batch", 8000.0), ("rest_single", 1500.0)];

/// Time after the last event in which a service finishes its work and becomes idle.
const SETTLED: Duration = Duration::from_secs(5);

/// What an idle service uses.
#[derive(Debug)]
pub struct Idle {
    name: &'static str,
    resident_kib: u64,
    /// Memory that belongs to no file.
    anonymous_kib: u64,
    cpu_percent: f64,
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Engines {
    /// With SQLite and with PostgreSQL.
    throughput: [Samples; 2],
    latencies: Vec<(&'static str, Latencies)>,
    idle: Vec<Idle>,
}

/// Measures everything, or one path, or `latency`, or `idle`.
pub async fn measure(broker: &Mosquitto, extent: &Extent, only: Option<&str>) -> Engines {
    let server = start_server();
    let mut engines = Engines::default();
    let paths: Vec<_> =
        ENGINE_PATHS.into_iter().filter(|path| only.is_none_or(|only| only == *path)).collect();
    for round in 0..extent.rounds {
        eprintln!("round {} of {}: SQLite and PostgreSQL", round + 1, extent.rounds);
        let counts = Counts::PART.divided(extent.divided_by);
        let both = [Engine::Sqlite, Engine::Postgres(&server)];
        engines_round(broker, both, &paths, counts, &mut engines.throughput).await;
    }
    if only.is_none_or(|only| only == "latency") {
        eprintln!("latency with SQLite and PostgreSQL");
        let named = [
            ("SQLite", Engine::Sqlite),
            ("PostgreSQL, TCP", Engine::Postgres(&server)),
            ("PostgreSQL, socket", Engine::PostgresSocket(&server)),
        ];
        let measured =
            latency::measure_engines(broker, &named.map(|(_, engine)| engine), extent.latency_turns).await;
        engines.latencies = named.map(|(name, _)| name).into_iter().zip(measured).collect();
    }
    if only.is_none_or(|only| only == "idle") {
        eprintln!("idle services with SQLite and PostgreSQL");
        engines.idle = measure_idle(broker, &server, extent.idle).await;
    }
    engines
}

/// Measures services that are idle for this long: with SQLite, and two with the same database on the server.
async fn measure_idle(broker: &Mosquitto, server: &Postgres, time: Duration) -> Vec<Idle> {
    let alone = Running::connected(Links::plain(broker), 1).await;
    let active = Running::connected(Links::plain(broker).with_engine(Engine::Postgres(server)), 1).await;
    let standby = active.start_standby().await;
    for running in [&alone, &active] {
        running.post_from(SINGLES, 64).await;
        running.wait_acknowledged(64).await;
    }
    sleep(SETTLED).await;
    let services = [
        ("SQLite", alone.pid()),
        ("PostgreSQL, active node", active.pid()),
        ("PostgreSQL, standby node", standby.pid()),
    ];
    let before = services.map(|(_, pid)| usage::fine_cpu(pid));
    sleep(time).await;
    let idle = services.into_iter().zip(before).map(|((name, pid), before)| {
        let cpu = usage::fine_cpu(pid).saturating_sub(before);
        Idle {
            name,
            resident_kib: memory::resident_kib(pid).unwrap_or(0),
            anonymous_kib: memory::anonymous_kib(pid).unwrap_or(0),
            cpu_percent: cpu.as_secs_f64() / time.as_secs_f64() * 100.0,
        }
    });
    idle.collect()
}

impl Engines {
    /// Returns the paths that miss their targets.
    fn missed(&self) -> Vec<&'static str> {
        let misses = |path: &str, bound: f64| {
            self.throughput[1].contains_key(path) && speed(&self.throughput[1], path) < bound
        };
        TARGETS.into_iter().filter(|(path, bound)| misses(path, *bound)).map(|(path, _)| path).collect()
    }

    pub fn meets_targets(&self) -> bool {
        self.missed().is_empty()
    }

    /// Returns all tables as Markdown.
    pub fn table(&self) -> String {
        let mut text = String::new();
        self.add_throughput(&mut text).expect("writing to a string cannot fail");
        self.add_latencies(&mut text).expect("writing to a string cannot fail");
        self.add_idle(&mut text).expect("writing to a string cannot fail");
        text
    }

    fn add_throughput(&self, text: &mut String) -> std::fmt::Result {
        let [sqlite, postgres] = &self.throughput;
        if postgres.is_empty() {
            return Ok(());
        }
        writeln!(
            text,
            "\n**PostgreSQL on the same machine**, QoS 1, no subscriber, batches of {} from {} sources, single \
             events from {}, medians\n",
            BATCHES.at_once, BATCHES.number, SINGLES.number
        )?;
        writeln!(
            text,
            "| path | events/s | lowest – highest | accepted/s | SQLite: events/s | accepted/s | × SQLite | commits \
             per 100 events | WAL bytes per event | CPU s per 100,000: service | PostgreSQL | broker | peak MiB |"
        )?;
        writeln!(text, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")?;
        for path in ENGINE_PATHS.into_iter().filter(|path| postgres.contains_key(path)) {
            let of = |field: fn(&Sample) -> f64| median_of(postgres, path, field);
            writeln!(
                text,
                "| {path} | {} | {} | {:.0} | {} | {:.2} | {:.2} | {:.0} | {} | {} | {} | {} |",
                speeds(postgres, path),
                whole(of(|s| s.accepted)),
                speed(sqlite, path),
                whole(median_of(sqlite, path, |s| s.accepted)),
                of(|s| s.ratio),
                of(|s| s.server.commits),
                of(|s| s.server.wal_bytes),
                or_dash(of(|s| s.cpu)),
                or_dash(of(|s| s.server.cpu)),
                or_dash(of(|s| s.broker_cpu)),
                or_dash(of(|s| s.peak_mib)),
            )?;
        }
        for (path, bound) in TARGETS.into_iter().filter(|(path, _)| postgres.contains_key(path)) {
            let result = if self.missed().contains(&path) { "MISSED" } else { "met" };
            writeln!(text, "\nTarget of {path}: at least {bound:.0} events/s: {result}.")?;
        }
        Ok(())
    }

    fn add_latencies(&self, text: &mut String) -> std::fmt::Result {
        if self.latencies.is_empty() {
            return Ok(());
        }
        writeln!(text, "\n**Latency at 100 events/s**, ms, until a subscriber receives the event\n")?;
        writeln!(text, "| path | p50 | p95 | p99 |\n| --- | --- | --- | --- |")?;
        for (name, latencies) in &self.latencies {
            writeln!(text, "{}", latency_row(&format!("{name}: in-process"), &latencies.in_process))?;
            writeln!(text, "{}", latency_row(&format!("{name}: REST"), &latencies.rest))?;
            let what = format!("{name}: REST, until the 202 response");
            writeln!(text, "{}", latency_row(&what, &latencies.rest_accepted))?;
        }
        Ok(())
    }

    fn add_idle(&self, text: &mut String) -> std::fmt::Result {
        if self.idle.is_empty() {
            return Ok(());
        }
        writeln!(text, "\n**Idle**, connected to the broker, after a few events\n")?;
        writeln!(
            text,
            "| service | memory, MiB | of which belongs to no file | CPU time, % of one core |\n\
             | --- | --- | --- | --- |"
        )?;
        for Idle { name, resident_kib, anonymous_kib, cpu_percent } in &self.idle {
            let [resident, anonymous] = [mib(*resident_kib), mib(*anonymous_kib)];
            writeln!(text, "| {name} | {resident:.1} | {anonymous:.1} | {cpu_percent:.2} |")?;
        }
        Ok(())
    }
}

fn speed(samples: &Samples, path: &str) -> f64 {
    median_of(samples, path, |s| s.per_second)
}

fn whole(value: f64) -> String {
    if value.is_nan() { "–".to_owned() } else { format!("{value:.0}") }
}

fn mib(kib: u64) -> f64 {
    u32::try_from(kib).map_or(f64::INFINITY, f64::from) / 1024.0
}
