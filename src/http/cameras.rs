//! Cameras: who they are, how they stand, and forgetting them.

use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{Data, Path},
};
use liveobject_actors::{
    CameraId, Invalid, Seq,
    domain::{
        camera::{CameraStatus, LastEvent},
        camera_update::CameraUpdate,
        clock,
        fields::Fields,
    },
    messages::cameras::{CameraView, DeleteCamera, GetCamera, ListCameras, PutCamera, SetCameraStatus},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    body::{EVENT_BYTES, Json},
    problem::Problem,
    schema,
    state::{ApiState, ask},
    thumbnails,
};

/// A camera as the API tells of it.
#[derive(Serialize)]
struct View {
    camera_id: CameraId,
    camera_name: String,
    source_type: String,
    is_doorbell: bool,
    enabled: bool,
    status: CameraStatus,
    last_event: Option<LastEventView>,
    events_today: u64,
    events_this_week: u64,
    thumbnail_seq: Option<Seq>,
}

/// The newest event of a camera.
#[derive(Serialize)]
struct LastEventView {
    event_id: String,
    timestamp: String,
    description: String,
    smart_detection_type: Option<String>,
}

impl From<CameraView> for View {
    fn from(CameraView { camera, events_today, events_this_week }: CameraView) -> Self {
        Self {
            camera_id: camera.camera_id,
            camera_name: camera.camera_name,
            source_type: camera.source_type,
            is_doorbell: camera.is_doorbell,
            enabled: camera.enabled,
            status: camera.status,
            last_event: camera.last_event.map(LastEventView::from),
            events_today,
            events_this_week,
            thumbnail_seq: camera.thumbnail.map(|thumbnail| thumbnail.seq),
        }
    }
}

impl From<LastEvent> for LastEventView {
    fn from(last: LastEvent) -> Self {
        Self {
            event_id: last.event_id.as_str().to_owned(),
            timestamp: clock::rfc3339(last.timestamp),
            description: last.description,
            smart_detection_type: last.smart_detection_type,
        }
    }
}

#[derive(Serialize)]
struct All {
    cameras: Vec<View>,
}

/// Every camera, in the order of their ids.
#[utoipa::path(
    get, path = "/api/v1/cameras", tag = "cameras",
    responses((status = 200, description = "The cameras", body = schema::Cameras)),
)]
pub(super) async fn list(state: Data<ApiState>) -> Result<HttpResponse, Problem> {
    let cameras = ask(&state.handle.list_cameras, ListCameras).await?;
    Ok(HttpResponse::Ok().json(All { cameras: cameras.into_iter().map(View::from).collect() }))
}

/// One camera.
#[utoipa::path(
    get, path = "/api/v1/cameras/{camera_id}", tag = "cameras", params(schema::CameraPath),
    responses(
        (status = 200, description = "The camera", body = schema::Camera),
        (status = 404, description = "No such camera"),
    ),
)]
pub(super) async fn find(state: Data<ApiState>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let id = named(id.into_inner())?;
    let camera = ask(&state.handle.get_camera, GetCamera(id)).await?.ok_or_else(missing)?;
    Ok(HttpResponse::Ok().json(View::from(camera)))
}

/// Register a camera, or change it.
///
/// A field that is left out stays as it is. A camera that is not `enabled` has no state topics and is not announced to Home
/// Assistant; its events are published all the same.
#[utoipa::path(
    put, path = "/api/v1/cameras/{camera_id}", tag = "cameras", params(schema::CameraPath),
    request_body = schema::CameraInput,
    responses(
        (status = 200, description = "The camera as it is now", body = schema::Camera),
        (status = 409, description = "As many cameras are known as may be (`[cameras] max`)"),
        (status = 422, description = "Fields are at fault; nothing was changed"),
        (status = 503, description = "The database is away"),
    ),
)]
pub(super) async fn replace(
    state: Data<ApiState>,
    id: Path<String>,
    body: Json<EVENT_BYTES>,
) -> Result<HttpResponse, Problem> {
    let camera_id = CameraId::parse(id.into_inner()).map_err(|why| Invalid::one("camera_id", why))?;
    let update = CameraUpdate::from_json(body.0)?;
    let camera = ask(&state.handle.put_camera, PutCamera { camera_id, update }).await??;
    Ok(HttpResponse::Ok().json(View::from(camera)))
}

/// Forget a camera, and remove what stands of it at the broker and in Home Assistant.
///
/// Its events stay in the log; a further one registers it anew. While the broker is away, what stands there is removed as
/// soon as it is back.
#[utoipa::path(
    delete, path = "/api/v1/cameras/{camera_id}", tag = "cameras", params(schema::CameraPath),
    responses(
        (status = 204, description = "Forgotten"),
        (status = 404, description = "No such camera"),
        (status = 503, description = "The database is away"),
    ),
)]
pub(super) async fn delete(state: Data<ApiState>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let id = named(id.into_inner())?;
    ask(&state.handle.delete_camera, DeleteCamera(id)).await??;
    Ok(HttpResponse::NoContent().finish())
}

/// Say whether a camera works.
#[utoipa::path(
    put, path = "/api/v1/cameras/{camera_id}/status", tag = "cameras", params(schema::CameraPath),
    request_body = schema::CameraStatusInput,
    responses(
        (status = 200, description = "The camera as it is now", body = schema::Camera),
        (status = 404, description = "No such camera"),
        (status = 422, description = "Fields are at fault; nothing was changed"),
        (status = 503, description = "The database is away"),
    ),
)]
pub(super) async fn set_status(
    state: Data<ApiState>,
    id: Path<String>,
    body: Json<EVENT_BYTES>,
) -> Result<HttpResponse, Problem> {
    let camera_id = named(id.into_inner())?;
    let status = status(body.0)?;
    let camera = ask(&state.handle.set_camera_status, SetCameraStatus { camera_id, status }).await??;
    Ok(HttpResponse::Ok().json(View::from(camera)))
}

/// The newest picture of a camera.
#[utoipa::path(
    get, path = "/api/v1/cameras/{camera_id}/thumbnail", tag = "cameras", params(schema::CameraPath),
    responses(
        (
            status = 200, description = "The picture",
            content((schema::Picture = "image/jpeg"), (schema::Picture = "image/png"), (schema::Picture = "image/webp")),
        ),
        (status = 404, description = "No such camera, or it has no picture"),
        (status = 503, description = "Busy, or the disk is away"),
    ),
)]
pub(super) async fn thumbnail(state: Data<ApiState>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let none = || Problem::new(StatusCode::NOT_FOUND, "there is no such camera, or it has no picture");
    let id = CameraId::parse(id.into_inner()).map_err(|_| none())?;
    let camera = ask(&state.handle.get_camera, GetCamera(id)).await?.map(|view| view.camera);
    let newest = camera.and_then(|camera| camera.thumbnail).ok_or_else(none)?;
    thumbnails::picture_at(&state, newest.seq).await?.ok_or_else(none)
}

fn status(body: Value) -> Result<CameraStatus, Invalid> {
    let mut fields = Fields::of(body)?;
    if !fields.has("status") {
        fields.faults.push("status", "is required");
    }
    let text = fields.text("status");
    let status = text.and_then(|text| fields.faults.check("status", CameraStatus::parse(&text)));
    fields.finish().finish()?;
    status.ok_or_else(|| Invalid::one("status", "is required"))
}

/// What cannot be a camera's id names no camera.
fn named(id: String) -> Result<CameraId, Problem> {
    CameraId::parse(id).map_err(|_| missing())
}

fn missing() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such camera")
}
