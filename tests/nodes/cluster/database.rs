//! The PostgreSQL server of all nodes, and what the test reads there.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
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
    pub server: Arc<Postgres>,
    port: u16,
    url: String,
    owner: Arc<Mutex<Option<String>>>,
    watcher: JoinSet<()>,
}

impl Database {
    /// Starts a server that syncs, with an empty database.
    pub fn start() -> Self {
        let port = free_port();
        let settings = [("fsync", "on"), ("track_commit_timestamp", "on"), ("max_connections", "100")];
        let options = PostgresOptions {
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            port: Some(port),
            access: Some("host all all 127.0.0.1/32 trust".to_owned()),
        };
        let server = Postgres::start(&options);
        server.execute("postgres", &format!("CREATE ROLE {USER} LOGIN"));
        let create = format!("CREATE DATABASE {DATABASE} OWNER {USER} TEMPLATE template0 ENCODING UTF8");
        server.execute("postgres", &create);
        let url = server.url(DATABASE);
        Self { server: Arc::new(server), port, url, owner: Arc::default(), watcher: JoinSet::new() }
    }

    /// Returns the port on which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns its URL through a proxy.
    pub fn url_through(&self, port: u16) -> String {
        format!("postgres://{USER}@127.0.0.1:{port}/{DATABASE}")
    }

    /// Begins to observe owners and writes. The tables must exist.
    pub fn observe(&mut self) {
        self.server.execute(DATABASE, OBSERVER);
        let (url, owner) = (self.url.clone(), Arc::clone(&self.owner));
        self.watcher.spawn(async move {
            let mut connection = None;
            loop {
                let found = timeout(QUERY, current_owner(&url, &mut connection)).await;
                match found {
                    Ok(Ok(found)) => *owner.lock().unwrap_or_else(PoisonError::into_inner) = found,
                    Ok(Err(_)) | Err(_) => connection = None,
                }
                sleep(WATCH_EVERY).await;
            }
        });
    }

    /// Returns the id of the node that owns the log, as far as it is known.
    pub fn owner(&self) -> Option<String> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes each commit of events from now on take this much longer.
    pub async fn pause_commits(&self, seconds: u32) {
        // The server may be frozen or restart.
        let set = async {
            let connection = connect(&self.url).await?;
            connection.execute_unprepared(&format!("UPDATE harness.pause SET seconds = {seconds}")).await
        };
        let _late = timeout(QUERY, set).await;
    }

    /// Crashes the server, which starts again.
    pub async fn crash(&self) {
        let server = Arc::clone(&self.server);
        tokio::task::spawn_blocking(move || server.crash()).await.expect("the server starts again");
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

    async fn rows(&self, sql: &str) -> Vec<QueryResult> {
        let connection = connect(&self.url).await.expect("the server can be reached");
        connection.query_all_raw(statement(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
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
