//! Finds disks that are not mounted yet. Files that the service creates in a mount point are hidden once the disk is
//! mounted, and the events on the disk are missing until then.

use std::{
    fs,
    path::{Path, PathBuf},
};

const FSTAB: &str = "/etc/fstab";
const MOUNTED: &str = "/proc/self/mountinfo";
/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// Returns the mount point at or above this absolute path that `/etc/fstab` names and at which nothing is mounted.
/// Returns `None` if the system has no such file.
pub fn missing(path: &Path) -> Option<PathBuf> {
    let fstab = fs::read_to_string(FSTAB).ok()?;
    find(&resolve(path), &fstab, &fs::read_to_string(MOUNTED).ok()?)
}

/// Resolves the links in the path, also those to something that does not exist.
fn resolve(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Some((real, rest)) = existing(&path) else { break };
        let mut rest = rest.components();
        let Some(first) = rest.next() else { return real };
        // Only a link whose target does not exist is still one.
        match fs::read_link(real.join(first)) {
            Ok(target) => path = real.join(target).join(rest),
            Err(_) => return real.join(first).join(rest),
        }
    }
    path
}

/// Splits a path into the part that exists, without links, and the rest.
fn existing(path: &Path) -> Option<(PathBuf, PathBuf)> {
    path.ancestors()
        .find_map(|parent| Some((fs::canonicalize(parent).ok()?, path.strip_prefix(parent).ok()?.to_owned())))
}

fn find(path: &Path, fstab: &str, mounted: &str) -> Option<PathBuf> {
    let field =
        |line: &str, index| line.split_whitespace().nth(index).map(|text| PathBuf::from(unescape(text)));
    let is_mounted = |point: &PathBuf| mounted.lines().any(|line| field(line, 4).as_ref() == Some(point));
    let lines = fstab.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut points = lines.filter_map(|line| field(line, 1)).filter(|point| point.is_absolute());
    points.find(|point| path.starts_with(point) && !is_mounted(point))
}

/// Replaces the octal escapes of white space and backslashes in both files, such as `\040`.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FSTAB: &str = "# <file system> <mount point> <type>\n\
        UUID=a / ext4 defaults 0 1\n\
        # /dev/sdz /var ext4\n\
        UUID=b none swap sw 0 0\n\
        UUID=c /mnt/usb ext4 nofail 0 2\n\
        /dev/sdd\t/srv/my\\040disk\text4\n\
        UUID=e /mnt/usb/inner ext4 noauto 0 2\n";
    const ROOT: &str = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n";

    fn missing(path: &str, mounted: &str) -> Option<String> {
        find(Path::new(path), FSTAB, mounted).map(|point| point.display().to_string())
    }

    #[test]
    fn a_path_on_a_disk_that_is_not_mounted_is_found() {
        for path in ["/mnt/usb", "/mnt/usb/data", "/mnt/usb/inner/data"] {
            assert_eq!(missing(path, ROOT).as_deref(), Some("/mnt/usb"), "{path}");
        }
        assert_eq!(missing("/srv/my disk/data", ROOT).as_deref(), Some("/srv/my disk"));
        for path in ["/var/lib/liveobject", "/mnt/usb2", "/mnt", "/", "relative"] {
            assert_eq!(missing(path, ROOT), None, "{path}");
        }
    }

    #[test]
    fn a_path_on_a_mounted_disk_is_not_found() {
        let mounted = format!(
            "{ROOT}30 22 8:2 / /mnt/usb rw - ext4 /dev/sdb rw\n\
             31 22 8:3 / /srv/my\\040disk rw - ext4 /dev/sdd rw\n"
        );
        assert_eq!(missing("/mnt/usb/data", &mounted), None);
        assert_eq!(missing("/srv/my disk/data", &mounted), None);
        assert_eq!(missing("/mnt/usb/inner/data", &mounted).as_deref(), Some("/mnt/usb/inner"));
    }

    #[test]
    fn links_are_resolved_even_if_their_target_does_not_exist() {
        let dir = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir(real.join("disk")).unwrap();
        std::os::unix::fs::symlink(real.join("disk"), real.join("link")).unwrap();
        assert_eq!(resolve(&real.join("link/a/b")), real.join("disk/a/b"));
        std::os::unix::fs::symlink("disk/missing", real.join("relative")).unwrap();
        std::os::unix::fs::symlink(real.join("relative"), real.join("dangling")).unwrap();
        assert_eq!(resolve(&real.join("dangling/a")), real.join("disk/missing/a"));
        std::os::unix::fs::symlink("circle", real.join("circle")).unwrap();
        assert_eq!(resolve(&real.join("circle")), real.join("circle"));
    }
}
