//! Writes large files without delaying the commits of a service on the same disk.
//!
//! Written data first stays in memory, in the page cache. A commit, which must reach the disk, waits while the system
//! writes the data of other files. Therefore, large files are synced after every MiB, and each sync is followed by a
//! pause that leaves the disk to commits.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, sleep},
    time::Duration,
};

use rustix::process::setpriority_process;
use tokio::{sync::oneshot, time::Instant};

/// The number of bytes after which a file is synced.
const STEP_BYTES: u64 = 1024 * 1024;
/// The pause after a sync, as a multiple of the time that the sync took.
const PAUSE: u32 = 2;
/// The longest pause, so that a slow disk does not make a backup last forever.
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// The `nice` value of threads that make a backup. The priority of their I/O is derived from it.
const NICE: i32 = 10;

/// Limits the pace at which a thread writes. Writing fails when the process stops.
#[derive(Debug)]
pub struct Pace {
    is_stopping: Arc<AtomicBool>,
    unsynced: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Pace {
    /// Creates a pace. Once the flag is set, writing fails.
    pub fn new(is_stopping: Arc<AtomicBool>) -> Self {
        Self { is_stopping, unsynced: 0 }
    }

    /// Records that these bytes were written to a file. After a step, syncs the file and pauses.
    pub(super) fn wrote(&mut self, file: &File, bytes: u64) -> io::Result<()> {
        self.unsynced += bytes;
        if self.unsynced < STEP_BYTES {
            return Ok(());
        }
        if self.is_stopping.load(Ordering::Relaxed) {
            return Err(io::Error::other("the service is stopping"));
        }
        let began = Instant::now();
        file.sync_data()?;
        sleep((began.elapsed() * PAUSE).min(MAX_PAUSE));
        self.unsynced = 0;
        Ok(())
    }

    /// Returns a function for a thread that enlarges this file and calls it regularly. It slows the thread down, and
    /// returns false if the writing must end. The first call lowers the priority of the thread.
    pub(super) fn of_growing(mut self, file: File) -> impl FnMut() -> bool + Send + 'static {
        let mut known = None;
        move || {
            let size = file.metadata().map_or(0, |file| file.len());
            let Some(last) = known.replace(size) else {
                yield_to_others();
                return true;
            };
            self.wrote(&file, size.saturating_sub(last)).is_ok()
        }
    }
}

/// Lowers the priority of this thread, if that is permitted. Only for a thread that ends after its work, because it
/// takes a privilege to raise the priority again.
fn yield_to_others() {
    let _refused = setpriority_process(None, NICE);
}

/// Runs long background work on a thread of its own with a low priority. Fails if the work panics.
pub(super) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    let work = move || {
        yield_to_others();
        // The caller may be gone.
        let _sent = done.send(work());
    };
    thread::Builder::new().name("backup".to_owned()).spawn(work)?;
    result.await.map_err(|_| io::Error::other("a thread panicked"))
}

/// A file that is written at a pace.
#[derive(Debug)]
pub struct Paced {
    file: File,
    pace: Pace,
}

/// How much of an archive is written at a time.
const WRITE_BYTES: usize = 64 * 1024;

/// Returns a writer for an archive that limits its use of the disk.
pub fn buffered(file: File) -> BufWriter<Paced> {
    BufWriter::with_capacity(WRITE_BYTES, Paced::new(file, Pace::default()))
}

impl Paced {
    /// Creates a writer to this file.
    pub fn new(file: File, pace: Pace) -> Self {
        Self { file, pace }
    }

    /// Syncs what is left.
    pub(super) fn finish(self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl Write for Paced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.pace.wrote(&self.file, count as u64)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_ends_when_the_service_stops() {
        let stopping = Arc::new(AtomicBool::new(false));
        let mut out = Paced::new(tempfile::tempfile().unwrap(), Pace::new(Arc::clone(&stopping)));
        out.write_all(&vec![1; 3 * 1024 * 1024]).unwrap();
        stopping.store(true, Ordering::Relaxed);
        let error = out.write_all(&vec![1; 2 * 1024 * 1024]).unwrap_err();
        assert!(error.to_string().contains("stopping"), "{error}");
    }

    #[tokio::test]
    async fn background_work_has_a_low_priority_and_reports_a_panic() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let own = nice();
        assert_eq!(in_background(nice).await.unwrap(), own.max(NICE));
        assert_eq!(nice(), own, "other threads keep theirs");
        assert!(in_background(|| panic!("a test")).await.is_err());
    }

    #[test]
    fn a_file_that_another_thread_enlarges_is_followed() {
        let file = tempfile::tempfile().unwrap();
        let stopping = Arc::new(AtomicBool::new(false));
        let mut progress = Pace::new(Arc::clone(&stopping)).of_growing(file.try_clone().unwrap());
        assert!(progress());
        file.set_len(STEP_BYTES).unwrap();
        assert!(progress());
        stopping.store(true, Ordering::Relaxed);
        assert!(progress(), "nothing was written");
        file.set_len(STEP_BYTES * 2).unwrap();
        assert!(!progress());
    }
}
