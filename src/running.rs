//! Calls the API of the running service, for `liveobject check` and `liveobject replay`.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    config::Config,
    token::{ApiToken, TokenError},
};

/// The time limit for the connection, for sending the request, and for each part of a response that the service can
/// send immediately.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum length of a response.
const MAX_RESPONSE: u64 = 1024 * 1024;

/// Why a call to the running service failed.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// This command has no TLS client for the service's own certificate.
    #[error("the service uses HTTPS")]
    Tls,
    /// The token is missing or cannot be read.
    #[error("the admin token is missing or cannot be read")]
    NoToken(#[source] Option<TokenError>),
    /// The configuration contains no address.
    #[error("the configuration contains no address")]
    NoAddress,
    /// The service cannot be reached or does not respond.
    #[error("no response from {0}: {1}")]
    Connection(SocketAddr, #[source] io::Error),
    /// The response is not the expected one.
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
    let response = call(config, "GET", "/api/v1/integrations/mqtt/status", None, TIMEOUT)?;
    Ok(response.ok::<Status>()?.warnings)
}

/// A response of the running service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    line: String,
    body: String,
}

impl Response {
    /// Returns the body of a successful response.
    pub fn ok<T: DeserializeOwned>(&self) -> Result<T, StatusError> {
        let is_ok = (200..300).contains(&self.status);
        self.json().filter(|_| is_ok).ok_or_else(|| StatusError::Response(self.line.clone()))
    }

    /// Returns the body if it has this form.
    pub fn json<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(&self.body).ok()
    }
}

/// Sends a request to the service that runs with this configuration, with the admin token. Blocks for `timeout` at
/// most, and a few seconds for the connection.
pub fn call(
    config: &Config,
    method: &str,
    path: &str,
    body: Option<&Value>,
    timeout: Duration,
) -> Result<Response, StatusError> {
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
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = Zeroizing::new(format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        token.expose(),
        body.len()
    ));
    let response = exchange(address, request.as_bytes(), timeout);
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

fn exchange(address: SocketAddr, request: &[u8], timeout: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(request)?;
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE).read_to_end(&mut response)?;
    Ok(String::from_utf8_lossy(&response).into_owned())
}

fn parse(response: &str) -> Result<Response, StatusError> {
    let line = response.lines().next().unwrap_or_default().to_owned();
    let parts = response.split_once("\r\n\r\n").and_then(|(head, body)| {
        let status = head.strip_prefix("HTTP/")?.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    });
    match parts {
        Some((status, body)) => Ok(Response { status, line, body }),
        None => Err(StatusError::Response(line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_is_accepted() {
        let ok = "HTTP/1.0 200 OK\r\nX: y\r\n\r\n{\"warnings\":[{\"kind\":\"a\",\"message\":\"b\"}],\"z\":1}";
        let warning = RunningWarning { kind: "a".to_owned(), message: "b".to_owned() };
        let warnings = |response| parse(response)?.ok::<Status>().map(|status| status.warnings);
        assert_eq!(warnings(ok).unwrap(), [warning]);
        for bad in
            ["", "HTTP/1.0 401 Unauthorized\r\n\r\n{}", "HTTP/1.0 200 OK\r\n\r\n<html>", "220 smtp\r\n"]
        {
            assert!(matches!(warnings(bad), Err(StatusError::Response(_))), "{bad}");
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
