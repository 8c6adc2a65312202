//! Events: accepting them, and telling what became of them.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path, Query},
};
use liveobject_actors::{
    CameraId, DetectionEvent, EventId, Invalid, PublishBatch, PublishEvent, Receipt, Seq,
    domain::{
        clock::Timestamp,
        delivery::{Decision, Delivery, DeliveryState},
        event_log::{EventQuery, EventRecord},
        fields::Faults,
    },
    messages::{
        outbox::{Decide, GetEvent, ListEvents},
        thumbnails::HaveThumbnails,
    },
};
use serde::Serialize;
use serde_json::Value;

use super::{
    batch,
    body::{BatchBody, EVENT_BYTES, Json},
    problem::Problem,
    schema,
    state::{ApiState, ask},
};

const DEFAULT_LIMIT: u64 = 50;
const MAX_LIMIT: u64 = 500;

/// Accept one event.
///
/// 202: the event is on disk and will be published. Sending it again with the same `event_id` returns the first receipt.
#[utoipa::path(
    post, path = "/api/v1/events", tag = "events", request_body = schema::EventInput,
    responses(
        (status = 202, description = "Accepted: on disk, and to be published", body = schema::Receipt),
        (status = 422, description = "Fields are at fault"),
        (status = 503, description = "Full, or the database is away: send it again after `Retry-After` seconds"),
    ),
)]
pub(super) async fn publish(state: Data<ApiState>, body: Json<EVENT_BYTES>) -> Result<HttpResponse, Problem> {
    let event = DetectionEvent::from_json(body.0)?;
    let receipt = ask(&state.handle.publish, PublishEvent::new(event)).await??;
    Ok(HttpResponse::Accepted().json(receipt))
}

#[derive(Serialize)]
struct Accepted {
    accepted: Vec<Receipt>,
}

/// Accept several events, in this order: all or none.
#[utoipa::path(
    post, path = "/api/v1/events/batch", tag = "events", request_body = schema::Batch,
    responses(
        (status = 202, description = "All accepted; the receipts in the batch's order", body = schema::Accepted),
        (status = 422, description = "Fields are at fault (`[3].confidence`); none was accepted"),
        (status = 503, description = "None was accepted, or it is not known: send all again after `Retry-After` seconds"),
    ),
)]
pub(super) async fn publish_batch(state: Data<ApiState>, body: BatchBody) -> Result<HttpResponse, Problem> {
    let events = batch::parse(&body.bytes)?;
    let accepted = ask(&state.handle.publish_batch, PublishBatch(events)).await??;
    Ok(HttpResponse::Accepted().json(Accepted { accepted }))
}

/// An event of the log: what subscribers get, and what became of it.
#[derive(Serialize)]
pub(super) struct RecordView {
    #[serde(flatten)]
    payload: Value,
    received_at: Timestamp,
    delivery: Delivery,
    #[serde(skip_serializing_if = "Option::is_none")]
    has_thumbnail: Option<bool>,
}

impl RecordView {
    pub(super) fn of(record: EventRecord, has_thumbnail: Option<bool>) -> Self {
        let EventRecord { payload, received_at, delivery, .. } = record;
        Self { payload, received_at, delivery, has_thumbnail }
    }
}

/// The events with whether each has a picture.
async fn with_pictures(state: &ApiState, records: Vec<EventRecord>) -> Result<Vec<RecordView>, Problem> {
    let seqs = records.iter().map(|record| record.seq).collect();
    let pictures = ask(&state.handle.have_thumbnails, HaveThumbnails(seqs)).await??;
    let views = records.into_iter().zip(pictures);
    Ok(views.map(|(r, has)| RecordView::of(r, Some(has))).collect())
}

async fn with_picture(state: &ApiState, record: EventRecord) -> Result<RecordView, Problem> {
    with_pictures(state, vec![record]).await?.pop().ok_or_else(missing)
}

#[derive(Serialize)]
struct Page {
    events: Vec<RecordView>,
    next_before: Option<Seq>,
}

/// Events of the log, newest first.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "events", params(schema::EventQuery),
    responses(
        (status = 200, description = "One page; `next_before` asks for the next one", body = schema::EventPage),
        (status = 422, description = "Parameters are at fault"),
        (status = 503, description = "The database is away"),
    ),
)]
pub(super) async fn list(state: Data<ApiState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let query = query(request.query_string())?;
    let limit = query.limit;
    let records = ask(&state.handle.list_events, ListEvents(query)).await??;
    let full = records.len() as u64 >= limit;
    let next_before = records.last().filter(|_| full).map(|oldest| oldest.seq);
    let events = with_pictures(&state, records).await?;
    Ok(HttpResponse::Ok().json(Page { events, next_before }))
}

/// One event of the log.
#[utoipa::path(
    get, path = "/api/v1/events/{event_id}", tag = "events",
    params(("event_id" = String, Path, description = "The id that its receipt has", min_length = 1, max_length = 128)),
    responses(
        (status = 200, description = "The event", body = schema::EventRecord),
        (status = 404, description = "No such event (any more)"),
        (status = 503, description = "The database is away"),
    ),
)]
pub(super) async fn find(state: Data<ApiState>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let id = named(id)?;
    let record = ask(&state.handle.get_event, GetEvent(id)).await??.ok_or_else(missing)?;
    Ok(HttpResponse::Ok().json(with_picture(&state, record).await?))
}

/// Send a dead event again.
///
/// It is pending from then on, also after a restart, and leaves before events that were never sent. What is late by then
/// goes to `history`. 202: that is on disk; the answer is the event.
#[utoipa::path(
    post, path = "/api/v1/events/{event_id}/retry", tag = "events",
    params(("event_id" = String, Path, description = "The id that its receipt has", min_length = 1, max_length = 128)),
    responses(
        (status = 202, description = "It waits to be sent", body = schema::EventRecord),
        (status = 404, description = "No such event (any more)"),
        (status = 409, description = "It is not dead"),
        (status = 503, description = "The database is away, or 10,000 dead events wait already"),
    ),
)]
pub(super) async fn retry(state: Data<ApiState>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let event_id = named(id)?;
    let decide = Decide { event_id: event_id.clone(), decision: Decision::Retry };
    let _decided = ask(&state.handle.decide, decide).await??;
    let record = ask(&state.handle.get_event, GetEvent(event_id)).await??.ok_or_else(missing)?;
    Ok(HttpResponse::Accepted().json(with_picture(&state, record).await?))
}

/// Dismiss a dead event.
///
/// It stays in the log, dead and `dismissed`; it is not listed with `state=dead` and not counted any more. It can still be
/// sent again. Dismissing it twice changes nothing.
#[utoipa::path(
    delete, path = "/api/v1/events/{event_id}/dead", tag = "events",
    params(("event_id" = String, Path, description = "The id that its receipt has", min_length = 1, max_length = 128)),
    responses(
        (status = 204, description = "Dismissed"),
        (status = 404, description = "No such event (any more)"),
        (status = 409, description = "It is not dead"),
        (status = 503, description = "The database is away"),
    ),
)]
pub(super) async fn dismiss(state: Data<ApiState>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let decide = Decide { event_id: named(id)?, decision: Decision::Dismiss };
    let _decided = ask(&state.handle.decide, decide).await??;
    Ok(HttpResponse::NoContent().finish())
}

fn missing() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such event (any more)")
}

/// What cannot be an event's id names no event.
fn named(id: Path<String>) -> Result<EventId, Problem> {
    EventId::parse(id.into_inner()).map_err(|_| missing())
}

/// Reads the query of a list; every fault is named.
fn query(text: &str) -> Result<EventQuery, Invalid> {
    let mut list = EventQuery { limit: DEFAULT_LIMIT, ..EventQuery::default() };
    let mut faults = Faults::default();
    let pairs = Query::<Vec<(String, String)>>::from_query(text)
        .map_err(|_| Invalid::one("", "the query is not of the form name=value&name=value"))?;
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in pairs.into_inner() {
        if seen.contains(&name) {
            faults.push(&name, "given more than once");
            continue;
        }
        match name.as_str() {
            "camera_id" => list.camera_id = faults.check(&name, CameraId::parse(value)),
            "state" => list.state = faults.check(&name, state_named(&value)),
            "before" => list.before = faults.check(&name, integer(&value, 1, i64::MAX)).map(Seq),
            "limit" => {
                let limit = integer(&value, 1, MAX_LIMIT);
                list.limit = faults.check(&name, limit).unwrap_or(DEFAULT_LIMIT);
            }
            _ => faults.push(&name, "unknown parameter"),
        }
        seen.push(name);
    }
    faults.finish().map(|()| list)
}

fn state_named(text: &str) -> Result<DeliveryState, String> {
    match text {
        "pending" => Ok(DeliveryState::Pending),
        "delivered" => Ok(DeliveryState::Delivered),
        "dead" => Ok(DeliveryState::Dead),
        _ => Err("must be pending, delivered or dead".to_owned()),
    }
}

fn integer<T>(text: &str, min: T, max: T) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let within = |n: &T| (&min..=&max).contains(&n);
    text.parse().ok().filter(within).ok_or_else(|| format!("must be a whole number from {min} to {max}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_without_parameters_asks_for_the_newest_50() {
        let list = query("").unwrap();
        assert_eq!((list.limit, list.camera_id, list.state, list.before), (50, None, None, None));
    }

    #[test]
    fn every_parameter_is_read() {
        let list = query("camera_id=front_door&state=dead&before=7&limit=500").unwrap();
        assert_eq!(list.camera_id.unwrap().as_str(), "front_door");
        assert_eq!((list.state, list.before, list.limit), (Some(DeliveryState::Dead), Some(Seq(7)), 500));
    }

    #[test]
    fn every_fault_of_a_query_is_named() {
        let Invalid(errors) =
            query("camera_id=a%2Fb&state=lost&before=0&limit=501&colour=red&colour=blue").unwrap_err();
        let fields: Vec<_> = errors.iter().map(|e| e.field.as_str()).collect();
        assert_eq!(fields, ["camera_id", "state", "before", "limit", "colour", "colour"]);
        for wrong in
            ["limit=", "limit=0", "limit=-1", "limit=x", "before=9223372036854775808", "limit", "camera_id="]
        {
            assert!(query(wrong).is_err(), "{wrong}");
        }
    }
}
