//! The session cookie of the web page, and the checks on requests that carry it.
//!
//! Browsers attach the cookie automatically, even to requests from a page on another port of this host.

use actix_web::http::{
    Method, StatusCode,
    header::{CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, ORIGIN},
};

use super::problem::Problem;

const NAME: &str = "liveobject_session_";
/// With this prefix, browsers accept the cookie only over TLS and only from this host itself.
const HOST_PREFIX: &str = "__Host-";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Returns the cookie's name. Browsers share cookies between all ports of a host, so each installation needs
/// its own name.
fn name(instance: &str, is_secure: bool) -> String {
    format!("{}{NAME}{instance}", if is_secure { HOST_PREFIX } else { "" })
}

/// Returns the `Set-Cookie` header for this value. Scripts cannot read the cookie, and browsers do not send
/// it from pages of other sites.
pub(super) fn set(instance: &str, value: &str, max_age: i64, is_secure: bool) -> String {
    let (name, secure) = (name(instance, is_secure), if is_secure { "; Secure" } else { "" });
    format!("{name}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}")
}

/// Returns the session tickets in a request's cookies. There may be several, because other services on this
/// host can set cookies with our names. They cannot set the one with the prefix for TLS, so requests over TLS
/// must use that one.
pub(super) fn tickets<'a>(
    headers: &'a HeaderMap,
    instance: &str,
    is_encrypted: bool,
) -> impl Iterator<Item = &'a str> + use<'a> {
    let (secure, plain) = (name(instance, true), (!is_encrypted).then(|| name(instance, false)));
    let cookies = headers.get_all(COOKIE).filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(move |(name, _)| *name == secure || plain.as_ref().is_some_and(|plain| plain == name))
        .map(|(_, ticket)| ticket)
        .take(MAX_TICKETS)
}

/// Maximum number of tickets that are checked per request.
const MAX_TICKETS: usize = 8;

/// Checks that a request with the cookie comes from our own page. A request that changes something must carry
/// evidence of this; a request that only reads must not carry evidence to the contrary. `Origin` itself has
/// already been checked.
pub(super) fn check_own_page(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let only_reads = matches!(*method, Method::GET | Method::HEAD);
    let is_own = match headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes) {
        Some(b"same-origin") => true,
        // The address was typed into the address bar.
        Some(b"none") => only_reads,
        Some(_) => false,
        // Browsers send this header only over TLS and to localhost, but `Origin` with every change.
        None => only_reads || headers.contains_key(ORIGIN),
    };
    if !is_own {
        let detail = "a request with the page's cookie must come from the page; other clients use a token";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    // Required even without a body: without our permission, pages on other ports of this host cannot send
    // this content type.
    if !only_reads && !is_impossible_for_forms(headers) {
        let detail = "a request with the page's cookie must have the content type application/json (a backup: \
                      application/x-tar)";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    Ok(())
}

/// Returns whether the content type is one of those that the API uses, which HTML forms cannot send.
fn is_impossible_for_forms(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let content_type = content_type.split(';').next().unwrap_or("").trim();
    ["application/json", "application/x-tar"].iter().any(|known| content_type.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError as _;

    use super::*;

    fn status(method: Method, headers: &[(HeaderName, &'static str)]) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(name.clone(), HeaderValue::from_static(value));
        }
        check_own_page(&method, &map).map_or_else(|problem| problem.status_code().as_u16(), |()| 200)
    }

    const JSON: (HeaderName, &str) = (CONTENT_TYPE, "application/json");

    #[test]
    fn a_change_must_prove_that_it_comes_from_the_page() {
        let own = (SEC_FETCH_SITE, "same-origin");
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            assert_eq!(status(method.clone(), &[JSON]), 403, "{method}");
            assert_eq!(status(method.clone(), &[JSON, own.clone()]), 200);
            assert_eq!(status(method.clone(), &[JSON, (ORIGIN, "http://nas:8080")]), 200);
            for site in ["same-site", "cross-site", "none", ""] {
                let headers = [JSON, (SEC_FETCH_SITE, site), (ORIGIN, "http://nas:8080")];
                assert_eq!(status(method.clone(), &headers), 403, "{method} {site}");
            }
        }
    }

    #[test]
    fn a_read_must_not_come_from_another_site() {
        for (site, expected) in [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403)]
        {
            assert_eq!(status(Method::GET, &[(SEC_FETCH_SITE, site)]), expected, "{site}");
        }
        assert_eq!(status(Method::GET, &[]), 200);
    }

    #[test]
    fn a_change_must_have_a_content_type_that_forms_cannot_send_even_without_a_body() {
        let own = (SEC_FETCH_SITE, "same-origin");
        let with = |content_type| [own.clone(), (CONTENT_TYPE, content_type)];
        assert_eq!(status(Method::PUT, &with("application/json; charset=utf-8")), 200);
        assert_eq!(status(Method::POST, &with("application/x-tar")), 200);
        for invalid in ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
            assert_eq!(status(Method::PUT, &with(invalid)), 415, "{invalid}");
        }
        assert_eq!(status(Method::POST, &[own]), 415);
    }

    #[test]
    fn all_cookies_of_the_installation_are_found_and_no_others() {
        let mut headers = HeaderMap::new();
        let found = |headers: &HeaderMap, is_secure| {
            tickets(headers, "ab", is_secure).map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(found(&headers, false).is_empty());
        headers.append(
            COOKIE,
            HeaderValue::from_static("a=b; liveobject_session_cd=x; liveobject_session_ab2=y"),
        );
        assert!(found(&headers, false).is_empty());
        let several =
            "c=d;liveobject_session_ab=1.admin; e=f; liveobject_session_ab=2; __Host-liveobject_session_ab=3";
        headers.append(COOKIE, HeaderValue::from_static(several));
        assert_eq!(found(&headers, false), ["1.admin", "2", "3"]);
        assert_eq!(found(&headers, true), ["3"]);
    }

    #[test]
    fn scripts_and_other_sites_do_not_get_the_cookie() {
        let plain = set("ab", "t", 5, false);
        assert_eq!(plain, "liveobject_session_ab=t; Path=/; Max-Age=5; HttpOnly; SameSite=Strict");
        assert_eq!(set("ab", "t", 5, true), format!("__Host-{plain}; Secure"));
    }
}
