//! The headers of every response, as OWASP recommends them for an API. A header that a handler sets itself is
//! kept: the page has its own policy, and pictures may be embedded in other pages.

use actix_web::http::header::{
    ACCEPT_ENCODING, ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName,
    HeaderValue, IF_NONE_MATCH, PERMISSIONS_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

pub(super) const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");

/// Prevents nginx from buffering a streamed response.
pub(super) const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The headers that are added if a handler does not set them.
const ALWAYS: [(HeaderName, &str); 10] = [
    // Responses become outdated quickly.
    (CACHE_CONTROL, "no-store"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // If a browser renders a response as a page by mistake, it loads and runs nothing.
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (PERMISSIONS_POLICY, "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (HeaderName::from_static("x-permitted-cross-domain-policies"), "none"),
    (HeaderName::from_static("x-dns-prefetch-control"), "off"),
];

/// One year.
const ONLY_TLS: &str = "max-age=31536000";

/// Returns the elements of a header that is a list.
pub(super) fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// Returns whether the client has what this entity tag identifies. A proxy that compresses a response makes its tag
/// weak, which does not matter here (RFC 9110, section 13.1.2).
pub(super) fn has_tag(headers: &HeaderMap, tag: &str) -> bool {
    list(headers, &IF_NONE_MATCH).any(|known| known == "*" || known.trim_start_matches("W/") == tag)
}

/// Returns what the client accepts, in lower case and with its weight. A weight of 0 means that it is not accepted.
fn accepted(headers: &HeaderMap, name: &HeaderName) -> impl Iterator<Item = (String, f32)> {
    list(headers, name).map(|element| {
        let element = element.to_ascii_lowercase();
        let (value, weight) = element.split_once(';').unwrap_or((&element, ""));
        let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
        (value.trim().to_owned(), weight.parse().unwrap_or(0.0))
    })
}

/// Returns whether the client accepts compressed responses.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    accepted(headers, &ACCEPT_ENCODING).any(|(coding, weight)| coding == "gzip" && weight > 0.0)
}

/// Returns whether the client prefers German to English. Of two languages with the same weight, it prefers the first
/// one, as the page does.
pub(super) fn prefers_german(headers: &HeaderMap) -> bool {
    let mut best = (false, 0.0);
    for (language, weight) in accepted(headers, &ACCEPT_LANGUAGE) {
        // `*` is any other language, of which English is the best guess.
        let primary = language.split('-').next().unwrap_or_default();
        if matches!(primary, "de" | "en" | "*") && weight > best.1 {
            best = (primary == "de", weight);
        }
    }
    best.0
}

/// Permits pages of the same origin to embed this response: Home Assistant shows the page in a frame.
pub(super) fn allow_frame(headers: &mut HeaderMap) {
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    let policy = headers.get(CONTENT_SECURITY_POLICY).and_then(|policy| policy.to_str().ok());
    let policy = policy.unwrap_or("default-src 'none'; frame-ancestors 'none'");
    let policy = policy.replace("frame-ancestors 'none'", "frame-ancestors 'self'");
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_str(&policy).expect("it was a header"));
}

/// Adds the missing headers. With `only_tls`, browsers use only TLS for this host for a year.
pub(super) fn complete(headers: &mut HeaderMap, only_tls: bool) {
    let only_tls = only_tls.then_some((STRICT_TRANSPORT_SECURITY, ONLY_TLS));
    for (name, value) in ALWAYS.into_iter().chain(only_tls) {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

/// Whether browsers may be instructed to use only TLS. They apply that to all ports of the host, which would
/// lock out a Home Assistant instance without TLS on the same machine. So this is allowed only if
/// `public_url` uses https on the default port, which means that the host name belongs to this service.
pub(super) fn owns_its_host(public_url: &str) -> bool {
    let authority = public_url.strip_prefix("https://").map(|rest| rest.split('/').next().unwrap_or(rest));
    authority.is_some_and(|authority| {
        let port = authority.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
        port.is_none_or(|port| port == "443")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_accept_gzip_receive_it() {
        let accepts = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(value));
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
    fn german_is_for_clients_that_prefer_it_to_english() {
        let prefers = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_static(value));
            prefers_german(&headers)
        };
        for german in [
            "de",
            "DE-at",
            "de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7",
            "en;q=0.5, de; q=0.8",
            "fr,de;q=0.5,en;q=0.4",
            "fr;q=0.9, de;q=0.1",
            "de,en",
            "en;q=0, de;q=0.1",
        ] {
            assert!(prefers(german), "{german}");
        }
        for english in [
            "",
            "*",
            "en",
            "fr",
            "en,de",
            "en-US,en;q=0.9,de;q=0.8",
            "de;q=0.5,en;q=0.8",
            "de;q=0.5,*;q=0.8",
            "de;q=0",
            "de;q=x",
            "den",
            "q=de;en",
        ] {
            assert!(!prefers(english), "{english}");
        }
        assert!(!prefers_german(&HeaderMap::new()));
    }

    #[test]
    fn a_header_of_a_handler_is_kept() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'self'"));
        complete(&mut headers, false);
        assert_eq!(headers.get(CONTENT_SECURITY_POLICY).unwrap(), "default-src 'self'");
        assert_eq!(headers.get(X_FRAME_OPTIONS).unwrap(), "DENY");
        assert_eq!(headers.len(), ALWAYS.len());
        complete(&mut headers, true);
        assert_eq!(headers.get(STRICT_TRANSPORT_SECURITY).unwrap(), ONLY_TLS);
    }

    #[test]
    fn a_known_tag_may_be_weak_and_one_of_several() {
        let has = |known: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static(known));
            has_tag(&headers, "\"a\"")
        };
        assert!(has("\"a\"") && has("\"b\", W/\"a\"") && has("*"));
        assert!(!has("\"b\"") && !has("a") && !has_tag(&HeaderMap::new(), "\"a\""));
    }

    #[test]
    fn only_pages_of_the_same_origin_may_embed_a_response() {
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("img-src 'self'; frame-ancestors 'none'; base-uri 'none'"),
        );
        allow_frame(&mut headers);
        complete(&mut headers, false);
        let policy = headers.get(CONTENT_SECURITY_POLICY).unwrap();
        assert_eq!(policy, "img-src 'self'; frame-ancestors 'self'; base-uri 'none'");
        assert_eq!(headers.get(X_FRAME_OPTIONS).unwrap(), "SAMEORIGIN");
    }

    #[test]
    fn a_host_that_may_have_other_services_is_not_restricted_to_tls() {
        for own in ["https://cams.example.org", "https://cams.example.org:443/live", "https://[2001:db8::1]"]
        {
            assert!(owns_its_host(own), "{own}");
        }
        for shared in
            ["http://cams.example.org", "https://nas.lan:8443", "https://[::1]:8443", "https://h:8443/a:443"]
        {
            assert!(!owns_its_host(shared), "{shared}");
        }
    }
}
