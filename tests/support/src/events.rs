//! Server-sent events, as a browser's `EventSource` reads them.

use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

/// Longer than any test.
const OPEN: Duration = Duration::from_hours(1);

/// One message. A comment has neither event nor id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sse {
    /// Its `id`.
    pub id: String,
    /// Its kind.
    pub event: String,
    /// Its data; null when there is none.
    pub data: Value,
    /// Its comment.
    pub comment: String,
    /// Its `retry`.
    pub retry: String,
}

/// An open stream.
#[derive(Debug)]
pub struct EventStream {
    /// The answer's head.
    pub response: Response,
    text: String,
    /// The id of the last message that had one.
    pub last_id: String,
}

impl EventStream {
    /// Sends the request. The answer may have any status.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub async fn open(request: RequestBuilder) -> Self {
        let response = request.timeout(OPEN).send().await.expect("an answer");
        Self { response, text: String::new(), last_id: String::new() }
    }

    /// The next message; `None` when the stream has ended.
    ///
    /// # Panics
    ///
    /// When there is none within `patience`.
    pub async fn next(&mut self, patience: Duration) -> Option<Sse> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let message = parsed(&self.text[..end]);
                self.text.drain(..end + 2);
                if !message.id.is_empty() {
                    self.last_id.clone_from(&message.id);
                }
                return Some(message);
            }
            let chunk = timeout_at(deadline, self.response.chunk()).await;
            let chunk = chunk.unwrap_or_else(|_| panic!("no message within {patience:?}"));
            // A connection that is cut ends the stream as well.
            let chunk = chunk.ok().flatten()?;
            self.text.push_str(std::str::from_utf8(&chunk).expect("messages are text, whole ones a chunk"));
        }
    }

    /// The first message that satisfies `condition`; others are passed over.
    ///
    /// # Panics
    ///
    /// When there is none within `patience`, or the stream ends.
    pub async fn wait_for(
        &mut self,
        what: &str,
        patience: Duration,
        mut condition: impl FnMut(&Sse) -> bool,
    ) -> Sse {
        let deadline = Instant::now() + patience;
        let mut passed = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: not within {patience:?}; there were {passed:?}");
            let message = self.next(left).await;
            let message = message.unwrap_or_else(|| panic!("{what}: the stream ended after {passed:?}"));
            if condition(&message) {
                return message;
            }
            passed.push(message);
        }
    }
}

fn parsed(text: &str) -> Sse {
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
