//! The MQTT integration: its settings, how it stands, and trying it.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web::Data};
use liveobject_actors::{
    domain::{
        clock::Timestamp,
        status::{ConnectionState, LastError, Warning},
    },
    messages::{
        config::{GetSettings, ReplaceSettings, TestConnection},
        discovery::{DiscoveryError, DiscoveryPublished, PublishDiscovery},
        outbox::{GetOutbox, OutboxStatus},
        supervisor::{ConnectionStatus, GetStatus, PublishTestMessage},
    },
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    body::{Json, OptionalJson, SETTINGS_BYTES},
    problem::Problem,
    schema,
    state::{ApiState, ask, ask_within},
    trial,
};

// A trial takes at most 10 s by itself; a test message as long as a broker may take to acknowledge.
pub(super) const TRIAL_PATIENCE: Duration = Duration::from_secs(15);

/// The MQTT settings; the defaults when none are stored. Secrets are not shown, only whether there is one.
#[utoipa::path(
    get, path = "/api/v1/integrations/mqtt/config", tag = "mqtt",
    responses((status = 200, description = "The settings", body = schema::Settings)),
)]
pub(super) async fn config(state: Data<ApiState>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(ask(&state.handle.settings, GetSettings).await?))
}

/// Replace the MQTT settings, and connect anew.
///
/// A field that is left out takes its default; a secret that is left out is kept, as long as host, port, user and TLS
/// settings stay; `null` clears it.
#[utoipa::path(
    put, path = "/api/v1/integrations/mqtt/config", tag = "mqtt", request_body = schema::SettingsInput,
    responses(
        (status = 200, description = "The settings that hold from now on", body = schema::Settings),
        (status = 409, description = "Secrets cannot be stored; the detail says how to mend it"),
        (status = 422, description = "Fields are at fault; nothing was changed"),
    ),
)]
pub(super) async fn replace_config(
    state: Data<ApiState>,
    body: Json<SETTINGS_BYTES>,
) -> Result<HttpResponse, Problem> {
    let view = ask(&state.handle.replace_settings, ReplaceSettings(body.0)).await??;
    Ok(HttpResponse::Ok().json(view))
}

/// How the connection and the outbox stand.
#[derive(Serialize, ToSchema)]
#[schema(as = MqttStatus)]
pub(super) struct StatusView {
    /// Whether the state is `connected`: the broker answered lately.
    connected: bool,
    #[schema(value_type = schema::ConnectionState)]
    state: ConnectionState,
    /// `host:port`.
    #[schema(required = true)]
    broker: Option<String>,
    /// What the broker speaks, while connected.
    #[schema(required = true, value_type = Option<schema::BrokerProtocol>)]
    protocol: Option<&'static str>,
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    last_connected_at: Option<Timestamp>,
    /// Events that the broker has acknowledged since the start.
    #[schema(minimum = 0)]
    messages_published: u64,
    /// Answers of the broker that were refusals, since the start.
    #[schema(minimum = 0)]
    publish_errors: u64,
    #[schema(required = true, value_type = Option<schema::LastError>)]
    last_error: Option<LastError>,
    /// How many attempts have failed in a row.
    #[schema(minimum = 0)]
    reconnect_attempt: u32,
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Timestamp>,
    outbox: OutboxView,
    #[schema(value_type = Vec<schema::Warning>)]
    warnings: Vec<Warning>,
}

/// How the log of events stands.
#[derive(Serialize, ToSchema)]
#[schema(as = OutboxStatus)]
pub(super) struct OutboxView {
    /// Accepted, and neither delivered nor dead.
    #[schema(minimum = 0)]
    pending: u64,
    /// Those of them that are on their way to the broker.
    #[schema(minimum = 0)]
    in_flight: u64,
    /// Will never be published, and nobody has dismissed them.
    #[schema(minimum = 0)]
    dead: u64,
    /// When the oldest pending event was accepted.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    oldest_pending_at: Option<Timestamp>,
    /// Acknowledged by the broker since midnight, in the time zone of `[cameras]`.
    #[schema(minimum = 0)]
    delivered_today: u64,
}

impl StatusView {
    pub(super) fn new(connection: ConnectionStatus, outbox: OutboxStatus, delivered_today: u64) -> Self {
        let OutboxStatus {
            pending, in_flight, dead, oldest_pending_at, published, refused, warnings, ..
        } = outbox;
        Self {
            connected: connection.state == ConnectionState::Connected,
            state: connection.state,
            broker: connection.broker,
            protocol: connection.protocol,
            last_connected_at: connection.last_connected_at,
            messages_published: published,
            publish_errors: refused,
            last_error: connection.last_error,
            reconnect_attempt: connection.reconnect_attempt,
            next_attempt_at: connection.next_attempt_at,
            outbox: OutboxView { pending, in_flight, dead, oldest_pending_at, delivered_today },
            warnings: connection.warnings.into_iter().chain(warnings).collect(),
        }
    }
}

/// How the connection and the outbox stand.
#[utoipa::path(
    get, path = "/api/v1/integrations/mqtt/status", tag = "mqtt",
    responses((status = 200, description = "The status", body = StatusView)),
)]
pub(super) async fn status(state: Data<ApiState>) -> Result<HttpResponse, Problem> {
    let connection = ask(&state.handle.status, GetStatus);
    let outbox = ask(&state.handle.outbox, GetOutbox);
    let (connection, outbox) = futures_util::try_join!(connection, outbox)?;
    Ok(HttpResponse::Ok().json(StatusView::new(connection, outbox, state.history.delivered_today())))
}

/// Try a connection, stage by stage, without saving anything: with these settings, or with the stored ones when the body
/// is empty. Takes at most 10 s.
///
/// With `Accept: application/x-ndjson` each stage is told as it happens: lines `{"begun": name}` and `{"stage": {…}}`, and
/// `{"report": {…}}` as the last one (`{"error": text}`: the trial was not finished).
#[utoipa::path(
    post, path = "/api/v1/integrations/mqtt/test", tag = "mqtt",
    request_body = Option<schema::SettingsInput>,
    responses(
        (status = 200, description = "How it went; `success` says whether it would work", content((schema::TestReport = "application/json"), (String = "application/x-ndjson"))),
        (status = 422, description = "Fields are at fault"),
    ),
)]
pub(super) async fn test(
    state: Data<ApiState>,
    request: HttpRequest,
    body: OptionalJson<SETTINGS_BYTES>,
) -> Result<HttpResponse, Problem> {
    if trial::is_wanted_live(request.headers()) {
        return trial::live(state, body.0).await;
    }
    let test = TestConnection::new(body.0);
    Ok(HttpResponse::Ok().json(ask_within(TRIAL_PATIENCE, &state.handle.test_connection, test).await??))
}

/// Whether it worked, in words too.
#[derive(Serialize, ToSchema)]
#[schema(as = TestMessageResult)]
pub(super) struct TestMessageView {
    success: bool,
    message: String,
}

/// Publish a test message to `{prefix}/test`.
///
/// 200 either way: who asks wants to know whether it works, and `success` says so.
#[utoipa::path(
    post, path = "/api/v1/integrations/mqtt/test-message", tag = "mqtt",
    responses((status = 200, description = "Whether the broker acknowledged it", body = TestMessageView)),
)]
pub(super) async fn test_message(state: Data<ApiState>) -> Result<HttpResponse, Problem> {
    let view = match ask_within(TRIAL_PATIENCE, &state.handle.test_message, PublishTestMessage).await? {
        Ok(sent) => TestMessageView {
            success: true,
            message: format!("the broker acknowledged a message to {}", sent.topic),
        },
        Err(error) => TestMessageView { success: false, message: error.to_string() },
    };
    Ok(HttpResponse::Ok().json(view))
}

/// Whether discovery was published, and for how many cameras.
#[derive(Serialize, ToSchema)]
#[schema(as = PublishDiscoveryResult)]
pub(super) struct DiscoveryView {
    success: bool,
    message: String,
    cameras_published: usize,
}

/// Publish all Home Assistant discovery messages again.
///
/// 200 either way: who asks wants to know whether it works, and `success` says so.
#[utoipa::path(
    post, path = "/api/v1/integrations/mqtt/publish-discovery", tag = "mqtt",
    responses((status = 200, description = "Whether the broker acknowledged all of it", body = DiscoveryView)),
)]
pub(super) async fn publish_discovery(state: Data<ApiState>) -> Result<HttpResponse, Problem> {
    let view = match ask_within(TRIAL_PATIENCE, &state.handle.publish_discovery, PublishDiscovery).await? {
        Ok(DiscoveryPublished { cameras }) => DiscoveryView {
            success: true,
            message: format!("the broker acknowledged the discovery of {cameras} cameras"),
            cameras_published: cameras,
        },
        Err(error) => {
            let cameras = match error {
                DiscoveryError::Refused { cameras, .. } | DiscoveryError::Unanswered { cameras } => cameras,
                DiscoveryError::Disabled | DiscoveryError::NotConnected => 0,
            };
            DiscoveryView { success: false, message: error.to_string(), cameras_published: cameras }
        }
    };
    Ok(HttpResponse::Ok().json(view))
}
