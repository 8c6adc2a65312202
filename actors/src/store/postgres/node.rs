//! A node's own connection, with which it takes part in the ownership of the event log: it beats, claims and releases.
//! See [`crate::domain::lease`], which decides when.
//!
//! The row `owner` is locked in each of these. A beat locks it in the same mode as a write does (`FOR SHARE`), so that
//! a claim waits for both, and sees what they have written; a beat that comes after a claim shows the new owner.
//! Nothing waits for a row while it holds one that another node waits for: each node changes only its own row of
//! `node`, and a claim only reads there.

use std::{fmt, time::Duration};

use chrono::TimeDelta;
use sea_orm::{
    DbErr, RuntimeErr,
    sqlx::{
        self, AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _,
        postgres::{PgConnectOptions, PgConnection, PgRow},
    },
};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    Access, CONNECT_TIMEOUT, Location, Session, begin_session, check, fault::is_over, held::no_response,
    migrate, options,
};
use crate::{
    domain::{
        causes::with_causes,
        clock,
        lease::{Claim, ClaimOutcome, NodeId, Owner, STANDSTILL, Seen, Term},
        node::{ClockCheck, NodeName, Readable, SeenNode},
    },
    store::{OpenError, StoreError},
};

/// How long a beat may take, and before it, connecting again.
const BEAT_DEADLINE: Duration = Duration::from_secs(1);
/// How long a claim or a release may take. A lock that it waits for is given up earlier (see [`super::SESSION`]).
const CLAIM_DEADLINE: Duration = Duration::from_secs(3);

/// Locks the owner, adds 1 to the node's counter, and selects the owner with its counter, after this. The counter
/// never goes back, even if the node starts again. It stays as it is, and so does what other nodes see, if the owner is
/// another run of this node: only that run may keep other nodes from claiming the log.
///
/// If the statement had to wait for a claim, the counter of the new owner may be an earlier one. That does no harm: the
/// observation of the new owner then begins with the next beat.
///
/// The row of the node contains the run that has beaten last, so that each beat shows whether another one has beaten
/// since the last beat of this run. The row may have changed while the statement waited: `before` does not show that,
/// but the counter does. The times are those of the server's clock.
const BEAT: &str = "WITH owned AS MATERIALIZED (SELECT node, term, place, since FROM owner FOR SHARE), \
    before AS MATERIALIZED (SELECT boot, started_at, seen_at, beat FROM node WHERE id = $1::uuid), \
    me AS (INSERT INTO node (id, boot, name, url, version, able, reads_keys, clock_ahead, started_at, seen_at, beat) \
      SELECT $1::uuid, $2::uuid, $3, $4, $5, $6, $11, $12, COALESCE($8::timestamptz, clock_timestamp()), \
        clock_timestamp(), \
        CASE WHEN owned.node = $1::uuid AND owned.term IS DISTINCT FROM $7::uuid THEN 0 ELSE 1 END FROM owned \
      ON CONFLICT (id) DO UPDATE SET beat = node.beat + excluded.beat, boot = excluded.boot, \
        name = CASE WHEN excluded.beat = 0 THEN node.name ELSE excluded.name END, \
        url = CASE WHEN excluded.beat = 0 THEN node.url ELSE excluded.url END, \
        version = CASE WHEN excluded.beat = 0 THEN node.version ELSE excluded.version END, \
        able = CASE WHEN excluded.beat = 0 THEN node.able ELSE excluded.able END, \
        reads_keys = CASE WHEN excluded.beat = 0 THEN node.reads_keys ELSE excluded.reads_keys END, \
        clock_ahead = CASE WHEN excluded.beat = 0 THEN node.clock_ahead ELSE excluded.clock_ahead END, \
        started_at = CASE WHEN node.boot = excluded.boot THEN node.started_at ELSE excluded.started_at END, \
        seen_at = excluded.seen_at \
      RETURNING id, beat, started_at) \
    SELECT owned.node::text AS node, owned.term::text AS term, \
      COALESCE(CASE WHEN owned.node = me.id THEN me.beat ELSE other.beat END, 0) AS beat, \
      other.url AS url, other.name AS name, \
      COALESCE(owned.place = $9::uuid, false) OR ($13 AND me.beat = COALESCE(before.beat, 0) AND NOT \
        COALESCE(before.seen_at > statement_timestamp() - make_interval(secs => $10), false)) AS has_ended, \
      CAST(extract(epoch FROM clock_timestamp() - owned.since) * 1000000 AS bigint) AS term_age, \
      EXISTS (SELECT FROM node waiting WHERE waiting.id <> me.id AND waiting.able \
        AND waiting.seen_at BETWEEN clock_timestamp() - make_interval(secs => $10) \
          AND clock_timestamp() + make_interval(secs => 1)) AS has_others, \
      COALESCE(before.boot <> $2::uuid \
        AND (before.started_at, before.boot) < ($8::timestamptz, $2::uuid), false) AS has_older_twin, \
      me.started_at::text AS started_at, \
      (SELECT COALESCE(json_agg(json_build_array(id, boot, name, url, version, beat, able, reads_keys, clock_ahead, \
          CAST(extract(epoch FROM clock_timestamp() - seen_at) AS double precision)) ORDER BY name, id), '[]')::text \
        FROM (SELECT * FROM node ORDER BY seen_at DESC LIMIT 32) recent) AS nodes, \
      CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint) AS server_clock \
    FROM owned CROSS JOIN me LEFT JOIN before ON true LEFT JOIN node other ON other.id = owned.node";

/// Locks the owner if its term is the one that was seen. Waits for beats and writes under way.
const LOCK_OWNER: &str = "SELECT node::text FROM owner WHERE term = $1::uuid FOR UPDATE";
/// Its snapshot is taken when the lock is held, so that it contains the last beat of the owner.
const COUNTER: &str = "SELECT beat FROM node WHERE id = $1::uuid";
const TAKE_OVER: &str = "UPDATE owner SET node = $1::uuid, term = $2::uuid, place = $3::uuid, terms = terms + 1, \
    since = NULL";
const STARTED: &str = "UPDATE owner SET since = clock_timestamp() WHERE term = $1::uuid";
/// Skips a node that comes back at this moment, so that nothing waits.
const FORGET: &str = "DELETE FROM node WHERE id IN (SELECT id FROM node \
    WHERE id <> $1::uuid AND seen_at < clock_timestamp() - interval '7 days' FOR UPDATE SKIP LOCKED)";
/// Whether other nodes that can connect to the broker have used the database in the last week.
const OTHERS: &str = "SELECT EXISTS (SELECT FROM node WHERE id <> $1::uuid AND able)";
const RELEASE: &str = "UPDATE owner SET node = NULL WHERE term = $1::uuid";

/// How other nodes see this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeDescription {
    /// The name for people, such as that of the machine.
    pub name: String,
    /// The URL under which other nodes reach this one.
    pub url: String,
    /// The version of this program.
    pub version: String,
    /// What it can decrypt. If it cannot decrypt the settings, it cannot connect to the broker.
    pub reads: Readable,
}

/// The answer to a beat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// What decides about the ownership.
    pub seen: Seen,
    /// The URL of the owner, if there is one.
    pub owner_url: Option<String>,
    /// The name of the owner, if there is one.
    pub owner_name: Option<String>,
    /// The nodes that have beaten last, at most 32, by name.
    pub nodes: Vec<SeenNode>,
    /// By how much the clock of this machine is ahead of the server's.
    pub clock_ahead: TimeDelta,
}

/// The connection. It is opened again when it was lost.
pub struct NodeConnection {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    me: NodeId,
    /// Identifies this run of the node.
    boot: Uuid,
    /// See [`DataDir::place`](crate::data_dir::DataDir::place).
    place: Option<Uuid>,
    /// When this run has started, by the server's clock, as the first answer to a beat has shown it.
    started_at: Option<String>,
    /// Whether a beat of this run was sent, even if it was not answered.
    has_beaten: bool,
    about: NodeDescription,
    clock: ClockCheck,
}

impl fmt::Debug for NodeConnection {
    /// Omits the options, which contain the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeConnection").field("me", &self.me).finish_non_exhaustive()
    }
}

fn failed(error: sqlx::Error) -> StoreError {
    DbErr::Exec(RuntimeErr::SqlxError(error.into())).into()
}

fn invalid(error: uuid::Error) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}

impl NodeConnection {
    /// Checks the server, and creates or upgrades the tables. The first beat adds the node to them: a node that starts
    /// again and again, and ends before it beats, is not noticed by the others. `place` is that of the data directory.
    /// Fails while a command runs that cannot run at the same time as a service.
    pub async fn open(
        location: &Location,
        me: NodeId,
        place: Option<Uuid>,
        about: NodeDescription,
    ) -> Result<Self, OpenError> {
        let fail = |(fault, source)| OpenError::Server { database: location.to_string(), fault, source };
        let options = options(location);
        check(&options, Access::Service).await.map_err(fail)?;
        migrate(options.clone(), Access::Service).await.map_err(fail)?;
        let boot = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
        let mut node = Self {
            options,
            connection: None,
            me,
            boot,
            place,
            started_at: None,
            has_beaten: false,
            about,
            clock: ClockCheck::default(),
        };
        node.connect(CONNECT_TIMEOUT).await.map_err(|error| fail(super::other(error)))?;
        Ok(node)
    }

    /// Returns the id of the node.
    pub fn id(&self) -> NodeId {
        self.me
    }

    /// Returns what identifies this run of the node. It is random, but no secret.
    pub fn boot(&self) -> Uuid {
        self.boot
    }

    /// Changes what other nodes see with the next beat.
    pub fn describe(&mut self, about: NodeDescription) {
        self.about = about;
    }

    /// Changes what the node can decrypt. If no other node can decrypt the settings, nothing is gained by waiting for
    /// one, and what was determined at the start remains.
    pub fn set_reads(&mut self, reads: Readable, has_able_others: bool) {
        self.about.reads.keys = reads.keys;
        if reads.settings || has_able_others {
            self.about.reads.settings = reads.settings;
        }
    }

    /// Returns whether other nodes, which can connect to the broker, use the database or have used it in the last week.
    pub async fn has_able_others(&mut self) -> Result<bool, StoreError> {
        self.connect(BEAT_DEADLINE).await.map_err(failed)?;
        let me = self.me.0.to_string();
        let found = self.within(CLAIM_DEADLINE, async |connection| {
            sqlx::query_scalar(OTHERS).bind(me).fetch_one(connection).await
        });
        found.await.map_err(failed)
    }

    /// Adds 1 to this node's counter, and returns the owner. `term` is the one that this run of the node has.
    pub async fn beat(&mut self, term: Option<Term>) -> Result<Beat, StoreError> {
        self.connect(BEAT_DEADLINE).await.map_err(failed)?;
        let query = sqlx::query(BEAT)
            .bind(self.me.0.to_string())
            .bind(self.boot.to_string())
            .bind(self.about.name.clone())
            .bind(self.about.url.clone())
            .bind(self.about.version.clone())
            .bind(self.about.reads.settings)
            .bind(term.map(|term| term.0.to_string()))
            .bind(self.started_at.clone())
            .bind(self.place.map(|place| place.to_string()))
            .bind(STANDSTILL.as_secs_f64())
            .bind(self.about.reads.keys)
            .bind(self.clock.ahead_seconds())
            .bind(!std::mem::replace(&mut self.has_beaten, true));
        let row = self.within(BEAT_DEADLINE, async |connection| query.fetch_one(connection).await);
        let row = row.await.map_err(failed)?;
        self.started_at = Some(row.try_get("started_at").map_err(failed)?);
        let beat = to_beat(&row).map_err(failed)?;
        self.check_clock(&beat);
        Ok(beat)
    }

    /// Removes the nodes that have not beaten for a week. Only the owner calls this.
    pub async fn forget_absent(&mut self) -> Result<(), StoreError> {
        self.connect(BEAT_DEADLINE).await.map_err(failed)?;
        let me = self.me.0.to_string();
        let forgotten = self
            .within(BEAT_DEADLINE, async |connection| sqlx::query(FORGET).bind(me).execute(connection).await);
        forgotten.await.map(drop).map_err(failed)
    }

    /// Claims the log. The claim has ended when this returns, unless the outcome is unknown.
    pub async fn claim(&mut self, claim: &Claim) -> ClaimOutcome {
        if self.connect(BEAT_DEADLINE).await.is_err() {
            return ClaimOutcome::Refused;
        }
        let Some(mut connection) = self.connection.take() else { return ClaimOutcome::Refused };
        match timeout(CLAIM_DEADLINE, try_claim(&mut connection, (self.me, self.place), claim)).await {
            Ok(Ok(is_granted)) => {
                self.connection = Some(connection);
                if is_granted { ClaimOutcome::Granted } else { ClaimOutcome::Refused }
            }
            // The connection is dropped, which ends the transaction unless it has been committed.
            Ok(Err(error)) => {
                tracing::debug!(error = %with_causes(&error), "the claim failed");
                ClaimOutcome::Unknown
            }
            Err(_) => ClaimOutcome::Unknown,
        }
    }

    /// Records that the service has started in this term, unless the term has ended.
    pub async fn service_started(&mut self, term: Term) -> Result<(), StoreError> {
        self.connect(BEAT_DEADLINE).await.map_err(failed)?;
        let recorded = self.within(CLAIM_DEADLINE, async |connection| {
            sqlx::query(STARTED).bind(term.0.to_string()).execute(connection).await
        });
        recorded.await.map(drop).map_err(failed)
    }

    /// Ends the ownership, if this is still the current term, so that another node can claim the log at once. Returns
    /// whether it was. The term stays the current one until then, so writes with it must have ended before.
    pub async fn release(&mut self, term: Term) -> Result<bool, StoreError> {
        self.connect(BEAT_DEADLINE).await.map_err(failed)?;
        let released = self
            .within(CLAIM_DEADLINE, async |connection| {
                sqlx::query(RELEASE).bind(term.0.to_string()).execute(connection).await
            })
            .await;
        released.map(|done| done.rows_affected() > 0).map_err(failed)
    }

    /// Closes the connection.
    pub async fn close(mut self) {
        if let Some(connection) = self.connection.take() {
            // The server notices the end of the connection in any case.
            let _closed = timeout(CLAIM_DEADLINE, connection.close()).await;
        }
    }

    /// Records how far the clocks are apart. The next beat shows it to the active node, which warns about it.
    fn check_clock(&mut self, beat: &Beat) {
        if self.clock.record(beat.clock_ahead.as_seconds_f64()) {
            match self.clock.ahead_seconds() {
                0 => tracing::info!("the clocks of this machine and of the database server agree"),
                seconds => tracing::warn!(
                    seconds,
                    "the clock of this machine is ahead of that of the database server (behind it, if negative); \
                     synchronize both with NTP"
                ),
            }
        }
    }

    /// Connects, unless there is a connection.
    async fn connect(&mut self, deadline: Duration) -> sqlx::Result<()> {
        if self.connection.is_none() {
            let connecting = async {
                let mut connection = self.options.connect().await?;
                begin_session(&mut connection, Session::of(Access::Service)).await?;
                Ok(connection)
            };
            let connected = timeout(deadline, connecting).await.unwrap_or_else(|_| Err(no_response()));
            self.connection = Some(connected?);
        }
        Ok(())
    }

    /// Executes a statement. After the deadline, or an error that leaves the connection in an unknown state, the
    /// connection is dropped.
    async fn within<T>(
        &mut self,
        deadline: Duration,
        run: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        let Some(mut connection) = self.connection.take() else { return Err(no_response()) };
        let done = timeout(deadline, run(&mut connection)).await.unwrap_or_else(|_| Err(no_response()));
        if !done.as_ref().is_err_and(is_over) {
            self.connection = Some(connection);
        }
        done
    }
}

fn to_beat(row: &PgRow) -> sqlx::Result<Beat> {
    let node: Option<String> = row.try_get("node")?;
    let term: String = row.try_get("term")?;
    let server_clock: i64 = row.try_get("server_clock")?;
    let here = clock::to_micros(clock::now());
    // Absent if the service has not started in this term. Negative if the clock was set back.
    let term_age: Option<i64> = row.try_get("term_age")?;
    let term_age = Duration::from_micros(term_age.unwrap_or(0).try_into().unwrap_or(0));
    Ok(Beat {
        seen: Seen {
            owner: Owner {
                node: node.map(|id| id.parse().map(NodeId)).transpose().map_err(invalid)?,
                term: Term(term.parse().map_err(invalid)?),
                beat: row.try_get("beat")?,
            },
            owner_has_ended: row.try_get("has_ended")?,
            term_age,
            has_others: row.try_get("has_others")?,
            has_older_twin: row.try_get("has_older_twin")?,
        },
        owner_url: row.try_get("url")?,
        owner_name: row.try_get("name")?,
        nodes: to_nodes(row.try_get("nodes")?)?,
        clock_ahead: TimeDelta::microseconds(here.saturating_sub(server_clock)),
    })
}

fn to_nodes(json: &str) -> sqlx::Result<Vec<SeenNode>> {
    type Row = (Uuid, Uuid, String, String, String, i64, bool, bool, i32, f64);
    let rows: Vec<Row> = serde_json::from_str(json).map_err(|error| sqlx::Error::Decode(error.into()))?;
    let to_node =
        |(id, boot, name, url, version, beat, settings, keys, clock_ahead_seconds, unseen): Row| SeenNode {
            id: NodeId(id),
            boot,
            name: NodeName { name, url },
            version,
            beat,
            reads: Readable { settings, keys },
            clock_ahead_seconds,
            // Negative if the clock of the server was set back.
            unseen_for: Duration::try_from_secs_f64(unseen).unwrap_or_default(),
        };
    Ok(rows.into_iter().map(to_node).collect())
}

/// Returns whether the claim was granted. The lock on the owner lasts to the end of the transaction.
async fn try_claim(
    connection: &mut PgConnection,
    (me, place): (NodeId, Option<Uuid>),
    claim: &Claim,
) -> sqlx::Result<bool> {
    execute_text(connection, "BEGIN").await?;
    let is_granted = is_current(connection, claim).await?;
    if is_granted {
        let take_over = sqlx::query(TAKE_OVER)
            .bind(me.0.to_string())
            .bind(claim.term.0.to_string())
            .bind(place.map(|place| place.to_string()));
        take_over.execute(&mut *connection).await?;
    }
    execute_text(connection, if is_granted { "COMMIT" } else { "ROLLBACK" }).await?;
    Ok(is_granted)
}

/// Locks the owner. Returns whether it is still the one that the claim has seen.
async fn is_current(connection: &mut PgConnection, claim: &Claim) -> sqlx::Result<bool> {
    let owner =
        sqlx::query(LOCK_OWNER).bind(claim.seen.0.to_string()).fetch_optional(&mut *connection).await?;
    let Some(owner) = owner else { return Ok(false) };
    let node: Option<String> = owner.try_get(0)?;
    let (Some(seen), Some(node)) = (claim.beat, node) else { return Ok(true) };
    let beat = sqlx::query_scalar(COUNTER).bind(node).fetch_optional(&mut *connection).await?;
    Ok(beat.unwrap_or(0) == seen)
}

async fn execute_text(connection: &mut PgConnection, sql: &str) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
}
