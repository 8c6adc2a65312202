//! Server-sent events, parsed as a browser's `EventSource` does.

use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

/// Longer than any test runs.
const OPEN: Duration = Duration::from_hours(1);

/// One message. A comment has neither an event nor an id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sse {
    /// The `id` field.
    pub id: String,
    /// The `event` field: the kind of message.
    pub event: String,
    /// The `data` field as JSON, or null if there is none.
    pub data: Value,
    /// The text of a comment line.
    pub comment: String,
    /// The `retry` field.
    pub retry: String,
}

/// An open event stream.
#[derive(Debug)]
pub struct EventStream {
    /// The response. Only its head has been read.
    pub response: Response,
    text: String,
    /// Id of the last message that had one.
    pub last_id: String,
}

impl EventStream {
    /// Sends the request. The response may have any status.
    ///
    /// # Panics
    ///
    /// Panics if there is no response.
    pub async fn open(request: RequestBuilder) -> Self {
        let response = request.timeout(OPEN).send().await.expect("a response");
        Self { response, text: String::new(), last_id: String::new() }
    }

    /// Returns the next message, or `None` at the end of the stream.
    ///
    /// # Panics
    ///
    /// Panics if none arrives within `timeout`.
    pub async fn next(&mut self, timeout: Duration) -> Option<Sse> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let message = parse(&self.text[..end]);
                self.text.drain(..end + 2);
                if !message.id.is_empty() {
                    self.last_id.clone_from(&message.id);
                }
                return Some(message);
            }
            let chunk = timeout_at(deadline, self.response.chunk()).await;
            let chunk = chunk.unwrap_or_else(|_| panic!("no message within {timeout:?}"));
            // A cut connection ends the stream as well.
            let chunk = chunk.ok().flatten()?;
            self.text.push_str(std::str::from_utf8(&chunk).expect("a chunk contains whole characters"));
        }
    }

    /// Returns the first message that satisfies `condition`, skipping all others.
    ///
    /// # Panics
    ///
    /// Panics if none arrives within `timeout`, or if the stream ends.
    pub async fn wait_for(
        &mut self,
        what: &str,
        timeout: Duration,
        mut condition: impl FnMut(&Sse) -> bool,
    ) -> Sse {
        let deadline = Instant::now() + timeout;
        let mut skipped = Vec::new();
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            assert!(!remaining.is_zero(), "{what}: not within {timeout:?}; received {skipped:?}");
            let message = self.next(remaining).await;
            let message = message.unwrap_or_else(|| panic!("{what}: the stream ended after {skipped:?}"));
            if condition(&message) {
                return message;
            }
            skipped.push(message);
        }
    }
}

fn parse(text: &str) -> Sse {
    let mut message = Sse::default();
    for line in text.lines() {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match name {
            "id" => message.id = value,
            "event" => message.event = value,
            "retry" => message.retry = value,
            "" => message.comment = value,
            "data" => message.data = serde_json::from_str(&value).expect("data is JSON in one line"),
            _ => panic!("unknown field {name} in {text}"),
        }
    }
    message
}
