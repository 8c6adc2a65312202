//! The web page. Its files are embedded in the program without a build step, and sent compressed.
//!
//! The page contains no secrets, so anyone may load it; all data comes from the API.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io::Write as _,
    sync::LazyLock,
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{
        ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, ETAG, HeaderMap, VARY,
    },
    web::{Bytes, Path},
};
use flate2::{Compression, write::GzEncoder};

use super::{
    headers::{has_tag, list},
    problem::Problem,
};

/// Only our own scripts run, only our own API is called, and no other page can embed this one in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
                      connect-src 'self'; manifest-src 'self'; form-action 'self'; frame-ancestors 'none'; \
                      base-uri 'none'";
/// Browsers may store the files but must revalidate them: a new version of the program has a new page.
const CACHE_POLICY: &str = "no-cache";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const PNG: &str = "image/png";
const MANIFEST: &str = "application/manifest+json";

macro_rules! files {
    ($($name:literal: $media_type:expr),* $(,)?) => {
        &[$(File { name: $name, media_type: $media_type, bytes: include_bytes!(concat!("page/", $name)) }),*]
    };
}

const INDEX: &str = "index.html";
const FILES: &[File] = files! {
    "index.html": HTML,
    "style.css": CSS,
    "icon.svg": SVG,
    "icon-alert.svg": SVG,
    "icon-192.png": PNG,
    "icon-512.png": PNG,
    "icon-maskable.png": PNG,
    "manifest.webmanifest": MANIFEST,
    "main.js": SCRIPT,
    "api.js": SCRIPT,
    "automation.js": SCRIPT,
    "camera-actions.js": SCRIPT,
    "camera-page.js": SCRIPT,
    "cameras.js": SCRIPT,
    "chart.js": SCRIPT,
    "charts.js": SCRIPT,
    "connection.js": SCRIPT,
    "controls.js": SCRIPT,
    "dom.js": SCRIPT,
    "event-detail.js": SCRIPT,
    "event-filters.js": SCRIPT,
    "event-list.js": SCRIPT,
    "event-parts.js": SCRIPT,
    "events.js": SCRIPT,
    "failed-events.js": SCRIPT,
    "fields.js": SCRIPT,
    "filtering.js": SCRIPT,
    "finder.js": SCRIPT,
    "first-event.js": SCRIPT,
    "gestures.js": SCRIPT,
    "keys.js": SCRIPT,
    "language-choice.js": SCRIPT,
    "language.js": SCRIPT,
    "lightbox.js": SCRIPT,
    "live.js": SCRIPT,
    "locale.js": SCRIPT,
    "log.js": SCRIPT,
    "pictures.js": SCRIPT,
    "restore.js": SCRIPT,
    "router.js": SCRIPT,
    "sample-picture.js": SCRIPT,
    "sentences-de.js": SCRIPT,
    "sentences.js": SCRIPT,
    "service.js": SCRIPT,
    "settings-conflict.js": SCRIPT,
    "settings.js": SCRIPT,
    "strip.js": SCRIPT,
    "texts-de.js": SCRIPT,
    "texts.js": SCRIPT,
    "theme-choice.js": SCRIPT,
    "theme.js": SCRIPT,
    "timeline.js": SCRIPT,
    "translate.js": SCRIPT,
    "warnings.js": SCRIPT,
    "week.js": SCRIPT,
};

struct File {
    name: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
}

/// A file as it is sent.
struct Body {
    tag: String,
    bytes: Bytes,
}

/// A file, and its compressed version for clients that accept gzip. PNG files have none.
struct Variants {
    plain: Body,
    compressed: Option<Body>,
}

/// The variants of [`FILES`], in the same order. Compressing them takes a few milliseconds, once.
static VARIANTS: LazyLock<Vec<Variants>> = LazyLock::new(|| FILES.iter().map(Variants::of).collect());

impl Variants {
    fn of(file: &File) -> Self {
        let hash = hash(file.bytes);
        let plain = Body { tag: format!("\"{hash:016x}\""), bytes: Bytes::from_static(file.bytes) };
        let compressed = (file.media_type != PNG)
            .then(|| Body { tag: format!("\"{hash:016x}-gzip\""), bytes: compressed(file.bytes).into() });
        Self { plain, compressed }
    }
}

/// The web page.
#[utoipa::path(
    get, path = "/", tag = "page",
    responses(
        (status = 200, description = "The page", content_type = "text/html", body = String),
        (status = 304, description = "Not modified"),
    ),
)]
pub(super) async fn index(request: HttpRequest) -> Result<HttpResponse, Problem> {
    serve(INDEX, request.headers())
}

/// A file of the web page.
#[utoipa::path(
    get, path = "/page/{file}", tag = "page",
    params(("file" = String, Path, description = "The file name")),
    responses(
        (status = 200, description = "The file", content((String = "text/css"), (String = "text/javascript"),
            (String = "image/svg+xml"), (String = "text/html"), (String = "application/manifest+json"),
            (Vec<u8> = "image/png"))),
        (status = 304, description = "Not modified"),
        (status = 404, description = "The page has no such file"),
    ),
)]
pub(super) async fn file(request: HttpRequest, name: Path<String>) -> Result<HttpResponse, Problem> {
    serve(&name, request.headers())
}

/// Returns whether a path is that of the page or of one of its files.
pub(super) fn is_part(path: &str) -> bool {
    path == "/" || path.starts_with("/page/")
}

/// Returns the file, or 304 when the client has the current version.
fn serve(name: &str, headers: &HeaderMap) -> Result<HttpResponse, Problem> {
    let found = FILES.iter().zip(VARIANTS.iter()).find(|(file, _)| file.name == name);
    let (file, variants) = found.ok_or_else(Problem::not_found)?;
    let compressed = variants.compressed.as_ref().filter(|_| accepts_gzip(headers));
    let body = compressed.unwrap_or(&variants.plain);
    let is_current = has_tag(headers, &body.tag);
    let mut response = if is_current { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((CACHE_CONTROL, CACHE_POLICY))
        .insert_header((ETAG, body.tag.as_str()))
        .insert_header((VARY, "Accept-Encoding"))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY));
    if is_current {
        return Ok(response.finish());
    }
    if compressed.is_some() {
        response.insert_header((CONTENT_ENCODING, "gzip"));
    }
    Ok(response.content_type(file.media_type).body(body.bytes.clone()))
}

/// Returns whether the client accepts compressed responses.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    list(headers, &ACCEPT_ENCODING).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
        name.trim().eq_ignore_ascii_case("gzip") && weight.parse::<f32>().is_ok_and(|weight| weight > 0.0)
    })
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.expect("a vector accepts all bytes")
}

/// Returns a number that identifies this version of a file. It need not withstand deliberate collisions.
fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of all files except the icons for home screens, which browsers load when they install the page.
    const MAX_BYTES: usize = 320 * 1024;
    /// The same for a browser, which accepts compressed files.
    const MAX_COMPRESSED_BYTES: usize = 120 * 1024;
    /// Other languages, which browsers load only if they are chosen.
    const ON_DEMAND: [&str; 3] = ["sentences-de.js", "texts-de.js", "translate.js"];
    /// The declarations for the type check of the modules.
    const NOT_SERVED: &str = "types.d.ts";

    fn is_type_import(line: &str) -> bool {
        line.starts_with("/** @import { ") && line.ends_with(" } from \"./types\" */")
    }

    /// Returns the text of a file, or an empty text for a PNG file.
    fn text_of(file: &File) -> &'static str {
        std::str::from_utf8(file.bytes).unwrap_or("")
    }

    fn text(name: &str) -> &'static str {
        text_of(FILES.iter().find(|file| file.name == name).unwrap())
    }

    #[test]
    fn every_file_of_the_page_but_the_type_declarations_is_served() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/page");
        let mut present: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut served: Vec<_> = FILES.iter().map(|file| file.name.to_owned()).collect();
        served.push(NOT_SERVED.to_owned());
        present.sort();
        served.sort();
        assert_eq!(present, served);
    }

    #[test]
    fn the_files_of_the_page_are_small_in_total() {
        let is_loaded = |file: &File| file.media_type != PNG && !ON_DEMAND.contains(&file.name);
        let loaded = || FILES.iter().zip(VARIANTS.iter()).filter(|(file, _)| is_loaded(file));
        let bytes: usize = loaded().map(|(file, _)| file.bytes.len()).sum();
        assert!(bytes <= MAX_BYTES, "{bytes}");
        let compressed: usize =
            loaded().map(|(_, variants)| variants.compressed.as_ref().unwrap().bytes.len()).sum();
        assert!(compressed <= MAX_COMPRESSED_BYTES, "{compressed}");
    }

    #[test]
    fn browsers_load_all_modules_at_once() {
        let html = text(INDEX);
        // None of these is a module that others import at first.
        let is_separate = |name| ["main.js", "theme.js"].contains(&name) || ON_DEMAND.contains(&name);
        for file in FILES.iter().filter(|file| file.media_type == SCRIPT && !is_separate(file.name)) {
            let preload = format!("<link rel=\"modulepreload\" href=\"page/{}\">", file.name);
            assert!(html.contains(&preload), "{preload}");
        }
    }

    #[test]
    fn clients_that_accept_gzip_receive_it() {
        let accepts = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, value.parse().unwrap());
            accepts_gzip(&headers)
        };
        for accepting in ["gzip", "br, GZIP;q=0.5", "gzip, deflate, br, zstd"] {
            assert!(accepts(accepting), "{accepting}");
        }
        for other in ["", "br", "identity", "gzip;q=0", "gzip; q=0.0"] {
            assert!(!accepts(other), "{other}");
        }
    }

    #[test]
    fn the_page_has_no_inline_script_or_style_and_loads_nothing_from_other_hosts() {
        let html = text(INDEX);
        for script in html.split("<script").skip(1) {
            let (attributes, rest) = script.split_once('>').unwrap();
            assert!(attributes.contains("src=\"page/"), "{attributes}");
            assert!(rest.starts_with("</script>"), "{rest}");
        }
        for forbidden in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
        for file in FILES {
            // Comments that import types load nothing, and the SVG namespace is only a name.
            let lines = text_of(file).lines().filter(|line| !is_type_import(line));
            let text = lines.collect::<Vec<_>>().join("\n").replace("http://www.w3.org/2000/svg", "");
            for forbidden in ["http://", "https://", "@import"] {
                assert!(!text.contains(forbidden), "{}: {forbidden}", file.name);
            }
        }
    }

    #[test]
    fn text_from_outside_never_becomes_markup() {
        for file in FILES.iter().filter(|file| file.media_type == SCRIPT) {
            for forbidden in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "srcdoc"]
            {
                assert!(!text_of(file).contains(forbidden), "{}: {forbidden}", file.name);
            }
        }
    }
}
