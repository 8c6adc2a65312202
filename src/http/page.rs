//! The web page: its files lie in the program, as they are written. It holds nothing secret, so anyone may load it; what it
//! shows it asks the API for.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::LazyLock,
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, HeaderMap, IF_NONE_MATCH},
    web::Path,
};

use super::problem::Problem;

/// Only our own files run, only our own API is called, and no other page shows this one in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
                      connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
/// Kept, but asked for again each time: a new program has a new page.
const CACHED: &str = "no-cache";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! files {
    ($($name:literal: $media_type:expr),* $(,)?) => {
        &[$(File { name: $name, media_type: $media_type, text: include_str!(concat!("page/", $name)) }),*]
    };
}

const INDEX: &str = "index.html";
const FILES: &[File] = files! {
    "index.html": HTML,
    "style.css": CSS,
    "icon.svg": SVG,
    "main.js": SCRIPT,
    "api.js": SCRIPT,
    "cameras.js": SCRIPT,
    "charts.js": SCRIPT,
    "connection.js": SCRIPT,
    "dom.js": SCRIPT,
    "events.js": SCRIPT,
    "fields.js": SCRIPT,
    "live.js": SCRIPT,
    "settings.js": SCRIPT,
    "texts.js": SCRIPT,
};

struct File {
    name: &'static str,
    media_type: &'static str,
    text: &'static str,
}

/// The files' entity tags, in their order.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| FILES.iter().map(|file| tag(file.text)).collect());

/// The web page.
#[utoipa::path(
    get, path = "/", tag = "page",
    responses(
        (status = 200, description = "The page", content_type = "text/html", body = String),
        (status = 304, description = "It has not changed"),
    ),
)]
pub(super) async fn index(request: HttpRequest) -> Result<HttpResponse, Problem> {
    answer(INDEX, request.headers())
}

/// A file of the web page.
#[utoipa::path(
    get, path = "/page/{file}", tag = "page",
    params(("file" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "The file", content((String = "text/css"), (String = "text/javascript"),
            (String = "image/svg+xml"), (String = "text/html"))),
        (status = 304, description = "It has not changed"),
        (status = 404, description = "The page has no such file"),
    ),
)]
pub(super) async fn file(request: HttpRequest, name: Path<String>) -> Result<HttpResponse, Problem> {
    answer(&name, request.headers())
}

fn answer(name: &str, headers: &HeaderMap) -> Result<HttpResponse, Problem> {
    let found = FILES.iter().zip(TAGS.iter()).find(|(file, _)| file.name == name);
    let (file, tag) = found.ok_or_else(Problem::not_found)?;
    let is_known = headers
        .get(IF_NONE_MATCH)
        .and_then(|known| known.to_str().ok())
        .is_some_and(|known| known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag));
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((CACHE_CONTROL, CACHED))
        .insert_header((ETAG, tag.as_str()))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY));
    Ok(if is_known { response.finish() } else { response.content_type(file.media_type).body(file.text) })
}

/// Tells one version of a file from another; nobody gains by making two alike.
fn tag(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_BYTES: usize = 150 * 1024;

    fn text(name: &str) -> &'static str {
        FILES.iter().find(|file| file.name == name).unwrap().text
    }

    #[test]
    fn every_file_of_the_page_is_served() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/page");
        let mut there: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut served: Vec<_> = FILES.iter().map(|file| file.name.to_owned()).collect();
        there.sort();
        served.sort();
        assert_eq!(there, served);
    }

    #[test]
    fn the_whole_page_is_small() {
        let bytes: usize = FILES.iter().map(|file| file.text.len()).sum();
        assert!(bytes <= MAX_BYTES, "{bytes}");
    }

    #[test]
    fn the_page_has_no_inline_script_or_style_and_loads_nothing_from_elsewhere() {
        let html = text(INDEX);
        for script in html.split("<script").skip(1) {
            let (attributes, rest) = script.split_once('>').unwrap();
            assert!(attributes.contains("src=\"page/"), "{attributes}");
            assert!(rest.starts_with("</script>"), "{rest}");
        }
        for wrong in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
            assert!(!html.contains(wrong), "{wrong}");
        }
        for file in FILES {
            for wrong in ["http://", "https://", "@import"] {
                let text = file.text.replace("http://www.w3.org/2000/svg", "");
                // Examples in the settings' help name schemes alone.
                assert!(!text.contains(wrong), "{}: {wrong}", file.name);
            }
        }
    }

    #[test]
    fn texts_of_others_never_become_markup() {
        for file in FILES.iter().filter(|file| file.media_type == SCRIPT) {
            for wrong in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "srcdoc"]
            {
                assert!(!file.text.contains(wrong), "{}: {wrong}", file.name);
            }
        }
    }
}
