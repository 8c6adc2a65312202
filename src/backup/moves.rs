//! Moves the files of a restored backup to their places.
//!
//! The moves are first recorded in a file in the data directory. If the process is killed before all of them are
//! carried out, the next command completes them. What they replace is kept, with the suffix `.before-restore`.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
};

use liveobject_actors::{
    data_dir::{DataDir, DataDirError},
    private_file::{self, append, sync_directory, with_suffix},
};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use serde::{Deserialize, Serialize};

use super::{Locations, RestoreError, waiting};
use crate::{config::Config, owner::act_as_owner};

/// The file in which the moves are recorded.
pub(super) const MOVES: &str = "restore.json";
/// The suffix of a file of a backup that is not in its place yet. Do not use it for anything else: files with this
/// suffix are removed when a restore fails or was interrupted.
pub(super) const STAGED: &str = "unfinished-restore";
/// The suffix of what a restore replaced.
pub(super) const REPLACED: &str = "before-restore";
/// Maximum size of the file with the moves.
const MAX_MOVES_BYTES: u64 = 64 * 1024;

/// The moves of a restore.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Moves(pub Vec<Move>);

/// A move of a file to its place. What is already there is kept under another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Move {
    pub place: PathBuf,
    /// The file to move. If it is `None`, the file in this place belongs to the replaced database and is only moved
    /// away.
    pub staged: Option<PathBuf>,
}

/// Completes a restore that was interrupted after its moves were recorded, and removes the files of one that was
/// interrupted before. Does nothing if there is none.
pub fn complete(config: &Config) -> Result<(), RestoreError> {
    let has_record = fs::symlink_metadata(config.data_dir.join(MOVES)).is_ok();
    let locations = match Locations::of(config) {
        Err(error) if has_record => return Err(error.into()),
        Err(_) => return Ok(()),
        Ok(locations) => locations,
    };
    if !has_record && staged(&locations).is_empty() {
        return Ok(());
    }
    // Root must not move files for another user. The rest of the process may have to stay root.
    thread::scope(|scope| {
        let complete = || {
            act_as_owner(&locations.data_dir)?;
            complete_or_remove(&locations)
        };
        scope
            .spawn(complete)
            .join()
            .unwrap_or_else(|_| Err(failed(&locations.data_dir, io::Error::other("panic"))))
    })
}

/// Returns whether a restore is putting files in their places.
pub(super) fn is_moving(locations: &Locations) -> bool {
    fs::symlink_metadata(locations.data_dir.join(MOVES)).is_ok()
}

fn complete_or_remove(locations: &Locations) -> Result<(), RestoreError> {
    let path = locations.data_dir.join(MOVES);
    let has_record = || is_moving(locations);
    let _lock = match DataDir::lock(&locations.data_dir) {
        // Without a record, the files belong to a restore that is still reading its archive.
        Err(DataDirError::InUse { .. }) if !has_record() => return Ok(()),
        lock => lock?,
    };
    // Another command may have completed the restore in the meantime.
    if !has_record() {
        return remove_staged(locations);
    }
    let moves = read(&path).and_then(|moves| moves.checked(&locations.places()));
    let moves = moves.map_err(|problem| {
        let state = state(locations);
        RestoreError::Record { path: path.clone(), problem, state }
    })?;
    moves.carry_out(&path)
}

/// Reads the record. The error is the end of a sentence about it.
fn read(path: &Path) -> Result<Moves, String> {
    let mut text = Vec::new();
    let file = File::open(path).and_then(|file| file.take(MAX_MOVES_BYTES).read_to_end(&mut text));
    file.map_err(|error| format!("cannot be read ({error})"))?;
    serde_json::from_slice(&text).map_err(|error| format!("is damaged ({error})"))
}

/// Returns the files of a backup that are next to their places.
fn staged(locations: &Locations) -> Vec<PathBuf> {
    let staged = locations.places().into_iter().map(|place| with_suffix(&place, STAGED));
    let mut staged: Vec<_> = staged.filter(|staged| fs::symlink_metadata(staged).is_ok()).collect();
    staged.dedup();
    staged
}

/// Removes the files of a restore that was interrupted before its moves were recorded. The caller holds the lock.
pub(super) fn remove_staged(locations: &Locations) -> Result<(), RestoreError> {
    for path in staged(locations) {
        remove(&path).map_err(|source| RestoreError::Write { path, source })?;
    }
    let record = locations.data_dir.join(MOVES);
    let removed = private_file::remove_unfinished(&record);
    removed.map(drop).map_err(|source| RestoreError::Write { path: record, source })
}

/// Describes what an interrupted restore has done.
fn state(locations: &Locations) -> String {
    let staged = staged(locations);
    if staged.is_empty() {
        return "No file of the backup is waiting to be put in its place.".to_owned();
    }
    let staged: Vec<_> = staged.iter().map(|path| path.display().to_string()).collect();
    format!("These files of the backup are not in their places yet: {}.", staged.join(", "))
}

fn failed(path: &Path, source: io::Error) -> RestoreError {
    RestoreError::Move { path: path.to_owned(), source }
}

/// Returns whether two paths are the same name in the same directory.
fn is_same(one: &Path, other: &Path) -> bool {
    let directory = |path: &Path| path.parent().and_then(|parent| fs::canonicalize(parent).ok());
    one == other
        || (one.file_name() == other.file_name()
            && directory(one).is_some_and(|it| directory(other) == Some(it)))
}

impl Moves {
    /// Returns these moves with the places of this service. Fails if one is not a move that a restore into these places
    /// records: the owner of the data directory can write anything into the record.
    fn checked(self, places: &[PathBuf]) -> Result<Self, String> {
        let check = |Move { place, staged }: Move| {
            let known = places.iter().find(|known| is_same(known, &place));
            let expected = known.map(|known| with_suffix(known, STAGED));
            match (known, expected, staged) {
                (Some(known), Some(expected), Some(staged)) if is_same(&expected, &staged) => {
                    Ok(Move { place: known.clone(), staged: Some(expected) })
                }
                (Some(known), _, None) if database_of(known).is_some() => {
                    Ok(Move { place: known.clone(), staged: None })
                }
                _ => Err(format!(
                    "names {}, which does not belong to the service with this configuration",
                    place.display()
                )),
            }
        };
        self.0.into_iter().map(check).collect::<Result<_, _>>().map(Self)
    }

    /// Returns the places that contain something that a move replaces.
    pub fn replaced(&self) -> Vec<PathBuf> {
        let with_file = self.0.iter().filter(|it| it.staged.is_some());
        with_file.map(|it| it.place.clone()).filter(|place| place.exists()).collect()
    }

    /// Removes what an earlier restore kept. Fails if one of the moves cannot succeed, before anything is moved.
    pub fn make_way(&self) -> Result<(), RestoreError> {
        let occupied = self.0.iter().flat_map(|it| [it.place.clone(), kept(&it.place)]);
        if let Some(path) = occupied.into_iter().find(|path| is_mount_point(path)) {
            return Err(RestoreError::MountPoint(path));
        }
        for path in self.0.iter().map(|it| kept(&it.place)) {
            remove(&path).map_err(|source| RestoreError::Write { path, source })?;
        }
        Ok(())
    }

    /// Carries out the moves that were not carried out yet, and removes the file in which they are recorded. Before
    /// that, removes a backup that waits for the next start: it is the one that was restored, or it was uploaded before
    /// this restore.
    pub fn carry_out(&self, path: &Path) -> Result<(), RestoreError> {
        for (index, Move { place, staged }) in self.0.iter().enumerate() {
            let fail = |source| failed(place, source);
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
        let removed = path.parent().map_or(Ok(()), waiting::remove);
        removed.and_then(|()| private_file::remove(path)).map(drop).map_err(|source| failed(path, source))
    }
}

/// Returns the database to which a `-wal` or `-shm` file belongs.
fn database_of(place: &Path) -> Option<(PathBuf, &'static str)> {
    let name = place.to_str()?;
    let mut parts = ["-wal", "-shm"].into_iter();
    parts.find_map(|part| name.strip_suffix(part).map(|name| (PathBuf::from(name), part)))
}

/// Returns where a replaced file is kept. The names of a kept `-wal` or `-shm` file still match the name of the kept
/// database.
fn kept(place: &Path) -> PathBuf {
    match database_of(place) {
        Some((database, part)) => append(&with_suffix(&database, REPLACED), part),
        None => with_suffix(place, REPLACED),
    }
}

/// Returns whether a file system, or a file of one, is mounted in this place, which then cannot be renamed.
fn is_mount_point(path: &Path) -> bool {
    let flags = AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW;
    let Ok(found) = rustix::fs::statx(CWD, path, flags, StatxFlags::empty()) else { return false };
    if found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
        return found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    }
    // Kernels before 5.8 do not report it.
    let device = |path: &Path| fs::symlink_metadata(path).ok().map(|it| it.dev());
    path.parent().is_some_and(|parent| device(path) != device(parent))
}

/// Removes a file or a directory, if it exists.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        _ => private_file::remove(path).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_moves_into_the_places_of_the_service_are_carried_out() {
        let dir = tempfile::tempdir().unwrap();
        let (data, link) = (dir.path().join("data"), dir.path().join("link"));
        fs::create_dir(&data).unwrap();
        std::os::unix::fs::symlink(&data, &link).unwrap();
        let places = ["l.db-wal", "l.db", "api-token"].map(|name| data.join(name));
        let check = |place: &Path, staged: Option<PathBuf>| {
            Moves(vec![Move { place: place.to_owned(), staged }]).checked(&places).map(|moves| moves.0)
        };
        let (wal, token) = (&places[0], &places[2]);
        let staged = with_suffix(token, STAGED);
        let expected = [Move { place: token.clone(), staged: Some(staged.clone()) }];
        assert_eq!(check(token, Some(staged.clone())).unwrap(), expected);
        // The data directory can have several names.
        let linked = link.join("api-token");
        assert_eq!(check(&linked, Some(with_suffix(&linked, STAGED))).unwrap(), expected);
        assert_eq!(check(wal, None).unwrap(), [Move { place: wal.clone(), staged: None }]);
        for (place, staged) in [
            ("/etc/shadow".into(), Some("/etc/shadow.unfinished-restore".into())),
            (token.clone(), Some("/etc/shadow".into())),
            (token.clone(), Some(data.join("other.unfinished-restore"))),
            (token.clone(), None),
            (data.join("../data2/api-token"), Some(data.join("../data2/api-token.unfinished-restore"))),
            (data.join("config.toml"), Some(data.join("config.toml.unfinished-restore"))),
        ] {
            assert!(check(&place, staged).is_err(), "{}", place.display());
        }
    }
}
