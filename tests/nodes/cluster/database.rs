//! The PostgreSQL server of all nodes, and what the test reads there.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use liveobject_test_support::{Postgres, PostgresOptions, free_port};
use sea_orm::{
    ConnectOptions, ConnectionTrait as _, Database as Connect, DatabaseConnection, DbErr, QueryResult,
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::lock;
use crate::records::{End, Row};

/// What records the owners and the writes.
const OBSERVER: &str = include_str!("observer.sql");
const DATABASE: &str = "liveobject";
const USER: &str = "u";
/// Short, because a fault follows the owner.
const WATCH_EVERY: Duration = Duration::from_millis(20);
/// A query that takes longer is given up: the server may be frozen.
const QUERY: Duration = Duration::from_secs(1);

/// A committed change of the owner: node, and seconds since 1970.
pub type TermRow = (Option<String>, f64);
/// A committed group of events: the first seq, the last one, the port of the connection, and seconds since 1970.
pub type WriteRow = (i64, i64, Option<i32>, f64);

#[derive(Debug)]
pub struct Database {
    servers: Arc<Mutex<Servers>>,
    owner: Arc<Mutex<Option<String>>>,
    watcher: JoinSet<()>,
}

#[derive(Debug)]
struct Servers {
    primary: Arc<Postgres>,
    port: u16,
    /// The synchronous standby and its port.
    standby: Option<(Arc<Postgres>, u16)>,
}

impl Database {
    /// Starts a server that syncs, with an empty database.
    pub fn start() -> Self {
        let port = free_port();
        let access = Some("host all all 127.0.0.1/32 trust".to_owned());
        let server = Postgres::start(&PostgresOptions { access, ..options(port) });
        server.execute("postgres", &format!("CREATE ROLE {USER} LOGIN"));
        let create = format!("CREATE DATABASE {DATABASE} OWNER {USER} TEMPLATE template0 ENCODING UTF8");
        server.execute("postgres", &create);
        let servers = Servers { primary: Arc::new(server), port, standby: None };
        Self { servers: Arc::new(Mutex::new(servers)), owner: Arc::default(), watcher: JoinSet::new() }
    }

    /// Returns the port on which it listens.
    pub fn port(&self) -> u16 {
        lock(&self.servers).port
    }

    pub fn primary(&self) -> Arc<Postgres> {
        Arc::clone(&lock(&self.servers).primary)
    }

    /// Starts a synchronous standby.
    pub async fn add_standby(&self) {
        let (primary, port) = (self.primary(), free_port());
        let standby = blocking(move || {
            let standby = primary.start_standby(&options(port));
            primary.wait_for_standby();
            standby
        })
        .await;
        lock(&self.servers).standby = Some((Arc::new(standby), port));
    }

    pub fn has_standby(&self) -> bool {
        lock(&self.servers).standby.is_some()
    }

    /// Makes the standby the primary server. Returns the previous one, which still runs.
    pub async fn promote(&self) -> Option<Arc<Postgres>> {
        let (standby, port) = lock(&self.servers).standby.take()?;
        let promoted = Arc::clone(&standby);
        blocking(move || promoted.promote()).await;
        let mut servers = lock(&self.servers);
        servers.port = port;
        Some(std::mem::replace(&mut servers.primary, standby))
    }

    /// Returns its URL through a proxy.
    pub fn url_through(port: u16) -> String {
        format!("postgres://{USER}@127.0.0.1:{port}/{DATABASE}")
    }

    /// Begins to observe owners and writes. The tables must exist.
    pub fn observe(&mut self) {
        self.primary().execute(DATABASE, OBSERVER);
        let (servers, owner) = (Arc::clone(&self.servers), Arc::clone(&self.owner));
        self.watcher.spawn(async move {
            let (mut connection, mut last_url) = (None, String::new());
            loop {
                let url = lock(&servers).primary.url(DATABASE);
                if url != last_url {
                    connection = None;
                    last_url.clone_from(&url);
                }
                let found = timeout(QUERY, current_owner(&url, &mut connection)).await;
                match found {
                    Ok(Ok(found)) => *lock(&owner) = found,
                    Ok(Err(_)) | Err(_) => connection = None,
                }
                sleep(WATCH_EVERY).await;
            }
        });
    }

    /// Returns the id of the node that owns the log, as far as it is known.
    pub fn owner(&self) -> Option<String> {
        lock(&self.owner).clone()
    }

    /// Makes each commit of events that begins within `begins_within` from now on take this much longer.
    pub async fn pause_commits(&self, seconds: u32, begins_within: Duration) {
        let update = format!(
            "UPDATE harness.pause SET seconds = {seconds}, ends = clock_timestamp() + interval '{} milliseconds'",
            begins_within.as_millis()
        );
        // The server may be frozen or restart.
        let set = async { connect(&self.url()).await?.execute_unprepared(&update).await };
        let _late = timeout(QUERY, set).await;
    }

    /// Crashes the server, which starts again.
    pub async fn crash(&self) {
        let server = self.primary();
        blocking(move || server.crash()).await;
    }

    /// Ends a server.
    pub async fn end_server(server: Arc<Postgres>) {
        blocking(move || server.end()).await;
    }

    /// Returns the committed changes of the owner, in order.
    pub async fn terms(&self) -> Vec<TermRow> {
        let sql = format!("SELECT node, {} AS at FROM harness.terms ORDER BY number", committed());
        let rows = self.rows(&sql).await;
        rows.iter().map(|row| (value(row, "node"), value(row, "at"))).collect()
    }

    /// Returns the committed groups of events.
    pub async fn writes(&self) -> Vec<WriteRow> {
        let sql =
            format!("SELECT first, last, port, {} AS at FROM harness.writes ORDER BY number", committed());
        let rows = self.rows(&sql).await;
        rows.iter()
            .map(|row| (value(row, "first"), value(row, "last"), value(row, "port"), value(row, "at")))
            .collect()
    }

    /// Returns the final state, without the retained messages.
    pub async fn end(&self) -> End {
        let log = self.rows("SELECT seq, event_id, camera_id FROM liveobject_0.events ORDER BY seq").await;
        let log = log.iter().map(|row| Row {
            seq: seq(row),
            event: value(row, "event_id"),
            camera: value(row, "camera_id"),
        });
        let dead = self.rows("SELECT seq FROM liveobject_0.dead_events").await;
        End { log: log.collect(), dead: dead.iter().map(seq).collect::<BTreeSet<_>>(), ..End::default() }
    }

    fn url(&self) -> String {
        self.primary().url(DATABASE)
    }

    async fn rows(&self, sql: &str) -> Vec<QueryResult> {
        let connection = connect(&self.url()).await.expect("the server can be reached");
        connection.query_all_raw(statement(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

fn options(port: u16) -> PostgresOptions {
    let settings = [("fsync", "on"), ("track_commit_timestamp", "on"), ("max_connections", "100")];
    PostgresOptions {
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        port: Some(port),
        access: None,
        ..PostgresOptions::default()
    }
}

/// Runs something that waits without giving way to other tasks.
async fn blocking<T: Send + 'static>(action: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(action).await.expect("it does not panic")
}

/// SQL for the time of a row's commit, in seconds since 1970.
fn committed() -> &'static str {
    "extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8"
}

async fn connect(url: &str) -> Result<DatabaseConnection, DbErr> {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).acquire_timeout(QUERY).connect_timeout(QUERY).sqlx_logging(false);
    Connect::connect(options).await
}

async fn current_owner(
    url: &str,
    connection: &mut Option<DatabaseConnection>,
) -> Result<Option<String>, DbErr> {
    let sql = "SELECT node FROM harness.terms ORDER BY number DESC LIMIT 1";
    let connection = match connection {
        Some(connection) => connection,
        none => none.insert(connect(url).await?),
    };
    let row = connection.query_one_raw(statement(sql)).await?;
    row.map_or(Ok(None), |row| row.try_get("", "node"))
}

fn statement(sql: &str) -> sea_orm::Statement {
    sea_orm::Statement::from_string(sea_orm::DatabaseBackend::Postgres, sql)
}

fn value<T: sea_orm::TryGetable>(row: &QueryResult, column: &str) -> T {
    row.try_get("", column).unwrap_or_else(|error| panic!("{column}: {error}"))
}

fn seq(row: &QueryResult) -> u64 {
    u64::try_from(value::<i64>(row, "seq")).expect("it is positive")
}
