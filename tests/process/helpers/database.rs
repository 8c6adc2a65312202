//! Another process at the service's database.

use std::path::Path;

use liveobject_test_support::Service;
use sea_orm::{
    ConnectOptions, ConnectionTrait as _, Database as Connect, DatabaseConnection, DatabaseTransaction,
    QueryResult, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait as _,
};

/// A connection to the database of a service.
#[derive(Debug)]
pub struct Database {
    connection: DatabaseConnection,
}

impl Database {
    /// Opens it, whether the service runs or not.
    pub async fn of(service: &Service) -> Self {
        Self::at(&service.data_dir().join("liveobject.db")).await
    }

    async fn at(file: &Path) -> Self {
        let mut options = ConnectOptions::new(format!("sqlite://{}", file.display()));
        options.max_connections(1).sqlx_logging(false);
        let connection = Connect::connect(options).await.expect("the database can be opened");
        Self { connection }
    }

    /// Keeps everybody else from writing, until the transaction ends.
    pub async fn lock(&self) -> DatabaseTransaction {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        self.connection.begin_with_options(options).await.expect("the lock is free")
    }

    /// Changes something.
    pub async fn run(&self, sql: &str) {
        self.connection.execute_unprepared(sql).await.expect("the statement is right");
    }

    /// The stored password, as it is stored.
    pub async fn password(&self) -> Option<Vec<u8>> {
        self.one("SELECT password AS value FROM mqtt_config").await.try_get("", "value").expect("a blob")
    }

    async fn one(&self, sql: &str) -> QueryResult {
        let statement = Statement::from_string(self.connection.get_database_backend(), sql);
        let row = self.connection.query_one_raw(statement).await.expect("the query is right");
        row.expect("there is a row")
    }

    pub async fn close(self) {
        self.connection.close().await.expect("the database can be closed");
    }
}
