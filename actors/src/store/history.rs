//! Reading the log back: each event with what became of it.

use sea_orm::{ConnectionTrait, DbErr, FromQueryResult, Statement, Value};

use crate::{
    clock::{self, Timestamp},
    ids::{EventId, Seq},
    outbox::{Delivery, DeliveryState, EventRecord, ListEvents, is_late},
    settings::MqttSettings,
};

/// One row of the log: an event, the checkpoint that covers it, and its death.
#[derive(Debug, FromQueryResult)]
struct Row {
    seq: i64,
    occurred_at: i64,
    received_at: i64,
    payload: Vec<u8>,
    acked_at: Option<i64>,
    late: Option<bool>,
    reason: Option<String>,
}

const SELECT: &str = "SELECT e.seq, e.occurred_at, e.received_at, e.payload, d.acked_at, d.late, x.reason \
    FROM events e \
    LEFT JOIN deliveries d \
      ON d.up_to_seq = (SELECT MIN(up_to_seq) FROM deliveries WHERE up_to_seq >= e.seq) \
    LEFT JOIN dead_events x ON x.seq = e.seq";

/// Events, newest first.
pub async fn list(
    db: &impl ConnectionTrait,
    query: &ListEvents,
    settings: &MqttSettings,
    now: Timestamp,
) -> Result<Vec<EventRecord>, DbErr> {
    let mut conditions = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    if let Some(camera_id) = &query.camera_id {
        conditions.push("e.camera_id = ?");
        values.push(camera_id.as_str().into());
    }
    if let Some(before) = query.before {
        conditions.push("e.seq < ?");
        values.push(before.0.into());
    }
    match query.state {
        None => {}
        Some(DeliveryState::Dead) => conditions.push("x.seq IS NOT NULL"),
        Some(DeliveryState::Pending) => {
            conditions.push("x.seq IS NULL AND e.seq > COALESCE((SELECT MAX(up_to_seq) FROM deliveries), 0)");
        }
        Some(DeliveryState::Delivered) => {
            conditions
                .push("x.seq IS NULL AND e.seq <= COALESCE((SELECT MAX(up_to_seq) FROM deliveries), 0)");
        }
    }
    let filter =
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    values.push(i64::try_from(query.limit).unwrap_or(i64::MAX).into());
    let sql = format!("{SELECT}{filter} ORDER BY e.seq DESC LIMIT ?");
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    let rows = Row::find_by_statement(statement).all(db).await?;
    Ok(rows.into_iter().map(|row| row.told(settings, now)).collect())
}

/// One event.
pub async fn get(
    db: &impl ConnectionTrait,
    id: &EventId,
    settings: &MqttSettings,
    now: Timestamp,
) -> Result<Option<EventRecord>, DbErr> {
    let sql = format!("{SELECT} WHERE e.event_id = ?");
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, [id.as_str().into()]);
    let row = Row::find_by_statement(statement).one(db).await?;
    Ok(row.map(|row| row.told(settings, now)))
}

impl Row {
    fn told(self, settings: &MqttSettings, now: Timestamp) -> EventRecord {
        let received_at = clock::from_micros(self.received_at);
        let delivery = match (self.reason, self.acked_at) {
            (Some(reason), _) => {
                Delivery { state: DeliveryState::Dead, delivered_at: None, late: false, reason: Some(reason) }
            }
            (None, Some(at)) => Delivery {
                state: DeliveryState::Delivered,
                delivered_at: Some(clock::from_micros(at)),
                late: self.late.unwrap_or(false),
                reason: None,
            },
            (None, None) => Delivery {
                state: DeliveryState::Pending,
                delivered_at: None,
                late: is_late(settings, clock::from_micros(self.occurred_at), received_at, now),
                reason: None,
            },
        };
        EventRecord {
            seq: Seq(self.seq),
            received_at,
            // We wrote it; what a damaged database holds is shown as nothing rather than refused.
            payload: serde_json::from_slice(&self.payload).unwrap_or_default(),
            delivery,
        }
    }
}
