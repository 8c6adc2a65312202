//! The memory usage of a process, as reported by the kernel (`proc_pid_status(5)`).

use std::fs;

/// Returns the current resident set size in KiB, or `None` if the process is gone.
#[must_use]
pub fn resident_kib(pid: u32) -> Option<u64> {
    status_kib(pid, "VmRSS:")
}

/// Returns the resident memory that belongs to no file, such as the heap and the stacks, in KiB, or `None` if
/// the process is gone. Pages of the program and of mapped files do not count; the kernel can drop them.
#[must_use]
pub fn anonymous_kib(pid: u32) -> Option<u64> {
    status_kib(pid, "RssAnon:")
}

/// Returns the peak resident set size in KiB, or `None` if the process is gone.
#[must_use]
pub fn peak_kib(pid: u32) -> Option<u64> {
    status_kib(pid, "VmHWM:")
}

fn status_kib(pid: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
