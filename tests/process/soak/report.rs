//! The account of a siege, for a person and for a script.

use std::{fmt, fs, path::Path, sync::Mutex};

use super::{
    ledgers::{Balance, Ledgers, Origin},
    system_under_test::SystemUnderTest,
    load::lock,
    monitor::Usage,
};

/// What an event may take on the disk.
const BYTES_PER_EVENT: u64 = 2048;
/// What the database needs beside them: its write-ahead log, most of all.
const BYTES_BESIDE: u64 = 100 << 20;

#[derive(Debug)]
pub struct Report {
    balances: Vec<(Balance, Usage, u64)>,
    dead: u64,
    late: usize,
    refused: usize,
    posts: Vec<u32>,
    errors: Vec<String>,
    faults: Vec<String>,
}

impl Report {
    pub async fn new(ledgers: &Mutex<Ledgers>, system: &mut SystemUnderTest) -> Self {
        let status = system.service.status().await;
        let logs = [system.service.log_text(), system.embedded.log()];
        let directories = [system.service.data_dir().to_owned(), system.embedded.data_dir().to_owned()];
        let mut ledgers = lock(ledgers);
        ledgers.posts.sort_unstable();
        let one = |by: Origin| (ledgers.balance(by), system.monitor.seen(by), size(&directories[by as usize]));
        Self {
            balances: Origin::ALL.map(one).into(),
            dead: status["outbox"]["dead"].as_u64().unwrap_or(u64::MAX),
            late: ledgers.late(),
            refused: ledgers.refused,
            posts: ledgers.posts.clone(),
            errors: logs.iter().flat_map(|log| uncaused(log)).collect(),
            faults: ledgers.faults(),
        }
    }

    /// Everything that must not be.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.faults.clone();
        for (balance, seen, bytes) in &self.balances {
            let Balance { by, lost, out_of_order, contradictions, .. } = balance;
            let mut some = |what: &str, cases: Vec<String>| {
                if !cases.is_empty() {
                    faults.push(format!(
                        "{by:?}: {} {what}: {:?}",
                        cases.len(),
                        &cases[..cases.len().min(10)]
                    ));
                }
            };
            some("lost", lost.iter().map(u64::to_string).collect());
            some("out of order", out_of_order.clone());
            some("contradictions", contradictions.clone());
            if !seen.is_flat() {
                faults.push(format!("{by:?}: memory or open files grow: {seen:?}"));
            }
            let events = u64::try_from(balance.accepted + balance.unconfirmed).expect("small");
            if *bytes > events * BYTES_PER_EVENT + BYTES_BESIDE {
                faults.push(format!("{by:?}: {bytes} bytes on the disk for {events} events"));
            }
        }
        if self.dead > 0 {
            faults.push(format!("{} events are dead", self.dead));
        }
        if !self.errors.is_empty() {
            let some = &self.errors[..self.errors.len().min(5)];
            faults.push(format!("{} errors in the logs: {some:?}", self.errors.len()));
        }
        faults
    }

    /// All in one line.
    pub fn line(&self) -> String {
        let sum =
            |of: fn(&Balance) -> usize| self.balances.iter().map(|(balance, ..)| of(balance)).sum::<usize>();
        let memory = if self.balances.iter().all(|(_, seen, _)| seen.is_flat()) { "flat" } else { "grows" };
        format!(
            "accepted={} delivered={} dead={} lost={} out_of_order={} by_broker={} duplicates={} memory={memory}",
            sum(|balance| balance.accepted),
            sum(|balance| balance.delivered),
            self.dead,
            sum(|balance| balance.lost.len()),
            sum(|balance| balance.out_of_order.len()),
            sum(|balance| balance.reordered_by_broker.len()),
            sum(|balance| balance.duplicates),
        )
    }

    /// In milliseconds, so many thousandths of them at most.
    fn post(&self, thousandth: usize) -> f64 {
        let place = self.posts.len().saturating_sub(1) * thousandth / 1000;
        f64::from(self.posts.get(place).copied().unwrap_or(0)) / 1000.0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<34}{:>12}{:>12}", "", "over REST", "from actors")?;
        let mut row = |name: &str, of: &dyn Fn(&(Balance, Usage, u64)) -> String| {
            writeln!(f, "{name:<34}{:>12}{:>12}", of(&self.balances[0]), of(&self.balances[1]))
        };
        row("accepted", &|(balance, ..)| balance.accepted.to_string())?;
        row("delivered", &|(balance, ..)| balance.delivered.to_string())?;
        row("  of them without a receipt", &|(balance, ..)| balance.unconfirmed.to_string())?;
        row("  heard on the way", &|(balance, ..)| balance.seen_on_wire.to_string())?;
        row("lost", &|(balance, ..)| balance.lost.len().to_string())?;
        row("out of order", &|(balance, ..)| balance.out_of_order.len().to_string())?;
        row("out of order by the broker", &|(balance, ..)| balance.reordered_by_broker.len().to_string())?;
        row("duplicates", &|(balance, ..)| balance.duplicates.to_string())?;
        row("lives", &|(_, seen, _)| seen.lives.to_string())?;
        row("the longest, seconds", &|(_, seen, _)| seen.longest.as_secs().to_string())?;
        row("  memory in its first quarter, MiB", &|(_, seen, _)| mib(seen.first_kib))?;
        row("  memory in its last quarter, MiB", &|(_, seen, _)| mib(seen.last_kib))?;
        row("most memory, MiB", &|(_, seen, _)| mib(seen.most_kib))?;
        row("most open files", &|(_, seen, _)| seen.most_files.to_string())?;
        row("on the disk, MiB", &|(.., bytes)| mib(bytes >> 10))?;
        for case in self.balances.iter().flat_map(|(balance, ..)| balance.reordered_by_broker.iter().take(10)) {
            writeln!(f, "by the broker: {case}")?;
        }
        writeln!(f, "late (on history) {}, answers 503 or 429 {}", self.late, self.refused)?;
        let [median, p99, most] = [500, 990, 1000].map(|thousandth| self.post(thousandth));
        write!(
            f,
            "a POST of one event: median {median:.1} ms, p99 {p99:.1} ms, most {most:.1} ms ({} of them)",
            self.posts.len()
        )
    }
}

fn mib(kib: u64) -> String {
    format!("{}.{}", kib >> 10, ((kib & 1023) * 10) >> 10)
}

/// The errors in a log that a full disk does not explain, and panics.
fn uncaused(log: &str) -> impl Iterator<Item = String> {
    let is_error = |line: &&str| line.contains(r#""level":"ERROR""#) || line.contains("panicked at");
    log.lines().filter(is_error).filter(|line| !line.contains("full")).map(str::to_owned)
}

/// Of all files in it.
fn size(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => size(&entry.path()),
            _ => entry.metadata().map_or(0, |file| file.len()),
        })
        .sum()
}
