//! The database file and its write-ahead log: notices when one of them is moved, deleted or replaced under the
//! running service.
//!
//! SQLite does not notice in WAL mode: it goes on writing to the files that it opened, and everything is lost
//! with them at the end of the process. If the write-ahead log is deleted, any program that reads the database
//! creates another one.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// A database file that is open.
#[derive(Debug)]
pub struct OpenFile {
    path: PathBuf,
    write_ahead_log: PathBuf,
    id: FileId,
    known: Mutex<Known>,
}

/// Returns the size of the pages of a database, in bytes; `None` if the file is empty or not a database.
pub(super) fn page_bytes(path: &Path) -> Option<u32> {
    /// The position of the size in the file, a big-endian number of two bytes; 1 stands for 65,536.
    const POSITION: u64 = 16;
    let mut bytes = [0; 2];
    fs::File::open(path).ok()?.read_exact_at(&mut bytes, POSITION).ok()?;
    match u16::from_be_bytes(bytes) {
        1 => Some(65_536),
        size => Some(u32::from(size)).filter(|size| *size >= 512),
    }
}

/// Device and inode.
pub(super) type FileId = (u64, u64);

/// What is known about the write-ahead log.
#[derive(Debug, Default)]
struct Known {
    /// The file that the writing connection uses; `None` if it is not known yet.
    id: Option<FileId>,
    /// Whether another program has replaced it.
    is_replaced: bool,
}

impl OpenFile {
    /// Remembers which file is at this path.
    pub fn at(path: &Path) -> io::Result<Self> {
        // SQLite follows links before it names this file.
        let mut write_ahead_log = fs::canonicalize(path)?.into_os_string();
        write_ahead_log.push("-wal");
        Ok(Self {
            path: path.to_owned(),
            write_ahead_log: write_ahead_log.into(),
            id: id(path)?,
            known: Mutex::default(),
        })
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the size of the file and its write-ahead log, in bytes; 0 if they are missing.
    pub fn size(&self) -> u64 {
        [&self.path, &self.write_ahead_log]
            .map(|path| fs::metadata(path).map_or(0, |file| file.len()))
            .iter()
            .sum()
    }

    /// Remembers which file is the write-ahead log. Called when a writing connection has opened it, because
    /// SQLite removes the file when the last connection closes, and the next one creates a new file. A file
    /// that another program has created is not accepted: other connections may still use the first one.
    pub fn writer_connected(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.is_replaced {
            known.id = id(&self.write_ahead_log).ok();
        }
    }

    /// Returns whether the same files are still at their paths: the database, and its write-ahead log, which
    /// exists from the first write on.
    pub fn is_in_place(&self) -> bool {
        let Ok(write_ahead_log) = id(&self.write_ahead_log) else { return false };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.is_replaced = *known.id.get_or_insert(write_ahead_log) != write_ahead_log;
        !known.is_replaced && id(&self.path).is_ok_and(|id| id == self.id)
    }
}

fn id(path: &Path) -> io::Result<FileId> {
    fs::metadata(path).map(|metadata| file_id(&metadata))
}

/// Identifies a file, whatever its path.
pub(super) fn file_id(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linked_file_is_in_place_if_its_write_ahead_log_is_next_to_the_target() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target.db"), dir.path().join("link.db"));
        fs::write(&target, "").unwrap();
        fs::write(dir.path().join("target.db-wal"), "").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(OpenFile::at(&link).unwrap().is_in_place());
    }

    #[test]
    fn a_moved_deleted_or_replaced_file_is_not_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let (path, log) = (dir.path().join("l.db"), dir.path().join("l.db-wal"));
        fs::write(&path, "").unwrap();
        fs::write(&log, "").unwrap();
        let file = OpenFile::at(&path).unwrap();
        assert!(file.is_in_place());
        let elsewhere = dir.path().join("moved");
        fs::rename(&path, &elsewhere).unwrap();
        assert!(!file.is_in_place());
        fs::copy(&elsewhere, &path).unwrap();
        assert!(!file.is_in_place(), "a copy is another file");
        fs::rename(&elsewhere, &path).unwrap();
        assert!(file.is_in_place(), "it was moved back");
        fs::rename(&log, &elsewhere).unwrap();
        assert!(!file.is_in_place());
        fs::write(&log, "").unwrap();
        assert!(!file.is_in_place(), "a reader has created another log");
        fs::rename(&elsewhere, &log).unwrap();
        assert!(file.is_in_place(), "it was moved back");
    }

    #[test]
    fn a_new_connection_may_create_another_write_ahead_log() {
        let dir = tempfile::tempdir().unwrap();
        let (path, log) = (dir.path().join("l.db"), dir.path().join("l.db-wal"));
        fs::write(&path, "").unwrap();
        fs::write(&log, "").unwrap();
        let file = OpenFile::at(&path).unwrap();
        file.writer_connected();
        fs::rename(&log, dir.path().join("old")).unwrap();
        fs::write(&log, "").unwrap();
        file.writer_connected();
        assert!(file.is_in_place(), "SQLite has removed the first one");
        fs::rename(&log, dir.path().join("older")).unwrap();
        fs::write(&log, "").unwrap();
        assert!(!file.is_in_place());
        file.writer_connected();
        assert!(!file.is_in_place(), "another program has replaced it");
    }
}
