//! The event endpoints: accepting events, reading the event log, and retrying or dismissing dead events.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path},
};
use liveobject_actors::{
    CameraId, EventId, Invalid, PublishBatch, Receipt, Seq,
    domain::{
        clock::Timestamp,
        delivery::{DeadFilter, DeadReason, DecidedAll, Decision, Delivery, DeliveryState},
        event::Payload,
        event_log::{EventList, EventQuery, EventRecord, StoredPayload},
        image::PictureVersion,
    },
    messages::{
        outbox::{Decide, DecideAll, GetEvent, ListEvents},
        thumbnails::GetThumbnailVersions,
    },
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    batch,
    body::{BatchBody, SubmissionBody},
    compress, filter,
    problem::Problem,
    query::{self, integer},
    schema,
    state::{ApiState, ask},
    submission,
};

const DEFAULT_LIMIT: u64 = 50;
const MAX_LIMIT: u64 = 500;

/// Accept one event, with its picture if it has one.
///
/// 202 means that the event and its picture are on disk, and that the event will be published. The link in
/// `thumbnail_url` works when the event arrives. Sending the event again with the same `event_id` returns the
/// first receipt.
#[utoipa::path(
    post, path = "/api/v1/events", tag = "events",
    request_body(content(
        (schema::Submission = "application/json"),
        (schema::Form = "multipart/form-data"),
    )),
    responses(
        (status = 202, description = "Accepted: stored on disk", body = Receipt),
        (status = 400, description = "The body is not valid JSON or not a valid form"),
        (status = 422, description = "Some fields are invalid"),
        (status = 503, description = "The outbox is full, or the database is unavailable. \
            Send the event again after `Retry-After` seconds"),
    ),
)]
pub(super) async fn publish(
    state: Data<ApiState>,
    request: HttpRequest,
    body: SubmissionBody,
) -> Result<HttpResponse, Problem> {
    let event = submission::read(request.headers(), &body.0.bytes).await?;
    let receipt = ask(&state.handle.publish, event).await??;
    Ok(HttpResponse::Accepted().json(receipt))
}

/// The receipts for a batch, in the same order.
#[derive(Serialize, ToSchema)]
pub(super) struct Accepted {
    accepted: Vec<Receipt>,
}

/// Accept several events in the given order, all or none.
#[utoipa::path(
    post, path = "/api/v1/events/batch", tag = "events", request_body = schema::Batch,
    responses(
        (status = 202, description = "All events are accepted", body = Accepted),
        (status = 422, description = "Some fields are invalid (`[3].confidence`); no event was accepted"),
        (status = 503, description = "No event was accepted, or the outcome is unknown. \
            Send the whole batch again after `Retry-After` seconds"),
    ),
)]
pub(super) async fn publish_batch(state: Data<ApiState>, body: BatchBody) -> Result<HttpResponse, Problem> {
    let events = batch::parse(&body.0.bytes)?;
    let accepted = ask(&state.handle.publish_batch, PublishBatch(events)).await??;
    Ok(HttpResponse::Accepted().json(Accepted { accepted }))
}

/// An event in the log: its payload, as subscribers receive it, and its delivery.
#[derive(Serialize, ToSchema)]
#[schema(as = EventRecord)]
pub(super) struct RecordView {
    #[serde(flatten)]
    #[schema(inline, value_type = Payload)]
    payload: StoredPayload,
    /// When the event was accepted.
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    delivery: Delivery,
    /// Whether the event has a picture now; a picture may still arrive later. Absent from the stream if it is
    /// not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    has_thumbnail: Option<bool>,
    /// The version of the event's picture. With `?version=`, the picture can be cached for ever. Absent if there is
    /// no picture, or if that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<String>, pattern = "^[0-9a-f]{16}$")]
    thumbnail_version: Option<PictureVersion>,
}

/// What is known about the picture of an event.
#[derive(Clone, Copy, Default)]
pub(super) enum EventPicture {
    #[default]
    Unknown,
    /// There is none now.
    Missing,
    Version(PictureVersion),
}

impl From<Option<PictureVersion>> for EventPicture {
    fn from(version: Option<PictureVersion>) -> Self {
        version.map_or(Self::Missing, Self::Version)
    }
}

impl RecordView {
    pub(super) fn new(record: EventRecord, picture: EventPicture) -> Self {
        let EventRecord { payload, received_at, delivery, .. } = record;
        let (has_thumbnail, thumbnail_version) = match picture {
            EventPicture::Unknown => (None, None),
            EventPicture::Missing => (Some(false), None),
            EventPicture::Version(version) => (Some(true), Some(version)),
        };
        Self { payload, received_at, delivery, has_thumbnail, thumbnail_version }
    }
}

/// Adds to each event whether it has a picture, and which.
async fn with_pictures(state: &ApiState, records: Vec<EventRecord>) -> Result<Vec<RecordView>, Problem> {
    let seqs = records.iter().map(|record| record.seq).collect();
    let pictures = ask(&state.handle.thumbnail_versions, GetThumbnailVersions(seqs)).await??;
    let views = records.into_iter().zip(pictures);
    Ok(views.map(|(record, version)| RecordView::new(record, version.into())).collect())
}

async fn with_picture(state: &ApiState, record: EventRecord) -> Result<RecordView, Problem> {
    with_pictures(state, vec![record]).await?.pop().ok_or_else(missing)
}

/// A page of events, newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = EventPage)]
pub(super) struct Page {
    /// They can be fewer than `limit`, or none, although there are more: one request searches a limited part of the
    /// log.
    events: Vec<RecordView>,
    /// The `before` value for the next page; `null` if no older event matches.
    #[schema(required = true, value_type = Option<i64>, minimum = 1)]
    next_before: Option<Seq>,
}

/// The events in the log, newest first.
///
/// An event is listed if it matches all parameters.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "events", params(schema::EventQuery),
    responses(
        (status = 200, description = "A page of events", body = Page),
        (status = 422, description = "Some parameters are invalid"),
        (status = 503, description = "The database is unavailable"),
    ),
)]
pub(super) async fn list(state: Data<ApiState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let query = parse_query(request.query_string())?;
    let EventList { events, next_before } = ask(&state.handle.list_events, ListEvents(query)).await??;
    let events = with_pictures(&state, events).await?;
    Ok(compress::json(&request, &Page { events, next_before }))
}

/// One event in the log.
#[utoipa::path(
    get, path = "/api/v1/events/{event_id}", tag = "events",
    params(schema::EventPath),
    responses(
        (status = 200, description = "The event", body = RecordView),
        (status = 404, description = "No such event, or it has been removed"),
        (status = 503, description = "The database is unavailable"),
    ),
)]
pub(super) async fn find(state: Data<ApiState>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let id = parse_id(id)?;
    let record = ask(&state.handle.get_event, GetEvent(id)).await??.ok_or_else(missing)?;
    Ok(HttpResponse::Ok().json(with_picture(&state, record).await?))
}

/// Send a dead event again.
///
/// The event becomes pending, even across a restart, and is sent before new events. If it is late, it goes to the
/// `history` topic, after live events but before other late ones. 202 means that the decision is on disk; the
/// response is the event.
#[utoipa::path(
    post, path = "/api/v1/events/{event_id}/retry", tag = "events",
    params(schema::EventPath),
    responses(
        (status = 202, description = "The event is pending again", body = RecordView),
        (status = 404, description = "No such event, or it has been removed"),
        (status = 409, description = "The event is not dead"),
        (status = 503, description = "The database is unavailable, or 10,000 dead events are \
            already waiting to be sent again"),
    ),
)]
pub(super) async fn retry(state: Data<ApiState>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let event_id = parse_id(id)?;
    let decide = Decide { event_id: event_id.clone(), decision: Decision::Retry };
    let _decided = ask(&state.handle.decide, decide).await??;
    let record = ask(&state.handle.get_event, GetEvent(event_id)).await??.ok_or_else(missing)?;
    Ok(HttpResponse::Accepted().json(with_picture(&state, record).await?))
}

/// Dismiss a dead event.
///
/// The event stays in the log, dead and `dismissed`, but it is no longer counted or listed with
/// `state=dead`. It can still be sent again. Dismissing it again has no effect.
#[utoipa::path(
    delete, path = "/api/v1/events/{event_id}/dead", tag = "events",
    params(schema::EventPath),
    responses(
        (status = 204, description = "Dismissed"),
        (status = 404, description = "No such event, or it has been removed"),
        (status = 409, description = "The event is not dead"),
        (status = 503, description = "The database is unavailable"),
    ),
)]
pub(super) async fn dismiss(state: Data<ApiState>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let decide = Decide { event_id: parse_id(id)?, decision: Decision::Dismiss };
    let _decided = ask(&state.handle.decide, decide).await??;
    Ok(HttpResponse::NoContent().finish())
}

/// Send all dead events that match again.
///
/// They become pending, even across a restart, and are sent in order, before new events. Those that are late go to
/// the `history` topic, after live events but before other late ones. One request applies to at most 2,000 events,
/// oldest first: while `complete` is false, send it again with `next_after` as `after`. Without `after`, it would begin
/// with those that failed again.
#[utoipa::path(
    post, path = "/api/v1/events/dead/retry", tag = "events", params(schema::DeadQuery),
    responses(
        (status = 202, description = "The events are pending again", body = DecidedAll),
        (status = 422, description = "Some parameters are invalid"),
        (status = 503, description = "The database is unavailable, or 10,000 dead events are \
            already waiting to be sent again"),
    ),
)]
pub(super) async fn retry_all(state: Data<ApiState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let decided = decide_all(&state, &request, Decision::Retry).await?;
    Ok(HttpResponse::Accepted().json(decided))
}

/// Dismiss all dead events that match.
///
/// They stay in the log, but are no longer counted or listed with `state=dead`. One request applies to at most
/// 2,000 events, oldest first: while `complete` is false, send it again with `next_after` as `after`.
#[utoipa::path(
    delete, path = "/api/v1/events/dead", tag = "events", params(schema::DeadQuery),
    responses(
        (status = 200, description = "Dismissed", body = DecidedAll),
        (status = 422, description = "Some parameters are invalid"),
        (status = 503, description = "The database is unavailable"),
    ),
)]
pub(super) async fn dismiss_all(
    state: Data<ApiState>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let decided = decide_all(&state, &request, Decision::Dismiss).await?;
    Ok(HttpResponse::Ok().json(decided))
}

async fn decide_all(
    state: &ApiState,
    request: &HttpRequest,
    decision: Decision,
) -> Result<DecidedAll, Problem> {
    let filter = parse_dead_filter(request.query_string())?;
    Ok(ask(&state.handle.decide_all, DecideAll { filter, decision }).await??)
}

fn missing() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such event, or it has been removed")
}

/// An invalid id gets the same response as an unknown one.
fn parse_id(id: Path<String>) -> Result<EventId, Problem> {
    EventId::parse(id.into_inner()).map_err(|_| missing())
}

/// Parses the query string of a list request.
fn parse_query(text: &str) -> Result<EventQuery, Invalid> {
    let mut list = EventQuery { limit: DEFAULT_LIMIT, ..EventQuery::default() };
    let mut faults = query::read(text, |name, value, faults| {
        match name {
            "from" => list.filter.from = faults.check(name, query::time(&value)),
            "to" => list.filter.to = faults.check(name, query::time(&value)),
            "state" => list.state = faults.check(name, parse_state(&value)),
            "before" => list.before = faults.check(name, query::position(&value)),
            "limit" => {
                list.limit = faults.check(name, integer(&value, 1, MAX_LIMIT)).unwrap_or(DEFAULT_LIMIT);
            }
            _ => return filter::read(&mut list.filter, name, &value, faults),
        }
        true
    })?;
    faults = filter::check_period(list.filter.from, list.filter.to, faults);
    faults.finish().map(|()| list)
}

/// Parses the query string of a decision about several dead events.
fn parse_dead_filter(text: &str) -> Result<DeadFilter, Invalid> {
    let mut filter = DeadFilter::default();
    let faults = query::read(text, |name, value, faults| {
        match name {
            "camera_id" => filter.camera_id = faults.check(name, CameraId::parse(value)),
            "reason" => filter.reason = faults.check(name, DeadReason::parse(&value)),
            "before" => filter.before = faults.check(name, query::position(&value)),
            "after" => filter.after = faults.check(name, query::position(&value)),
            _ => return false,
        }
        true
    })?;
    faults.finish().map(|()| filter)
}

fn parse_state(text: &str) -> Result<DeliveryState, String> {
    match text {
        "pending" => Ok(DeliveryState::Pending),
        "delivered" => Ok(DeliveryState::Delivered),
        "dead" => Ok(DeliveryState::Dead),
        _ => Err("must be pending, delivered or dead".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use liveobject_actors::domain::search::{EventFilter, SearchText};

    use super::*;

    #[test]
    fn a_query_without_parameters_selects_the_newest_50() {
        let list = parse_query("").unwrap();
        assert_eq!(list, EventQuery { limit: 50, ..EventQuery::default() });
    }

    #[test]
    fn every_parameter_is_read() {
        let list = parse_query(
            "camera_id=front_door,yard&state=dead&before=7&limit=500&object=Person&q=red+car\
             &from=2026-05-01T00:00:00+02:00&to=2026-05-02T00:00:00.5Z",
        )
        .unwrap();
        assert_eq!((list.state, list.before, list.limit), (Some(DeliveryState::Dead), Some(Seq(7)), 500));
        let EventFilter { cameras, object, text, from, to } = list.filter;
        assert_eq!(cameras.iter().map(CameraId::as_str).collect::<Vec<_>>(), ["front_door", "yard"]);
        assert_eq!((object.as_deref(), text), (Some("person"), SearchText::parse("red car").ok()));
        assert_eq!(from.unwrap().to_rfc3339(), "2026-04-30T22:00:00+00:00");
        assert_eq!(to.unwrap().to_rfc3339(), "2026-05-02T00:00:00.500+00:00");
    }

    #[test]
    fn dead_events_are_selected_by_camera_reason_and_position() {
        let filter = parse_dead_filter("camera_id=door&reason=not_authorized&before=7&after=3").unwrap();
        assert_eq!(filter.camera_id.unwrap().as_str(), "door");
        assert_eq!((filter.reason, filter.before), (Some(DeadReason::NotAuthorized), Some(Seq(7))));
        assert_eq!(filter.after, Some(Seq(3)));
        assert_eq!(parse_dead_filter("").unwrap(), DeadFilter::default());
        let Invalid(errors) = parse_dead_filter("reason=boredom&before=x&after=0&state=dead").unwrap_err();
        let fields: Vec<_> = errors.iter().map(|e| e.field.as_str()).collect();
        assert_eq!(fields, ["reason", "before", "after", "state"]);
    }

    #[test]
    fn every_error_in_a_query_is_reported() {
        let Invalid(errors) = parse_query(
            "camera_id=a%2Fb&state=lost&before=0&limit=501&colour=red&colour=blue&q=.&object=&from=x&to=y",
        )
        .unwrap_err();
        let fields: Vec<_> = errors.iter().map(|e| e.field.as_str()).collect();
        let expected =
            ["camera_id", "state", "before", "limit", "colour", "colour", "q", "object", "from", "to"];
        assert_eq!(fields, expected);
        for invalid in [
            "limit=",
            "limit=0",
            "limit=-1",
            "limit=x",
            "before=9223372036854775808",
            "limit",
            "camera_id=",
            "camera_id=a,,b",
            "from=2026-05-01",
            "from=2026-05-02T00:00:00Z&to=2026-05-01T00:00:00Z",
        ] {
            assert!(parse_query(invalid).is_err(), "{invalid}");
        }
    }
}
