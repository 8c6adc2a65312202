//! The mark: a small file next to the database, `<database>.seq`, with the last position that was given to an event.
//! If the database is replaced by an older or an empty one, new events get positions above the mark, so that no
//! position is given to two events.
//!
//! The mark is written after each commit of new events, and before their receipts are sent, but not synced: what was
//! written survives the end of the process. After a power failure, the mark may be older than the database;
//! the last position in the database is then used. The mark is synced once a minute and at a clean stop. Its
//! size never changes, so it can be written on a full disk. It is optional: if it cannot be read or written,
//! the service works without it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{file::file_id, location::next_to};
use crate::domain::{causes::with_causes, ids::Seq};

/// What follows the name of the database in the name of the file.
pub const SUFFIX: &str = ".seq";
/// The first line of the file, with the version of its format.
const HEADER: &str = "liveobject seq 1";
/// The size of the file.
const SIZE: usize = HEADER.len() + 1 + LINE;
/// The last position, twice, so that an incomplete write is noticed.
const LINE: usize = 20 + 1 + 20 + 1;
/// Higher positions than this are not plausible.
const MAX_SEQ: i64 = i64::MAX / 4;

/// The mark of an open database.
#[derive(Debug)]
pub struct SeqMark {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` if the file cannot be opened.
    file: Option<File>,
    last: Seq,
    /// Whether the file may differ from `last` after a power failure.
    is_dirty: bool,
    /// Whether the last write failed.
    has_failed: bool,
}

impl SeqMark {
    /// Opens the mark of a database. Does not create it. The mark is `None` if there is no file, or if it is damaged,
    /// which is logged.
    pub fn open(database: &Path) -> (Self, Option<Seq>) {
        let path = next_to(database, SUFFIX);
        let (file, last) = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => {
                let last = read(&file);
                if let Err(error) = &last {
                    tracing::warn!(
                        file = %path.display(),
                        error = %with_causes(&error),
                        "the file with the last seq cannot be read; the seqs of new events follow those in the \
                         database"
                    );
                }
                (Some(file), last.ok())
            }
            Err(_) => (None, None),
        };
        let state = State { file, last: last.unwrap_or(Seq(0)), is_dirty: last.is_none(), has_failed: false };
        (Self { path, state: Mutex::new(state) }, last)
    }

    /// Writes the mark if this position is higher. Called once for each commit, and takes microseconds.
    pub fn raise(&self, last: Seq) {
        let mut state = self.lock();
        if last <= state.last {
            return;
        }
        state.last = last;
        state.is_dirty = true;
        let written = state.file.as_ref().map(|file| write(file, last));
        if let Some(written) = written {
            self.check(&mut state, written);
        }
    }

    /// Syncs the mark to disk if it has changed. Creates the file if it is missing, with mode 0600. Blocks.
    pub fn sync(&self) {
        let is_in_place = self.lock().file.as_ref().is_some_and(|file| is_at(file, &self.path));
        let file = self.rewrite(is_in_place);
        // Not locked while the disk is busy: a commit may raise the mark.
        let synced = file.and_then(|file| match file {
            Some(file) => self.sync_file(&file, is_in_place),
            None => Ok(()),
        });
        let mut state = self.lock();
        state.is_dirty |= synced.is_err();
        self.check(&mut state, synced);
    }

    /// Writes the mark again, if it may not be on disk. Returns the file that must be synced.
    fn rewrite(&self, is_in_place: bool) -> io::Result<Option<File>> {
        let mut state = self.lock();
        if is_in_place && !state.is_dirty && !state.has_failed {
            return Ok(None);
        }
        if !is_in_place {
            state.file = None;
            state.file = Some(create(&self.path)?);
        }
        let Some(file) = &state.file else { return Ok(None) };
        file.set_len(SIZE as u64)?;
        write(file, state.last)?;
        let file = file.try_clone()?;
        state.is_dirty = false;
        Ok(Some(file))
    }

    fn sync_file(&self, file: &File, is_in_place: bool) -> io::Result<()> {
        file.sync_all()?;
        match self.path.parent() {
            Some(directory) if !is_in_place => File::open(directory)?.sync_all(),
            _ => Ok(()),
        }
    }

    /// Returns the path of the file if it could not be written.
    pub fn failed(&self) -> Option<&Path> {
        self.lock().has_failed.then_some(self.path.as_path())
    }

    fn check(&self, state: &mut State, written: io::Result<()>) {
        let failed_before = std::mem::replace(&mut state.has_failed, written.is_err());
        match written {
            Err(error) if !failed_before => tracing::warn!(
                file = %self.path.display(),
                error = %with_causes(&error),
                "the file with the last seq cannot be written; if the database is replaced by an older one, seqs may \
                 be reused"
            ),
            Ok(()) if failed_before => tracing::info!("the file with the last seq can be written again"),
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked cannot have left a partial state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn is_at(file: &File, path: &Path) -> bool {
    matches!((file.metadata(), fs::metadata(path)), (Ok(file), Ok(path)) if file_id(&file) == file_id(&path))
}

/// The content is one short write at the start of the file, which is complete or absent after the end of the process.
fn write(file: &File, last: Seq) -> io::Result<()> {
    file.write_all_at(content(last).as_bytes(), 0)
}

/// Returns the content of the file.
pub fn content(last: Seq) -> String {
    format!("{HEADER}\n{:020} {:020}\n", last.0, last.0)
}

fn read(file: &File) -> io::Result<Seq> {
    let mut bytes = [0; SIZE + 1];
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], u64::try_from(length).unwrap_or(u64::MAX))? {
            0 => break,
            more => length += more,
        }
    }
    parse(&bytes[..length]).ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "its content is damaged"))
}

fn parse(bytes: &[u8]) -> Option<Seq> {
    let line =
        std::str::from_utf8(bytes).ok()?.strip_prefix(HEADER)?.strip_prefix('\n')?.strip_suffix('\n')?;
    let (first, second) = line.split_once(' ')?;
    let seq = first.parse().ok().filter(|seq| (0..=MAX_SEQ).contains(seq))?;
    (first == second && first.len() == 20).then_some(Seq(seq))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn database() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.db");
        fs::write(&path, "").unwrap();
        (dir, path)
    }

    #[test]
    fn the_mark_is_read_back_even_if_it_was_not_synced() {
        let (dir, path) = database();
        let (mark, last) = SeqMark::open(&path);
        assert_eq!(last, None);
        mark.sync();
        assert_eq!(SeqMark::open(&path).1, Some(Seq(0)));
        for (seq, expected) in [(7, 7), (3, 7), (1_000_000, 1_000_000)] {
            mark.raise(Seq(seq));
            assert_eq!(SeqMark::open(&path).1, Some(Seq(expected)));
            let file = fs::metadata(dir.path().join("l.db.seq")).unwrap();
            assert_eq!((file.len(), file.permissions().mode() & 0o777), (SIZE as u64, 0o600));
        }
    }

    #[test]
    fn a_damaged_mark_counts_as_none_and_is_replaced() {
        let (dir, path) = database();
        let file = dir.path().join("l.db.seq");
        let good = content(Seq(15));
        for damaged in [
            "",
            &good[..good.len() - 1],
            &good.replacen("15", "16", 1),
            &good.replace("seq 1", "seq 2"),
            &good.replace('0', "-"),
            &content(Seq(i64::MAX)),
            &format!("{good}\n"),
        ] {
            fs::write(&file, damaged).unwrap();
            let (mark, last) = SeqMark::open(&path);
            assert_eq!(last, None, "{damaged:?}");
            mark.sync();
            assert_eq!(fs::read_to_string(&file).unwrap(), content(Seq(0)));
            mark.raise(Seq(16));
            assert_eq!(fs::read_to_string(&file).unwrap(), content(Seq(16)));
        }
    }

    #[test]
    fn a_mark_that_cannot_be_written_is_reported_until_it_can() {
        let (dir, path) = database();
        let file = dir.path().join("l.db.seq");
        fs::create_dir(&file).unwrap();
        let (mark, _) = SeqMark::open(&path);
        mark.raise(Seq(5));
        mark.sync();
        assert_eq!(mark.failed(), Some(file.canonicalize().unwrap().as_path()));
        fs::remove_dir(&file).unwrap();
        mark.raise(Seq(6));
        mark.sync();
        assert_eq!((mark.failed(), SeqMark::open(&path).1), (None, Some(Seq(6))));
    }

    #[test]
    fn a_mark_that_was_deleted_is_created_again() {
        let (dir, path) = database();
        let (mark, _) = SeqMark::open(&path);
        mark.raise(Seq(5));
        mark.sync();
        fs::remove_file(dir.path().join("l.db.seq")).unwrap();
        mark.sync();
        assert_eq!(SeqMark::open(&path).1, Some(Seq(5)));
    }
}
