//! Reads an event that a source submits, perhaps with its picture: as JSON, with the picture in base64, or as
//! a form with the parts `event` and `thumbnail`.

use std::fmt;

use actix_multipart::{Field, Multipart};
use actix_web::{
    http::{
        StatusCode,
        header::{CONTENT_TYPE, HeaderMap},
    },
    web::Bytes,
};
use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use liveobject_actors::{
    DetectionEvent, FieldError, Invalid, PublishEvent,
    domain::image::{ImageError, MAX_THUMBNAIL_BYTES, check},
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    body::{self, EVENT_BYTES, without_bom},
    problem::Problem,
};

const EVENT: &str = "event";
const THUMBNAIL: &str = "thumbnail";

/// How much of a form is parsed at a time. The parser buffers at most 64 KiB.
const CHUNK_BYTES: usize = 16 * 1024;

/// Some programs leave out the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads an event and its picture from the body of a request.
pub(super) async fn read(headers: &HeaderMap, bytes: &Bytes) -> Result<PublishEvent, Problem> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let media_type = content_type.split(';').next().unwrap_or("").trim();
    if media_type.eq_ignore_ascii_case("multipart/form-data") {
        return read_form(headers, bytes).await;
    }
    match bytes_without_picture(without_bom(bytes)) {
        Ok(size) if size <= EVENT_BYTES => {}
        // Explains what is wrong with an event that has a picture.
        Err(problem) if mentions_picture(bytes) => return Err(problem),
        _ => return Err(Problem::too_large(EVENT_BYTES)),
    }
    Ok(from_json(body::parse(bytes)?)?)
}

fn mentions_picture(text: &[u8]) -> bool {
    text.windows(THUMBNAIL.len()).any(|word| word == THUMBNAIL.as_bytes())
}

/// Returns the size of an event without its picture, or its whole size if that is not too large anyway. Needs no
/// memory for the event.
pub(super) fn bytes_without_picture(text: &[u8]) -> Result<usize, Problem> {
    #[derive(Deserialize)]
    struct Picture<'a> {
        #[serde(borrow, default)]
        thumbnail: Option<&'a RawValue>,
    }
    if text.len() <= EVENT_BYTES {
        return Ok(text.len());
    }
    match serde_json::from_slice::<Picture<'_>>(text) {
        Ok(Picture { thumbnail }) => Ok(text.len() - thumbnail.map_or(0, |value| value.get().len())),
        // It is not an object, or has several pictures.
        Err(error) if error.is_data() => Ok(text.len()),
        Err(error) => Err(Problem::not_json(error)),
    }
}

/// Reads an event and its picture from a JSON object. The error reports every fault of both.
pub(super) fn from_json(mut value: Value) -> Result<PublishEvent, Invalid> {
    let picture = value.as_object_mut().and_then(|object| object.remove(THUMBNAIL));
    combine(DetectionEvent::from_json(value), picture.map_or(Ok(None), decode))
}

fn combine(
    event: Result<DetectionEvent, Invalid>,
    picture: Result<Option<Bytes>, String>,
) -> Result<PublishEvent, Invalid> {
    match (event, picture) {
        (Ok(event), Ok(thumbnail)) => Ok(PublishEvent { event, thumbnail }),
        (Ok(_), Err(message)) => Err(Invalid::one(THUMBNAIL, message)),
        (Err(invalid), Ok(_)) => Err(invalid),
        (Err(Invalid(mut errors)), Err(message)) => {
            errors.push(FieldError { field: THUMBNAIL.to_owned(), message });
            Err(Invalid(errors))
        }
    }
}

/// Decodes a picture in base64, as some programs write it: in a `data:` URL, or broken into lines.
fn decode(value: Value) -> Result<Option<Bytes>, String> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::String(text) => text,
        _ => return Err("must be a string that contains the picture in base64".to_owned()),
    };
    let encoded = match text.strip_prefix("data:").map(|url| url.split_once(";base64,")) {
        None => text.as_str(),
        Some(Some((_, encoded))) => encoded,
        Some(None) => return Err("is a `data:` URL without `;base64,`".to_owned()),
    };
    let encoded: Vec<u8> = encoded.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let image = BASE64.decode(encoded).map_err(|error| format!("is not valid base64: {error}"))?;
    checked(image.into()).map(Some)
}

fn checked(image: Bytes) -> Result<Bytes, String> {
    check(&image).map_err(|error| error.to_string())?;
    Ok(image)
}

async fn read_form(headers: &HeaderMap, bytes: &Bytes) -> Result<PublishEvent, Problem> {
    let chunks: Vec<_> = (0..bytes.len())
        .step_by(CHUNK_BYTES)
        .map(|start| Ok(bytes.slice(start..bytes.len().min(start + CHUNK_BYTES))))
        .collect();
    let mut form = Multipart::new(headers, stream::iter(chunks));
    let (mut event, mut picture) = (None, None);
    while let Some(mut part) = form.next().await.transpose().map_err(not_a_form)? {
        let name = part.name().unwrap_or("").to_owned();
        let (place, max) = match name.as_str() {
            EVENT => (&mut event, EVENT_BYTES),
            THUMBNAIL => (&mut picture, MAX_THUMBNAIL_BYTES),
            _ => {
                let message = "unknown part; the parts are `event` and `thumbnail`";
                return Err(Invalid::one(&name, message).into());
            }
        };
        let content = content(&mut part, max).await?;
        if place.replace(content).is_some() {
            return Err(Invalid::one(&name, "there are several parts with this name").into());
        }
    }
    let event = event.ok_or_else(|| Invalid::one(EVENT, "is required"))?;
    let event = event
        .map_err(|bytes| Invalid::one(EVENT, format!("{bytes} bytes, must be at most {EVENT_BYTES}")))?;
    let picture = picture.map(|picture| match picture {
        Ok(image) => checked(image),
        Err(bytes) => Err(ImageError::TooLarge { bytes }.to_string()),
    });
    Ok(combine(DetectionEvent::from_json(body::parse(&event)?), picture.transpose())?)
}

/// Reads a part of at most `max` bytes; otherwise returns its size.
async fn content(part: &mut Field, max: usize) -> Result<Result<Bytes, usize>, Problem> {
    let (mut content, mut size) = (Vec::new(), 0);
    while let Some(chunk) = part.try_next().await.map_err(not_a_form)? {
        size += chunk.len();
        if size <= max {
            content.extend_from_slice(&chunk);
        }
    }
    Ok(if size <= max { Ok(content.into()) } else { Err(size) })
}

fn not_a_form(cause: impl fmt::Display) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, format!("the body is not a valid form: {cause}"))
}
