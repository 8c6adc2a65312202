//! Memory and open files of both processes, sampled twice a second.

use std::{
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
/// Samples from the first seconds of a run are ignored, because memory that a process allocates at its start
/// is not growth.
const WARM_UP: Duration = Duration::from_secs(5);
/// Tolerated growth within one run: caches, and memory that the allocator keeps.
const TOLERATED_GROWTH_KIB: u64 = 16 << 10;
/// Maximum memory at any time.
const MAX_KIB: u64 = 192 << 10;
/// Tolerated growth of open files: client connections come and go, whereas leaked files accumulate.
const TOLERATED_FILES: u64 = 40;

#[derive(Clone, Copy, Debug)]
struct Sample {
    age: Duration,
    rss_kib: u64,
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
    pub max_kib: u64,
    /// Duration of the longest run. The `first_…` and `last_…` fields are medians of its first and last
    /// quarter.
    pub longest: Duration,
    pub first_kib: u64,
    pub last_kib: u64,
    pub max_files: u64,
    first_files: u64,
    last_files: u64,
}

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
        let warm: Vec<_> =
            longest.into_iter().flat_map(|run| &run.samples).filter(|sample| sample.age > WARM_UP).collect();
        let quarter = warm.len().div_ceil(4);
        let (first, last) = (&warm[..quarter], &warm[warm.len() - quarter..]);
        Usage {
            runs: runs.len(),
            max_kib: all().map(|sample| sample.rss_kib).max().unwrap_or(0),
            longest: longest.and_then(|run| run.samples.last()).map_or(Duration::ZERO, |sample| sample.age),
            first_kib: median(first, |sample| sample.rss_kib),
            last_kib: median(last, |sample| sample.rss_kib),
            max_files: all().map(|sample| sample.files).max().unwrap_or(0),
            first_files: median(first, |sample| sample.files),
            last_files: median(last, |sample| sample.files),
        }
    }
}

impl Usage {
    /// Returns whether memory and open files did not grow from the first to the last quarter of the longest
    /// run, and memory never exceeded its limit.
    pub fn is_flat(&self) -> bool {
        self.last_kib <= self.first_kib + TOLERATED_GROWTH_KIB
            && self.max_kib <= MAX_KIB
            && self.last_files <= self.first_files + TOLERATED_FILES
    }
}

fn median(samples: &[&Sample], field: impl Fn(&Sample) -> u64) -> u64 {
    let mut values: Vec<_> = samples.iter().map(|sample| field(sample)).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

fn sample(watched: &Watched) {
    let pid = watched.pid.load(Ordering::Relaxed);
    let Some((rss_kib, files)) = measure(pid) else { return };
    let mut runs = watched.runs.lock().unwrap_or_else(PoisonError::into_inner);
    if runs.last().is_none_or(|run| run.pid != pid) {
        runs.push(Run { pid, started: Instant::now(), samples: Vec::new() });
    }
    if let Some(run) = runs.last_mut() {
        run.samples.push(Sample { age: run.started.elapsed(), rss_kib, files });
    }
}

/// Returns the resident memory in KiB and the number of open files, or `None` if the process is gone.
fn measure(pid: u32) -> Option<(u64, u64)> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    Some((memory::resident_kib(pid)?, u64::try_from(files).ok()?))
}
