//! Parts of the OpenAPI document that no Rust type corresponds to: query parameters, bodies that are read
//! field by field, and bodies that are not JSON. All other schemas are derived from the types that the API
//! serves.

#![expect(dead_code, reason = "these types only describe a schema")]

mod settings;

use liveobject_actors::{
    EventInput,
    domain::{
        delivery::{DeadReason, DeliveryState},
        image::RenditionWidth,
    },
};
use utoipa::{
    IntoParams, ToSchema,
    openapi::{Object, ObjectBuilder, schema::Type},
};

pub(super) use self::settings::{SettingsInput, insert_defaults};
use crate::telemetry::recent::LogLevel;

/// Several events, in the order in which they are accepted.
#[derive(ToSchema)]
#[schema(min_items = 1, max_items = 1000)]
pub(super) struct Batch(Vec<Submission>);

/// An event, and its picture if it has one.
#[derive(ToSchema)]
pub(super) struct Submission {
    #[serde(flatten)]
    #[schema(inline)]
    event: EventInput,
    /// The picture in base64, with or without a `data:` prefix: JPEG, PNG or WebP, at most 2 MiB.
    thumbnail: Option<String>,
}

/// An event, and its picture if it has one, as the parts of a form.
#[derive(ToSchema)]
pub(super) struct Form {
    /// The event, as JSON.
    event: EventInput,
    /// The picture: JPEG, PNG or WebP, at most 2 MiB.
    #[schema(value_type = Option<String>, format = Binary)]
    thumbnail: Option<Vec<u8>>,
}

/// The bytes of a picture.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(super) struct Picture(Vec<u8>);

/// A tar archive.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(super) struct Archive(Vec<u8>);

/// Credentials for signing in: a token or a code.
#[derive(ToSchema)]
pub(super) struct SignIn {
    /// The admin token, or another one.
    #[schema(min_length = 1, max_length = 512, write_only)]
    token: Option<String>,
    /// The one-time code of the link that the service prints at startup.
    #[schema(min_length = 1, max_length = 512, write_only)]
    code: Option<String>,
}

/// The new status of a camera.
#[derive(ToSchema)]
pub(super) struct CameraStatusInput {
    /// `online`, `offline` or `unavailable`. Also accepted: `connected` (online), `disconnected` and
    /// `stopped` (offline), `starting` and `error` (unavailable).
    status: String,
}

/// Which events to send again, to which topic, and how fast.
#[derive(ToSchema)]
pub(super) struct ReplayInput {
    /// Events whose `timestamp` is at or after this time.
    #[schema(value_type = String, format = DateTime)]
    from: String,
    /// Events whose `timestamp` is before this time; by default now.
    #[schema(value_type = Option<String>, format = DateTime)]
    to: Option<String>,
    /// Only events of this camera.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,128}$")]
    camera_id: Option<String>,
    /// `history`, the default, for the `history` topic of each camera; or another topic, which must not be one of
    /// the service or of Home Assistant's discovery.
    #[schema(min_length = 1, max_length = 255)]
    topic: Option<String>,
    /// How many messages to send in a second at most; by default 50.
    #[schema(minimum = 1, maximum = 1000)]
    max_per_second: Option<u16>,
}

/// A message of the stream (server-sent event).
#[derive(ToSchema)]
pub(super) struct Stream {
    /// The kind of the message: `status`, `event`, `delivery`, `settings` or `reset`.
    event: Option<String>,
    /// The position in the stream, for `Last-Event-ID`.
    id: Option<String>,
    /// JSON.
    data: Option<String>,
}

/// Selects the camera.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct CameraPath {
    #[param(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$")]
    camera_id: String,
}

/// Selects the event.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct EventPath {
    /// The id in the event's receipt.
    #[param(min_length = 1, max_length = 128)]
    event_id: String,
}

/// Selects the size of a picture.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PictureQuery {
    /// The width of a small rendition, in pixels: 192, 384 or 768. Without it, the picture is returned as it was
    /// submitted.
    #[param(schema_with = rendition_widths)]
    width: Option<u32>,
    /// The `thumbnail_version` of an event or camera: if the picture still has it, clients may cache the response for
    /// ever. If the picture was replaced, the new one is returned.
    #[param(max_length = 100)]
    version: Option<String>,
}

fn rendition_widths() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .enum_values(Some(RenditionWidth::ALL.map(serde_json::Value::from)))
        .build()
}

/// Selects what to receive.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamQuery {
    /// Only events of this camera, and their deliveries.
    #[param(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$")]
    camera_id: Option<String>,
    /// The `id` of the last message that was received, for clients that cannot send `Last-Event-ID`.
    #[param(pattern = "^[0-9]+-[0-9]+$")]
    last_event_id: Option<String>,
}

/// What a backup contains.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct BackupQuery {
    /// Whether the keys and tokens are included.
    #[param(default = true)]
    secrets: Option<bool>,
}

/// How a backup is restored.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RestoreQuery {
    /// Whether MQTT is switched off in the restored settings. Use this for a copy of a service that is still running.
    #[param(default = false)]
    disconnected: Option<bool>,
}

/// Selects dead events that are not dismissed; all of them without parameters.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DeadQuery {
    /// Only events of this camera.
    #[param(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$")]
    camera_id: Option<String>,
    /// Only events that are dead for this reason.
    #[param(inline)]
    reason: Option<DeadReason>,
    /// Only events before this `seq`.
    #[param(minimum = 1)]
    before: Option<i64>,
    /// Only events after this `seq`: the `next_after` of the previous response.
    #[param(minimum = 1)]
    after: Option<i64>,
}

/// Selects events.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EventQuery {
    /// Only events of this camera, or of these, separated by commas: at most 32.
    #[param(
        min_length = 1,
        pattern = "^[A-Za-z0-9_-]{1,128}(,[A-Za-z0-9_-]{1,128})*$",
        example = "front_door,yard"
    )]
    camera_id: Option<String>,
    /// Only events with this object, in upper or lower case.
    #[param(min_length = 1, max_length = 64, example = "person")]
    object: Option<String>,
    /// Only events that contain these words in the description, the name of the camera or the objects, in any order and
    /// in upper or lower case, with or without accents. Of the last word, the beginning is enough. At most 8 words
    /// and 32 Chinese or Japanese characters.
    #[param(min_length = 1, max_length = 200, example = "red car")]
    q: Option<String>,
    /// Only events whose `timestamp` is at or after this time.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<String>,
    /// Only events whose `timestamp` is before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<String>,
    /// Only events in this delivery state.
    #[param(inline)]
    state: Option<DeliveryState>,
    /// Only events with a lower `seq`.
    #[param(minimum = 1)]
    before: Option<i64>,
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u64>,
}

/// Selects events to count.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DensityQuery {
    /// The beginning of the first step.
    #[param(value_type = String, format = DateTime)]
    from: String,
    /// The end of the last step: at most 400 steps after `from`.
    #[param(value_type = String, format = DateTime)]
    to: String,
    /// The length of a step, in seconds.
    #[param(minimum = 60, maximum = 86_400, default = 3600)]
    step: Option<u32>,
    /// Only events of this camera, or of these, separated by commas: at most 32.
    #[param(min_length = 1, pattern = "^[A-Za-z0-9_-]{1,128}(,[A-Za-z0-9_-]{1,128})*$")]
    camera_id: Option<String>,
    /// Only events with this object, in upper or lower case.
    #[param(min_length = 1, max_length = 64)]
    object: Option<String>,
    /// Only events that contain these words, as in a list of events.
    #[param(min_length = 1, max_length = 200)]
    q: Option<String>,
    /// Only events with a lower `seq`.
    #[param(minimum = 1)]
    before: Option<i64>,
}

/// Selects the period that the charts cover.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// How far back the charts reach: `1h`, `24h` or `7d`. Without it, the response is the last hour since the start of
    /// the service, as in earlier releases.
    #[param(pattern = "^(1h|24h|7d)$")]
    range: Option<String>,
}

/// Selects lines of the log.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LogQuery {
    /// Only lines of this level and of more serious ones.
    #[param(inline, default = "info")]
    level: Option<LogLevel>,
    /// Only lines with a higher number: the `next_after` of the previous response. Without it, or with a number from
    /// before a restart of the service, the latest lines are returned.
    #[param(minimum = 0)]
    after: Option<u64>,
    #[param(minimum = 1, maximum = 1000, default = 1000)]
    limit: Option<usize>,
}

/// Selects outages.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct OutageQuery {
    /// Only outages that ended at this time or later, or have not ended. By default, 24 hours before `to`.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<String>,
    /// Only outages that began at this time or earlier. By default, now.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<String>,
}
