//! The database: one SQLite file, one file here for each table.
//!
//! Every write goes through one connection, so that writers queue in memory instead of meeting SQLite's lock, and what
//! a commit has answered is on the disk (WAL, `synchronous=FULL`). Questions are read by at most two others, which see
//! the last commit and never hold up a write. This is the only place that knows SQL.

pub(crate) mod camera_days;
pub(crate) mod cameras;
pub(crate) mod commit;
pub(crate) mod dead_events;
pub(crate) mod decide;
pub(crate) mod deliveries;
pub(crate) mod discovery_topics;
mod error;
pub(crate) mod event_log;
pub(crate) mod events;
mod known;
mod location;
pub mod mqtt_config;
pub(crate) mod page;
pub(crate) mod retries;
pub(crate) mod seen;
mod statements;
pub(crate) mod sweep;
#[cfg(test)]
mod tests;
pub(crate) mod tokens;
pub(crate) mod wal;

use std::{collections::HashSet, path::Path, time::Duration};

use liveobject_migration::{Migrator, MigratorTrait};
use sea_orm::{
    DatabaseConnection, DbErr, RuntimeErr, SqliteTransactionMode, TransactionOptions, TransactionTrait,
    sqlx::{
        self, ConnectOptions, Connection as _,
        sqlite::{
            SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
        },
    },
};

pub use error::{OpenError, StoreError};
use known::KnownCameras;

/// How long to wait for another process's lock (a backup, a shell) before an operation fails as locked.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait for a connection of this process; above `BUSY_TIMEOUT`, so that the one who is really blocked says why.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Reads are rare: a list asked for, a page of a backlog.
const MAX_READERS: u32 = 2;
/// A reader costs a thread and its cache; it goes when nobody asks.
const READER_IDLE: Duration = Duration::from_secs(30);
/// Kibibytes, negative as SQLite wants it: the log is written at its end and read once, a larger cache gains nothing.
const CACHE_KIB: &str = "-1024";
/// To what size the write-ahead log is cut back after a long read held up its clearing.
const JOURNAL_LIMIT_BYTES: &str = "67108864";
/// After how many pages of 4 KiB what the write-ahead log holds goes to its place in the file. Pages that change with every
/// commit go there once for all of them, so that fewer times gain; after a crash the start reads so much again. Mostly it has
/// gone there before, see [`wal`].
const CHECKPOINT_PAGES: &str = "4000";
/// More statements than the actors have.
const STATEMENTS: usize = 64;

/// The open database. Cheap to clone; the last clone closes it.
#[derive(Debug, Clone)]
pub struct Store {
    /// The one connection that writes.
    pub(crate) write: DatabaseConnection,
    /// Connections that only read, opened when they are needed.
    pub(crate) read: DatabaseConnection,
    known: KnownCameras,
}

impl Store {
    /// Opens the database that a URL (`sqlite://PATH`) or a path names, and brings its schema up to date.
    ///
    /// A missing file is made, mode 0600, in a directory of mode 0700. The caller holds the data directory's lock.
    pub async fn open(url_or_path: &str) -> Result<Self, OpenError> {
        Self::open_file(&location::parse(url_or_path)?).await
    }

    /// [`open`](Self::open), for a path.
    pub async fn open_file(path: &Path) -> Result<Self, OpenError> {
        location::prepare(path).map_err(|source| OpenError::File { path: path.to_owned(), source })?;
        let store = Self::connect(path).await.map_err(|error| OpenError::of(path.to_owned(), error))?;
        match store.migrate(path).await {
            Ok(()) => Ok(store),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    /// Closes every connection, waiting for what is under way; the write-ahead log is then merged into the file. Later
    /// calls fail.
    pub async fn close(&self) {
        for connections in [&self.read, &self.write] {
            // It only fails for connections that are not a pool's, and these are.
            let _ = connections.close_by_ref().await;
        }
    }

    async fn connect(path: &Path) -> Result<Self, DbErr> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .foreign_keys(false)
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(STATEMENTS)
            .pragma("cache_size", CACHE_KIB)
            .pragma("temp_store", "MEMORY")
            .disable_statement_logging();
        let writer = options
            .clone()
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("journal_size_limit", JOURNAL_LIMIT_BYTES)
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES);
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .min_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            // A file does not go away as a server does, and asking takes as long as a write.
            .test_before_acquire(false)
            .after_release(|connection, _| Box::pin(is_sound(connection)))
            .connect_with(writer)
            .await
            .map_err(|error| DbErr::Conn(RuntimeErr::SqlxError(error.into())))?;
        let read = SqlitePoolOptions::new()
            .max_connections(MAX_READERS)
            .test_before_acquire(false)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(READER_IDLE)
            .connect_lazy_with(options.pragma("query_only", "ON"));
        Ok(Self { write: write.into(), read: read.into(), known: KnownCameras::default() })
    }

    /// Applies what is missing, after making sure that this binary knows the schema and may write.
    async fn migrate(&self, path: &Path) -> Result<(), OpenError> {
        let fail = |error| OpenError::of(path.to_owned(), error);
        let unknown = self.unknown_migrations().await.map_err(fail)?;
        if !unknown.is_empty() {
            return Err(OpenError::Newer { path: path.to_owned(), unknown });
        }
        // Takes the write lock and gives it back: tells now, not at the first event, that another process holds it.
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        self.write.begin_with_options(options).await.map_err(fail)?.rollback().await.map_err(fail)?;
        let pending = Migrator::get_pending_migrations_read_only(&self.write).await.map_err(fail)?;
        if pending.is_empty() { Ok(()) } else { Migrator::up(&self.write, None).await.map_err(fail) }
    }

    async fn unknown_migrations(&self) -> Result<Vec<String>, DbErr> {
        let known: HashSet<String> = Migrator::migrations().iter().map(|m| m.name().to_owned()).collect();
        let applied = Migrator::get_migration_models(&self.write).await?;
        Ok(applied.into_iter().map(|row| row.version).filter(|name| !known.contains(name)).collect())
    }
}

/// Whether a connection that comes back may be used again; otherwise it is closed, and the next write opens another.
///
/// On a full disk SQLite ends a transaction by itself. The driver's own rollback then fails, and it counts one open
/// transaction too many from then on: later "commits" would only release a savepoint, and keep nothing.
async fn is_sound(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
    if connection.is_in_transaction() {
        // It was dropped, and its rollback waits; answered after that.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}
