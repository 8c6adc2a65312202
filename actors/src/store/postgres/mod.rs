//! A database on a PostgreSQL server. See [`super::dialect`] for the statements.
//!
//! As with SQLite, all writes use one connection. Its session holds an advisory lock of the server, so that no other
//! service can write to the log: a service that loses the connection loses the lock, and must get it again before it
//! writes. Commands write without the lock, but not to the log.

mod commit;
mod fault;
mod held;
mod location;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use liveobject_migration::{
    MigratorTrait,
    postgres::{PostgresMigrator, SHARED},
};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbErr, RuntimeErr,
    sqlx::{
        self, ConnectOptions as _, Connection as _, Row as _,
        postgres::{PgConnectOptions, PgConnection, PgPoolOptions, PgSslMode},
    },
};
use tokio::time::{Instant, sleep, timeout};

use self::location::{Host, Tls};
pub use self::{
    commit::Writer,
    fault::{ServerFault, fault_of, is_duplicate_event},
    held::{Held, Transaction, within_deadline},
    location::Location,
};
use super::{
    ACQUIRE_TIMEOUT, Engine, MAX_READERS, OpenError, READER_IDLE, STATEMENTS, Store,
    connection::Connection,
    log_clock,
    moved::{self, Mark},
    unknown_among,
};

/// The schema of the event log.
const LOG: &str = "liveobject_0";
/// The oldest supported version of the server, as `server_version_num`.
const MIN_VERSION: i32 = 130_000;
/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a reader that was released may take to respond.
const PING_DEADLINE: Duration = Duration::from_secs(3);
/// How long a start waits for a server that cannot be reached.
const START_PATIENCE: Duration = Duration::from_secs(30);
const START_RETRY: Duration = Duration::from_secs(1);
/// How often the lock is tried at the start: the server may notice late that an earlier process has ended.
const LOCK_ATTEMPTS: u32 = 25;
const LOCK_PAUSE: Duration = Duration::from_millis(200);
/// The settings of each session. A client that is gone must not hold its locks: neither in the middle of a transaction,
/// nor if its machine has lost its power or its network. The server then notices it within about 11 s.
const SESSION: [(&str, &str); 8] = [
    ("search_path", "liveobject_0,liveobject"),
    ("statement_timeout", "0"),
    ("lock_timeout", "2000"),
    ("idle_in_transaction_session_timeout", "3000"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "10000"),
];
/// The writing session keeps its lock however long it is idle. The setting exists since version 14.
const IDLE: &str = "SELECT set_config(name, '0', false) FROM pg_settings \
    WHERE name = 'idle_session_timeout' AND setting <> '0'";
/// A commit must be durable when it returns. A setting that waits for more than that is kept.
const DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', false) \
    WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')";
/// The state of a statement that could not get a lock in time.
const NO_LOCK: &str = "55P03";
/// The lock of the log, of which there can be several in a database.
const LOCK: &str = "hashtextextended('liveobject:' || $1, 0)";

/// Who opens the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The service: the only one that writes to the log. It creates and upgrades the schema.
    Service,
    /// A command that cannot run at the same time as a service. It does not create the schema.
    Exclusive,
    /// A command, at the same time as a service.
    Command,
    /// A command that moves the log from here, like `Exclusive`. It may have been moved before.
    MoveFrom,
    /// A command that moves the log to here, like `Exclusive`. It creates the schema.
    MoveTo,
}

impl Access {
    /// Returns whether nobody else may have this access.
    fn is_exclusive(self) -> bool {
        self != Self::Command
    }

    fn creates_schema(self) -> bool {
        matches!(self, Self::Service | Self::MoveTo)
    }

    /// Fails if the log must not be used in this database, which has this mark. `database` returns its name.
    pub(super) fn require(
        self,
        mark: Option<Mark>,
        database: impl FnOnce() -> String,
    ) -> Result<(), OpenError> {
        match mark {
            Some(mark) if !matches!(self, Self::MoveFrom | Self::MoveTo) => Err(mark.into_error(database())),
            _ => Ok(()),
        }
    }
}

/// Opens the database.
pub async fn open(location: &Location, access: Access) -> Result<Store, OpenError> {
    let fail = |fault, source| OpenError::Server { database: location.to_string(), fault, source };
    let options = options(location);
    check(&options, access).await.map_err(|(fault, source)| fail(fault, source))?;
    let connected = connect(options.clone(), access).await.map_err(|error| match &error {
        // The server has just responded, so that a service can only have waited for the lock.
        sqlx::Error::Database(error) if access.is_exclusive() && error.code().as_deref() == Some(NO_LOCK) => {
            (ServerFault::InUse, None)
        }
        _ => other(error),
    });
    let mut store = connected.map_err(|(fault, source)| fail(fault, source))?;
    let prepared = async {
        let other = |error| fail(ServerFault::Other, Some(error));
        migrate(options, access).await.map_err(|(fault, source)| fail(fault, source))?;
        access.require(moved::find(&store.write).await.map_err(other)?, || location.to_string())?;
        log_clock::resume(&store.write).await.map_err(other)
    };
    match prepared.await {
        Ok(clocks) => {
            store.clocks = clocks;
            if access == Access::Service {
                store.write_cameras().await;
            }
            Ok(store)
        }
        Err(error) => {
            store.close().await;
            Err(error)
        }
    }
}

/// Returns a connection for statements that may take long. It has no lock of the log.
pub async fn connect_alone(location: &Location) -> Result<DatabaseConnection, OpenError> {
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT_TIMEOUT);
    let pool = pool.idle_timeout(None).max_lifetime(None).after_connect(|connection, _| {
        Box::pin(async move { sqlx::query(DURABLE).execute(connection).await.map(drop) })
    });
    let connected = pool.connect_with(options(location)).await.map_err(other);
    let fail = |(fault, source)| OpenError::Server { database: location.to_string(), fault, source };
    connected.map(Into::into).map_err(fail)
}

/// Opens the database for the service. At the start of a machine, the server may be ready later than this program, so a
/// fault that may pass is reported at once, and returned only after a while.
pub async fn open_when_reachable(location: &Location) -> Result<Store, OpenError> {
    let deadline = Instant::now() + START_PATIENCE;
    let mut is_waiting = false;
    loop {
        match open(location, Access::Service).await {
            Err(OpenError::Server { fault, database, source })
                if fault.may_pass() && Instant::now() < deadline =>
            {
                if !std::mem::replace(&mut is_waiting, true) {
                    let error = OpenError::Server { fault, database, source };
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "waiting for the database server"
                    );
                }
            }
            opened => return opened,
        }
        sleep(START_RETRY).await;
    }
}

fn options(location: &Location) -> PgConnectOptions {
    let mode = match location.tls {
        Tls::Off => PgSslMode::Disable,
        Tls::Unverified => PgSslMode::Require,
        Tls::Authority => PgSslMode::VerifyCa,
        Tls::Verified => PgSslMode::VerifyFull,
    };
    let mut options = PgConnectOptions::new_without_pgpass()
        .username(&location.user)
        .database(&location.database)
        .port(location.port)
        .ssl_mode(mode)
        .application_name("liveobject")
        .statement_cache_capacity(STATEMENTS)
        .options(SESSION)
        .disable_statement_logging();
    options = match &location.host {
        Host::Name(name) => options.host(name),
        Host::Socket(directory) => options.socket(directory),
    };
    if let Some(password) = location.password() {
        options = options.password(password);
    }
    if let Some(authorities) = &location.authorities {
        options = options.ssl_root_cert(authorities);
    }
    options
}

type Fault = (ServerFault, Option<DbErr>);

fn other(error: sqlx::Error) -> Fault {
    (ServerFault::of(&error), Some(DbErr::Conn(RuntimeErr::SqlxError(error.into()))))
}

/// Checks that the server and the database are suitable and that no other service uses them. Changes nothing.
async fn check(options: &PgConnectOptions, access: Access) -> Result<(), Fault> {
    let connected = timeout(CONNECT_TIMEOUT, options.connect()).await;
    let mut connection = match connected {
        Ok(connected) => connected.map_err(other)?,
        Err(_) => return Err((ServerFault::Unreachable, None)),
    };
    let checked = check_server(&mut connection, access).await;
    let _closed = connection.close().await;
    checked
}

async fn check_server(connection: &mut PgConnection, access: Access) -> Result<(), Fault> {
    const SERVER: &str = "SELECT current_setting('server_version_num')::int, current_setting('server_version'), \
        pg_is_in_recovery(), current_setting('transaction_read_only') = 'on', \
        current_setting('server_encoding')";
    let row = sqlx::query(SERVER).fetch_one(&mut *connection).await.map_err(other)?;
    let version: i32 = row.try_get(0).map_err(other)?;
    let (name, encoding): (String, String) = (row.try_get(1).map_err(other)?, row.try_get(4).map_err(other)?);
    let (is_standby, is_read_only): (bool, bool) =
        (row.try_get(2).map_err(other)?, row.try_get(3).map_err(other)?);
    let fault = if version < MIN_VERSION {
        ServerFault::TooOld(name)
    } else if is_standby {
        ServerFault::Standby
    } else if is_read_only {
        ServerFault::ReadOnly
    } else if encoding != "UTF8" {
        ServerFault::Encoding(encoding)
    } else if access.is_exclusive() && !is_free(connection).await.map_err(other)? {
        ServerFault::InUse
    } else {
        return Ok(());
    };
    Err((fault, None))
}

/// Returns whether no other service has the lock. Waits for a while if one has.
async fn is_free(connection: &mut PgConnection) -> sqlx::Result<bool> {
    let lock = format!("SELECT pg_try_advisory_lock({LOCK})");
    for _ in 0..LOCK_ATTEMPTS {
        let query = sqlx::query_scalar(sqlx::AssertSqlSafe(lock.as_str())).bind(LOG);
        if query.fetch_one(&mut *connection).await? {
            return Ok(true);
        }
        sleep(LOCK_PAUSE).await;
    }
    Ok(false)
}

async fn connect(options: PgConnectOptions, access: Access) -> sqlx::Result<Store> {
    let readers = options.clone().options([("default_transaction_read_only", "on")]);
    let write = Held::connect(options, access).await?;
    let read = PgPoolOptions::new()
        .max_connections(MAX_READERS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(READER_IDLE)
        .after_release(|connection, _| Box::pin(responds(connection)))
        .connect_lazy_with(readers);
    let (write, read) = (Connection::Writer(Arc::new(write)), Connection::Readers(read.into()));
    Ok(Store::new(write, read, Engine::Postgres))
}

/// Returns whether a reader that was released can be used again. After a query that was given up, the pool would wait
/// for the server without a limit.
async fn responds(connection: &mut PgConnection) -> sqlx::Result<bool> {
    let ping = timeout(PING_DEADLINE, connection.ping()).await;
    Ok(ping.is_ok_and(|ping| ping.is_ok()))
}

/// Prepares a session that writes. That of a service waits until no other one has the lock. The session of a
/// connection that was lost in the middle of a commit keeps it until the commit has ended, so that its outcome is known
/// afterwards.
async fn begin_session(connection: &mut PgConnection, access: Access) -> sqlx::Result<()> {
    for setting in [DURABLE, IDLE] {
        sqlx::query(setting).execute(&mut *connection).await?;
    }
    if access.is_exclusive() {
        let lock = format!("SELECT pg_advisory_lock({LOCK})");
        sqlx::query(sqlx::AssertSqlSafe(lock)).bind(LOG).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Creates the schema or applies pending migrations, after checking that this binary knows the schema. Uses a
/// connection of its own, while the one that writes has the lock: a migration may take longer than a write.
async fn migrate(options: PgConnectOptions, access: Access) -> Result<(), Fault> {
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT_TIMEOUT);
    let db = DatabaseConnection::from(pool.connect_lazy_with(options));
    let migrated = migrate_with(&db, access).await;
    let _closed = db.close_by_ref().await;
    migrated
}

async fn migrate_with(db: &DatabaseConnection, access: Access) -> Result<(), Fault> {
    let other = |error| (ServerFault::Other, Some(error));
    let applied = applied_migrations(db).await.map_err(other)?;
    let known = PostgresMigrator::migrations();
    let unknown = unknown_among(&known, &applied);
    if !unknown.is_empty() {
        return Err((ServerFault::Newer(unknown), None));
    }
    if applied.len() == known.len() {
        return Ok(());
    }
    if !access.creates_schema() {
        return Err((ServerFault::Older, None));
    }
    for schema in [SHARED, LOG] {
        create_schema(db, schema).await?;
    }
    tracing::info!(changes = known.len() - applied.len(), "creating or upgrading the tables");
    PostgresMigrator::up(db, None).await.map_err(other)
}

/// Returns the names of the applied migrations, in order; none if there is no schema.
async fn applied_migrations(db: &DatabaseConnection) -> Result<Vec<String>, DbErr> {
    let table = format!("SELECT to_regclass('{LOG}.seaql_migrations') IS NOT NULL AS there");
    let versions = format!("SELECT version FROM {LOG}.seaql_migrations ORDER BY version");
    let row = db.query_one_raw(super::dialect::statement(db, table, [])).await?;
    if !row.map_or(Ok(false), |row| row.try_get("", "there"))? {
        return Ok(Vec::new());
    }
    let rows = db.query_all_raw(super::dialect::statement(db, versions, [])).await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}

/// Returns the size of the database, in bytes.
pub async fn size(db: &impl ConnectionTrait) -> Result<u64, DbErr> {
    const SIZE: &str = "SELECT pg_database_size(current_database()) AS bytes";
    let row = db.query_one_raw(super::dialect::statement(db, SIZE, [])).await?;
    let bytes: i64 = row.map_or(Ok(0), |row| row.try_get("", "bytes"))?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// Creates a schema if it is missing. If it exists, the user needs no right to create one.
async fn create_schema(db: &DatabaseConnection, schema: &'static str) -> Result<(), Fault> {
    const USABLE: &str = "SELECT has_schema_privilege(oid, 'CREATE') AND has_schema_privilege(oid, 'USAGE') AS usable \
        FROM pg_namespace WHERE nspname = ?";
    let other = |error| (ServerFault::Other, Some(error));
    let row =
        db.query_one_raw(super::dialect::statement(db, USABLE, [schema.into()])).await.map_err(other)?;
    match row.map(|row| row.try_get("", "usable")).transpose().map_err(other)? {
        Some(true) => Ok(()),
        Some(false) => Err((ServerFault::NotPermitted(schema), None)),
        None => {
            let created = db.execute_unprepared(&format!("CREATE SCHEMA {schema}")).await;
            created.map(drop).map_err(|error| {
                let is_forbidden = fault::is_not_permitted(&error);
                if is_forbidden { (ServerFault::NotPermitted(schema), Some(error)) } else { other(error) }
            })
        }
    }
}
