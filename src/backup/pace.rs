//! Writes large files without delaying the commits of a service on the same disk.
//!
//! What a program writes is first in memory. A commit, which must be on the disk, waits while the system writes what
//! other files have there. Therefore, large files are synced after every few hundred KiB, with a pause after each sync,
//! in which commits have the disk for themselves.

use std::{
    fs::File,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use tokio::time::Instant;

/// After how many bytes a file is synced.
const STEP_BYTES: usize = 512 * 1024;
/// The pause after a sync, as a multiple of the time since the last pause.
const PAUSE: u32 = 1;
/// The longest pause, so that a slow disk does not make a backup last forever.
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// The pace at which a thread writes. Ends the writing with an error when the process stops.
#[derive(Debug)]
pub(super) struct Pace {
    is_stopping: Arc<AtomicBool>,
    unsynced: usize,
    resumed: Instant,
}

impl Pace {
    /// Starts at the pace of a step. When the flag is set, writing fails.
    pub(super) fn new(is_stopping: Arc<AtomicBool>) -> Self {
        Self { is_stopping, unsynced: 0, resumed: Instant::now() }
    }

    /// Records that these bytes were written to a file. After a step, syncs the file and pauses.
    pub(super) fn wrote(&mut self, file: &File, bytes: usize) -> io::Result<()> {
        self.unsynced += bytes;
        if self.unsynced < STEP_BYTES {
            return Ok(());
        }
        if self.is_stopping.load(Ordering::Relaxed) {
            return Err(io::Error::other("the service is stopping"));
        }
        file.sync_data()?;
        self.unsynced = 0;
        sleep((self.resumed.elapsed() * PAUSE).min(MAX_PAUSE));
        self.resumed = Instant::now();
        Ok(())
    }
}

/// A file that is written at a pace.
#[derive(Debug)]
pub(super) struct Paced {
    file: File,
    pace: Pace,
}

impl Paced {
    /// Writes to this file.
    pub(super) fn new(file: File, pace: Pace) -> Self {
        Self { file, pace }
    }

    /// Syncs what is left.
    pub(super) fn finish(self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl Write for Paced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(&bytes[..bytes.len().min(STEP_BYTES)])?;
        self.pace.wrote(&self.file, count)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
