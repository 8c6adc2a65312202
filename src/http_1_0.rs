//! Requests of HTTP/1.0 without a library. The body of the response ends with the connection and is never sent in
//! chunks.

use std::fmt::Write as _;

use secrecy::zeroize::Zeroizing;

/// More fields than any server sends whose responses are read here.
const MAX_FIELDS: usize = 64;

/// Returns the head of a request. `token` is sent as a bearer token; `fields` are further lines, each with its end.
pub fn head(request: &str, host: &str, token: Option<&str>, fields: &str) -> Zeroizing<String> {
    const REST: usize = 64;
    let token = token.unwrap_or_default();
    // It does not grow, so that no copy of the token is left behind.
    let length = request.len() + host.len() + token.len() + fields.len() + REST;
    let mut head = Zeroizing::new(String::with_capacity(length));
    // Writing to a string does not fail.
    let _ = write!(head, "{request} HTTP/1.0\r\nHost: {host}\r\n");
    if !token.is_empty() {
        let _ = write!(head, "Authorization: Bearer {token}\r\n");
    }
    let _ = write!(head, "{fields}\r\n");
    head
}

/// Returns the status code and the body of a response, or `None` if it is not one.
pub fn parse(response: &[u8]) -> Option<(u16, &[u8])> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut fields);
    let length = match parsed.parse(response) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) | Err(_) => return None,
    };
    Some((parsed.code?, response.get(length..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_and_the_body_of_a_response_are_read() {
        assert_eq!(parse(b"HTTP/1.0 200 OK\r\nX: y\r\n\r\nbody"), Some((200, &b"body"[..])));
        assert_eq!(parse(b"HTTP/1.1 503\r\n\r\n"), Some((503, &b""[..])));
        for nonsense in [
            &b""[..],
            b"220 smtp\r\n\r\n",
            b"HTTP/1.1 \xff\xff\xff\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\nno field\r\n\r\n",
            b"HTTP/1.1 20000 OK\r\n\r\n",
        ] {
            assert_eq!(parse(nonsense), None, "{}", String::from_utf8_lossy(nonsense));
        }
    }

    #[test]
    fn a_head_has_the_token_and_does_not_grow() {
        let with_token = head("GET /a", "host:1", Some("secret"), "Accept: */*\r\n");
        let expected =
            "GET /a HTTP/1.0\r\nHost: host:1\r\nAuthorization: Bearer secret\r\nAccept: */*\r\n\r\n";
        assert_eq!(with_token.as_str(), expected);
        assert_eq!(head("GET /a", "host:1", None, "").as_str(), "GET /a HTTP/1.0\r\nHost: host:1\r\n\r\n");
        let long = "x".repeat(1000);
        let head = head(&long, &long, Some(&long), &long);
        assert!(head.len() <= 4000 + 64, "{}", head.len());
    }
}
