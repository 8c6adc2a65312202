//! The Supervisor mounts a directory that belongs to root. The service gives it to a user of its own, and continues as
//! this user.

use std::{
    ffi::CStr,
    fs, io,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::Path,
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, chownat, fchown, open, openat, statat},
    process::{Gid, Uid, geteuid},
};

use super::AppError;
use crate::owner;

/// The user and the group of the app.
const USER: u32 = 65_532;
/// Directories below this depth are left alone. The data has three levels.
const MAX_DEPTH: usize = 8;

/// If the process runs as root, gives the directory of the app to the user of the app, if it belongs to root, and
/// continues as its owner. Does not follow links.
///
/// Call it before any other thread is started.
pub fn become_user(app_dir: &Path) -> Result<(), AppError> {
    if geteuid().is_root() {
        take_over(app_dir, USER).map_err(AppError::file(app_dir))?;
        if fs::metadata(app_dir).map_err(AppError::file(app_dir))?.uid() == 0 {
            return Err(AppError::StillRoot);
        }
        owner::act_as_owner(app_dir)?;
    }
    Ok(())
}

fn take_over(directory: &Path, user: u32) -> io::Result<()> {
    let directory = open(directory, OPEN, Mode::empty())?;
    let owner = rustix::fs::fstat(&directory)?.st_uid;
    if owner == 0 {
        // The directory itself comes last, so that the next start continues if this one is interrupted.
        give(&directory, user, MAX_DEPTH)?;
        fchown(&directory, Some(Uid::from_raw(user)), Some(Gid::from_raw(user)))?;
    } else if owner == user {
        // The Supervisor writes the options as root. Everything else has belonged to the user since the first start.
        give(&directory, user, 0)?;
    }
    Ok(())
}

const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Gives root's files in a directory to the user, in at most `depth` levels of directories below it.
fn give(directory: &OwnedFd, user: u32, depth: usize) -> io::Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if [c".", c".."].contains(&name) {
            continue;
        }
        let status = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory if depth > 0 => {
                give(&openat(directory, name, OPEN, Mode::empty())?, user, depth - 1)?;
            }
            FileType::Directory => {}
            // A file with several hard links may also be in another directory.
            FileType::RegularFile if status.st_nlink == 1 => {}
            _ => continue,
        }
        if status.st_uid == 0 {
            let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
            chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{lchown, symlink};

    use super::*;

    const OTHER: u32 = 12_345;

    fn owner(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().uid()
    }

    #[test]
    fn a_directory_of_root_is_taken_over_without_following_links() {
        if !geteuid().is_root() {
            return;
        }
        let (outside, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = outside.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("a/b")).unwrap();
        for name in ["a/b/file", "options.json", "other"] {
            fs::write(path(name), "").unwrap();
        }
        lchown(path("other"), Some(OTHER), Some(OTHER)).unwrap();
        symlink(&secret, path("link")).unwrap();
        symlink(outside.path(), path("a/directory")).unwrap();
        fs::hard_link(&secret, path("hard")).unwrap();
        take_over(dir.path(), USER).unwrap();
        for name in ["a", "a/b", "a/b/file", "options.json", ""] {
            assert_eq!(owner(&path(name)), USER, "{name}");
        }
        assert_eq!(owner(&path("other")), OTHER);
        assert_eq!((owner(&secret), owner(outside.path()), owner(&path("link"))), (0, 0, 0));

        // At later starts, only the files that the Supervisor writes are given to the user.
        fs::write(path("new.json"), "").unwrap();
        fs::write(path("a/new"), "").unwrap();
        take_over(dir.path(), USER).unwrap();
        assert_eq!((owner(&path("new.json")), owner(&path("a/new"))), (USER, 0));
        let link = outside.path().join("link");
        symlink(dir.path(), &link).unwrap();
        assert!(take_over(&link, USER).is_err(), "the directory itself is a link");
        lchown(dir.path(), Some(OTHER), Some(OTHER)).unwrap();
        fs::write(path("newer.json"), "").unwrap();
        take_over(dir.path(), USER).unwrap();
        assert_eq!(owner(&path("newer.json")), 0, "the directory of another user is left alone");
    }
}
