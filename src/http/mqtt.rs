//! The endpoints of the MQTT integration: settings, status and tests.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{ETag, EntityTag, Header, IF_MATCH, IfMatch},
    web::Data,
};
use liveobject_actors::{
    domain::{
        clock::{self, Timestamp},
        mqtt_version::Version,
        probe_report::TestReport,
        settings::revision::Precondition,
        status::{ConnectionState, LastError},
    },
    messages::{
        config::{GetSettings, ReplaceSettings, SettingsView, TestConnection},
        discovery::{DiscoveryError, DiscoveryPublished, PublishDiscovery},
        outbox::{GetOutbox, OutboxStatus},
        supervisor::{ConnectionStatus, GetStatus, PublishTestMessage, ReconnectNow},
    },
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    body::{Json, OptionalJson, SETTINGS_BYTES},
    connection_test,
    problem::Problem,
    schema,
    state::{ApiState, BROKER_TIMEOUT, ask, ask_within},
    warnings::{CurrentWarning, WarningTimes},
};

/// The MQTT settings, or the defaults if none are stored.
///
/// Secrets are not included, only whether they are set.
#[utoipa::path(
    get, path = "/api/v1/integrations/mqtt/config", tag = "mqtt",
    responses((
        status = 200, description = "The settings", body = SettingsView,
        headers(("ETag" = String, description = "Their `revision`, for `If-Match`")),
    )),
)]
pub(super) async fn config(state: Data<ApiState>) -> Result<HttpResponse, Problem> {
    let view = ask(&state.handle.settings, GetSettings).await?;
    let tag = EntityTag::new_strong(view.revision.clone());
    Ok(HttpResponse::Ok().insert_header(ETag(tag)).json(view))
}

/// Replace the MQTT settings, and reconnect unless only `wait_for_subscribers` changes.
///
/// Omitted fields take their default. An omitted secret is kept, provided that the host, port, user and TLS
/// settings do not change; `null` clears it.
#[utoipa::path(
    put, path = "/api/v1/integrations/mqtt/config", tag = "mqtt", request_body = schema::SettingsInput,
    params((
        "If-Match" = Option<String>, Header,
        description = "Replace the settings only if this is still their entity tag: their `revision` in quotation \
                       marks, or several of these. Weak tags never match, `*` always does",
    )),
    responses(
        (status = 200, description = "The new settings, already in effect", body = SettingsView),
        (
            status = 409,
            description = "The settings are managed by the configuration or provided by Home Assistant's \
                           Supervisor, or secrets cannot be stored; the detail explains how to fix it",
        ),
        (status = 412, description = "The settings do not have an entity tag in `If-Match`; nothing was changed"),
        (status = 422, description = "Some fields are invalid; nothing was changed"),
    ),
)]
pub(super) async fn replace_config(
    state: Data<ApiState>,
    request: HttpRequest,
    body: Json<SETTINGS_BYTES>,
) -> Result<HttpResponse, Problem> {
    let replace = ReplaceSettings { settings: body.0, precondition: precondition(&request) };
    // Without an `ETag`: what was sent is not what is stored (RFC 9110 section 9.3.4). The body has the revision.
    Ok(HttpResponse::Ok().json(ask(&state.handle.replace_settings, replace).await??))
}

/// Returns what the header `If-Match` requires. Settings always exist, so `*` requires nothing. What is not an entity
/// tag matches nothing, so a malformed header never causes a change.
fn precondition(request: &HttpRequest) -> Precondition {
    if !request.headers().contains_key(IF_MATCH) {
        return Precondition::None;
    }
    match IfMatch::parse(request) {
        Ok(IfMatch::Any) => Precondition::None,
        Ok(IfMatch::Items(tags)) => {
            let strong = tags.iter().filter(|tag| !tag.weak);
            Precondition::OneOf(strong.map(|tag| tag.tag().to_owned()).collect())
        }
        Err(_) => Precondition::OneOf(Vec::new()),
    }
}

/// The status of the connection and the outbox.
#[derive(Serialize, ToSchema)]
#[schema(as = MqttStatus)]
pub(super) struct StatusView {
    /// Whether the state is `connected`.
    connected: bool,
    state: ConnectionState,
    /// `host:port`.
    #[schema(required = true)]
    broker: Option<String>,
    /// The MQTT version in use, while connected.
    #[schema(required = true, value_type = Option<Version>)]
    protocol: Option<&'static str>,
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    last_connected_at: Option<Timestamp>,
    /// Events that the broker has acknowledged since startup.
    #[schema(minimum = 0)]
    messages_published: u64,
    /// Messages that the broker has refused since startup.
    #[schema(minimum = 0)]
    publish_errors: u64,
    #[schema(required = true)]
    last_error: Option<LastError>,
    /// Number of attempts that have failed in a row.
    #[schema(minimum = 0)]
    reconnect_attempt: u32,
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Timestamp>,
    outbox: OutboxView,
    warnings: Vec<CurrentWarning>,
}

/// The status of the outbox.
#[derive(Serialize, ToSchema)]
#[schema(as = OutboxStatus)]
pub(super) struct OutboxView {
    /// Events that are accepted, but neither delivered nor dead.
    #[schema(minimum = 0)]
    pending: u64,
    /// Pending events that have been sent but not acknowledged.
    #[schema(minimum = 0)]
    in_flight: u64,
    /// Events that could not be delivered and have not been dismissed.
    #[schema(minimum = 0)]
    dead: u64,
    /// Pending events that wait for a subscriber that was there before.
    #[schema(minimum = 0)]
    held: u64,
    /// In how many seconds nothing is pending any more at the present rate. `null` if that is unknown, or nothing is
    /// pending.
    #[schema(required = true, minimum = 0)]
    seconds_left: Option<u64>,
    /// When the oldest pending event was accepted.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    oldest_pending_at: Option<Timestamp>,
    /// Events that the broker has acknowledged since midnight, in the time zone of `[cameras]`.
    #[schema(minimum = 0)]
    delivered_today: u64,
}

impl StatusView {
    pub(super) fn new(
        connection: ConnectionStatus,
        outbox: OutboxStatus,
        delivered_today: u64,
        times: &WarningTimes,
    ) -> Self {
        let warnings = connection.warnings.into_iter().chain(outbox.warnings).collect();
        Self {
            connected: connection.state == ConnectionState::Connected,
            state: connection.state,
            broker: connection.broker,
            protocol: connection.protocol,
            last_connected_at: connection.last_connected_at,
            messages_published: outbox.published,
            publish_errors: outbox.refused,
            last_error: connection.last_error,
            reconnect_attempt: connection.reconnect_attempt,
            next_attempt_at: connection.next_attempt_at,
            outbox: OutboxView {
                pending: outbox.pending,
                in_flight: outbox.in_flight,
                dead: outbox.dead,
                held: outbox.held,
                seconds_left: outbox.seconds_left,
                oldest_pending_at: outbox.oldest_pending_at,
                delivered_today,
            },
            warnings: times.of(warnings, clock::now()),
        }
    }
}

/// Asks for the status of the connection and of the outbox at the same time.
pub(super) async fn current(state: &ApiState) -> Result<(ConnectionStatus, OutboxStatus), Problem> {
    futures_util::try_join!(ask(&state.handle.status, GetStatus), ask(&state.handle.outbox, GetOutbox))
}

/// The status of the connection and the outbox.
#[utoipa::path(
    get, path = "/api/v1/integrations/mqtt/status", tag = "mqtt",
    responses((status = 200, description = "The status", body = StatusView)),
)]
pub(super) async fn status(state: Data<ApiState>) -> Result<HttpResponse, Problem> {
    let (connection, outbox) = current(&state).await?;
    let delivered_today = state.history.delivered_today();
    let view = StatusView::new(connection, outbox, delivered_today, &state.warning_times);
    Ok(HttpResponse::Ok().json(view))
}

/// Test a connection, stage by stage, without saving anything.
///
/// The test uses these settings, or the stored ones if the body is empty. It takes at most 10 s. It publishes test
/// messages, but leaves nothing behind: nothing is retained, and no camera or device is created. A stage whose `ok`
/// is `null` has no definite result, which does not count as a failure.
///
/// With `Accept: application/x-ndjson` or `text/event-stream`, the progress is sent live, as lines or as server-sent
/// events: `{"begun": name}` and `{"stage": {…}}`, and `{"report": {…}}` as the last one, or `{"error": text}` if the
/// test could not be completed. Some proxies delay lines, but not events.
#[utoipa::path(
    post, path = "/api/v1/integrations/mqtt/test", tag = "mqtt",
    request_body = Option<schema::SettingsInput>,
    responses(
        (
            status = 200, description = "The result; `success` is whether the settings work",
            content((TestReport = "application/json"), (String = "application/x-ndjson"),
                (String = "text/event-stream")),
        ),
        (status = 422, description = "Some fields are invalid"),
    ),
)]
pub(super) async fn test(
    state: Data<ApiState>,
    request: HttpRequest,
    body: OptionalJson<SETTINGS_BYTES>,
) -> Result<HttpResponse, Problem> {
    if let Some(format) = connection_test::progress_format(request.headers()) {
        return connection_test::run_live(state, body.0, format).await;
    }
    let test = TestConnection::new(body.0);
    Ok(HttpResponse::Ok().json(ask_within(BROKER_TIMEOUT, &state.handle.test_connection, test).await??))
}

/// The result of an action.
#[derive(Serialize, ToSchema)]
#[schema(as = TestMessageResult)]
pub(super) struct ActionResult {
    success: bool,
    /// The result in words.
    message: String,
}

impl ActionResult {
    fn new<T, E: ToString>(result: &Result<T, E>, describe: impl FnOnce(&T) -> String) -> Self {
        Self { success: result.is_ok(), message: result.as_ref().map_or_else(E::to_string, describe) }
    }
}

/// Publish a test message to `{prefix}/test`.
///
/// The status is 200 even if the broker refuses the message; see `success`.
#[utoipa::path(
    post, path = "/api/v1/integrations/mqtt/test-message", tag = "mqtt",
    responses((status = 200, description = "The result", body = ActionResult)),
)]
pub(super) async fn test_message(state: Data<ApiState>) -> Result<HttpResponse, Problem> {
    let result = ask_within(BROKER_TIMEOUT, &state.handle.test_message, PublishTestMessage).await?;
    let result = ActionResult::new(&result, |sent| format!("Test message delivered to {}.", sent.topic));
    Ok(HttpResponse::Ok().json(result))
}

/// Connect now, instead of at the time in `next_attempt_at`.
///
/// The status is 200 even if no attempt was begun, because none is due or the previous one began less than two seconds
/// ago; see `success`. It does not wait for the outcome of the attempt.
#[utoipa::path(
    post, path = "/api/v1/integrations/mqtt/reconnect", tag = "mqtt",
    responses((status = 200, description = "The result", body = ActionResult)),
)]
pub(super) async fn reconnect(state: Data<ApiState>) -> Result<HttpResponse, Problem> {
    let result = ask(&state.handle.reconnect, ReconnectNow).await?;
    Ok(HttpResponse::Ok().json(ActionResult::new(&result, |()| "Connecting to the broker.".to_owned())))
}

/// The result of publishing discovery.
#[derive(Serialize, ToSchema)]
#[schema(as = PublishDiscoveryResult)]
pub(super) struct DiscoveryResult {
    #[serde(flatten)]
    #[schema(inline)]
    result: ActionResult,
    /// Number of cameras whose discovery the broker has acknowledged.
    cameras_published: usize,
}

/// Publish all Home Assistant discovery messages again.
///
/// The status is 200 even if the broker refuses a message; see `success`.
#[utoipa::path(
    post, path = "/api/v1/integrations/mqtt/publish-discovery", tag = "mqtt",
    responses((status = 200, description = "The result", body = DiscoveryResult)),
)]
pub(super) async fn publish_discovery(state: Data<ApiState>) -> Result<HttpResponse, Problem> {
    let result = ask_within(BROKER_TIMEOUT, &state.handle.publish_discovery, PublishDiscovery).await?;
    let cameras_published = match &result {
        Ok(DiscoveryPublished { cameras })
        | Err(DiscoveryError::Refused { cameras, .. } | DiscoveryError::Unanswered { cameras }) => *cameras,
        Err(DiscoveryError::Disabled | DiscoveryError::NotConnected) => 0,
    };
    let result = ActionResult::new(&result, |_| match cameras_published {
        1 => "Announced 1 camera to Home Assistant.".to_owned(),
        n => format!("Announced {n} cameras to Home Assistant."),
    });
    Ok(HttpResponse::Ok().json(DiscoveryResult { result, cameras_published }))
}
