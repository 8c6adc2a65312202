//! The kinds of storage failures that a client can act on.

/// The kind of a storage failure. The cause is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreFault {
    /// The disk is full. Storing works again once there is space.
    #[error("the disk is full")]
    DiskFull,
    /// Another process has locked the database, or it is too busy. Storing works again later.
    #[error("the database is locked or busy")]
    Locked,
    /// The database server cannot be reached, or does not accept writes at the moment. Storing works again later.
    #[error("the database server cannot be reached")]
    Away,
    /// The database file is damaged.
    #[error("the database is damaged")]
    Damaged,
    /// The database file, or its `-wal` file, was moved, deleted or replaced while the service was running.
    #[error("the database file, or its -wal file, was moved, deleted or replaced")]
    Replaced,
    /// Another node owns the event log. It stores what this one cannot.
    #[error("another node owns the event log")]
    NotOwner,
    /// Any other failure.
    #[error("the storage failed unexpectedly")]
    Other,
}

impl StoreFault {
    /// Returns what to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::DiskFull => "Free some space on the disk of the database.",
            Self::Locked => {
                "Another program may have locked the database: find it with `fuser`, and stop it. The disk may \
                 also be too slow."
            }
            Self::Away => "Check that the database server is running, and that this machine can reach it.",
            Self::Damaged => {
                "Stop the service, and restore a backup of the database, or repair it with `sqlite3 FILE .recover`."
            }
            Self::Replaced => {
                "Put the file back, with its -wal and -shm files. If only the -wal file was deleted, restart the \
                 service. To use another database, stop the service first; events that were accepted since the \
                 last backup are then missing."
            }
            Self::NotOwner => "Nothing needs to be done: another node takes the events.",
            Self::Other => "See the log of the service for the cause.",
        }
    }
}
