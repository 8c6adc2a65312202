//! The connection's status: one vocabulary for the API, the logs and the metrics.

use std::fmt;

use serde::Serialize;

use crate::domain::clock::Timestamp;

/// The machine-readable cause of a failed or ended connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The broker's name cannot be resolved.
    NameNotFound,
    /// There is no route to the broker's network.
    Unreachable,
    /// The broker did not answer in time.
    Timeout,
    /// Nothing listens on the broker's port, or the broker refused the connection.
    Refused,
    /// The broker temporarily accepts no more messages.
    Busy,
    /// The broker does not accept the user name and password.
    BadCredentials,
    /// The broker does not allow this login or action.
    NotAuthorized,
    /// The server does not speak MQTT, or not the expected version.
    Protocol,
    /// The TLS connection could not be established.
    Tls,
    /// Another client connected with the same client id.
    TakenOver,
    /// The broker stayed connected, but acknowledged nothing for too long.
    Stalled,
    /// The connection was closed or lost.
    Closed,
    /// A bug in this program ended the connection.
    Panicked,
    /// A stored secret cannot be decrypted with the current identity.
    SecretUnreadable,
    /// Home Assistant's Supervisor should provide the broker, and does not.
    BrokerNotProvided,
    /// The broker accepted the login, but the database did not confirm that this node owns the event log.
    NotConfirmed,
}

impl FailureKind {
    /// All kinds, for parsing.
    pub const ALL: [Self; 16] = [
        Self::NameNotFound,
        Self::Unreachable,
        Self::Timeout,
        Self::Refused,
        Self::Busy,
        Self::BadCredentials,
        Self::NotAuthorized,
        Self::Protocol,
        Self::Tls,
        Self::TakenOver,
        Self::Stalled,
        Self::Closed,
        Self::Panicked,
        Self::SecretUnreadable,
        Self::BrokerNotProvided,
        Self::NotConfirmed,
    ];

    /// Parses the name of a kind; `None` if there is none of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Returns the kind's name in the API, the logs and the metrics.
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
            Self::BrokerNotProvided => "broker_not_provided",
            Self::NotConfirmed => "not_confirmed",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure that is reported to users: its kind, and a message that explains the cause and how to fix it. It
/// never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Its kind.
    pub kind: FailureKind,
    /// What happened, and how to fix it.
    pub message: String,
}

impl Failure {
    /// Creates a failure of this kind with this message.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// The latest failure, with its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LastError {
    /// Its kind.
    pub kind: FailureKind,
    /// What happened, and how to fix it.
    pub message: String,
    /// When it happened.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
}

/// The connection state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ConnectionState {
    /// The connection is disabled in the settings.
    Disabled,
    /// A connection attempt is in progress.
    Connecting,
    /// The broker accepted the login and responds.
    Connected,
    /// An attempt failed or the connection was lost. The next attempt is due at `next_attempt_at`.
    Waiting,
}

/// The machine-readable cause of a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    /// The broker has recently accepted events to whose topics nobody subscribed.
    NoSubscribers,
    /// Live events wait for a subscriber that was there before.
    WaitingForSubscriber,
    /// An event was old when it arrived.
    LateOnArrival,
    /// A camera was not registered, because the maximum number of cameras is reached.
    TooManyCameras,
    /// The wall clock of the machine was set.
    ClockJumped,
    /// The database cannot be written to, so that no events are accepted.
    DatabaseUnavailable,
    /// The disk of the database is almost full.
    DiskAlmostFull,
    /// A standby of the database server can lack events that were accepted.
    DatabaseAsynchronous,
    /// A node that could take over is away.
    NodeAway,
    /// A node cannot decrypt the settings.
    NodeUnable,
    /// A node cannot decrypt the keys that the nodes share.
    NodeKeysDiffer,
    /// The clock of a node differs from that of the database server.
    NodeClockDiffers,
    /// Events in the database are damaged.
    EventsUnreadable,
    /// Events are missing in the database.
    EventsMissing,
    /// The database is older than the one that was used last.
    DatabaseRestored,
    /// A backup waits until the service is restarted, and is then restored.
    RestoreWaiting,
    /// A backup could not be restored at the start.
    RestoreFailed,
    /// The file with the last seq cannot be written.
    SeqFileFailed,
    /// The broker does not support the configured QoS.
    QosLowered,
    /// The broker does not support retained messages.
    RetainUnavailable,
    /// Another client connects with the same client id.
    ClientIdTakenOver,
    /// Somebody else publishes to the availability topic.
    AvailabilityOverwritten,
    /// The broker's certificate is not verified.
    TlsInsecure,
    /// A certificate has expired or expires soon.
    CertificateExpires,
    /// The configuration contains MQTT settings that differ from the stored ones, which are in effect.
    SettingsIgnored,
    /// A client has the maximum number of HTTP connections open, or all connections are in use.
    TooManyConnections,
    /// The broker does not allow messages on a topic, such as the availability, discovery or events.
    TopicRefused,
    /// The broker acknowledges the availability with MQTT 3.1.1, but does not deliver it back.
    TopicUnconfirmed,
    /// Messages are left out because the broker ends the connection over them or does not acknowledge them.
    MessagesLeftOut,
    /// Home Assistant's Supervisor should provide the broker, and does not.
    BrokerNotProvided,
}

impl WarningKind {
    /// Returns the kind's name in the API and the logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSubscribers => "no_subscribers",
            Self::WaitingForSubscriber => "waiting_for_subscriber",
            Self::LateOnArrival => "late_on_arrival",
            Self::TooManyCameras => "too_many_cameras",
            Self::ClockJumped => "clock_jumped",
            Self::DatabaseUnavailable => "database_unavailable",
            Self::DiskAlmostFull => "disk_almost_full",
            Self::DatabaseAsynchronous => "database_asynchronous",
            Self::NodeAway => "node_away",
            Self::NodeUnable => "node_unable",
            Self::NodeKeysDiffer => "node_keys_differ",
            Self::NodeClockDiffers => "node_clock_differs",
            Self::EventsUnreadable => "events_unreadable",
            Self::EventsMissing => "events_missing",
            Self::DatabaseRestored => "database_restored",
            Self::RestoreWaiting => "restore_waiting",
            Self::RestoreFailed => "restore_failed",
            Self::SeqFileFailed => "seq_file_failed",
            Self::QosLowered => "qos_lowered",
            Self::RetainUnavailable => "retain_unavailable",
            Self::ClientIdTakenOver => "client_id_taken_over",
            Self::AvailabilityOverwritten => "availability_overwritten",
            Self::TlsInsecure => "tls_insecure",
            Self::CertificateExpires => "certificate_expires",
            Self::SettingsIgnored => "settings_ignored",
            Self::TooManyConnections => "too_many_connections",
            Self::TopicRefused => "topic_refused",
            Self::TopicUnconfirmed => "topic_unconfirmed",
            Self::MessagesLeftOut => "messages_left_out",
            Self::BrokerNotProvided => "broker_not_provided",
        }
    }
}

impl fmt::Display for WarningKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A condition under which the service works, but not as configured or expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Warning {
    /// Its kind.
    pub kind: WarningKind,
    /// What it means, and what to do.
    pub message: String,
    /// Grows when the condition gets clearly worse, for example each time that a number doubles. It can only be
    /// compared with that of another warning of the same kind.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub severity: u64,
}

impl Warning {
    /// Creates a warning about a condition that does not get worse.
    pub fn new(kind: WarningKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), severity: 0 }
    }

    /// Returns this warning with a severity.
    #[must_use]
    pub fn with_severity(self, severity: u64) -> Self {
        Self { severity, ..self }
    }
}

/// Returns the severity of a number, the higher the worse: it grows each time that the number doubles.
pub fn severity_of(number: u64) -> u64 {
    u64::from(u64::BITS - number.leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_severity_of_a_number_grows_when_it_doubles() {
        assert_eq!([0, 1, 2, 3, 4, 7, 8].map(severity_of), [0, 1, 2, 2, 3, 3, 4]);
        assert_eq!(severity_of(u64::MAX), 64);
    }

    #[test]
    fn a_warning_kind_has_the_same_name_in_the_logs_and_in_json() {
        use WarningKind as K;
        for kind in [
            K::NoSubscribers,
            K::WaitingForSubscriber,
            K::LateOnArrival,
            K::TooManyCameras,
            K::ClockJumped,
            K::DatabaseUnavailable,
            K::DiskAlmostFull,
            K::DatabaseAsynchronous,
            K::NodeAway,
            K::NodeUnable,
            K::NodeKeysDiffer,
            K::NodeClockDiffers,
            K::EventsUnreadable,
            K::EventsMissing,
            K::DatabaseRestored,
            K::RestoreWaiting,
            K::RestoreFailed,
            K::SeqFileFailed,
            K::QosLowered,
            K::RetainUnavailable,
            K::ClientIdTakenOver,
            K::AvailabilityOverwritten,
            K::TlsInsecure,
            K::CertificateExpires,
            K::SettingsIgnored,
            K::TooManyConnections,
            K::TopicRefused,
            K::TopicUnconfirmed,
            K::MessagesLeftOut,
            K::BrokerNotProvided,
        ] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
