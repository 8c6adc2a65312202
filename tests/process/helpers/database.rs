//! A second connection to the service's database, as another process would open it.

use liveobject_test_support::Service;
use sea_orm::{
    ConnectOptions, ConnectionTrait as _, Database as Connect, DatabaseConnection, DatabaseTransaction,
    DbErr, QueryResult, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait as _,
};

/// A connection to a service's database.
#[derive(Debug)]
pub struct Database {
    connection: DatabaseConnection,
}

impl Database {
    /// Opens the database, whether the service runs or not.
    pub async fn open(service: &Service) -> Self {
        Self { connection: Self::connect(service).await.expect("the database can be opened") }
    }

    /// Opens the database and closes it, as another program may do, even if it looks damaged.
    pub async fn visit(service: &Service) {
        if let Ok(connection) = Self::connect(service).await {
            let _closed = connection.close().await;
        }
    }

    async fn connect(service: &Service) -> Result<DatabaseConnection, DbErr> {
        let file = service.data_dir().join("liveobject.db");
        let mut options = ConnectOptions::new(format!("sqlite://{}", file.display()));
        options.max_connections(1).sqlx_logging(false);
        Connect::connect(options).await
    }

    /// Prevents all others from writing until the transaction ends.
    pub async fn lock(&self) -> DatabaseTransaction {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        self.connection.begin_with_options(options).await.expect("the lock is free")
    }

    /// Executes a statement.
    pub async fn execute(&self, sql: &str) {
        self.connection.execute_unprepared(sql).await.expect("the statement is valid");
    }

    /// Returns the stored, encrypted password.
    pub async fn password(&self) -> Option<Vec<u8>> {
        self.query_one("SELECT password AS value FROM mqtt_config")
            .await
            .try_get("", "value")
            .expect("a blob")
    }

    /// Returns the number that a query returns as `value`.
    pub async fn number(&self, sql: &str) -> i64 {
        self.query_one(sql).await.try_get("", "value").expect("a number")
    }

    async fn query_one(&self, sql: &str) -> QueryResult {
        let statement = Statement::from_string(self.connection.get_database_backend(), sql);
        let row = self.connection.query_one_raw(statement).await.expect("the query is valid");
        row.expect("there is a row")
    }

    pub async fn close(self) {
        self.connection.close().await.expect("the database can be closed");
    }
}
