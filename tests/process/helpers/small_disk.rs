//! A disk without room: a small file system of the test's own.

use std::{fs, path::PathBuf, process::Command};

use tempfile::TempDir;

/// A small file system in memory; gone when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    dir: TempDir,
    bytes: usize,
}

impl SmallDisk {
    /// `None`, and a line that says so, where mounting is not permitted.
    pub fn mount(bytes: usize) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700"), "tmpfs"]).arg(dir.path());
        match mount.output() {
            Ok(output) if output.status.success() => Some(Self { dir, bytes }),
            other => {
                println!("SKIPPED: no file system can be mounted here, so no disk can be filled: {other:?}");
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

    pub fn take_room(&self, bytes: usize) {
        fs::write(self.ballast(), vec![7; bytes]).expect("there is room for the ballast");
    }

    pub fn give_room(&self) {
        fs::remove_file(self.ballast()).expect("the ballast can be removed");
    }

    /// Not a byte more fits.
    pub fn fill_up(&self) {
        let all = fs::write(self.rest(), vec![7; self.bytes]);
        assert!(all.is_err(), "the disk is larger than it should be");
    }

    pub fn empty_again(&self) {
        fs::remove_file(self.rest()).expect("the rest can be removed");
    }

    /// Takes away all that is free, without writing it: for a disk that is large. [`SmallDisk::widen`] gives it back.
    pub fn narrow(&self) {
        let used =
            Command::new("df").args(["-k", "--output=used"]).arg(self.dir.path()).output().expect("df runs");
        let used = String::from_utf8_lossy(&used.stdout);
        let used =
            used.split_whitespace().last().and_then(|kib| kib.parse::<usize>().ok()).expect("a number");
        // What was written meanwhile makes it fail; a little more is as good.
        let narrowed = (0..64).any(|more| self.resize((used << 10) + (more << 17)));
        assert!(narrowed, "the disk could not be made smaller");
    }

    pub fn widen(&self) {
        assert!(self.resize(self.bytes), "the disk could not be made larger");
    }

    fn resize(&self, bytes: usize) -> bool {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={bytes}")]).arg(self.dir.path());
        mount.output().expect("mount runs").status.success()
    }

    fn rest(&self) -> PathBuf {
        self.dir.path().join("rest")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a file that is still open does not keep it from being taken down.
        let unmounted = Command::new("umount").arg("--lazy").arg(self.dir.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            println!("the small disk stays mounted at {}", self.dir.path().display());
        }
    }
}
