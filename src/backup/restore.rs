//! Restores a backup: checks the whole archive, writes its files next to their places, and then moves them there.
//!
//! See [`super::moves`] for the second part.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, BufRead as _, BufReader, ErrorKind, Read, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use liveobject_actors::{
    data_dir::{DataDir, DataDirError},
    disk::disk_space,
    domain::{
        clock::{self, Timestamp},
        ids::Seq,
        image::MAX_THUMBNAIL_BYTES,
    },
    private_file::{self, create_directory, with_suffix},
    store::{OpenError, copy},
};
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use tar::{Archive, EntryType};
use tokio::task::spawn_blocking;

use super::{
    CHECKSUM, Checksum, DATABASE, FORMAT, Locations, MANIFEST, MAX_SMALL_BYTES, Manifest, PICTURES,
    after::{AfterRestore, RestoreOptions},
    check_secret, log_files, mib,
    moves::{MOVES, Move, Moves, REPLACED, STAGED, remove, remove_staged},
};
use crate::{owner::OwnerError, terminal::escape_line};

/// How many positions are skipped after the last known one: `SEQ_GAP`, and `SEQ_GAP_PER_SECOND` for each second since
/// the backup. The original may have given positions to events in that time, but no service accepts a thousand events a
/// second all the time.
const SEQ_GAP: i64 = 1_000_000;
const SEQ_GAP_PER_SECOND: i64 = 1000;
/// The largest gap. It is reached 17 years after the backup.
const MAX_SEQ_GAP: i64 = 1 << 39;
/// The highest position that is accepted in a backup. Above it, there is room for twice the largest gap.
const MAX_SEQ: i64 = i64::MAX - (1 << 40);

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
    /// A newer version of this program wrote the database in the backup.
    #[error(
        "the database in the backup was written by a newer version of liveobject (it contains the migrations {}): \
         install that version first",
        .0.join(", ")
    )]
    NewerDatabase(Vec<String>),
    /// The database in the backup cannot be used.
    #[error("the database in the backup cannot be used")]
    Database(#[from] OpenError),
    /// MQTT cannot be switched off in the restored settings, because those of the configuration are used.
    #[error(
        "the next start would use the MQTT settings in the configuration, and connect in spite of --disconnected: \
         set enabled = false in its section [mqtt] (or LIVEOBJECT__MQTT__ENABLED=false) first"
    )]
    Managed,
    /// A place cannot be replaced.
    #[error(
        "{} is a mount point and cannot be replaced: unmount it and run the command again; afterwards, move what was \
         restored there to the mounted file system. Nothing was changed",
        .0.display()
    )]
    MountPoint(PathBuf),
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
    #[error(
        "the restore is not complete: {} cannot be moved; remove the cause and run the command again",
        path.display()
    )]
    Move {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The record of an interrupted restore is damaged, or names files that no restore of this service replaces.
    #[error(
        "the record of an interrupted restore, {}, {problem}. {state} To use the data as it is now, remove this \
         record; to restore the backup, remove it and run the restore again with --replace.",
        path.display()
    )]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What the restore has done, as a sentence.
        state: String,
    },
    /// The process cannot act as the owner of the data directory.
    #[error(transparent)]
    Owner(#[from] OwnerError),
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
    /// What the next start does about MQTT.
    pub then: AfterRestore,
    /// The secrets in the backup that were left out because the configuration provides them.
    pub skipped: Vec<String>,
    /// What the backup replaced.
    pub replaced: Vec<PathBuf>,
}

/// Restores a backup into the places of this service. Locks its data directory.
pub async fn restore(
    locations: Locations,
    archive: File,
    options: RestoreOptions,
) -> Result<Restored, RestoreError> {
    let mut lock = DataDir::lock(&locations.data_dir)?;
    let fail = |source| RestoreError::Write { path: locations.database.clone(), source };
    create_directory(&locations.database).map_err(fail)?;
    lock.lock_database(&locations.database)?;
    if locations.database.exists() && !options.replaces_data {
        return Err(RestoreError::Exists(locations.database));
    }
    remove_staged(&locations)?;
    let staging = locations.clone();
    let staged = spawn_blocking(move || Staged::read(&staging, archive)).await;
    let mut staged = staged.map_err(|error| RestoreError::Read(io::Error::other(error)))??;

    let database = with_suffix(&locations.database, STAGED);
    let contents = copy::inspect(&database).await.map_err(|error| of_database(error, &locations))?;
    let then = AfterRestore::after(options, &contents)?;
    check_position(contents.last_seq.0)?;
    let last = copy::last_seq(&locations.database).await.max(Some(contents.last_seq)).unwrap_or(Seq(0));
    let last = last_seq(last, &staged.manifest, clock::now());
    let prepared = copy::prepare(&database, last, options.disconnected).await;
    prepared.map_err(|error| of_database(error, &locations))?;
    staged.add_seq_file(&locations.database, last)?;
    staged.add_pictures(&locations.pictures())?;

    let (moves, path) = (staged.moves(&locations), locations.data_dir.join(MOVES));
    moves.make_way()?;
    let replaced = moves.replaced();
    let restored = Restored {
        created_at: staged.manifest.created_at,
        events: contents.events,
        pictures: staged.pictures,
        secrets: staged.manifest.secrets,
        then,
        skipped: std::mem::take(&mut staged.skipped),
        replaced,
    };
    let done = spawn_blocking(move || {
        let fail = |source| RestoreError::Write { path: path.clone(), source };
        staged.sync().map_err(fail)?;
        let text = serde_json::to_vec(&moves).map_err(|error| fail(error.into()))?;
        private_file::create(&path, &text).map_err(fail)?;
        staged.keep();
        moves.carry_out(&path)
    });
    done.await.map_err(|error| RestoreError::Read(io::Error::other(error)))??;
    drop(lock);
    Ok(restored)
}

/// Returns the error about the database in an archive.
fn of_database(error: OpenError, locations: &Locations) -> RestoreError {
    match error {
        OpenError::Newer { unknown, .. } => RestoreError::NewerDatabase(unknown),
        OpenError::Damaged { source, .. } | OpenError::Other { source, .. } => {
            RestoreError::Damaged(format!("its database cannot be used ({source})"))
        }
        error => RestoreError::Database(error.about(&locations.database)),
    }
}

/// Fails if no service can have given this position to an event, or if too few positions are left above it.
fn check_position(seq: i64) -> Result<(), RestoreError> {
    if (0..=MAX_SEQ).contains(&seq) {
        return Ok(());
    }
    Err(RestoreError::Damaged(format!("it contains the impossible position {seq}")))
}

/// Returns the position after which a restored database continues.
fn last_seq(known: Seq, manifest: &Manifest, now: Timestamp) -> Seq {
    let seconds = (now - manifest.created_at).num_seconds().max(0);
    let gap = SEQ_GAP.saturating_add(SEQ_GAP_PER_SECOND.saturating_mul(seconds)).min(MAX_SEQ_GAP);
    Seq(known.0.max(manifest.last_seq).saturating_add(gap))
}

/// The files of an archive, next to their places. Removed when dropped, unless [`Staged::keep`] is called.
#[derive(Debug)]
struct Staged {
    manifest: Manifest,
    /// The places, in the order of the archive.
    places: Vec<PathBuf>,
    pictures: u64,
    skipped: Vec<String>,
    is_kept: bool,
}

impl Staged {
    /// Reads and checks an archive, except for the contents of its database.
    fn read(locations: &Locations, file: File) -> Result<Self, RestoreError> {
        require_space(&locations.data_dir, file.metadata().map_or(0, |file| file.len()))?;
        let mut file = BufReader::with_capacity(1 << 16, file);
        if is_compressed(file.fill_buf().map_err(RestoreError::Read)?) {
            return Err(RestoreError::Damaged("it is compressed; decompress it first".to_owned()));
        }
        let mut archive = Archive::new(file);
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
                if checksum.finish().as_bytes() != expected.as_slice() {
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
                    staged = Some(Self::of(manifest(&text)?));
                }
                None => return Err(damaged("its first file is not a manifest")),
                Some(staged) => staged.add(locations, name, size, &mut entry, &mut checksum)?,
            }
        }
        Err(RestoreError::Damaged("its end is missing".to_owned()))
    }

    fn of(manifest: Manifest) -> Self {
        Self { manifest, places: Vec::new(), pictures: 0, skipped: Vec::new(), is_kept: false }
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
            let secret = small(content, size)?;
            let Some(place) = file else {
                self.skipped.push(name.to_owned());
                checksum.update(&secret);
                return Ok(());
            };
            check_secret(name, &secret)
                .map_err(|problem| RestoreError::Damaged(format!("its file {name} {problem}")))?;
            if !self.places.iter().any(|known| known == place) {
                self.places.push(place.to_owned());
            }
            return write(&with_suffix(place, STAGED), name, size, &mut secret.as_slice(), checksum);
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
            self.places.push(place);
        }
        write(&path, name, size, content, checksum)
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
                moves.extend(log_files(place).map(|place| Move { place, staged: None }));
            }
            moves.push(Move { place: place.clone(), staged: Some(with_suffix(place, STAGED)) });
        }
        Moves(moves)
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

/// Returns whether a file begins like one of gzip, xz, zstd or bzip2.
fn is_compressed(start: &[u8]) -> bool {
    let magic: [&[u8]; 4] = [&[0x1f, 0x8b], &[0xfd, b'7', b'z'], &[0x28, 0xb5, 0x2f, 0xfd], b"BZh"];
    magic.into_iter().any(|magic| start.starts_with(magic))
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
        return Err(RestoreError::Newer(escape_line(&version)));
    }
    let manifest: Manifest = serde_json::from_slice(text).map_err(damaged)?;
    check_position(manifest.last_seq)?;
    Ok(manifest)
}

/// Returns the two numbers in the name of a picture.
fn picture(name: &str) -> Option<(&str, &str)> {
    let (shard, number) = name.strip_prefix(PICTURES)?.strip_prefix('/')?.split_once('/')?;
    let is_number = |text: &str| text.parse::<i64>().is_ok_and(|number| number.to_string() == text);
    (is_number(shard) && is_number(number)).then_some((shard, number))
}

/// Reads a small entry.
fn small(content: &mut impl Read, size: u64) -> Result<Zeroizing<Vec<u8>>, RestoreError> {
    if size > MAX_SMALL_BYTES {
        return Err(RestoreError::Damaged("a small file in it is too large".to_owned()));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    content.read_to_end(&mut bytes).map_err(RestoreError::Read)?;
    Ok(bytes)
}

/// Writes a file that only its owner can read.
fn write(
    path: &Path,
    name: &str,
    size: u64,
    content: &mut impl Read,
    checksum: &mut Checksum,
) -> Result<(), RestoreError> {
    let fail = |source| RestoreError::Write { path: path.to_owned(), source };
    create_directory(path).map_err(fail)?;
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = created.map_err(|source| match source.kind() {
        // Earlier files of this name have been removed.
        ErrorKind::AlreadyExists => RestoreError::Damaged(format!("it contains {name} twice")),
        _ => fail(source),
    })?;
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
