//! The connections of a store, of either engine.

use std::{io, sync::Arc};

use liveobject_migration::async_trait;
use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult,
    QueryResult, RuntimeErr, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait as _,
    sqlx::{self, PgPool},
};

use super::{kept::Kept, postgres};

/// One or more connections.
#[derive(Debug, Clone)]
pub enum Connection {
    /// The connection that writes to a SQLite file.
    File(Kept),
    /// Connections that read from a SQLite file.
    FileReaders(DatabaseConnection),
    /// The connection that writes to a PostgreSQL server.
    Writer(Arc<postgres::Held>),
    /// Connections that read from a PostgreSQL server.
    Readers(DatabaseConnection),
}

impl Connection {
    /// Begins a transaction that writes. In SQLite, it takes the write lock at once, and waits for another process that
    /// holds it (see [`BUSY_TIMEOUT`](super::BUSY_TIMEOUT)): SQLite does not wait if a transaction begins with a read.
    pub async fn begin(&self) -> Result<Transaction, DbErr> {
        let options = || TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        match self {
            Self::File(kept) => kept.pool().db().begin_with_options(options()).await.map(Transaction::Sqlite),
            Self::FileReaders(db) | Self::Readers(db) => {
                db.begin_with_options(options()).await.map(Transaction::Sqlite)
            }
            // Boxed, so that the futures of SQLite are not larger because of it.
            Self::Writer(held) => Box::pin(held.begin()).await.map(Transaction::Postgres),
        }
    }

    /// Closes the connections after running operations have finished.
    pub async fn close(&self) {
        match self {
            Self::File(kept) => kept.close().await,
            Self::FileReaders(db) | Self::Readers(db) => {
                // Fails only for connections that do not belong to a pool, but these do.
                let _closed = db.close_by_ref().await;
            }
            Self::Writer(held) => held.close().await,
        }
    }
}

/// Explains why no reader was available. If not all of them are in use, the server does not respond.
fn explain(db: &DatabaseConnection, error: DbErr) -> DbErr {
    if !matches!(error, DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))
        || is_busy(db.get_postgres_connection_pool())
    {
        return error;
    }
    DbErr::Conn(RuntimeErr::SqlxError(sqlx::Error::Io(io::ErrorKind::TimedOut.into()).into()))
}

fn is_busy(pool: &PgPool) -> bool {
    pool.size() >= pool.options().get_max_connections() && pool.num_idle() == 0
}

#[async_trait::async_trait]
impl ConnectionTrait for Connection {
    fn get_database_backend(&self) -> DbBackend {
        match self {
            Self::File(_) | Self::FileReaders(_) => DbBackend::Sqlite,
            Self::Writer(_) | Self::Readers(_) => DbBackend::Postgres,
        }
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match self {
            Self::File(kept) => kept.pool().db().execute_raw(statement).await,
            Self::FileReaders(db) | Self::Readers(db) => db.execute_raw(statement).await,
            Self::Writer(held) => held.execute_raw(statement).await,
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match self {
            Self::File(kept) => kept.pool().db().execute_unprepared(sql).await,
            Self::FileReaders(db) | Self::Readers(db) => db.execute_unprepared(sql).await,
            Self::Writer(held) => held.execute_unprepared(sql).await,
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        match self {
            Self::File(kept) => kept.pool().db().query_one_raw(statement).await,
            Self::FileReaders(db) => db.query_one_raw(statement).await,
            Self::Readers(db) => {
                let found = postgres::within_deadline(db.query_one_raw(statement)).await;
                found.map_err(|error| explain(db, error))
            }
            Self::Writer(held) => held.query_one_raw(statement).await,
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self {
            Self::File(kept) => kept.pool().db().query_all_raw(statement).await,
            Self::FileReaders(db) => db.query_all_raw(statement).await,
            Self::Readers(db) => {
                let found = postgres::within_deadline(db.query_all_raw(statement)).await;
                found.map_err(|error| explain(db, error))
            }
            Self::Writer(held) => held.query_all_raw(statement).await,
        }
    }
}

/// A transaction that writes. It is rolled back if it is dropped before it is committed.
#[derive(Debug)]
pub enum Transaction {
    Sqlite(DatabaseTransaction),
    Postgres(postgres::Transaction),
}

impl Transaction {
    /// Commits.
    pub async fn commit(self) -> Result<(), DbErr> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Postgres(transaction) => transaction.commit().await,
        }
    }

    /// Undoes everything.
    pub async fn rollback(self) -> Result<(), DbErr> {
        match self {
            Self::Sqlite(transaction) => transaction.rollback().await,
            Self::Postgres(transaction) => transaction.rollback().await,
        }
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        match self {
            Self::Sqlite(_) => DbBackend::Sqlite,
            Self::Postgres(_) => DbBackend::Postgres,
        }
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match self {
            Self::Sqlite(transaction) => transaction.execute_raw(statement).await,
            Self::Postgres(transaction) => transaction.execute_raw(statement).await,
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match self {
            Self::Sqlite(transaction) => transaction.execute_unprepared(sql).await,
            Self::Postgres(transaction) => transaction.execute_unprepared(sql).await,
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        match self {
            Self::Sqlite(transaction) => transaction.query_one_raw(statement).await,
            Self::Postgres(transaction) => transaction.query_one_raw(statement).await,
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self {
            Self::Sqlite(transaction) => transaction.query_all_raw(statement).await,
            Self::Postgres(transaction) => transaction.query_all_raw(statement).await,
        }
    }
}
