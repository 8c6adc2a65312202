//! What the service tells of itself: one vocabulary for the API, the logs and the metrics.

use std::fmt;

use serde::Serialize;

use crate::domain::clock::Timestamp;

/// Why a connection failed or ended, as users act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The broker's name has no address.
    NameNotFound,
    /// No way to the broker's network.
    Unreachable,
    /// The broker did not answer in time.
    Timeout,
    /// Nothing listens on the broker's port, or the broker turned the connection down.
    Refused,
    /// The broker takes no further message at the moment.
    Busy,
    /// The broker does not accept this user name and password.
    BadCredentials,
    /// The broker does not permit this login or action.
    NotAuthorized,
    /// What answered does not speak this MQTT.
    Protocol,
    /// The encrypted connection could not be set up.
    Tls,
    /// Another client connected with the same client id.
    TakenOver,
    /// Connected, but the broker answered nothing for too long.
    Stalled,
    /// The connection was closed or lost.
    Closed,
    /// A fault in this program; it was contained.
    Panicked,
    /// A stored secret cannot be read with the identity at hand.
    SecretUnreadable,
}

impl FailureKind {
    /// The kind's name in the API, the logs and the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NameNotFound => "name_not_found",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::BadCredentials => "bad_credentials",
            Self::NotAuthorized => "not_authorized",
            Self::Protocol => "protocol",
            Self::Tls => "tls",
            Self::TakenOver => "taken_over",
            Self::Stalled => "stalled",
            Self::Closed => "closed",
            Self::Panicked => "panicked",
            Self::SecretUnreadable => "secret_unreadable",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure as it is told: the kind, and what happened with the likely remedy, in words. Never a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// What happened and what can be done.
    pub message: String,
}

impl Failure {
    /// A failure of `kind`, told by `message`.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// The newest failure, with its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastError {
    /// What kind of failure.
    pub kind: FailureKind,
    /// What happened and what can be done.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// Where the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionState {
    /// The settings say not to connect.
    Disabled,
    /// An attempt is under way.
    Connecting,
    /// The broker accepted the login and has answered lately.
    Connected,
    /// An attempt failed or the connection was lost; the next attempt is due at `next_attempt_at`.
    Waiting,
}

/// What works, but not as its user would wish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// A short name (`no_subscribers`, `qos_lowered`, `late_on_arrival` …).
    pub kind: &'static str,
    /// What it means and what can be done.
    pub message: String,
}
