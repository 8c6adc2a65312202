//! Reads the status of the running service over its own API, for `liveobject check`.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use secrecy::zeroize::Zeroizing;
use serde::Deserialize;

use crate::{
    config::Config,
    token::{ApiToken, TokenError},
};

/// How long the service may take to accept the connection, and to send each part of its response.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum length of a response.
const MAX_RESPONSE: u64 = 1024 * 1024;

/// Why the status of the running service cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// This command has no TLS client for the service's own certificate.
    #[error("the service uses HTTPS")]
    Tls,
    /// The token is missing or cannot be read.
    #[error("the admin token is missing or cannot be read")]
    NoToken(#[source] Option<TokenError>),
    /// The configuration contains no address.
    #[error("there is no address")]
    NoAddress,
    /// The service cannot be reached or does not respond.
    #[error("no response from {0}: {1}")]
    Connection(SocketAddr, #[source] io::Error),
    /// The response is not a status.
    #[error("unexpected response {0:?}")]
    Response(String),
}

/// A warning of the running service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RunningWarning {
    /// Its kind.
    pub kind: String,
    /// What it means, and what to do.
    pub message: String,
}

#[derive(Deserialize)]
struct Status {
    warnings: Vec<RunningWarning>,
}

/// Returns the current warnings of the service that runs with this configuration. Blocks for a few seconds at most.
pub fn warnings(config: &Config) -> Result<Vec<RunningWarning>, StatusError> {
    if config.http.tls.is_some() {
        return Err(StatusError::Tls);
    }
    let token = match &config.secrets.api_token {
        Some(given) => Some(given.clone()),
        None => ApiToken::load(&config.data_dir).map_err(|error| StatusError::NoToken(Some(error)))?,
    };
    let token = token.ok_or(StatusError::NoToken(None))?;
    let address = config.http.bind.first().copied().map(reachable).ok_or(StatusError::NoAddress)?;
    // HTTP/1.0, so that the body ends with the connection and is not sent in chunks.
    let request = Zeroizing::new(format!(
        "GET /api/v1/integrations/mqtt/status HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\r\n",
        token.expose()
    ));
    let response = exchange(address, request.as_bytes());
    parse(&response.map_err(|error| StatusError::Connection(address, error))?)
}

/// Returns the address under which a service that listens on `bind` can be reached from this machine.
fn reachable(bind: SocketAddr) -> SocketAddr {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bind.port())
}

fn exchange(address: SocketAddr, request: &[u8]) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(request)?;
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE).read_to_end(&mut response)?;
    Ok(String::from_utf8_lossy(&response).into_owned())
}

fn parse(response: &str) -> Result<Vec<RunningWarning>, StatusError> {
    let unexpected = || StatusError::Response(response.lines().next().unwrap_or_default().to_owned());
    let (head, body) = response.split_once("\r\n\r\n").ok_or_else(unexpected)?;
    let is_ok = head.split(' ').nth(1) == Some("200");
    let status: Status = Some(body)
        .filter(|_| is_ok)
        .and_then(|body| serde_json::from_str(body).ok())
        .ok_or_else(unexpected)?;
    Ok(status.warnings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_is_accepted() {
        let ok = "HTTP/1.0 200 OK\r\nX: y\r\n\r\n{\"warnings\":[{\"kind\":\"a\",\"message\":\"b\"}],\"z\":1}";
        let warning = RunningWarning { kind: "a".to_owned(), message: "b".to_owned() };
        assert_eq!(parse(ok).unwrap(), [warning]);
        for bad in
            ["", "HTTP/1.0 401 Unauthorized\r\n\r\n{}", "HTTP/1.0 200 OK\r\n\r\n<html>", "220 smtp\r\n"]
        {
            assert!(matches!(parse(bad), Err(StatusError::Response(_))), "{bad}");
        }
    }

    #[test]
    fn a_service_on_all_addresses_is_reached_over_loopback() {
        for (bind, expected) in
            [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("192.0.2.1:80", "192.0.2.1:80")]
        {
            assert_eq!(reachable(bind.parse().unwrap()), expected.parse().unwrap());
        }
    }
}
