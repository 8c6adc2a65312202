//! The connection that writes to the database file. A commit keeps it for the next one: returning it to its pool
//! takes a round trip to the database's thread, which wakes two threads. Everything else takes it from the pool.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sea_orm::{
    ConnAcquireErr, DatabaseConnection, DbErr, RuntimeErr,
    sqlx::{self, Sqlite, pool::PoolConnection},
};

/// The connection, and the pool that it belongs to.
#[derive(Debug, Clone)]
pub struct Kept {
    db: DatabaseConnection,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// `None` while it is in the pool or in use.
    connection: Option<PoolConnection<Sqlite>>,
    /// Number of those who use the pool or wait for its connection. The connection is not kept then.
    users: usize,
}

/// One who uses the pool or waits for its connection.
#[derive(Debug)]
pub struct User<'a>(&'a Kept);

impl Kept {
    /// Creates it for a pool with one connection.
    pub fn new(db: DatabaseConnection) -> Self {
        Self { db, state: Arc::default() }
    }

    /// Returns the pool, without the guarantee that its connection is in it.
    pub fn unguarded(&self) -> &DatabaseConnection {
        &self.db
    }

    /// Returns the connection to the pool if it is kept, and does not keep it until the user is dropped.
    pub fn pool(&self) -> User<'_> {
        let kept = {
            let mut state = self.lock();
            state.users += 1;
            state.connection.take()
        };
        drop(kept);
        User(self)
    }

    /// Takes the connection, and waits for it if it is in use.
    pub async fn acquire(&self) -> Result<PoolConnection<Sqlite>, DbErr> {
        let user = {
            let mut state = self.lock();
            if let Some(connection) = state.connection.take() {
                return Ok(connection);
            }
            state.users += 1;
            User(self)
        };
        user.db().get_sqlite_connection_pool().acquire().await.map_err(|error| match error {
            sqlx::Error::PoolTimedOut => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
            error => DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error))),
        })
    }

    /// Keeps the connection after a commit that succeeded, unless somebody waits for it.
    pub fn keep(&self, connection: PoolConnection<Sqlite>) {
        let mut state = self.lock();
        if state.users == 0 && !self.db.get_sqlite_connection_pool().is_closed() {
            state.connection = Some(connection);
        } else {
            drop(state);
            drop(connection);
        }
    }

    /// Closes the connection after running operations have finished.
    pub async fn close(&self) {
        let user = self.pool();
        // Fails only for connections that do not belong to a pool, but this one does.
        let _closed = user.db().close_by_ref().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked cannot have left a partial state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl User<'_> {
    /// Returns the pool.
    pub fn db(&self) -> &DatabaseConnection {
        &self.0.db
    }
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        self.0.lock().users -= 1;
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // A connection returns to its pool in a task. Without a runtime, the process is ending.
        if tokio::runtime::Handle::try_current().is_err() {
            std::mem::forget(self.connection.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sea_orm::{ConnectionTrait as _, sqlx::sqlite::SqlitePoolOptions};

    use super::*;

    async fn kept() -> Kept {
        let pool = SqlitePoolOptions::new().max_connections(1).acquire_timeout(Duration::from_millis(200));
        Kept::new(pool.connect("sqlite::memory:").await.unwrap().into())
    }

    #[tokio::test]
    async fn a_connection_is_kept_until_somebody_needs_it() {
        let kept = kept().await;
        let connection = kept.acquire().await.unwrap();
        kept.keep(connection);
        assert!(kept.lock().connection.is_some());
        let connection = kept.acquire().await.unwrap();
        assert!(kept.acquire().await.is_err(), "it is in use");
        kept.keep(connection);
        kept.pool().db().execute_unprepared("SELECT 1").await.unwrap();
        assert!(kept.lock().connection.is_none());
        let connection = kept.acquire().await.unwrap();
        kept.keep(connection);
        kept.close().await;
        assert!(kept.acquire().await.is_err(), "it is closed");
    }

    #[tokio::test]
    async fn a_connection_is_not_kept_while_somebody_waits_for_it() {
        let kept = kept().await;
        let connection = kept.acquire().await.unwrap();
        let second = async { kept.acquire().await.map(drop) };
        let third = async { kept.pool().db().execute_unprepared("SELECT 1").await };
        let release = async {
            while kept.lock().users < 2 {
                tokio::task::yield_now().await;
            }
            kept.keep(connection);
        };
        let (second, third, ()) = futures_util::future::join3(second, third, release).await;
        second.unwrap();
        third.unwrap();
        assert_eq!(kept.lock().users, 0);
    }
}
