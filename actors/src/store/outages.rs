//! The table `outages`: the periods without a connection to the broker. What became of their events is read from the
//! event log.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, Value};

use super::{
    StoreError,
    dialect::{self, Existing, Insert, Type},
};
use crate::domain::{
    clock::{self, LogTime, Timestamp},
    delivery::Unwritten,
    ids::Seq,
    numbers::saturate,
    outage::{Facts, Instant, KEPT, LogExtent, MAX_OUTAGES, Outage, OutageKind},
    status::FailureKind,
};

/// The maximum number of rows in each table that one statement reads for the facts of an outage. Few in tests of this
/// crate, so that some events are several parts.
const PART_ROWS: i64 = if cfg!(test) { 5 } else { 2000 };

const SELECT: &str = "SELECT id, kind, reason, began_at, began_log, ended_at, ended_log, cursor, before_seq, last_seq, \
    pending, missing, charts_until FROM outages";

fn outage(row: &QueryResult) -> Result<Outage, DbErr> {
    let kind: String = row.try_get("", "kind")?;
    let reason: Option<String> = row.try_get("", "reason")?;
    let seq = |column: &str| row.try_get("", column).map(Seq);
    let instant = |wall: Option<i64>, log: Option<i64>| {
        Some(Instant { wall: clock::from_micros(wall?), log: LogTime(log?) })
    };
    let pending: i64 = row.try_get("", "pending")?;
    let charts_until: Option<i64> = row.try_get("", "charts_until")?;
    Ok(Outage {
        id: row.try_get("", "id")?,
        kind: OutageKind::parse(&kind).unwrap_or(OutageKind::Unknown),
        reason: reason.as_deref().and_then(FailureKind::parse),
        began: Instant {
            wall: clock::from_micros(row.try_get("", "began_at")?),
            log: LogTime(row.try_get("", "began_log")?),
        },
        ended: instant(row.try_get("", "ended_at")?, row.try_get("", "ended_log")?),
        before: LogExtent { cursor: seq("cursor")?, last: seq("before_seq")?, pending: saturate(pending) },
        last: seq("last_seq")?,
        missing: row.try_get("", "missing")?,
        charts_until: charts_until.map(clock::from_micros),
    })
}

async fn query(db: &impl ConnectionTrait, sql: &str, values: Vec<Value>) -> Result<Vec<QueryResult>, DbErr> {
    let statement = dialect::statement(db, format!("{SELECT} {sql}"), values);
    db.query_all_raw(statement).await
}

/// Returns the outages that overlap a period, oldest first.
pub async fn between(
    db: &impl ConnectionTrait,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Outage>, DbErr> {
    let values = vec![clock::to_micros(from).into(), clock::to_micros(to).into()];
    let overlapping = "WHERE began_at <= ?2 AND (ended_at IS NULL OR ended_at >= ?1) ORDER BY id";
    query(db, overlapping, values).await?.iter().map(outage).collect()
}

/// Returns the outages that have not ended, and the latest one.
pub async fn latest(db: &impl ConnectionTrait) -> Result<Vec<Outage>, DbErr> {
    let latest = "WHERE ended_at IS NULL OR id = (SELECT MAX(id) FROM outages) ORDER BY id";
    query(db, latest, Vec::new()).await?.iter().map(outage).collect()
}

/// Returns since when outages are recorded, or `None` if there are none.
pub async fn recorded_from(db: &impl ConnectionTrait) -> Result<Option<Timestamp>, DbErr> {
    let sql = "SELECT MIN(began_at) AS first FROM outages";
    let row = db.query_one_raw(dialect::statement(db, sql, [])).await?;
    let first: Option<i64> = row.map(|row| row.try_get("", "first")).transpose()?.flatten();
    Ok(first.map(clock::from_micros))
}

/// Inserts or replaces outages.
const UPSERT: Insert<13> = Insert {
    table: "outages",
    columns: [
        ("id", Type::Number),
        ("kind", Type::Text),
        ("reason", Type::Text),
        ("began_at", Type::Number),
        ("began_log", Type::Number),
        ("ended_at", Type::Number),
        ("ended_log", Type::Number),
        ("cursor", Type::Number),
        ("before_seq", Type::Number),
        ("last_seq", Type::Number),
        ("pending", Type::Number),
        ("missing", Type::Truth),
        ("charts_until", Type::Number),
    ],
    existing: Existing::IsReplaced(1),
};

/// Returns the statements that store these outages, and remove old ones. The last one that is over before `now` minus
/// the time for which outages are kept remains, because outages are recorded at least since then.
pub fn write_statements(backend: DbBackend, outages: &[Outage], now: LogTime) -> Vec<Statement> {
    const REMOVE: &str = "DELETE FROM outages WHERE id <= (SELECT MAX(id) FROM outages) - ? \
        OR id < (SELECT MAX(id) FROM outages WHERE ended_log < ?)";
    if outages.is_empty() {
        return Vec::new();
    }
    let row = |outage: &Outage| {
        let Outage { id, kind, reason, began, ended, before, last, missing, charts_until } = outage;
        let values: [Value; 13] = [
            (*id).into(),
            kind.as_str().into(),
            reason.map(|reason| reason.as_str().to_owned()).into(),
            clock::to_micros(began.wall).into(),
            began.log.0.into(),
            ended.map(|ended| clock::to_micros(ended.wall)).into(),
            ended.map(|ended| ended.log.0).into(),
            before.cursor.0.into(),
            before.last.0.into(),
            last.0.into(),
            saturate::<u64, i64>(before.pending).into(),
            (*missing).into(),
            charts_until.map(clock::to_micros).into(),
        ];
        UPSERT.statement(backend, [values].into_iter())
    };
    let limits: [Value; 2] = [saturate::<u64, i64>(MAX_OUTAGES).into(), now.before(KEPT).0.into()];
    let remove = dialect::statement_for(backend, REMOVE, limits);
    outages.iter().map(row).chain([remove]).collect()
}

/// Marks the outages whose events are among these as incomplete.
pub async fn mark_missing(db: &impl ConnectionTrait, first: Seq, last: Seq) -> Result<(), DbErr> {
    const SQL: &str =
        "UPDATE outages SET missing = TRUE WHERE cursor < ?2 AND (last_seq >= ?1 OR ended_at IS NULL)";
    let values = [first.0.into(), last.0.into()];
    db.execute_raw(dialect::statement(db, SQL, values)).await.map(drop)
}

/// Returns the latest moment for which there is proof that the service was running.
pub async fn last_alive(db: &impl ConnectionTrait) -> Result<Option<Instant>, DbErr> {
    const SQL: &str = "SELECT wall, log FROM (\
        SELECT * FROM (SELECT received_at AS wall, COALESCE(log_time, received_at) AS log FROM events \
          ORDER BY seq DESC LIMIT 1) e \
        UNION ALL SELECT * FROM (SELECT acked_at, COALESCE(log_time, acked_at) FROM deliveries \
          ORDER BY up_to_seq DESC LIMIT 1) d \
        UNION ALL SELECT * FROM (SELECT at, COALESCE(log_time, at) AS log FROM dead_events \
          ORDER BY log DESC LIMIT 1) x \
        UNION ALL SELECT * FROM (SELECT (at + span) * 60000000, log_time FROM history ORDER BY at DESC LIMIT 1) h \
        UNION ALL SELECT * FROM (SELECT COALESCE(ended_at, began_at), COALESCE(ended_log, began_log) FROM outages \
          ORDER BY id DESC LIMIT 1) o) proofs ORDER BY log DESC LIMIT 1";
    let row = db.query_one_raw(dialect::statement(db, SQL, [])).await?;
    let instant = |row: QueryResult| {
        let wall = clock::from_micros(row.try_get("", "wall")?);
        Ok(Instant { wall, log: LogTime(row.try_get("", "log")?) })
    };
    row.map(instant).transpose()
}

fn json(seqs: impl Iterator<Item = i64>) -> Value {
    seqs.collect::<serde_json::Value>().to_string().into()
}

/// Returns the end of the next part of a range, at most `last`. A part has a limited number of rows in each table, so
/// reading its facts takes at most some 10 ms.
async fn part_end(db: &impl ConnectionTrait, after: Seq, last: Seq) -> Result<Seq, DbErr> {
    const SQL: &str = "SELECT MIN(seq) AS seq FROM (\
        SELECT * FROM (SELECT up_to_seq AS seq FROM deliveries WHERE up_to_seq > ?1 \
          ORDER BY up_to_seq LIMIT 1 OFFSET ?2) a \
        UNION ALL SELECT * FROM (SELECT seq FROM dead_events WHERE seq > ?1 ORDER BY seq LIMIT 1 OFFSET ?2) b \
        UNION ALL SELECT * FROM (SELECT seq FROM retries WHERE seq > ?1 ORDER BY seq LIMIT 1 OFFSET ?2) c \
        UNION ALL SELECT * FROM (SELECT last_seq FROM deliveries_ahead WHERE first_seq > ?1 \
          ORDER BY first_seq LIMIT 1 OFFSET ?2) d) ends";
    let row = db.query_one_raw(dialect::statement(db, SQL, [after.0.into(), PART_ROWS.into()])).await?;
    let end: Option<i64> = row.map(|row| row.try_get("", "seq")).transpose()?.flatten();
    Ok(end.map_or(last, |end| last.min(Seq(end))))
}

/// Reads the facts of the next part of an outage's events: those after a position. Returns the end of the part, too.
/// The facts of an outage are the sums over its parts. `unwritten` is what the outbox knew before this reads the
/// database, so an event may be counted twice, but none is left out.
pub async fn part(
    db: &impl ConnectionTrait,
    outage: &Outage,
    after: Seq,
    unwritten: &Unwritten,
) -> Result<(Facts, Seq), DbErr> {
    // A row of `deliveries` can include events whose own rows take precedence: dead ones, retried ones, and those that
    // were delivered ahead of the cursor.
    const LATE_ROW: &str = "COALESCE((SELECT c.late FROM deliveries c WHERE c.up_to_seq >= last_of \
        ORDER BY c.up_to_seq LIMIT 1), FALSE)";
    // The first range that can overlap: ranges do not overlap each other.
    const AHEAD: &str = "FROM deliveries_ahead a WHERE a.last_seq > ?1 AND a.first_seq <= ?2 AND a.first_seq >= \
        COALESCE((SELECT MAX(f.first_seq) FROM deliveries_ahead f WHERE f.first_seq <= ?1), 0)";
    let end = part_end(db, after, outage.last).await?;
    let late_row = |last_of: &str| LATE_ROW.replace("last_of", last_of);
    let sql = format!(
        "SELECT \
         (SELECT COUNT(*) FROM dead_events x WHERE x.seq > ?1 AND x.seq <= ?2 AND COALESCE(x.log_time, x.at) >= ?3 \
           AND x.seq NOT IN (SELECT value FROM json_each(?4))) AS dead, \
         (SELECT COUNT(*) FROM retries r WHERE r.seq > ?1 AND r.seq <= ?2 AND r.acked_at IS NULL \
           AND r.seq NOT IN (SELECT value FROM json_each(?4)) \
           AND r.seq NOT IN (SELECT value FROM json_each(?5))) AS retrying, \
         (SELECT COUNT(*) FROM retries r WHERE r.seq > ?1 AND r.seq <= ?2) AS retried, \
         CAST((SELECT COALESCE(SUM(MIN(d.up_to_seq, ?2) - MAX(COALESCE(\
             (SELECT MAX(p.up_to_seq) FROM deliveries p WHERE p.up_to_seq < d.up_to_seq), 0), ?1)), 0) \
           FROM deliveries d WHERE d.late AND d.up_to_seq > ?1 AND d.up_to_seq <= COALESCE(\
             (SELECT MIN(up_to_seq) FROM deliveries WHERE up_to_seq >= ?2), ?2)) \
         - (SELECT COUNT(*) FROM dead_events x WHERE x.seq > ?1 AND x.seq <= ?2 AND {dead_late}) \
         - (SELECT COUNT(*) FROM retries r WHERE r.seq > ?1 AND r.seq <= ?2 AND {retry_late}) \
         - (SELECT COALESCE(SUM(MIN(a.last_seq, ?2) - MAX(a.first_seq - 1, ?1)), 0) {AHEAD} \
             AND {ahead_late}) \
         + (SELECT COALESCE(SUM(MIN(a.last_seq, ?2) - MAX(a.first_seq - 1, ?1)), 0) {AHEAD} \
             AND a.late) \
         + (SELECT COUNT(*) FROM retries r WHERE r.seq > ?1 AND r.seq <= ?2 AND r.acked_at IS NOT NULL AND r.late) \
         AS BIGINT) AS late, \
         EXISTS (SELECT 1 FROM seq_gaps g WHERE g.last_seq > ?1 AND g.first_seq <= ?2) AS gap",
        dead_late = late_row("x.seq"),
        retry_late = late_row("r.seq"),
        ahead_late = late_row("a.last_seq"),
    );
    let dead = || unwritten.dead.iter().map(|(seq, _)| seq.0);
    let values = [
        after.0.into(),
        end.0.into(),
        outage.began.log.0.into(),
        json(dead()),
        json(unwritten.resent.iter().map(|resent| resent.seq.0)),
    ];
    let statement = dialect::statement(db, sql, values);
    let row = db.query_one_raw(statement).await?.ok_or_else(|| DbErr::RecordNotFound("facts".to_owned()))?;
    let count = |column: &str| row.try_get::<i64>("", column).map(saturate::<i64, u64>);
    let is_in_range = |seq: &i64| after.0 < *seq && *seq <= end.0;
    let unwritten_dead = u64::try_from(dead().filter(is_in_range).count()).unwrap_or(u64::MAX);
    let gap: bool = row.try_get("", "gap")?;
    let facts = Facts {
        waiting: count("retrying")?,
        dead: count("dead")?.saturating_add(unwritten_dead),
        late: count("late")?,
        retried: count("retried")?,
        complete: !gap,
    };
    Ok((facts, end))
}

/// Returns the position up to which the database records deliveries: of the events up to it, none is pending, apart
/// from dead ones that are sent again.
pub async fn cursor(db: &impl ConnectionTrait) -> Result<Seq, DbErr> {
    const SQL: &str = "SELECT COALESCE(MAX(up_to_seq), 0) AS up_to FROM deliveries";
    let row = db.query_one_raw(dialect::statement(db, SQL, [])).await?;
    row.map_or(Ok(Seq(0)), |row| row.try_get("", "up_to").map(Seq))
}

/// Returns whether the log still has the events of an outage: old ones are removed in order.
pub async fn has_events(db: &impl ConnectionTrait, outage: &Outage) -> Result<bool, DbErr> {
    Ok(!outage.missing && is_in_log(db, outage.before.cursor.next()).await?)
}

/// Returns whether an event is in the log. One that cannot be read is not.
async fn is_in_log(db: &impl ConnectionTrait, seq: Seq) -> Result<bool, DbErr> {
    const SQL: &str = "SELECT 1 FROM events WHERE seq = ?";
    let statement = dialect::statement(db, SQL, [seq.0.into()]);
    match db.query_one_raw(statement).await {
        Ok(row) => Ok(row.is_some()),
        Err(error) if StoreError::from(error.clone()).is_corruption() => Ok(false),
        Err(error) => Err(error),
    }
}
