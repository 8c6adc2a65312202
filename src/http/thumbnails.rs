//! The pictures of events: taking them in, and showing them to holders of the token or of a signed link.

use std::convert::Infallible;

use actix_web::{
    HttpResponse,
    body::SizedStream,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, HeaderValue},
    },
    web::{Bytes, Data, Path},
};
use futures_util::{Stream, stream};
use liveobject_actors::{
    EventId, Seq,
    domain::image::Picture,
    messages::thumbnails::{GetThumbnail, GetThumbnailAt, PutThumbnail, ThumbnailError},
};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    body::PictureBody,
    headers::CROSS_ORIGIN_RESOURCE_POLICY,
    problem::Problem,
    schema,
    state::{ApiState, ask},
};

/// A picture is seldom replaced, and nobody else's cache may keep it.
const CACHED: &str = "private, max-age=300";

/// What the server copies at a time: no more of a picture than that waits beside it for a slow reader.
const CHUNK: usize = 32 * 1024;

/// Keep the picture of an event.
///
/// 204: it is on disk. It replaces an earlier one, and is removed with its event. Its format is told by its content.
#[utoipa::path(
    put, path = "/api/v1/events/{event_id}/thumbnail", tag = "events",
    params(("event_id" = String, Path, description = "The id that its receipt has", min_length = 1, max_length = 128)),
    request_body(
        description = "The picture, at most 2 MiB",
        content((schema::Picture = "image/jpeg"), (schema::Picture = "image/png"), (schema::Picture = "image/webp")),
    ),
    responses(
        (status = 204, description = "Kept"),
        (status = 400, description = "The body could not be read"),
        (status = 404, description = "No such event (any more)"),
        (status = 422, description = "Not a JPEG, PNG or WebP picture, or not a whole one"),
        (status = 503, description = "Busy, or the disk or the database does not take it: send it again after `Retry-After` seconds"),
    ),
)]
pub(super) async fn store(
    state: Data<ApiState>,
    id: Path<String>,
    body: PictureBody,
) -> Result<HttpResponse, Problem> {
    // What cannot be an event's id names no event.
    let event_id = EventId::parse(id.into_inner()).map_err(|_| ThumbnailError::UnknownEvent)?;
    let image = body.bytes.clone();
    ask(&state.handle.put_thumbnail, PutThumbnail { event_id, image }).await??;
    Ok(HttpResponse::NoContent().finish())
}

/// The picture of an event.
///
/// Shown to holders of the token, and to whoever has the event's `thumbnail_url`, which is good for as long as events are
/// kept.
#[utoipa::path(
    get, path = "/api/v1/events/{event_id}/thumbnail", tag = "events",
    params(("event_id" = String, Path, description = "The id that its receipt has", min_length = 1, max_length = 128)),
    responses(
        (
            status = 200, description = "The picture",
            content((schema::Picture = "image/jpeg"), (schema::Picture = "image/png"), (schema::Picture = "image/webp")),
        ),
        (status = 404, description = "No such event (any more), or it has no picture"),
        (status = 503, description = "Busy, or the disk or the database is away"),
    ),
)]
pub(super) async fn find(state: Data<ApiState>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let missing =
        || Problem::new(StatusCode::NOT_FOUND, "there is no such event (any more), or it has no picture");
    let event_id = EventId::parse(id.into_inner()).map_err(|_| missing())?;
    let turn = state.download_turn().await?;
    let found = ask(&state.handle.get_thumbnail, GetThumbnail(event_id)).await??;
    let mut response = answer(found.ok_or_else(missing)?, turn);
    // Home Assistant's pages show it, from another origin; who may see it the link says.
    response.headers_mut().insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    Ok(response)
}

/// The picture of the event at this place.
pub(super) async fn picture_at(state: &ApiState, seq: Seq) -> Result<Option<HttpResponse>, Problem> {
    let turn = state.download_turn().await?;
    let found = ask(&state.handle.get_thumbnail_at, GetThumbnailAt(seq)).await??;
    Ok(found.map(|picture| answer(picture, turn)))
}

fn answer(Picture { format, image }: Picture, turn: OwnedSemaphorePermit) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(format.media_type())
        .insert_header((CACHE_CONTROL, CACHED))
        .body(sent(image, turn))
}

/// A body that is sent piece by piece, and gives back the memory that it was granted when it has gone.
fn sent(
    image: Bytes,
    mut turn: OwnedSemaphorePermit,
) -> SizedStream<impl Stream<Item = Result<Bytes, Infallible>>> {
    let size = image.len();
    // What the picture does not need is given back at once.
    let needed = turn.split(size);
    let pieces = stream::unfold((image, needed), |(mut rest, needed)| async move {
        let piece = rest.split_to(rest.len().min(CHUNK));
        (!piece.is_empty()).then(|| (Ok(piece), (rest, needed)))
    });
    SizedStream::new(size as u64, pieces)
}
