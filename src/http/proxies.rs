//! The reverse proxies that report the addresses of their clients. Performs no I/O.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName, X_FORWARDED_FOR};
use ipnet::IpNet;

/// Maximum number of addresses in the header that are examined. A chain of proxies has two or three.
const MAX_HOPS: usize = 16;

/// The networks of the reverse proxies whose forwarding headers are used. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// Trusts all addresses of these networks.
    pub fn new(networks: &[IpNet]) -> Self {
        Self(networks.into())
    }

    /// Returns whether this is the address of a trusted proxy.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Returns the address of the client that sent a request with these headers over a connection of this peer: the
    /// last address in `X-Forwarded-For`, or else in `Forwarded`, that is not one of a trusted proxy. Clients can
    /// write any addresses before it.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if self.contains(peer) { self.client_of(peer, headers) } else { peer }
    }

    /// Like [`client`](Self::client), for a peer that is trusted in any case.
    pub(super) fn client_of(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer;
        for hop in hops(headers) {
            // A hidden or invalid address: the proxy that reported it is the last one that is known.
            let Some(address) = hop else { break };
            client = address;
            if !self.contains(address) {
                break;
            }
        }
        client
    }
}

/// Returns the addresses in the forwarding header, the nearest first; `None` in place of an invalid one.
fn hops(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let (name, node): (HeaderName, fn(&str) -> Option<&str>) = if headers.contains_key(X_FORWARDED_FOR) {
        (X_FORWARDED_FOR, |text| Some(text))
    } else {
        (FORWARDED, forwarded_for)
    };
    let values: Vec<_> = headers.get_all(name).map(|value| value.to_str().unwrap_or("")).collect();
    let hops = values.into_iter().rev().flat_map(|value| value.rsplit(','));
    hops.take(MAX_HOPS).map(move |hop| node(hop).and_then(address))
}

/// Returns the client of one element of `Forwarded`, such as `for=192.0.2.60;proto=http`.
fn forwarded_for(element: &str) -> Option<&str> {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let client = pairs.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    client.map(|(_, value)| value.trim().trim_matches('"'))
}

/// Reads an address, which may have a port or brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn client(trusted: &[&str], peer: &str, lines: &[(HeaderName, &'static str)]) -> String {
        let networks: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.clone(), HeaderValue::from_static(value));
        }
        TrustedProxies::new(&networks).client(peer.parse().unwrap(), &headers).to_string()
    }

    const TRUSTED: &[&str] = &["10.0.0.0/8", "fd00::/8"];

    #[test]
    fn without_a_trusted_proxy_the_client_is_the_peer() {
        let forwarded = [(X_FORWARDED_FOR, "192.0.2.1"), (FORWARDED, "for=192.0.2.2")];
        assert_eq!(client(&[], "10.0.0.1", &forwarded), "10.0.0.1");
        assert_eq!(client(TRUSTED, "198.51.100.7", &forwarded), "198.51.100.7");
        assert_eq!(client(TRUSTED, "10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn the_client_is_the_last_address_that_is_not_a_trusted_proxy() {
        for (forwarded, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("203.0.113.9, 192.0.2.1", "192.0.2.1"),
            ("203.0.113.9, 192.0.2.1 , 10.0.0.2", "192.0.2.1"),
            ("203.0.113.9,192.0.2.1,fd00::5,10.0.0.2", "192.0.2.1"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            // Everything was sent from within the trusted networks.
            ("10.0.0.9, 10.0.0.2", "10.0.0.9"),
        ] {
            assert_eq!(client(TRUSTED, "10.0.0.1", &[(X_FORWARDED_FOR, forwarded)]), expected, "{forwarded}");
        }
        let lines = [(X_FORWARDED_FOR, "203.0.113.9"), (X_FORWARDED_FOR, "192.0.2.1, 10.0.0.2")];
        assert_eq!(client(TRUSTED, "::ffff:10.0.0.1", &lines), "192.0.2.1");
    }

    #[test]
    fn an_invalid_address_ends_the_chain_at_the_last_known_proxy() {
        for (forwarded, expected) in [
            ("unknown", "10.0.0.1"),
            ("", "10.0.0.1"),
            ("192.0.2.1, _hidden, 10.0.0.2", "10.0.0.2"),
            ("192.0.2.1, 192.0.2.999", "10.0.0.1"),
        ] {
            assert_eq!(client(TRUSTED, "10.0.0.1", &[(X_FORWARDED_FOR, forwarded)]), expected, "{forwarded}");
        }
        let long = "10.0.0.3,".repeat(10_000);
        let mut headers = HeaderMap::new();
        headers.insert(X_FORWARDED_FOR, HeaderValue::try_from(format!("192.0.2.1,{long}10.0.0.3")).unwrap());
        let proxies = TrustedProxies::new(&["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(proxies.client("10.0.0.1".parse().unwrap(), &headers).to_string(), "10.0.0.3");
    }

    #[test]
    fn the_forwarded_header_is_used_if_there_is_no_other() {
        for (forwarded, expected) in [
            ("for=192.0.2.1", "192.0.2.1"),
            ("for=203.0.113.9, For=192.0.2.1;proto=https;by=10.0.0.1", "192.0.2.1"),
            ("proto=https;for=\"[2001:db8::1]:4711\"", "2001:db8::1"),
            ("for=unknown", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
        ] {
            assert_eq!(client(TRUSTED, "10.0.0.1", &[(FORWARDED, forwarded)]), expected, "{forwarded}");
        }
        let both = [(FORWARDED, "for=192.0.2.2"), (X_FORWARDED_FOR, "192.0.2.1")];
        assert_eq!(client(TRUSTED, "10.0.0.1", &both), "192.0.2.1");
    }
}
