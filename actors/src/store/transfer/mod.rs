//! Moves everything from one database to another one, of the other engine or on another server, while no service runs.
//!
//! Until the move is complete, the new database has a mark and is used by nobody, and the old one is unchanged. Then
//! the old one gets a mark, and only after that, the new one loses its mark. So there is no moment at which both can be
//! used, whenever the move is cut off; and it can always begin again.

mod error;
mod numbering;
mod pictures;
mod rows;
mod schema;
#[cfg(test)]
mod tests;

use std::path::Path;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, Statement,
    sqlx::sqlite::SqliteConnectOptions,
};

use self::schema::Table;
pub use self::{
    error::MoveError,
    pictures::{FileError, PictureFiles},
};
use super::{
    Access, Location, OpenError, Store, StoreError,
    connection::{Connection, Transaction},
    copy, dialect, events,
    moved::{self, Mark, State},
    postgres, seq_gaps,
};
use crate::domain::{clock, event_log::SeqGap};

/// The tables of a database in which a service was only started. Their rows may be replaced.
const OF_A_START: [&str; 6] = ["log_clock", "history", "outages", "mqtt_config", "cluster", "ended_sessions"];

/// How far a move is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The table that is copied.
    pub table: &'a str,
    /// The number of rows that were copied.
    pub rows: u64,
    /// The number of all rows.
    pub of: u64,
}

/// What was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The number of rows in each table of the new database, in the order of their names.
    pub tables: Vec<(String, u64)>,
    /// The number of pictures.
    pub pictures: u64,
}

impl Moved {
    /// Returns the number of rows in a table.
    pub fn rows_of(&self, table: &str) -> u64 {
        self.tables.iter().find(|(name, _)| name == table).map_or(0, |(_, rows)| *rows)
    }
}

/// Moves everything. Calls `progress` after each batch of rows. The caller must hold the locks of the data directory
/// and of the database that is a file.
pub async fn transfer(
    from: &Location,
    to: &Location,
    files: &dyn PictureFiles,
    progress: impl FnMut(Progress<'_>),
) -> Result<Moved, MoveError> {
    if !from.is_on_server() && !to.is_on_server() {
        return Err(MoveError::BothFiles);
    }
    if from.to_string() == to.to_string() {
        return Err(MoveError::Same);
    }
    let source = End::open(from, Access::MoveFrom).await?;
    let moved = Box::pin(transfer_from(&source, from, to, files, progress)).await;
    source.close().await;
    moved
}

async fn transfer_from(
    source: &End,
    from: &Location,
    to: &Location,
    files: &dyn PictureFiles,
    progress: impl FnMut(Progress<'_>),
) -> Result<Moved, MoveError> {
    let left = moved::find(&source.db).await.map_err(|error| source.failed(error))?;
    let pending = require_usable(to).await?;
    require_own(from, to, left, pending)?;
    let target = End::open(to, Access::MoveTo).await?;
    // Only now, nothing else writes there: a service may have ended in the meantime.
    let checked = find_contents(&target.db).await.map_err(|error| target.failed(error));
    let moved = match checked.and_then(|contents| judge(to, contents)) {
        Ok(_) => Box::pin(copy_all(source, &target, files, progress)).await,
        Err(error) => Err(error),
    };
    target.close().await;
    moved
}

/// Allows the next start of a service with the database that was moved. Returns where the log was moved to.
pub async fn take_back(from: &Location) -> Result<Option<String>, MoveError> {
    let source = End::open(from, Access::MoveFrom).await?;
    let taken_back = async {
        let mark = moved::find(&source.store.write).await?.filter(|mark| mark.state == State::Moved);
        if mark.is_some() {
            moved::remove(&source.store.write).await?;
        }
        Ok(mark.map(|mark| mark.other))
    };
    let taken_back: Result<_, DbErr> = taken_back.await;
    let taken_back = taken_back.map_err(|error| source.failed(error));
    source.close().await;
    taken_back
}

/// Fails if the source must not be moved there. `left` is its mark, and `pending` that of the target.
fn require_own(
    from: &Location,
    to: &Location,
    left: Option<Mark>,
    pending: Option<Mark>,
) -> Result<(), MoveError> {
    let (from, to) = (from.to_string(), to.to_string());
    match (left, pending) {
        // A move was cut off: in general, or between its last two steps.
        (None, Some(pending)) if pending.other == from => Ok(()),
        (Some(left), Some(pending)) if pending.at == left.at => Ok(()),
        (_, Some(pending)) => Err(pending.into_error(to).into()),
        (None, None) => Ok(()),
        (Some(left), None) => Err(left.into_error(from).into()),
    }
}

/// Fails if the target contains anything that would be lost. Changes nothing. Returns the mark of a move that was cut
/// off.
async fn require_usable(to: &Location) -> Result<Option<Mark>, MoveError> {
    let db = match to {
        // It is created, or is not a database yet.
        Location::File(path) if is_missing_or_empty(path) => return Ok(None),
        Location::File(path) => {
            let options = SqliteConnectOptions::new().filename(path);
            copy::connect(options).await.map_err(|error| open_error(to, error))?
        }
        Location::Server(location) => postgres::connect_alone(location).await?,
    };
    let usable = find_contents(&db).await;
    let _closed = db.close().await;
    judge(to, usable.map_err(|error| open_error(to, error))?)
}

/// Returns the mark of a move that was cut off, if the database may be moved to.
fn judge(to: &Location, found: (Option<Mark>, Vec<(String, u64)>)) -> Result<Option<Mark>, MoveError> {
    match found {
        (Some(mark), _) if mark.state == State::Incomplete => Ok(Some(mark)),
        (Some(mark), _) => {
            Err(MoveError::TargetMoved { database: to.to_string(), other: mark.other, file: to.path() })
        }
        (None, contents) if contents.is_empty() => Ok(None),
        (None, contents) => Err(MoveError::NotEmpty { database: to.to_string(), contents, file: to.path() }),
    }
}

fn is_missing_or_empty(path: &Path) -> bool {
    path.metadata().map_or(true, |file| file.len() == 0)
}

fn open_error(location: &Location, error: DbErr) -> MoveError {
    match location {
        Location::File(path) => OpenError::of(path.clone(), error).into(),
        Location::Server(_) => MoveError::Target { database: location.to_string(), source: error.into() },
    }
}

/// Returns the mark, and the tables with rows that must not be replaced.
async fn find_contents(db: &DatabaseConnection) -> Result<(Option<Mark>, Vec<(String, u64)>), DbErr> {
    let is_there = schema::has_table(db, "moved").await?;
    let mark = if is_there { moved::find(db).await? } else { None };
    let mut contents = Vec::new();
    for table in schema::tables(db).await? {
        let rows = match table.name.as_str() {
            "mqtt_config" => count(db, "mqtt_config WHERE settings IS NOT NULL").await?,
            name if OF_A_START.contains(&name) => 0,
            name => count(db, &format!("\"{name}\"")).await?,
        };
        if rows > 0 {
            contents.push((table.name, rows));
        }
    }
    Ok((mark, contents))
}

async fn count(db: &impl ConnectionTrait, from: &str) -> Result<u64, DbErr> {
    let sql = format!("SELECT COUNT(*) AS rows FROM {from}");
    let row = db.query_one_raw(dialect::statement(db, sql, [])).await?;
    let rows: i64 = row.map_or(Ok(0), |row| row.try_get_by_index(0))?;
    Ok(u64::try_from(rows).unwrap_or(0))
}

/// A database that is moved from or to.
struct End {
    store: Store,
    /// For statements that may take long.
    db: DatabaseConnection,
    name: String,
    access: Access,
}

impl End {
    async fn open(location: &Location, access: Access) -> Result<Self, MoveError> {
        let store = Store::open(location, access).await?;
        let db = match (location, &store.write) {
            (Location::Server(location), _) => match postgres::connect_alone(location).await {
                Ok(db) => db,
                Err(error) => {
                    store.close().await;
                    return Err(error.into());
                }
            },
            // Nothing commits through the store here, so its connection stays in the pool.
            (_, Connection::File(kept)) => kept.pool().db().clone(),
            (_, Connection::FileReaders(db) | Connection::Readers(db)) => db.clone(),
            (_, Connection::Writer(_)) => unreachable!("a file has no server"),
        };
        Ok(Self { store, db, name: location.to_string(), access })
    }

    async fn close(&self) {
        let _closed = self.db.close_by_ref().await;
        self.store.close().await;
    }

    fn failed(&self, error: DbErr) -> MoveError {
        self.refused(error.into())
    }

    fn refused(&self, source: StoreError) -> MoveError {
        let database = self.name.clone();
        match self.access {
            Access::MoveTo => MoveError::Target { database, source },
            _ => MoveError::Source { database, source },
        }
    }

    /// Begins a transaction during which nothing else changes the database.
    async fn begin_alone(&self, tables: &[Table]) -> Result<DatabaseTransaction, DbErr> {
        let transaction = match Connection::Readers(self.db.clone()).begin().await? {
            Transaction::Sqlite(transaction) => transaction,
            Transaction::Postgres(_) => unreachable!("it is not the connection that writes"),
        };
        if transaction.get_database_backend() == DbBackend::Postgres {
            let names: Vec<_> = tables.iter().map(|table| format!("\"{}\"", table.name)).collect();
            // The transaction is idle while the rows are written to the other database.
            let sql = format!(
                "SET LOCAL idle_in_transaction_session_timeout = 0; LOCK TABLE {} IN EXCLUSIVE MODE",
                names.join(", ")
            );
            transaction.execute_unprepared(&sql).await?;
        }
        Ok(transaction)
    }
}

async fn copy_all(
    source: &End,
    target: &End,
    files: &dyn PictureFiles,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Moved, MoveError> {
    let from = |error| source.failed(error);
    let into = |error| target.failed(error);
    let mut tables = schema::tables(&source.db).await.map_err(from)?;
    let mut of_target = schema::tables(&target.db).await.map_err(into)?;
    if !(source.store.is_on_server() && target.store.is_on_server()) {
        tables.retain(|table| !table.is_shared());
        of_target.retain(|table| !table.is_shared());
    }
    if tables != of_target {
        return Err(MoveError::Schemas { from: source.name.clone(), other: target.name.clone() });
    }
    let reading = source.begin_alone(&tables).await.map_err(from)?;
    let before = moved::find(&reading).await.map_err(from)?;
    let at = before.map_or_else(clock::now, |mark| mark.at);
    let incomplete = Mark { state: State::Incomplete, other: source.name.clone(), at };
    moved::set(&target.store.write, &incomplete).await.map_err(into)?;
    empty(&target.db, &tables).await.map_err(into)?;
    let rows = copy_tables(source, &reading, target, &tables, &mut progress).await?;
    let pictures = pictures::copy(source, &reading, target, files, &mut progress).await?;
    numbering::copy(&reading, &target.db, &tables).await.map_err(into)?;
    keep_positions(source, &reading, target).await?;
    let mark = Mark { state: State::Moved, other: target.name.clone(), at };
    moved::set(&reading, &mark).await.map_err(from)?;
    reading.commit().await.map_err(from)?;
    moved::remove(&target.store.write).await.map_err(into)?;
    Ok(Moved { tables: tables.into_iter().map(|table| table.name).zip(rows).collect(), pictures })
}

/// Removes what a service that was only started, or a move that was cut off, has left.
async fn empty(db: &DatabaseConnection, tables: &[Table]) -> Result<(), DbErr> {
    let names: Vec<_> = tables.iter().map(|table| format!("\"{}\"", table.name)).collect();
    if db.get_database_backend() == DbBackend::Postgres {
        let others = ", liveobject.cluster, liveobject.ended_sessions, pictures";
        return db.execute_unprepared(&format!("TRUNCATE {}{others}", names.join(", "))).await.map(drop);
    }
    for name in names {
        db.execute_unprepared(&format!("DELETE FROM {name}")).await?;
    }
    Ok(())
}

/// Copies all rows, and returns how many rows each table then has.
async fn copy_tables(
    source: &End,
    reading: &DatabaseTransaction,
    target: &End,
    tables: &[Table],
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Vec<u64>, MoveError> {
    let mut expected = Vec::with_capacity(tables.len());
    for table in tables {
        let rows = count(reading, &format!("\"{}\"", table.name)).await;
        expected.push(rows.map_err(|error| source.failed(error))?);
    }
    let (mut rows, of) = (0, expected.iter().sum());
    for (table, expected) in tables.iter().zip(&expected) {
        let failed = |error| source.failed(error).in_table(&table.name);
        let mut reader = rows::Reader::new(table);
        loop {
            let batch = reader.next(reading).await.map_err(failed)?;
            if batch.is_empty() {
                break;
            }
            rows += batch.len() as u64;
            let insertion: Statement = rows::insertion(&target.db, table, batch);
            let written = target.db.execute_raw(insertion).await;
            written.map_err(|error| target.failed(error).in_table(&table.name))?;
            progress(Progress { table: &table.name, rows, of });
        }
        let found = count(&target.db, &format!("\"{}\"", table.name)).await;
        let found = found.map_err(|error| target.failed(error))?;
        if found != *expected {
            let table = table.name.clone();
            return Err(MoveError::Count { table, expected: *expected, found });
        }
    }
    Ok(expected)
}

/// Ensures that the new database gives no position again that the old one has given, even to events that it does not
/// contain: the file next to it may contain a higher one.
async fn keep_positions(source: &End, reading: &DatabaseTransaction, target: &End) -> Result<(), MoveError> {
    let mut last = events::last_seq(reading).await.map_err(|error| source.failed(error))?;
    if let Some(marked) = source.store.path().and_then(copy::marked_seq) {
        last = last.max(marked);
    }
    let kept = async {
        let known = events::last_seq(&target.db).await?;
        if known < last {
            seq_gaps::insert(&target.db, SeqGap { first: known.next(), last }).await?;
        }
        Ok(())
    };
    let kept: Result<(), DbErr> = kept.await;
    kept.map_err(|error| target.failed(error))
}
