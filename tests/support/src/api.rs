//! The REST API of a running service, as a client sees it.
//!
//! An [`Api`] is cheap to clone and follows its service across restarts, so that tasks can keep sending
//! events while the test kills and restarts the service. Methods that start with `try_` return transport
//! errors; the others panic on them. A response with any status counts as success.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::events::EventStream;
use crate::wait::POLL;

/// The path prefix of the MQTT endpoints.
pub const MQTT: &str = "/api/v1/integrations/mqtt";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// A handle to the REST API.
#[derive(Clone, Debug)]
pub struct Api {
    target: Arc<Mutex<Target>>,
    token: Token,
}

#[derive(Clone, Debug)]
enum Token {
    OfService,
    Other(String),
    None,
}

#[derive(Debug)]
struct Target {
    client: Client,
    port: u16,
    token: Option<String>,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as JSON. A body that is not JSON becomes a string; a missing body becomes null.
    pub body: Value,
}

impl Answer {
    /// Returns the body if the response has this status.
    ///
    /// # Panics
    ///
    /// Panics with the body if the status differs.
    #[track_caller]
    #[must_use]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(
            self.status, status,
            "the service responded with {} instead of {status}: {}",
            self.status, self.body
        );
        self.body
    }

    /// Returns the value of a header, or an empty string if it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Api {
    pub(crate) fn new() -> Self {
        let target = Target { client: client(), port: 0, token: None };
        Self { target: Arc::new(Mutex::new(target)), token: Token::OfService }
    }

    /// Returns a handle to any server that listens on this loopback port, using this token.
    #[must_use]
    pub fn on_port(port: u16, token: &str) -> Self {
        let api = Self::new();
        api.point_to(port, Some(token.to_owned()));
        api
    }

    /// Redirects all further requests. Existing connections to the previous target are not reused.
    pub(crate) fn point_to(&self, port: u16, token: Option<String>) {
        let mut target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        *target = Target { client: client(), port, token };
    }

    /// Returns a handle to the same API that sends no token.
    #[must_use]
    pub fn without_token(&self) -> Self {
        Self { target: Arc::clone(&self.target), token: Token::None }
    }

    /// Returns a handle to the same API that sends another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { target: Arc::clone(&self.target), token: Token::Other(token.to_owned()) }
    }

    /// Builds a request for the caller to complete, for example with other headers or a body that is not
    /// JSON. The request contains the token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        let request = target.client.request(method, format!("http://127.0.0.1:{}{path}", target.port));
        match (&self.token, &target.token) {
            (Token::Other(token), _) | (Token::OfService, Some(token)) => request.bearer_auth(token),
            (Token::OfService, None) | (Token::None, _) => request,
        }
    }

    /// Sends a request made with [`Api::request`].
    ///
    /// # Errors
    ///
    /// Returns an error if no response arrives within 15 s.
    pub async fn try_send(request: RequestBuilder) -> reqwest::Result<Answer> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await?;
        let body = match serde_json::from_slice(&bytes) {
            Ok(body) => body,
            Err(_) if bytes.is_empty() => Value::Null,
            Err(_) => Value::String(String::from_utf8_lossy(&bytes).into_owned()),
        };
        Ok(Answer { status, headers, body })
    }

    /// Sends a GET request.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    /// Sends a PUT request with a JSON body.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, Some(body)).await
    }

    /// Sends a POST request with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    /// Sends a DELETE request.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    /// Sends a GET request.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no response.
    pub async fn try_get(&self, path: &str) -> reqwest::Result<Answer> {
        Self::try_send(self.request(Method::GET, path)).await
    }

    /// Sends a POST request with a JSON body.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no response. Whether the service processed the request is then unknown.
    pub async fn try_post(&self, path: &str, body: &Value) -> reqwest::Result<Answer> {
        Self::try_send(self.request(Method::POST, path).json(body)).await
    }

    /// Submits one event.
    pub async fn post_event(&self, event: &Value) -> Answer {
        self.post("/api/v1/events", event).await
    }

    /// Submits one event until it is accepted, retrying after connection errors, 429 and 5xx responses as a
    /// well-behaved sender does. The event must have an `event_id`. Returns the receipt.
    ///
    /// # Panics
    ///
    /// Panics if the event is refused (4xx other than 429), or not accepted within `timeout`.
    pub async fn submit(&self, event: &Value, timeout: Duration) -> Value {
        assert!(event["event_id"].is_string(), "only an event with an event_id can be retried: {event}");
        let deadline = Instant::now() + timeout;
        loop {
            let answer = self.try_post("/api/v1/events", event).await;
            match answer {
                Ok(answer) if answer.status < 500 && answer.status != 429 => return answer.expect(202),
                Ok(_) | Err(_) if Instant::now() < deadline => sleep(POLL).await,
                other => panic!("not accepted within {timeout:?}: {event}: {other:?}"),
            }
        }
    }

    /// Replaces the MQTT settings.
    pub async fn put_config(&self, settings: &Value) -> Answer {
        self.put(&format!("{MQTT}/config"), settings).await
    }

    /// Connects the service to a broker on this loopback port, with default settings, and waits for the
    /// connection.
    pub async fn connect_to(&self, broker_port: u16) {
        let settings = json!({ "enabled": true, "broker_host": "127.0.0.1", "broker_port": broker_port });
        let _ = self.put_config(&settings).await.expect(200);
        self.wait_connected(Duration::from_secs(10)).await;
    }

    /// Returns the connection status.
    pub async fn status(&self) -> Value {
        self.get(&format!("{MQTT}/status")).await.expect(200)
    }

    /// Waits until the status satisfies `condition`, and returns it.
    ///
    /// # Panics
    ///
    /// Panics with the last status seen if the condition is not met within `timeout`.
    pub async fn wait_status(
        &self,
        what: &str,
        timeout: Duration,
        mut condition: impl FnMut(&Value) -> bool,
    ) -> Value {
        let deadline = Instant::now() + timeout;
        loop {
            let status = self.status().await;
            if condition(&status) {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{what}: not within {timeout:?}; the last status was {status}"
            );
            sleep(POLL).await;
        }
    }

    /// Waits until the service reports that it is connected.
    pub async fn wait_connected(&self, timeout: Duration) {
        self.wait_status("connected", timeout, |status| status["connected"] == true).await;
    }

    /// Waits until no event is pending or in flight.
    pub async fn wait_outbox_empty(&self, timeout: Duration) {
        let empty = |status: &Value| status["outbox"]["pending"] == 0 && status["outbox"]["in_flight"] == 0;
        self.wait_status("outbox empty", timeout, empty).await;
    }

    /// Waits until the delivery state of this event is `delivered`.
    pub async fn wait_until_delivered(&self, event_id: &str, timeout: Duration) {
        let path = format!("/api/v1/events/{event_id}");
        let deadline = Instant::now() + timeout;
        loop {
            let event = self.get(&path).await.expect(200);
            if event["delivery"]["state"] == "delivered" {
                return;
            }
            assert!(Instant::now() < deadline, "not delivered within {timeout:?}: {event}");
            sleep(POLL).await;
        }
    }

    /// Opens the event stream; `query` is empty or begins with `?`.
    pub async fn stream(&self, query: &str) -> EventStream {
        EventStream::open(self.request(Method::GET, &format!("/api/v1/stream{query}"))).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let mut request = self.request(method.clone(), path);
        if let Some(body) = body {
            request = request.json(body);
        }
        let repeated = request.try_clone().filter(|_| method == Method::GET);
        let mut answer = Self::try_send(request).await;
        if let (Err(error), Some(repeated)) = (&answer, repeated)
            && !error.is_timeout()
        {
            // The client may have used a connection that a service closed when it was stopped.
            answer = Self::try_send(repeated).await;
        }
        answer.unwrap_or_else(|error| panic!("{method} {path} got no response: {error:?}"))
    }
}

fn client() -> Client {
    // A proxy set in the environment must not apply to loopback connections.
    Client::builder()
        .no_proxy()
        .timeout(REQUEST_TIMEOUT)
        .build()
        .expect("an HTTP client without TLS can be built")
}
