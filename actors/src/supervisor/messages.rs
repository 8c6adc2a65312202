//! What can be said to the [`SupervisorActor`](super::SupervisorActor), and what it answers.

use actix::Message;

use crate::{
    clock::Timestamp,
    status::{ConnectionState, Failure, LastError, Warning},
};

/// From the HTTP layer: how does the connection stand?
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "ConnectionStatus")]
pub struct GetStatus;

/// How the connection stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// Where it stands.
    pub state: ConnectionState,
    /// `host:port`; `None` when none is set.
    pub broker: Option<String>,
    /// What the broker speaks, `"5"` or `"3.1.1"`, while connected.
    pub protocol: Option<&'static str>,
    /// When the newest connection came up.
    pub last_connected_at: Option<Timestamp>,
    /// The newest failure, until a connection has come up after it and stayed; kept so that one can see what was.
    pub last_error: Option<LastError>,
    /// How many attempts have failed in a row.
    pub reconnect_attempt: u32,
    /// When the next attempt is due.
    pub next_attempt_at: Option<Timestamp>,
    /// What is not as it should be.
    pub warnings: Vec<Warning>,
}

/// From the HTTP layer: publish a test message to `{prefix}/test`, and answer when the broker has acknowledged it.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<TestMessageSent, TestMessageError>")]
pub struct PublishTestMessage;

/// The test message was acknowledged by the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestMessageSent {
    /// Where it went.
    pub topic: String,
}

/// Why the test message was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TestMessageError {
    /// There is no connection.
    #[error("not connected to a broker")]
    NotConnected,
    /// The broker refused it, or the connection was lost meanwhile.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// From whoever stops the service: close the connection (publishing `offline` first) and make no new one. Answered when
/// the connection is closed, or after two seconds.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Shutdown;
