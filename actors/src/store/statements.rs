//! Statements as they are carried out fastest: in few texts, so that they stay prepared, and several in one go, since the way
//! to the database's thread and back takes longer than a small statement.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use sea_orm::{
    ConnAcquireErr, DatabaseConnection, DbBackend, DbErr, QueryResult, RuntimeErr, Statement, Value,
    sqlx::{
        self, Arguments as _, AssertSqlSafe, Either, Executor as _, Sqlite,
        error::ErrorKind,
        pool::PoolConnection,
        query::Query,
        sqlite::{SqliteArguments, SqliteConnection},
    },
};

/// An insertion of these rows, as `into` and `tail` say around them. Filled up to the next power of two with rows that are
/// passed over; the first column of the others is never null.
pub fn insertion<const COLUMNS: usize>(
    into: &str,
    rows: impl ExactSizeIterator<Item = [Value; COLUMNS]>,
    tail: &str,
) -> Statement {
    let size = rows.len().next_power_of_two();
    let row = format!(",({})", &",?".repeat(COLUMNS)[1..]);
    let sql =
        format!("{into} SELECT * FROM (VALUES {}) WHERE column1 IS NOT NULL{tail}", &row.repeat(size)[1..]);
    let mut values = Vec::with_capacity(size * COLUMNS);
    values.extend(rows.flatten());
    values.resize(size * COLUMNS, Value::BigInt(None));
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)
}

/// A transaction on the connection that writes, in as few goes as it takes. When it is dropped before its end, or something
/// in it has failed, its connection is closed: nothing half done stays open on it.
#[derive(Debug)]
pub struct Transaction {
    connection: PoolConnection<Sqlite>,
    has_begun: bool,
    is_over: bool,
}

impl Transaction {
    /// Waits for the connection. The database is not asked yet.
    pub async fn new(db: &DatabaseConnection) -> Result<Self, DbErr> {
        match db.get_sqlite_connection_pool().acquire().await {
            Ok(connection) => Ok(Self { connection, has_begun: false, is_over: true }),
            Err(sqlx::Error::PoolTimedOut) => Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)),
            Err(error) => Err(DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error)))),
        }
    }

    /// Carries these out, one after the other; answers the rows of all.
    pub async fn carry_out(&mut self, statements: Vec<Statement>) -> Result<Vec<QueryResult>, DbErr> {
        self.go(statements, "").await
    }

    /// The same, and then commits.
    pub async fn carry_out_and_commit(
        mut self,
        statements: Vec<Statement>,
    ) -> Result<Vec<QueryResult>, DbErr> {
        let answers = self.go(statements, "COMMIT").await?;
        self.is_over = true;
        Ok(answers)
    }

    async fn go(&mut self, statements: Vec<Statement>, end: &str) -> Result<Vec<QueryResult>, DbErr> {
        self.is_over = false;
        let mut sql = String::new();
        let mut left = statements.len();
        if !std::mem::replace(&mut self.has_begun, true) {
            sql.push_str("BEGIN IMMEDIATE;");
            left += 1;
        }
        let mut arguments = SqliteArguments::default();
        for statement in statements {
            debug_assert!(!statement.sql.contains(';'), "each is one, so that the answers can be counted");
            sql.push_str(&statement.sql);
            sql.push(';');
            for value in statement.values.into_iter().flat_map(|values| values.0) {
                add(&mut arguments, value)?;
            }
        }
        if !end.is_empty() {
            sql.push_str(end);
            left += 1;
        }
        // Its texts are made here and in the tables' files; what others say is among the arguments.
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments);
        answers(&mut self.connection, query, left).await.map_err(|error| {
            let error = DbErr::Exec(RuntimeErr::SqlxError(Arc::new(error)));
            // `OR ROLLBACK` has ended it.
            self.is_over = is_repeated(&error);
            error
        })
    }
}

/// The rows of so many statements. Does not wait to be told that nothing follows the last: each word from the database's
/// thread takes as long as a small statement.
async fn answers(
    connection: &mut SqliteConnection,
    query: Query<'_, Sqlite, SqliteArguments>,
    mut left: usize,
) -> sqlx::Result<Vec<QueryResult>> {
    let mut rows = Vec::new();
    let mut told = connection.fetch_many(query);
    while left > 0 {
        match told.try_next().await? {
            Some(Either::Left(_done)) => left -= 1,
            Some(Either::Right(row)) => rows.push(QueryResult::from(row)),
            None => return Err(sqlx::Error::WorkerCrashed),
        }
    }
    Ok(rows)
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.is_over {
            self.connection.close_on_drop();
        }
    }
}

/// Whether what was to be inserted is there already.
pub fn is_repeated(error: &DbErr) -> bool {
    let DbErr::Exec(RuntimeErr::SqlxError(error)) = error else { return false };
    error.as_database_error().is_some_and(|error| error.kind() == ErrorKind::UniqueViolation)
}

fn add(arguments: &mut SqliteArguments, value: Value) -> Result<(), DbErr> {
    let added = match value {
        Value::Bool(value) => arguments.add(value),
        Value::BigInt(value) => arguments.add(value),
        Value::String(value) => arguments.add(value),
        Value::Bytes(value) => arguments.add(value),
        other => Err(format!("no column takes {other:?}").into()),
    };
    added.map_err(|error| DbErr::Type(error.to_string()))
}
