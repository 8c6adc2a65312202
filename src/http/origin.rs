//! The host names of this service.
//!
//! A foreign web page can make a browser send requests to `localhost`. If the page's own name resolves to
//! 127.0.0.1, it can even read the responses (DNS rebinding). Both are detectable: browsers send the page in
//! `Origin`, and its host name in `Host`.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The host names of this service. An IP address is always allowed, because DNS rebinding needs a name.
#[derive(Debug, Clone, Default)]
pub struct HostRules {
    allowed: Vec<Authority>,
}

impl HostRules {
    /// Allows `localhost`, every IP address, the host of `public_url`, and `allowed_hosts` (`name` for any
    /// port, or `name:port`). An entry of another form matches nothing.
    pub fn new(public_url: &str, allowed_hosts: &[String]) -> Self {
        let public = public_url.split_once("://").and_then(|(scheme, rest)| {
            let authority = Authority::parse(rest.split(['/', '?', '#']).next()?)?;
            Some(Authority { port: authority.port.or(default_port(scheme)), ..authority })
        });
        let allowed = allowed_hosts.iter().filter_map(|entry| Authority::parse(entry));
        Self { allowed: public.into_iter().chain(allowed).collect() }
    }

    /// Whether a `Host` header names this service.
    ///
    /// The port is ignored: a reverse proxy may use another one, and a foreign name is foreign on any port.
    pub fn is_own(&self, host: &str) -> bool {
        Authority::parse(host).is_some_and(|given| {
            given.host == "localhost"
                || given.is_address()
                || self.allowed.iter().any(|own| own.host == given.host)
        })
    }

    /// Whether a page with this `Origin` may send requests to this `Host`: it was served from there, or from
    /// an allowed name.
    pub fn is_same_origin(&self, origin: &str, host: Option<&str>) -> bool {
        let Some((scheme, authority)) = origin.split_once("://") else {
            return false;
        };
        let (Some(default_port), Some(page)) = (default_port(scheme), Authority::parse(authority)) else {
            return false;
        };
        let port = page.port.unwrap_or(default_port);
        let matches = |own: &Authority, port_if_none: u16| {
            own.host == page.host && own.port.unwrap_or(port_if_none) == port
        };
        host.and_then(Authority::parse).is_some_and(|own| matches(&own, default_port))
            || self.allowed.iter().any(|own| matches(own, port))
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// A host name in lower case without a final dot, and the port if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Authority {
    host: String,
    port: Option<u16>,
}

impl Authority {
    fn parse(text: &str) -> Option<Self> {
        // The colons of an IPv6 address are within brackets.
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
            _ => (text, None),
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_name = !host.is_empty() && host.chars().all(is_allowed);
        (is_name || is_bracketed_v6(&host)).then_some(Self { host, port })
    }

    fn is_address(&self) -> bool {
        self.host.parse::<Ipv4Addr>().is_ok() || is_bracketed_v6(&self.host)
    }
}

fn is_bracketed_v6(host: &str) -> bool {
    host.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> HostRules {
        HostRules::new("https://Cams.example.org/liveobject", &["nas".to_owned(), "box.lan:8443".to_owned()])
    }

    #[test]
    fn own_names_and_addresses_are_accepted_with_any_port() {
        for host in [
            "localhost",
            "localhost:8080",
            "LOCALHOST.",
            "127.0.0.1:8080",
            "192.168.1.20",
            "[::1]:8080",
            "[fe80::1]",
            "cams.example.org",
            "cams.example.org:8080",
            "nas:8080",
            "NAS",
            "box.lan",
        ] {
            assert!(rules().is_own(host), "{host}");
        }
    }

    #[test]
    fn foreign_names_are_refused() {
        for host in [
            "",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "example.org",
            "nas.evil.example",
            "localhost:port",
            "::1",
            "[::1",
            "[evil]",
            "a b",
            "localhost@evil.example",
            ":8080",
        ] {
            assert!(!rules().is_own(host), "{host}");
        }
    }

    #[test]
    fn a_page_may_send_requests_to_where_it_was_served_from() {
        for (origin, host) in [
            ("http://localhost:8080", "localhost:8080"),
            ("http://localhost", "localhost:80"),
            ("https://box.lan", "box.lan"),
            ("http://[::1]:8080", "[::1]:8080"),
            // Behind a proxy, `Host` may differ from the page's host.
            ("https://cams.example.org", "127.0.0.1:8080"),
            ("https://nas:5001", "127.0.0.1:8080"),
            ("https://box.lan:8443", "127.0.0.1:8080"),
        ] {
            assert!(rules().is_same_origin(origin, Some(host)), "{origin} at {host}");
        }
    }

    #[test]
    fn a_foreign_page_may_not_send_requests() {
        for origin in [
            "null",
            "",
            "http://evil.example",
            "http://localhost:3000",
            "http://localhost",
            "https://localhost:8081",
            "https://box.lan:9000",
            "https://cams.example.org:444",
            "file://",
            "http://",
            "ftp://localhost:8080",
        ] {
            assert!(!rules().is_same_origin(origin, Some("localhost:8080")), "{origin}");
        }
        assert!(!rules().is_same_origin("http://evil.example", None));
    }
}
