//! Removes events that are settled and older than the retention period. Works in small steps, so that commits
//! are not delayed. Damaged rows that cannot be removed are left.

use std::{collections::BTreeSet, time::Duration};

use sea_orm::{ConnectionTrait, DbErr};

use super::{Store, StoreError, deliveries, deliveries_ahead, dialect, search, seq_gaps, tracked};
use crate::domain::{clock::LogTime, ids::Seq, numbers::saturate};

/// Rows per step. A step occupies the writing connection for a few milliseconds.
const STEP: u64 = 500;
/// The pause between two steps, in which the writing connection is free for commits.
const PAUSE: Duration = Duration::from_millis(20);

/// What a sweep removes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldEvents {
    /// All events up to this position, except for those in `kept`.
    pub up_to: Seq,
    /// The events up to there that are kept: they are waiting for a retry, or were retried or died later.
    pub kept: BTreeSet<Seq>,
    before: LogTime,
}

/// The result of a sweep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// The number of events removed.
    pub events: u64,
    /// The number of dead events among them that were not dismissed.
    pub dead: u64,
    /// The number of events that could not be removed because the database is damaged there.
    pub damaged: u64,
}

/// The result of a step.
enum Step {
    /// There was nothing to remove.
    Nothing,
    /// Everything up to this position was removed.
    Removed(Seq),
    /// Nothing was removed, because the database is damaged at one of several positions, beginning with this one.
    Damaged(Seq),
}

/// Returns the statement that selects the events after `?4` and up to `?1` that can be removed. An event that died
/// or was retried counts from that time on, which is later than that of its checkpoint. Each part has a limit of its
/// own, so that nothing after the first rows is read.
fn old_sql(events: &str) -> String {
    let part = |from: &str| {
        format!(
            "SELECT seq FROM (SELECT o.seq FROM {from} WHERE o.seq > ?4 AND o.seq <= ?1 \
               AND NOT EXISTS (SELECT 1 FROM dead_events x WHERE x.seq = o.seq AND COALESCE(x.log_time, x.at) >= ?2) \
               AND NOT EXISTS (SELECT 1 FROM retries r WHERE r.seq = o.seq \
                 AND (r.acked_at IS NULL OR COALESCE(r.acked_log_time, r.acked_at) >= ?2)) \
               ORDER BY o.seq LIMIT ?3) part"
        )
    };
    let parts = [events, "dead_events o", "retries o"].map(part).join(" UNION ");
    format!("{parts} ORDER BY seq LIMIT ?3")
}

/// Selects the events up to `?1` that are kept.
const KEPT: &str = "SELECT seq FROM dead_events WHERE seq <= ?1 AND COALESCE(log_time, at) >= ?2 \
    UNION SELECT seq FROM retries WHERE seq <= ?1 \
        AND (acked_at IS NULL OR COALESCE(acked_log_time, acked_at) >= ?2)";

/// Returns which events were settled before `before`, or `None` if there are none. Events that are waiting
/// for a retry are kept.
pub async fn find(store: &Store, before: LogTime) -> Result<Option<OldEvents>, DbErr> {
    let Some(up_to) = deliveries::settled_before(&store.read, before).await? else { return Ok(None) };
    let values = [up_to.0.into(), before.0.into()];
    let rows = store.read.query_all_raw(dialect::statement(&store.read, KEPT, values)).await?;
    let kept = rows.iter().map(|row| row.try_get_by_index(0).map(Seq)).collect::<Result<_, _>>()?;
    Ok(Some(OldEvents { up_to, kept, before }))
}

/// Removes these events, with their rows in the other tables. Leaves out those that cannot be removed because the
/// database is damaged there, and goes on with the others.
pub async fn remove(store: &Store, old: &OldEvents) -> Result<Swept, StoreError> {
    // The counts of the cameras include removed events.
    tracked::write_all(store).await?;
    // Before the events, so that nothing that is removed is found or counted.
    search::forget_up_to(store, old.up_to).await?;
    let mut swept = Swept::default();
    let (mut after, mut limit) = (Seq(0), STEP);
    loop {
        match step(store, after, limit, old, &mut swept).await? {
            Step::Nothing => break,
            Step::Removed(last) => {
                (after, limit) = (last, STEP.min(limit * 2));
                search::remove_rows(store, last).await?;
            }
            Step::Damaged(_) if limit > 1 => limit /= 2,
            Step::Damaged(first) => {
                after = first;
                swept.damaged += 1;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    while search::remove_rows(store, old.up_to).await? > 0 {
        tokio::time::sleep(PAUSE).await;
    }
    while deliveries::delete_before(&store.write, old.up_to, STEP).await? > 0 {
        tokio::time::sleep(PAUSE).await;
    }
    while deliveries_ahead::delete_up_to(&store.write, old.up_to, STEP).await? > 0 {
        tokio::time::sleep(PAUSE).await;
    }
    seq_gaps::delete_before(&store.write, old.up_to).await?;
    Ok(swept)
}

/// Removes the first events after this position with all their rows in one transaction. An event that lost only
/// its row in `dead_events` would count as delivered.
async fn step(
    store: &Store,
    after: Seq,
    limit: u64,
    old: &OldEvents,
    swept: &mut Swept,
) -> Result<Step, StoreError> {
    let mut txn = store.begin().await?;
    let seqs = match select(&txn, "events o", after, limit, old).await.map_err(StoreError::from) {
        // The index has all positions, too, but must be read as a whole. SQLite executes nothing else in a
        // transaction that has found damage.
        Err(error) if error.is_corruption() => {
            txn.rollback().await?;
            txn = store.begin().await?;
            select(&txn, "events o INDEXED BY sqlite_autoindex_events_1", after, limit, old).await?
        }
        seqs => seqs?,
    };
    let (Some(first), Some(last)) = (seqs.first(), seqs.last()) else {
        txn.rollback().await?;
        return Ok(Step::Nothing);
    };
    match delete(&txn, &seqs).await.map_err(StoreError::from) {
        Ok(deleted) => {
            txn.commit().await?;
            swept.dead += deleted.dead;
            swept.events += deleted.events;
            Ok(Step::Removed(Seq(*last)))
        }
        Err(error) if error.is_corruption() => {
            txn.rollback().await?;
            Ok(Step::Damaged(Seq(*first)))
        }
        Err(error) => Err(error),
    }
}

/// Returns the positions of the first events after `after` that can be removed. `events` is the table, or an index
/// of it.
async fn select(
    db: &impl ConnectionTrait,
    events: &str,
    after: Seq,
    limit: u64,
    old: &OldEvents,
) -> Result<Vec<i64>, DbErr> {
    let values = [old.up_to.0.into(), old.before.0.into(), saturate::<_, i64>(limit).into(), after.0.into()];
    let statement = dialect::statement(db, old_sql(events), values);
    let rows = db.query_all_raw(statement).await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}

async fn delete(txn: &impl ConnectionTrait, seqs: &[i64]) -> Result<Swept, DbErr> {
    // These are numbers, so they can safely be part of the statements.
    let seqs = seqs.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let delete = async |from: &str, condition: &str| {
        let sql = format!("DELETE FROM {from} WHERE seq IN ({seqs}){condition}");
        txn.execute_unprepared(&sql).await.map(|done| done.rows_affected())
    };
    let dead = delete("dead_events", " AND dismissed_at IS NULL").await?;
    delete("dead_events", "").await?;
    delete("retries", "").await?;
    let events = delete("events", "").await?;
    Ok(Swept { events, dead, damaged: 0 })
}

#[cfg(test)]
mod tests {
    use sea_orm::ConnectionTrait as _;

    use super::*;
    use crate::{store::PAGE_BYTES, testing::database::TestDatabase};

    const DAY: i64 = 86_400_000_000;
    const NOW: i64 = 1_780_000_000_000_000;

    /// Opens a log of five events, and executes these statements.
    async fn log_of(database: &TestDatabase, statements: &[String]) -> Store {
        let store = database.open().await;
        let events = (1..=5).map(|seq| {
            format!(
                "INSERT INTO events (seq, event_id, camera_id, occurred_at, received_at, payload) \
                 VALUES ({seq}, 'e{seq}', 'c', 1, 1, '')"
            )
        });
        let all: Vec<_> = events.chain(statements.iter().cloned()).collect();
        store.write.execute_unprepared(&format!("BEGIN; {}; COMMIT", all.join("; "))).await.unwrap();
        store
    }

    /// A checkpoint that was written this many days ago, according to the wall clock and in log time.
    fn checkpoint(up_to: i64, wall: i64, log: Option<i64>) -> String {
        let log = log.map_or("NULL".to_owned(), |days| (NOW - days * DAY).to_string());
        format!(
            "INSERT INTO deliveries (up_to_seq, acked_at, late, log_time) VALUES ({up_to}, {}, FALSE, {log})",
            NOW - wall * DAY
        )
    }

    fn dead(seq: i64, days_ago: i64) -> String {
        format!(
            "INSERT INTO dead_events (seq, reason, at, log_time) VALUES ({seq}, 'expired', 0, {})",
            NOW - days_ago * DAY
        )
    }

    /// Removes what is older than seven days. Returns what was found and removed, and the events that are
    /// left.
    async fn sweep(store: &Store) -> (Option<OldEvents>, Swept, Vec<i64>) {
        let found = find(store, LogTime(NOW - 7 * DAY)).await.unwrap();
        let swept = match &found {
            Some(old) => remove(store, old).await.unwrap(),
            None => Swept::default(),
        };
        let left = dialect::statement(&store.read, "SELECT seq FROM events ORDER BY seq", []);
        let rows = store.read.query_all_raw(left).await.unwrap();
        (found, swept, rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect())
    }

    #[tokio::test]
    async fn a_clock_that_was_behind_or_ahead_removes_nothing_early_and_keeps_nothing() {
        let checkpoints = [checkpoint(2, -30, Some(8)), checkpoint(4, 30, Some(1))];
        for database in TestDatabase::each() {
            let store = log_of(&database, &checkpoints).await;
            let ahead = "INSERT INTO deliveries_ahead VALUES (1, 2, 0, FALSE, NULL), (5, 5, 0, FALSE, NULL)";
            store.write.execute_unprepared(ahead).await.unwrap();
            let (found, swept, left) = sweep(&store).await;
            assert_eq!((found.unwrap().up_to, swept.events), (Seq(2), 2));
            assert_eq!(left, [3, 4, 5]);
            assert_eq!(store.ahead_of(Seq(0)).await.unwrap(), [(Seq(5), Seq(5))]);
        }
    }

    #[tokio::test]
    async fn one_old_checkpoint_among_newer_ones_removes_nothing() {
        let checkpoints = [checkpoint(1, 1, None), checkpoint(2, 10, None), checkpoint(4, 1, None)];
        for database in TestDatabase::each() {
            let store = log_of(&database, &checkpoints).await;
            let (found, _, left) = sweep(&store).await;
            assert_eq!((found, left), (None, vec![1, 2, 3, 4, 5]));
        }
    }

    #[tokio::test]
    async fn a_damaged_page_does_not_end_the_sweep() {
        let more = (6..=2000).map(|seq| {
            format!(
                "INSERT INTO events (seq, event_id, camera_id, occurred_at, received_at, payload) \
                 VALUES ({seq}, 'e{seq}', 'c', 1, 1, CAST('payload-{seq}-' || hex(zeroblob(200)) AS BLOB))"
            )
        });
        let statements: Vec<_> = more.chain([checkpoint(2000, 8, Some(8)), dead(700, 8)]).collect();
        let database = TestDatabase::sqlite();
        let store = log_of(&database, &statements).await;
        let path = store.path().unwrap().to_owned();
        store.close().await;
        let mut bytes = std::fs::read(&path).unwrap();
        for content in ["payload-300-", "payload-1000-", "payload-2000-"] {
            let at = bytes.windows(content.len()).position(|part| part == content.as_bytes()).unwrap();
            let page = at / PAGE_BYTES as usize * PAGE_BYTES as usize;
            bytes[page..page + 64].fill(0xa5);
        }
        std::fs::write(&path, bytes).unwrap();
        let store = Store::open_file(&path).await.unwrap();
        let old = find(&store, LogTime(NOW - 7 * DAY)).await.unwrap().unwrap();
        let swept = remove(&store, &old).await.unwrap();
        assert!((3..60).contains(&swept.damaged), "three pages contain a few events: {swept:?}");
        assert_eq!((swept.events + swept.damaged, swept.dead), (2000, 1));
    }

    #[tokio::test]
    async fn an_event_that_died_or_was_retried_later_is_kept_from_that_time_on() {
        let retried = "INSERT INTO retries (seq, asked_at, acked_at, late, asked_log_time, acked_log_time) \
                       VALUES (3, 0, 0, FALSE, 0, ";
        let statements = [
            checkpoint(5, 8, Some(8)),
            dead(1, 8),
            dead(2, 6),
            format!("{retried}{})", NOW - 6 * DAY),
            "INSERT INTO retries (seq, asked_at, late) VALUES (4, 0, FALSE)".to_owned(),
        ];
        for database in TestDatabase::each() {
            let store = log_of(&database, &statements).await;
            let (found, swept, left) = sweep(&store).await;
            assert_eq!((swept.events, swept.dead), (2, 1));
            assert_eq!(left, [2, 3, 4]);
            assert_eq!(found.unwrap().kept, [Seq(2), Seq(3), Seq(4)].into());
            assert_eq!(super::super::dead_events::count(&store.read).await.unwrap(), 1, "it is still dead");
            let later = find(&store, LogTime(NOW)).await.unwrap().unwrap();
            assert_eq!(later.kept, [Seq(4)].into(), "it is waiting");
            assert_eq!(remove(&store, &later).await.unwrap(), Swept { events: 2, dead: 1, damaged: 0 });
        }
    }
}
