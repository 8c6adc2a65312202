//! The results of the soak test, as a table for people and as one line for scripts.

use std::{fmt, fs, path::Path, sync::Mutex};

use super::{
    ledgers::{Balance, Ledgers, Origin},
    load::lock,
    monitor::Usage,
    system_under_test::{MAX_PICTURE_BYTES, SystemUnderTest},
};

/// Maximum disk space per event.
const BYTES_PER_EVENT: u64 = 2048;
/// Maximum disk space that does not depend on the number of events. Most of it is the write-ahead log.
const BYTES_OVERHEAD: u64 = (100 << 20) + MAX_PICTURE_BYTES;

#[derive(Debug)]
pub struct Report {
    balances: Vec<(Balance, Usage, u64)>,
    dead: u64,
    late: usize,
    retried: usize,
    replayed: usize,
    pictures: usize,
    dismissed: usize,
    refused: usize,
    posts: Vec<u32>,
    errors: Vec<String>,
    violations: Vec<String>,
}

impl Report {
    pub async fn new(ledgers: &Mutex<Ledgers>, system: &mut SystemUnderTest) -> Self {
        let status = system.service.status().await;
        let logs = [system.service.log_text(), system.embedded.log()];
        let directories = [system.service.data_dir().to_owned(), system.embedded.data_dir().to_owned()];
        let mut ledgers = lock(ledgers);
        ledgers.posts.sort_unstable();
        let of_origin = |origin: Origin| {
            let bytes = size_of_dir(&directories[origin as usize]);
            (ledgers.balance(origin), system.monitor.usage(origin), bytes)
        };
        Self {
            balances: Origin::ALL.map(of_origin).into(),
            dead: status["outbox"]["dead"].as_u64().unwrap_or(u64::MAX),
            late: ledgers.late(),
            retried: ledgers.retried,
            replayed: ledgers.replayed_count(),
            pictures: ledgers.pictures,
            dismissed: ledgers.dismissed,
            refused: ledgers.refused,
            posts: ledgers.posts.clone(),
            errors: logs.iter().flat_map(|log| unexplained_errors(log)).collect(),
            violations: ledgers.violations(),
        }
    }

    /// Describes everything that breaks a guarantee of the service.
    pub fn violations(&self) -> Vec<String> {
        let mut violations = self.violations.clone();
        for (balance, usage, bytes) in &self.balances {
            let Balance { origin, lost, out_of_order, contradictions, .. } = balance;
            let mut add = |what: &str, cases: Vec<String>| {
                if !cases.is_empty() {
                    let first = &cases[..cases.len().min(10)];
                    violations.push(format!("{origin:?}: {} {what}: {first:?}", cases.len()));
                }
            };
            add("lost", lost.iter().map(u64::to_string).collect());
            let out_of_place = &balance.lost_with_qos_0_out_of_order;
            add("delivered after events that QoS 0 lost", out_of_place.iter().map(u64::to_string).collect());
            add("out of order", out_of_order.clone());
            add("contradictions", contradictions.clone());
            if !usage.is_flat() {
                violations.push(format!("{origin:?}: memory or open files grow: {usage:?}"));
            }
            let events = u64::try_from(balance.accepted + balance.unconfirmed).expect("small");
            if *bytes > events * BYTES_PER_EVENT + BYTES_OVERHEAD {
                violations.push(format!("{origin:?}: {bytes} bytes on disk for {events} events"));
            }
        }
        if self.dead > 0 {
            violations.push(format!("{} events are dead", self.dead));
        }
        if !self.errors.is_empty() {
            let first = &self.errors[..self.errors.len().min(5)];
            violations.push(format!("{} errors in the logs: {first:?}", self.errors.len()));
        }
        violations
    }

    /// Returns the results as one line.
    pub fn summary(&self) -> String {
        let sum = |field: fn(&Balance) -> usize| {
            self.balances.iter().map(|(balance, ..)| field(balance)).sum::<usize>()
        };
        let usages = || self.balances.iter().map(|(_, usage, _)| usage);
        let memory = match usages().all(Usage::is_flat) {
            false => "grows",
            true if usages().all(Usage::is_judged) => "flat",
            true => "not_judged",
        };
        format!(
            "accepted={} delivered={} dead={} lost={} out_of_order={} reordered_by_broker={} duplicates={} \
             memory={memory}",
            sum(|balance| balance.accepted),
            sum(|balance| balance.delivered),
            self.dead,
            sum(|balance| balance.lost.len()),
            sum(|balance| balance.out_of_order.len()),
            sum(|balance| balance.reordered_by_broker.len()),
            sum(|balance| balance.duplicates),
        )
    }

    /// Returns a quantile of the durations of POST requests, in milliseconds.
    fn post_ms(&self, thousandth: usize) -> f64 {
        let index = self.posts.len().saturating_sub(1) * thousandth / 1000;
        f64::from(self.posts.get(index).copied().unwrap_or(0)) / 1000.0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<34}{:>12}{:>12}", "", "over REST", "from actors")?;
        let mut row = |name: &str, cell: &dyn Fn(&(Balance, Usage, u64)) -> String| {
            writeln!(f, "{name:<34}{:>12}{:>12}", cell(&self.balances[0]), cell(&self.balances[1]))
        };
        row("accepted", &|(balance, ..)| balance.accepted.to_string())?;
        row("delivered", &|(balance, ..)| balance.delivered.to_string())?;
        row("  without a receipt", &|(balance, ..)| balance.unconfirmed.to_string())?;
        row("  seen on the wire", &|(balance, ..)| balance.seen_on_wire.to_string())?;
        row("lost", &|(balance, ..)| balance.lost.len().to_string())?;
        row("lost with QoS 0", &|(balance, ..)| balance.lost_with_qos_0.to_string())?;
        row("out of order", &|(balance, ..)| balance.out_of_order.len().to_string())?;
        row("reordered by the broker", &|(balance, ..)| balance.reordered_by_broker.len().to_string())?;
        row("duplicates", &|(balance, ..)| balance.duplicates.to_string())?;
        row("process runs", &|(_, usage, _)| usage.runs.to_string())?;
        row("longest run, seconds", &|(_, usage, _)| usage.longest.as_secs().to_string())?;
        for (quarter, name) in ["first", "second", "third", "last"].into_iter().enumerate() {
            row(&format!("  least heap in {name} quarter, MiB"), &|(_, usage, _)| {
                mib(usage.heap_kib[quarter])
            })?;
        }
        row("maximum memory, MiB", &|(_, usage, _)| mib(usage.max_kib))?;
        row("maximum open files", &|(_, usage, _)| usage.max_files.to_string())?;
        row("maximum threads", &|(_, usage, _)| usage.max_threads.to_string())?;
        row("on disk, MiB", &|(.., bytes)| mib(bytes >> 10))?;
        for (balance, ..) in &self.balances {
            for case in balance.reordered_by_broker.iter().take(10) {
                writeln!(f, "reordered by the broker: {case}")?;
            }
        }
        writeln!(f, "late events (history topic): {}", self.late)?;
        writeln!(f, "dead events: {} sent again, {} dismissed", self.retried, self.dismissed)?;
        writeln!(f, "replayed events: {}, pictures read back: {}", self.replayed, self.pictures)?;
        writeln!(f, "responses with 503, 429 or 401: {}", self.refused)?;
        let [median, p99, max] = [500, 990, 1000].map(|thousandth| self.post_ms(thousandth));
        let count = self.posts.len();
        write!(
            f,
            "POST of one event: median {median:.1} ms, p99 {p99:.1} ms, maximum {max:.1} ms (n = {count})"
        )
    }
}

fn mib(kib: u64) -> String {
    format!("{}.{}", kib >> 10, ((kib & 1023) * 10) >> 10)
}

/// What the errors in a log may mention: a full disk, and a database that was replaced under the service.
const EXPLAINED: [&str; 3] = ["full", "No space left on device", "moved, deleted or replaced"];

/// Returns the panics in a log, and the errors that no fault explains.
fn unexplained_errors(log: &str) -> impl Iterator<Item = String> {
    let is_panic = |line: &str| line.contains("panicked at");
    let is_error = |line: &str| line.contains(r#""level":"ERROR""#);
    let is_explained = |line: &str| EXPLAINED.iter().any(|cause| line.contains(cause));
    let unexplained = move |line: &&str| is_panic(line) || (is_error(line) && !is_explained(line));
    log.lines().filter(unexplained).map(str::to_owned)
}

/// Returns the total size of all files in a directory and its subdirectories.
fn size_of_dir(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => size_of_dir(&entry.path()),
            _ => entry.metadata().map_or(0, |file| file.len()),
        })
        .sum()
}
