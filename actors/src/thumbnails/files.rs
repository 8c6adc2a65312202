//! The picture files: one file per event, named by its position in the log, a thousand per directory. Next to it are
//! its small renditions, as far as they were requested.
//!
//! All functions block. A file gets its name only when it is complete and synced. Readers therefore never see
//! a partial file, and a replaced picture is either the old or the new one, whatever happens in between. The
//! format is detected from the content, not from the name, so that a PNG can replace a JPEG with a single
//! rename.

mod small;

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

pub use self::small::StoredSmall;
use crate::{
    disk::disk_space,
    domain::{
        ids::{EventId, Seq},
        image::{MAX_THUMBNAIL_BYTES, Picture, detect_format},
        numbers::saturate,
        store_fault::StoreFault,
    },
    messages::thumbnails::PictureStock,
};

/// The directory of the pictures in the data directory.
pub const DIRECTORY: &str = "thumbnails";
/// The extension of a file that is still being written.
const UNFINISHED: &str = "tmp";
/// The extension of a picture whose event is not known to be committed. The file is named by the event's id.
const STAGED: &str = "staged";
/// How much is removed at least when the disk is full, so that not every picture removes another one.
const ROOM_BYTES: u64 = 1024 * 1024;
/// Small enough for any file system. The sweep removes whole directories.
const FILES_PER_SHARD: i64 = 1000;

/// Why a file operation failed.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The picture directory cannot be used.
    #[error("the directory {} cannot be used", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// There is no space for the picture.
    #[error("the disk is full: no space for {}", path.display())]
    DiskFull {
        /// The picture.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The picture cannot be written.
    #[error("{} cannot be written", path.display())]
    Store {
        /// The picture.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The picture cannot be read.
    #[error("{} cannot be read", path.display())]
    Load {
        /// The picture.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Old pictures cannot be removed.
    #[error("{} cannot be removed", path.display())]
    Remove {
        /// The picture or its directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// What was removed to make room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// Number of pictures.
    pub pictures: u64,
    /// Their size.
    pub bytes: u64,
}

/// The picture files. Cheap to clone. Only one process may use them at a time.
#[derive(Debug, Clone)]
pub struct Files {
    root: PathBuf,
    max_bytes: u64,
    shared: Arc<Shared>,
}

impl FilesError {
    fn of_write(path: PathBuf, source: io::Error) -> Self {
        if is_full(source.kind()) { Self::DiskFull { path, source } } else { Self::Store { path, source } }
    }

    /// Returns the kind of this error, for clients.
    pub fn fault(&self) -> StoreFault {
        match self {
            Self::DiskFull { .. } => StoreFault::DiskFull,
            Self::Open { .. } | Self::Store { .. } | Self::Load { .. } | Self::Remove { .. } => {
                StoreFault::Other
            }
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    /// The size of all pictures, from the first [`Files::measure`] on.
    bytes: AtomicU64,
    /// The number of all pictures without their renditions, likewise.
    pictures: AtomicU64,
    /// Whether both are known.
    is_measured: AtomicBool,
    /// Locked while pictures are removed to make room.
    making_room: Mutex<()>,
    /// Number of files written so far, used to name unfinished files.
    written: AtomicU64,
    /// Locked while a directory is created and synced, so that an existing directory is durable for other threads,
    /// and until the directory has a file, so that it is not removed as an empty one.
    directories: Mutex<()>,
}

impl Files {
    /// Opens the pictures in a data directory. Removes the unfinished files of a killed process.
    ///
    /// When the pictures together exceed `max_bytes`, the oldest ones are removed.
    pub fn open(data_dir: &Path, max_bytes: u64) -> Result<Self, FilesError> {
        let root = data_dir.join(DIRECTORY);
        let fail = |source| FilesError::Open { path: root.clone(), source };
        create_directory(&root).map_err(fail)?;
        sync_directory(data_dir).map_err(fail)?;
        for entry in fs::read_dir(&root).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if path.extension().is_some_and(|extension| extension == UNFINISHED) {
                fs::remove_file(&path).map_err(fail)?;
            }
        }
        // This includes directories that a killed process created but did not sync.
        sync_directory(&root).map_err(fail)?;
        Ok(Self { root, max_bytes, shared: Arc::default() })
    }

    /// Stores the picture of an event, and replaces an earlier one. It is durable when this returns. Removes
    /// the oldest pictures if there is not enough space.
    pub fn store(&self, seq: Seq, image: &[u8]) -> Result<(), FilesError> {
        let path = self.path(seq);
        let replaced = self.version(seq).ok().flatten();
        self.remove_renditions(seq, replaced)?;
        self.with_room(&path, image, || {
            self.write(&path, image, |unfinished| self.move_into_place(unfinished, &path))
        })?;
        // Somebody may have looked at the old picture in the meantime.
        self.remove_renditions(seq, replaced).map(drop)
    }

    /// Makes room for a picture and writes it. If the disk is full, removes the oldest pictures and tries
    /// again.
    fn with_room(
        &self,
        path: &Path,
        image: &[u8],
        write: impl Fn() -> Result<(), FilesError>,
    ) -> Result<(), FilesError> {
        let size = saturate::<_, u64>(image.len());
        self.make_room(size)?;
        let replaced = size_of(path);
        match write() {
            Err(FilesError::DiskFull { .. }) if self.remove_oldest(size.max(ROOM_BYTES))?.bytes > 0 => {
                write()
            }
            written => written,
        }?;
        self.add_bytes(size, replaced);
        if replaced == 0 {
            self.shared.pictures.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Counts a file of this size that replaced another one.
    fn add_bytes(&self, size: u64, replaced: u64) {
        self.shared.bytes.fetch_add(size, Ordering::Relaxed);
        self.forget_bytes(replaced);
    }

    /// Removes old pictures until another one of this size fits into the limit, and into the disk without its
    /// last bytes, which are reserved for events.
    fn make_room(&self, size: u64) -> Result<(), FilesError> {
        let over = (self.shared.bytes.load(Ordering::Relaxed) + size).saturating_sub(self.max_bytes);
        if over > 0 {
            // Somewhat more, so that not every picture removes another one.
            self.free(over, self.max_bytes / 20)?;
        }
        let Some(space) = disk_space(&self.root) else { return Ok(()) };
        let missing = (space.reserve() + size).saturating_sub(space.free);
        if missing > 0 && self.free(missing, ROOM_BYTES)?.bytes == 0 {
            let (path, source) = (self.root.clone(), ErrorKind::StorageFull.into());
            return Err(FilesError::DiskFull { path, source });
        }
        Ok(())
    }

    /// Removes the renditions without a picture and the oldest pictures with theirs, of at least this size together.
    /// Returns what was removed.
    pub fn remove_oldest(&self, bytes: u64) -> Result<Freed, FilesError> {
        self.free(bytes, 0)
    }

    /// Like [`Files::remove_oldest`]. If pictures must be removed, removes `spare` more.
    fn free(&self, bytes: u64, spare: u64) -> Result<Freed, FilesError> {
        let _alone = self.shared.making_room.lock().unwrap_or_else(PoisonError::into_inner);
        let mut freed = Freed { pictures: 0, bytes: self.remove_orphans()? };
        if freed.bytes >= bytes {
            return Ok(freed);
        }
        for (_, shard) in sorted_entries(&self.root)? {
            for (seq, path) in sorted_entries(&shard)? {
                if freed.bytes >= bytes.saturating_add(spare) {
                    return Ok(freed);
                }
                let version = self.version(Seq(seq)).ok().flatten();
                freed.pictures += u64::from(!small::is_rendition(&path));
                freed.bytes += self.remove(path)?;
                // Also those that were made since the directory was listed.
                freed.bytes += self.remove_renditions(Seq(seq), version)?;
            }
            let _alone = self.lock_directories();
            // Fails if a picture has just been added.
            let _not_empty = fs::remove_dir(&shard);
        }
        Ok(freed)
    }

    /// Removes the renditions whose picture is gone, which nobody can see. Returns their size.
    fn remove_orphans(&self) -> Result<u64, FilesError> {
        let mut freed = 0;
        for (_, shard) in numbered_entries(&self.root)? {
            let (renditions, pictures): (Vec<_>, Vec<_>) =
                existing_entries(&shard)?.into_iter().partition(|(_, path)| small::is_rendition(path));
            let pictures: BTreeSet<_> = pictures.into_iter().map(|(seq, _)| seq).collect();
            for (_, path) in renditions.into_iter().filter(|(seq, _)| !pictures.contains(seq)) {
                freed += self.remove(path)?;
            }
        }
        Ok(freed)
    }

    /// Removes all pictures whose positions are above this one. Returns their number. They belong to a log that
    /// was replaced by an older or empty one. If the mark of the last position is missing too, new events get the same
    /// positions, and would otherwise show these pictures.
    pub fn remove_above(&self, last: Seq) -> Result<u64, FilesError> {
        let mut removed = 0;
        for (shard, path) in numbered_entries(&self.root)? {
            if shard.saturating_mul(FILES_PER_SHARD) + (FILES_PER_SHARD - 1) <= last.0 {
                continue;
            }
            for (_, path) in existing_entries(&path)?.into_iter().filter(|(seq, _)| *seq > last.0) {
                removed += u64::from(!small::is_rendition(&path));
                self.remove(path)?;
            }
        }
        Ok(removed)
    }

    /// Determines the number and the size of all pictures, which takes a while if there are many. Removes renditions
    /// that do not belong to a picture any more.
    pub fn measure(&self) -> Result<(), FilesError> {
        let (mut bytes, mut pictures) = (0, 0);
        for (_, shard) in numbered_entries(&self.root)? {
            for (seq, path) in existing_entries(&shard)? {
                if self.is_orphan(Seq(seq), &path) && fs::remove_file(&path).is_ok() {
                    continue;
                }
                bytes += size_of(&path);
                pictures += u64::from(!small::is_rendition(&path));
            }
        }
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.shared.pictures.fetch_add(pictures, Ordering::Relaxed);
        self.shared.is_measured.store(true, Ordering::Release);
        Ok(())
    }

    /// Returns the positions of the events that have a picture, in order.
    pub fn stored(&self) -> Result<Vec<Seq>, FilesError> {
        let mut seqs = Vec::new();
        for (_, shard) in sorted_entries(&self.root)? {
            let pictures = sorted_entries(&shard)?.into_iter().filter(|(_, path)| !small::is_rendition(path));
            seqs.extend(pictures.map(|(seq, _)| Seq(seq)));
        }
        Ok(seqs)
    }

    /// Returns how many pictures there are, as far as that is known.
    pub fn stock(&self) -> PictureStock {
        let Shared { bytes, pictures, is_measured, .. } = &*self.shared;
        let known = is_measured.load(Ordering::Acquire);
        let stored = known.then(|| (pictures.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed)));
        PictureStock { stored, max_bytes: self.max_bytes }
    }

    /// Removes one picture. Returns its size, or 0 if it is already gone, because pictures may be removed
    /// concurrently by the sweep and to free disk space.
    fn remove(&self, path: PathBuf) -> Result<u64, FilesError> {
        let size = size_of(&path);
        match fs::remove_file(&path) {
            Ok(()) => {
                self.forget_bytes(size);
                if !small::is_rendition(&path) {
                    subtract(&self.shared.pictures, 1);
                }
                Ok(size)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(source) => Err(FilesError::Remove { path, source }),
        }
    }

    fn forget_bytes(&self, size: u64) {
        subtract(&self.shared.bytes, size);
    }

    /// Stores the picture of an event that is about to be committed. It is durable when this returns. Removes
    /// the oldest pictures if there is not enough space.
    pub fn stage(&self, event_id: &EventId, image: &[u8]) -> Result<(), FilesError> {
        let path = self.staged_path(event_id);
        self.with_room(&path, image, || {
            self.write(&path, image, |unfinished| {
                fs::rename(unfinished, &path)?;
                sync_directory(&self.root)
            })
        })
    }

    /// Makes a staged picture the picture of its event. Returns `false` if the event has one already, which
    /// is kept. The change itself is not synced: after a power failure, the picture is found in either place.
    pub fn adopt(&self, event_id: &EventId, seq: Seq) -> Result<bool, FilesError> {
        let (staged, path) = (self.staged_path(event_id), self.path(seq));
        if self.has(seq)? {
            self.discard(event_id)?;
            return Ok(false);
        }
        let mut moved = self.rename_into_shard(&staged, &path);
        if moved.as_ref().is_err_and(|error| is_full(error.kind()))
            && self.remove_oldest(ROOM_BYTES)?.bytes > 0
        {
            moved = self.rename_into_shard(&staged, &path);
        }
        // Another commit of the same event has just moved it.
        if moved.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) && self.has(seq)? {
            return Ok(false);
        }
        moved.map(|()| true).map_err(|source| {
            // The first error counts. The sender must send the picture again.
            let _removed = self.discard(event_id);
            FilesError::of_write(path, source)
        })
    }

    /// Removes a staged picture.
    pub fn discard(&self, event_id: &EventId) -> Result<(), FilesError> {
        self.remove(self.staged_path(event_id)).map(drop)
    }

    /// Returns the events with a staged picture.
    pub fn staged(&self) -> Result<Vec<EventId>, FilesError> {
        let fail = |source| FilesError::Open { path: self.root.clone(), source };
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let id = path.file_stem().and_then(|stem| EventId::parse(stem.to_str()?.to_owned()).ok());
            found.extend(id.filter(|_| path.extension().is_some_and(|extension| extension == STAGED)));
        }
        Ok(found)
    }

    fn staged_path(&self, event_id: &EventId) -> PathBuf {
        self.root.join(format!("{event_id}.{STAGED}"))
    }

    /// Writes and syncs a file under a temporary name, and then gives it its name.
    fn write(
        &self,
        path: &Path,
        image: &[u8],
        name: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), FilesError> {
        let unfinished = self.unfinished();
        let stored = write_synced(&unfinished, image).and_then(|()| name(&unfinished));
        stored.map_err(|source| {
            // Reports the first error even if this fails too. In that case, the next start removes the file.
            let _removed = fs::remove_file(&unfinished);
            FilesError::of_write(path.to_owned(), source)
        })
    }

    /// Returns the positions of all pictures, in order.
    pub fn seqs(&self) -> Result<Vec<Seq>, FilesError> {
        let mut seqs = Vec::new();
        for (_, shard) in sorted_entries(&self.root)? {
            let pictures = sorted_entries(&shard)?.into_iter().filter(|(_, path)| !small::is_rendition(path));
            seqs.extend(pictures.map(|(seq, _)| Seq(seq)));
        }
        Ok(seqs)
    }

    /// Returns whether the event has a picture.
    pub fn has(&self, seq: Seq) -> Result<bool, FilesError> {
        let path = self.path(seq);
        fs::exists(&path).map_err(|source| FilesError::Load { path, source })
    }

    /// Returns the size of the picture of an event; 0 if there is none.
    pub fn size(&self, seq: Seq) -> u64 {
        size_of(&self.path(seq))
    }

    /// Returns the picture of an event, or `None` if there is none, or if the file is not a picture.
    pub fn load(&self, seq: Seq) -> Result<Option<Picture>, FilesError> {
        let path = self.path(seq);
        let image = match read_bounded(&path) {
            Ok(image) => image,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(FilesError::Load { path, source }),
        };
        let format = detect_format(&image).filter(|_| image.len() <= MAX_THUMBNAIL_BYTES);
        if format.is_none() {
            tracing::error!(path = %path.display(), "this file is damaged: it does not contain a picture");
        }
        Ok(format.map(|format| Picture { format, image: image.into() }))
    }

    /// Removes the pictures of all events up to this one. Returns their number. If this fails, the next call
    /// removes the rest.
    pub fn remove_up_to(&self, up_to: Seq, kept: &BTreeSet<Seq>) -> Result<u64, FilesError> {
        let mut removed = 0;
        for (shard, path) in numbered_entries(&self.root)? {
            let first = shard.saturating_mul(FILES_PER_SHARD);
            if first > up_to.0 {
                continue;
            }
            let old = |seq: i64| seq <= up_to.0 && !kept.contains(&Seq(seq));
            for (_, path) in existing_entries(&path)?.into_iter().filter(|(seq, _)| old(*seq)) {
                removed += u64::from(!small::is_rendition(&path));
                self.remove(path)?;
            }
            let last = first + (FILES_PER_SHARD - 1);
            if last <= up_to.0 && kept.range(Seq(first)..=Seq(last)).next().is_none() {
                let _alone = self.lock_directories();
                match fs::remove_dir_all(&path) {
                    Err(source) if source.kind() != ErrorKind::NotFound => {
                        return Err(FilesError::Remove { path, source });
                    }
                    _removed => {}
                }
            }
        }
        Ok(removed)
    }

    fn path(&self, seq: Seq) -> PathBuf {
        self.root.join(seq.0.div_euclid(FILES_PER_SHARD).to_string()).join(seq.to_string())
    }

    fn unfinished(&self) -> PathBuf {
        let number = self.shared.written.fetch_add(1, Ordering::Relaxed);
        self.root.join(format!("{number}.{UNFINISHED}"))
    }

    fn move_into_place(&self, unfinished: &Path, path: &Path) -> io::Result<()> {
        self.rename_into_shard(unfinished, path)?;
        match sync_directory(path.parent().unwrap_or(&self.root)) {
            // To make room, the picture was removed as the oldest one, and the directory with it.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            synced => synced,
        }
    }

    fn rename_into_shard(&self, from: &Path, path: &Path) -> io::Result<()> {
        let _alone = self.lock_directories();
        if create_directory(path.parent().unwrap_or(&self.root))? {
            sync_directory(&self.root)?;
        }
        fs::rename(from, path)
    }

    fn lock_directories(&self) -> MutexGuard<'_, ()> {
        self.shared.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Subtracts without going below 0: before the pictures are counted, more may be removed than were counted.
fn subtract(number: &AtomicU64, less: u64) {
    let subtract = |number: u64| Some(number.saturating_sub(less));
    let _never_fails = number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, subtract);
}

fn is_full(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Returns the size of a file; 0 if it is gone.
fn size_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

/// Like [`numbered_entries`], sorted.
fn sorted_entries(directory: &Path) -> Result<Vec<(i64, PathBuf)>, FilesError> {
    let mut entries = existing_entries(directory)?;
    entries.sort_unstable();
    Ok(entries)
}

/// Like [`numbered_entries`]; empty if the directory has just been removed.
fn existing_entries(directory: &Path) -> Result<Vec<(i64, PathBuf)>, FilesError> {
    match numbered_entries(directory) {
        Err(FilesError::Remove { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries,
    }
}

/// Creates a directory with mode 0700. Returns `false` if it exists.
fn create_directory(path: &Path) -> io::Result<bool> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(false),
        Err(error) => Err(error),
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn write_synced(path: &Path, image: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(image)?;
    file.sync_all()
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut image = Vec::with_capacity(length.min(MAX_THUMBNAIL_BYTES));
    file.take(MAX_THUMBNAIL_BYTES as u64 + 1).read_to_end(&mut image)?;
    Ok(image)
}

/// Lists the entries with a number as their name, and the renditions of numbered pictures. Other files in the directory
/// are not touched.
fn numbered_entries(directory: &Path) -> Result<Vec<(i64, PathBuf)>, FilesError> {
    let fail = |source| FilesError::Remove { path: directory.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| small::picture_of(name).unwrap_or(name).parse().ok());
        if let Some(number) = number {
            found.push((number, entry.path()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
