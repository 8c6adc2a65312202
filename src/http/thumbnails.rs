//! The pictures of events: stores them, and sends them to holders of a token or of a signed link.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use actix_web::{
    HttpRequest, HttpResponse,
    body::SizedStream,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, ETAG, HeaderValue},
    },
    web::{Bytes, Data, Path},
};
use futures_util::{Stream, stream};
use liveobject_actors::{
    EventId, Invalid, Seq,
    domain::image::{MAX_THUMBNAIL_BYTES, RenditionWidth, StoredPicture},
    messages::thumbnails::{GetThumbnail, GetThumbnailAt, PutThumbnail, ThumbnailError},
};
use tokio::time::Instant;

use super::{
    body::PictureBody,
    budget::Share,
    connections::Connection,
    headers::{self, CROSS_ORIGIN_RESOURCE_POLICY},
    problem::Problem,
    query, schema,
    state::{ApiState, Work, ask},
};

/// Pictures are rarely replaced. Shared caches must not store them.
const CACHED: &str = "private, max-age=300";
/// A picture that is requested with its version never changes.
const IMMUTABLE: &str = "private, max-age=31536000, immutable";

/// How much the server copies at a time, so that a slow reader does not double the memory of a picture.
const CHUNK_BYTES: usize = 32 * 1024;

/// Store the picture of an event.
///
/// 204 means that the picture is on disk. It replaces an earlier one, and it is removed together with its
/// event. The format is detected from the content.
#[utoipa::path(
    put, path = "/api/v1/events/{event_id}/thumbnail", tag = "events",
    params(schema::EventPath),
    request_body(
        description = "The picture, at most 2 MiB",
        content(
            (schema::Picture = "image/jpeg"),
            (schema::Picture = "image/png"),
            (schema::Picture = "image/webp"),
        ),
    ),
    responses(
        (status = 204, description = "Stored"),
        (status = 400, description = "The body could not be read"),
        (status = 404, description = "No such event, or it has been removed"),
        (status = 422, description = "Not a JPEG, PNG or WebP picture, or incomplete"),
        (status = 503, description = "Busy, or the disk or the database is unavailable. \
            Try again after `Retry-After` seconds"),
    ),
)]
pub(super) async fn store(
    state: Data<ApiState>,
    id: Path<String>,
    body: PictureBody,
) -> Result<HttpResponse, Problem> {
    // No event has an invalid id.
    let event_id = EventId::parse(id.into_inner()).map_err(|_| ThumbnailError::UnknownEvent)?;
    let image = body.0.bytes.clone();
    ask(&state.handle.put_thumbnail, PutThumbnail { event_id, image }).await??;
    Ok(HttpResponse::NoContent().finish())
}

/// The picture of an event.
///
/// Accepts a token, or the signature in the event's `thumbnail_url`, which is valid for as long as events are
/// retained.
///
/// With `width`, returns a JPEG of that width; or the picture as it was submitted if it is not wider, if it has fewer
/// bytes, or if it cannot be decoded (at most 20 megapixels). Other parameters are ignored.
#[utoipa::path(
    get, path = "/api/v1/events/{event_id}/thumbnail", tag = "events",
    params(schema::EventPath, schema::PictureQuery),
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
        (status = 404, description = "No such event, or it has no picture"),
        (status = 422, description = "There is no such `width`"),
        (status = 503, description = "Busy, or the disk or the database is unavailable"),
    ),
)]
pub(super) async fn find(
    state: Data<ApiState>,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let missing = || Problem::new(StatusCode::NOT_FOUND, "there is no such event, or it has no picture");
    let event_id = EventId::parse(id.into_inner()).map_err(|_| missing())?;
    let wanted = Wanted::parse(request.query_string())?;
    let share = state.share(Work::SendPicture, MAX_THUMBNAIL_BYTES).await?;
    let get = GetThumbnail { event_id, width: wanted.width };
    let found = ask(&state.handle.get_thumbnail, get).await??;
    let mut response = respond(found.ok_or_else(missing)?, &wanted, share, &request);
    // Home Assistant shows the picture on pages of another origin. The link decides who may see it.
    response.headers_mut().insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    Ok(response)
}

/// Returns the picture of the event with this `seq`.
pub(super) async fn picture_at(
    state: &ApiState,
    seq: Seq,
    request: &HttpRequest,
) -> Result<Option<HttpResponse>, Problem> {
    let wanted = Wanted::parse(request.query_string())?;
    let share = state.share(Work::SendPicture, MAX_THUMBNAIL_BYTES).await?;
    let found = ask(&state.handle.get_thumbnail_at, GetThumbnailAt { seq, width: wanted.width }).await??;
    Ok(found.map(|picture| respond(picture, &wanted, share, request)))
}

/// What a request wants of a picture.
#[derive(Debug, Default)]
struct Wanted {
    width: Option<RenditionWidth>,
    /// The version that the client knows of.
    version: Option<String>,
}

impl Wanted {
    /// Reads the query string. Ignores other parameters: a signed link has some, and programs that show pictures add
    /// their own.
    fn parse(text: &str) -> Result<Self, Invalid> {
        let mut wanted = Self::default();
        for (name, value) in query::parameters(text)? {
            match name.as_str() {
                "width" => wanted.width = Some(parse_width(&value).map_err(|e| Invalid::one("width", e))?),
                "version" => wanted.version = Some(value),
                _ => {}
            }
        }
        Ok(wanted)
    }
}

fn parse_width(text: &str) -> Result<RenditionWidth, String> {
    text.parse().ok().and_then(RenditionWidth::new).ok_or_else(|| {
        let [small, medium, large] = RenditionWidth::ALL;
        format!("must be {small}, {medium} or {large}")
    })
}

/// Returns the picture, or 304 if the client has it.
fn respond(
    StoredPicture { picture, version }: StoredPicture,
    wanted: &Wanted,
    share: Share,
    request: &HttpRequest,
) -> HttpResponse {
    let tag = match wanted.width {
        Some(width) => format!("\"{version}-{}\"", width.pixels()),
        None => format!("\"{version}\""),
    };
    let is_fixed = wanted.version.as_ref().is_some_and(|wanted| *wanted == version.to_string());
    let is_known = headers::has_tag(request.headers(), &tag);
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((CACHE_CONTROL, if is_fixed { IMMUTABLE } else { CACHED }))
        .insert_header((ETAG, tag));
    if is_known {
        return response.finish();
    }
    let connection = request.conn_data::<Arc<Connection>>().cloned();
    response.content_type(picture.format.media_type()).body(chunked(picture.image, share, connection))
}

/// Returns a body that is sent in chunks. It returns its share when it has been sent or dropped, or when its
/// reader is stuck while others wait; the connection is closed then.
fn chunked(
    image: Bytes,
    mut share: Share,
    connection: Option<Arc<Connection>>,
) -> SizedStream<impl Stream<Item = Result<Bytes, io::Error>>> {
    let size = image.len();
    share.shrink_to(size);
    let progress = share.progress();
    let rest = Arc::new(Mutex::new(None));
    let revoked = Arc::clone(&rest);
    share.allow_revocation(move || {
        revoked.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(connection) = connection {
            connection.close();
        }
    });
    *rest.lock().unwrap_or_else(PoisonError::into_inner) = Some((image, share));
    let chunks = stream::unfold((rest, size), move |(rest, left)| {
        let chunk = (left > 0).then(|| {
            let mut rest = rest.lock().unwrap_or_else(PoisonError::into_inner);
            let Some((image, _)) = rest.as_mut() else {
                return Err(io::Error::other("the client did not read"));
            };
            Ok(image.split_to(image.len().min(CHUNK_BYTES)))
        });
        let sent = chunk.as_ref().map_or(0, |chunk| chunk.as_ref().map_or(left, Bytes::len));
        progress.add(sent, Instant::now());
        std::future::ready(chunk.map(|chunk| (chunk, (rest, left - sent))))
    });
    SizedStream::new(size as u64, chunks)
}
