//! The writing connection. It is held instead of being taken from a pool, which would test it after each commit: one
//! more round trip. Its statements have a deadline, after which the connection is dropped: to cancel a statement could
//! make the server report a commit that no standby has.
//!
//! This is the only place with *fences*: each transaction of an owner of the log locks the row of its term, so that it
//! ends before another node can become the owner, or writes nothing if another node is the owner already.

use std::{
    fmt, io,
    sync::Arc,
    time::{Duration, Instant as StdInstant},
};

use liveobject_migration::async_trait;
use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr, Statement, Value,
    sqlx::{
        self, Arguments as _, AssertSqlSafe, ConnectOptions as _, Postgres, Row as _,
        postgres::{PgArguments, PgConnectOptions, PgConnection, PgQueryResult, PgRow},
        query::Query,
    },
};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::{Instant, error::Elapsed, timeout},
};

use super::{
    ACQUIRE_TIMEOUT, Access, Session, Written, begin_session,
    fault::{is_over, not_owner},
};
use crate::{
    domain::lease::Term,
    store::ownership::{self, Ownership},
};

/// How long a statement that writes may take.
const DEADLINE: Duration = Duration::from_secs(3);
/// How long a query on this connection may take.
const QUERY_DEADLINE: Duration = Duration::from_secs(30);
/// A connection that was idle for longer may be lost: the server was restarted, or a firewall has forgotten it. It is
/// tested before it is used, so that no event is refused because of that.
pub(super) const TEST_AFTER: Duration = Duration::from_secs(1);
/// How long a query on another connection may take.
const READ_DEADLINE: Duration = Duration::from_mins(1);

/// The writing connection.
pub struct Held {
    options: PgConnectOptions,
    session: Session,
    fence: Option<Fence>,
    slot: Arc<Mutex<Slot>>,
}

/// The term with which the owner of the log writes, and who is notified of the outcomes.
#[derive(Debug, Clone)]
pub struct Fence {
    pub term: Term,
    /// `None` if the owner does not take part in the ownership. It only writes until another one claims the log.
    pub ownership: Option<Ownership>,
}

impl Fence {
    /// Records that a write, which was sent at `started`, is durable.
    fn written(&self, started: StdInstant) {
        if let Some(ownership) = &self.ownership {
            ownership.written(self.term, started);
        }
    }

    /// Records that the term has ended. Returns the error of the write.
    fn has_ended(&self) -> sqlx::Error {
        if let Some(ownership) = &self.ownership {
            ownership.fenced(self.term);
        }
        not_owner()
    }
}

#[derive(Default)]
struct Slot {
    /// `None` for commands.
    fence: Option<Fence>,
    /// `None` after it was lost.
    connection: Option<PgConnection>,
    used_at: Option<Instant>,
    /// Whether a transaction was dropped before its end.
    must_roll_back: bool,
    is_closed: bool,
}

impl fmt::Debug for Held {
    /// Omits the options, which contain the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("fence", &self.fence).finish_non_exhaustive()
    }
}

/// Returns the error of a server that does not respond in time.
pub(super) fn no_response() -> sqlx::Error {
    sqlx::Error::Io(io::ErrorKind::TimedOut.into())
}

/// Gives up a query of a reader after a while: the end of a server that has lost its power is not noticed otherwise,
/// because nothing is sent to it.
pub async fn within_deadline<T>(query: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
    timeout(READ_DEADLINE, query).await.unwrap_or_else(|_| Err(of_query(no_response())))
}

fn of_connection(error: sqlx::Error) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(error.into()))
}

fn of_execution(error: sqlx::Error) -> DbErr {
    DbErr::Exec(RuntimeErr::SqlxError(error.into()))
}

fn of_query(error: sqlx::Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}

impl Held {
    /// Connects. All writes depend on the fence, if there is one.
    pub async fn connect(
        options: PgConnectOptions,
        access: Access,
        fence: Option<Fence>,
    ) -> sqlx::Result<Self> {
        let session = Session { access, writes: fence.as_ref().map(|fence| (fence.term, Written::Log)) };
        let connection = connect(&options, session).await?;
        let slot = Slot { connection: Some(connection), fence: fence.clone(), ..Slot::default() };
        Ok(Self { options, session, fence, slot: Arc::new(Mutex::new(slot)) })
    }

    /// Returns another connection with the same fence, for pictures, which is opened when it is used. Without a fence,
    /// its session excludes nothing.
    pub fn for_pictures(&self) -> Self {
        let slot = Slot { fence: self.fence.clone(), ..Slot::default() };
        let writes = self.fence.as_ref().map(|fence| (fence.term, Written::Pictures));
        let access = if writes.is_some() { self.session.access } else { Access::Command };
        Self {
            options: self.options.clone(),
            session: Session { access, writes },
            fence: self.fence.clone(),
            slot: Arc::new(Mutex::new(slot)),
        }
    }

    /// Returns the ownership that the writes depend on.
    pub fn ownership(&self) -> Option<&Ownership> {
        self.fence.as_ref()?.ownership.as_ref()
    }

    /// Returns the term with which the owner writes.
    pub fn term(&self) -> Option<Term> {
        Some(self.fence.as_ref()?.term)
    }

    /// Waits until nothing else uses the connection, and connects again if it was lost.
    pub async fn lease(&self) -> Result<Lease, DbErr> {
        let waiting = timeout(ACQUIRE_TIMEOUT, Arc::clone(&self.slot).lock_owned());
        let slot = waiting.await.map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))?;
        let mut lease = Lease(slot);
        if lease.0.is_closed {
            return Err(DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed));
        }
        let used_before = lease.0.used_at.replace(Instant::now());
        if used_before.is_some_and(|at| at.elapsed() > TEST_AFTER) && lease.ping().await.is_err() {
            lease.drop_connection();
        }
        if lease.0.must_roll_back && lease.end("ROLLBACK").await.is_err() {
            lease.drop_connection();
        }
        if lease.0.connection.is_none() {
            lease.0.connection = Some(connect(&self.options, self.session).await.map_err(of_connection)?);
        }
        Ok(lease)
    }

    /// Begins a transaction. Fails if the term has ended.
    pub async fn begin(&self) -> Result<Transaction, DbErr> {
        let mut lease = self.lease().await?;
        lease.begin().await.map_err(of_execution)?;
        Ok(Transaction { lease: Mutex::new(lease), skips_sync: false })
    }

    /// Begins a transaction for one statement, unless it can be executed without one.
    async fn begin_for(&self, sql: &str) -> Result<Option<Transaction>, DbErr> {
        if self.fence.is_none() || is_query(sql) { Ok(None) } else { self.begin().await.map(Some) }
    }

    /// Closes the connection. Later calls fail.
    pub async fn close(&self) {
        let mut slot = self.slot.lock().await;
        slot.is_closed = true;
        if let Some(connection) = slot.connection.take() {
            // The server notices the end of the connection in any case.
            let _closed = timeout(DEADLINE, sqlx::Connection::close(connection)).await;
        }
    }
}

async fn connect(options: &PgConnectOptions, session: Session) -> sqlx::Result<PgConnection> {
    let connecting = async {
        let mut connection = options.connect().await?;
        begin_session(&mut connection, session).await?;
        Ok(connection)
    };
    timeout(ACQUIRE_TIMEOUT, connecting).await.unwrap_or_else(|_| Err(no_response()))
}

/// The exclusive use of the connection.
pub struct Lease(OwnedMutexGuard<Slot>);

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}

impl Lease {
    /// Executes a statement, and returns its rows.
    pub async fn fetch_all(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
        deadline: Duration,
    ) -> sqlx::Result<Vec<PgRow>> {
        let done = timeout(deadline, query.fetch_all(self.connection()?)).await;
        self.finish(done)
    }

    async fn ping(&mut self) -> sqlx::Result<()> {
        let done = timeout(DEADLINE, sqlx::Connection::ping(self.connection()?)).await;
        self.finish(done)
    }

    async fn execute(&mut self, query: Query<'_, Postgres, PgArguments>) -> sqlx::Result<PgQueryResult> {
        let done = timeout(DEADLINE, query.execute(self.connection()?)).await;
        self.finish(done)
    }

    /// Begins a transaction, in one round trip with its fence.
    async fn begin(&mut self) -> sqlx::Result<()> {
        self.0.must_roll_back = true;
        let Some(fence) = self.0.fence.clone() else {
            return self.execute_text("BEGIN").await.map(drop);
        };
        let sql = format!("BEGIN; SELECT 1 FROM owner WHERE term = '{}' FOR SHARE", fence.term.0);
        let query = sqlx::raw_sql(AssertSqlSafe(sql));
        let done = timeout(DEADLINE, query.fetch_all(self.connection()?)).await;
        if self.finish(done)?.is_empty() {
            self.end("ROLLBACK").await?;
            return Err(fence.has_ended());
        }
        Ok(())
    }

    /// Returns the term of the owner who writes.
    pub fn term(&self) -> Option<Term> {
        self.0.fence.as_ref().map(|fence| fence.term)
    }

    /// Records that a write is durable.
    fn written(&self, started: StdInstant) {
        if let Some(fence) = &self.0.fence {
            fence.written(started);
        }
    }

    /// Executes statements without parameters.
    async fn execute_text(&mut self, sql: &str) -> sqlx::Result<PgQueryResult> {
        let query = sqlx::raw_sql(AssertSqlSafe(sql));
        let done = timeout(DEADLINE, query.execute(self.connection()?)).await;
        self.finish(done)
    }

    /// Ends a transaction.
    async fn end(&mut self, how: &str) -> sqlx::Result<()> {
        self.execute_text(how).await?;
        self.0.must_roll_back = false;
        Ok(())
    }

    fn connection(&mut self) -> sqlx::Result<&mut PgConnection> {
        self.0.connection.as_mut().ok_or_else(|| sqlx::Error::Io(io::ErrorKind::NotConnected.into()))
    }

    /// Drops the connection after an error that leaves it in an unknown state.
    fn finish<T>(&mut self, done: Result<sqlx::Result<T>, Elapsed>) -> sqlx::Result<T> {
        let done = done.unwrap_or_else(|_| Err(no_response()));
        if done.as_ref().is_err_and(is_over) {
            self.drop_connection();
        }
        done
    }

    fn drop_connection(&mut self) {
        self.0.connection = None;
        self.0.must_roll_back = false;
    }

    async fn execute_statement(&mut self, statement: Statement) -> Result<ExecResult, DbErr> {
        let Statement { sql, values, .. } = statement;
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments(values)?);
        self.execute(query).await.map(ExecResult::from).map_err(of_execution)
    }

    async fn query_statement(&mut self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let Statement { sql, values, .. } = statement;
        let deadline = if is_query(&sql) { QUERY_DEADLINE } else { DEADLINE };
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments(values)?);
        let rows = self.fetch_all(query, deadline).await.map_err(of_query)?;
        Ok(rows.into_iter().map(QueryResult::from).collect())
    }
}

/// Commits with one statement that writes everything. It must depend on the fence, and return whether the term is the
/// current one.
pub async fn commit(
    mut lease: Lease,
    query: Query<'_, Postgres, PgArguments>,
    skips_sync: bool,
) -> Result<(), DbErr> {
    let started = ownership::now();
    let rows = lease.fetch_all(query, DEADLINE).await.map_err(of_execution)?;
    let is_current = rows.first().map_or(Ok(false), |row| row.try_get(0)).map_err(of_execution)?;
    if !is_current {
        return Err(of_execution(lease.0.fence.as_ref().map_or_else(not_owner, Fence::has_ended)));
    }
    if !skips_sync {
        lease.written(started);
    }
    Ok(())
}

/// Returns whether a statement only reads.
fn is_query(sql: &str) -> bool {
    sql.starts_with("SELECT")
}

fn arguments(values: Option<sea_orm::sea_query::Values>) -> Result<PgArguments, DbErr> {
    let mut arguments = PgArguments::default();
    for value in values.into_iter().flat_map(|values| values.0) {
        let added = match value {
            Value::Bool(value) => arguments.add(value),
            Value::Int(value) => arguments.add(value),
            Value::BigInt(value) => arguments.add(value),
            Value::BigUnsigned(value) => {
                arguments.add(value.map(|value| i64::try_from(value).unwrap_or(i64::MAX)))
            }
            Value::String(value) => arguments.add(value),
            Value::Bytes(value) => arguments.add(value),
            other => Err(format!("no column has the type of {other:?}").into()),
        };
        added.map_err(|error| DbErr::Type(error.to_string()))?;
    }
    Ok(arguments)
}

#[async_trait::async_trait]
impl ConnectionTrait for Held {
    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let Some(transaction) = self.begin_for(&statement.sql).await? else {
            return self.lease().await?.execute_statement(statement).await;
        };
        let done = transaction.execute_raw(statement).await?;
        transaction.commit().await.map(|()| done)
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let Some(transaction) = self.begin_for(sql).await? else {
            return self.lease().await?.execute_text(sql).await.map(ExecResult::from).map_err(of_execution);
        };
        let done = transaction.execute_unprepared(sql).await?;
        transaction.commit().await.map(|()| done)
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        Ok(self.query_all_raw(statement).await?.into_iter().next())
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let Some(transaction) = self.begin_for(&statement.sql).await? else {
            return self.lease().await?.query_statement(statement).await;
        };
        let rows = transaction.query_all_raw(statement).await?;
        transaction.commit().await.map(|()| rows)
    }
}

/// A transaction. If it is dropped before its end, it is rolled back when the connection is used again.
#[derive(Debug)]
pub struct Transaction {
    lease: Mutex<Lease>,
    skips_sync: bool,
}

impl Transaction {
    /// Commits. If that succeeds, the term was the current one until then.
    pub async fn commit(self) -> Result<(), DbErr> {
        let mut lease = self.lease.into_inner();
        let started = ownership::now();
        lease.end("COMMIT").await.map_err(of_execution)?;
        if !self.skips_sync {
            lease.written(started);
        }
        Ok(())
    }

    /// Undoes everything.
    pub async fn rollback(self) -> Result<(), DbErr> {
        self.lease.into_inner().end("ROLLBACK").await.map_err(of_execution)
    }

    /// Lets the commit return before it is durable. It then proves nothing about the ownership: a server that was
    /// replaced by its standby, but does not know it, would accept it as well.
    pub async fn skip_sync(&mut self) -> Result<(), DbErr> {
        self.skips_sync = true;
        let lease = self.lease.get_mut();
        lease.execute_text("SET LOCAL synchronous_commit = off").await.map(drop).map_err(of_execution)
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.lease.lock().await.execute_statement(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.lease.lock().await.execute_text(sql).await.map(ExecResult::from).map_err(of_execution)
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        Ok(self.query_all_raw(statement).await?.into_iter().next())
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.lease.lock().await.query_statement(statement).await
    }
}
