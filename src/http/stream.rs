//! The event stream: server-sent events for the page and other clients.

use std::{convert::Infallible, str::FromStr, time::Duration};

use actix_web::{
    HttpMessage as _, HttpRequest, HttpResponse,
    http::{
        Method,
        header::{CACHE_CONTROL, HeaderName},
    },
    web::{Bytes, Data},
};
use futures_util::{Stream, StreamExt as _, stream};
use liveobject_actors::{
    CameraId, Invalid,
    domain::event_log::Position,
    messages::{
        stream::{OpenStream, StreamEvent, StreamMessage, Subscription},
        thumbnails::GetThumbnailVersions,
    },
};
use serde::Serialize;
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{
    auth::Credential,
    events::{EventPicture, RecordView},
    headers::X_ACCEL_BUFFERING,
    mqtt::StatusView,
    problem::Problem,
    query, schema,
    state::{ApiState, ask},
    user_streams::{self, UserStream},
    warnings::WarningTimes,
};

/// After this time without messages, a comment is sent. It prevents proxies from closing the connection, and
/// detects clients that are gone.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often a stream checks whether its token or session is still valid.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
const HEARTBEAT_TEXT: &[u8] = b": heartbeat\n\n";

/// Asks clients to wait 2 s before they reconnect.
const FIRST_TEXT: &[u8] = b"retry: 2000\n\n";

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const LAST_EVENT_ID_PARAMETER: &str = "last_event_id";

/// Live events (server-sent events).
///
/// Each message has one of these events:
///
/// - `status`: like `GET /api/v1/integrations/mqtt/status`. Sent first, and then on changes, at most five
///   times a second.
/// - `event`: an accepted event, as in `GET /api/v1/events`, with its current delivery.
/// - `delivery`: an array of `{event_id, seq, camera_id, delivery}`, at most 500 and ordered by `seq`, with
///   the current delivery of these events. Updates are idempotent: the same state may be sent twice.
/// - `settings`: `{revision}`, when the MQTT settings were changed, and at the beginning after the `status`. The
///   revision is also in `GET /api/v1/integrations/mqtt/config`.
/// - `reset`: `{}`. Too much happened to send it one by one (250 events or 500 deliveries within a fifth of a
///   second), a change cannot be read from the database, or the client missed too much (more than 1,000 events, or
///   more than fits into memory). Load what you show again. No events follow for a second.
///
/// Every message has an `id`. A client that reconnects with it, as `Last-Event-ID` or `last_event_id`,
/// receives what it missed: the events since then, and the deliveries that it does not know. To show a list,
/// open the stream first and then load the list; an event may be in both, with the same `event_id`.
///
/// A comment is sent after 15 s without messages. The stream of a client that does not read ends after 1,500
/// queued messages. At most 32 streams can be open. A stream ends when its token is revoked or its
/// session ends. Through Home Assistant's ingress, at most 24 streams can be open, and 8 per user; a further one ends
/// an older one.
#[utoipa::path(
    get, path = "/api/v1/stream", tag = "events", params(schema::StreamQuery),
    responses(
        (
            status = 200, description = "The stream; it does not end",
            content((schema::Stream = "text/event-stream")),
        ),
        (status = 422, description = "Some parameters are invalid"),
        (status = 503, description = "Too many streams are open, or the service is stopping"),
    ),
)]
pub(super) async fn open(state: Data<ApiState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let header = request.headers().get(LAST_EVENT_ID).map(|value| value.to_str().unwrap_or("?"));
    let open = parse_query(request.query_string(), header)?;
    let mut response = HttpResponse::Ok();
    response
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((X_ACCEL_BUFFERING, "no"));
    // The server cannot omit a body that does not end.
    if *request.method() == Method::HEAD {
        return Ok(response.finish());
    }
    let credential = request.extensions().get::<Credential>().cloned().ok_or_else(Problem::unauthorized)?;
    let place = user_streams::place(&state, &request);
    let subscription = ask(&state.handle.open_stream, open).await??;
    let (now, revocations) = (Instant::now(), state.revocations.subscribe());
    // Checked at once, because an earlier revocation was not reported to this stream.
    let check_at = now;
    let open = Open { subscription, state, credential, revocations, check_at, sent_at: now, place };
    Ok(response.streaming(body(open)))
}

/// An open stream.
struct Open {
    subscription: Subscription,
    state: Data<ApiState>,
    /// What the client was authenticated with.
    credential: Credential,
    /// Changes when a token was revoked or a session has ended.
    revocations: watch::Receiver<()>,
    /// When the credential is checked again.
    check_at: Instant,
    sent_at: Instant,
    /// The stream's place among those of Home Assistant's users; `None` on an ordinary listener.
    place: Option<UserStream>,
}

impl Open {
    /// Returns the next text to send, or `None` at the end of the stream: when the client is too slow, the
    /// service stops, or the client's token or session is no longer valid.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let now = Instant::now();
            if now >= self.check_at {
                if !self.credential.is_valid(&self.state, self.state.handle.clock.now().log).await {
                    return None;
                }
                self.check_at = now + CHECK_INTERVAL;
            }
            let heartbeat_at = self.sent_at + HEARTBEAT;
            let message = tokio::select! {
                message = timeout_at(heartbeat_at.min(self.check_at), self.subscription.next()) => message,
                // This does not fail, because the state has the sender.
                _ = self.revocations.changed() => {
                    self.check_at = now;
                    continue;
                }
                () = user_streams::taken(self.place.as_mut()) => return None,
            };
            let text = match message {
                Ok(message) => encode(&self.state, &*message?).await,
                Err(_) if Instant::now() >= heartbeat_at => Bytes::from_static(HEARTBEAT_TEXT),
                Err(_) => continue,
            };
            self.sent_at = Instant::now();
            return Some(text);
        }
    }
}

fn body(open: Open) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let messages = stream::unfold(open, |mut open| async move { Some((Ok(open.next().await?), open)) });
    stream::once(async { Ok(Bytes::from_static(FIRST_TEXT)) }).chain(messages)
}

/// Encodes a message, with the fields that the stream actor does not provide.
async fn encode(state: &ApiState, message: &StreamMessage) -> Bytes {
    let mut extra = Extra {
        delivered_today: state.history.delivered_today(),
        picture: EventPicture::Unknown,
        warning_times: state.warning_times.clone(),
    };
    if let StreamEvent::Event(record) = &message.event {
        let reply = ask(&state.handle.thumbnail_versions, GetThumbnailVersions(vec![record.seq])).await;
        // Absent if the disk cannot be read.
        let picture = reply.ok().and_then(Result::ok).and_then(|pictures| pictures.first().copied());
        extra.picture = picture.map_or(EventPicture::Unknown, EventPicture::from);
    }
    format_message(message, extra)
}

/// The fields that the stream actor does not provide.
#[derive(Default)]
struct Extra {
    delivered_today: u64,
    picture: EventPicture,
    warning_times: WarningTimes,
}

/// Formats a message as a server-sent event.
fn format_message(StreamMessage { position, event }: &StreamMessage, extra: Extra) -> Bytes {
    let (name, data) = match event {
        StreamEvent::Status(status) => {
            let (connection, outbox) = (**status).clone();
            let Extra { delivered_today, warning_times, .. } = &extra;
            ("status", to_json(&StatusView::new(connection, outbox, *delivered_today, warning_times)))
        }
        StreamEvent::Event(record) => ("event", to_json(&RecordView::new((**record).clone(), extra.picture))),
        StreamEvent::Deliveries(changes) => ("delivery", to_json(changes)),
        StreamEvent::Reset => ("reset", to_json(&json!({}))),
        StreamEvent::Settings(revision) => ("settings", to_json(&json!({ "revision": revision }))),
    };
    // One line of data. Only a payload that another program wrote contains line breaks, between its values.
    let data = data.replace(['\n', '\r'], " ");
    format!("id: {position}\nevent: {name}\ndata: {data}\n\n").into()
}

fn to_json(view: &impl Serialize) -> String {
    serde_json::to_string(view).expect("strings and numbers always serialize")
}

/// Reads the query string and the header. The header takes precedence, because a browser that reconnects
/// repeats the URL of its first request.
fn parse_query(text: &str, header: Option<&str>) -> Result<OpenStream, Invalid> {
    let mut open = OpenStream { camera_id: None, resume: None };
    let mut faults = query::read(text, |name, value, faults| {
        match name {
            "camera_id" => open.camera_id = faults.check(name, CameraId::parse(value)),
            LAST_EVENT_ID_PARAMETER => open.resume = faults.check(name, parse_position(&value)),
            _ => return false,
        }
        true
    })?;
    if let Some(header) = header {
        open.resume = faults.check("Last-Event-ID", parse_position(header));
    }
    faults.finish().map(|()| open)
}

fn parse_position(text: &str) -> Result<Position, String> {
    text.parse().map_err(|error: <Position as FromStr>::Err| error.to_string())
}

#[cfg(test)]
mod tests {
    use liveobject_actors::{
        Seq,
        domain::{
            clock,
            delivery::Delivery,
            event_log::{EventRecord, StoredPayload},
        },
    };

    use super::*;

    fn position_at(seq: i64, checkpoint: i64) -> Position {
        Position { seq: Seq(seq), checkpoint: Seq(checkpoint) }
    }

    #[test]
    fn a_message_has_its_id_its_kind_and_one_line_of_data() {
        let text = format_message(
            &StreamMessage { position: position_at(7, 3), event: StreamEvent::Reset },
            Extra::default(),
        );
        assert_eq!(&text[..], b"id: 7-3\nevent: reset\ndata: {}\n\n");
    }

    #[test]
    fn a_payload_that_another_program_wrote_is_one_line_of_data() {
        let record = EventRecord {
            seq: Seq(1),
            camera_id: CameraId::parse("a").unwrap(),
            received_at: clock::from_micros(0),
            payload: StoredPayload(Bytes::from_static(b"{\"b\":[1,\r\n\n2],\"a\":0}")),
            delivery: Delivery::default(),
        };
        let text = format_message(
            &StreamMessage { position: position_at(1, 0), event: StreamEvent::Event(Box::new(record)) },
            Extra::default(),
        );
        let text = String::from_utf8(text.to_vec()).unwrap();
        let data =
            text.strip_prefix("id: 1-0\nevent: event\ndata: ").and_then(|data| data.strip_suffix("\n\n"));
        assert!(data.unwrap().starts_with("{\"b\":[1,   2],\"a\":0,"), "{text}");
        assert!(!data.unwrap().contains(['\n', '\r']), "{text}");
    }

    #[test]
    fn the_header_overrides_the_parameter() {
        let open = parse_query("camera_id=door&last_event_id=1-1", Some("7-3")).unwrap();
        assert_eq!((open.camera_id.unwrap().as_str(), open.resume), ("door", Some(position_at(7, 3))));
        assert_eq!(parse_query("last_event_id=1-1", None).unwrap().resume, Some(position_at(1, 1)));
        assert_eq!(parse_query("", None).unwrap().resume, None);
    }

    #[test]
    fn every_error_is_reported() {
        let Invalid(errors) =
            parse_query("camera_id=a%2Fb&last_event_id=x&colour=red&colour=blue", Some("y")).unwrap_err();
        let fields: Vec<_> = errors.iter().map(|e| e.field.as_str()).collect();
        assert_eq!(fields, ["camera_id", "last_event_id", "colour", "colour", "Last-Event-ID"]);
    }
}
