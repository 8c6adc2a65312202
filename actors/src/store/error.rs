//! Database errors, distinguished by what an administrator can do about them.

use std::path::{Path, PathBuf};

use sea_orm::{
    ConnAcquireErr, DbErr, RuntimeErr,
    sqlx::{self, error::DatabaseError as _, sqlite::SqliteError},
};

use super::{
    moved::Mark,
    postgres::{self, ServerFault},
};
use crate::domain::store_fault::StoreFault;

/// Why the database could not be opened. It was not changed, unless a migration was applied before the
/// failure.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL does not refer to a SQLite file.
    #[error("the database URL {0}; write it as sqlite://PATH")]
    Url(String),
    /// The URL does not refer to a database on a PostgreSQL server.
    #[error("the database URL {0}; write it as postgres://USER:PASSWORD@HOST/DATABASE")]
    ServerUrl(String),
    /// The database is on a server, so that there is no file to copy.
    #[error(
        "the database is {database}, a PostgreSQL server: `liveobject backup` and `liveobject restore` copy only \
         SQLite databases. Back it up with `pg_dump`, and copy the data directory (the identity and the admin token) \
         as well; see \"PostgreSQL\" in docs/operation.md"
    )]
    NoFile {
        /// The database and its server, without the password.
        database: String,
    },
    /// The file or its directory cannot be created, or the file cannot be opened for writing.
    #[error("the database file {} cannot be created or opened for writing", path.display())]
    File {
        /// The database file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A newer version of this program has changed the schema.
    #[error(
        "the database {} was written by a newer version of liveobject (it contains the migrations {}): \
         run that version again, or go back to {}",
        path.display(), unknown.join(", "), way_back(path)
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The migrations that this version does not know.
        unknown: Vec<String>,
    },
    /// The schema is that of an earlier version, and a service that is running uses the database.
    #[error(
        "the database {} is that of an earlier version of liveobject, which is still running: restart the service, \
         which upgrades the database, and then run the command again",
        path.display()
    )]
    Older {
        /// The database file.
        path: PathBuf,
    },
    /// The copy that precedes an upgrade of the schema cannot be written.
    #[error(
        "the database must be upgraded, but {}, its copy from before the upgrade, cannot be written: free as much \
         space as the database takes and start again",
        path.display()
    )]
    Copy {
        /// The copy.
        path: PathBuf,
        /// The cause.
        #[source]
        source: DbErr,
    },
    /// The file is damaged or is not a database.
    #[error(
        "the database {} is damaged or not a SQLite database: restore it from a backup, and remove its -wal \
         and -shm files first; or move the file away together with its -wal and -shm files, and start with a \
         new database (pending events are then lost, and the MQTT settings must be entered again)",
        path.display()
    )]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// The error from SQLite.
        #[source]
        source: DbErr,
    },
    /// Another process has locked the database.
    #[error(
        "the database {} is locked by another process: \
         find the process with `fuser {}`, stop it and start again",
        path.display(), path.display()
    )]
    Locked {
        /// The database file.
        path: PathBuf,
        /// The error from SQLite.
        #[source]
        source: DbErr,
    },
    /// The disk is full.
    #[error(
        "the database {} cannot be opened because the disk is full: free some space and start again",
        path.display()
    )]
    DiskFull {
        /// The database file.
        path: PathBuf,
        /// The error from SQLite.
        #[source]
        source: DbErr,
    },
    /// Any other error.
    #[error("the database {} cannot be opened", path.display())]
    Other {
        /// The database file.
        path: PathBuf,
        /// The error from SQLite.
        #[source]
        source: DbErr,
    },
    /// The log must not be used in this database.
    #[error("the database {database} {mark}")]
    Marked {
        /// The database.
        database: String,
        /// Why not, and what to do.
        mark: Mark,
    },
    /// A database on a PostgreSQL server cannot be used.
    #[error("the database {database} {fault}")]
    Server {
        /// The database and its server, without the password.
        database: String,
        /// What is wrong, and what to do.
        fault: ServerFault,
        /// The error from the server or of the connection.
        #[source]
        source: Option<DbErr>,
    },
}

/// Describes how to use a database with an earlier version again.
fn way_back(database: &Path) -> String {
    let copy = super::before_upgrade(database);
    if !copy.exists() {
        return "a backup that was made before the upgrade".to_owned();
    }
    format!(
        "the copy that was made before the upgrade (events since then are lost): remove {database}-wal and \
         {database}-shm, and rename {} to {database}",
        copy.display(),
        database = database.display()
    )
}

impl OpenError {
    /// Returns the same error about another file: a copy is checked in place of its original.
    #[must_use]
    pub fn about(mut self, database: &Path) -> Self {
        match &mut self {
            Self::Url(_)
            | Self::ServerUrl(_)
            | Self::NoFile { .. }
            | Self::Server { .. }
            | Self::Marked { .. } => {}
            Self::File { path, .. }
            | Self::Newer { path, .. }
            | Self::Older { path }
            | Self::Copy { path, .. }
            | Self::Damaged { path, .. }
            | Self::Locked { path, .. }
            | Self::DiskFull { path, .. }
            | Self::Other { path, .. } => database.clone_into(path),
        }
        self
    }

    pub(super) fn of(path: PathBuf, error: DbErr) -> Self {
        match StoreError::from(error) {
            StoreError::DiskFull(source) => Self::DiskFull { path, source },
            StoreError::Locked(source) => Self::Locked { path, source },
            StoreError::Damaged(source) => Self::Damaged { path, source },
            StoreError::Other(source) | StoreError::Away(source) => Self::Other { path, source },
            StoreError::NotOwner => unreachable!("a file has no owner"),
            StoreError::Replaced => Self::File { path, source: std::io::ErrorKind::NotFound.into() },
        }
    }
}

/// Why an operation on the open database failed. As far as is known, it had no effect; but a failed commit
/// may still turn out to be stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The disk is full. Operations succeed again after space was freed.
    #[error("the disk is full")]
    DiskFull(#[source] DbErr),
    /// Another process has locked the database, or this process is too busy. Operations succeed again later.
    #[error("the database is locked or busy")]
    Locked(#[source] DbErr),
    /// The database server cannot be reached, or does not accept writes at the moment.
    #[error("the database server cannot be reached")]
    Away(#[source] DbErr),
    /// The file is damaged.
    #[error("the database is damaged")]
    Damaged(#[source] DbErr),
    /// The file was moved, deleted or replaced while the service was running. What is written now is lost when
    /// the process ends.
    #[error("the database file was moved, deleted or replaced")]
    Replaced,
    /// Another node owns the event log. Nothing was written, and nothing will be until this node owns it again.
    #[error("another node owns the event log")]
    NotOwner,
    /// Any other error.
    #[error("the database operation failed")]
    Other(#[source] DbErr),
}

impl StoreError {
    /// Returns the error of an operation that took too long.
    pub fn timeout() -> Self {
        DbErr::ConnectionAcquire(ConnAcquireErr::Timeout).into()
    }

    /// Returns whether a row cannot be read because of its contents: SQLite found damage, or a column has another
    /// type than it was written with.
    pub(super) fn is_damaged_row(&self) -> bool {
        let is_sqlx = |cause: &RuntimeErr| {
            matches!(cause, RuntimeErr::SqlxError(cause) if matches!(
                cause.as_ref(), sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)))
        };
        self.is_corruption()
            || match self {
                Self::Other(DbErr::Type(_) | DbErr::TryIntoErr { .. }) => true,
                Self::Other(DbErr::Query(cause) | DbErr::Exec(cause)) => is_sqlx(cause),
                _ => false,
            }
    }

    /// Returns whether SQLite found damaged contents. Other rows may still be readable.
    pub(super) fn is_corruption(&self) -> bool {
        const CORRUPT: i32 = 11;
        matches!(self, Self::Damaged(error) if sqlite_code(error).is_some_and(|code| code & 0xff == CORRUPT))
    }

    /// Returns the kind of this error, for clients.
    pub fn fault(&self) -> StoreFault {
        match self {
            Self::DiskFull(_) => StoreFault::DiskFull,
            Self::Locked(_) => StoreFault::Locked,
            Self::Away(_) => StoreFault::Away,
            Self::Damaged(_) => StoreFault::Damaged,
            Self::Replaced => StoreFault::Replaced,
            Self::NotOwner => StoreFault::NotOwner,
            Self::Other(_) => StoreFault::Other,
        }
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        if matches!(error, DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)) {
            return Self::Locked(error);
        }
        let fault = postgres::fault_of(&error).or_else(|| sqlite_code(&error).map(fault_of_code));
        match fault.unwrap_or(StoreFault::Other) {
            StoreFault::DiskFull => Self::DiskFull(error),
            StoreFault::Locked => Self::Locked(error),
            StoreFault::Away => Self::Away(error),
            StoreFault::Damaged => Self::Damaged(error),
            StoreFault::Replaced => Self::Replaced,
            StoreFault::NotOwner => Self::NotOwner,
            StoreFault::Other => Self::Other(error),
        }
    }
}

/// Classifies an extended SQLite result code (<https://www.sqlite.org/rescode.html>).
fn fault_of_code(extended: i32) -> StoreFault {
    const BUSY: i32 = 5;
    const LOCKED: i32 = 6;
    const READONLY_DBMOVED: i32 = 1032;
    // There is no space for the shared-memory file of the write-ahead log.
    const IOERR_SHMSIZE: i32 = 4874;
    const CORRUPT: i32 = 11;
    const FULL: i32 = 13;
    const NOTADB: i32 = 26;
    match extended {
        READONLY_DBMOVED => return StoreFault::Replaced,
        IOERR_SHMSIZE => return StoreFault::DiskFull,
        _ => {}
    }
    // The low byte is the primary code.
    match extended & 0xff {
        FULL => StoreFault::DiskFull,
        BUSY | LOCKED => StoreFault::Locked,
        CORRUPT | NOTADB => StoreFault::Damaged,
        _ => StoreFault::Other,
    }
}

/// Returns SQLite's extended result code if the error came from SQLite.
fn sqlite_code(error: &DbErr) -> Option<i32> {
    let (DbErr::Conn(cause) | DbErr::Exec(cause) | DbErr::Query(cause)) = error else {
        return None;
    };
    let RuntimeErr::SqlxError(cause) = cause else {
        return None;
    };
    let sqlx::Error::Database(cause) = cause.as_ref() else {
        return None;
    };
    cause.try_downcast_ref::<SqliteError>()?.code()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_codes_are_classified_by_their_remedy() {
        for (code, fault) in [
            (13, StoreFault::DiskFull),
            (4874, StoreFault::DiskFull),
            (5, StoreFault::Locked),
            (261, StoreFault::Locked),
            (517, StoreFault::Locked),
            (6, StoreFault::Locked),
            (11, StoreFault::Damaged),
            (779, StoreFault::Damaged),
            (26, StoreFault::Damaged),
            (1032, StoreFault::Replaced),
            (8, StoreFault::Other),
            (2067, StoreFault::Other),
        ] {
            assert_eq!(fault_of_code(code), fault, "{code}");
        }
    }

    #[test]
    fn errors_that_are_not_from_sqlite_are_classified_too() {
        assert!(matches!(StoreError::from(DbErr::RecordNotUpdated), StoreError::Other(_)));
        let busy = DbErr::ConnectionAcquire(ConnAcquireErr::Timeout);
        assert!(matches!(StoreError::from(busy), StoreError::Locked(_)));
    }
}
