//! Databases of each engine, for tests.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use liveobject_test_support::Postgres;
use secrecy::{ExposeSecret as _, SecretString};

use crate::store::{Access, Location, OpenError, ServerLocation, Store};

/// If this variable is `postgres`, the tests of actors use a PostgreSQL server.
const ENGINE: &str = "LIVEOBJECT_TEST_DATABASE";

/// Opens the database at a path, or one on a PostgreSQL server in its place, see [`ENGINE`].
pub(crate) async fn open(path: &Path) -> Store {
    open_as(path, Access::Service).await
}

/// Like [`open`], but at the same time as a service.
pub(crate) async fn open_elsewhere(path: &Path) -> Store {
    open_as(path, Access::Command).await
}

async fn open_as(path: &Path, access: Access) -> Store {
    static SERVED: Mutex<Option<HashMap<PathBuf, SecretString>>> = Mutex::new(None);
    if is_served() {
        let url = {
            let mut served = SERVED.lock().unwrap_or_else(PoisonError::into_inner);
            served.get_or_insert_default().entry(path.to_owned()).or_insert_with(new_database).clone()
        };
        return open_on_server(&url, access).await.unwrap();
    }
    Store::open_file(path).await.unwrap()
}

/// Returns whether the databases of the tests of actors are on a server. Tests that are about the file then do nothing.
pub(crate) fn is_served() -> bool {
    std::env::var(ENGINE).is_ok_and(|engine| engine == "postgres")
}

async fn open_on_server(url: &SecretString, access: Access) -> Result<Store, OpenError> {
    Store::open(&Location::parse(url.expose_secret())?, access).await
}

/// Returns bytes in hexadecimal, for a literal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn new_database() -> SecretString {
    let server = Postgres::shared();
    server.url(&server.create_database()).into()
}

/// An empty database. It is removed when dropped, or with its server.
#[derive(Debug)]
pub(crate) struct TestDatabase {
    dir: tempfile::TempDir,
    url: Option<SecretString>,
}

impl TestDatabase {
    /// Returns an empty database of each engine.
    pub fn each() -> impl Iterator<Item = Self> {
        // The second server is started only if the test succeeds with the first engine.
        [Self::sqlite, Self::postgres].into_iter().map(|new| new())
    }

    pub fn sqlite() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), url: None }
    }

    pub fn postgres() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), url: Some(new_database()) }
    }

    /// Opens the database as a service does. It may have been opened and closed before.
    pub async fn open(&self) -> Store {
        self.try_open(Access::Service).await.unwrap()
    }

    pub async fn try_open(&self, access: Access) -> Result<Store, OpenError> {
        match (&self.url, access) {
            (Some(url), access) => open_on_server(url, access).await,
            (None, access) => Store::open(&Location::File(self.dir.path().join("l.db")), access).await,
        }
    }

    /// Returns the options of a service with this database and a data directory of its own.
    pub fn options(&self, data_dir: &Path) -> crate::ServiceOptions {
        let database_url = match &self.url {
            Some(url) => url.clone(),
            None => format!("sqlite://{}", self.dir.path().join("l.db").display()).into(),
        };
        crate::ServiceOptions { database_url: Some(database_url), ..crate::ServiceOptions::in_dir(data_dir) }
    }

    /// Returns where the database on the server is.
    pub fn location(&self) -> ServerLocation {
        let url = self.url.as_ref().expect("it is on a server").expose_secret();
        match Location::parse(url).expect("the URL is valid") {
            Location::Server(location) => *location,
            Location::File(_) => unreachable!("it is on a server"),
        }
    }

    fn is_sqlite(&self) -> bool {
        self.url.is_none()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "it is the output of a test")]
            {
                eprintln!("failed on {}", if self.is_sqlite() { "SQLite" } else { "PostgreSQL" });
            }
        }
    }
}
