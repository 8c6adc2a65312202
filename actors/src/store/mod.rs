//! The database: a SQLite file, or a database on a PostgreSQL server, with one file here for each table. This is the
//! only module that contains SQL.
//!
//! All writes use one connection, so that writers queue in memory instead of competing for SQLite's lock. A
//! commit is on disk when it returns (WAL, `synchronous=FULL`). Queries use at most two other connections,
//! which see the last commit and never delay a write.
//!
//! The actors call the methods in `api`; the connections are private to this module.

mod api;
mod camera_days;
mod cameras;
mod cluster;
mod commit;
mod connection;
pub mod copy;
mod dead_events;
mod decide;
mod deliveries;
mod deliveries_ahead;
mod delivery_notes;
mod dialect;
mod discovery_topics;
mod error;
mod event_log;
mod events;
mod file;
mod gate;
mod heard_topics;
mod history;
mod kept;
mod known;
mod location;
mod log_clock;
mod moved;
mod mqtt_config;
mod outages;
mod ownership;
mod page;
mod pictures;
mod postgres;
mod replays;
mod retries;
mod search;
mod seen;
mod seq_gaps;
mod seq_mark;
mod statements;
mod sweep;
#[cfg(test)]
mod tests;
mod tokens;
mod tracked;
pub mod transfer;
mod wal;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use liveobject_migration::{MigrationTrait, Migrator, MigratorTrait};
use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DbErr, RuntimeErr, Statement,
    sqlx::{
        self, ConnectOptions, Connection as _,
        sqlite::{
            SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
        },
    },
};

use crate::domain::{
    causes::with_causes,
    lease::{NodeId, Term},
    store_fault::DatabasePlace,
    token::TokenHash,
};
pub use cluster::ActiveNode;
use connection::Connection;
use delivery_notes::NotesFile;
pub use error::{OpenError, StoreError};
use file::OpenFile;
use kept::Kept;
use known::KnownCameras;
pub use location::Location;
use log_clock::Clocks;
pub use moved::Mark;
pub use postgres::{Access, Location as ServerLocation, ServerFault};
use seq_mark::SeqMark;
use statements::Transaction;

#[cfg(test)]
pub(crate) use self::gate::TestOwner;
pub(crate) use self::{
    api::charts::OutageReader,
    cluster::SharedKeysRow,
    commit::{Batch, CommitError, Committed, Context as CommitContext, DeadAndRetrying, is_small},
    dead_events::DeadEvent,
    delivery_notes::{DeliveryNotes, MAX_RANGES as MAX_NOTED_RANGES},
    event_log::QueryContext,
    events::Place,
    gate::Gate,
    location::next_to,
    mqtt_config::{Model as MqttConfigRow, SecretColumn},
    ownership::{Ownership, new_term, now},
    pictures::Removed as PicturesRemoved,
    postgres::{Beat, NodeConnection, NodeDescription},
    replays::{Found, Matching},
    retries::RetryingEvent,
    search::Progress as IndexProgress,
    sweep::{OldEvents, Swept},
    tokens::Inserted,
    wal::Unmerged,
};

/// How long to wait for another process's lock (a backup, a shell) before an operation fails as locked.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait for a connection within this process. Longer than `BUSY_TIMEOUT`, so that the operation
/// that is blocked by the lock fails first and reports the cause.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Reads are rare: a list for a client, or a page of the backlog.
const MAX_READERS: u32 = 2;
/// A reader occupies a thread and a cache, so an idle one is closed.
const READER_IDLE: Duration = Duration::from_secs(30);
/// In KiB, negative as SQLite expects. The log is appended to and read once, so a larger cache has no
/// benefit.
const CACHE_KIB: &str = "-1024";
/// The size to which the write-ahead log is truncated after a long read has delayed its reset.
const JOURNAL_LIMIT_BYTES: &str = "67108864";
/// The size of the pages of a new database, in bytes. A commit of one event writes five or six pages to the
/// write-ahead log, each as a whole, so small pages wear the disk less, but large commits take more CPU time (see
/// docs/performance.md). An existing database keeps its page size; a copy for a backup (see [`copy`]) gets this one.
const PAGE_BYTES: u32 = 2048;
/// The size of the write-ahead log at which SQLite merges it into the file. A page that changes with every commit is
/// merged only once, so merging less often is cheaper, but the start after a crash takes longer. Usually, [`wal`] has
/// already merged the log.
const CHECKPOINT_BYTES: u32 = 16 * 1024 * 1024;
/// Capacity of the statement cache; higher than the number of statements in use.
const STATEMENTS: usize = 64;

/// The open database. Cheap to clone; dropping the last clone closes it.
#[derive(Debug, Clone)]
pub struct Store {
    /// The only connection that writes.
    write: Connection,
    /// Read-only connections, opened on demand.
    read: Connection,
    engine: Engine,
    known: KnownCameras,
    clocks: Clocks,
    search: Arc<search::Shared>,
    /// Set by the service that assigns positions.
    mark: Arc<OnceLock<SeqMark>>,
    /// Set by the service that delivers events.
    notes: Arc<OnceLock<NotesFile>>,
}

/// The engine of a database, and what only this engine has.
#[derive(Debug, Clone)]
enum Engine {
    Sqlite(SqliteFile),
    Postgres {
        /// Writes pictures. It has the fence of the writing connection.
        pictures: Connection,
    },
}

/// An open SQLite database.
#[derive(Debug, Clone)]
struct SqliteFile {
    /// The size of a page, in bytes.
    page_bytes: u32,
    file: Arc<OpenFile>,
}

impl Store {
    fn new(write: Connection, read: Connection, engine: Engine) -> Self {
        Self {
            write,
            read,
            engine,
            known: KnownCameras::default(),
            clocks: Clocks::default(),
            mark: Arc::default(),
            notes: Arc::default(),
            search: Arc::default(),
        }
    }

    /// Creates an empty database if the file is missing, so that it can be locked.
    pub fn create_file(path: &Path) -> Result<(), OpenError> {
        location::prepare(path).map_err(|source| OpenError::File { path: path.to_owned(), source })
    }

    /// Opens the database at this path, and migrates its schema.
    ///
    /// Creates a missing file with mode 0600, in a directory with mode 0700. The caller must hold the lock of
    /// the data directory.
    pub async fn open_file(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, Access::Service).await
    }

    /// Like [`open_file`](Self::open_file), for a database that a running service uses. Its schema is not migrated: the
    /// service may be of an earlier version.
    pub async fn open_in_use(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, Access::Command).await
    }

    /// Opens the database at this location. The schema of a file is migrated, and that of a database on a server if
    /// `access` is that of a service. The caller must hold the lock of the data directory, unless it is a command that
    /// runs at the same time as a service.
    pub async fn open(location: &Location, access: Access) -> Result<Self, OpenError> {
        match (location, access) {
            (Location::File(path), access) => Self::open_with(path, access).await,
            (Location::Server(location), access) => postgres::open(location, access).await,
        }
    }

    /// Opens the database on a server for the owner of the log. Its claim of this term must have been granted, by a
    /// [`NodeConnection`], which has also created the tables. Everything that the store writes depends on the term.
    pub(crate) async fn open_owned(
        location: &ServerLocation,
        ownership: Ownership,
        term: Term,
    ) -> Result<Self, OpenError> {
        postgres::open_owned(location, ownership, term).await
    }

    /// Stores the hash of a node's admin token in a database on a server, which the owner of the log accepts too. The
    /// tables must exist.
    pub async fn publish_admin_token(
        location: &ServerLocation,
        node: NodeId,
        hash: &TokenHash,
    ) -> Result<(), StoreError> {
        postgres::publish_admin_token(location, node, hash).await
    }

    async fn open_with(path: &Path, access: Access) -> Result<Self, OpenError> {
        Self::create_file(path)?;
        let cannot_open = |source| OpenError::File { path: path.to_owned(), source };
        let file = OpenFile::at(path).map_err(cannot_open)?;
        let mut store =
            Self::connect(path, file).await.map_err(|error| OpenError::of(path.to_owned(), error))?;
        match store.prepare(path, access).await {
            Ok(()) => Ok(store),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    /// Returns the open file; `None` if the database is on a server.
    fn file(&self) -> Option<&OpenFile> {
        match &self.engine {
            Engine::Sqlite(sqlite) => Some(&sqlite.file),
            Engine::Postgres { .. } => None,
        }
    }

    /// Returns whether the database is on a server, where several nodes can share it.
    pub fn is_on_server(&self) -> bool {
        matches!(self.engine, Engine::Postgres { .. })
    }

    /// Returns where the database is.
    pub fn place(&self) -> DatabasePlace {
        if self.is_on_server() { DatabasePlace::Server } else { DatabasePlace::File }
    }

    /// Returns the path of the database file; `None` if the database is on a server.
    pub fn path(&self) -> Option<&Path> {
        self.file().map(OpenFile::path)
    }

    /// Returns the size of the database file and its write-ahead log, in bytes; 0 if they are missing, `None` if the
    /// database is on a server.
    pub fn size(&self) -> Option<u64> {
        self.file().map(OpenFile::size)
    }

    /// Closes all connections after running operations have finished, merges the write-ahead log into the file,
    /// and syncs the mark. Later calls fail.
    pub async fn close(&self) {
        if self.file().is_some_and(|file| !file.is_in_place()) {
            // If another program has deleted the write-ahead log, closing may not merge it.
            let _merged = wal::merge(self).await;
        }
        self.read.close().await;
        if let Engine::Postgres { pictures } = &self.engine {
            pictures.close().await;
        }
        self.write.close().await;
        let store = self.clone();
        // Fails only if the runtime is shutting down.
        let _synced = tokio::task::spawn_blocking(move || store.sync_mark()).await;
    }

    async fn connect(path: &Path, file: OpenFile) -> Result<Self, DbErr> {
        let file = Arc::new(file);
        let page_bytes = file::page_bytes(path).unwrap_or(PAGE_BYTES);
        let opened = Arc::clone(&file);
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
            .page_size(PAGE_BYTES)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("journal_size_limit", JOURNAL_LIMIT_BYTES)
            .pragma("wal_autocheckpoint", (CHECKPOINT_BYTES / page_bytes).to_string());
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .min_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            // A file does not disconnect as a server might, and the test would take as long as a write.
            .test_before_acquire(false)
            .after_connect(move |_, _| {
                opened.writer_connected();
                Box::pin(async { Ok(()) })
            })
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
        let write = Connection::File(Kept::new(write.into()));
        let read = Connection::FileReaders(read.into());
        Ok(Self::new(write, read, Engine::Sqlite(SqliteFile { page_bytes, file })))
    }

    async fn prepare(&mut self, path: &Path, access: Access) -> Result<(), OpenError> {
        let migrates = access != Access::Command;
        self.migrate(path, migrates).await?;
        let mark = moved::find(&self.write).await.map_err(|error| OpenError::of(path.to_owned(), error))?;
        if let Some(mark) = mark.filter(|_| access.respects_marks()) {
            return Err(mark.into_error(path.display().to_string()));
        }
        let resumed = log_clock::resume(&self.write).await;
        self.clocks = resumed.map_err(|error| OpenError::of(path.to_owned(), error))?;
        if migrates {
            self.write_cameras().await;
        }
        Ok(())
    }

    /// Writes what the rows of the cameras do not contain yet. If that fails, for example because the disk is full, the
    /// events are added whenever the rows are read.
    async fn write_cameras(&self) {
        if let Err(error) = tracked::write_all(self).await {
            tracing::warn!(
                error = %with_causes(&error),
                "cannot write the newest events of cameras to their rows; trying again later"
            );
        }
    }

    /// Applies pending migrations, after checking that this binary knows the schema and can write. Fails if there are
    /// some and `migrates` is not set.
    async fn migrate(&self, path: &Path, migrates: bool) -> Result<(), OpenError> {
        let fail = |error| OpenError::of(path.to_owned(), error);
        let db = self.sqlite();
        let applied = applied_migrations(db).await.map_err(fail)?;
        let unknown = unknown_migrations(&applied);
        if !unknown.is_empty() {
            return Err(OpenError::Newer { path: path.to_owned(), unknown });
        }
        // Takes and releases the write lock, so that a lock held by another process is reported now and not
        // at the first event.
        self.begin().await.map_err(fail)?.rollback().await.map_err(fail)?;
        let pending = Migrator::get_pending_migrations_read_only(db).await.map_err(fail)?;
        if pending.is_empty() {
            return Ok(());
        }
        if !migrates {
            return Err(OpenError::Older { path: path.to_owned() });
        }
        if !applied.is_empty() {
            tracing::info!(changes = pending.len(), "upgrading the database");
            self.copy_before_upgrade(path).await?;
        }
        Migrator::up(db, None).await.map_err(fail)
    }

    /// Copies the database to a file next to it, so that the earlier version can be used again. Replaces the copy of an
    /// earlier upgrade.
    async fn copy_before_upgrade(&self, path: &Path) -> Result<(), OpenError> {
        let target = before_upgrade(path);
        let copied = copy::to_file(self.sqlite(), &target).await;
        copied.map_err(|source| OpenError::Copy { path: target.clone(), source })?;
        tracing::info!(copy = %target.display(), "copied the database before its upgrade");
        Ok(())
    }

    /// Returns the writing connection to the file. Used before the first commit.
    fn sqlite(&self) -> &DatabaseConnection {
        let Connection::File(kept) = &self.write else { unreachable!("only a file is migrated here") };
        kept.unguarded()
    }

    /// Keeps the writing connection busy until the result is dropped.
    #[cfg(test)]
    pub(crate) async fn occupy(&self) -> impl Sized + use<> {
        self.begin().await.expect("the database responds")
    }

    /// Begins a transaction that writes.
    async fn begin(&self) -> Result<connection::Transaction, DbErr> {
        self.write.begin().await
    }

    /// Executes these statements in one transaction that is not synced to disk; the next synced one includes it.
    async fn write_unsynced(&self, statements: Vec<Statement>) -> Result<(), DbErr> {
        self.write_unsynced_if(statements, || true).await.map(drop)
    }

    /// Does the same if `is_wanted` still returns `true` when nothing else can write. Returns its result.
    async fn write_unsynced_if(
        &self,
        statements: Vec<Statement>,
        is_wanted: impl FnOnce() -> bool,
    ) -> Result<bool, DbErr> {
        match &self.write {
            Connection::File(kept) => {
                let transaction = Transaction::new(kept).await?;
                if !is_wanted() {
                    return Ok(false);
                }
                transaction.execute_and_commit_unsynced(statements).await?;
            }
            Connection::FileReaders(_) | Connection::Readers(_) => {
                unreachable!("these connections do not write")
            }
            Connection::Writer(held) => {
                let mut transaction = held.begin().await?;
                if !is_wanted() {
                    transaction.rollback().await?;
                    return Ok(false);
                }
                transaction.skip_sync().await?;
                for statement in statements {
                    transaction.execute_raw(statement).await?;
                }
                transaction.commit().await?;
            }
        }
        Ok(true)
    }
}

/// Returns the names of the applied migrations, in order.
async fn applied_migrations(db: &DatabaseConnection) -> Result<Vec<String>, DbErr> {
    let applied = Migrator::get_migration_models(db).await?;
    let mut names: Vec<_> = applied.into_iter().map(|row| row.version).collect();
    names.sort_unstable();
    Ok(names)
}

/// Returns those of these migrations that this version does not know.
fn unknown_migrations(applied: &[String]) -> Vec<String> {
    unknown_among(&Migrator::migrations(), applied)
}

/// Returns those of the applied migrations that are not known.
fn unknown_among(known: &[Box<dyn MigrationTrait>], applied: &[String]) -> Vec<String> {
    let known: HashSet<String> = known.iter().map(|m| m.name().to_owned()).collect();
    applied.iter().filter(|name| !known.contains(*name)).cloned().collect()
}

/// Returns the path of the copy that is made of a database before its schema is upgraded.
pub(crate) fn before_upgrade(database: &Path) -> PathBuf {
    next_to(database, ".before-upgrade")
}

/// Returns whether a released connection may be reused. Otherwise it is closed, and the next write opens a
/// new one.
///
/// On a full disk, SQLite rolls back a transaction on its own. The rollback of the driver then fails, and its
/// count of open transactions stays one too high: later "commits" would only release a savepoint and store
/// nothing.
async fn is_sound(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
    if connection.is_in_transaction() {
        // The transaction was dropped and its rollback is queued; the ping returns after it.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}
