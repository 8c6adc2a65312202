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
    /// The database file is damaged, or was moved or replaced while the service was running.
    #[error("the database is damaged")]
    Damaged,
    /// Any other failure.
    #[error("the storage failed unexpectedly")]
    Other,
}
