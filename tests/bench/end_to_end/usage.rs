//! A process's resource usage, from `proc(5)`.

use std::{fs, path::Path, time::Duration};

use liveobject_test_support::memory;

/// Returns the CPU time that the process has used so far, user and system, including threads that have
/// exited.
///
/// The resolution is 10 ms; [`fine_cpu`] is finer.
pub fn cpu(pid: u32) -> Duration {
    cpu_fields(pid, 2)
}

/// Returns the sum of the first of these times: user and system time of the process, and of its ended children.
fn cpu_fields(pid: u32, fields: usize) -> Duration {
    let stat = read(&format!("/proc/{pid}/stat"));
    // The name in parentheses may contain anything. The times are the fields from the 12th after it.
    let after_name = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(fields).filter_map(|n| n.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Returns the CPU time that these processes, and those of their children that have ended, have used so far.
pub fn cpu_with_ended(pids: impl Iterator<Item = u32>) -> Duration {
    pids.map(|pid| cpu_fields(pid, 4)).sum()
}

/// Returns the CPU time of the process's current threads, with nanosecond resolution.
pub fn fine_cpu(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a running process has threads");
    let schedstat = |task: fs::DirEntry| read(&task.path().join("schedstat").to_string_lossy());
    let nanos =
        tasks.flatten().map(schedstat).filter_map(|stat| stat.split_whitespace().next()?.parse::<u64>().ok());
    Duration::from_nanos(nanos.sum())
}

/// Returns how many bytes of files the process has changed in the page cache, for the kernel to write to the disk.
pub fn bytes_written(pid: u32) -> u64 {
    field(&read(&format!("/proc/{pid}/io")), "write_bytes:")
}

/// Returns how often the process's current threads have slept so far, which is how often they were woken.
pub fn wake_ups(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a running process has threads");
    let status = |task: fs::DirEntry| read(&task.path().join("status").to_string_lossy());
    tasks.flatten().map(status).map(|status| field(&status, "voluntary_ctxt_switches:")).sum()
}

/// Returns the number after this name, at the beginning of a line.
fn field(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
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
