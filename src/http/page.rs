//! The web page. Its files are embedded in the program without a build step.
//!
//! The page contains no secrets, so anyone may load it; all data comes from the API.

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

/// Only our own scripts run, only our own API is called, and no other page can embed this one in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
                      connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
/// Browsers may store the files but must revalidate them: a new version of the program has a new page.
const CACHE_POLICY: &str = "no-cache";

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
    "controls.js": SCRIPT,
    "dom.js": SCRIPT,
    "events.js": SCRIPT,
    "fields.js": SCRIPT,
    "finder.js": SCRIPT,
    "live.js": SCRIPT,
    "restore.js": SCRIPT,
    "settings.js": SCRIPT,
    "texts.js": SCRIPT,
};

struct File {
    name: &'static str,
    media_type: &'static str,
    text: &'static str,
}

/// The entity tags of [`FILES`], in the same order.
static TAGS: LazyLock<Vec<String>> =
    LazyLock::new(|| FILES.iter().map(|file| entity_tag(file.text)).collect());

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
            (String = "image/svg+xml"), (String = "text/html"))),
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
    let found = FILES.iter().zip(TAGS.iter()).find(|(file, _)| file.name == name);
    let (file, tag) = found.ok_or_else(Problem::not_found)?;
    let is_current = headers
        .get(IF_NONE_MATCH)
        .and_then(|tags| tags.to_str().ok())
        .is_some_and(|tags| tags.split(',').any(|one| one.trim().trim_start_matches("W/") == tag));
    let mut response = if is_current { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((CACHE_CONTROL, CACHE_POLICY))
        .insert_header((ETAG, tag.as_str()))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY));
    Ok(if is_current { response.finish() } else { response.content_type(file.media_type).body(file.text) })
}

/// Returns a tag that identifies this version of a file. It need not withstand deliberate collisions.
fn entity_tag(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_BYTES: usize = 150 * 1024;
    /// The declarations for the type check of the modules.
    const NOT_SERVED: &str = "types.d.ts";

    fn is_type_import(line: &str) -> bool {
        line.starts_with("/** @import { ") && line.ends_with(" } from \"./types\" */")
    }

    fn text(name: &str) -> &'static str {
        FILES.iter().find(|file| file.name == name).unwrap().text
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
        let bytes: usize = FILES.iter().map(|file| file.text.len()).sum();
        assert!(bytes <= MAX_BYTES, "{bytes}");
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
            let lines = file.text.lines().filter(|line| !is_type_import(line));
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
                assert!(!file.text.contains(forbidden), "{}: {forbidden}", file.name);
            }
        }
    }
}
