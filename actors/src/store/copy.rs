//! Copies of the database file: for a backup, while other processes use the database, and before an upgrade.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbErr, RuntimeErr, Statement,
    sqlx::{
        self, ConnectOptions as _, Connection as _,
        sqlite::{SqliteConnectOptions, SqlitePoolOptions},
    },
};

use super::{
    ACQUIRE_TIMEOUT, BUSY_TIMEOUT, OpenError, PAGE_BYTES, applied_migrations, events, location::next_to,
    seq_gaps, seq_mark, unknown_migrations,
};
use crate::domain::{event_log::SeqGap, ids::Seq};

const NOT_TEXT: &str = "the path is not valid UTF-8";

/// What a database contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The name of the last migration.
    pub schema: String,
    /// The last position that was given to an event.
    pub last_seq: Seq,
    /// The number of events in the log.
    pub events: u64,
    /// The position of the oldest event in the log; `None` if it is empty.
    pub first_seq: Option<Seq>,
    /// The number of cameras.
    pub cameras: u64,
    /// Whether MQTT settings are stored. Without them, those of the configuration are used.
    pub has_mqtt_settings: bool,
    /// Whether a broker is set.
    pub has_broker: bool,
    /// Whether MQTT is switched on.
    pub is_mqtt_enabled: bool,
}

/// Writes a compact, consistent copy of a database, which other processes may use in the meantime, to `target`: a
/// missing or empty file. Needs as much space as the data, and holds no lock that would delay a commit.
///
/// Calls `progress` often, on the thread that writes. It may sleep. If it returns false, the copy fails.
pub async fn copy(
    database: &Path,
    target: &Path,
    progress: impl FnMut() -> bool + Send + 'static,
) -> Result<(), OpenError> {
    /// The number of SQLite's instructions between two calls: a few hundred rows. A call takes a microsecond.
    const OPERATIONS: i32 = 1000;
    let options = SqliteConnectOptions::new().filename(database).busy_timeout(BUSY_TIMEOUT);
    // The pages of the copy have the size of those of a new database.
    let options = options.create_if_missing(false).page_size(PAGE_BYTES).disable_statement_logging();
    let copied = async {
        let mut db = options.connect().await?;
        db.lock_handle().await?.set_progress_handler(OPERATIONS, progress);
        let target = target.to_str().ok_or_else(|| sqlx::Error::Protocol(NOT_TEXT.to_owned()))?;
        let copied = sqlx::query("VACUUM INTO ?").bind(target).execute(&mut db).await.map(drop);
        let _closed = db.close().await;
        copied
    };
    let copied: Result<(), sqlx::Error> = copied.await;
    let fail = |error: sqlx::Error| DbErr::Exec(RuntimeErr::SqlxError(error.into()));
    copied.map_err(|error| OpenError::of(database.to_owned(), fail(error)))
}

/// Copies the database of a connection to a file. An existing file is replaced only once the copy is complete and
/// synced.
pub(super) async fn to_file(db: &DatabaseConnection, target: &Path) -> Result<(), DbErr> {
    let io = |error: io::Error| DbErr::Custom(error.to_string());
    let unfinished = PathBuf::from(format!("{}.unfinished", target.display()));
    // A process that was killed may have left this file.
    let _removed = fs::remove_file(&unfinished);
    // Private from the start; SQLite accepts an empty file.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).map_err(io)?;
    let copied = vacuum_into(db, &unfinished).await.and_then(|()| publish(&unfinished, target).map_err(io));
    if copied.is_err() {
        let _removed = fs::remove_file(&unfinished);
    }
    copied
}

/// Syncs a file and gives it its name.
fn publish(unfinished: &Path, target: &Path) -> io::Result<()> {
    File::open(unfinished)?.sync_all()?;
    fs::rename(unfinished, target)?;
    target.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// Writes a compact copy of the database. Its pages have the size of those of a new database.
async fn vacuum_into(db: &DatabaseConnection, target: &Path) -> Result<(), DbErr> {
    let target = target.to_str().ok_or_else(|| DbErr::Custom(NOT_TEXT.to_owned()))?;
    db.execute_unprepared(&format!("PRAGMA page_size={PAGE_BYTES}")).await?;
    let values = [target.into()];
    let statement = Statement::from_sql_and_values(db.get_database_backend(), "VACUUM INTO ?", values);
    db.execute_raw(statement).await.map(drop)
}

/// Checks a copy that nothing else uses, and returns what it contains. Fails if it is damaged or was written by a newer
/// version.
pub async fn inspect(copy: &Path) -> Result<Contents, OpenError> {
    let options = SqliteConnectOptions::new().filename(copy).read_only(true).immutable(true);
    let fail = |error| OpenError::of(copy.to_owned(), error);
    let db = connect(options).await.map_err(fail)?;
    let contents = contents(&db, copy).await;
    let _closed = db.close().await;
    contents
}

async fn contents(db: &DatabaseConnection, path: &Path) -> Result<Contents, OpenError> {
    let fail = |error| OpenError::of(path.to_owned(), error);
    let text = |sql: &'static str| async move {
        let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await?;
        row.map_or(Ok(String::new()), |row| row.try_get_by_index::<String>(0))
    };
    let check = text("PRAGMA quick_check(1)").await.map_err(fail)?;
    if check != "ok" {
        let source = DbErr::Custom(check);
        return Err(OpenError::Damaged { path: path.to_owned(), source });
    }
    let mut applied = applied_migrations(db).await.map_err(fail)?;
    let unknown = unknown_migrations(&applied);
    if !unknown.is_empty() {
        return Err(OpenError::Newer { path: path.to_owned(), unknown });
    }
    let last_seq = events::last_seq(db).await.map_err(fail)?;
    let events = text("SELECT CAST(COUNT(*) AS TEXT) FROM events").await.map_err(fail)?;
    let first_seq = text("SELECT COALESCE(CAST(MIN(seq) AS TEXT), '') FROM events").await.map_err(fail)?;
    let cameras = text("SELECT CAST(COUNT(*) AS TEXT) FROM cameras").await.map_err(fail)?;
    let settings = |sql| async move { text(sql).await.map(|value| value == "1").map_err(fail) };
    let has_settings = "SELECT CAST(settings IS NOT NULL AS TEXT) FROM mqtt_config";
    let has_broker =
        "SELECT CAST(COALESCE(json_extract(settings, '$.broker_host'), '') <> '' AS TEXT) FROM mqtt_config";
    let enabled = "SELECT CAST(COALESCE(json_extract(settings, '$.enabled'), 0) AS TEXT) FROM mqtt_config";
    Ok(Contents {
        schema: applied.pop().unwrap_or_default(),
        last_seq,
        events: events.parse().unwrap_or_default(),
        first_seq: first_seq.parse().ok().map(Seq),
        cameras: cameras.parse().unwrap_or_default(),
        has_mqtt_settings: settings(has_settings).await?,
        has_broker: settings(has_broker).await?,
        is_mqtt_enabled: settings(enabled).await?,
    })
}

/// Prepares a copy that nothing else uses to be used in place of the original: new events get positions above `last`.
/// Optionally switches MQTT off.
pub async fn prepare(copy: &Path, last: Seq, switches_mqtt_off: bool) -> Result<(), OpenError> {
    let fail = |error| OpenError::of(copy.to_owned(), error);
    let db = connect(SqliteConnectOptions::new().filename(copy)).await.map_err(fail)?;
    let done = prepare_with(&db, last, switches_mqtt_off).await;
    let _closed = db.close().await;
    done.map_err(fail)
}

async fn prepare_with(db: &DatabaseConnection, last: Seq, switches_mqtt_off: bool) -> Result<(), DbErr> {
    const HAS_GAPS: &str = "SELECT 1 FROM sqlite_schema WHERE name = 'seq_gaps'";
    const OFF: &str = "UPDATE mqtt_config SET settings = json_set(settings, '$.enabled', json('false')) \
        WHERE settings IS NOT NULL";
    let has_gaps = Statement::from_string(db.get_database_backend(), HAS_GAPS);
    // The database of an early version has no such table. The file next to the database then has the same effect, but
    // the status shows a warning.
    if db.query_one_raw(has_gaps).await?.is_some() {
        let first = events::last_seq(db).await?.next();
        seq_gaps::insert(db, SeqGap { first, last }).await?;
    }
    if switches_mqtt_off {
        db.execute_unprepared(OFF).await?;
    }
    Ok(())
}

/// Returns the last position that was given to an event of a database, as far as the database or the file next to it
/// can be read.
pub async fn last_seq(database: &Path) -> Option<Seq> {
    let marked = marked_seq(database);
    let options = SqliteConnectOptions::new().filename(database).busy_timeout(BUSY_TIMEOUT);
    let stored = match connect(options).await {
        Ok(db) => {
            let last = events::last_seq(&db).await.ok();
            let _closed = db.close().await;
            last
        }
        Err(_) => None,
    };
    marked.max(stored)
}

/// Returns the last position in the file next to a database, if it can be read.
pub(super) fn marked_seq(database: &Path) -> Option<Seq> {
    seq_mark::SeqMark::open(database).1
}

/// Returns the path and the content of the file next to a database with which new events get positions above `last`.
pub fn seq_file(database: &Path, last: Seq) -> (PathBuf, String) {
    (next_to(database, seq_mark::SUFFIX), seq_mark::content(last))
}

pub(super) async fn connect(options: SqliteConnectOptions) -> Result<DatabaseConnection, DbErr> {
    let options = options.create_if_missing(false);
    let pool = SqlitePoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT);
    let pool = pool.connect_with(options.disable_statement_logging()).await;
    pool.map(Into::into).map_err(|error| DbErr::Conn(RuntimeErr::SqlxError(error.into())))
}
