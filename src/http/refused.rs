//! What a browser shows when it was opened with a host name that is not one of this service's.

use actix_web::{
    HttpResponse,
    dev::ServiceRequest,
    http::{
        Method,
        header::{ACCEPT, ContentType, HeaderMap},
    },
};

use super::headers::prefers_german;

/// Whether a person sees the response: browsers ask for HTML when they open an address.
pub(super) fn is_asked_for_html(request: &ServiceRequest) -> bool {
    let accepts = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    *request.method() == Method::GET && accepts.is_some_and(|accept| accept.contains("text/html"))
}

/// Returns the page for this `Host`, with status 403, in German or in English. It contains no address of this machine,
/// because the request may come from another website.
pub(super) fn page(host: &str, request: &HeaderMap) -> HttpResponse {
    let body = if prefers_german(request) { german(name_of(host)) } else { english(name_of(host)) };
    HttpResponse::Forbidden().content_type(ContentType::html()).body(body)
}

fn english(name: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\">{HEAD}\
         <title>liveobject does not know this name</title>\
         <h1>liveobject does not know the name “{name}”</h1>\
         <p>For your protection, it responds only to names that it knows. Do one of these:</p>\
         <ul><li>Open it with the IP address of its machine instead of the name.</li>\
         <li>Add the name to its configuration, and restart the service:{}</li></ul>",
        setting(name)
    )
}

fn german(name: &str) -> String {
    format!(
        "<!doctype html><html lang=\"de\">{HEAD}\
         <title>liveobject kennt diesen Namen nicht</title>\
         <h1>liveobject kennt den Namen „{name}“ nicht</h1>\
         <p>Zu deinem Schutz antwortet es nur unter Namen, die es kennt. Eines davon hilft:</p>\
         <ul><li>Statt des Namens die IP-Adresse des Rechners öffnen, auf dem es läuft.</li>\
         <li>Den Namen in die Konfiguration aufnehmen und den Dienst neu starten:{}</li></ul>",
        setting(name)
    )
}

const HEAD: &str =
    "<meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">";

/// Returns the lines of the configuration that allow this name.
fn setting(name: &str) -> String {
    format!("<pre>[http]\nallowed_hosts = [\"{name}\"]</pre>")
}

/// Returns the name without its port. Anything but a plain name is replaced, so that it cannot contain HTML.
fn name_of(host: &str) -> &str {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if !name.is_empty() && name.len() <= 253 && name.chars().all(is_plain) { name } else { "NAME" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_name_is_repeated() {
        assert_eq!(name_of("homeserver.lan:8080"), "homeserver.lan");
        assert_eq!(name_of("homeserver"), "homeserver");
        for hostile in ["<script>", "a\"b", "a&b:80", "", ":80"] {
            assert_eq!(name_of(hostile), "NAME", "{hostile}");
        }
    }
}
