//! What can go wrong with the database, as an administrator acts on it.

use std::path::PathBuf;

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, sqlx};

use crate::domain::store_fault::StoreFault;

/// Why the database could not be opened. Nothing in it was changed, unless a migration was applied before the failure.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is not one of a SQLite file.
    #[error("the database URL {0}; write it as sqlite://PATH")]
    Url(String),
    /// The file or its directory cannot be made, or not be opened for writing.
    #[error("the database file {} cannot be made or opened for writing", path.display())]
    File {
        /// The database file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A newer version of this program has changed the schema.
    #[error(
        "the database {} was written by a newer version of this program (it holds {}): start that version again, or \
         restore the backup that was made before the upgrade",
        path.display(), unknown.join(", ")
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The changes that this binary does not know.
        unknown: Vec<String>,
    },
    /// The file is not a database, or a damaged one.
    #[error(
        "the database {} is damaged or not a database: restore it from a backup; or stop the service, move the file away \
         together with its -wal and -shm files, and start with an empty one (the events that wait in it are then lost, and \
         the MQTT settings have to be entered again)",
        path.display()
    )]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: DbErr,
    },
    /// Another process holds the database.
    #[error(
        "the database {} is locked by another process: find it with `fuser {}`, stop it and start again",
        path.display(), path.display()
    )]
    Locked {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: DbErr,
    },
    /// No room.
    #[error("the database {} cannot be opened because its disk is full: make room and start again", path.display())]
    DiskFull {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: DbErr,
    },
    /// Anything else.
    #[error("the database {} cannot be opened", path.display())]
    Other {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: DbErr,
    },
}

impl OpenError {
    pub(super) fn of(path: PathBuf, error: DbErr) -> Self {
        match StoreError::from(error) {
            StoreError::DiskFull(source) => Self::DiskFull { path, source },
            StoreError::Locked(source) => Self::Locked { path, source },
            StoreError::Damaged(source) => Self::Damaged { path, source },
            StoreError::Other(source) => Self::Other { path, source },
        }
    }
}

/// Why the open database could not do what was asked. What was asked is then not done at all, as far as it is known: a
/// failed commit may still turn out to be stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No room; works again when there is.
    #[error("the disk is full")]
    DiskFull(#[source] DbErr),
    /// Another process holds the database, or this one is too busy; works again later.
    #[error("the database is locked or busy")]
    Locked(#[source] DbErr),
    /// The file is damaged, or has been moved away or replaced under the running service.
    #[error("the database is damaged")]
    Damaged(#[source] DbErr),
    /// Anything else.
    #[error("the database does not work")]
    Other(#[source] DbErr),
}

impl StoreError {
    /// Returns the error of an operation that took too long.
    pub fn timeout() -> Self {
        DbErr::ConnectionAcquire(ConnAcquireErr::Timeout).into()
    }

    /// Returns the kind of this error, for clients.
    pub fn fault(&self) -> StoreFault {
        match self {
            Self::DiskFull(_) => StoreFault::DiskFull,
            Self::Locked(_) => StoreFault::Locked,
            Self::Damaged(_) => StoreFault::Damaged,
            Self::Other(_) => StoreFault::Other,
        }
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        if matches!(error, DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)) {
            return Self::Locked(error);
        }
        match sqlite_code(&error).map_or(StoreFault::Other, fault_of_code) {
            StoreFault::DiskFull => Self::DiskFull(error),
            StoreFault::Locked => Self::Locked(error),
            StoreFault::Damaged => Self::Damaged(error),
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
        READONLY_DBMOVED => return StoreFault::Damaged,
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

/// SQLite's extended result code, if it was SQLite that failed.
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
    cause.code()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_codes_are_told_by_what_mends_them() {
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
            (1032, StoreFault::Damaged),
            (8, StoreFault::Other),
            (2067, StoreFault::Other),
        ] {
            assert_eq!(fault_of_code(code), fault, "{code}");
        }
    }

    #[test]
    fn an_error_that_is_not_sqlites_is_just_another() {
        assert!(matches!(StoreError::from(DbErr::RecordNotUpdated), StoreError::Other(_)));
        let busy = DbErr::ConnectionAcquire(ConnAcquireErr::Timeout);
        assert!(matches!(StoreError::from(busy), StoreError::Locked(_)));
    }
}
