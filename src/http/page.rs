//! The web page. Its files are joined, compressed and embedded when the program is compiled (`build/page.rs`).
//!
//! The page contains no secrets, so anyone may load it; all data comes from the API.

use std::sync::LazyLock;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method,
        header::{
            ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, ETAG, HeaderMap, LOCATION, VARY,
        },
    },
    web::{Bytes, Path},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use super::{
    headers::{accepts_gzip, has_tag},
    problem::Problem,
};

include!(concat!(env!("OUT_DIR"), "/page/files.rs"));

const INDEX: &str = "index.html";
/// The views of the page.
const VIEWS: [&str; 4] = ["events", "cameras", "settings", "service"];
/// Browsers may store the HTML but must revalidate it: a new version of the program has a new page.
const REVALIDATED: &str = "no-cache";
/// A file whose address contains its version never changes.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// The icons have fixed addresses, because home screens store them. A day is short enough for a new one.
const DAILY: &str = "public, max-age=86400";
/// In place of a version, in debug builds: the files as they were written.
#[cfg(any(debug_assertions, test))]
const AS_WRITTEN: &str = "modules";

/// Only our own scripts run, only our own API is called, and no other page can embed this one in a frame. The scripts
/// and styles in the HTML are listed by their hashes: without them, the first paint and the first requests for data
/// would take another round trip.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let html = FILES.iter().find(|file| file.name == INDEX).map_or("", File::text);
    let (scripts, styles) = (hashes(html, "script"), hashes(html, "style"));
    format!(
        "default-src 'none'; script-src 'self'{scripts}; style-src 'self'{styles}; img-src 'self' blob: data:; \
         connect-src 'self'; manifest-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
});

/// A file as it is served.
struct File {
    name: &'static str,
    media_type: &'static str,
    /// Identifies the content.
    tag: &'static str,
    /// Whether the page requests it with its version.
    is_versioned: bool,
    plain: &'static [u8],
    compressed: Option<&'static [u8]>,
}

/// A file as it was written.
#[cfg(any(debug_assertions, test))]
struct Source {
    name: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
}

impl File {
    /// Returns the text, or an empty text for a picture.
    fn text(&self) -> &'static str {
        std::str::from_utf8(self.plain).unwrap_or("")
    }

    fn cache_policy(&self, with_version: bool) -> &'static str {
        match (with_version, self.is_versioned || self.name == INDEX) {
            (true, _) => IMMUTABLE,
            (false, true) => REVALIDATED,
            (false, false) => DAILY,
        }
    }

    /// Returns the response with the file, or 304 when the client has the current version.
    fn response(&self, headers: &HeaderMap, cache_policy: &str) -> HttpResponse {
        let compressed = self.compressed.filter(|_| accepts_gzip(headers));
        let tag = format!("\"{}{}\"", self.tag, if compressed.is_some() { "-gzip" } else { "" });
        let is_current = has_tag(headers, &tag);
        let mut response = if is_current { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        response
            .insert_header((CACHE_CONTROL, cache_policy))
            .insert_header((ETAG, tag))
            .insert_header((VARY, "Accept-Encoding"))
            .insert_header((CONTENT_SECURITY_POLICY, POLICY.as_str()));
        if is_current {
            return response.finish();
        }
        if compressed.is_some() {
            response.insert_header((CONTENT_ENCODING, "gzip"));
        }
        response.content_type(self.media_type).body(Bytes::from_static(compressed.unwrap_or(self.plain)))
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
    #[cfg(any(debug_assertions, test))]
    if request.query_string() == AS_WRITTEN {
        let html = find(INDEX)?.text().replace(VERSION, AS_WRITTEN);
        return Ok(uncompressed("text/html; charset=utf-8", html));
    }
    serve(INDEX, &request, false)
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
    serve(&name, &request, false)
}

/// A file of this version of the web page, which can be cached forever.
#[utoipa::path(
    get, path = "/page/{version}/{file}", tag = "page",
    params(
        ("version" = String, Path, description = "The version in the address that the page contains"),
        ("file" = String, Path, description = "The file name"),
    ),
    responses(
        (status = 200, description = "The file", content((String = "text/css"), (String = "text/javascript"),
            (String = "image/svg+xml"), (String = "text/html"), (String = "application/manifest+json"),
            (Vec<u8> = "image/png"))),
        (status = 304, description = "Not modified"),
        (status = 404, description = "The page has no such file, or the service now has another version of the page"),
    ),
)]
pub(super) async fn versioned_file(
    request: HttpRequest,
    path: Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (version, name) = path.into_inner();
    #[cfg(any(debug_assertions, test))]
    if version == AS_WRITTEN {
        let source = SOURCES.iter().find(|source| source.name == name).ok_or_else(Problem::not_found)?;
        return Ok(uncompressed(source.media_type, source.bytes));
    }
    if version != VERSION {
        return Err(Problem::not_found());
    }
    serve(&name, &request, true)
}

/// Returns what a browser needs at an address that is not part of the API: the view with the name that somebody has
/// entered after the host name, and the icon at its traditional address.
pub(super) fn for_browser(request: &HttpRequest) -> Option<HttpResponse> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let name = request.path().strip_prefix('/')?;
    if name == "favicon.ico" {
        return serve("icon-192.png", request, false).ok();
    }
    let accepts_html = || request.headers().get(ACCEPT).is_some_and(|accept| is_html(accept.as_bytes()));
    // Relative, because a proxy may have removed the beginning of the path.
    (VIEWS.contains(&name) && accepts_html())
        .then(|| HttpResponse::Found().insert_header((LOCATION, format!("./#{name}"))).finish())
}

fn is_html(accept: &[u8]) -> bool {
    accept.windows(9).any(|part| part == b"text/html")
}

/// Returns whether a path is that of the page or of one of its files.
pub(super) fn is_part(path: &str) -> bool {
    path == "/" || path.starts_with("/page/")
}

fn find(name: &str) -> Result<&'static File, Problem> {
    FILES.iter().find(|file| file.name == name).ok_or_else(Problem::not_found)
}

fn serve(name: &str, request: &HttpRequest, with_version: bool) -> Result<HttpResponse, Problem> {
    let file = find(name)?;
    Ok(file.response(request.headers(), file.cache_policy(with_version)))
}

/// Returns a response for debugging, which browsers do not store.
#[cfg(any(debug_assertions, test))]
fn uncompressed(media_type: &str, body: impl actix_web::body::MessageBody + 'static) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(media_type)
        .insert_header((CACHE_CONTROL, REVALIDATED))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY.as_str()))
        .body(body)
}

/// Returns the hashes of all elements of this name that have a content, as sources of a policy.
fn hashes(html: &str, element: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let contents = html.split(&open).skip(1).filter_map(|rest| rest.split_once(&close));
    contents.fold(String::new(), |list, (content, _)| {
        list + " 'sha256-" + &STANDARD.encode(Sha256::digest(content)) + "'"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of all scripts, styles and the HTML.
    const MAX_BYTES: usize = 240 * 1024;
    /// The same for a browser, which accepts compressed files.
    const MAX_COMPRESSED_BYTES: usize = 80 * 1024;
    /// What a browser needs for the list of events.
    const MAX_FIRST_BYTES: usize = 44 * 1024;
    const FIRST: [&str; 3] = [INDEX, "start.js", "style.css"];
    /// Other languages, which browsers load only if they are chosen.
    const ON_DEMAND: [&str; 3] = ["sentences-de.js", "texts-de.js", "translate.js"];

    fn is_type_import(line: &str) -> bool {
        line.starts_with("/** @import { ") && line.contains(" } from \"./") && line.ends_with("\" */")
    }

    fn text(name: &str) -> &'static str {
        find(name).unwrap().text()
    }

    fn source(name: &str) -> &'static str {
        text_of(SOURCES.iter().find(|source| source.name == name).unwrap())
    }

    fn text_of(source: &Source) -> &'static str {
        std::str::from_utf8(source.bytes).unwrap_or("")
    }

    #[test]
    fn the_page_has_few_files_and_is_small() {
        let loaded = || {
            let files = FILES.iter().filter(|file| file.is_versioned || file.name == INDEX);
            files.filter(|file| !ON_DEMAND.contains(&file.name))
        };
        let names: Vec<_> = loaded().map(|file| file.name).collect();
        assert!(names.len() <= 5, "{names:?}");
        let bytes: usize = loaded().map(|file| file.plain.len()).sum();
        assert!(bytes <= MAX_BYTES, "{bytes}");
        let size = |file: &File| file.compressed.unwrap().len();
        let compressed: usize = loaded().map(size).sum();
        assert!(compressed <= MAX_COMPRESSED_BYTES, "{compressed}");
        let first: usize = loaded().filter(|file| FIRST.contains(&file.name)).map(size).sum();
        assert!(first <= MAX_FIRST_BYTES, "{first}");
    }

    #[test]
    fn only_the_current_version_can_be_cached_forever() {
        let policy = |name: &str, with_version| find(name).unwrap().cache_policy(with_version);
        assert!(policy("start.js", true).contains("immutable"));
        assert_eq!((policy("start.js", false), policy(INDEX, false)), (REVALIDATED, REVALIDATED));
        assert!(policy("icon.svg", false).contains("max-age=86400"));
        for name in ["start.js", "style.css"] {
            assert!(text(INDEX).contains(&format!("\"page/{VERSION}/{name}\"")), "{name}");
        }
        assert!(!text(INDEX).contains(&format!("{VERSION}/icon")), "icons have fixed addresses");
    }

    #[test]
    fn the_policy_has_the_hash_of_each_script_and_style_in_the_html() {
        // From `printf 'a' | openssl dgst -sha256 -binary | base64`.
        let hash = "ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs=";
        let html = "<script>a</script><script type=\"module\" src=\"x\"></script><style></style>";
        assert_eq!(hashes(html, "script"), format!(" 'sha256-{hash}'"));
        assert_eq!(hashes(text(INDEX), "script").matches("sha256").count(), 2);
        assert_eq!(hashes(text(INDEX), "style").matches("sha256").count(), 1);
        assert!(!POLICY.contains("unsafe"), "{}", *POLICY);
    }

    #[test]
    fn the_html_has_no_handlers_and_nothing_is_loaded_from_other_hosts() {
        let html = source(INDEX);
        for script in html.split("<script").skip(1) {
            let (attributes, rest) = script.split_once('>').unwrap();
            assert!(attributes.contains("src=\"page/"), "{attributes}");
            assert!(rest.starts_with("</script>"), "{rest}");
        }
        for forbidden in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
        for source in SOURCES {
            // Comments that import types load nothing, and the SVG namespace is only a name.
            let lines = text_of(source).lines().filter(|line| !is_type_import(line));
            let text = lines.collect::<Vec<_>>().join("\n").replace("http://www.w3.org/2000/svg", "");
            for forbidden in ["http://", "https://", "@import"] {
                assert!(!text.contains(forbidden), "{}: {forbidden}", source.name);
            }
        }
    }

    #[test]
    fn text_from_outside_never_becomes_markup() {
        for source in SOURCES.iter().filter(|source| source.media_type.starts_with("text/javascript")) {
            for forbidden in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "srcdoc"]
            {
                assert!(!text_of(source).contains(forbidden), "{}: {forbidden}", source.name);
            }
        }
    }
}
