//! Fast execution of statements in SQLite. There are few distinct SQL strings, so that they remain prepared. Several
//! statements are sent in one call, because a round trip to the database's thread takes longer than a small
//! statement.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use sea_orm::{
    ConnAcquireErr, DbErr, QueryResult, RuntimeErr, Statement, Value,
    sqlx::{
        self, Arguments as _, AssertSqlSafe, Either, Executor as _, Sqlite,
        error::{DatabaseError as _, ErrorKind},
        pool::PoolConnection,
        query::Query,
        sqlite::{SqliteArguments, SqliteConnection, SqliteError},
    },
};

use super::kept::Kept;

/// Whether a commit waits until it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    Full,
    Skipped,
}

/// A transaction on the writing connection that needs few round trips. If it is dropped before it ends, or if
/// a statement fails and leaves it open, the connection is closed, so that no later statement runs in an
/// unfinished transaction.
#[derive(Debug)]
pub struct Transaction<'a> {
    kept: &'a Kept,
    /// `None` while the value is dropped.
    connection: Option<PoolConnection<Sqlite>>,
    has_begun: bool,
    is_over: bool,
    has_failed: bool,
}

impl<'a> Transaction<'a> {
    /// Waits for the connection. Does not begin the transaction yet.
    pub async fn new(kept: &'a Kept) -> Result<Self, DbErr> {
        let connection = Some(kept.acquire().await?);
        Ok(Self { kept, connection, has_begun: false, is_over: true, has_failed: false })
    }

    /// Returns whether statements were executed.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Executes the statements in order. Returns the rows of all of them.
    pub async fn execute(&mut self, statements: Vec<Statement>) -> Result<Vec<QueryResult>, DbErr> {
        self.run(statements, Sync::Full, "").await
    }

    /// Executes the statements in order and commits. Returns the rows of all of them.
    pub async fn execute_and_commit(mut self, statements: Vec<Statement>) -> Result<Vec<QueryResult>, DbErr> {
        let rows = self.run(statements, Sync::Full, "COMMIT").await?;
        self.is_over = true;
        Ok(rows)
    }

    /// Executes a single statement, as the first call of this transaction, and commits. SQLite does this on its own:
    /// the database's thread then responds once, and not after BEGIN and COMMIT, too.
    pub async fn execute_alone(mut self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.has_begun = true;
        let rows = self.run(vec![statement], Sync::Full, "").await?;
        self.is_over = true;
        Ok(rows)
    }

    /// Executes the statements in order and commits, as the first call of this transaction. Does not sync the commit
    /// to disk; the next synced one includes it. Returns the rows of all statements.
    ///
    /// If anything fails, the connection is closed, so that no later commit goes without its sync.
    pub async fn execute_and_commit_unsynced(
        mut self,
        statements: Vec<Statement>,
    ) -> Result<Vec<QueryResult>, DbErr> {
        let rows = self.run(statements, Sync::Skipped, "COMMIT").await;
        self.is_over = rows.is_ok();
        rows
    }

    async fn run(
        &mut self,
        statements: Vec<Statement>,
        sync: Sync,
        end: &str,
    ) -> Result<Vec<QueryResult>, DbErr> {
        self.is_over = false;
        let mut sql = String::new();
        let mut count = statements.len();
        if sync == Sync::Skipped {
            sql.push_str("PRAGMA synchronous=NORMAL;");
            count += 1;
        }
        if !std::mem::replace(&mut self.has_begun, true) {
            sql.push_str("BEGIN IMMEDIATE;");
            count += 1;
        }
        let mut arguments = SqliteArguments::default();
        for statement in statements {
            debug_assert!(
                !statement.sql.contains(';'),
                "each must be a single statement, so that the results can be counted"
            );
            sql.push_str(&statement.sql);
            sql.push(';');
            for value in statement.values.into_iter().flat_map(|values| values.0) {
                add_argument(&mut arguments, value)?;
            }
        }
        if !end.is_empty() {
            sql.push_str(end);
            sql.push(';');
            count += 1;
        }
        if sync == Sync::Skipped {
            sql.push_str("PRAGMA synchronous=FULL");
            count += 1;
        }
        // The SQL consists of constants of this module. All input is in the arguments. SQLite executes these pragmas
        // when it compiles them, so statements with them are compiled each time.
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments).persistent(sync == Sync::Full);
        let connection = self.connection.as_mut().ok_or(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))?;
        fetch_rows(connection, query, count).await.map_err(|error| {
            self.has_failed = true;
            let error = DbErr::Exec(RuntimeErr::SqlxError(Arc::new(error)));
            // `OR ROLLBACK` has ended the transaction.
            self.is_over = is_duplicate(&error);
            error
        })
    }
}

/// Fetches the rows of this many statements. Does not wait for the end of the stream after the last
/// statement: each message from the database's thread takes as long as a small statement.
async fn fetch_rows(
    connection: &mut SqliteConnection,
    query: Query<'_, Sqlite, SqliteArguments>,
    mut remaining: usize,
) -> sqlx::Result<Vec<QueryResult>> {
    let mut rows = Vec::new();
    let mut results = connection.fetch_many(query);
    while remaining > 0 {
        match results.try_next().await? {
            Some(Either::Left(_done)) => remaining -= 1,
            Some(Either::Right(row)) => rows.push(QueryResult::from(row)),
            None => return Err(sqlx::Error::WorkerCrashed),
        }
    }
    Ok(rows)
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        if !self.is_over {
            connection.close_on_drop();
        } else if !self.has_failed {
            self.kept.keep(connection);
        }
    }
}

/// Returns whether a statement failed because the row to insert already exists.
pub fn is_duplicate(error: &DbErr) -> bool {
    let DbErr::Exec(RuntimeErr::SqlxError(error)) = error else { return false };
    let Some(error) = error.as_database_error() else { return false };
    error.try_downcast_ref::<SqliteError>().is_some_and(|error| error.kind() == ErrorKind::UniqueViolation)
}

fn add_argument(arguments: &mut SqliteArguments, value: Value) -> Result<(), DbErr> {
    let added = match value {
        Value::Bool(value) => arguments.add(value),
        Value::BigInt(value) => arguments.add(value),
        Value::String(value) => arguments.add(value),
        Value::Bytes(value) => arguments.add(value),
        other => Err(format!("no column has the type of {other:?}").into()),
    };
    added.map_err(|error| DbErr::Type(error.to_string()))
}
