//! Memory and open files of both processes, sampled twice a second.

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
/// Tolerated growth of the heap from the second to the last quarter of a run: memory that the allocator keeps
/// after a load that happened to be higher.
const TOLERATED_GROWTH_KIB: u64 = 8 << 10;
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
    /// Duration of the longest run. The following fields are medians of its four quarters.
    pub longest: Duration,
    pub heap_kib: [u64; QUARTERS],
    files: [u64; QUARTERS],
    pub max_files: u64,
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
        let quarter = |number: usize| &samples[samples.len() * number / 4..samples.len() * (number + 1) / 4];
        let quarters = [quarter(0), quarter(1), quarter(2), quarter(3)];
        Usage {
            runs: runs.len(),
            max_kib: all().map(|sample| sample.rss_kib).max().unwrap_or(0),
            longest: samples.last().map_or(Duration::ZERO, |sample| sample.age),
            heap_kib: quarters.map(|samples| median(samples, |sample| sample.heap_kib)),
            files: quarters.map(|samples| median(samples, |sample| sample.files)),
            max_files: all().map(|sample| sample.files).max().unwrap_or(0),
        }
    }

    /// Returns every sample, one a line: the number of the run, its age in seconds, and the memory in KiB.
    pub fn samples(&self, origin: Origin) -> String {
        let runs = self.watched[origin as usize].runs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (number, run) in runs.iter().enumerate() {
            for Sample { age, rss_kib, heap_kib, files } in &run.samples {
                let seconds = age.as_secs_f64();
                // Writing to a string does not fail.
                let _ = writeln!(text, "{number} {seconds:.1} rss={rss_kib} heap={heap_kib} files={files}");
            }
        }
        text
    }
}

impl Usage {
    /// Returns whether memory and open files did not grow, and memory never exceeded its limit. The first
    /// quarter of the longest run does not count. A run that is too short shows no growth.
    pub fn is_flat(&self) -> bool {
        let [_, second_kib, _, last_kib] = self.heap_kib;
        let [_, second_files, _, last_files] = self.files;
        let grows =
            last_kib > second_kib + TOLERATED_GROWTH_KIB || last_files > second_files + TOLERATED_FILES;
        self.max_kib <= MAX_KIB && !(self.is_judged() && grows)
    }

    /// Returns whether the longest run is long enough to show whether memory grows.
    pub fn is_judged(&self) -> bool {
        self.longest >= JUDGED_FROM
    }
}

fn median(samples: &[Sample], field: impl Fn(&Sample) -> u64) -> u64 {
    let mut values: Vec<_> = samples.iter().map(field).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

fn sample(watched: &Watched) {
    let pid = watched.pid.load(Ordering::Relaxed);
    let Some([rss_kib, heap_kib, files]) = measure(pid) else { return };
    let mut runs = watched.runs.lock().unwrap_or_else(PoisonError::into_inner);
    if runs.last().is_none_or(|run| run.pid != pid) {
        runs.push(Run { pid, started: Instant::now(), samples: Vec::new() });
    }
    if let Some(run) = runs.last_mut() {
        run.samples.push(Sample { age: run.started.elapsed(), rss_kib, heap_kib, files });
    }
}

/// Returns the resident memory and the part of it that belongs to no file, in KiB, and the number of open
/// files, or `None` if the process is gone.
fn measure(pid: u32) -> Option<[u64; 3]> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    Some([memory::resident_kib(pid)?, memory::anonymous_kib(pid)?, u64::try_from(files).ok()?])
}
