//! A wall clock that can be set, for some processes only (libfaketime).

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The wall clock of the processes that are started with its [`environment`](FakeClock::environment). Their
/// monotonic clocks are the real ones.
#[derive(Debug)]
pub struct FakeClock {
    dir: TempDir,
    library: Option<PathBuf>,
}

impl FakeClock {
    /// Creates a clock that shows the true time. Without libfaketime, prints a line and creates a clock that
    /// always shows the true time.
    ///
    /// # Panics
    ///
    /// If no temporary directory can be created.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it creates a directory")]
    pub fn new() -> Self {
        let dir = TempDir::with_prefix("fake-clock-").expect("a temporary directory can be created");
        let clock = Self { dir, library: library() };
        clock.set(0);
        clock
    }

    /// Sets the clock to this many seconds after the true time.
    ///
    /// # Panics
    ///
    /// If the clock's file cannot be written.
    pub fn set(&self, seconds: i64) {
        let new = self.dir.path().join("new");
        fs::write(&new, format!("{seconds:+}\n")).expect("the clock can be written");
        fs::rename(new, self.file()).expect("the clock can be set");
    }

    /// Returns the environment variables that make a process use this clock. The process notices a change
    /// after at most two seconds.
    #[must_use]
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

    /// Removes the shared memory that libfaketime leaves behind when its process is killed.
    pub fn remove_shared_memory(pid: u32) {
        for name in [format!("faketime_shm_{pid}"), format!("sem.faketime_sem_{pid}")] {
            // The file does not exist if the process exited normally.
            let _ = fs::remove_file(Path::new("/dev/shm").join(name));
        }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("offset")
    }
}

/// Finds libfaketime in `/usr/lib/<architecture>`.
#[expect(clippy::print_stdout, reason = "what a test skips belongs in its output")]
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
