//! Memory and open files of both processes, looked at twice a second.

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

use super::ledgers::By;

const POLL: Duration = Duration::from_millis(500);
/// What a process fills at its start is not growth.
const YOUNG: Duration = Duration::from_secs(5);
/// Growth within a life that does not count: caches and what the allocator keeps.
const GROWTH_KIB: u64 = 16 << 10;
/// More than this never.
const MOST_KIB: u64 = 192 << 10;
/// Connections of clients come and go; files that are left open only come.
const FILES_GROWTH: u64 = 40;

#[derive(Clone, Copy, Debug)]
struct Sample {
    age: Duration,
    rss_kib: u64,
    files: u64,
}

/// One process, from its start to its end.
#[derive(Debug)]
struct Life {
    pid: u32,
    born: Instant,
    samples: Vec<Sample>,
}

#[derive(Debug, Default)]
struct Watched {
    pid: AtomicU32,
    lives: Mutex<Vec<Life>>,
}

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Monitor {
    watched: Arc<[Watched; 2]>,
    _task: JoinSet<()>,
}

/// What was seen of one of them.
#[derive(Debug)]
pub struct Usage {
    pub lives: usize,
    pub most_kib: u64,
    /// The longest life, and in it the medians of the first and the last quarter.
    pub longest: Duration,
    pub first_kib: u64,
    pub last_kib: u64,
    pub most_files: u64,
    first_files: u64,
    last_files: u64,
}

impl Monitor {
    pub fn start() -> Self {
        let watched = Arc::<[Watched; 2]>::default();
        let mut task = JoinSet::new();
        let eyes = Arc::clone(&watched);
        task.spawn(async move {
            loop {
                eyes.iter().for_each(look);
                sleep(POLL).await;
            }
        });
        Self { watched, _task: task }
    }

    /// The process that runs now; 0: none.
    pub fn at(&self, whose: Origin, pid: u32) {
        self.watched[whose as usize].pid.store(pid, Ordering::Relaxed);
    }

    pub fn seen(&self, whose: Origin) -> Usage {
        let lives = self.watched[whose as usize].lives.lock().unwrap_or_else(PoisonError::into_inner);
        let all = || lives.iter().flat_map(|life| &life.samples);
        let longest = lives.iter().max_by_key(|life| life.samples.last().map(|sample| sample.age));
        let grown: Vec<_> =
            longest.into_iter().flat_map(|life| &life.samples).filter(|sample| sample.age > YOUNG).collect();
        let quarter = grown.len().div_ceil(4);
        let (first, last) = (&grown[..quarter], &grown[grown.len() - quarter..]);
        Usage {
            lives: lives.len(),
            most_kib: all().map(|sample| sample.rss_kib).max().unwrap_or(0),
            longest: longest.and_then(|life| life.samples.last()).map_or(Duration::ZERO, |sample| sample.age),
            first_kib: median(first, |sample| sample.rss_kib),
            last_kib: median(last, |sample| sample.rss_kib),
            most_files: all().map(|sample| sample.files).max().unwrap_or(0),
            first_files: median(first, |sample| sample.files),
            last_files: median(last, |sample| sample.files),
        }
    }
}

impl Usage {
    /// The longest life's last quarter against its first, and the greatest of all.
    pub fn is_flat(&self) -> bool {
        self.last_kib <= self.first_kib + GROWTH_KIB
            && self.most_kib <= MOST_KIB
            && self.last_files <= self.first_files + FILES_GROWTH
    }
}

fn median(samples: &[&Sample], of: impl Fn(&Sample) -> u64) -> u64 {
    let mut numbers: Vec<_> = samples.iter().map(|sample| of(sample)).collect();
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied().unwrap_or(0)
}

fn look(watched: &Watched) {
    let pid = watched.pid.load(Ordering::Relaxed);
    let Some((rss_kib, files)) = measure(pid) else { return };
    let mut lives = watched.lives.lock().unwrap_or_else(PoisonError::into_inner);
    if lives.last().is_none_or(|life| life.pid != pid) {
        lives.push(Life { pid, born: Instant::now(), samples: Vec::new() });
    }
    if let Some(life) = lives.last_mut() {
        life.samples.push(Sample { age: life.born.elapsed(), rss_kib, files });
    }
}

/// `None`: it is gone.
fn measure(pid: u32) -> Option<(u64, u64)> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    Some((memory::resident_kib(pid)?, u64::try_from(files).ok()?))
}
