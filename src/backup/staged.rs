//! Reads an archive, checks it, and writes its files next to their places.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, BufRead as _, BufReader, ErrorKind, Read, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use liveobject_actors::{
    disk::disk_space,
    domain::{ids::Seq, image::MAX_THUMBNAIL_BYTES},
    private_file::{self, create_directory, with_suffix},
    store::copy,
};
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use tar::{Archive, EntryType};

use super::{
    CHECKSUM, Checksum, DATABASE, FORMAT, Locations, MANIFEST, MAX_SMALL_BYTES, Manifest, PICTURES,
    check_secret, log_files, mib,
    moves::{Move, Moves, STAGED, remove},
    pace::Pace,
    restore::{RestoreError, check_position},
};
use crate::terminal::escape_line;

/// Why an archive is read.
#[derive(Debug)]
pub(super) enum Reading {
    /// To restore it.
    Restore,
    /// Only to check it, at this pace. The pictures are not written.
    Check(Pace),
}

impl Reading {
    fn pace(&mut self) -> Option<&mut Pace> {
        match self {
            Self::Restore => None,
            Self::Check(pace) => Some(pace),
        }
    }
}

/// The files of an archive, next to their places. Removed when dropped, unless [`Staged::keep`] is called.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) manifest: Manifest,
    /// The places, in the order of the archive.
    places: Vec<PathBuf>,
    pub(super) pictures: u64,
    /// The shard and the number of the last picture.
    last_picture: Option<(i64, i64)>,
    pub(super) skipped: Vec<String>,
    reading: Reading,
    is_kept: bool,
}

impl Staged {
    /// Reads and checks an archive, except for the contents of its database.
    pub(super) fn read(locations: &Locations, file: File, reading: Reading) -> Result<Self, RestoreError> {
        if let Reading::Restore = reading {
            require_space(&locations.data_dir, file.metadata().map_or(0, |file| file.len()))?;
        }
        let mut reading = Some(reading);
        let mut file = BufReader::with_capacity(1 << 16, file);
        if is_compressed(file.fill_buf().map_err(RestoreError::Read)?) {
            return Err(RestoreError::Damaged("it is compressed; decompress it first".to_owned()));
        }
        let mut archive = Archive::new(file);
        // Raw, because extensions such as long names, which a backup does not have, would be read into memory.
        let mut entries = archive.entries().map_err(RestoreError::Read)?.raw(true);
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
                    let reading = reading.take().unwrap_or(Reading::Restore);
                    staged = Some(Self::of(manifest(&text)?, reading));
                }
                None => return Err(damaged("its first file is not a manifest")),
                Some(staged) => staged.add(locations, name, size, &mut entry, &mut checksum)?,
            }
        }
        Err(without_end())
    }

    fn of(manifest: Manifest, reading: Reading) -> Self {
        Self {
            manifest,
            places: Vec::new(),
            pictures: 0,
            last_picture: None,
            skipped: Vec::new(),
            reading,
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
            return write(&with_suffix(place, STAGED), name, size, &mut secret.as_slice(), checksum, None);
        } else if let Some((shard, number)) = picture(name) {
            self.pictures += 1;
            if let Reading::Check(_) = self.reading {
                return self.check_picture((shard, number), name, size, content, checksum);
            }
            let (place, max) = (locations.pictures(), MAX_THUMBNAIL_BYTES as u64);
            let directory = with_suffix(&place, STAGED);
            (place, directory.join(shard.to_string()).join(number.to_string()), max)
        } else {
            return Err(RestoreError::Damaged(format!("it contains the unknown file {name:?}")));
        };
        if size > max {
            return Err(too_large(name));
        }
        if !self.places.contains(&place) {
            self.places.push(place);
        }
        write(&path, name, size, content, checksum, self.reading.pace())
    }

    /// Reads a picture without writing it. The pictures in a backup are in order, which shows that none is in it twice.
    fn check_picture(
        &mut self,
        picture: (i64, i64),
        name: &str,
        size: u64,
        content: &mut impl Read,
        checksum: &mut Checksum,
    ) -> Result<(), RestoreError> {
        if size > MAX_THUMBNAIL_BYTES as u64 {
            return Err(too_large(name));
        }
        if self.last_picture.is_some_and(|last| last >= picture) {
            return Err(twice(name));
        }
        self.last_picture = Some(picture);
        let mut read = Vec::new();
        content.read_to_end(&mut read).map_err(RestoreError::Read)?;
        checksum.update(&read);
        if read.len() as u64 == size { Ok(()) } else { Err(without_end()) }
    }

    /// Adds the file with which new events get positions above `last`.
    pub(super) fn add_seq_file(&mut self, database: &Path, last: Seq) -> Result<(), RestoreError> {
        let (place, content) = copy::seq_file(database, last);
        let staged = with_suffix(&place, STAGED);
        let fail = |source| RestoreError::Write { path: staged.clone(), source };
        remove(&staged).map_err(fail)?;
        private_file::write_new(&staged, content.as_bytes()).map_err(fail)?;
        self.places.push(place);
        Ok(())
    }

    /// Adds an empty directory if the backup has no pictures, so that those of other events are replaced.
    pub(super) fn add_pictures(&mut self, place: &Path) -> Result<(), RestoreError> {
        if !self.places.iter().any(|known| known == place) {
            let staged = with_suffix(place, STAGED);
            let fail = |source| RestoreError::Write { path: staged.clone(), source };
            remove(&staged).and_then(|()| DirBuilder::new().mode(0o700).create(&staged)).map_err(fail)?;
            self.places.push(place.to_owned());
        }
        Ok(())
    }

    pub(super) fn moves(&self, locations: &Locations) -> Moves {
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
    pub(super) fn sync(&self) -> io::Result<()> {
        for place in &self.places {
            rustix::fs::syncfs(File::open(with_suffix(place, STAGED))?)?;
        }
        Ok(())
    }

    /// Keeps the files when this is dropped.
    pub(super) fn keep(&mut self) {
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
fn picture(name: &str) -> Option<(i64, i64)> {
    let (shard, number) = name.strip_prefix(PICTURES)?.strip_prefix('/')?.split_once('/')?;
    let number_in = |text: &str| text.parse::<i64>().ok().filter(|number| number.to_string() == text);
    number_in(shard).zip(number_in(number))
}

fn too_large(name: &str) -> RestoreError {
    RestoreError::Damaged(format!("{name} is too large"))
}

fn twice(name: &str) -> RestoreError {
    RestoreError::Damaged(format!("it contains {name} twice"))
}

fn without_end() -> RestoreError {
    RestoreError::Damaged("its end is missing".to_owned())
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

/// Writes a file that only its owner can read, at this pace if there is one.
fn write(
    path: &Path,
    name: &str,
    size: u64,
    content: &mut impl Read,
    checksum: &mut Checksum,
    mut pace: Option<&mut Pace>,
) -> Result<(), RestoreError> {
    let fail = |source| RestoreError::Write { path: path.to_owned(), source };
    create_directory(path).map_err(fail)?;
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = created.map_err(|source| match source.kind() {
        // Earlier files of this name have been removed.
        ErrorKind::AlreadyExists => twice(name),
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
        if let Some(pace) = &mut pace {
            pace.wrote(&file, count as u64).map_err(fail)?;
        }
    }
    if written == size { Ok(()) } else { Err(without_end()) }
}
