//! What a PostgreSQL server's errors mean, by their SQLSTATE
//! (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).

use std::io;

use sea_orm::{
    DbErr, RuntimeErr,
    sqlx::{self, postgres::PgDatabaseError},
};

use crate::{domain::store_fault::StoreFault, store::moved::Mark};

/// Why a PostgreSQL server cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerFault {
    /// There is no answer.
    #[error(
        "cannot be reached: check the host and the port, that the server is running, and that it accepts connections \
         from this machine"
    )]
    Unreachable,
    /// TLS is not possible, or the server's certificate is not trusted.
    #[error(
        "cannot be reached over TLS: check the server's certificate, and name its authority with `sslrootcert=FILE`; \
         if the network is trusted and the server has no TLS, write `sslmode=disable`"
    )]
    Tls,
    /// The login failed.
    #[error("does not accept the user or the password: check both, and the `pg_hba.conf` of the server")]
    Login,
    /// The database does not exist.
    #[error(
        "does not exist: create it with `createdb --owner=USER --encoding=UTF8 --template=template0 NAME`"
    )]
    Missing,
    /// The server is too old.
    #[error("is on a server with PostgreSQL {0}, but version 13 or later is required: upgrade the server")]
    TooOld(String),
    /// The server follows another one.
    #[error("is on a standby server, which cannot be written to: use the address of the primary server")]
    Standby,
    /// Transactions cannot write.
    #[error(
        "is read-only for this user: set `default_transaction_read_only` to `off`, for the server, the database and \
         the user"
    )]
    ReadOnly,
    /// The database cannot store all texts.
    #[error(
        "has the encoding {0}, but UTF8 is required: create another one with `createdb --encoding=UTF8 \
         --template=template0 NAME`"
    )]
    Encoding(String),
    /// The user may not create what is needed.
    #[error(
        "does not permit this user to create or use the schema `{0}`: run `GRANT CREATE ON DATABASE NAME TO USER`, \
         and make the user the owner of the schema if it exists"
    )]
    NotPermitted(&'static str),
    /// A service uses the database, and must not, or a command that must be alone does.
    #[error(
        "is in use by another liveobject service or command: stop it, on each machine that uses the database, or use \
         another database"
    )]
    InUse,
    /// A lock is held for longer than it should be.
    #[error("is busy, or the server has not ended an earlier connection of this service yet")]
    Busy,
    /// Another node became the owner of the event log.
    #[error("has an event log that was taken over by another node")]
    NotOwner,
    /// There are too many connections.
    #[error("is on a server with too many connections: raise `max_connections`, or close some")]
    TooManyConnections,
    /// A newer version of this program has changed the schema.
    #[error(
        "was written by a newer version of liveobject (it contains the migrations {}): run that version again, or \
         restore a backup that was made before the upgrade", .0.join(", ")
    )]
    Newer(Vec<String>),
    /// The schema is that of an earlier version, or there is none.
    #[error(
        "has no schema of this version of liveobject yet: start the service, which creates or upgrades it"
    )]
    Older,
    /// The log must not be used here.
    #[error("{0}")]
    Marked(Mark),
    /// Any other reason.
    #[error("cannot be opened")]
    Other,
}

impl ServerFault {
    /// Returns whether the fault may pass without an administrator: the server is starting or restarting, or another
    /// one takes its place.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable | Self::Standby | Self::TooManyConnections | Self::Busy)
    }

    /// Returns why a connection could not be opened.
    pub fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(error) if is_of_tls(error) => Self::Tls,
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => Self::Unreachable,
            sqlx::Error::Tls(_) => Self::Tls,
            sqlx::Error::Database(error) => match error.code().as_deref() {
                Some("28000" | "28P01") => Self::Login,
                Some("3D000") => Self::Missing,
                Some("53300") => Self::TooManyConnections,
                Some(state) => Self::of_fault(fault_of_state(state)),
                None => Self::Other,
            },
            _ => Self::Other,
        }
    }

    /// Returns why a statement failed while the database was being opened.
    pub fn of_statement(error: &DbErr) -> Self {
        fault_of(error).map_or(Self::Other, Self::of_fault)
    }

    fn of_fault(fault: StoreFault) -> Self {
        match fault {
            StoreFault::Away => Self::Unreachable,
            StoreFault::Locked => Self::Busy,
            StoreFault::NotOwner => Self::NotOwner,
            _ => Self::Other,
        }
    }
}

/// Returns whether a handshake has failed, for example because the certificate is not trusted.
fn is_of_tls(error: &io::Error) -> bool {
    error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()).is_some()
}

/// A write changed nothing, because the term of the writer has ended.
#[derive(Debug, thiserror::Error)]
#[error("another node owns the event log")]
struct NotOwner;

/// Returns the error of a write with a term that has ended.
pub(super) fn not_owner() -> sqlx::Error {
    sqlx::Error::AnyDriverError(Box::new(NotOwner))
}

fn sqlx_error(error: &DbErr) -> Option<&sqlx::Error> {
    let (DbErr::Conn(cause) | DbErr::Exec(cause) | DbErr::Query(cause)) = error else { return None };
    let RuntimeErr::SqlxError(cause) = cause else { return None };
    Some(cause.as_ref())
}

/// Returns the kind of a failure, if the error comes from a server or a connection to one.
pub fn fault_of(error: &DbErr) -> Option<StoreFault> {
    match sqlx_error(error)? {
        // SQLite reports these as errors of its own.
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) => Some(StoreFault::Away),
        sqlx::Error::AnyDriverError(error) if error.is::<NotOwner>() => Some(StoreFault::NotOwner),
        sqlx::Error::Database(error) => {
            error.try_downcast_ref::<PgDatabaseError>().map(|error| fault_of_state(error.code()))
        }
        _ => None,
    }
}

/// Returns whether a connection cannot be used after this error.
pub fn is_over(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            error.code().is_none_or(|state| fault_of_state(&state) == StoreFault::Away)
        }
        sqlx::Error::RowNotFound | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => false,
        _ => true,
    }
}

fn fault_of_state(state: &str) -> StoreFault {
    match state {
        "53100" => StoreFault::DiskFull,
        // No lock, a conflict, a deadlock, a cancelled statement, too little memory, too many connections.
        "55P03" | "40001" | "40P01" | "57014" | "53200" | "53300" | "53400" => StoreFault::Locked,
        "XX001" | "XX002" => StoreFault::Damaged,
        // The server stops, starts, has ended the session, or is a standby now.
        "25006" | "25P03" | "57P01" | "57P02" | "57P03" | "57P05" => StoreFault::Away,
        state if state.starts_with("08") => StoreFault::Away,
        _ => StoreFault::Other,
    }
}

/// Returns whether the user lacks a right.
pub fn is_not_permitted(error: &DbErr) -> bool {
    let Some(sqlx::Error::Database(error)) = sqlx_error(error) else { return false };
    error.code().as_deref() == Some("42501")
}

/// Returns whether an event could not be inserted because the log already contains it.
pub fn is_duplicate_event(error: &DbErr) -> bool {
    let Some(sqlx::Error::Database(error)) = sqlx_error(error) else { return false };
    error
        .try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|error| error.constraint() == Some("events_event_id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_lost_while_the_database_is_opened_may_come_back() {
        let lost = || RuntimeErr::SqlxError(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()).into());
        for error in [DbErr::Conn(lost()), DbErr::Exec(lost()), DbErr::Query(lost())] {
            assert!(ServerFault::of_statement(&error).may_pass(), "{error}");
        }
        let fenced = DbErr::Exec(RuntimeErr::SqlxError(not_owner().into()));
        assert_eq!(ServerFault::of_statement(&fenced), ServerFault::NotOwner);
        assert_eq!(ServerFault::of_statement(&DbErr::Custom(String::new())), ServerFault::Other);
    }

    #[test]
    fn states_are_classified_by_their_remedy() {
        for (state, fault) in [
            ("53100", StoreFault::DiskFull),
            ("55P03", StoreFault::Locked),
            ("XX001", StoreFault::Damaged),
            ("57P01", StoreFault::Away),
            ("08006", StoreFault::Away),
            ("25006", StoreFault::Away),
            ("23505", StoreFault::Other),
        ] {
            assert_eq!(fault_of_state(state), fault, "{state}");
        }
    }
}
