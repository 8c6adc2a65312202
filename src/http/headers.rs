//! The headers of every answer, as OWASP recommends them for an API. A handler that sets one of them itself knows better:
//! the page its own policy, pictures whom they may be shown to.

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, PERMISSIONS_POLICY,
    REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

pub(super) const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");

/// What is said when a handler says nothing.
const ALWAYS: [(HeaderName, &str); 10] = [
    // Nothing that is answered here stays true for long.
    (CACHE_CONTROL, "no-store"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // An answer that a browser shows as a page by mistake loads nothing and runs nothing.
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (PERMISSIONS_POLICY, "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (HeaderName::from_static("x-permitted-cross-domain-policies"), "none"),
    (HeaderName::from_static("x-dns-prefetch-control"), "off"),
];

/// A year.
const ONLY_TLS: &str = "max-age=31536000";

/// Adds what is missing. `only_tls`: browsers are to use TLS with this host for a year.
pub(super) fn complete(headers: &mut HeaderMap, only_tls: bool) {
    let only_tls = only_tls.then_some((STRICT_TRANSPORT_SECURITY, ONLY_TLS));
    for (name, value) in ALWAYS.into_iter().chain(only_tls) {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

/// Whether browsers may be told to use TLS only. They take that for the host, with all of its ports: on a machine where
/// Home Assistant answers without TLS beside us, it would be locked out. So only where `public_url` is https without a
/// port of its own, and the host's name thus ours.
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
    fn a_handlers_own_header_wins() {
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
    fn a_host_that_serves_others_too_is_not_bound_to_tls() {
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
