//! The upload of a backup that is restored at the next start, and the backup that waits.

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{CONTENT_ENCODING, CONTENT_LENGTH},
    },
    web::{Data, Payload},
};
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};
use utoipa::ToSchema;

use super::{
    connections::Connection, problem::Problem, query, schema, service::DatabaseEngine, state::ApiState,
};
use crate::backup::{Restores, Upload, UploadError, WaitingRestore};

/// Why no backup can be restored to a database on a server.
const ON_SERVER: &str = "the database is on a PostgreSQL server: restore its backup with `pg_restore` while \
    the service is stopped";
/// How often an upload checks whether the service stops or its client is gone.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// The backup that waits to be restored.
#[derive(Serialize, ToSchema)]
#[schema(as = Restore)]
pub(super) struct RestoreBody {
    /// The backup that waits, or could not be restored at the last start, if there is one.
    restore: Option<WaitingRestore>,
    /// Whether a backup is being uploaded or checked.
    busy: bool,
}

impl RestoreBody {
    fn of(restores: &Restores) -> Self {
        Self { restore: restores.current(), busy: restores.is_busy() }
    }
}

/// The backup that waits to be restored.
///
/// It is restored when the service is restarted. If that failed, it was removed, and `failure` has the reason.
#[utoipa::path(
    get, path = "/api/v1/restore", tag = "operation",
    responses(
        (status = 200, description = "The backup, if there is one", body = RestoreBody),
        (status = 409, description = "The database is on a server"),
    ),
)]
pub(super) async fn find(state: Data<ApiState>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(RestoreBody::of(restores(&state)?)))
}

/// Upload a backup that is restored at the next start.
///
/// The whole archive is checked. It replaces an earlier one that waits. Nothing else changes until the service is
/// restarted. Then the archive replaces the events, settings, cameras and pictures, and, if it contains them, the keys
/// and tokens; what was there before is kept in the data directory with the suffix `.before-restore`. New events get a
/// higher `seq` than all earlier ones. If the archive cannot be restored, the service starts with the data that it had
/// before, and the status shows the reason. The disk needs free space of twice the archive's size, and a reserve.
#[utoipa::path(
    post, path = "/api/v1/restore", tag = "operation", params(schema::RestoreQuery),
    request_body(
        description = "The archive, at most `[http] max_restore_mib`",
        content((schema::Archive = "application/x-tar")),
    ),
    responses(
        (status = 201, description = "Checked; it is restored at the next start", body = RestoreBody),
        (status = 400, description = "The body could not be read, or the upload was interrupted"),
        (status = 408, description = "The sender paused for too long"),
        (status = 409, description = "Another backup is being uploaded or checked, or the database is on a server"),
        (status = 413, description = "The archive is larger than `[http] max_restore_mib`"),
        (
            status = 422,
            description = "Some parameters are invalid, or the archive cannot be restored: it is damaged, \
                           incomplete, or was made by a newer version; or the configuration manages the settings",
        ),
        (status = 503, description = "The archive could not be stored, or the service is stopping"),
        (status = 507, description = "There is not enough space on the disk"),
    ),
)]
pub(super) async fn upload(
    state: Data<ApiState>,
    request: HttpRequest,
    body: Payload,
) -> Result<HttpResponse, Problem> {
    let disconnected = is_disconnected(request.query_string())?;
    let restores = restores(&state)?;
    let headers = request.headers();
    if headers.get(CONTENT_ENCODING).is_some_and(|it| !it.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must not be compressed"));
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let upload = restores.begin(announced, disconnected, state.stopping())?;
    let connection = request.conn_data::<Arc<Connection>>();
    if let Some(connection) = connection {
        connection.begin_body(Instant::now());
    }
    let received = receive(&state, body, &upload).await;
    if let Some(connection) = connection {
        connection.end_body(matches!(received, Ok(true)), Instant::now());
    }
    received?;
    tokio::select! {
        finished = upload.finish() => drop(finished?),
        // The client may not want the restore any more. For example, a user has cancelled it on the page.
        () = gone(connection) => return Err(UploadError::Interrupted.into()),
    }
    Ok(HttpResponse::Created().json(RestoreBody { busy: false, ..RestoreBody::of(restores) }))
}

/// Discard the backup that waits.
///
/// Also discards the record of one that could not be restored, and with it the warning in the status. Does nothing if
/// there is none.
#[utoipa::path(
    delete, path = "/api/v1/restore", tag = "operation",
    responses(
        (status = 204, description = "No backup waits"),
        (status = 409, description = "A backup is being uploaded or checked, or there is no data directory"),
    ),
)]
pub(super) async fn discard(state: Data<ApiState>) -> Result<HttpResponse, Problem> {
    restores(&state)?.discard().await?;
    Ok(HttpResponse::NoContent().finish())
}

fn restores(state: &ApiState) -> Result<&Restores, Problem> {
    state.restores.as_ref().ok_or_else(|| {
        let why = match state.database.engine {
            DatabaseEngine::Sqlite => "this service has no data directory to which a backup can be restored",
            DatabaseEngine::Postgres => ON_SERVER,
        };
        Problem::new(StatusCode::CONFLICT, why)
    })
}

/// Returns whether MQTT must be switched off in the restored settings.
fn is_disconnected(text: &str) -> Result<bool, Problem> {
    let mut disconnected = false;
    let read = query::read(text, |name, value, faults| {
        match (name, value.as_str()) {
            ("disconnected", "true") => disconnected = true,
            ("disconnected", "false") => disconnected = false,
            ("disconnected", _) => faults.push("disconnected", "must be true or false"),
            _ => return false,
        }
        true
    });
    read?.finish()?;
    Ok(disconnected)
}

/// Waits until the client has closed the connection.
async fn gone(connection: Option<&Arc<Connection>>) {
    while connection.is_none_or(|connection| !connection.has_ended()) {
        sleep(CHECK_EVERY).await;
    }
}

/// Passes the body to the upload. Returns whether all of it was accepted. A large archive may take hours, so only the
/// pauses of the sender are limited.
async fn receive(state: &ApiState, mut body: Payload, upload: &Upload) -> Result<bool, Problem> {
    let longest_pause = state.connections.limits().body_timeout;
    let mut received = Instant::now();
    loop {
        if state.is_stopping() {
            return Err(Problem::unavailable("the service is stopping", 5));
        }
        let chunk = match timeout(CHECK_EVERY, body.next()).await {
            Ok(None) => return Ok(true),
            Ok(Some(chunk)) => chunk,
            Err(_) if received.elapsed() < longest_pause => continue,
            Err(_) => {
                let detail = "the sender paused for too long";
                return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail));
            }
        };
        let chunk = chunk.map_err(|cause| {
            Problem::new(StatusCode::BAD_REQUEST, format!("the body could not be read: {cause}"))
        })?;
        if !upload.add(chunk).await {
            return Ok(false);
        }
        received = Instant::now();
    }
}
