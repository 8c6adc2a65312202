//! Metrics of the process, read from `/proc` when the metrics are requested. Where the system has no such file
//! or does not allow reading it, the metric is missing.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use rustix::time::{ClockId, clock_gettime};

use crate::domain::clock::Timestamp;

/// The metrics of this process.
#[derive(Debug)]
pub(super) struct Process {
    started: Timestamp,
}

impl Process {
    /// Creates the metrics of a process that started at this time.
    pub(super) fn new(started: Timestamp) -> Self {
        Self { started }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let mut add = |name, help, metric: &dyn EncodeMetric| {
            let kind = metric.metric_type();
            metric.encode(encoder.encode_descriptor(name, help, None, kind)?)
        };
        if let Some(bytes) = disk_written() {
            let help =
                "Bytes that this process has written to disks, including the overhead of the database.";
            add("liveobject_disk_written_bytes", help, &ConstCounter::new(bytes))?;
        }
        let help = "Processor time of this process, in user and system mode.";
        add("process_cpu_seconds", help, &ConstCounter::new(cpu_seconds()))?;
        if let Some(bytes) = resident_memory() {
            let help = "Memory of this process that is in RAM.";
            add("process_resident_memory_bytes", help, &ConstGauge::new(signed(bytes)))?;
        }
        if let Some(files) = open_files() {
            add("process_open_fds", "Open file descriptors.", &ConstGauge::new(signed(files)))?;
        }
        if let Some(files) = max_files() {
            let help = "The number of file descriptors that this process may open.";
            add("process_max_fds", help, &ConstGauge::new(signed(files)))?;
        }
        let help = "When this process started, in seconds since 1970.";
        add("process_start_time_seconds", help, &ConstGauge::new(self.started.timestamp()))
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "seconds are far below 2^52")]
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn disk_written() -> Option<u64> {
    number_after("/proc/self/io", "write_bytes:")
}

fn resident_memory() -> Option<u64> {
    number_after("/proc/self/status", "VmRSS:").map(|kib| kib * 1024)
}

fn max_files() -> Option<u64> {
    number_after("/proc/self/limits", "Max open files")
}

fn open_files() -> Option<u64> {
    // The descriptor of the directory itself does not count.
    fs::read_dir("/proc/self/fd").ok().map(|files| (files.count() as u64).saturating_sub(1))
}

/// Returns the first number in the line of a file that begins with `label`.
fn number_after(path: &str, label: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn the_numbers_of_this_process_are_read() {
        assert!(cpu_seconds() > 0.0);
        assert!(disk_written().is_some());
        assert!((1 << 20..1 << 40).contains(&resident_memory().unwrap()));
        let files: Vec<_> = (0..100).map(|_| File::open("/dev/null").unwrap()).collect();
        assert!(open_files().unwrap() > 100, "{:?}", open_files());
        drop(files);
        assert!(max_files().unwrap() > 100);
    }

    #[test]
    fn what_the_system_does_not_report_is_left_out() {
        assert_eq!(number_after("/nowhere/at/all", "Max open files"), None);
        assert_eq!(number_after("/proc/self/limits", "Max wishes"), None);
        assert_eq!(number_after("/proc/self/status", "Name:"), None, "it is not a number");
    }
}
