//! Memory, open files and threads of both processes, sampled twice a second.

use std::{
    fmt::Write as _,
    fs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use liveobject_test_support::memory;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::ledgers::Origin;

const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// Minimum duration of a run that shows whether memory grows. Until the first floods, full disks and backlogs
/// are over, caches and the allocator still grow to their normal size.
const JUDGED_FROM: Duration = Duration::from_mins(8);
/// Tolerated growth of the least heap from the second to the last quarter of a run: memory that the allocator keeps
/// after a burst that happened to be larger. A run of eight minutes has about 80,000 events in its second half, so
/// a leak of 300 bytes for each event is found.
const TOLERATED_GROWTH_KIB: u64 = 24 << 10;
/// Maximum memory at any time.
const MAX_KIB: u64 = 192 << 10;
/// Tolerated growth of open files: client connections come and go, whereas leaked files accumulate.
const TOLERATED_FILES: u64 = 40;

#[derive(Clone, Copy, Debug)]
struct Sample {
    age: Duration,
    rss_kib: u64,
    /// Memory that belongs to no file.
    heap_kib: u64,
    files: u64,
    threads: u64,
}

/// One run of a process, from its start to its end.
#[derive(Debug)]
struct Run {
    pid: u32,
    started: Instant,
    samples: Vec<Sample>,
}

#[derive(Debug, Default)]
struct Watched {
    pid: AtomicU32,
    runs: Mutex<Vec<Run>>,
}

/// A task that samples both processes until it is dropped.
#[derive(Debug)]
pub struct Monitor {
    watched: Arc<[Watched; 2]>,
    _task: JoinSet<()>,
}

/// The resources that one process used.
#[derive(Debug)]
pub struct Usage {
    pub runs: usize,
    /// Maximum resident memory.
    pub max_kib: u64,
    /// Duration of the longest run. The following fields are about its four quarters.
    pub longest: Duration,
    /// The least heap. The allocator keeps memory for each thread that waits for work, so the heap rises and
    /// falls with their number, whereas leaked memory stays.
    pub heap_kib: [u64; QUARTERS],
    /// The median.
    files: [u64; QUARTERS],
    pub max_files: u64,
    pub max_threads: u64,
}

const QUARTERS: usize = 4;

impl Monitor {
    pub fn start() -> Self {
        let watched = Arc::<[Watched; 2]>::default();
        let mut task = JoinSet::new();
        let sampled = Arc::clone(&watched);
        task.spawn(async move {
            loop {
                sampled.iter().for_each(sample);
                sleep(SAMPLE_EVERY).await;
            }
        });
        Self { watched, _task: task }
    }

    /// Sets the pid of the running process, or 0 if there is none.
    pub fn set_pid(&self, origin: Origin, pid: u32) {
        self.watched[origin as usize].pid.store(pid, Ordering::Relaxed);
    }

    pub fn usage(&self, origin: Origin) -> Usage {
        let runs = self.watched[origin as usize].runs.lock().unwrap_or_else(PoisonError::into_inner);
        let all = || runs.iter().flat_map(|run| &run.samples);
        let longest = runs.iter().max_by_key(|run| run.samples.last().map(|sample| sample.age));
        let samples = longest.map_or(&[][..], |run| &run.samples);
        let quarters = quarters(samples);
        Usage {
            runs: runs.len(),
            max_kib: all().map(|sample| sample.rss_kib).max().unwrap_or(0),
            longest: samples.last().map_or(Duration::ZERO, |sample| sample.age),
            heap_kib: quarters.map(|samples| least(samples, |sample| sample.heap_kib)),
            files: quarters.map(|samples| median(samples, |sample| sample.files)),
            max_files: all().map(|sample| sample.files).max().unwrap_or(0),
            max_threads: all().map(|sample| sample.threads).max().unwrap_or(0),
        }
    }

    /// Returns every sample, one a line: the number of the run, its age in seconds, the memory in KiB, and
    /// the numbers of open files and threads.
    pub fn samples(&self, origin: Origin) -> String {
        let runs = self.watched[origin as usize].runs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (number, run) in runs.iter().enumerate() {
            for Sample { age, rss_kib, heap_kib, files, threads } in &run.samples {
                let seconds = age.as_secs_f64();
                // Writing to a string does not fail.
                let _ = writeln!(
                    text,
                    "{number} {seconds:.1} rss={rss_kib} heap={heap_kib} files={files} threads={threads}"
                );
            }
        }
        text
    }
}

impl Usage {
    /// Returns whether memory and open files did not grow, and memory never exceeded its limit. The first
    /// quarter of the longest run does not count. A run that is too short shows no growth.
    pub fn is_flat(&self) -> bool {
        let grows = grows(self.heap_kib, TOLERATED_GROWTH_KIB) || grows(self.files, TOLERATED_FILES);
        self.max_kib <= MAX_KIB && !(self.is_judged() && grows)
    }

    /// Returns whether the longest run is long enough to show whether memory grows.
    pub fn is_judged(&self) -> bool {
        self.longest >= JUDGED_FROM
    }
}

/// Returns whether a figure grows by more than this from the second to the last quarter.
fn grows([_, second, _, last]: [u64; QUARTERS], tolerated: u64) -> bool {
    last > second + tolerated
}

fn quarters(samples: &[Sample]) -> [&[Sample]; QUARTERS] {
    let start = |number: usize| samples.len() * number / QUARTERS;
    std::array::from_fn(|number| &samples[start(number)..start(number + 1)])
}

/// Returns the value that one sample in twenty is below. A single low sample, as of a process that is about to end,
/// does not hide growth.
fn least(samples: &[Sample], field: impl Fn(&Sample) -> u64) -> u64 {
    quantile(samples, 20, field)
}

fn median(samples: &[Sample], field: impl Fn(&Sample) -> u64) -> u64 {
    quantile(samples, 2, field)
}

/// Returns the value that one sample in `divisor` is below.
fn quantile(samples: &[Sample], divisor: usize, field: impl Fn(&Sample) -> u64) -> u64 {
    let mut values: Vec<_> = samples.iter().map(field).collect();
    values.sort_unstable();
    values.get(values.len() / divisor).copied().unwrap_or(0)
}

fn sample(watched: &Watched) {
    let pid = watched.pid.load(Ordering::Relaxed);
    let Some([rss_kib, heap_kib, files, threads]) = measure(pid) else { return };
    let mut runs = watched.runs.lock().unwrap_or_else(PoisonError::into_inner);
    if runs.last().is_none_or(|run| run.pid != pid) {
        runs.push(Run { pid, started: Instant::now(), samples: Vec::new() });
    }
    if let Some(run) = runs.last_mut() {
        run.samples.push(Sample { age: run.started.elapsed(), rss_kib, heap_kib, files, threads });
    }
}

/// Returns the resident memory and the part of it that belongs to no file, in KiB, and the numbers of open files and
/// threads, or `None` if the process is gone.
fn measure(pid: u32) -> Option<[u64; 4]> {
    let count =
        |directory| u64::try_from(fs::read_dir(format!("/proc/{pid}/{directory}")).ok()?.count()).ok();
    Some([memory::resident_kib(pid)?, memory::anonymous_kib(pid)?, count("fd")?, count("task")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The heap of a run, in KiB: one sample for each value.
    fn grows_with(heap_kib: impl Iterator<Item = u64>) -> bool {
        let sample = |heap_kib| Sample { age: Duration::ZERO, rss_kib: 0, heap_kib, files: 0, threads: 0 };
        let samples: Vec<_> = heap_kib.map(sample).collect();
        grows(
            quarters(&samples).map(|samples| least(samples, |sample| sample.heap_kib)),
            TOLERATED_GROWTH_KIB,
        )
    }

    #[test]
    fn a_heap_that_rises_and_returns_does_not_grow() {
        let mib = |mib: u64| mib << 10;
        assert!(!grows_with((0..2400).map(|_| mib(20))));
        // Most of the last quarter, and its end, are high.
        let saw_tooth = |i: u64| mib(20) + i % 400 * 150;
        assert!(!grows_with((0..2400).map(saw_tooth)));
        assert!(!grows_with((0..2400).map(|i| if i % 600 < 50 { mib(20) } else { mib(20) + i * 20 })));
    }

    #[test]
    fn a_heap_whose_least_value_rises_grows() {
        let mib = |mib: u64| mib << 10;
        assert!(grows_with((0..2400).map(|i| mib(20) + i * 30)), "steadily");
        assert!(grows_with((0..2400).map(|i| mib(20) + i % 400 * 150 + i * 30)), "under a saw-tooth");
        assert!(!grows_with((0..2400).map(|i| mib(20) + i * 10)), "within the tolerance");
        let at_the_end = |i: u64| if i == 2399 { 0 } else { mib(20) + i * 30 };
        assert!(grows_with((0..2400).map(at_the_end)), "a process that is ending");
    }
}
