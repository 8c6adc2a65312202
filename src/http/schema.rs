//! The shapes of requests and answers, for the OpenAPI document. The actors read and write them; these types only tell
//! of them, with the bounds of the contract, and tests compare the two.

#![expect(dead_code, reason = "no value of these types is ever made")]

mod cameras;
mod session;
mod settings;
mod status;
mod tokens;

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

pub(super) use self::{
    cameras::{Camera, CameraInput, CameraPath, CameraStatusInput, Cameras},
    session::{Session, SignIn},
    settings::{Settings, SettingsInput},
    status::{BrokerProtocol, ConnectionState, LastError, TestReport, Warning},
    tokens::{NewToken, TokenInput, Tokens},
};

/// One detection event, as a source tells it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EventInput {
    /// The source's own id of the event; a new one is made when absent. Sending an event again with the same id cannot
    /// double it.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_.:-]+$")]
    event_id: Option<String>,
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$", example = "front_door")]
    camera_id: String,
    /// No control characters; the camera's id when absent.
    #[schema(min_length = 1, max_length = 100)]
    camera_name: Option<String>,
    /// What was seen, in words: at most 4,096 bytes.
    #[schema(min_length = 1, max_length = 4096, example = "Person at the door with a package")]
    description: String,
    /// At most 64 names of at most 64 bytes.
    #[schema(max_items = 64, value_type = Option<Vec<Label>>)]
    objects_detected: Option<Vec<Label>>,
    #[schema(minimum = 0, maximum = 100, default = 0)]
    confidence: Option<u8>,
    /// What kind of source saw it (`rtsp`, `usb`, `protect` …).
    #[schema(min_length = 1, max_length = 64, default = "unknown")]
    source_type: Option<String>,
    /// The camera's own classification.
    #[schema(min_length = 1, max_length = 64)]
    smart_detection_type: Option<String>,
    /// When it happened (RFC 3339 with a zone); the moment of acceptance when absent.
    #[schema(format = DateTime)]
    timestamp: Option<String>,
    /// Whether somebody rang the doorbell.
    is_doorbell_ring: Option<bool>,
    /// The describing model's own confidence.
    #[schema(minimum = 0, maximum = 100)]
    ai_confidence: Option<u8>,
    /// Which model described it.
    #[schema(min_length = 1, max_length = 64)]
    provider_used: Option<String>,
    /// How it was looked at (`single_frame`, `multi_frame` …).
    #[schema(min_length = 1, max_length = 64)]
    analysis_mode: Option<String>,
    /// Whether the description is to be taken with care.
    low_confidence: Option<bool>,
    /// What groups the views that several cameras had of one thing.
    #[schema(min_length = 1, max_length = 128)]
    correlation_group_id: Option<String>,
    /// Which carrier brought a parcel.
    #[schema(min_length = 1, max_length = 64, example = "fedex")]
    delivery_carrier: Option<String>,
    /// The carrier's name as people write it.
    #[schema(min_length = 1, max_length = 64, example = "FedEx")]
    delivery_carrier_display: Option<String>,
}

/// The name of an object that was seen.
#[derive(Deserialize, ToSchema)]
#[schema(min_length = 1, max_length = 64, example = "person")]
pub(super) struct Label(String);

/// Several events, in the order in which they are to be accepted.
#[derive(ToSchema)]
#[schema(min_items = 1, max_items = 1000)]
pub(super) struct Batch(Vec<EventInput>);

/// What the log says of an event that it holds.
#[derive(ToSchema)]
pub(super) struct Receipt {
    event_id: String,
    /// Its place in the log: grows with every accepted event.
    #[schema(minimum = 1)]
    seq: i64,
    /// Whether the event was in the log already; the receipt is then the first one's.
    duplicate: bool,
}

/// The receipts of a batch, in its order.
#[derive(ToSchema)]
pub(super) struct Accepted {
    accepted: Vec<Receipt>,
}

/// Where an event stands.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum DeliveryState {
    Pending,
    Delivered,
    Dead,
}

/// What became of an event.
#[derive(ToSchema)]
pub(super) struct Delivery {
    state: DeliveryState,
    /// When the broker acknowledged it.
    #[schema(required = true, format = DateTime)]
    delivered_at: Option<String>,
    /// Whether it went (or, while pending, would now go) to the `history` topic.
    late: bool,
    /// Why it is dead.
    #[schema(required = true)]
    reason: Option<String>,
    /// `true` when it is dead and somebody has dismissed it; else it is left out.
    #[schema(nullable = false)]
    dismissed: Option<bool>,
}

/// What became of one event.
#[derive(ToSchema)]
pub(super) struct DeliveryChange {
    event_id: String,
    #[schema(minimum = 1)]
    seq: i64,
    camera_id: String,
    delivery: Delivery,
}

/// One server-sent event; the stream is made of them.
#[derive(ToSchema)]
pub(super) struct Stream {
    /// What it is told of: `status`, `event`, `delivery` or `reset`.
    event: Option<String>,
    /// Where the stream stands: what `Last-Event-ID` takes.
    id: Option<String>,
    /// JSON.
    data: Option<String>,
}

/// What to tell.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamQuery {
    /// Only events of this camera, and their deliveries.
    #[param(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$")]
    camera_id: Option<String>,
    /// The `id` of the last message that was seen, for clients that cannot send `Last-Event-ID`.
    #[param(pattern = "^[0-9]+-[0-9]+$")]
    last_event_id: Option<String>,
}

/// One event of the log: the payload, as subscribers get it, and what became of it.
#[derive(ToSchema)]
pub(super) struct EventRecord {
    event_id: String,
    camera_id: String,
    camera_name: String,
    description: String,
    objects_detected: Vec<Label>,
    #[schema(minimum = 0, maximum = 100)]
    confidence: u8,
    source_type: String,
    #[schema(required = true)]
    smart_detection_type: Option<String>,
    #[schema(format = DateTime)]
    timestamp: String,
    #[schema(format = "uri")]
    thumbnail_url: String,
    #[schema(minimum = 1)]
    seq: i64,
    #[schema(nullable = false, minimum = 0, maximum = 100)]
    ai_confidence: Option<u8>,
    #[schema(nullable = false)]
    is_doorbell_ring: Option<bool>,
    #[schema(nullable = false)]
    provider_used: Option<String>,
    #[schema(nullable = false)]
    analysis_mode: Option<String>,
    #[schema(nullable = false)]
    low_confidence: Option<bool>,
    #[schema(nullable = false)]
    correlation_group_id: Option<String>,
    #[schema(nullable = false)]
    delivery_carrier: Option<String>,
    #[schema(nullable = false)]
    delivery_carrier_display: Option<String>,
    /// When it was accepted.
    #[schema(format = DateTime)]
    received_at: String,
    delivery: Delivery,
    /// Whether it has a picture by now; left out in the stream where that cannot be told. One may come later.
    #[schema(nullable = false)]
    has_thumbnail: Option<bool>,
}

/// Events, newest first.
#[derive(ToSchema)]
pub(super) struct EventPage {
    events: Vec<EventRecord>,
    /// The next page's `before`; `null` when this is the last one.
    #[schema(required = true, minimum = 1)]
    next_before: Option<i64>,
}

/// The bytes of a picture.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(super) struct Picture(Vec<u8>);

/// Which events to list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EventQuery {
    /// Only this camera's.
    #[param(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$")]
    camera_id: Option<String>,
    /// Only those that stand so.
    #[param(inline)]
    state: Option<DeliveryState>,
    /// Only those before this `seq`.
    #[param(minimum = 1)]
    before: Option<i64>,
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u64>,
}

/// An error (RFC 9457).
#[derive(ToSchema)]
pub(super) struct Problem {
    #[schema(example = "about:blank")]
    r#type: String,
    /// The status in words.
    title: String,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong, and what can be done.
    detail: String,
    /// Each field that is at fault (at most 100, then how many more there are).
    #[schema(nullable = false, max_items = 101)]
    errors: Option<Vec<FieldError>>,
}

/// What is wrong with one field.
#[derive(ToSchema)]
pub(super) struct FieldError {
    /// The field's name, in a batch `[3].confidence`; `""` for the input as a whole.
    field: String,
    message: String,
}
