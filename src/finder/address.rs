//! The address of a broker, as people write it.

use std::{fmt, net::Ipv6Addr};

use liveobject_actors::MqttSettings;
use serde_json::json;

/// The usual port of MQTT.
pub const PORT: u16 = 1883;
/// The usual port of MQTT with TLS.
pub const TLS_PORT: u16 = 8883;

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BrokerAddress {
    /// A host name or an IP address, valid as `broker_host`.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether the connection is encrypted.
    pub use_tls: bool,
}

impl BrokerAddress {
    /// Creates an address with the usual port.
    pub(super) fn usual(host: &str, use_tls: bool) -> Self {
        Self { host: host.to_owned(), port: if use_tls { TLS_PORT } else { PORT }, use_tls }
    }

    /// Reads `HOST`, `HOST:PORT`, `mqtt://HOST:PORT` or `mqtts://HOST:PORT` (with TLS). An IPv6 address may be in
    /// brackets, and must be if a port follows. Without a scheme, port 8883 means TLS. The error is the reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (scheme, rest) = match text.split_once("://") {
            Some(("mqtt", rest)) => (Some(false), rest.trim_end_matches('/')),
            Some(("mqtts", rest)) => (Some(true), rest.trim_end_matches('/')),
            Some(_) => return Err("must begin with mqtt://, mqtts:// or the host name".to_owned()),
            None => (None, text),
        };
        let (host, port) = split(rest);
        let port = port.map(|port| port.parse::<u16>().ok().filter(|port| *port > 0));
        let port = port.map(|port| port.ok_or("the port must be a number from 1 to 65535"));
        let port = port.transpose()?;
        let use_tls = scheme.unwrap_or(port == Some(TLS_PORT));
        if host.is_empty() {
            return Err("the host name or IP address is missing".to_owned());
        }
        MqttSettings::read(json!({ "broker_host": host }), "").map_err(|invalid| {
            let fault = invalid.0.first().map(|error| error.message.clone());
            fault.unwrap_or_default()
        })?;
        Ok(Self { port: port.unwrap_or(Self::usual(host, use_tls).port), ..Self::usual(host, use_tls) })
    }
}

/// Splits the host from the port, if there is one.
fn split(text: &str) -> (&str, Option<&str>) {
    if text.parse::<Ipv6Addr>().is_ok() {
        return (text, None);
    }
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return if rest.is_empty() {
            (host, None)
        } else {
            (host, Some(rest.strip_prefix(':').unwrap_or("")))
        };
    }
    match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    }
}

impl fmt::Display for BrokerAddress {
    /// Writes `host:port`, with brackets around an IPv6 address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_people_write_it() {
        for (text, host, port, use_tls) in [
            ("broker.lan", "broker.lan", 1883, false),
            (" broker.lan:1884 ", "broker.lan", 1884, false),
            ("broker.lan:8883", "broker.lan", 8883, true),
            ("mqtt://broker.lan:8883", "broker.lan", 8883, false),
            ("mqtts://broker.lan/", "broker.lan", 8883, true),
            ("mqtts://192.0.2.1:1", "192.0.2.1", 1, true),
            ("fd00::1", "fd00::1", 1883, false),
            ("[fd00::1]", "fd00::1", 1883, false),
            ("[fd00::1]:99", "fd00::1", 99, false),
        ] {
            let address = BrokerAddress::parse(text).unwrap();
            assert_eq!(
                (address.host.as_str(), address.port, address.use_tls),
                (host, port, use_tls),
                "{text}"
            );
        }
        assert_eq!(BrokerAddress::parse("fd00::1").unwrap().to_string(), "[fd00::1]:1883");
    }

    #[test]
    fn what_is_not_an_address_is_refused_with_a_reason() {
        for text in ["", "a:0", "a:65536", "a:b", "a:", "[fd00::1]x", "http://a", "a b", "u@a/b", ":1883"] {
            assert!(!BrokerAddress::parse(text).unwrap_err().is_empty(), "{text}");
        }
    }
}
