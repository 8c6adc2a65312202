//! Restores a backup: checks the whole archive, writes its files next to their places, and then moves them there.
//!
//! The moves are first recorded in a file in the data directory. If the process is killed before all of them are
//! carried out, the next command completes them. What they replace is kept, with the suffix `.before-restore`.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufReader, ErrorKind, Read, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, lchown},
    path::{Path, PathBuf},
};

use liveobject_actors::{
    data_dir::{DataDir, DataDirError, LOCK_FILE},
    disk::disk_space,
    domain::{
        clock::{self, Timestamp},
        ids::Seq,
        image::MAX_THUMBNAIL_BYTES,
    },
    private_file::{self, append, create_directory, sync_directory, with_suffix},
    store::{OpenError, copy},
};
use serde::{Deserialize, Serialize};
use tar::{Archive, EntryType};
use tokio::task::spawn_blocking;

use super::{
    CHECKSUM, Checksum, DATABASE, FORMAT, Locations, MANIFEST, MAX_SMALL_BYTES, Manifest, PICTURES, mib,
};

/// How many positions are skipped after the last known one: this many, and more for each second since the backup. In
/// that time, the original may have given positions to more events, but no service accepts a thousand events a second
/// all the time.
const SEQ_GAP: i64 = 1_000_000;
const SEQ_GAP_PER_SECOND: i64 = 1000;
/// The file in which the moves are recorded.
const MOVES: &str = "restore.json";
const STAGED: &str = "restored";
const REPLACED: &str = "before-restore";
/// Maximum size of the file with the moves.
const MAX_MOVES_BYTES: u64 = 64 * 1024;

/// Why a backup could not be restored. Nothing was changed, except after [`RestoreError::Move`].
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The archive cannot be read.
    #[error("the archive cannot be read")]
    Read(#[source] io::Error),
    /// The archive is not a complete backup.
    #[error("this is not a backup of liveobject, or it is damaged or incomplete: {0}")]
    Damaged(String),
    /// A newer version of this program made the backup.
    #[error(
        "the backup was made by liveobject {0}, which is newer than this version: install that version first"
    )]
    Newer(String),
    /// The database in the backup cannot be used.
    #[error("the database in the backup cannot be used")]
    Database(#[from] OpenError),
    /// There is already a database, and it must not be replaced.
    #[error(
        "there is already a database: {}. Add --replace to replace it and everything that belongs to it; it is kept \
         with the suffix .{REPLACED}",
        .0.display()
    )]
    Exists(PathBuf),
    /// The service is running, or the data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// There is not enough space.
    #[error("{needed_mib} MiB are needed in {}, {free_mib} MiB are free", directory.display())]
    NoSpace {
        /// The data directory.
        directory: PathBuf,
        /// The size of the archive.
        needed_mib: u64,
        /// The free space.
        free_mib: u64,
    },
    /// A file cannot be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The files of the backup cannot be moved to their places. The next command tries again.
    #[error("the restore is not complete: {} cannot be moved; run the command again", path.display())]
    Move {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// When the backup was made.
    pub created_at: Timestamp,
    /// The number of events in the log.
    pub events: u64,
    /// The number of pictures.
    pub pictures: u64,
    /// Whether keys and tokens were restored.
    pub secrets: bool,
    /// Whether the next start connects to the broker.
    pub connects: bool,
    /// The secrets in the backup that were left out because the configuration provides them.
    pub skipped: Vec<String>,
    /// What the backup replaced.
    pub replaced: Vec<PathBuf>,
}

/// The moves of a restore.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Moves(Vec<Move>);

/// A move of a file to its place. What is already there is kept under another name.
#[derive(Debug, Serialize, Deserialize)]
struct Move {
    place: PathBuf,
    /// The file to move. If it is `None`, the file in this place belongs to the replaced database and is only moved
    /// away.
    staged: Option<PathBuf>,
}

/// Restores a backup into the places of this service. Locks its data directory.
pub async fn restore(
    locations: Locations,
    archive: PathBuf,
    replaces_data: bool,
    disconnected: bool,
) -> Result<Restored, RestoreError> {
    let mut lock = DataDir::lock(&locations.data_dir)?;
    let fail = |source| RestoreError::Write { path: locations.database.clone(), source };
    create_directory(&locations.database).map_err(fail)?;
    lock.lock_database(&locations.database)?;
    if locations.database.exists() && !replaces_data {
        return Err(RestoreError::Exists(locations.database));
    }
    let staging = locations.clone();
    let staged = spawn_blocking(move || Staged::read(&staging, &archive)).await;
    let mut staged = staged.map_err(|error| RestoreError::Read(io::Error::other(error)))??;

    let database = with_suffix(&locations.database, STAGED);
    let contents = copy::inspect(&database).await?;
    let last = copy::last_seq(&locations.database).await.max(Some(contents.last_seq)).unwrap_or(Seq(0));
    let last = last_seq(last, &staged.manifest, clock::now());
    copy::prepare(&database, last, disconnected).await?;
    staged.add_seq_file(&locations.database, last)?;
    staged.add_pictures(&locations.pictures())?;

    let (moves, path) = (staged.moves(&locations), locations.data_dir.join(MOVES));
    let replaced = moves.replaced();
    let restored = Restored {
        created_at: staged.manifest.created_at,
        events: contents.events,
        pictures: staged.pictures,
        secrets: staged.manifest.secrets,
        connects: contents.is_mqtt_enabled && !disconnected,
        skipped: std::mem::take(&mut staged.skipped),
        replaced,
    };
    let done = spawn_blocking(move || {
        let fail = |source| RestoreError::Write { path: path.clone(), source };
        staged.give_to_owner().and_then(|()| staged.sync()).map_err(fail)?;
        let text = serde_json::to_vec(&moves).map_err(|error| fail(error.into()))?;
        private_file::create(&path, &text).map_err(fail)?;
        staged.keep();
        moves.carry_out(&path)
    });
    done.await.map_err(|error| RestoreError::Read(io::Error::other(error)))??;
    drop(lock);
    Ok(restored)
}

/// Completes a restore that was interrupted. Does nothing if there is none.
pub fn complete(data_dir: &Path) -> Result<(), RestoreError> {
    let path = data_dir.join(MOVES);
    if !path.exists() {
        return Ok(());
    }
    let _lock = DataDir::lock(data_dir)?;
    let fail = |source| RestoreError::Move { path: path.clone(), source };
    let mut text = Vec::new();
    match File::open(&path) {
        // Another command has just completed it.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        file => file.and_then(|file| file.take(MAX_MOVES_BYTES).read_to_end(&mut text)).map_err(fail)?,
    };
    let moves: Moves = serde_json::from_slice(&text).map_err(|error| fail(error.into()))?;
    moves.carry_out(&path)
}

/// Returns the position after which a restored database continues.
fn last_seq(known: Seq, manifest: &Manifest, now: Timestamp) -> Seq {
    let seconds = (now - manifest.created_at).num_seconds().max(0);
    let gap = SEQ_GAP.saturating_add(SEQ_GAP_PER_SECOND.saturating_mul(seconds));
    Seq(known.0.max(manifest.last_seq).saturating_add(gap))
}

impl Moves {
    /// Returns the places that contain something that a move replaces.
    fn replaced(&self) -> Vec<PathBuf> {
        let with_file = self.0.iter().filter(|it| it.staged.is_some());
        with_file.map(|it| it.place.clone()).filter(|place| place.exists()).collect()
    }

    /// Carries out the moves that were not carried out yet, and removes the file in which they are recorded.
    fn carry_out(&self, path: &Path) -> Result<(), RestoreError> {
        for (index, Move { place, staged }) in self.0.iter().enumerate() {
            let fail = |source| RestoreError::Move { path: place.clone(), source };
            // The `-wal` and `-shm` files of a database come before it in the list. Once the database is replaced,
            // those in their places may belong to the new one.
            let is_due = match staged {
                Some(staged) => staged.exists(),
                None => {
                    self.0[index..].iter().find_map(|it| it.staged.as_ref()).is_some_and(|it| it.exists())
                }
            };
            if !is_due {
                continue;
            }
            if fs::symlink_metadata(place).is_ok() {
                let kept = kept(place);
                remove(&kept).map_err(fail)?;
                fs::rename(place, &kept).map_err(fail)?;
            }
            if let Some(staged) = staged {
                fs::rename(staged, place).map_err(fail)?;
            }
            sync_directory(place).map_err(fail)?;
        }
        private_file::remove(path)
            .map(drop)
            .map_err(|source| RestoreError::Move { path: path.to_owned(), source })
    }
}

/// Returns where a replaced file is kept. The names of a kept `-wal` or `-shm` file still match the name of the kept
/// database.
fn kept(place: &Path) -> PathBuf {
    let name = place.to_string_lossy();
    for part in ["-wal", "-shm"] {
        if let Some(database) = name.strip_suffix(part) {
            return append(&with_suffix(Path::new(database), REPLACED), part);
        }
    }
    with_suffix(place, REPLACED)
}

/// Removes a file or a directory, if it exists.
fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        _ => private_file::remove(path).map(drop),
    }
}

/// The files of an archive, next to their places. Removed when dropped, unless [`Staged::keep`] is called.
#[derive(Debug)]
struct Staged {
    manifest: Manifest,
    data_dir: PathBuf,
    locks: [PathBuf; 2],
    /// The places, in the order of the archive.
    places: Vec<PathBuf>,
    pictures: u64,
    skipped: Vec<String>,
    is_kept: bool,
}

impl Staged {
    /// Reads and checks an archive, except for the contents of its database.
    fn read(locations: &Locations, archive: &Path) -> Result<Self, RestoreError> {
        let file = File::open(archive).map_err(RestoreError::Read)?;
        require_space(&locations.data_dir, file.metadata().map_or(0, |file| file.len()))?;
        let mut archive = Archive::new(BufReader::with_capacity(1 << 16, file));
        let mut entries = archive.entries().map_err(RestoreError::Read)?;
        let (mut staged, mut checksum): (Option<Self>, _) = (None, Checksum::default());
        while let Some(entry) = entries.next() {
            let mut entry = entry.map_err(|error| RestoreError::Damaged(error.to_string()))?;
            let damaged = |what: &str| RestoreError::Damaged(what.to_owned());
            if entry.header().entry_type() != EntryType::Regular {
                return Err(damaged("it contains something other than files"));
            }
            let path = entry.path().map_err(RestoreError::Read)?.into_owned();
            let name = path.to_str().ok_or_else(|| damaged("it contains an invalid name"))?;
            let size = entry.size();
            if name == CHECKSUM {
                let expected = small(&mut entry, size)?;
                let staged = staged.ok_or_else(|| damaged("it has no manifest"))?;
                if checksum.finish().as_bytes() != expected {
                    return Err(damaged("its checksum is wrong"));
                }
                return match entries.next() {
                    None if staged.has_database(locations) => Ok(staged),
                    None => Err(damaged("it has no database")),
                    Some(_) => Err(damaged("its checksum is not its last entry")),
                };
            }
            checksum.begin(name, size);
            match &mut staged {
                None if name == MANIFEST => {
                    let text = small(&mut entry, size)?;
                    checksum.update(&text);
                    staged = Some(Self::of(manifest(&text)?, locations));
                }
                None => return Err(damaged("its first file is not a manifest")),
                Some(staged) => staged.add(locations, name, size, &mut entry, &mut checksum)?,
            }
        }
        Err(RestoreError::Damaged("its end is missing".to_owned()))
    }

    fn of(manifest: Manifest, locations: &Locations) -> Self {
        let data_dir = locations.data_dir.clone();
        let locks = [data_dir.join(LOCK_FILE), with_suffix(&locations.database, "lock")];
        Self {
            manifest,
            data_dir,
            locks,
            places: Vec::new(),
            pictures: 0,
            skipped: Vec::new(),
            is_kept: false,
        }
    }

    fn has_database(&self, locations: &Locations) -> bool {
        self.places.contains(&locations.database)
    }

    /// Writes an entry next to its place.
    fn add(
        &mut self,
        locations: &Locations,
        name: &str,
        size: u64,
        content: &mut impl Read,
        checksum: &mut Checksum,
    ) -> Result<(), RestoreError> {
        let secret = locations.secrets().into_iter().find(|(known, _)| *known == name);
        let (place, path, max) = if name == DATABASE {
            let place = locations.database.clone();
            (place.clone(), with_suffix(&place, STAGED), u64::MAX)
        } else if let Some((name, file)) = secret {
            let Some(place) = file else {
                self.skipped.push(name.to_owned());
                let content = small(content, size)?;
                checksum.update(&content);
                return Ok(());
            };
            (place.to_owned(), with_suffix(place, STAGED), MAX_SMALL_BYTES)
        } else if let Some((shard, number)) = picture(name) {
            let (place, max) = (locations.pictures(), MAX_THUMBNAIL_BYTES as u64);
            let directory = with_suffix(&place, STAGED);
            self.pictures += 1;
            (place, directory.join(shard).join(number), max)
        } else {
            return Err(RestoreError::Damaged(format!("it contains the unknown file {name:?}")));
        };
        if size > max {
            return Err(RestoreError::Damaged(format!("{name} is too large")));
        }
        if !self.places.contains(&place) {
            let staged = with_suffix(&place, STAGED);
            let fail = |source| RestoreError::Write { path: staged.clone(), source };
            // A restore that was killed may have left it.
            remove(&staged).map_err(fail)?;
            self.places.push(place);
        }
        write(&path, size, content, checksum)
    }

    /// Adds the file with which new events get positions above `last`.
    fn add_seq_file(&mut self, database: &Path, last: Seq) -> Result<(), RestoreError> {
        let (place, content) = copy::seq_file(database, last);
        let staged = with_suffix(&place, STAGED);
        let fail = |source| RestoreError::Write { path: staged.clone(), source };
        remove(&staged).map_err(fail)?;
        private_file::write_new(&staged, content.as_bytes()).map_err(fail)?;
        self.places.push(place);
        Ok(())
    }

    /// Adds an empty directory if the backup has no pictures, so that those of other events are replaced.
    fn add_pictures(&mut self, place: &Path) -> Result<(), RestoreError> {
        if !self.places.iter().any(|known| known == place) {
            let staged = with_suffix(place, STAGED);
            let fail = |source| RestoreError::Write { path: staged.clone(), source };
            remove(&staged).and_then(|()| DirBuilder::new().mode(0o700).create(&staged)).map_err(fail)?;
            self.places.push(place.to_owned());
        }
        Ok(())
    }

    fn moves(&self, locations: &Locations) -> Moves {
        let mut moves = Vec::new();
        for place in &self.places {
            if *place == locations.database {
                let parts = ["-wal", "-shm"].map(|part| append(place, part));
                moves.extend(parts.map(|place| Move { place, staged: None }));
            }
            moves.push(Move { place: place.clone(), staged: Some(with_suffix(place, STAGED)) });
        }
        Moves(moves)
    }

    /// Gives the files to the owner of the data directory if this process runs as root, so that the service can use
    /// them.
    fn give_to_owner(&self) -> io::Result<()> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let owner = fs::metadata(&self.data_dir)?;
        let mut rest: Vec<_> = self.places.iter().map(|place| with_suffix(place, STAGED)).collect();
        // This includes the lock files, which may be new.
        rest.extend(self.locks.iter().filter(|lock| lock.exists()).cloned());
        while let Some(path) = rest.pop() {
            lchown(&path, Some(owner.uid()), Some(owner.gid()))?;
            if fs::symlink_metadata(&path)?.is_dir() {
                for entry in fs::read_dir(&path)? {
                    rest.push(entry?.path());
                }
            }
        }
        Ok(())
    }

    /// Syncs all files.
    fn sync(&self) -> io::Result<()> {
        for place in &self.places {
            rustix::fs::syncfs(File::open(with_suffix(place, STAGED))?)?;
        }
        Ok(())
    }

    /// Keeps the files when this is dropped.
    fn keep(&mut self) {
        self.is_kept = true;
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.is_kept {
            for place in &self.places {
                // If this fails, the next restore removes it.
                let _removed = remove(&with_suffix(place, STAGED));
            }
        }
    }
}

fn require_space(data_dir: &Path, needed: u64) -> Result<(), RestoreError> {
    let Some(space) = disk_space(data_dir).filter(|space| space.free < needed) else { return Ok(()) };
    let (needed_mib, free_mib) = (mib(needed), space.free / (1024 * 1024));
    Err(RestoreError::NoSpace { directory: data_dir.to_owned(), needed_mib, free_mib })
}

fn manifest(text: &[u8]) -> Result<Manifest, RestoreError> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
        version: String,
    }
    let damaged = |error: serde_json::Error| RestoreError::Damaged(format!("its manifest: {error}"));
    let Version { format, version } = serde_json::from_slice(text).map_err(damaged)?;
    if format > FORMAT {
        return Err(RestoreError::Newer(version));
    }
    serde_json::from_slice(text).map_err(damaged)
}

/// Returns the two numbers in the name of a picture.
fn picture(name: &str) -> Option<(&str, &str)> {
    let (shard, number) = name.strip_prefix(PICTURES)?.strip_prefix('/')?.split_once('/')?;
    let is_number = |text: &str| text.parse::<i64>().is_ok_and(|number| number.to_string() == text);
    (is_number(shard) && is_number(number)).then_some((shard, number))
}

/// Reads a small entry.
fn small(content: &mut impl Read, size: u64) -> Result<Vec<u8>, RestoreError> {
    if size > MAX_SMALL_BYTES {
        return Err(RestoreError::Damaged("a small file in it is too large".to_owned()));
    }
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).map_err(RestoreError::Read)?;
    Ok(bytes)
}

/// Writes a file that only its owner can read.
fn write(
    path: &Path,
    size: u64,
    content: &mut impl Read,
    checksum: &mut Checksum,
) -> Result<(), RestoreError> {
    let fail = |source| RestoreError::Write { path: path.to_owned(), source };
    create_directory(path).map_err(fail)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(fail)?;
    let (mut buffer, mut written) = (vec![0; 1 << 16], 0);
    loop {
        let count = content.read(&mut buffer).map_err(RestoreError::Read)?;
        if count == 0 {
            break;
        }
        checksum.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(fail)?;
        written += count as u64;
    }
    if written == size { Ok(()) } else { Err(RestoreError::Damaged("its end is missing".to_owned())) }
}
