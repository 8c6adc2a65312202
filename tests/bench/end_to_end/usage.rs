//! A process's resource usage, from `proc(5)`.

use std::{fs, path::Path, time::Duration};

use liveobject_test_support::memory;

/// Returns the CPU time that the process has used so far, user and system, including threads that have
/// exited.
///
/// The resolution is 10 ms; [`fine_cpu`] is finer.
pub fn cpu(pid: u32) -> Duration {
    let stat = read(&format!("/proc/{pid}/stat"));
    // The name in parentheses may contain anything. User and system time are the 12th and 13th fields after
    // it.
    let after_name = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Returns the CPU time of the process's current threads, with nanosecond resolution.
pub fn fine_cpu(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a running process has threads");
    let schedstat = |task: fs::DirEntry| read(&task.path().join("schedstat").to_string_lossy());
    let nanos =
        tasks.flatten().map(schedstat).filter_map(|stat| stat.split_whitespace().next()?.parse::<u64>().ok());
    Duration::from_nanos(nanos.sum())
}

/// Returns the resident memory in MiB.
pub fn resident_mib(pid: u32) -> f64 {
    mib(memory::resident_kib(pid))
}

/// Returns the peak resident memory in MiB.
pub fn peak_mib(pid: u32) -> f64 {
    mib(memory::peak_kib(pid))
}

fn mib(kib: Option<u64>) -> f64 {
    kib.and_then(|kib| u32::try_from(kib).ok()).map_or(0.0, |kib| f64::from(kib) / 1024.0)
}

/// Returns the total size of the files in a directory.
pub fn bytes_in(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).filter(fs::Metadata::is_file).map(|file| file.len()).sum()
}

fn read(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default()
}
