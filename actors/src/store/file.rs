//! The database file: notices when it is moved, deleted or replaced under the running service.
//!
//! SQLite does not notice in WAL mode: it goes on writing to the file that it opened, and everything is lost
//! with it at the end of the process.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// A database file that is open.
#[derive(Debug)]
pub struct OpenFile {
    path: PathBuf,
    write_ahead_log: PathBuf,
    /// Device and inode.
    id: (u64, u64),
}

impl OpenFile {
    /// Remembers which file is at this path.
    pub fn at(path: &Path) -> io::Result<Self> {
        // SQLite follows links before it names this file.
        let mut write_ahead_log = fs::canonicalize(path)?.into_os_string();
        write_ahead_log.push("-wal");
        Ok(Self { path: path.to_owned(), write_ahead_log: write_ahead_log.into(), id: id(path)? })
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the same file is still at the path, with its write-ahead log, which exists from the
    /// first write on.
    pub fn is_in_place(&self) -> bool {
        id(&self.path).is_ok_and(|id| id == self.id) && self.write_ahead_log.exists()
    }
}

fn id(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|file| (file.dev(), file.ino()))
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
        fs::remove_file(&log).unwrap();
        assert!(!file.is_in_place());
    }
}
