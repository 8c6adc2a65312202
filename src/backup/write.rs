//! Makes a backup.

use std::{
    fs::{self, File, TryLockError},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use liveobject_actors::{
    config::rotate,
    data_dir::lock_file,
    disk::disk_space,
    domain::{clock, ids::Seq},
    private_file::{append, with_suffix},
    store::{OpenError, copy},
};
use secrecy::zeroize::Zeroizing;
use tar::{Builder, EntryType, Header};

use super::{
    CHECKSUM, Checksum, DATABASE, FORMAT, IDENTITY, Locations, MANIFEST, MAX_SMALL_BYTES, Manifest, PICTURES,
    check_secret, mib,
    moves::is_moving,
    pace::{Pace, in_background},
};

/// The suffix of the copy of the database that is used while a backup is made. A file of this name can be removed,
/// because nobody is expected to give it to a copy of their own.
const COPY: &str = "unfinished-backup";

/// Maximum number of attempts to lock the copy. Another one follows if another process removes it at the same moment.
const LOCK_ATTEMPTS: usize = 5;

/// Why a backup could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Another backup of this database is being made.
    #[error("another backup is being made; try again when it is complete")]
    Busy,
    /// There is not enough space for the copy of the database.
    #[error(
        "the backup needs a copy of the database in {}: {needed_mib} MiB are needed there, {free_mib} MiB are free",
        directory.display()
    )]
    NoSpace {
        /// The directory of the database.
        directory: PathBuf,
        /// The size of the database.
        needed_mib: u64,
        /// The free space without the part that is reserved for events.
        free_mib: u64,
    },
    /// The database cannot be copied.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The key was being replaced during the backup, or a previous attempt to replace it was interrupted.
    #[error(
        "the key in {} is being replaced, or that was interrupted; try again when `liveobject key rotate` has ended, \
         or start the service once, which completes it",
        .0.display()
    )]
    Rotating(PathBuf),
    /// A key or token cannot be used. Its backup could not be restored.
    #[error(
        "{} {problem}; repair it, or make the backup with --without-secrets and keep a copy of the keys elsewhere",
        path.display()
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The database or the key was replaced during the backup.
    #[error("{} was replaced during the backup; make the backup again", .0.display())]
    Replaced(PathBuf),
    /// The archive cannot be written.
    #[error("the archive cannot be written")]
    Write(#[source] io::Error),
}

/// What a backup contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupSummary {
    /// The number of events in the log.
    pub events: u64,
    /// The number of pictures.
    pub pictures: u64,
    /// The secrets that are not included because they are not in files, by the names of their entries.
    pub missing: Vec<&'static str>,
}

/// Writes an archive of a service, which may be running, to `out`.
///
/// The database is copied before the pictures, so that the archive contains the picture of each event in it. The copy
/// needs as much space next to the database as the database itself. `pace` limits how fast the copy is written.
pub async fn write(
    locations: Locations,
    secrets: bool,
    out: impl Write + Send + 'static,
    pace: Pace,
) -> Result<BackupSummary, BackupError> {
    let copy = Copy::create(&locations.database)?;
    require_space(&locations.database)?;
    let database = file_id(&locations.database)?;
    let identity = locations.identity.as_deref().filter(|_| secrets).map(read_small).transpose();
    let growing =
        copy.lock.try_clone().map_err(|source| BackupError::Read { path: copy.path.clone(), source })?;
    copy::copy(&locations.database, &copy.path, pace.of_growing(growing)).await?;
    // The secrets are read immediately after the database was copied, so that they belong to it.
    let secrets = Secrets::read(&locations, secrets)?;
    if let Some(path) = &locations.identity
        && secrets.are_included
    {
        require_unchanged(path, identity, secrets.get(IDENTITY))?;
    }
    if is_moving(&locations) {
        return Err(BackupError::Replaced(locations.database));
    }
    let contents = copy::inspect(&copy.path).await.map_err(|error| error.about(&locations.database))?;
    let marked = copy::last_seq(&locations.database).await;
    let manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        schema: contents.schema,
        created_at: clock::now(),
        last_seq: marked.max(Some(contents.last_seq)).map_or(0, |seq| seq.0),
        events: contents.events,
        secrets: secrets.are_included,
    };
    let last = contents.last_seq;
    let archive = move || {
        let source = Source { locations, copy, secrets, last, database };
        Archive::new(out).write(&source, &manifest)
    };
    in_background(archive).await.map_err(BackupError::Write)?
}

/// Removes the copy of a backup whose process was killed.
pub fn remove_leftover(database: &Path) {
    if copy_path(database).exists() {
        // If it is locked, a backup is being made.
        drop(Copy::lock(database));
    }
}

fn copy_path(database: &Path) -> PathBuf {
    with_suffix(&fs::canonicalize(database).unwrap_or_else(|_| database.to_owned()), COPY)
}

fn require_space(database: &Path) -> Result<(), BackupError> {
    let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    let needed = size(database) + size(&append(database, "-wal"));
    let directory =
        database.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(space) = disk_space(directory) else { return Ok(()) };
    let free = space.free.saturating_sub(space.reserve());
    if free >= needed {
        return Ok(());
    }
    let (needed_mib, free_mib) = (mib(needed), free / (1024 * 1024));
    Err(BackupError::NoSpace { directory: directory.to_owned(), needed_mib, free_mib })
}

/// The copy of the database. Locked, and removed when dropped.
#[derive(Debug)]
struct Copy {
    path: PathBuf,
    /// Holds the lock.
    lock: File,
}

impl Copy {
    fn create(database: &Path) -> Result<Self, BackupError> {
        let copy = Self::lock(database)?;
        let emptied = copy.lock.set_len(0);
        emptied.map_err(|source| BackupError::Read { path: copy.path.clone(), source })?;
        Ok(copy)
    }

    fn lock(database: &Path) -> Result<Self, BackupError> {
        Self::lock_path(copy_path(database), lock_file)
    }

    fn lock_path(
        path: PathBuf,
        lock: impl Fn(&Path) -> Result<File, TryLockError>,
    ) -> Result<Self, BackupError> {
        let failed = |source| BackupError::Read { path: path.clone(), source };
        for _ in 0..LOCK_ATTEMPTS {
            match lock(&path) {
                // Another process may have removed the file after it was opened and before it was locked. Then the lock
                // protects nothing.
                Ok(lock) if is_at(&lock, &path).map_err(failed)? => return Ok(Self { path, lock }),
                Ok(_) => {}
                Err(TryLockError::WouldBlock) => return Err(BackupError::Busy),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        Err(BackupError::Busy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // If this fails, the next backup or start removes it.
        let _removed = fs::remove_file(&self.path);
    }
}

/// Returns whether this file is at the path. Does not follow links.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let file = id(file.metadata()?);
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(id(metadata) == file),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The device and the inode number of a file.
type FileId = (u64, u64);

fn file_id(path: &Path) -> Result<FileId, BackupError> {
    let metadata = fs::metadata(path);
    let metadata = metadata.map_err(|source| BackupError::Read { path: path.to_owned(), source })?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The keys and tokens that belong to a copy of the database.
#[derive(Debug, Default)]
struct Secrets {
    are_included: bool,
    contents: Vec<(&'static str, Zeroizing<Vec<u8>>)>,
    /// Those that are not in files.
    missing: Vec<&'static str>,
}

impl Secrets {
    fn read(locations: &Locations, are_included: bool) -> Result<Self, BackupError> {
        let mut secrets = Self { are_included, ..Self::default() };
        for (name, path) in locations.secrets().into_iter().filter(|_| are_included) {
            match path.map(|path| (path, read_small(path))) {
                Some((path, Ok(content))) => {
                    check_secret(name, &content)
                        .map_err(|problem| BackupError::Unusable { path: path.to_owned(), problem })?;
                    secrets.contents.push((name, content));
                }
                Some((path, Err(source))) if source.kind() != ErrorKind::NotFound => {
                    return Err(BackupError::Read { path: path.to_owned(), source });
                }
                _ => secrets.missing.push(name),
            }
        }
        Ok(secrets)
    }

    fn get(&self, name: &str) -> Option<&[u8]> {
        self.contents.iter().find(|(known, _)| *known == name).map(|(_, content)| content.as_slice())
    }
}

/// Fails unless the key was the same before and after the database was copied, and none was being replaced.
fn require_unchanged(
    path: &Path,
    before: io::Result<Option<Zeroizing<Vec<u8>>>>,
    after: Option<&[u8]>,
) -> Result<(), BackupError> {
    if rotate::is_in_progress(path) {
        return Err(BackupError::Rotating(path.to_owned()));
    }
    let before = match before {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        before => before.map_err(|source| BackupError::Read { path: path.to_owned(), source })?,
    };
    if before.as_ref().map(|content| content.as_slice()) == after {
        return Ok(());
    }
    Err(BackupError::Replaced(path.to_owned()))
}

/// What an archive is made of.
struct Source {
    locations: Locations,
    copy: Copy,
    secrets: Secrets,
    last: Seq,
    /// The database that was copied.
    database: FileId,
}

/// An archive that is being written.
struct Archive<W: Write> {
    tar: Builder<W>,
    checksum: Checksum,
    modified: u64,
}

impl<W: Write> Archive<W> {
    fn new(out: W) -> Self {
        let modified = u64::try_from(clock::now().timestamp()).unwrap_or(0);
        Self { tar: Builder::new(out), checksum: Checksum::default(), modified }
    }

    fn write(mut self, source: &Source, manifest: &Manifest) -> Result<BackupSummary, BackupError> {
        let text = serde_json::to_vec_pretty(manifest).map_err(|error| BackupError::Write(error.into()))?;
        self.add(MANIFEST, &text)?;
        let file = File::open(&source.copy.path);
        self.add_file(DATABASE, &source.copy.path, file)?;
        for (name, content) in &source.secrets.contents {
            self.add(name, content)?;
        }
        let pictures = self.add_pictures(&source.locations.pictures(), source.last)?;
        // If a restore has replaced the database in the meantime, it has also replaced the pictures.
        let database = &source.locations.database;
        if is_moving(&source.locations) || file_id(database)? != source.database {
            return Err(BackupError::Replaced(database.clone()));
        }
        let checksum = std::mem::take(&mut self.checksum).finish();
        self.add(CHECKSUM, checksum.as_bytes())?;
        let mut out = self.tar.into_inner().map_err(BackupError::Write)?;
        out.flush().map_err(BackupError::Write)?;
        let missing = source.secrets.missing.clone();
        Ok(BackupSummary { events: manifest.events, pictures, missing })
    }

    /// Adds the pictures of the events in the log. Returns their number.
    fn add_pictures(&mut self, root: &Path, last: Seq) -> Result<u64, BackupError> {
        let mut count = 0;
        for shard in numbered(root)? {
            for number in numbered(&root.join(shard.to_string()))?.into_iter().filter(|seq| *seq <= last.0) {
                let name = format!("{PICTURES}/{shard}/{number}");
                let path = root.join(shard.to_string()).join(number.to_string());
                match File::open(&path) {
                    // The picture has been removed in the meantime.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    file => {
                        self.add_file(&name, &path, file)?;
                        count += 1;
                    }
                }
            }
        }
        Ok(count)
    }

    fn add(&mut self, name: &str, content: &[u8]) -> Result<(), BackupError> {
        self.append(name, content.len() as u64, content).map_err(BackupError::Write)
    }

    fn add_file(&mut self, name: &str, path: &Path, file: io::Result<File>) -> Result<(), BackupError> {
        let opened = file.and_then(|file| file.metadata().map(|metadata| (metadata.len(), file)));
        let (size, file) = opened.map_err(|source| BackupError::Read { path: path.to_owned(), source })?;
        self.append(name, size, file).map_err(BackupError::Write)
    }

    fn append(&mut self, name: &str, size: u64, content: impl Read) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        header.set_mode(0o600);
        header.set_mtime(self.modified);
        self.checksum.begin(name, size);
        let mut content = Summed { inner: content.take(size), checksum: &mut self.checksum, read: 0 };
        self.tar.append_data(&mut header, name, &mut content)?;
        if content.read == size { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }
}

/// Reads a small file.
fn read_small(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut content = Zeroizing::new(Vec::new());
    File::open(path)?.take(MAX_SMALL_BYTES).read_to_end(&mut content)?;
    Ok(content)
}

/// Returns the entries of a directory whose names are numbers, in order.
fn numbered(directory: &Path) -> Result<Vec<i64>, BackupError> {
    let fail = |source| BackupError::Read { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(fail)?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        numbers.extend(entry.map_err(fail)?.file_name().to_str().and_then(|name| name.parse::<i64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Adds what is read to a checksum.
struct Summed<'c, R> {
    inner: R,
    checksum: &'c mut Checksum,
    read: u64,
}

impl<R: Read> Read for Summed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.checksum.update(&buffer[..count]);
        self.read += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_on_a_copy_that_another_process_removed_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("copy");
        let attempts = std::cell::Cell::new(0);
        let copy = Copy::lock_path(path.clone(), |path| {
            let file = lock_file(path)?;
            if attempts.replace(attempts.get() + 1) == 0 {
                // The owner of the lock removes the file after this process has opened it.
                fs::remove_file(path).map_err(TryLockError::Error)?;
            }
            Ok(file)
        });
        let copy = copy.unwrap();
        assert_eq!(attempts.get(), 2);
        assert!(is_at(&copy.lock, &path).unwrap());
        assert!(matches!(Copy::lock_path(path.clone(), lock_file), Err(BackupError::Busy)));
        drop(copy);
        assert!(!path.exists());
        let gone = |path: &Path| lock_file(path).inspect(|_| fs::remove_file(path).unwrap());
        assert!(matches!(Copy::lock_path(path.clone(), gone), Err(BackupError::Busy)));
    }
}
