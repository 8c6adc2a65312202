//! The table for people, and the file for programs.

use std::{fmt::Write as _, fs, iter, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    cost::Cost,
    hindered::Hindered,
    latency::Latencies,
    stats::{median, quantile},
    throughput::{Sample, Samples, WAYS, YARDSTICK},
};

/// Everything that was measured.
pub struct Report {
    /// By QoS, and whether there was a subscriber.
    pub throughput: Vec<(u8, bool, Samples)>,
    pub latencies: Latencies,
    pub cost: Cost,
    pub hindered: Hindered,
}

/// Shares of the yardstick's speed that are to be reached, with QoS 1 and no subscriber.
const TARGETS: [(&str, f64); 4] =
    [("in_process", 0.50), ("drain", 0.60), ("rest_batch", 0.40), ("rest_single", 0.15)];

struct Line {
    what: String,
    is: f64,
    bound: String,
    holds: bool,
}

impl Line {
    fn at_least(what: impl Into<String>, is: f64, bound: f64) -> Self {
        Self { what: what.into(), is, bound: format!("≥ {bound:.2}"), holds: is >= bound }
    }

    fn at_most(what: impl Into<String>, is: f64, bound: f64) -> Self {
        Self { what: what.into(), is, bound: format!("≤ {bound:.2}"), holds: is <= bound }
    }
}

fn of(samples: &Samples, way: &str, field: impl Fn(&Sample) -> f64) -> f64 {
    let values: Vec<_> = samples.get(way).into_iter().flatten().map(field).filter(|v| !v.is_nan()).collect();
    median(&values)
}

/// A way's speed as a share of the yardstick's beside it; the median of the rounds.
fn ratio(samples: &Samples, way: &str) -> f64 {
    of(samples, way, |s| s.share)
}

/// All that was measured, in the order of the table.
fn rows() -> impl Iterator<Item = &'static str> {
    iter::once(YARDSTICK).chain(WAYS)
}

impl Report {
    fn main(&self) -> &Samples {
        &self.throughput[0].2
    }

    fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<_> = TARGETS
            .iter()
            .map(|(way, bound)| Line::at_least(format!("{way} / raw"), ratio(self.main(), way), *bound))
            .collect();
        let latencies = &self.latencies;
        let (raw, rest) = (quantile(&latencies.raw, 0.99), quantile(&latencies.rest, 0.99));
        let bound = (5.0 * raw + 2.0 * median(&latencies.sync)).min(10.0);
        lines.push(Line::at_most("REST latency p99, ms (5 × raw p99 + 2 syncs, and 10)", rest, bound));
        lines.push(Line::at_most("memory idle, MiB", self.cost.idle_mib, 25.0));
        let waiting = self.cost.accepted_mib.max(self.cost.waiting_mib).max(self.cost.draining_mib);
        lines.push(Line::at_most(
            format!("memory with {} waiting events, MiB", self.cost.waiting),
            waiting,
            64.0,
        ));
        lines.push(Line::at_most("idle processor time, %", self.cost.idle_cpu_percent, 0.2));
        lines.push(Line::at_most("start with them, s", self.cost.start_seconds, 1.0));
        lines
    }

    /// Whether everything is as it is to be.
    pub fn holds(&self) -> bool {
        self.lines().iter().all(|line| line.holds)
    }

    /// As Markdown.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (qos, subscriber, samples) in &self.throughput {
            text += &speeds(*qos, *subscriber, samples);
        }
        text += &latency(&self.latencies);
        self.cost_table(&mut text);
        line(
            &mut text,
            "\n**Beside those who are slow**, accepted by single calls, share of the free speed\n",
        );
        line(&mut text, "| beside | share |\n| --- | --- |");
        for (what, share) in self.hindered.shares() {
            line(&mut text, &format!("| {what} | {share:.2} |"));
        }
        line(&mut text, "\n**Targets**\n\n| what | is | is to be | |\n| --- | --- | --- | --- |");
        for Line { what, is, bound, holds } in self.lines() {
            line(
                &mut text,
                &format!("| {what} | {is:.2} | {bound} | {} |", if holds { "holds" } else { "MISSED" }),
            );
        }
        text
    }

    fn cost_table(&self, text: &mut String) {
        let cost = &self.cost;
        line(text, &format!("\n**Cost**, with {} waiting events\n", cost.waiting));
        line(text, "| what | |\n| --- | --- |");
        for (what, value) in [
            ("memory idle, MiB", cost.idle_mib),
            ("memory after accepting them, MiB", cost.accepted_mib),
            ("memory after a start with them, MiB", cost.waiting_mib),
            ("most memory while they are delivered, MiB", cost.draining_mib),
            ("idle processor time, % of one core", cost.idle_cpu_percent),
            ("start until it answers, s", cost.start_seconds),
            ("broker named until the first is delivered, s", cost.first_delivered_seconds),
            ("delivered a second", cost.drained_per_second),
            ("bytes on disk per event", cost.disk_bytes_per_event),
        ] {
            line(text, &format!("| {what} | {value:.2} |"));
        }
    }

    fn json(&self) -> Value {
        let ratios = |samples: &Samples| -> Value {
            TARGETS.iter().map(|(way, _)| ((*way).to_owned(), json!(ratio(samples, way)))).collect()
        };
        let throughput: Vec<_> = self
            .throughput
            .iter()
            .map(|(qos, subscriber, samples)| {
                let ways: Value = rows()
                    .map(|way| {
                        let speeds: Vec<_> = samples[way].iter().map(|s| s.per_second).collect();
                        let shares: Vec<_> = samples[way].iter().map(|s| s.share).collect();
                        let of = |field: fn(&Sample) -> f64| of(samples, way, field);
                        let value = json!({
                            "per_second": median(&speeds), "samples": speeds, "shares": shares,
                            "cpu_seconds_per_100000": of(|s| s.cpu),
                            "broker_cpu_seconds_per_100000": of(|s| s.broker_cpu),
                            "peak_mib": of(|s| s.peak_mib),
                        });
                        (way.to_owned(), value)
                    })
                    .collect();
                json!({ "qos": qos, "subscriber": subscriber, "ratios": ratios(samples), "ways": ways })
            })
            .collect();
        let Latencies { raw, in_process, rest, sync, .. } = &self.latencies;
        let cost = &self.cost;
        let hindered: Value =
            self.hindered.shares().iter().map(|(what, share)| ((*what).to_owned(), json!(share))).collect();
        json!({
            "ratios": ratios(self.main()),
            "latency_ms": {
                "rest_p50": median(rest), "rest_p95": quantile(rest, 0.95),
                "rest_p99": quantile(rest, 0.99),
                "in_process_p50": median(in_process), "in_process_p99": quantile(in_process, 0.99),
                "raw_p50": median(raw), "raw_p99": quantile(raw, 0.99),
                "sync_p50": median(sync), "sync_p99": quantile(sync, 0.99),
            },
            "memory_mib": {
                "idle": cost.idle_mib, "million_waiting": cost.accepted_mib.max(cost.waiting_mib),
                "draining": cost.draining_mib,
            },
            "waiting_events": cost.waiting,
            "idle_cpu_percent": cost.idle_cpu_percent,
            "start_seconds_million_waiting": cost.start_seconds,
            "disk_bytes_per_event": cost.disk_bytes_per_event,
            "share_beside_slow_ones": hindered,
            "throughput": throughput,
            "targets_hold": self.holds(),
        })
    }

    /// Writes the file; answers where it is.
    pub fn write(&self) -> PathBuf {
        let target =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).parent().expect("a directory in target").join("bench");
        fs::create_dir_all(&target).expect("a directory can be made in target");
        let file = target.join("end_to_end.json");
        let text = serde_json::to_string_pretty(&self.json()).expect("numbers are JSON");
        fs::write(&file, text + "\n").expect("a file can be written in target");
        file
    }
}

/// The table of the latencies, as Markdown.
pub fn latency(latencies: &Latencies) -> String {
    let Latencies { raw, in_process, rest, rest_accepted, sync } = latencies;
    let mut text = String::new();
    line(&mut text, "\n**Latency at 100 events/s**, ms, to receipt by a subscriber\n");
    line(&mut text, "| way | p50 | p95 | p99 |\n| --- | --- | --- | --- |");
    for (way, values) in [
        ("raw", raw),
        ("in-process", in_process),
        ("REST", rest),
        ("REST, until the 202", rest_accepted),
        ("a disk sync", sync),
    ] {
        let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|share| quantile(values, share));
        line(&mut text, &format!("| {way} | {p50:.2} | {p95:.2} | {p99:.2} |"));
    }
    let share = median(sync) / median(rest) * 100.0;
    line(&mut text, &format!("\nThe disk sync is {share:.0}% of the REST latency's p50."));
    text
}

/// The table of the speeds, as Markdown.
pub fn speeds(qos: u8, subscriber: bool, samples: &Samples) -> String {
    let mut text = String::new();
    let with = if subscriber { "one subscriber" } else { "no subscriber" };
    line(&mut text, &format!("\n**QoS {qos}, {with}**, medians\n"));
    line(
        &mut text,
        "| way | events/s | lowest – highest | × raw | CPU s per 100,000: service | broker | peak MiB |",
    );
    line(&mut text, "| --- | --- | --- | --- | --- | --- | --- |");
    for way in rows().filter(|way| samples.contains_key(way)) {
        let speeds: Vec<_> = samples[way].iter().map(|s| s.per_second).collect();
        line(
            &mut text,
            &format!(
                "| {way} | {:.0} | {:.0} – {:.0} | {:.2} | {} | {} | {} |",
                median(&speeds),
                quantile(&speeds, 0.0),
                quantile(&speeds, 1.0),
                ratio(samples, way),
                known(of(samples, way, |s| s.cpu)),
                known(of(samples, way, |s| s.broker_cpu)),
                known(of(samples, way, |s| s.peak_mib)),
            ),
        );
    }
    text
}

fn known(value: f64) -> String {
    if value.is_nan() { "–".to_owned() } else { format!("{value:.2}") }
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a text takes all");
}
