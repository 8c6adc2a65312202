//! The replay endpoints: sending events of the log again.

use std::time::Duration;

use actix_web::{
    HttpResponse,
    http::{StatusCode, header::LOCATION},
    web::{Data, Path},
};
use liveobject_actors::{
    domain::replay::Replay,
    messages::replay::{CancelReplay, CreateReplay, GetReplay, ListReplays, ReplayError},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    body::{EVENT_BYTES, Json},
    problem::Problem,
    schema,
    state::{ApiState, ask, ask_within},
};

/// How long the search for the events may take. It reads the whole log: about a second for a million events.
const CREATE_TIMEOUT: Duration = Duration::from_mins(1);

/// A replay that was just requested.
#[derive(Serialize, ToSchema)]
#[schema(as = NewReplay)]
pub(super) struct CreatedReplay {
    /// Its id.
    #[schema(minimum = 1)]
    id: i64,
    /// How many events it sends.
    events: u64,
}

/// Replays.
#[derive(Serialize, ToSchema)]
#[schema(as = Replays)]
pub(super) struct ReplayList {
    replays: Vec<Replay>,
}

/// Send events of the log again.
///
/// Each message is the payload of an event with `"late":true` and `"replay":true`. No message reaches a topic for
/// live events. New events and those that wait go first. The events are sent in the order in which they were accepted,
/// each at least once, also if the service is restarted. One replay is sent at a time. At most eight can be
/// unfinished.
#[utoipa::path(
    post, path = "/api/v1/replays", tag = "replays", request_body = schema::ReplayInput,
    responses(
        (status = 202, description = "Stored; the replay begins soon", body = CreatedReplay,
            headers(("Location" = String, description = "The URL of the replay"))),
        (status = 409, description = "There are already eight unfinished replays"),
        (status = 422, description = "Some fields are invalid"),
        (status = 503, description = "The database is unavailable. Try again after `Retry-After` seconds"),
    ),
)]
pub(super) async fn create(state: Data<ApiState>, body: Json<EVENT_BYTES>) -> Result<HttpResponse, Problem> {
    let create = CreateReplay(body.0);
    let Replay { id, events, .. } = ask_within(CREATE_TIMEOUT, &state.handle.create_replay, create).await??;
    Ok(HttpResponse::Accepted()
        .insert_header((LOCATION, format!("/api/v1/replays/{id}")))
        .json(CreatedReplay { id, events }))
}

/// All unfinished replays and the 20 newest finished ones, newest first.
#[utoipa::path(
    get, path = "/api/v1/replays", tag = "replays",
    responses((status = 200, description = "The replays", body = ReplayList)),
)]
pub(super) async fn list(state: Data<ApiState>) -> Result<HttpResponse, Problem> {
    let replays = ask(&state.handle.list_replays, ListReplays).await?;
    Ok(HttpResponse::Ok().json(ReplayList { replays }))
}

/// One replay and its progress.
#[utoipa::path(
    get, path = "/api/v1/replays/{id}", tag = "replays",
    params(("id" = i64, Path, description = "The id of the replay", minimum = 1)),
    responses(
        (status = 200, description = "The replay", body = Replay),
        (status = 404, description = "No such replay"),
    ),
)]
pub(super) async fn find(state: Data<ApiState>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let replay = ask(&state.handle.get_replay, GetReplay(number(&id)?)).await?;
    Ok(HttpResponse::Ok().json(replay.ok_or(ReplayError::Unknown)?))
}

/// Stop a replay.
///
/// Messages that are in flight may still arrive. A replay that is over does not change.
#[utoipa::path(
    delete, path = "/api/v1/replays/{id}", tag = "replays",
    params(("id" = i64, Path, description = "The id of the replay", minimum = 1)),
    responses(
        (status = 200, description = "The replay, which is over now", body = Replay),
        (status = 404, description = "No such replay"),
        (status = 503, description = "The database is unavailable. Try again after `Retry-After` seconds"),
    ),
)]
pub(super) async fn cancel(state: Data<ApiState>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let replay = ask(&state.handle.cancel_replay, CancelReplay(number(&id)?)).await??;
    Ok(HttpResponse::Ok().json(replay))
}

/// Reads the id of a replay. No replay has another form of id.
fn number(text: &str) -> Result<i64, Problem> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_number);
    number.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, ReplayError::Unknown.to_string()))
}
