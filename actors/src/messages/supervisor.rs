//! The messages that the [`SupervisorActor`](crate::supervisor::SupervisorActor) handles, and its responses.

use std::time::Duration;

use actix::Message;

use crate::{
    domain::{
        clock::Timestamp,
        ids::LinkId,
        mqtt_version::{Refusal, Version},
        poison::{LeftOut, Poison},
        status::{ConnectionState, Failure, LastError, Warning},
    },
    messages::connection::Close,
};

/// From the HTTP layer and the stream: returns the connection status.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "ConnectionStatus")]
pub struct GetStatus;

/// From the HTTP layer: replaces its warnings in the status.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct ReportWarnings(pub Vec<Warning>);

/// The connection status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// The connection state.
    pub state: ConnectionState,
    /// `host:port` of the broker; `None` if none is configured.
    pub broker: Option<String>,
    /// The MQTT version in use, `"5"` or `"3.1.1"`, while connected.
    pub protocol: Option<&'static str>,
    /// When the latest connection was established.
    pub last_connected_at: Option<Timestamp>,
    /// The latest failure. It is kept until a later connection has stayed up, so that users can see the
    /// cause.
    pub last_error: Option<LastError>,
    /// How many attempts have failed in a row.
    pub reconnect_attempt: u32,
    /// When the next attempt is due.
    pub next_attempt_at: Option<Timestamp>,
    /// Current warnings.
    pub warnings: Vec<Warning>,
}

/// From the HTTP layer: publishes a test message to `{prefix}/test`. The response arrives when the broker has
/// acknowledged the message.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<TestMessageSent, TestMessageError>")]
pub struct PublishTestMessage;

/// The test message was acknowledged by the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestMessageSent {
    /// Its topic.
    pub topic: String,
}

/// Why the test message was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TestMessageError {
    /// There is no connection.
    #[error("not connected to a broker")]
    NotConnected,
    /// The broker refused it, or the connection was lost before the acknowledgement.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// From the HTTP layer: begins the next attempt to connect now, instead of after the pause that follows a failure.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), ReconnectError>")]
pub struct ReconnectNow;

/// Why no attempt was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReconnectError {
    /// The service is connected, already connecting, or does not connect at all.
    #[error("no attempt to connect is due: the service is connected, connecting or disabled")]
    NotWaiting,
    /// The previous attempt began less than two seconds ago.
    #[error("the previous attempt began less than 2 seconds ago; try again in a moment")]
    TooSoon,
}

/// From the service: closes the connection in this way and does not open a new one. The response arrives when the
/// connection is closed, or after two seconds.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Shutdown(pub Close);

/// Fact, from the config actor: these fields of the initial settings differ from the settings in effect. Empty if
/// none do.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct SettingsIgnored(pub Vec<&'static str>);

/// Fact, from the connection: the broker accepted the login.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Connected {
    /// The link.
    pub link: LinkId,
    /// The MQTT version in use.
    pub version: Version,
    /// How the broker refused the other version earlier, if it did.
    pub refused: Option<Refusal>,
    /// Settings that the broker does not support.
    pub warnings: Vec<Warning>,
    /// When the broker's certificate expires; `None` without TLS.
    pub certificate_ends: Option<Timestamp>,
}

/// Fact, from the connection: the broker refuses other topics than before, or accepts messages again that were
/// left out.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct TopicsRefused {
    /// The link.
    pub link: LinkId,
    /// A warning for each group of refused topics that the same change would fix.
    pub warnings: Vec<Warning>,
    /// The messages that are left out.
    pub left_out: Vec<LeftOut>,
}

/// Fact, from the connection: the connection has ended. It is sent exactly once, whatever the cause.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct ConnectionEnded {
    /// The link.
    pub link: LinkId,
    /// Why it ended; `None` if it was closed on request.
    pub failure: Option<Failure>,
    /// Whether the broker closed it cleanly after the login, without giving a reason.
    pub closed: bool,
    /// For how long nothing had been received when it ended.
    pub idle: Duration,
    /// Whether the broker had not answered every message. Then one of them may be the reason.
    pub unanswered: bool,
    /// MQTT 3.1.1: whether the broker closed the connection instead of acknowledging the first QoS 2 event. A
    /// broker that does not support QoS 2 has no other way to refuse it.
    pub closed_on_qos2: bool,
    /// What the connections so far have shown about messages.
    pub poison: Poison,
    /// Whether the next connection should follow soon, because it will show which message is at fault.
    pub retry_soon: bool,
}
