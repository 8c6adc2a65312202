//! A database on a PostgreSQL server. See [`super::dialect`] for the statements.
//!
//! As with SQLite, all writes use one connection. Several services can use the database, each with a data directory of
//! its own: one *owns* the event log, and the others wait until they can take it over. All that the owner writes
//! depends on its term (see [`held`]), so that nothing is written with a term that has ended.
//!
//! Advisory locks of the server serve three other purposes. A command that must be alone waits until no service has a
//! session, and the other way round. Only one service at a time changes the schema. And the sessions of one term that
//! write the log exclude each other, as do those that write pictures: one that replaces a lost one waits for its end,
//! so that the outcome of everything that was sent in it is known.

mod commit;
mod fault;
mod held;
mod location;
mod node;
#[cfg(test)]
mod node_tests;
mod node_token;
mod standbys;
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
use tokio::time::{sleep, timeout};

use self::location::{Host, Tls};
pub use self::{
    commit::Writer,
    fault::{ServerFault, fault_of, is_duplicate_event},
    held::{Fence, Held, Transaction, within_deadline},
    location::Location,
    node::{Beat, NodeConnection, NodeDescription},
    node_token::publish as publish_admin_token,
    standbys::count_asynchronous,
};
use super::{
    ACQUIRE_TIMEOUT, Engine, MAX_READERS, OpenError, READER_IDLE, STATEMENTS, Store,
    connection::Connection,
    log_clock, moved,
    ownership::{Ownership, new_term},
    unknown_among,
};
use crate::domain::lease::Term;

/// The schema of the event log.
const LOG: &str = "liveobject_0";
/// The oldest supported version of the server, as `server_version_num`.
const MIN_VERSION: i32 = 130_000;
/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a reader that was released may take to respond.
const PING_DEADLINE: Duration = Duration::from_secs(3);
/// How often the lock is tried at the start: the server may notice late that an earlier process has ended.
const LOCK_ATTEMPTS: u32 = 25;
const LOCK_PAUSE: Duration = Duration::from_millis(200);
/// The settings of each session. A client that is gone must not hold its locks: neither in the middle of a transaction,
/// nor if its machine has lost its power or its network. The server then notices it within about 11 s.
///
/// A transaction that has waited for a lock must see what was committed in the meantime.
///
/// All statements are short. Compiling one (`jit`) takes the server a hundred times longer than executing it. It would
/// compile some, because it expects hundreds of rows in tables that have one.
const SESSION: [(&str, &str); 10] = [
    ("search_path", "liveobject_0,liveobject"),
    ("default_transaction_isolation", "read committed"),
    ("statement_timeout", "0"),
    ("lock_timeout", "2000"),
    ("idle_in_transaction_session_timeout", "3000"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "10000"),
    ("jit", "off"),
];
/// The writing session keeps its lock however long it is idle. The setting exists since version 14.
const IDLE: &str = "SELECT set_config(name, '0', false) FROM pg_settings \
    WHERE name = 'idle_session_timeout' AND setting <> '0'";
/// A commit must be durable when it returns. A setting that waits for more than that is kept.
const DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', false) \
    WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')";
/// The state of a statement that could not get a lock in time.
const NO_LOCK: &str = "55P03";
/// The lock of the log, of which there can be several in a database. Services share it.
const LOCK: &str = "hashtextextended('liveobject:' || $1, 0)";
/// The lock of a writing session of a term.
const TERM_LOCK: &str = "hashtextextended('liveobject-term:' || $1, 0)";
/// The lock of the schema, while it is changed.
const SCHEMA_LOCK: &str = "hashtextextended('liveobject-schema:liveobject_0', 0)";
/// Begins a term without a node. Waits for writes of the previous one.
const BEGIN_TERM: &str =
    "UPDATE owner SET node = NULL, term = $1::uuid, terms = terms + 1, since = clock_timestamp()";

/// Who opens the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A service, at the same time as others. It creates and upgrades the schema. If it is not a node, it ends the
    /// term of another owner at once.
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

/// A session on a connection.
#[derive(Debug, Clone, Copy)]
pub struct Session {
    access: Access,
    /// The term of the owner and what is written, if it is a session that writes.
    writes: Option<(Term, Written)>,
}

/// What the owner writes in a session. Each has a lock of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Log,
    Pictures,
}

impl Session {
    fn of(access: Access) -> Self {
        Self { access, writes: None }
    }

    /// Returns what identifies the lock of a session that writes.
    fn lock_name(self) -> Option<String> {
        self.writes.map(|(Term(term), written)| match written {
            Written::Log => term.to_string(),
            Written::Pictures => format!("pictures:{term}"),
        })
    }
}

impl Access {
    fn creates_schema(self) -> bool {
        matches!(self, Self::Service | Self::MoveTo)
    }

    /// Returns whether the log must be one that may be used in this database.
    pub(super) fn respects_marks(self) -> bool {
        !matches!(self, Self::MoveFrom | Self::MoveTo)
    }
}

/// Opens the database. A service that is not a node ends the term of the owner of the log at once and takes its place;
/// only tests open the database so.
pub async fn open(location: &Location, access: Access) -> Result<Store, OpenError> {
    let fail = |(fault, source)| OpenError::Server { database: location.to_string(), fault, source };
    let options = options(location);
    check(&options, access).await.map_err(fail)?;
    if access == Access::Service {
        // The owner is in one of the tables, which a service may have to create first.
        migrate(options.clone(), access).await.map_err(fail)?;
        let fence = Fence { term: begin_term(&options).await.map_err(fail)?, ownership: None };
        let store = connect(options, access, Some(fence)).await.map_err(fail)?;
        return prepare(store, access).await.map_err(fail);
    }
    let store = connect(options.clone(), access, None).await.map_err(fail)?;
    match migrate(options, access).await {
        Ok(()) => prepare(store, access).await.map_err(fail),
        Err(fault) => {
            store.close().await;
            Err(fail(fault))
        }
    }
}

/// Opens the database for the owner of the log, whose claim of this term was granted. The tables exist.
pub async fn open_owned(location: &Location, ownership: Ownership, term: Term) -> Result<Store, OpenError> {
    let fail = |(fault, source)| OpenError::Server { database: location.to_string(), fault, source };
    let fence = Fence { term, ownership: Some(ownership) };
    let store = connect(options(location), Access::Service, Some(fence)).await.map_err(fail)?;
    prepare(store, Access::Service).await.map_err(fail)
}

/// Returns the clocks of the log. Only its owner continues them.
async fn clocks(store: &Store, access: Access) -> Result<log_clock::Clocks, DbErr> {
    if access != Access::Service {
        return log_clock::peek(&store.write).await;
    }
    let txn = store.begin().await?;
    let clocks = log_clock::resume(&txn).await?;
    txn.commit().await.map(|()| clocks)
}

async fn prepare(mut store: Store, access: Access) -> Result<Store, Fault> {
    if let Err(fault) = require_unmarked(&store.write, access).await {
        store.close().await;
        return Err(fault);
    }
    match clocks(&store, access).await {
        Ok(clocks) => {
            store.clocks = clocks;
            if access == Access::Service {
                store.write_cameras().await;
            }
            Ok(store)
        }
        Err(error) => {
            store.close().await;
            Err(of_statement(error))
        }
    }
}

/// Fails if the log must not be used in this database.
async fn require_unmarked(db: &impl ConnectionTrait, access: Access) -> Result<(), Fault> {
    let found = moved::find(db).await.map_err(of_statement)?;
    match found {
        Some(mark) if access.respects_marks() => Err((ServerFault::Marked(mark), None)),
        _ => Ok(()),
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

/// Becomes the owner of the log, and ends the term of the previous one.
async fn begin_term(options: &PgConnectOptions) -> Result<Term, Fault> {
    let term = new_term();
    let beginning = async {
        let mut connection = options.connect().await?;
        begin_session(&mut connection, Session::of(Access::Service)).await?;
        sqlx::query(BEGIN_TERM).bind(term.0.to_string()).execute(&mut connection).await?;
        connection.close().await
    };
    match timeout(CONNECT_TIMEOUT, beginning).await {
        Ok(begun) => begun.map(|()| term).map_err(other),
        Err(_) => Err((ServerFault::Unreachable, None)),
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

fn of_statement(error: DbErr) -> Fault {
    (ServerFault::of_statement(&error), Some(error))
}

/// Checks that the server and the database are suitable and that no other service uses them. Changes nothing.
async fn check(options: &PgConnectOptions, access: Access) -> Result<(), Fault> {
    let connected = timeout(CONNECT_TIMEOUT, options.connect()).await;
    let mut connection = match connected {
        Ok(connected) => connected.map_err(other)?,
        Err(_) => return Err((ServerFault::Unreachable, None)),
    };
    let checked = answered(check_server(&mut connection, access)).await;
    let _closed = timeout(PING_DEADLINE, connection.close()).await;
    checked
}

/// Waits for the answer of a server, which may be gone without having closed the connection.
async fn answered<T>(asked: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    timeout(CONNECT_TIMEOUT, asked).await.unwrap_or(Err((ServerFault::Unreachable, None)))
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
    } else if !is_free(connection, access).await.map_err(other)? {
        ServerFault::InUse
    } else {
        return Ok(());
    };
    Err((fault, None))
}

/// Returns whether nothing runs that excludes this access. Waits for a while if something does.
async fn is_free(connection: &mut PgConnection, access: Access) -> sqlx::Result<bool> {
    let attempt = match access {
        Access::Service => "pg_try_advisory_lock_shared",
        Access::Exclusive | Access::MoveFrom | Access::MoveTo => "pg_try_advisory_lock",
        Access::Command => return Ok(true),
    };
    let lock = format!("SELECT {attempt}({LOCK})");
    for _ in 0..LOCK_ATTEMPTS {
        let query = sqlx::query_scalar(sqlx::AssertSqlSafe(lock.as_str())).bind(LOG);
        if query.fetch_one(&mut *connection).await? {
            return Ok(true);
        }
        sleep(LOCK_PAUSE).await;
    }
    Ok(false)
}

async fn connect(options: PgConnectOptions, access: Access, fence: Option<Fence>) -> Result<Store, Fault> {
    let readers = options.clone().options([("default_transaction_read_only", "on")]);
    let in_use = if fence.is_some() { ServerFault::Busy } else { ServerFault::InUse };
    let write = Held::connect(options, access, fence).await.map_err(|error| match &error {
        // The server has just responded, so that it can only have waited for the lock.
        sqlx::Error::Database(cause) if cause.code().as_deref() == Some(NO_LOCK) => (in_use, None),
        _ => other(error),
    })?;
    let read = PgPoolOptions::new()
        .max_connections(MAX_READERS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(READER_IDLE)
        .after_release(|connection, _| Box::pin(responds(connection)))
        .connect_lazy_with(readers);
    let pictures = Connection::Writer(Arc::new(write.for_pictures()));
    let (write, read) = (Connection::Writer(Arc::new(write)), Connection::Readers(read.into()));
    Ok(Store::new(write, read, Engine::Postgres { pictures }))
}

/// Returns whether a reader that was released can be used again. After a query that was given up, the pool would wait
/// for the server without a limit.
async fn responds(connection: &mut PgConnection) -> sqlx::Result<bool> {
    let ping = timeout(PING_DEADLINE, connection.ping()).await;
    Ok(ping.is_ok_and(|ping| ping.is_ok()))
}

/// Prepares a session that writes, and waits until nothing runs that excludes it.
///
/// The session of an owner also waits for the end of its previous one, with the same term. If the connection was lost
/// in the middle of a commit, the server may still execute it, or may even get it later, and the term is still the
/// current one. The session keeps its lock until the server knows that the connection has ended, which is after it has
/// executed everything that was sent there. Only then is the outcome known. The fence alone does not show it: it waits
/// for a commit that the server executes, but not for one that is still on its way.
///
/// While a synchronous standby is away, each commit waits for it, even after its connection was given up. Because of
/// the lock, at most one session for the log, and one for the pictures, waits so.
async fn begin_session(connection: &mut PgConnection, session: Session) -> sqlx::Result<()> {
    for setting in [DURABLE, IDLE] {
        sqlx::query(setting).execute(&mut *connection).await?;
    }
    let lock = match session.access {
        Access::Service => "pg_advisory_lock_shared",
        Access::Exclusive | Access::MoveFrom | Access::MoveTo => "pg_advisory_lock",
        Access::Command => return Ok(()),
    };
    let lock = format!("SELECT {lock}({LOCK})");
    sqlx::query(sqlx::AssertSqlSafe(lock)).bind(LOG).execute(&mut *connection).await?;
    if let Some(name) = session.lock_name() {
        let lock = format!("SELECT pg_advisory_lock({TERM_LOCK})");
        let lock = sqlx::query(sqlx::AssertSqlSafe(lock)).bind(name);
        lock.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Creates the schema or applies pending migrations, after checking that this binary knows the schema. Uses a
/// connection of its own: a migration may take longer than a write.
async fn migrate(options: PgConnectOptions, access: Access) -> Result<(), Fault> {
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT_TIMEOUT);
    let db = DatabaseConnection::from(pool.connect_lazy_with(options));
    let migrated = match migrate_with(&db, access).await {
        Ok(()) => answered(require_unmarked(&db, access)).await,
        failed => failed,
    };
    let _closed = timeout(PING_DEADLINE, db.close_by_ref()).await;
    migrated
}

async fn migrate_with(db: &DatabaseConnection, access: Access) -> Result<(), Fault> {
    if answered(count_pending(db)).await? == 0 {
        return Ok(());
    }
    if !access.creates_schema() {
        return Err((ServerFault::Older, None));
    }
    lock_schema(db).await?;
    // Another service may have changed the schema before.
    let pending = answered(count_pending(db)).await?;
    if pending == 0 {
        return Ok(());
    }
    for schema in [SHARED, LOG] {
        create_schema(db, schema).await?;
    }
    tracing::info!(changes = pending, "creating or upgrading the tables");
    PostgresMigrator::up(db, None).await.map_err(of_statement)
}

/// Returns the number of pending migrations. Fails if some that were applied are not known.
async fn count_pending(db: &DatabaseConnection) -> Result<usize, Fault> {
    let applied = applied_migrations(db).await.map_err(of_statement)?;
    let known = PostgresMigrator::migrations();
    let unknown = unknown_among(&known, &applied);
    if unknown.is_empty() {
        Ok(known.len() - applied.len())
    } else {
        Err((ServerFault::Newer(unknown), None))
    }
}

/// Waits until no other service changes the schema, however long it takes. The lock is that of the session, which ends
/// with the only connection.
async fn lock_schema(db: &DatabaseConnection) -> Result<(), Fault> {
    let lock = format!("SELECT pg_try_advisory_lock({SCHEMA_LOCK}) AS locked");
    let mut is_waiting = false;
    loop {
        let attempt = super::dialect::statement(db, lock.as_str(), []);
        let row = db.query_one_raw(attempt).await.map_err(of_statement)?;
        if row.map_or(Ok(false), |row| row.try_get("", "locked")).map_err(of_statement)? {
            return Ok(());
        }
        if !std::mem::replace(&mut is_waiting, true) {
            tracing::info!("waiting for another service, which creates or upgrades the tables");
        }
        sleep(LOCK_PAUSE).await;
    }
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
    let usable = super::dialect::statement(db, USABLE, [schema.into()]);
    let row = db.query_one_raw(usable).await.map_err(of_statement)?;
    match row.map(|row| row.try_get("", "usable")).transpose().map_err(of_statement)? {
        Some(true) => Ok(()),
        Some(false) => Err((ServerFault::NotPermitted(schema), None)),
        None => {
            let created = db.execute_unprepared(&format!("CREATE SCHEMA {schema}")).await;
            created.map(drop).map_err(|error| {
                let is_forbidden = fault::is_not_permitted(&error);
                if is_forbidden {
                    (ServerFault::NotPermitted(schema), Some(error))
                } else {
                    of_statement(error)
                }
            })
        }
    }
}
