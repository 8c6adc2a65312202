//! Calls the API of the running service, for commands such as `liveobject check`.

mod tls;

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use liveobject_actors::data_dir::DataDir;
use rustls::StreamOwned;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use self::tls::Accepted;
use crate::{
    config::Config,
    http::tls::{TlsError, TlsFiles},
    http_1_0,
    terminal::escape_line,
    token::{ApiToken, TokenError},
};

/// How long the service may take to accept the connection, and to send a response that it has at once.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum length of a response.
const MAX_RESPONSE: u64 = 1024 * 1024;

/// Why a call to the running service failed.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// No service uses the data directory.
    #[error("no service is running with this data directory")]
    NotRunning,
    /// The certificate of the service, which a request with a token needs, cannot be read.
    #[error("the certificate of the service cannot be used: {0}")]
    Certificate(#[source] TlsError),
    /// The TLS library rejects its configuration.
    #[error("cannot set up TLS: {0}")]
    Tls(#[source] rustls::Error),
    /// The token is missing or cannot be read.
    #[error("the admin token is missing or cannot be read")]
    NoToken(#[source] Option<TokenError>),
    /// The configuration contains no address.
    #[error("the configuration contains no address")]
    NoAddress,
    /// The service listens on a port that the system chooses.
    #[error("[http] bind has port 0, so the service's port is not known")]
    UnknownPort,
    /// The service cannot be reached or does not respond.
    #[error("no response from {0}: {1}")]
    Connection(SocketAddr, #[source] io::Error),
    /// The response is not the expected one.
    #[error("unexpected response {0:?}")]
    Response(String),
    /// The service refused the request for this reason.
    #[error("{0}")]
    Refused(String),
}

/// What to do if the service listens on another address than the one in the configuration. Another node may respond
/// there.
pub const OTHER_ADDRESS: &str = "If the service was started with --bind, set the variable LIVEOBJECT__HTTP__BIND to \
                                 the same address for this command.";

/// A warning of the running service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct RunningWarning {
    /// Its kind.
    pub kind: String,
    /// What it means, and what to do.
    pub message: String,
}

/// What the running service does.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct RunningStatus {
    /// `disabled`, `connecting`, `connected` or `waiting`.
    pub state: String,
    /// Why the last attempt failed.
    pub last_error: Option<RunningError>,
    /// When the next attempt is due, in UTC.
    pub next_attempt_at: Option<String>,
    /// The events that are not delivered.
    pub outbox: RunningOutbox,
    /// The warnings.
    pub warnings: Vec<RunningWarning>,
}

impl RunningStatus {
    /// Returns whether the service is connected to the broker.
    pub fn is_connected(&self) -> bool {
        self.state == "connected"
    }
}

/// Why a connection attempt of the running service failed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct RunningError {
    /// The kind of the failure.
    pub kind: String,
    /// What happened, and what to do.
    pub message: String,
}

/// The events of the running service that are not delivered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct RunningOutbox {
    /// How many wait.
    pub pending: u64,
    /// How many could not be delivered.
    pub dead: u64,
}

/// Returns the status of the service that runs with this configuration. Blocks for a few seconds at most.
pub fn status(config: &Config) -> Result<RunningStatus, StatusError> {
    call(config, "GET", "/api/v1/integrations/mqtt/status", None, TIMEOUT)?.ok()
}

/// A response of the running service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    line: String,
    body: Vec<u8>,
}

impl Response {
    /// Returns the body of a successful response.
    pub fn ok<T: DeserializeOwned>(&self) -> Result<T, StatusError> {
        let is_ok = (200..300).contains(&self.status);
        let unexpected = || match self.refusal() {
            Some(reason) => StatusError::Refused(reason),
            None => StatusError::Response(self.line.clone()),
        };
        self.json().filter(|_| is_ok).ok_or_else(unexpected)
    }

    /// Returns why the service refused the request, on one line. `None` if it did not, or if the response contains no
    /// reason.
    pub fn refusal(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Problem {
            detail: String,
            #[serde(default)]
            errors: Vec<Fault>,
        }
        #[derive(Deserialize)]
        struct Fault {
            field: String,
            message: String,
        }
        if self.status < 400 {
            return None;
        }
        let Problem { detail, errors } = self.json()?;
        let faults = errors.iter().map(|Fault { field, message }| format!("{field}: {message}"));
        let faults: Vec<String> = faults.collect();
        let text = if faults.is_empty() { detail } else { faults.join("; ") };
        Some(escape_line(&text))
    }

    /// Returns the body if it has this form.
    pub fn json<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// Sends a request to the service that runs with this configuration, with the admin token and this JSON. Blocks for
/// `timeout` at most.
pub fn call(
    config: &Config,
    method: &str,
    path: &str,
    body: Option<&[u8]>,
    timeout: Duration,
) -> Result<Response, StatusError> {
    // While no service has the data and the port, another user's program may have the port. It must not get the token.
    if !DataDir::is_in_use(&config.data_dir) {
        return Err(StatusError::NotRunning);
    }
    let token = match &config.secrets.api_token {
        Some(given) => Some(given.clone()),
        None => ApiToken::load(&config.data_dir).map_err(|error| StatusError::NoToken(Some(error)))?,
    };
    let token = token.ok_or(StatusError::NoToken(None))?;
    // Another program may have the port. It must not get the token.
    let only = |files: &TlsFiles| files.certificate().map(Accepted::Only).map_err(StatusError::Certificate);
    let accepted = config.http.tls.as_ref().map(only).transpose()?;
    let (address, body) = (address(config)?, body.unwrap_or_default());
    let fields = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    let request = format!("{method} {path}");
    let head = http_1_0::head(&request, &address.to_string(), Some(token.expose()), &fields);
    exchange(address, accepted, [head.as_bytes(), body], timeout)
}

/// What the service reports about whether it accepts events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It accepts events.
    Ready,
    /// It is on standby, and forwards events to the active node with this name, if one is known.
    Standby(Option<String>),
    /// It does not, for this reason.
    NotReady(String),
}

/// Asks the service that runs with this configuration whether it accepts events. Needs no token. Blocks for 5 s at
/// most.
pub fn readiness(config: &Config) -> Result<Readiness, StatusError> {
    #[derive(Deserialize)]
    struct Problem {
        detail: String,
    }
    #[derive(Deserialize)]
    struct Ready {
        status: String,
        active: Option<String>,
    }
    let accepted = config.http.tls.as_ref().map(|_| Accepted::Any);
    let address = address(config)?;
    let head = http_1_0::head("GET /health/ready", &address.to_string(), None, "");
    let response = exchange(address, accepted, [head.as_bytes(), &[]], TIMEOUT)?;
    match (response.status, response.json::<Problem>()) {
        (200, _) => Ok(match response.json() {
            Some(Ready { status, active }) if status == "standby" => Readiness::Standby(active),
            _ => Readiness::Ready,
        }),
        (503, Some(Problem { detail })) => Ok(Readiness::NotReady(detail)),
        _ => Err(StatusError::Response(response.line)),
    }
}

/// Returns the address under which the service that runs with this configuration can be reached from this machine.
pub fn address(config: &Config) -> Result<SocketAddr, StatusError> {
    let bind = config.http.bind.first().ok_or(StatusError::NoAddress)?;
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    if bind.port() == 0 { Err(StatusError::UnknownPort) } else { Ok(SocketAddr::new(ip, bind.port())) }
}

/// Sends the head and the body of a request, and reads the response, over TLS if certificates are given. Blocks for
/// `timeout` at most.
fn exchange(
    address: SocketAddr,
    tls: Option<Accepted>,
    request: [&[u8]; 2],
    timeout: Duration,
) -> Result<Response, StatusError> {
    let session = tls.map(|accepted| tls::session(accepted, address)).transpose();
    let session = session.map_err(StatusError::Tls)?;
    let deadline = Instant::now() + timeout;
    let exchange = || {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT.min(timeout))?;
        let stream = Timed { stream, deadline };
        match session {
            Some(session) => send_and_receive(StreamOwned::new(session, stream), request),
            None => send_and_receive(stream, request),
        }
    };
    parse(&exchange().map_err(|error| StatusError::Connection(address, error))?)
}

fn send_and_receive(mut stream: impl Read + Write, request: [&[u8]; 2]) -> io::Result<Vec<u8>> {
    for part in request {
        stream.write_all(part)?;
    }
    stream.flush()?;
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE).read_to_end(&mut response)?;
    Ok(response)
}

/// A stream whose operations end at a deadline, even if the other side keeps sending a little at a time.
#[derive(Debug)]
struct Timed<S> {
    stream: S,
    deadline: Instant,
}

impl Timed<TcpStream> {
    /// Returns the stream with timeouts that end at the deadline.
    fn until_deadline(&mut self) -> io::Result<&mut TcpStream> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.set_write_timeout(Some(left))?;
        Ok(&mut self.stream)
    }
}

/// The system reports a timeout of a socket as `WouldBlock`, whose text does not mention the timeout.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

impl Read for Timed<TcpStream> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.until_deadline()?.read(buffer).map_err(timed_out)
    }
}

impl Write for Timed<TcpStream> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.until_deadline()?.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.until_deadline()?.flush()
    }
}

fn parse(response: &[u8]) -> Result<Response, StatusError> {
    let line = response.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
    match http_1_0::parse(response) {
        Some((status, body)) => Ok(Response { status, line, body: body.to_owned() }),
        None => Err(StatusError::Response(line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Status {
        warnings: Vec<RunningWarning>,
    }

    #[test]
    fn only_a_status_is_accepted() {
        let ok = "HTTP/1.0 200 OK\r\nX: y\r\n\r\n{\"warnings\":[{\"kind\":\"a\",\"message\":\"b\"}],\"z\":1}";
        let warning = RunningWarning { kind: "a".to_owned(), message: "b".to_owned() };
        let warnings =
            |response| parse(str::as_bytes(response))?.ok::<Status>().map(|status| status.warnings);
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
            let mut config = Config::default();
            config.http.bind = vec![bind.parse().unwrap()];
            assert_eq!(address(&config).unwrap(), expected.parse().unwrap());
        }
    }

    #[test]
    fn a_response_that_trickles_ends_at_the_deadline() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let trickle = std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            // The client closes the connection at its deadline.
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let error = exchange(address, None, [b"GET / HTTP/1.0\r\n\r\n", b""], Duration::from_millis(200))
            .unwrap_err();
        assert!(
            matches!(&error, StatusError::Connection(_, cause) if cause.kind() == io::ErrorKind::TimedOut)
        );
        trickle.join().unwrap();
    }
}
