//! The space on the disk of a directory.

use std::path::Path;

/// The reserve for events on large disks.
const RESERVE_BYTES: u64 = 64 * 1024 * 1024;
/// The free space below which a large disk counts as almost full.
const LOW_BYTES: u64 = 1024 * 1024 * 1024;

/// The space on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// The free bytes that this process may use.
    pub free: u64,
    /// The size of the file system.
    pub total: u64,
}

impl DiskSpace {
    /// Returns how many bytes are reserved for events: 64 MiB, or a tenth of a small disk.
    pub fn reserve(&self) -> u64 {
        RESERVE_BYTES.min(self.total / 10)
    }

    /// Returns whether the disk is almost full: less than 1 GiB is free, on small disks less than a fifth.
    pub fn is_low(&self) -> bool {
        self.free < LOW_BYTES.min(self.total / 5)
    }
}

/// Returns the space on the disk that contains this path, or `None` if the system does not report it.
pub fn disk_space(path: &Path) -> Option<DiskSpace> {
    let stat = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Some(DiskSpace { free: bytes(stat.f_bavail), total: bytes(stat.f_blocks) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn small_disks_have_smaller_limits() {
        let large = DiskSpace { free: 1023 * MIB, total: 1_000_000 * MIB };
        assert_eq!((large.reserve(), large.is_low()), (64 * MIB, true));
        assert!(!DiskSpace { free: 1024 * MIB, ..large }.is_low());
        let small = DiskSpace { free: 20 * MIB, total: 100 * MIB };
        assert_eq!((small.reserve(), small.is_low()), (10 * MIB, false));
    }

    #[test]
    fn the_space_of_a_directory_is_known() {
        let space = disk_space(Path::new(".")).unwrap();
        assert!(space.total > 0 && space.free <= space.total);
        assert_eq!(disk_space(Path::new("/nowhere/at/all")), None);
    }
}
