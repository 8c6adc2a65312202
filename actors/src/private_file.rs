//! Private files: keys and tokens that only their owner may access.
//!
//! Files are created with mode 0600 and are complete and synced before they get their name, so that a crash
//! or a power cut leaves the whole file or none. Creating a file never replaces an existing one. Files that
//! other users can access are made private, or refused if that is not possible.

use std::{
    fmt,
    fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use secrecy::zeroize::Zeroizing;

/// The suffix of a file that is still being written.
const UNFINISHED: &str = "tmp";

/// Which permissions are acceptable when a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only the owner has access.
    OwnerOnly,
    /// Other users may have access too.
    Any,
}

/// Why a private file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Other users have access to the file, and this cannot be changed here.
    #[error(transparent)]
    TooOpen(#[from] TooOpen),
    /// The file exists but cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Other users have access to a file. The message continues a sentence that begins with the name of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is accessible to other users (mode {mode:03o}): {cure}")]
pub struct TooOpen {
    /// The file's permission bits.
    pub mode: u32,
    /// What helps.
    pub cure: Cure,
}

/// What helps if the permissions of a file cannot be changed by this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cure {
    /// The file belongs to another user.
    Owner,
    /// The file system does not store permissions.
    FileSystem,
    /// The file system is read-only.
    Environment,
}

impl fmt::Display for Cure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Owner => "it belongs to another user, who must run `chmod 600` on it",
            Self::FileSystem => {
                "its file system does not store permissions (such as CIFS or exFAT); mount it with umask=077, or for \
                 CIFS with file_mode=0600,dir_mode=0700, or provide the secret in an environment variable or as a \
                 systemd credential instead"
            }
            Self::Environment => {
                "its file system is read-only; change the mode at its source to 400, or provide the secret in an \
                 environment variable or as a systemd credential instead"
            }
        })
    }
}

/// Removes the access of other users to a file, with a warning. Kubernetes grants it to the group `fsGroup` at each
/// start, and restored backups often do. Fails if the file is still accessible.
fn make_private(file: &File, path: &Path, mode: u32) -> Result<(), ReadError> {
    let changed = file.set_permissions(Permissions::from_mode(mode & 0o700));
    let now = file.metadata()?;
    if let Some(too_open) = judge(&changed, now.mode() & 0o777, is_ours(&now)) {
        return Err(too_open.into());
    }
    tracing::warn!(
        file = %path.display(),
        mode = format!("{mode:03o}"),
        "removed the access of other users to a private file; if they may have read it, replace its content"
    );
    Ok(())
}

/// Returns why a file is still accessible after its permissions were changed, or `None` if it is private.
fn judge(changed: &io::Result<()>, mode: u32, is_ours: bool) -> Option<TooOpen> {
    let cure = match changed {
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => Cure::Environment,
        Err(_) if !is_ours => Cure::Owner,
        Ok(()) | Err(_) => Cure::FileSystem,
    };
    (mode & 0o077 != 0).then_some(TooOpen { mode, cure })
}

/// Returns whether a file belongs to the user of this process.
fn is_ours(file: &Metadata) -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == file.uid())
}

/// Reads at most `max_bytes` of a file; returns `None` if the file does not exist. With [`Access::OwnerOnly`], the
/// access of other users is removed first.
pub fn read(path: &Path, access: Access, max_bytes: u64) -> Result<Option<Zeroizing<Vec<u8>>>, ReadError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mode = file.metadata()?.mode() & 0o777;
    if access == Access::OwnerOnly && mode & 0o077 != 0 {
        make_private(&file, path, mode)?;
    }
    // The buffer never grows: growing would leave copies of the secret in freed memory. With a little spare
    // capacity, `read_to_end` detects the end of the file without allocating.
    let capacity = usize::try_from(max_bytes).unwrap_or(usize::MAX).saturating_add(64);
    let mut content = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(max_bytes).read_to_end(&mut content)?;
    Ok(Some(content))
}

/// Creates a file, and its directory with mode 0700 if that is missing. Fails if the file exists.
///
/// Only one process may do this at a time: the caller must hold the lock of the data directory. An unfinished
/// file that a killed process left behind is replaced.
pub fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(ErrorKind::AlreadyExists.into());
    }
    create_directory(path)?;
    let unfinished = with_suffix(path, UNFINISHED);
    write_new(&unfinished, content)?;
    rename(&unfinished, path)
}

/// Like [`create`], but several processes may do it at the same time: one of them creates the file, and the
/// others fail with [`ErrorKind::AlreadyExists`].
pub fn create_concurrently(path: &Path, content: &[u8]) -> io::Result<()> {
    create_directory(path)?;
    let unfinished = with_suffix(path, &format!("{:016x}.{UNFINISHED}", rand::random::<u64>()));
    let created = write_new(&unfinished, content).and_then(|()| publish(&unfinished, path));
    let removed = remove(&unfinished);
    created?;
    removed?;
    sync_directory(path)
}

/// Gives the unfinished file its final name, unless that name is taken.
fn publish(unfinished: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(unfinished, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(error),
        // The file system has no hard links.
        Err(_) if fs::symlink_metadata(path).is_ok() => Err(ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(unfinished, path),
        Ok(()) => Ok(()),
    }
}

/// Writes and syncs a file. Replaces a file that a killed process may have left under this name.
pub fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    remove(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    give_to_owner_of_directory(&file, path)?;
    file.write_all(content)?;
    file.sync_all()?;
    sync_directory(path)
}

/// Gives a new file to the owner of its directory. An administrator who runs a command as root in the directory of
/// the service would otherwise create a file that the service cannot read.
fn give_to_owner_of_directory(file: &File, path: &Path) -> io::Result<()> {
    let (directory, created) = (fs::metadata(directory(path))?, file.metadata()?);
    if directory.uid() != created.uid() {
        // Only root is allowed to do it; others keep the file.
        let _refused = fchown(file, Some(directory.uid()), Some(directory.gid()));
    }
    Ok(())
}

/// Renames a file within its directory, durably.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_directory(to)
}

/// Removes a file, durably. Returns whether it existed.
pub fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory(path).map(|()| true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the unfinished file of a process that was killed during [`create`].
pub fn remove_unfinished(path: &Path) -> io::Result<bool> {
    remove(&with_suffix(path, UNFINISHED))
}

/// Appends a suffix to a file name: `identity.age` becomes `identity.age.{suffix}`.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    append(path, &format!(".{suffix}"))
}

/// Appends a text to a file name: `liveobject.db` becomes `liveobject.db-wal`.
pub fn append(path: &Path, text: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(text);
    PathBuf::from(name)
}

/// Creates the directory of a file if it is missing, with mode 0700.
pub fn create_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory(path))
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Syncs the directory of a file.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, thread};

    use super::*;

    type Create = fn(&Path, &[u8]) -> io::Result<()>;
    const BOTH: [Create; 2] = [create, create_concurrently];

    fn temporary() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/secret");
        (dir, path)
    }

    fn read_owned(path: &Path) -> Vec<u8> {
        read(path, Access::OwnerOnly, 100).unwrap().unwrap().to_vec()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_new_file_is_private_and_complete_and_nothing_else_is_left() {
        for create in BOTH {
            let (_dir, path) = temporary();
            assert!(read(&path, Access::OwnerOnly, 100).unwrap().is_none());
            create(&path, b"hunter2").unwrap();
            assert_eq!(read_owned(&path), b"hunter2");
            assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
            assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        }
    }

    #[test]
    fn an_existing_file_is_never_replaced() {
        for create in BOTH {
            let (_dir, path) = temporary();
            create(&path, b"first").unwrap();
            assert_eq!(create(&path, b"second").unwrap_err().kind(), ErrorKind::AlreadyExists);
            assert_eq!(read_owned(&path), b"first");
            assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_symlink_to_nowhere_is_not_replaced_and_not_followed() {
        for create in BOTH {
            let (dir, path) = temporary();
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let target = dir.path().join("target");
            symlink(&target, &path).unwrap();
            assert_eq!(create(&path, b"x").unwrap_err().kind(), ErrorKind::AlreadyExists);
            assert!(!target.exists());
        }
    }

    #[test]
    fn one_of_several_processes_that_create_the_file_at_once_succeeds() {
        let (_dir, path) = temporary();
        let contents: Vec<_> = (0..8).map(|n| format!("secret {n}")).collect();
        let created: Vec<_> = thread::scope(|scope| {
            let create = |content: &str| create_concurrently(&path, content.as_bytes());
            let threads: Vec<_> =
                contents.iter().map(|content| scope.spawn(move || create(content))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let winner = created.iter().position(Result::is_ok).unwrap();
        assert_eq!(created.iter().filter(|result| result.is_ok()).count(), 1);
        assert_eq!(read_owned(&path), contents[winner].as_bytes());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn the_unfinished_file_of_a_killed_process_is_replaced_or_removed() {
        let (_dir, path) = temporary();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let unfinished = with_suffix(&path, UNFINISHED);
        fs::write(&unfinished, "half").unwrap();
        create(&path, b"whole").unwrap();
        assert_eq!((read_owned(&path), unfinished.exists()), (b"whole".to_vec(), false));
        fs::write(&unfinished, "half").unwrap();
        assert!(remove_unfinished(&path).unwrap());
        assert!(!remove_unfinished(&path).unwrap());
        assert!(!unfinished.exists() && path.exists());
    }

    #[test]
    fn a_file_that_other_users_can_access_is_made_private() {
        let (_dir, path) = temporary();
        create(&path, b"x").unwrap();
        for open in [0o640, 0o604, 0o620, 0o601, 0o666] {
            fs::set_permissions(&path, Permissions::from_mode(open)).unwrap();
            assert!(read(&path, Access::Any, 100).unwrap().is_some());
            assert_eq!(mode(&path), open);
            assert_eq!(read_owned(&path), b"x");
            assert_eq!(mode(&path), 0o600);
        }
        fs::set_permissions(&path, Permissions::from_mode(0o440)).unwrap();
        assert_eq!((read_owned(&path), mode(&path)), (b"x".to_vec(), 0o400), "no access is added");
    }

    #[test]
    fn a_file_that_cannot_be_made_private_is_refused_with_what_helps() {
        let failed = |kind: ErrorKind| Err(io::Error::from(kind));
        let cure = |changed, is_ours| judge(&changed, 0o755, is_ours).map(|too_open| too_open.cure);
        assert_eq!(cure(Ok(()), true), Some(Cure::FileSystem), "CIFS ignores the change");
        assert_eq!(
            cure(failed(ErrorKind::PermissionDenied), true),
            Some(Cure::FileSystem),
            "exFAT refuses it"
        );
        assert_eq!(cure(failed(ErrorKind::PermissionDenied), false), Some(Cure::Owner));
        assert_eq!(cure(failed(ErrorKind::ReadOnlyFilesystem), true), Some(Cure::Environment));
        assert_eq!(judge(&Ok(()), 0o600, true), None);
        let message = judge(&Ok(()), 0o755, true).unwrap().to_string();
        assert!(message.contains("(mode 755)") && message.contains("umask=077"), "{message}");
    }

    #[test]
    fn a_file_belongs_to_the_owner_of_its_directory() {
        let (_dir, path) = temporary();
        let parent = path.parent().unwrap();
        fs::create_dir_all(parent).unwrap();
        if std::os::unix::fs::chown(parent, Some(12_345), Some(12_346)).is_err() {
            return; // Only root can change the owner of a directory.
        }
        for create in BOTH {
            create(&path, b"x").unwrap();
            let file = fs::metadata(&path).unwrap();
            assert_eq!((file.uid(), file.gid(), mode(&path)), (12_345, 12_346, 0o600));
            remove(&path).unwrap();
        }
    }

    #[test]
    fn no_more_than_the_limit_is_read() {
        let (_dir, path) = temporary();
        create(&path, &[7; 1000]).unwrap();
        assert_eq!(*read(&path, Access::OwnerOnly, 33).unwrap().unwrap(), [7; 33]);
    }

    #[test]
    fn a_directory_in_place_of_the_file_is_an_error() {
        let (_dir, path) = temporary();
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        assert!(matches!(read(&path, Access::OwnerOnly, 100), Err(ReadError::Io(_))));
        for create in BOTH {
            assert!(create(&path, b"x").is_err());
        }
    }
}
