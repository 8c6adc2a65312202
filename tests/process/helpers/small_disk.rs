//! A small file system that tests mount and fill up.

use std::{fs, path::PathBuf, process::Command};

use tempfile::TempDir;

/// A small file system in memory. It is unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    dir: TempDir,
    bytes: usize,
}

impl SmallDisk {
    /// Mounts the file system. Prints a line and returns `None` where mounting is not permitted.
    pub fn mount(bytes: usize) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory can be created");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700"), "tmpfs"]).arg(dir.path());
        match mount.output() {
            Ok(output) if output.status.success() => Some(Self { dir, bytes }),
            other => {
                println!("SKIPPED: cannot mount a file system, so no disk can be filled: {other:?}");
                None
            }
        }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn ballast(&self) -> PathBuf {
        self.dir.path().join("ballast")
    }

    /// Occupies this many bytes until [`SmallDisk::remove_ballast`].
    pub fn add_ballast(&self, bytes: usize) {
        fs::write(self.ballast(), vec![7; bytes]).expect("there is space for the ballast");
    }

    pub fn remove_ballast(&self) {
        fs::remove_file(self.ballast()).expect("the ballast can be removed");
    }

    /// Occupies all free space until [`SmallDisk::remove_filler`].
    pub fn fill_up(&self) {
        let written = fs::write(self.filler(), vec![7; self.bytes]);
        assert!(written.is_err(), "the disk is larger than it should be");
    }

    pub fn remove_filler(&self) {
        fs::remove_file(self.filler()).expect("the filler can be removed");
    }

    /// Removes all free space until [`SmallDisk::grow`]. It shrinks the disk instead of writing to it, which
    /// is faster for a large disk.
    pub fn shrink(&self) {
        self.shrink_to(0);
    }

    /// Leaves about this much free space until [`SmallDisk::grow`].
    pub fn shrink_to(&self, free: usize) {
        // Shrinking fails if something was written in the meantime, so this measures again, and tries larger sizes.
        let shrunk = (0..64).any(|more| self.resize((self.used_kib() << 10) + free + (more << 17)));
        assert!(shrunk, "the disk cannot be made smaller");
    }

    fn used_kib(&self) -> usize {
        let used =
            Command::new("df").args(["-k", "--output=used"]).arg(self.dir.path()).output().expect("df runs");
        let used = String::from_utf8_lossy(&used.stdout);
        used.split_whitespace().last().and_then(|kib| kib.parse().ok()).expect("a number")
    }

    pub fn grow(&self) {
        assert!(self.resize(self.bytes), "the disk cannot be made larger");
    }

    fn resize(&self, bytes: usize) -> bool {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={bytes}")]).arg(self.dir.path());
        mount.output().expect("mount runs").status.success()
    }

    fn filler(&self) -> PathBuf {
        self.dir.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A lazy unmount succeeds even if a file is still open.
        let unmounted = Command::new("umount").arg("--lazy").arg(self.dir.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            println!("the small disk is still mounted at {}", self.dir.path().display());
        }
    }
}
