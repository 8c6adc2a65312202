//! The wall clock as the besieged processes see it: libfaketime puts it forward and back, for them alone.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tempfile::TempDir;
use tokio::time::Instant;

/// The setting of the siege, in seconds.
pub const LATE_AFTER: i64 = 60;

/// The longest that an event is under way between the moment when its topic was chosen and its arrival: the outage of a
/// broker or of the network, and some.
const TRANSIT: Duration = Duration::from_secs(90);
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// By how many seconds the clock is wrong, and since when.
#[derive(Clone, Copy, Debug)]
struct Jump {
    at: Instant,
    seconds: i64,
    /// Whether no event was under way then, nor until the besieged saw it: none that came later was sent before.
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
        let dir = TempDir::with_prefix("soak-clock-").expect("a temporary directory can be made");
        #[expect(clippy::disallowed_methods, reason = "what the test's own clock says")]
        let start = (Instant::now(), Utc::now());
        let clock = Self { dir, library: library(), start, jumps: Mutex::default() };
        clock.set(0, false);
        clock
    }

    /// From now on (a second or so, until they look again) the clock is wrong by so much.
    pub fn set(&self, seconds: i64, at_rest: bool) {
        let new = self.dir.path().join("new");
        fs::write(&new, format!("{seconds:+}\n")).expect("the clock can be written");
        fs::rename(new, self.file()).expect("the clock can be set");
        self.jumps().push(Jump { at: Instant::now(), seconds, at_rest });
    }

    /// The environment of a process that goes by this clock.
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

    /// The least and the most that the age of an event can have been, in seconds, when its topic was chosen: some time
    /// before it arrived.
    pub fn ages(&self, happened: DateTime<Utc>, arrived: Instant) -> (i64, i64) {
        let jumps = self.jumps();
        // The one that was in force at the beginning of that time, and all later ones. Each may be in force a little late.
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

    /// A process that was killed leaves what libfaketime shared with its children.
    pub fn remove_shared_memory(pid: u32) {
        for name in [format!("faketime_shm_{pid}"), format!("sem.faketime_sem_{pid}")] {
            // It is not there when the process ended by itself.
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

/// `/usr/lib/…`, by the machine's architecture.
fn library() -> Option<PathBuf> {
    let found = fs::read_dir("/usr/lib")
        .ok()?
        .flatten()
        .map(|entry| entry.path().join(LIBRARY))
        .find(|file| file.is_file());
    if found.is_none() {
        println!("no clock can jump: libfaketime is not installed");
    }
    found
}
