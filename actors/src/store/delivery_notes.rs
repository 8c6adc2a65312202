//! The delivery notes: a small file next to the database, `<database>.delivered`, with the newest rows of the table
//! `deliveries` that are not in the database yet.
//!
//! A row for each event that is delivered alone would be a commit of its own and a page in the write-ahead log. The
//! notes are written instead, but not synced: what was written survives the end of the process. The rows of several
//! events are then written together with a later event. After a power failure, the notes may be missing or older than
//! the database, and the events are sent again. The start of the service adds the notes to the database.
//!
//! The notes belong to one state of one database: they name its cursor and its newest event. With any other database,
//! such as one from a backup, they are ignored. The file is optional, and its size never changes.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use sea_orm::{ConnectionTrait, DbErr};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{deliveries, events, location::next_to};
use crate::domain::{
    clock::{self, LogTime, Moment},
    delivery::{SettledRange, Settlement},
    hex,
    ids::Seq,
};

/// What follows the name of the database in the name of the file.
pub const SUFFIX: &str = ".delivered";
/// The first line of the file, with the version of its format.
const HEADER: &str = "liveobject delivered 1";
/// The size of the file. The notes have their maximum size with [`MAX_RANGES`].
const SIZE: usize = 1024;
/// The last line: a hash of the lines before it, so that an incomplete write is noticed.
const HASH: usize = 64;
/// The maximum number of ranges in the file.
pub const MAX_RANGES: usize = 8;

/// The newest deliveries, and the state of the database that they follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryNotes {
    /// The cursor that the database has without them.
    pub after: Seq,
    /// The newest event when they were written, and when it was accepted.
    pub newest: (Seq, LogTime),
    /// The ranges that follow `after`, in order.
    pub ranges: Vec<SettledRange>,
}

/// The notes, as they are in the file.
#[derive(Debug, Serialize, Deserialize)]
struct Content {
    after: i64,
    newest: (i64, i64),
    ranges: Vec<(i64, i64, bool, i64, Option<bool>)>,
}

impl DeliveryNotes {
    /// Returns the content of the file; `None` if there are too many ranges.
    fn content(&self) -> Option<String> {
        let range = |range: &SettledRange| {
            let Settlement { at, late, heard } = range.settlement;
            (range.up_to.0, clock::to_micros(at.wall), late, at.log.0, heard)
        };
        let content = Content {
            after: self.after.0,
            newest: (self.newest.0.0, self.newest.1.0),
            ranges: self.ranges.iter().map(range).collect(),
        };
        let json = serde_json::to_string(&content).ok()?;
        let width = SIZE - HEADER.len() - HASH - 3;
        let notes = format!("{HEADER}\n{json:width$}\n");
        let hash = hash(&notes);
        Some(format!("{notes}{hash}\n")).filter(|content| content.len() == SIZE)
    }

    fn parse(content: &str) -> Option<Self> {
        let (notes, hashed) = content.strip_suffix('\n')?.split_at_checked(SIZE - HASH - 1)?;
        if hash(notes) != hashed {
            return None;
        }
        let notes = notes.strip_prefix(HEADER)?;
        let Content { after, newest, ranges } = serde_json::from_str(notes).ok()?;
        let range = |(up_to, acked_at, late, log_time, heard)| {
            let (wall, log) = (clock::from_micros(acked_at), LogTime(log_time));
            let at = Moment { wall, log, boot_began: LogTime(i64::MIN) };
            SettledRange { up_to: Seq(up_to), settlement: Settlement { at, late, heard } }
        };
        Some(Self {
            after: Seq(after),
            newest: (Seq(newest.0), LogTime(newest.1)),
            ranges: ranges.into_iter().map(range).collect(),
        })
    }

    /// Returns the ranges that a database with this cursor does not have yet. There are none if the cursor is not one
    /// that the database can have had since the notes were written.
    fn missing(mut self, cursor: Seq) -> Vec<SettledRange> {
        if cursor != self.after && !self.ranges.iter().any(|range| range.up_to == cursor) {
            return Vec::new();
        }
        self.ranges.retain(|range| range.up_to > cursor);
        self.ranges
    }
}

fn hash(notes: &str) -> String {
    let mut text = String::with_capacity(HASH);
    hex::push(&mut text, &Sha256::digest(notes));
    text
}

/// The file with the notes of an open database.
#[derive(Debug)]
pub struct NotesFile {
    path: PathBuf,
    file: Mutex<Option<File>>,
}

impl NotesFile {
    /// Returns the file next to this database, without creating it.
    pub fn of(database: &Path) -> Self {
        Self { path: next_to(database, SUFFIX), file: Mutex::default() }
    }

    /// Writes the notes. Creates the file if it is missing, with mode 0600. Takes microseconds.
    pub fn write(&self, notes: &DeliveryNotes) -> io::Result<()> {
        let content = notes.content().ok_or(io::ErrorKind::InvalidInput)?;
        // A thread that panicked cannot have left a partial state.
        let mut open = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match open.take().filter(|file| file.metadata().is_ok_and(|file| file.nlink() > 0)) {
            Some(file) => file,
            None => {
                OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.path)?
            }
        };
        file.write_all_at(content.as_bytes(), 0)?;
        *open = Some(file);
        Ok(())
    }

    /// Reads the notes; `None` if there is no file or if it is damaged.
    pub fn read(&self) -> Option<DeliveryNotes> {
        DeliveryNotes::parse(&std::fs::read_to_string(&self.path).ok()?)
    }
}

/// Adds notes to the database, unless they belong to another one.
pub async fn add(db: &impl ConnectionTrait, notes: DeliveryNotes) -> Result<(), DbErr> {
    let (newest, accepted) = notes.newest;
    let is_newest = events::times_of(db, newest).await?.is_some_and(|times| times.accepted == accepted);
    let last = notes.ranges.last().map_or(notes.after, |range| range.up_to);
    if !is_newest || last > newest {
        return Ok(());
    }
    let missing = notes.missing(deliveries::cursor(db).await?);
    for statement in deliveries::insert_statements(db.get_database_backend(), &missing) {
        db.execute_raw(statement).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(up_to: i64, heard: Option<bool>) -> SettledRange {
        let at = Moment { wall: clock::from_micros(7), log: LogTime(9), boot_began: LogTime(i64::MIN) };
        SettledRange { up_to: Seq(up_to), settlement: Settlement { at, late: up_to == 5, heard } }
    }

    fn notes(up_to: &[i64]) -> DeliveryNotes {
        let ranges = up_to.iter().map(|up_to| range(*up_to, Some(true))).collect();
        DeliveryNotes { after: Seq(4), newest: (Seq(9), LogTime(-1)), ranges }
    }

    #[test]
    fn notes_are_read_back_unless_the_file_is_damaged() {
        let largest = Moment { log: LogTime(i64::MIN), ..range(0, None).settlement.at };
        let settlement = Settlement { at: largest, late: false, heard: Some(false) };
        let many = vec![SettledRange { up_to: Seq(i64::MAX), settlement }; MAX_RANGES];
        let largest =
            DeliveryNotes { newest: (Seq(i64::MAX), LogTime(i64::MIN)), ranges: many, ..notes(&[]) };
        for notes in [notes(&[5, 6, 8]), notes(&[]), largest] {
            let content = notes.content().unwrap();
            assert_eq!(content.len(), SIZE);
            assert_eq!(DeliveryNotes::parse(&content), Some(notes));
            for damaged in [&content[1..], &content.replacen('4', "3", 1), &content[..SIZE - 1], ""] {
                assert_eq!(DeliveryNotes::parse(damaged), None);
            }
        }
        assert_eq!(notes(&[5; 60]).content(), None, "too many");
    }

    #[test]
    fn only_what_follows_the_cursor_is_missing_and_only_if_the_database_is_the_same() {
        let missing = |cursor| {
            let missing = notes(&[5, 6, 8]).missing(Seq(cursor));
            missing.into_iter().map(|range| range.up_to.0).collect::<Vec<_>>()
        };
        assert_eq!(missing(4), [5, 6, 8]);
        assert_eq!(missing(5), [6, 8]);
        assert_eq!(missing(8), [0; 0]);
        for other in [0, 3, 7, 9] {
            assert_eq!(missing(other), [0; 0], "{other}");
        }
    }

    #[test]
    fn the_file_is_written_in_place_and_created_again_if_it_was_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.db");
        std::fs::write(&path, "").unwrap();
        let file = NotesFile::of(&path);
        assert_eq!(file.read(), None);
        for up_to in [5, 6] {
            file.write(&notes(&[up_to])).unwrap();
            assert_eq!(file.read(), Some(notes(&[up_to])));
        }
        std::fs::remove_file(dir.path().join("l.db.delivered")).unwrap();
        file.write(&notes(&[8])).unwrap();
        assert_eq!(file.read(), Some(notes(&[8])));
    }
}
