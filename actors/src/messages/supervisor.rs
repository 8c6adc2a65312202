//! What can be said to the [`SupervisorActor`](super::SupervisorActor), and what it answers.

use actix::Message;

use crate::domain::{
    clock::Timestamp,
    ids::LinkId,
    mqtt_version::{Refusal, Version},
    status::{ConnectionState, Failure, LastError, Warning},
    suspects::Suspects,
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

/// Fact, to the supervisor: the broker accepted the login.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Connected {
    /// Which link.
    pub link: LinkId,
    /// What is spoken.
    pub version: Version,
    /// How the other version had been turned down before, if it had.
    pub refused: Option<Refusal>,
    /// What the broker cannot do as the settings ask.
    pub warnings: Vec<Warning>,
    /// When the broker's certificate expires; `None` without TLS.
    pub certificate_ends: Option<Timestamp>,
}

/// Fact, to the supervisor: this connection is over. Told exactly once, whatever the cause.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct ConnectionEnded {
    /// Which link.
    pub link: LinkId,
    /// Why; `None` when it was closed as asked.
    pub failure: Option<Failure>,
    /// The broker closed it after the login, in good order and without a word.
    pub closed: bool,
    /// MQTT 3.1.1: the broker closed the connection instead of an answer to the first QoS 2 event. A broker that does not
    /// take QoS 2 has no other way to say so.
    pub closed_on_qos2: bool,
    /// What the next connection is to send alone.
    pub suspects: Suspects,
}
