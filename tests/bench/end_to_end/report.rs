//! The tables for people and the JSON file for programs.

use std::{fmt::Write as _, fs, iter, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    cost::Cost,
    events::PAYLOAD_BYTES,
    latency::Latencies,
    slow_peers::SlowPeers,
    stats::{median, number, quantile},
    throughput::{BASELINE, Encrypted, PATHS, Sample, Samples},
    wear::{Wear, Wears},
};

/// Everything that was measured.
pub struct Report {
    /// QoS, whether there was a subscriber, and the samples.
    pub throughput: Vec<(u8, bool, Samples)>,
    pub encrypted: Encrypted,
    pub latencies: Latencies,
    pub cost: Cost,
    pub wears: Wears,
    pub slow_peers: SlowPeers,
}

/// Minimum ratios to the speed of the baseline, with QoS 1 and no subscriber.
const TARGETS: [(&str, f64); 4] =
    [("in_process", 0.70), ("drain", 0.80), ("rest_batch", 0.60), ("rest_single", 0.25)];

/// A measured value and its target.
struct Target {
    what: String,
    measured: f64,
    bound: String,
    is_met: bool,
}

impl Target {
    fn at_least(what: impl Into<String>, measured: f64, bound: f64) -> Self {
        Self { what: what.into(), measured, bound: format!("≥ {bound:.2}"), is_met: measured >= bound }
    }

    fn at_most(what: impl Into<String>, measured: f64, bound: f64) -> Self {
        Self { what: what.into(), measured, bound: format!("≤ {bound:.2}"), is_met: measured <= bound }
    }
}

/// Returns the median of a field over all samples of a path that have it.
pub fn median_of(samples: &Samples, path: &str, field: impl Fn(&Sample) -> f64) -> f64 {
    let values: Vec<_> = samples.get(path).into_iter().flatten().map(field).filter(|v| !v.is_nan()).collect();
    median(&values)
}

/// Returns the median of the per-round ratios of a path to the baseline.
fn ratio(samples: &Samples, path: &str) -> f64 {
    median_of(samples, path, |s| s.ratio)
}

/// Returns the baseline and all paths, in the order of the table.
fn rows() -> impl Iterator<Item = &'static str> {
    iter::once(BASELINE).chain(PATHS)
}

impl Report {
    fn main(&self) -> &Samples {
        &self.throughput[0].2
    }

    fn targets(&self) -> Vec<Target> {
        let mut targets: Vec<_> = TARGETS
            .iter()
            .map(|(path, bound)| Target::at_least(format!("{path} / raw"), ratio(self.main(), path), *bound))
            .collect();
        targets.extend(PATHS.map(|path| {
            Target::at_least(format!("{path}, over TLS / without TLS"), ratio(&self.encrypted.tls, path), 0.7)
        }));
        let latencies = &self.latencies;
        let (raw, rest, sync) = (&latencies.raw, &latencies.rest, median(&latencies.sync));
        let what = "REST latency p50, ms (at most raw p50 + 2.2 syncs)";
        targets.push(Target::at_most(what, median(rest), median(raw) + 2.2 * sync));
        let what = "REST latency p99, ms (at most 4 × raw p99 + 2 syncs)";
        targets.push(Target::at_most(what, quantile(rest, 0.99), 4.0 * quantile(raw, 0.99) + 2.0 * sync));
        targets.push(Target::at_most("idle memory, MiB", self.cost.idle_mib, 20.0));
        let memory = self.cost.accepted_mib.max(self.cost.pending_mib).max(self.cost.draining_mib);
        let what = format!("memory with {} pending events, MiB", self.cost.pending);
        targets.push(Target::at_most(what, memory, 40.0));
        targets.push(Target::at_most("idle CPU time, %", self.cost.idle_cpu_percent, 0.1));
        targets.push(Target::at_most(
            "start with pending events, ms",
            self.cost.start_seconds * 1000.0,
            50.0,
        ));
        if let Some(lone) = self.wears.loads.first() {
            let what = "written to the disk at 1 event/s, KiB per event";
            targets.push(Target::at_most(what, lone.bytes_per_event / 1024.0, 16.0));
            if !lone.syncs_per_event.is_nan() {
                targets.push(Target::at_most("syncs per event at 1 event/s", lone.syncs_per_event, 1.1));
            }
        }
        if let Some(load) = self.wears.loads.iter().find(|load| load.name == "100 events/s") {
            // Half of what an event took before.
            let what = "CPU time per event at 100 events/s, ms";
            targets.push(Target::at_most(what, load.cpu_millis_per_event, 0.85));
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        targets.push(Target::at_most("bytes written while idle", self.wears.idle.bytes as f64, 0.0));
        targets
    }

    pub fn meets_targets(&self) -> bool {
        self.targets().iter().all(|target| target.is_met)
    }

    /// Returns all tables as Markdown.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (qos, subscriber, samples) in &self.throughput {
            text += &speed_table(*qos, *subscriber, samples);
        }
        line(&mut text, "\n× raw is the median of the per-round ratios.");
        text += &encrypted_table(&self.encrypted);
        text += &latency_table(&self.latencies);
        self.cost_table(&mut text);
        text += &wear_table(&self.wears);
        line(
            &mut text,
            "\n**With slow clients or a slow broker**: events accepted in single requests, relative to the \
             speed without them\n",
        );
        line(&mut text, "| condition | ratio |\n| --- | --- |");
        for (what, ratio) in self.slow_peers.ratios() {
            line(&mut text, &format!("| {what} | {ratio:.2} |"));
        }
        line(&mut text, "\n**Targets**\n\n| what | measured | target | |\n| --- | --- | --- | --- |");
        for Target { what, measured, bound, is_met } in self.targets() {
            let result = if is_met { "met" } else { "MISSED" };
            line(&mut text, &format!("| {what} | {measured:.2} | {bound} | {result} |"));
        }
        text
    }

    fn cost_table(&self, text: &mut String) {
        let cost = &self.cost;
        line(text, &format!("\n**Cost**, with {} pending events\n", cost.pending));
        line(text, "| what | |\n| --- | --- |");
        for (what, value) in [
            ("idle memory, MiB", cost.idle_mib),
            ("memory after accepting them, MiB", cost.accepted_mib),
            ("memory after a start with them, MiB", cost.pending_mib),
            ("peak memory while they are delivered, MiB", cost.draining_mib),
            ("idle CPU time, % of one core", cost.idle_cpu_percent),
            ("start until the service responds, s", cost.start_seconds),
            ("broker configured until the first event is delivered, s", cost.first_delivered_seconds),
            ("events delivered per second", cost.drained_per_second),
            ("bytes on disk per event", cost.disk_bytes_per_event),
        ] {
            line(text, &format!("| {what} | {value:.2} |"));
        }
    }

    fn to_json(&self) -> Value {
        let ratios = |samples: &Samples| -> Value {
            TARGETS.iter().map(|(path, _)| ((*path).to_owned(), json!(ratio(samples, path)))).collect()
        };
        let throughput: Vec<_> = self
            .throughput
            .iter()
            .map(|(qos, subscriber, samples)| {
                let paths: Value = rows()
                    .map(|path| {
                        let speeds: Vec<_> = samples[path].iter().map(|s| s.per_second).collect();
                        let shares: Vec<_> = samples[path].iter().map(|s| s.ratio).collect();
                        let median_of = |field: fn(&Sample) -> f64| median_of(samples, path, field);
                        let value = json!({
                            "per_second": median(&speeds), "samples": speeds, "shares": shares,
                            "cpu_seconds_per_100000": median_of(|s| s.cpu),
                            "broker_cpu_seconds_per_100000": median_of(|s| s.broker_cpu),
                            "own_cpu_seconds_per_100000": median_of(|s| s.own_cpu),
                            "peak_mib": median_of(|s| s.peak_mib),
                        });
                        (path.to_owned(), value)
                    })
                    .collect();
                json!({ "qos": qos, "subscriber": subscriber, "ratios": ratios(samples), "paths": paths })
            })
            .collect();
        let Latencies { raw, in_process, rest, sync, .. } = &self.latencies;
        let cost = &self.cost;
        let slow_peers: Value =
            self.slow_peers.ratios().iter().map(|(what, ratio)| ((*what).to_owned(), json!(ratio))).collect();
        json!({
            "ratios": ratios(self.main()),
            "ratios_over_tls_to_plain": ratios(&self.encrypted.tls),
            "latency_ms": {
                "rest_p50": median(rest), "rest_p95": quantile(rest, 0.95),
                "rest_p99": quantile(rest, 0.99),
                "in_process_p50": median(in_process), "in_process_p99": quantile(in_process, 0.99),
                "raw_p50": median(raw), "raw_p99": quantile(raw, 0.99),
                "sync_p50": median(sync), "sync_p99": quantile(sync, 0.99),
            },
            "memory_mib": {
                "idle": cost.idle_mib, "million_pending": cost.accepted_mib.max(cost.pending_mib),
                "draining": cost.draining_mib,
            },
            "pending_events": cost.pending,
            "idle_cpu_percent": cost.idle_cpu_percent,
            "start_seconds_million_pending": cost.start_seconds,
            "disk_bytes_per_event": cost.disk_bytes_per_event,
            "wear": wear_json(&self.wears),
            "ratio_with_slow_peers": slow_peers,
            "throughput": throughput,
            "targets_met": self.meets_targets(),
        })
    }

    /// Writes the figures as JSON. Returns the path of the file.
    pub fn write(&self) -> PathBuf {
        let target =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).parent().expect("a directory in target").join("bench");
        fs::create_dir_all(&target).expect("a directory can be created in target");
        let file = target.join("end_to_end.json");
        let text = serde_json::to_string_pretty(&self.to_json()).expect("numbers are JSON");
        fs::write(&file, text + "\n").expect("a file can be written in target");
        file
    }
}

/// Returns the table of the throughput over TLS as Markdown.
pub fn encrypted_table(Encrypted { plain, tls }: &Encrypted) -> String {
    let mut text = String::new();
    line(&mut text, "\n**Over TLS**, to the broker and to the service, QoS 1, no subscriber, medians\n");
    line(
        &mut text,
        "| path | events/s | without TLS | × without TLS | CPU s per 100,000: service | without TLS | broker | \
         without TLS | peak MiB | without TLS |",
    );
    line(&mut text, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for path in PATHS {
        let both = |field: fn(&Sample) -> f64, digits: usize| {
            let [with, without] = [tls, plain].map(|samples| median_of(samples, path, field));
            let text =
                |value: f64| if value.is_nan() { "–".to_owned() } else { format!("{value:.digits$}") };
            format!("{} | {}", text(with), text(without))
        };
        let (speeds, ratio) = (both(|s| s.per_second, 0), ratio(tls, path));
        let costs = [both(|s| s.cpu, 2), both(|s| s.broker_cpu, 2), both(|s| s.peak_mib, 2)].join(" | ");
        line(&mut text, &format!("| {path} | {speeds} | {ratio:.2} | {costs} |"));
    }
    text
}

/// Returns the table of what is written to the disk as Markdown.
pub fn wear_table(Wears { idle, loads }: &Wears) -> String {
    let mut text = String::new();
    line(&mut text, "\n**Wear of the disk, and CPU time at low rates**, QoS 1, payloads of 600 bytes\n");
    line(
        &mut text,
        "| load | bytes written per event | × payload | syncs per event | CPU ms per event | wake-ups per second |",
    );
    line(&mut text, "| --- | --- | --- | --- | --- | --- |");
    for load in loads {
        let Wear { name, bytes_per_event, cpu_millis_per_event, wake_ups_per_second, .. } = load;
        let (times, syncs) = (bytes_per_event / number(PAYLOAD_BYTES), or_dash(load.syncs_per_event));
        line(
            &mut text,
            &format!(
                "| {name} | {bytes_per_event:.0} | {times:.1} | {syncs} | {cpu_millis_per_event:.2} | \
                 {wake_ups_per_second:.0} |"
            ),
        );
    }
    let syncs = idle.syncs.map_or("an unknown number of".to_owned(), |syncs| syncs.to_string());
    line(
        &mut text,
        &format!(
            "\nIdle, in {:.0} s: {} bytes written, {syncs} syncs (in the second half), {:.1} wake-ups per second, \
             {:.2}% of a core.",
            idle.seconds, idle.bytes, idle.wake_ups_per_second, idle.cpu_percent
        ),
    );
    text
}

fn wear_json(Wears { idle, loads }: &Wears) -> Value {
    let loads: Vec<_> = loads
        .iter()
        .map(|load| {
            json!({
                "load": load.name, "events": load.events, "bytes_per_event": load.bytes_per_event,
                "syncs_per_event": load.syncs_per_event, "cpu_ms_per_event": load.cpu_millis_per_event,
                "wake_ups_per_second": load.wake_ups_per_second,
            })
        })
        .collect();
    json!({
        "idle_seconds": idle.seconds, "idle_bytes": idle.bytes, "idle_syncs": idle.syncs,
        "idle_cpu_percent": idle.cpu_percent, "idle_wake_ups_per_second": idle.wake_ups_per_second,
        "loads": loads,
    })
}

/// Returns the table of the latencies as Markdown.
pub fn latency_table(latencies: &Latencies) -> String {
    let Latencies { raw, in_process, rest, rest_accepted, sync } = latencies;
    let mut text = String::new();
    line(&mut text, "\n**Latency at 100 events/s**, ms, until a subscriber receives the event\n");
    line(&mut text, "| path | p50 | p95 | p99 |\n| --- | --- | --- | --- |");
    for (path, values) in [
        ("raw", raw),
        ("in-process", in_process),
        ("REST", rest),
        ("REST, until the 202 response", rest_accepted),
        ("a disk sync", sync),
    ] {
        line(&mut text, &latency_row(path, values));
    }
    let share = median(sync) / median(rest) * 100.0;
    line(&mut text, &format!("\nThe disk sync accounts for {share:.0}% of the REST latency's p50."));
    text
}

/// Returns a row with quantiles as Markdown.
pub fn latency_row(path: &str, values: &[f64]) -> String {
    let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|share| quantile(values, share));
    format!("| {path} | {p50:.2} | {p95:.2} | {p99:.2} |")
}

/// Returns two cells: the median of the events per second, and their range.
pub fn speeds(samples: &Samples, path: &str) -> String {
    let speeds: Vec<_> = samples[path].iter().map(|s| s.per_second).collect();
    let [median, lowest, highest] = [0.5, 0.0, 1.0].map(|share| quantile(&speeds, share));
    format!("{median:.0} | {lowest:.0} – {highest:.0}")
}

/// Returns the table of the throughput as Markdown.
pub fn speed_table(qos: u8, subscriber: bool, samples: &Samples) -> String {
    let mut text = String::new();
    let with = if subscriber { "one subscriber" } else { "no subscriber" };
    line(&mut text, &format!("\n**QoS {qos}, {with}**, medians\n"));
    line(
        &mut text,
        "| path | events/s | lowest – highest | × raw | CPU s per 100,000: service | broker | benchmark | busy cores | \
         peak MiB |",
    );
    line(&mut text, "| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for path in rows().filter(|path| samples.contains_key(path)) {
        line(
            &mut text,
            &format!(
                "| {path} | {} | {:.2} | {} | {} | {} | {} | {} |",
                speeds(samples, path),
                ratio(samples, path),
                or_dash(median_of(samples, path, |s| s.cpu)),
                or_dash(median_of(samples, path, |s| s.broker_cpu)),
                or_dash(median_of(samples, path, |s| s.own_cpu)),
                or_dash(median_of(samples, path, Sample::busy_cores)),
                or_dash(median_of(samples, path, |s| s.peak_mib)),
            ),
        );
    }
    text
}

pub fn or_dash(value: f64) -> String {
    if value.is_nan() { "–".to_owned() } else { format!("{value:.2}") }
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a string cannot fail");
}
