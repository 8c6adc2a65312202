//! Reads the event log: each event with the state of its delivery.

use std::sync::Arc;

use sea_orm::{ConnectionTrait, DbErr, FromQueryResult, Value};

use super::{
    StoreError, dialect, events,
    search::{self, Found},
};
use crate::domain::{
    clock::{self, Moment},
    delivery::{Delivery, DeliveryChange, DeliveryState, EventTimes, Unwritten, is_late},
    event_log::{EventList, EventQuery, EventRecord, LogPart, LogQuery, StoredPayload},
    ids::{CameraId, EventId, Seq},
    numbers::saturate,
    settings::MqttSettings,
};

/// One row of the event log: an event with its delivery.
#[derive(Debug, FromQueryResult)]
struct Row {
    seq: i64,
    camera_id: String,
    occurred_at: i64,
    received_at: i64,
    log_time: Option<i64>,
    payload: Vec<u8>,
    #[sea_orm(nested)]
    delivery: DeliveryColumns,
}

/// The columns from which the delivery of an event is derived.
#[derive(Debug, FromQueryResult)]
struct DeliveryColumns {
    acked_at: Option<i64>,
    late: Option<bool>,
    heard: Option<bool>,
    reason: Option<String>,
    dismissed_at: Option<i64>,
    acked_ahead_at: Option<i64>,
    late_ahead: Option<bool>,
    heard_ahead: Option<bool>,
    asked_at: Option<i64>,
    acked_again_at: Option<i64>,
    late_again: Option<bool>,
    heard_again: Option<bool>,
}

const SELECT: &str = "SELECT e.seq, e.camera_id, e.occurred_at, e.received_at, e.log_time, e.payload";

const DELIVERY_COLUMNS: &str = ", d.acked_at, d.late, d.heard, x.reason, x.dismissed_at, \
    a.acked_at AS acked_ahead_at, a.late AS late_ahead, a.heard AS heard_ahead, \
    r.asked_at, r.acked_at AS acked_again_at, r.late AS late_again, r.heard AS heard_again \
    FROM events e \
    LEFT JOIN dead_events x ON x.seq = e.seq \
    LEFT JOIN retries r ON r.seq = e.seq \
    LEFT JOIN deliveries_ahead a \
      ON a.first_seq = (SELECT MAX(first_seq) FROM deliveries_ahead WHERE first_seq <= e.seq) AND a.last_seq >= e.seq \
    LEFT JOIN deliveries d \
      ON d.up_to_seq = (SELECT MIN(up_to_seq) FROM deliveries WHERE up_to_seq >= e.seq)";

/// What is known at the time of a query, apart from the database.
#[derive(Debug)]
pub struct QueryContext {
    /// The MQTT settings.
    pub settings: Arc<MqttSettings>,
    /// The current time.
    pub now: Moment,
    /// The deliveries that are not in the database yet.
    pub unwritten: Unwritten,
}

/// The cursor, as far as it is known.
const CURSOR: &str = "MAX(?4, (SELECT COALESCE(MAX(up_to_seq), 0) FROM deliveries))";

/// The condition that the event `n` is neither dead nor waiting for a retry.
const ALIVE: &str = "NOT EXISTS (SELECT 1 FROM dead_events x WHERE x.seq = n.seq) \
    AND n.seq NOT IN (SELECT value FROM json_each(?6)) \
    AND NOT EXISTS (SELECT 1 FROM retries r WHERE r.seq = n.seq AND r.acked_at IS NULL \
      AND r.seq NOT IN (SELECT value FROM json_each(?7)))";

/// Selects the delivered events up to the cursor, those ahead of it, those that are settled but not in the database
/// yet, and those ahead of it that were delivered after a retry: of each, no more than the page needs. The cross joins
/// prevent SQLite from examining all events.
fn delivered_sql(of_camera: &str) -> String {
    let part = |from: &str, condition: &str, order: &str| {
        format!(
            "SELECT seq FROM (SELECT n.seq FROM {from} \
             WHERE {condition}{of_camera} AND {ALIVE} ORDER BY {order} LIMIT ?2) part"
        )
    };
    let parts = [
        // One bound: SQLite searches by one of two, and would examine all pending events if it chose `?1`.
        part("events n", &format!("n.seq <= MIN(?1 - 1, {CURSOR})"), "n.seq DESC"),
        part(
            "deliveries_ahead a CROSS JOIN events n ON n.seq BETWEEN a.first_seq AND a.last_seq",
            &format!(
                "n.seq < ?1 AND a.first_seq < ?1 AND n.seq > {CURSOR} AND a.first_seq >= COALESCE(\
                 (SELECT MAX(first_seq) FROM deliveries_ahead WHERE first_seq <= {CURSOR}), 0)"
            ),
            "a.first_seq DESC, n.seq DESC",
        ),
        part("json_each(?5) CROSS JOIN events n ON n.seq = json_each.value", "n.seq < ?1", "n.seq DESC"),
        part(
            "retries o CROSS JOIN events n ON n.seq = o.seq",
            &format!("n.seq < ?1 AND o.seq < ?1 AND o.seq > {CURSOR}"),
            "o.seq DESC",
        ),
    ];
    parts.join(" UNION ")
}

/// Returns the statement for the positions of a page. Its parameters are those of [`page_values`]; it uses `?3` only if
/// `of_camera` is set.
fn page_sql(state: Option<DeliveryState>, of_camera: bool) -> String {
    format!("SELECT e.seq FROM events e WHERE {} ORDER BY e.seq DESC LIMIT ?2", condition(state, of_camera))
}

/// Returns the condition that selects the events of a page.
///
/// If only a few of many events match, an index is used to find their positions first: the newest ones, and
/// no more than the page needs.
fn condition(state: Option<DeliveryState>, of_camera: bool) -> String {
    let camera = |alias: &str| if of_camera { format!(" AND {alias}.camera_id = ?3") } else { String::new() };
    match state {
        None => format!("e.seq < ?1{}", camera("e")),
        Some(DeliveryState::Delivered) => {
            format!("e.seq IN ({} ORDER BY seq DESC LIMIT ?2)", delivered_sql(&camera("n")))
        }
        // Dismissed events are dead, but not listed as such.
        Some(DeliveryState::Dead) => format!(
            "e.seq IN (\
               SELECT seq FROM (SELECT n.seq FROM dead_events n \
                 WHERE n.dismissed_at IS NULL AND n.seq < ?1{} ORDER BY n.seq DESC LIMIT ?2) listed \
               UNION SELECT value FROM json_each(?6) WHERE value < ?1){}",
            camera("n"),
            // The plus prevents SQLite from examining all events from the camera.
            camera("+e")
        ),
        // Pending events are those after the cursor, and those before it that are waiting for a retry. The
        // cross join prevents SQLite from examining all events from the camera.
        Some(DeliveryState::Pending) => format!(
            "e.seq IN (\
               SELECT seq FROM (SELECT n.seq FROM events n \
                   LEFT JOIN dead_events x ON x.seq = n.seq LEFT JOIN retries r ON r.seq = n.seq \
                 WHERE n.seq > {CURSOR} \
                   AND n.seq < ?1{of_camera} AND n.seq NOT IN (SELECT value FROM json_each(?5)) \
                   AND COALESCE((SELECT a.last_seq FROM deliveries_ahead a WHERE a.first_seq <= n.seq \
                     ORDER BY a.first_seq DESC LIMIT 1), 0) < n.seq \
                   AND x.seq IS NULL AND r.seq IS NULL ORDER BY n.seq DESC LIMIT ?2) waiting \
               UNION ALL \
               SELECT seq FROM (SELECT r.seq FROM retries r CROSS JOIN events n ON n.seq = r.seq{of_camera} \
                 WHERE r.acked_at IS NULL AND r.seq < ?1 \
                   AND r.seq NOT IN (SELECT value FROM json_each(?6)) \
                   AND r.seq NOT IN (SELECT value FROM json_each(?7)) ORDER BY r.seq DESC LIMIT ?2) again \
               ORDER BY seq DESC LIMIT ?2)",
            of_camera = camera("n")
        ),
    }
}

/// Returns the parameters of a page: `?1`, the position before which it ends; `?2`, the maximum number of events;
/// `?3`, the camera; and of the deliveries that are not in the database, `?4`, the cursor; `?5`, the settled events
/// above it; `?6`, those that died; and `?7`, those that were delivered after a retry.
fn page_values(query: &EventQuery, camera_id: Option<&CameraId>, unwritten: &Unwritten) -> [Value; 7] {
    let Unwritten { cursor, above, ahead, dead, resent, .. } = unwritten;
    let ahead = ahead.iter().flat_map(|range| range.first.0..=range.last.0);
    [
        query.before.map_or(i64::MAX, |before| before.0).into(),
        saturate::<_, i64>(query.limit).into(),
        camera_id.map(|camera_id| camera_id.as_str().to_owned()).into(),
        cursor.0.into(),
        json(above.iter().map(|(seq, _)| seq.0).chain(ahead)),
        json(dead.iter().map(|(seq, _)| seq.0)),
        json(resent.iter().map(|resent| resent.seq.0)),
    ]
}

fn json(seqs: impl Iterator<Item = i64>) -> Value {
    seqs.collect::<serde_json::Value>().to_string().into()
}

/// Returns a page of events, newest first.
pub async fn list(
    db: &impl ConnectionTrait,
    shared: &search::Shared,
    query: &EventQuery,
    context: &QueryContext,
) -> Result<EventList, StoreError> {
    // Until the events are read, too.
    let _turn = if query.filter.needs_search() { Some(shared.turn().await?) } else { None };
    let Found { seqs, next_before } = if query.filter.needs_search() {
        search::find(db, shared, query, &context.unwritten).await?
    } else {
        Found::page(matching_seqs(db, query, &context.unwritten).await?, query)
    };
    let mut events = at(db, &seqs, context).await?;
    if let Some(state) = query.state {
        events.retain(|event| event.delivery.state == state);
    }
    Ok(EventList { events, next_before })
}

/// Returns the positions of the newest events of a state and of some cameras, the newest first.
pub async fn matching_seqs(
    db: &impl ConnectionTrait,
    query: &EventQuery,
    unwritten: &Unwritten,
) -> Result<Vec<Seq>, DbErr> {
    let cameras = &query.filter.cameras;
    let sql = page_sql(query.state, !cameras.is_empty());
    let mut found = Vec::new();
    let all = cameras.is_empty().then_some(None);
    for camera_id in all.into_iter().chain(cameras.iter().map(Some)) {
        let values = page_values(query, camera_id, unwritten);
        let statement = dialect::statement(db, &sql, values);
        for row in db.query_all_raw(statement).await? {
            found.push(Seq(row.try_get_by_index(0)?));
        }
    }
    if cameras.len() > 1 {
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.dedup();
        found.truncate(saturate(query.limit));
    }
    Ok(found)
}

/// Returns the events at these positions, newest first.
async fn at(
    db: &impl ConnectionTrait,
    seqs: &[Seq],
    context: &QueryContext,
) -> Result<Vec<EventRecord>, DbErr> {
    let sql = format!(
        "{SELECT}{DELIVERY_COLUMNS} WHERE e.seq IN (SELECT value FROM json_each(?)) ORDER BY e.seq DESC"
    );
    let values = [json(seqs.iter().map(|seq| seq.0))];
    let statement = dialect::statement(db, sql, values);
    let rows = Row::find_by_statement(statement).all(db).await?;
    Ok(rows.into_iter().filter_map(|row| row.into_record(context)).collect())
}

/// Returns one event.
pub async fn get(
    db: &impl ConnectionTrait,
    id: &EventId,
    context: &QueryContext,
) -> Result<Option<EventRecord>, DbErr> {
    let sql = format!("{SELECT}{DELIVERY_COLUMNS} WHERE e.event_id = ?");
    let statement = dialect::statement(db, sql, [id.as_str().into()]);
    let row = Row::find_by_statement(statement).one(db).await?;
    Ok(row.and_then(|row| row.into_record(context)))
}

/// Returns the new events and delivery changes that `read` selects.
pub async fn part(
    db: &impl ConnectionTrait,
    read: LogQuery,
    context: &QueryContext,
) -> Result<LogPart, DbErr> {
    let LogQuery { events, checkpoint, mut others, dead_and_retrying } = read;
    let mut part = LogPart::default();
    if events.0 < events.1 {
        let sql = format!("{SELECT}{DELIVERY_COLUMNS} WHERE e.seq > ? AND e.seq <= ? ORDER BY e.seq");
        let places = [events.0.0.into(), events.1.0.into()];
        let statement = dialect::statement(db, sql, places);
        let rows = Row::find_by_statement(statement).all(db).await?;
        part.events = rows.into_iter().filter_map(|row| row.into_record(context)).collect();
    }
    if dead_and_retrying {
        others.extend(recently_dead_or_retried(db).await?);
    }
    if checkpoint.0 < checkpoint.1 || !others.is_empty() {
        // These are numbers, so they can safely be part of the statement.
        let others: Vec<String> = others.iter().map(ToString::to_string).collect();
        let others = if others.is_empty() { "NULL".to_owned() } else { others.join(",") };
        let sql = format!(
            "SELECT e.seq, e.event_id, e.camera_id, e.occurred_at, e.received_at, e.log_time{DELIVERY_COLUMNS} \
             WHERE e.seq IN (SELECT seq FROM events WHERE seq > ? AND seq <= ? \
               UNION SELECT seq FROM events WHERE seq IN ({others})) ORDER BY e.seq"
        );
        let bounds = [checkpoint.0.0.into(), checkpoint.1.0.into()];
        let statement = dialect::statement(db, sql, bounds);
        let rows = Change::find_by_statement(statement).all(db).await?;
        part.changes = rows.into_iter().filter_map(|row| row.into_change(context)).collect();
    }
    Ok(part)
}

/// Returns the positions of the events that most recently died or were retried.
async fn recently_dead_or_retried(db: &impl ConnectionTrait) -> Result<Vec<Seq>, DbErr> {
    let sql = "SELECT seq FROM (SELECT seq FROM dead_events ORDER BY at DESC LIMIT 100) x \
        UNION SELECT seq FROM (SELECT seq FROM retries ORDER BY asked_at DESC LIMIT 100) r";
    let rows = db.query_all_raw(dialect::statement(db, sql, [])).await?;
    rows.iter().map(|row| row.try_get("", "seq").map(Seq)).collect()
}

/// One row of a change: an event's delivery, without its payload.
#[derive(Debug, FromQueryResult)]
struct Change {
    seq: i64,
    event_id: String,
    camera_id: String,
    occurred_at: i64,
    received_at: i64,
    log_time: Option<i64>,
    #[sea_orm(nested)]
    delivery: DeliveryColumns,
}

impl Change {
    fn into_change(self, context: &QueryContext) -> Option<DeliveryChange> {
        let times = events::times(self.occurred_at, self.received_at, self.log_time);
        Some(DeliveryChange {
            // The table's contents were checked when they were accepted.
            event_id: EventId::parse(self.event_id).ok()?,
            seq: Seq(self.seq),
            camera_id: CameraId::parse(self.camera_id).ok()?,
            delivery: self.delivery.into_delivery(Seq(self.seq), times, context),
        })
    }
}

impl Row {
    fn into_record(self, context: &QueryContext) -> Option<EventRecord> {
        let times = events::times(self.occurred_at, self.received_at, self.log_time);
        let delivery = self.delivery.into_delivery(Seq(self.seq), times, context);
        Some(EventRecord {
            seq: Seq(self.seq),
            // The table's contents were checked when they were accepted.
            camera_id: CameraId::parse(self.camera_id).ok()?,
            received_at: times.received_at,
            payload: StoredPayload(self.payload.into()),
            delivery,
        })
    }
}

impl DeliveryColumns {
    fn into_delivery(self, seq: Seq, times: EventTimes, context: &QueryContext) -> Delivery {
        let QueryContext { settings, now, unwritten } = context;
        let pending = Delivery { state: DeliveryState::Pending, ..Delivery::default() };
        if let Some(reason) = self.reason {
            let dismissed = self.dismissed_at.is_some();
            return Delivery { state: DeliveryState::Dead, reason: Some(reason), dismissed, ..pending };
        }
        let is_retry = self.asked_at.is_some();
        let (acked_at, late, heard) = if is_retry {
            (self.acked_again_at, self.late_again, self.heard_again)
        } else if self.acked_ahead_at.is_some() {
            (self.acked_ahead_at, self.late_ahead, self.heard_ahead)
        } else {
            (self.acked_at, self.late, self.heard)
        };
        match acked_at {
            Some(acked_at) => Delivery {
                state: DeliveryState::Delivered,
                delivered_at: Some(clock::from_micros(acked_at)),
                late: late.unwrap_or(false),
                heard,
                ..pending
            },
            None => unwritten
                .delivery(seq, is_retry)
                .unwrap_or_else(|| Delivery { late: is_late(settings, times, *now), ..pending }),
        }
    }
}

#[cfg(test)]
#[path = "event_log_tests.rs"]
mod tests;
