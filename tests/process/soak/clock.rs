//! The wall clock of the system under test. libfaketime moves it forwards and backwards, for these processes
//! only.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tempfile::TempDir;
use tokio::time::Instant;

/// The setting `late_after_seconds` of the soak test.
pub const LATE_AFTER: i64 = 60;

/// Maximum time between the choice of an event's topic and the event's arrival: an outage of a broker or of
/// the network, plus a margin.
const TRANSIT: Duration = Duration::from_secs(90);
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// A clock change to an offset from the true time.
#[derive(Clone, Copy, Debug)]
struct Jump {
    at: Instant,
    seconds: i64,
    /// Whether no event was in transit from the jump until the processes noticed it. An event that arrives
    /// after such a jump was also sent after it.
    at_rest: bool,
}

/// A clock that can be set.
#[derive(Debug)]
pub struct Clock {
    dir: TempDir,
    library: Option<PathBuf>,
    start: (Instant, DateTime<Utc>),
    jumps: Mutex<Vec<Jump>>,
}

impl Clock {
    pub fn new() -> Self {
        let dir = TempDir::with_prefix("soak-clock-").expect("a temporary directory can be created");
        #[expect(clippy::disallowed_methods, reason = "the test needs its own clock's time")]
        let start = (Instant::now(), Utc::now());
        let clock = Self { dir, library: library(), start, jumps: Mutex::default() };
        clock.set(0, false);
        clock
    }

    /// Sets the clock to this offset. The processes notice within a second or so.
    pub fn set(&self, seconds: i64, at_rest: bool) {
        let new = self.dir.path().join("new");
        fs::write(&new, format!("{seconds:+}\n")).expect("the clock can be written");
        fs::rename(new, self.file()).expect("the clock can be set");
        self.jumps().push(Jump { at: Instant::now(), seconds, at_rest });
    }

    /// Returns the environment variables that make a process use this clock.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let Some(library) = &self.library else { return Vec::new() };
        vec![
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
    }

    /// Returns the minimum and maximum age, in seconds, that an event can have had when its topic was chosen,
    /// which is some time before it arrived.
    pub fn ages(&self, happened: DateTime<Utc>, arrived: Instant) -> (i64, i64) {
        let jumps = self.jumps();
        // The jump that was in effect at the beginning of that time and all later ones count, because each
        // may have taken effect a little late.
        let begin = arrived.checked_sub(TRANSIT).unwrap_or(self.start.0);
        let in_force = |jump: &Jump| jump.at <= begin || (jump.at_rest && jump.at <= arrived);
        let first = jumps.iter().rposition(in_force).unwrap_or(0);
        let begin = if jumps[first].at_rest { begin.max(jumps[first].at) } else { begin };
        let since_start =
            |at: Instant| i64::try_from(at.duration_since(self.start.0).as_secs()).expect("small");
        let age = |at: Instant, jump: &Jump| {
            (self.start.1 - happened).num_seconds() + since_start(at) + jump.seconds
        };
        let possible = jumps[first..].iter().filter(|jump| jump.at <= arrived);
        let ages: Vec<_> = possible.flat_map(|jump| [age(begin, jump), age(arrived, jump)]).collect();
        let (least, most) = (ages.iter().min(), ages.iter().max());
        (least.expect("a clock is set") - 2, most.expect("a clock is set") + 2)
    }

    /// Removes the shared memory that libfaketime leaves behind when its process is killed.
    pub fn remove_shared_memory(pid: u32) {
        for name in [format!("faketime_shm_{pid}"), format!("sem.faketime_sem_{pid}")] {
            // The file does not exist if the process exited normally.
            let _ = fs::remove_file(Path::new("/dev/shm").join(name));
        }
    }

    fn jumps(&self) -> std::sync::MutexGuard<'_, Vec<Jump>> {
        self.jumps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("offset")
    }
}

/// Finds libfaketime in `/usr/lib/<architecture>`.
fn library() -> Option<PathBuf> {
    let found = fs::read_dir("/usr/lib")
        .ok()?
        .flatten()
        .map(|entry| entry.path().join(LIBRARY))
        .find(|file| file.is_file());
    if found.is_none() {
        println!("SKIPPED: libfaketime is not installed, so the clock cannot jump");
    }
    found
}
