//! What happens, as it happens: server-sent events for the page and whoever else watches.

use std::{convert::Infallible, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method,
        header::{CACHE_CONTROL, HeaderName},
    },
    web::{Bytes, Data, Query},
};
use futures_util::{Stream, StreamExt as _, stream};
use liveobject_actors::{
    CameraId, Invalid,
    domain::{event_log::Position, fields::Faults},
    messages::{
        stream::{OpenStream, StreamEvent, StreamMessage, Subscription},
        thumbnails::HaveThumbnails,
    },
};
use serde::Serialize;
use serde_json::json;
use tokio::time::timeout;

use super::{
    events::RecordView,
    mqtt::StatusView,
    problem::Problem,
    schema,
    state::{ApiState, ask},
};

/// A comment after so long a silence keeps proxies from closing the connection, and tells who is gone.
const HEARTBEAT: Duration = Duration::from_secs(15);
const HEARTBEAT_TEXT: &[u8] = b": heartbeat\n\n";

/// How long a client is asked to wait before it comes back.
const FIRST_TEXT: &[u8] = b"retry: 2000\n\n";

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const LAST_EVENT_ID_PARAMETER: &str = "last_event_id";

/// nginx would gather the messages.
pub(super) const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What happens, as it happens (server-sent events).
///
/// | event | data |
/// | --- | --- |
/// | `status` | as `GET /api/v1/integrations/mqtt/status` answers: first of all, and when something of it changes, at most five times a second |
/// | `event` | an accepted event, as `GET /api/v1/events` lists it, with its delivery as it stands by then |
/// | `delivery` | an array of `{event_id, seq, camera_id, delivery}`: what became of events, at most 500 at a time and in the order of `seq`. It says how they stand, not what changed: what is told twice is so twice |
/// | `reset` | `{}`: more happened (250 events or 500 deliveries within a fifth of a second) or was missed (1,000) than is told one by one: ask for what is shown again. Then nothing of events for a second |
///
/// Every message has an `id`. Who comes back with it, as `Last-Event-ID` or `last_event_id`, is told what it missed: the
/// events since, and how those stand whose delivery it does not know. To show a list, open the stream first and ask for the
/// list then; an event may come in both, with the same `event_id`.
///
/// After 15 s of silence comes a comment. 1,500 messages wait for a client that does not read; then its stream ends. At most
/// 32 streams are open.
#[utoipa::path(
    get, path = "/api/v1/stream", tag = "events", params(schema::StreamQuery),
    responses(
        (status = 200, description = "The stream; it has no end", content((schema::Stream = "text/event-stream"))),
        (status = 422, description = "Parameters are at fault"),
        (status = 503, description = "As many streams are open as may be, or the service is stopping"),
    ),
)]
pub(super) async fn open(state: Data<ApiState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let header = request.headers().get(LAST_EVENT_ID).map(|value| value.to_str().unwrap_or("?"));
    let query = query(request.query_string(), header)?;
    let mut response = HttpResponse::Ok();
    response
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((X_ACCEL_BUFFERING, "no"));
    // A body without end cannot be left out.
    if *request.method() == Method::HEAD {
        return Ok(response.finish());
    }
    let subscription = ask(&state.handle.open_stream, query).await??;
    Ok(response.streaming(body(subscription, state)))
}

fn body(subscription: Subscription, state: Data<ApiState>) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let told = stream::unfold((subscription, state), |(mut subscription, state)| async move {
        let text = match timeout(HEARTBEAT, subscription.next()).await {
            Ok(message) => told_by(&state, &*message?).await,
            Err(_) => Bytes::from_static(HEARTBEAT_TEXT),
        };
        Some((Ok(text), (subscription, state)))
    });
    stream::once(async { Ok(Bytes::from_static(FIRST_TEXT)) }).chain(told)
}

/// A message, with what only the API knows of it.
async fn told_by(state: &ApiState, message: &StreamMessage) -> Bytes {
    let mut also = Also { delivered_today: state.history.delivered_today(), has_thumbnail: None };
    if let StreamEvent::Event(record) = &message.event {
        let asked = ask(&state.handle.have_thumbnails, HaveThumbnails(vec![record.seq])).await;
        // Left out where the disk does not say.
        also.has_thumbnail = asked.ok().and_then(Result::ok).and_then(|answers| answers.first().copied());
    }
    text_of(message, also)
}

/// What a message is told with.
#[derive(Default)]
struct Also {
    delivered_today: u64,
    has_thumbnail: Option<bool>,
}

/// A message as it goes over the wire. JSON has no line breaks: it is one line of data.
fn text_of(StreamMessage { position, event: news }: &StreamMessage, also: Also) -> Bytes {
    let (event, data) = match news {
        StreamEvent::Status(status) => {
            let (connection, outbox) = (**status).clone();
            ("status", json_of(&StatusView::new(connection, outbox, also.delivered_today)))
        }
        StreamEvent::Event(record) => {
            ("event", json_of(&RecordView::of((**record).clone(), also.has_thumbnail)))
        }
        StreamEvent::Deliveries(changes) => ("delivery", json_of(changes)),
        StreamEvent::Reset => ("reset", json_of(&json!({}))),
    };
    format!("id: {position}\nevent: {event}\ndata: {data}\n\n").into()
}

fn json_of(view: &impl Serialize) -> String {
    serde_json::to_string(view).expect("texts and numbers always serialize")
}

/// Reads what is asked for; every fault is named. The header is the newer one: a browser keeps the address of its first
/// request.
fn query(text: &str, header: Option<&str>) -> Result<OpenStream, Invalid> {
    let pairs = Query::<Vec<(String, String)>>::from_query(text)
        .map_err(|_| Invalid::one("", "the query is not of the form name=value&name=value"))?;
    let mut open = OpenStream { camera_id: None, resume: None };
    let mut faults = Faults::default();
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in pairs.into_inner() {
        if seen.contains(&name) {
            faults.push(&name, "given more than once");
            continue;
        }
        match name.as_str() {
            "camera_id" => open.camera_id = faults.check(&name, CameraId::parse(value)),
            LAST_EVENT_ID_PARAMETER => open.resume = faults.check(&name, position(&value)),
            _ => faults.push(&name, "unknown parameter"),
        }
        seen.push(name);
    }
    if let Some(header) = header {
        open.resume = faults.check("Last-Event-ID", position(header));
    }
    faults.finish().map(|()| open)
}

fn position(text: &str) -> Result<Position, String> {
    text.parse().map_err(|error: liveobject_actors::domain::event_log::NoPosition| error.to_string())
}

#[cfg(test)]
mod tests {
    use liveobject_actors::Seq;

    use super::*;

    fn at(seq: i64, noted: i64) -> Position {
        Position { seq: Seq(seq), noted: Seq(noted) }
    }

    #[test]
    fn a_message_is_its_id_its_kind_and_one_line_of_data() {
        let text = text_of(&StreamMessage { position: at(7, 3), event: StreamEvent::Reset }, Also::default());
        assert_eq!(&text[..], b"id: 7-3\nevent: reset\ndata: {}\n\n");
    }

    #[test]
    fn the_header_goes_before_the_parameter() {
        let open = query("camera_id=door&last_event_id=1-1", Some("7-3")).unwrap();
        assert_eq!((open.camera_id.unwrap().as_str(), open.resume), ("door", Some(at(7, 3))));
        assert_eq!(query("last_event_id=1-1", None).unwrap().resume, Some(at(1, 1)));
        assert_eq!(query("", None).unwrap().resume, None);
    }

    #[test]
    fn every_fault_is_named() {
        let Invalid(errors) =
            query("camera_id=a%2Fb&last_event_id=x&colour=red&colour=blue", Some("y")).unwrap_err();
        let fields: Vec<_> = errors.iter().map(|e| e.field.as_str()).collect();
        assert_eq!(fields, ["camera_id", "last_event_id", "colour", "colour", "Last-Event-ID"]);
    }
}
