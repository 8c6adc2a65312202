//! Where the measured services store their events.

use std::{path::PathBuf, time::Duration};

use liveobject_test_support::{Postgres, PostgresOptions, free_port};
use tempfile::TempDir;

use crate::{service::directory, stats::number, throughput::ServerCost, usage};

/// Settings with which users run a server: it syncs each commit. All others are the defaults of PostgreSQL.
const SETTINGS: [(&str, &str); 4] =
    [("fsync", "on"), ("synchronous_commit", "on"), ("shared_buffers", "128MB"), ("max_connections", "100")];

/// Starts a server with an empty cluster.
pub fn start_server() -> Postgres {
    let settings = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Postgres::start(&PostgresOptions { settings, port: Some(free_port()), ..PostgresOptions::default() })
}

/// The engine that stores the events.
#[derive(Clone, Copy)]
pub enum Engine<'a> {
    /// SQLite, on the disk of the build directory.
    Sqlite,
    /// A server, over TCP.
    Postgres(&'a Postgres),
    /// A server, over its socket in the file system.
    PostgresSocket(&'a Postgres),
}

impl<'a> Engine<'a> {
    /// Returns the server.
    pub fn server(self) -> Option<&'a Postgres> {
        match self {
            Self::Sqlite => None,
            Self::Postgres(server) | Self::PostgresSocket(server) => Some(server),
        }
    }
}

/// What a server has done so far.
pub struct Work {
    cpu: Duration,
    commits: f64,
    wal_bytes: f64,
}

impl Work {
    pub fn of(server: &Postgres) -> Self {
        let counters = "SELECT pg_current_xact_id(), pg_current_wal_insert_lsn() - '0/0'";
        let counters = server.execute("postgres", counters);
        let mut counters = counters.split('|').map(|number| number.parse().expect("it is a number"));
        let mut next = || counters.next().expect("there are two numbers");
        let (commits, wal_bytes) = (next(), next());
        Self { cpu: usage::cpu_with_ended(server.processes()), commits, wal_bytes }
    }

    /// Returns the cost of this many events, before which the server had done this work.
    pub fn cost(self, server: &Postgres, count: usize) -> ServerCost {
        let after = Self::of(server);
        let events = number(count);
        ServerCost {
            cpu: after.cpu.saturating_sub(self.cpu).as_secs_f64() / events * 100_000.0,
            commits: (after.commits - self.commits) / events * 100.0,
            wal_bytes: (after.wal_bytes - self.wal_bytes) / events,
        }
    }
}

/// The data directory of a service, and its database if that is on a server. Both are removed when this is dropped.
pub struct Storage<'a> {
    dir: TempDir,
    /// The server, the name of the database and its URL.
    served: Option<(&'a Postgres, String, String)>,
}

impl<'a> Storage<'a> {
    /// Creates an empty one.
    pub fn new(engine: Engine<'a>) -> Self {
        let served = engine.server().map(|server| {
            let name = server.create_database();
            let url = match engine {
                Engine::Postgres(_) => server.url_over_tcp(&name),
                _ => server.url(&name),
            };
            (server, name, url)
        });
        Self { dir: directory(), served }
    }

    /// Returns the data directory, which the service creates.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Returns a data directory for another service with the same database.
    pub fn other_data_dir(&self) -> PathBuf {
        self.dir.path().join("other")
    }

    /// Returns the URL of the database, unless it is a file in the data directory.
    pub fn url(&self) -> Option<&str> {
        self.served.as_ref().map(|(_, _, url)| url.as_str())
    }
}

impl Drop for Storage<'_> {
    fn drop(&mut self) {
        if let Some((server, name, _)) = &self.served {
            server.execute("postgres", &format!("DROP DATABASE {name} WITH (FORCE)"));
        }
    }
}
