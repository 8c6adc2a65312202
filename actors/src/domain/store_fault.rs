//! The kinds of storage failures that a client can act on.

/// Where the database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabasePlace {
    /// In an SQLite file on this machine.
    File,
    /// On a PostgreSQL server.
    Server,
}

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
    pub fn remedy(self, place: DatabasePlace) -> &'static str {
        use DatabasePlace::{File, Server};
        match (self, place) {
            (Self::DiskFull, _) => "Free some space on the disk of the database.",
            (Self::Locked, Server) => {
                "The database server is too slow, waits for a synchronous standby that is away, or has too few \
                 connections; or another session holds a lock. Look at `pg_stat_activity` there."
            }
            (Self::Locked, File) => {
                "Another program may have locked the database: find it with `fuser`, and stop it. The disk may \
                 also be too slow."
            }
            (Self::Away, _) => {
                "Check that the database server is running, and that this machine can reach it."
            }
            (Self::Damaged, Server) => {
                "See the log of the database server, and restore a backup of the database."
            }
            (Self::Damaged, File) => {
                "Stop the service, and restore a backup of the database, or repair it with `sqlite3 FILE .recover`."
            }
            (Self::Replaced, _) => {
                "Put the file back, with its -wal and -shm files. If only the -wal file was deleted, restart the \
                 service. To use another database, stop the service first; events that were accepted since the \
                 last backup are then missing."
            }
            (Self::NotOwner, _) => "Nothing needs to be done: another node takes the events.",
            (Self::Other, _) => "See the log of the service for the cause.",
        }
    }

    /// Returns whether both can belong to one outage: they are equal, or a server that does not work causes now the one
    /// and now the other.
    pub fn alternates_with(self, other: Self) -> bool {
        let is_slow = |fault| matches!(fault, Self::Away | Self::Locked);
        self == other || (is_slow(self) && is_slow(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_remedy_for_a_server_is_about_a_file() {
        let faults = [
            StoreFault::DiskFull,
            StoreFault::Locked,
            StoreFault::Away,
            StoreFault::Damaged,
            StoreFault::NotOwner,
            StoreFault::Other,
        ];
        for fault in faults {
            let remedy = fault.remedy(DatabasePlace::Server);
            assert!(!remedy.contains("fuser") && !remedy.contains("sqlite3"), "{remedy}");
        }
    }

    #[test]
    fn different_faults_are_one_outage_only_if_the_server_is_busy_or_away() {
        assert!(StoreFault::Away.alternates_with(StoreFault::Locked));
        assert!(StoreFault::DiskFull.alternates_with(StoreFault::DiskFull));
        assert!(!StoreFault::Away.alternates_with(StoreFault::DiskFull));
        assert!(!StoreFault::NotOwner.alternates_with(StoreFault::Away));
    }
}
