//! The camera endpoints.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path},
};
use liveobject_actors::{
    CameraId, Invalid, Seq,
    domain::{
        camera::{Camera, CameraStatus, LastEvent},
        camera_update::CameraUpdate,
        clock,
        fields::Fields,
        image::PictureVersion,
        token::Scope,
    },
    messages::{
        cameras::{CameraView, DeleteCamera, GetCamera, ListCameras, PutCamera, SetCameraStatus},
        thumbnails::GetThumbnailVersions,
    },
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    auth,
    body::{EVENT_BYTES, Json},
    problem::Problem,
    schema,
    state::{ApiState, ask},
    thumbnails,
};

/// A camera.
#[derive(Serialize, ToSchema)]
#[schema(as = Camera)]
pub(super) struct CameraBody {
    #[schema(value_type = String)]
    camera_id: CameraId,
    /// The name that a person gave, or else the camera's own.
    camera_name: String,
    /// The camera's own name, from its events, while a person has given it another one; otherwise `null`.
    #[schema(required = true)]
    reported_name: Option<String>,
    source_type: String,
    is_doorbell: bool,
    enabled: bool,
    status: CameraStatus,
    /// The latest event by the time at which it happened.
    #[schema(required = true)]
    last_event: Option<LastEventBody>,
    /// Events that happened today, in the time zone of `[cameras]`.
    events_today: u64,
    /// Events that happened since Monday.
    events_this_week: u64,
    /// The event that the latest picture belongs to; `null` if the camera has no picture.
    #[schema(required = true, value_type = Option<i64>, minimum = 1)]
    thumbnail_seq: Option<Seq>,
    /// The version of the latest picture. With `?version=`, the picture can be cached for ever.
    #[schema(required = true, value_type = Option<String>, pattern = "^[0-9a-f]{16}$")]
    thumbnail_version: Option<PictureVersion>,
}

/// The latest event of a camera.
#[derive(Serialize, ToSchema)]
#[schema(as = LastEvent)]
pub(super) struct LastEventBody {
    event_id: String,
    #[schema(format = DateTime)]
    timestamp: String,
    /// The first 255 characters of the description.
    description: String,
    #[schema(required = true)]
    smart_detection_type: Option<String>,
}

impl CameraBody {
    fn new(view: CameraView, thumbnail_version: Option<PictureVersion>) -> Self {
        let CameraView { camera, events_today, events_this_week } = view;
        Self {
            camera_id: camera.camera_id,
            camera_name: camera.camera_name,
            reported_name: camera.reported_name,
            source_type: camera.source_type,
            is_doorbell: camera.is_doorbell,
            enabled: camera.enabled,
            status: camera.status,
            last_event: camera.last_event.map(LastEventBody::from),
            events_today,
            events_this_week,
            thumbnail_seq: camera.thumbnail.map(|thumbnail| thumbnail.seq),
            thumbnail_version,
        }
    }

    /// Adds the versions of the pictures to cameras. They are missing if the disk cannot be read.
    async fn all(state: &ApiState, cameras: Vec<CameraView>) -> Result<Vec<Self>, Problem> {
        let seq = |view: &CameraView| view.camera.thumbnail.map(|thumbnail| thumbnail.seq);
        let seqs = cameras.iter().filter_map(seq).collect();
        let versions = ask(&state.handle.thumbnail_versions, GetThumbnailVersions(seqs)).await?;
        let mut versions = versions.unwrap_or_default().into_iter();
        let with_version = |view: CameraView| {
            let version = seq(&view).and_then(|_| versions.next().flatten());
            Self::new(view, version)
        };
        Ok(cameras.into_iter().map(with_version).collect())
    }

    async fn one(state: &ApiState, camera: CameraView) -> Result<Self, Problem> {
        Self::all(state, vec![camera]).await?.pop().ok_or_else(missing)
    }
}

impl From<LastEvent> for LastEventBody {
    fn from(last: LastEvent) -> Self {
        Self {
            event_id: last.event_id.as_str().to_owned(),
            timestamp: clock::rfc3339(last.timestamp),
            description: last.description,
            smart_detection_type: last.smart_detection_type,
        }
    }
}

/// All cameras.
#[derive(Serialize, ToSchema)]
#[schema(as = Cameras)]
pub(super) struct CameraList {
    cameras: Vec<CameraBody>,
}

/// All cameras, ordered by id.
#[utoipa::path(
    get, path = "/api/v1/cameras", tag = "cameras",
    responses((status = 200, description = "The cameras", body = CameraList)),
)]
pub(super) async fn list(state: Data<ApiState>) -> Result<HttpResponse, Problem> {
    let cameras = ask(&state.handle.list_cameras, ListCameras).await?;
    Ok(HttpResponse::Ok().json(CameraList { cameras: CameraBody::all(&state, cameras).await? }))
}

/// One camera.
#[utoipa::path(
    get, path = "/api/v1/cameras/{camera_id}", tag = "cameras", params(schema::CameraPath),
    responses(
        (status = 200, description = "The camera", body = CameraBody),
        (status = 404, description = "No such camera"),
    ),
)]
pub(super) async fn find(state: Data<ApiState>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let id = parse_id(id.into_inner())?;
    let camera = ask(&state.handle.get_camera, GetCamera(id)).await?.ok_or_else(missing)?;
    Ok(HttpResponse::Ok().json(CameraBody::one(&state, camera).await?))
}

/// Register or update a camera.
///
/// Omitted fields keep their value. A `camera_name` wins over the names in the camera's events; `null` returns to the
/// camera's own name. A camera that is not `enabled` has no state topics and is not announced
/// to Home Assistant; its events are still published.
#[utoipa::path(
    put, path = "/api/v1/cameras/{camera_id}", tag = "cameras", params(schema::CameraPath),
    request_body = CameraUpdate,
    responses(
        (status = 200, description = "The updated camera", body = CameraBody),
        (status = 409, description = "The camera limit is reached (`[cameras] max`)"),
        (status = 422, description = "Some fields are invalid; nothing was changed"),
        (status = 503, description = "The database is unavailable"),
    ),
)]
pub(super) async fn replace(
    state: Data<ApiState>,
    id: Path<String>,
    body: Json<EVENT_BYTES>,
) -> Result<HttpResponse, Problem> {
    let camera_id = CameraId::parse(id.into_inner()).map_err(|reason| Invalid::one("camera_id", reason))?;
    let update = CameraUpdate::from_json(body.0)?;
    let camera = ask(&state.handle.put_camera, PutCamera { camera_id, update }).await??;
    Ok(HttpResponse::Ok().json(CameraBody::one(&state, camera).await?))
}

/// Delete a camera, and remove it from the broker and from Home Assistant.
///
/// Its past events stay in the event log. A new event registers the camera again. If the broker is not
/// connected, the camera's retained messages are removed as soon as it is.
#[utoipa::path(
    delete, path = "/api/v1/cameras/{camera_id}", tag = "cameras", params(schema::CameraPath),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "No such camera"),
        (status = 503, description = "The database is unavailable"),
    ),
)]
pub(super) async fn delete(state: Data<ApiState>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let id = parse_id(id.into_inner())?;
    ask(&state.handle.delete_camera, DeleteCamera(id)).await??;
    Ok(HttpResponse::NoContent().finish())
}

/// The status of a camera.
#[derive(Serialize, ToSchema)]
#[schema(as = CameraStatusSet)]
pub(super) struct StatusBody {
    #[schema(value_type = String)]
    camera_id: CameraId,
    status: CameraStatus,
}

/// A camera, for a token that may read it, or only its status.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = UpdatedCamera)]
pub(super) enum UpdatedCamera {
    Camera(Box<CameraBody>),
    Status(StatusBody),
}

/// Set the status of a camera.
///
/// Only a token with the scope `read` or `admin` receives the whole camera.
#[utoipa::path(
    put, path = "/api/v1/cameras/{camera_id}/status", tag = "cameras", params(schema::CameraPath),
    request_body = schema::CameraStatusInput,
    responses(
        (status = 200, description = "The updated camera", body = UpdatedCamera),
        (status = 404, description = "No such camera"),
        (status = 422, description = "Some fields are invalid; nothing was changed"),
        (status = 503, description = "The database is unavailable"),
    ),
)]
pub(super) async fn set_status(
    state: Data<ApiState>,
    request: HttpRequest,
    id: Path<String>,
    body: Json<EVENT_BYTES>,
) -> Result<HttpResponse, Problem> {
    let camera_id = parse_id(id.into_inner())?;
    let status = status(body.0)?;
    let camera = ask(&state.handle.set_camera_status, SetCameraStatus { camera_id, status }).await??;
    let updated = if auth::may(&request, Scope::Read) {
        UpdatedCamera::Camera(Box::new(CameraBody::one(&state, camera).await?))
    } else {
        let Camera { camera_id, status, .. } = camera.camera;
        UpdatedCamera::Status(StatusBody { camera_id, status })
    };
    Ok(HttpResponse::Ok().json(updated))
}

/// The latest picture of a camera, or a small rendition of it, as for an event.
#[utoipa::path(
    get, path = "/api/v1/cameras/{camera_id}/thumbnail", tag = "cameras",
    params(schema::CameraPath, schema::PictureQuery),
    responses(
        (
            status = 200, description = "The picture",
            content(
                (schema::Picture = "image/jpeg"),
                (schema::Picture = "image/png"),
                (schema::Picture = "image/webp"),
            ),
        ),
        (status = 304, description = "Not modified"),
        (status = 404, description = "No such camera, or it has no picture"),
        (status = 422, description = "There is no such `width`"),
        (status = 503, description = "Busy, or the disk is unavailable"),
    ),
)]
pub(super) async fn thumbnail(
    state: Data<ApiState>,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let none = || Problem::new(StatusCode::NOT_FOUND, "there is no such camera, or it has no picture");
    let id = CameraId::parse(id.into_inner()).map_err(|_| none())?;
    let camera = ask(&state.handle.get_camera, GetCamera(id)).await?.map(|view| view.camera);
    let latest = camera.and_then(|camera| camera.thumbnail).ok_or_else(none)?;
    thumbnails::picture_at(&state, latest.seq, &request).await?.ok_or_else(none)
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

/// An invalid id gets the same response as an unknown one.
fn parse_id(id: String) -> Result<CameraId, Problem> {
    CameraId::parse(id).map_err(|_| missing())
}

fn missing() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such camera")
}
