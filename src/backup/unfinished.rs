//! The file of a new archive.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::mpsc::{self, Sender},
    thread::{self, JoinHandle},
};

use liveobject_actors::private_file::{self, with_suffix};

/// The end of the name of an archive that is not complete.
const UNFINISHED: &str = "unfinished";

/// An archive that gets its name only when it is complete. If it is dropped before, the file is removed.
///
/// A thread names or removes the file. It keeps the user who called [`Unfinished::create`], even if the caller then
/// acts as another user, who need not have access to the directory.
#[derive(Debug)]
pub struct Unfinished {
    /// Notifies the thread that the archive is complete.
    complete: Option<Sender<()>>,
    thread: Option<JoinHandle<io::Result<u64>>>,
}

impl Unfinished {
    /// Creates the file, readable only by its owner, with a random name next to its final one. Fails if there is
    /// already something of the final name.
    pub fn create(path: &Path) -> io::Result<(Self, File)> {
        if fs::symlink_metadata(path).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let unfinished = with_suffix(path, &format!("{:016x}.{UNFINISHED}", rand::random::<u64>()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        let (complete, completed) = mpsc::channel();
        let (out, path, name) = (file.try_clone(), path.to_owned(), unfinished.clone());
        let publish = move || {
            let published = match completed.recv() {
                Ok(()) => publish(&file, &name, &path),
                Err(_) => Err(ErrorKind::Interrupted.into()),
            };
            let _removed = fs::remove_file(&name);
            published
        };
        let thread = thread::Builder::new().name("archive".to_owned()).spawn(publish);
        let thread = thread.inspect_err(|_| drop(fs::remove_file(&unfinished)))?;
        // If there is no second handle, dropping this removes the file.
        let created = Self { complete: Some(complete), thread: Some(thread) };
        Ok((created, out?))
    }

    /// Syncs the archive and gives it its name. Returns its size.
    pub fn finish(mut self) -> io::Result<u64> {
        if let Some(complete) = self.complete.take() {
            // It fails only if the thread has ended.
            let _sent = complete.send(());
        }
        self.join()
    }

    fn join(&mut self) -> io::Result<u64> {
        let ended = self.thread.take().map(JoinHandle::join);
        ended.unwrap_or_else(|| Ok(Ok(0))).unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.complete = None;
        let _removed = self.join();
    }
}

/// Syncs the archive and gives it its name, unless that is taken.
fn publish(file: &File, unfinished: &Path, path: &Path) -> io::Result<u64> {
    file.sync_all()?;
    let size = file.metadata()?.len();
    match fs::hard_link(unfinished, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(error),
        // Some file systems have no links.
        Err(_) if fs::symlink_metadata(path).is_ok() => return Err(ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(unfinished, path)?,
        Ok(()) => fs::remove_file(unfinished)?,
    }
    private_file::sync_directory(path)?;
    Ok(size)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        os::unix::fs::{PermissionsExt as _, symlink},
        path::PathBuf,
    };

    use super::*;

    fn names(dir: &Path) -> Vec<PathBuf> {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    }

    #[test]
    fn two_archives_of_one_name_do_not_disturb_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        let (first, mut out) = Unfinished::create(&path).unwrap();
        let (second, mut other) = Unfinished::create(&path).unwrap();
        out.write_all(b"first").unwrap();
        other.write_all(b"second").unwrap();
        drop(Unfinished::create(&path).unwrap());
        assert_eq!(first.finish().unwrap(), 5);
        assert_eq!(second.finish().unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(names(dir.path()), std::slice::from_ref(&path));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn files_and_links_of_other_names_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("a.tar"), dir.path().join("other"));
        fs::write(&other, "other").unwrap();
        symlink(&other, dir.path().join("a.tar.unfinished")).unwrap();
        let (archive, mut out) = Unfinished::create(&path).unwrap();
        out.write_all(b"archive").unwrap();
        archive.finish().unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        assert_eq!(fs::read(&other).unwrap(), b"other");
        let link = dir.path().join("b.tar");
        symlink(dir.path().join("missing"), &link).unwrap();
        assert_eq!(Unfinished::create(&link).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(names(dir.path()).len(), 4);
    }
}
