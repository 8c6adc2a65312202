//! The cookie of the web page, and what a request with it must prove.
//!
//! Browsers attach the cookie automatically, even to requests from a page on another port of this host.

use actix_web::http::{
    Method, StatusCode,
    header::{
        CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, ORIGIN, TRANSFER_ENCODING,
    },
};

use super::problem::Problem;

const NAME: &str = "liveobject_session";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Returns the `Set-Cookie` header for this value. Scripts cannot read the cookie, and browsers do not send
/// it from pages of other sites.
pub(super) fn set(value: &str, max_age: i64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{NAME}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}")
}

/// Returns the ticket among the cookies of a request.
pub(super) fn ticket(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|text| text.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(NAME)?.strip_prefix('='))
}

/// Checks that a request with the cookie comes from our own page. A request that changes something must prove
/// it; a request that only reads must not show the opposite. `Origin` itself has been checked before.
pub(super) fn check_own_page(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let only_reads = matches!(*method, Method::GET | Method::HEAD);
    let is_own = match headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes) {
        Some(b"same-origin") => true,
        // Typed into the address bar.
        Some(b"none") => only_reads,
        Some(_) => false,
        // Browsers send it only over TLS and to localhost, but they send `Origin` with every change.
        None => only_reads || headers.contains_key(ORIGIN),
    };
    if !is_own {
        let detail = "a request with the page's cookie must come from the page; other clients use a token";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    if !only_reads && has_body(headers) && !is_json(headers) {
        let detail = "a request with the page's cookie must have the content type application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    Ok(())
}

fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    headers.contains_key(TRANSFER_ENCODING) || length.is_some_and(|length| length != b"0")
}

/// HTML forms of other pages cannot send this content type.
fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    content_type.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("application/json")
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

    #[test]
    fn a_change_must_prove_that_it_comes_from_the_page() {
        let own = (SEC_FETCH_SITE, "same-origin");
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            assert_eq!(status(method.clone(), &[]), 403, "{method}");
            assert_eq!(status(method.clone(), std::slice::from_ref(&own)), 200);
            assert_eq!(status(method.clone(), &[(ORIGIN, "http://nas:8080")]), 200);
            for site in ["same-site", "cross-site", "none", ""] {
                let headers = [(SEC_FETCH_SITE, site), (ORIGIN, "http://nas:8080")];
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
    fn a_body_must_be_declared_as_json() {
        let own = (SEC_FETCH_SITE, "same-origin");
        let with =
            |content_type, length| [own.clone(), (CONTENT_TYPE, content_type), (CONTENT_LENGTH, length)];
        assert_eq!(status(Method::PUT, &with("application/json; charset=utf-8", "2")), 200);
        assert_eq!(status(Method::POST, &with("", "0")), 200);
        for invalid in ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
            assert_eq!(status(Method::PUT, &with(invalid, "2")), 415, "{invalid}");
        }
        assert_eq!(status(Method::PUT, &[own, (TRANSFER_ENCODING, "chunked")]), 415);
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        assert_eq!(ticket(&headers), None);
        headers.append(COOKIE, HeaderValue::from_static("a=b; liveobject_session2=x"));
        assert_eq!(ticket(&headers), None);
        headers.append(COOKIE, HeaderValue::from_static("c=d;liveobject_session=1.admin.ab; e=f"));
        assert_eq!(ticket(&headers), Some("1.admin.ab"));
    }

    #[test]
    fn scripts_and_other_sites_do_not_get_the_cookie() {
        let plain = set("t", 5, false);
        assert_eq!(plain, "liveobject_session=t; Path=/; Max-Age=5; HttpOnly; SameSite=Strict");
        assert_eq!(set("t", 5, true), format!("{plain}; Secure"));
    }
}
