//! The MQTT settings, valid by construction.
//!
//! The settings are read from a JSON object (from the REST API, or converted from `[mqtt]` of the
//! configuration file), checked field by field, and stored as JSON. The two secrets are kept apart from the
//! rest, in types that are not printed.

pub mod provided;
mod read;
pub mod revision;
mod tls;

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use crate::domain::{certificate, fields::Invalid, topic::TopicPrefix};

// The maximum length of a string in MQTT 5, section 1.5.4.
const MAX_CREDENTIAL_BYTES: usize = 65_535;

/// The MQTT version to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Protocol {
    /// MQTT 5, or 3.1.1 if the broker rejects version 5.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// MQTT 5 only.
    #[serde(rename = "5")]
    V5,
    /// MQTT 3.1.1 only.
    #[serde(rename = "3.1.1")]
    V311,
}

/// The transport that carries MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// A TCP connection, plain or with TLS.
    #[default]
    Tcp,
    /// A WebSocket, plain or with TLS.
    Websocket,
}

/// MQTT's quality of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum QoS {
    /// At most once: complete when the message has been written to the socket.
    AtMostOnce,
    /// At least once: complete when the broker has acknowledged the message.
    #[default]
    AtLeastOnce,
    /// Exactly once, within one session.
    ExactlyOnce,
}

impl QoS {
    /// Returns 0, 1 or 2.
    pub fn level(self) -> u8 {
        match self {
            Self::AtMostOnce => 0,
            Self::AtLeastOnce => 1,
            Self::ExactlyOnce => 2,
        }
    }

    /// Returns the QoS of a level. Levels above 2 become 2.
    pub fn from_level(level: u64) -> Self {
        match level {
            0 => Self::AtMostOnce,
            1 => Self::AtLeastOnce,
            _ => Self::ExactlyOnce,
        }
    }
}

impl Serialize for QoS {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.level())
    }
}

/// How Home Assistant discovery is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum DiscoveryFormat {
    /// One message per device (Home Assistant 2024.11 and newer).
    #[default]
    Device,
    /// One message per entity.
    Component,
}

/// The part of a change to the settings that other actors react to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingsChange {
    /// The broker's host or port differs.
    Broker,
    /// The broker is the same, but the topic prefix differs.
    Topics,
    /// Only settings differ that apply without a new connection.
    Outbox,
    /// Others differ. Also sent at startup, when nothing has changed yet.
    Other,
}

/// The MQTT settings. The serialized form contains everything except the two secrets, in the documented
/// order.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[expect(clippy::struct_excessive_bools, reason = "each is a documented setting")]
pub struct MqttSettings {
    /// Whether to connect to the broker.
    pub enabled: bool,
    /// A host name or an IP address, 1–255 bytes. May be empty unless `enabled` is set.
    #[cfg_attr(feature = "openapi", schema(max_length = 255, example = "homeassistant.local"))]
    pub broker_host: String,
    /// 1–65535.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 65535))]
    pub broker_port: u16,
    /// The user name for the broker.
    #[cfg_attr(feature = "openapi", schema(required = true, max_length = 65535))]
    pub username: Option<String>,
    /// The password for the broker.
    #[serde(skip)]
    pub password: Option<SecretString>,
    /// The MQTT version to use.
    pub protocol: Protocol,
    /// The transport that carries MQTT.
    pub transport: Transport,
    /// The path of the WebSocket's URL.
    #[cfg_attr(
        feature = "openapi",
        schema(min_length = 1, max_length = 256, pattern = "^/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*$")
    )]
    pub websocket_path: String,
    /// Whether to encrypt the connection.
    pub use_tls: bool,
    /// The certificate authorities (PEM) to trust instead of the system's.
    #[cfg_attr(feature = "openapi", schema(required = true, min_length = 1, max_length = 65536))]
    pub ca_certificate: Option<String>,
    /// Our certificate (PEM), for brokers that require one.
    #[cfg_attr(feature = "openapi", schema(required = true, min_length = 1, max_length = 65536))]
    pub client_certificate: Option<String>,
    /// The private key of our certificate (PEM).
    #[serde(skip)]
    pub client_key: Option<SecretString>,
    /// The name that the broker's certificate must contain, if it is not `broker_host`.
    #[cfg_attr(feature = "openapi", schema(required = true, max_length = 255))]
    pub tls_server_name: Option<String>,
    /// Whether to skip verification of the broker's certificate.
    pub tls_insecure: bool,
    /// 1–128 bytes, generated once per installation.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 128))]
    pub client_id: String,
    /// 5–65535.
    #[cfg_attr(feature = "openapi", schema(minimum = 5, maximum = 65535))]
    pub keep_alive_seconds: u16,
    /// 1–60.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 60))]
    pub connect_timeout_seconds: u16,
    /// Whether live events wait while a subscriber is away that was on this broker before.
    pub wait_for_subscribers: bool,
    /// The prefix of all topics.
    #[cfg_attr(
        feature = "openapi",
        schema(value_type = String, min_length = 1, max_length = 100, pattern = "^[^+#$/ \"'`]([^+#]*[^+#/ \"'`])?$")
    )]
    pub topic_prefix: TopicPrefix,
    /// The QoS of events.
    #[cfg_attr(feature = "openapi", schema(value_type = u8, minimum = 0, maximum = 2))]
    pub qos: QoS,
    /// Whether events are retained. State is always retained.
    pub retain_messages: bool,
    /// How long a broker may keep an event for a subscriber: 0 (forever) or 60–604800. Needs MQTT 5.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 604_800))]
    pub message_expiry_seconds: u32,
    /// The age at which an event counts as late: 0 (never) or 5–604800.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 604_800))]
    pub late_after_seconds: u32,
    /// The maximum rate at which events are published. 0 means no limit.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 1_000_000))]
    pub max_events_per_second: u32,
    /// The maximum time without an acknowledgement while events are in flight: 5–600.
    #[cfg_attr(feature = "openapi", schema(minimum = 5, maximum = 600))]
    pub ack_timeout_seconds: u16,
    /// The availability topic. If empty, `{prefix}/status` is used.
    #[cfg_attr(feature = "openapi", schema(max_length = 256))]
    pub availability_topic: String,
    /// The message on the availability topic while we are connected.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 256))]
    pub birth_message: String,
    /// The message on the availability topic while we are not connected.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 256))]
    pub will_message: String,
    /// Whether to publish Home Assistant discovery.
    pub discovery_enabled: bool,
    /// The topic prefix on which Home Assistant listens for discovery.
    #[cfg_attr(
        feature = "openapi",
        schema(value_type = String, min_length = 1, max_length = 100, pattern = "^[^+#$/ \"'`]([^+#]*[^+#/ \"'`])?$")
    )]
    pub discovery_prefix: TopicPrefix,
    /// How discovery is published.
    pub discovery_format: DiscoveryFormat,
    /// How long a camera's activity remains `ON` after an event: 5–86400.
    #[cfg_attr(feature = "openapi", schema(minimum = 5, maximum = 86400))]
    pub activity_seconds: u32,
}

/// The change to a secret in a settings update.
#[derive(Debug, Clone)]
pub enum SecretUpdate {
    /// The field is absent: the stored secret is kept.
    Keep,
    /// The field is `null`: the stored secret is removed.
    Clear,
    /// The field contains a new secret.
    Set(SecretString),
}

impl SecretUpdate {
    /// Returns the secret after this change.
    pub fn apply(self, stored: Option<SecretString>) -> Option<SecretString> {
        match self {
            Self::Keep => stored,
            Self::Clear => None,
            Self::Set(secret) => Some(secret),
        }
    }
}

/// A settings update: valid, but its secrets may have to be taken from the stored settings.
#[derive(Debug, Clone)]
pub struct SettingsUpdate {
    /// The settings. Both secrets are `None`.
    pub settings: MqttSettings,
    /// The change to the password.
    pub password: SecretUpdate,
    /// The change to the client key.
    pub client_key: SecretUpdate,
}

impl SettingsUpdate {
    /// Returns the update with this password, or with none.
    pub fn with_password(self, password: Option<SecretString>) -> Result<Self, Invalid> {
        let password = match password {
            Some(password) if password.expose_secret().len() > MAX_CREDENTIAL_BYTES => {
                return Err(Invalid::one(
                    "password",
                    format!("must have at most {MAX_CREDENTIAL_BYTES} bytes"),
                ));
            }
            Some(password) if !password.expose_secret().is_empty() => SecretUpdate::Set(password),
            Some(_) | None => SecretUpdate::Clear,
        };
        Ok(Self { password, ..self })
    }
}

impl MqttSettings {
    /// The names of all settings that can be written, including the secrets.
    pub const FIELDS: [&'static str; 32] = [
        "enabled",
        "broker_host",
        "broker_port",
        "username",
        "password",
        "protocol",
        "transport",
        "websocket_path",
        "use_tls",
        "ca_certificate",
        "client_certificate",
        "client_key",
        "tls_server_name",
        "tls_insecure",
        "client_id",
        "keep_alive_seconds",
        "connect_timeout_seconds",
        "wait_for_subscribers",
        "topic_prefix",
        "qos",
        "retain_messages",
        "message_expiry_seconds",
        "late_after_seconds",
        "max_events_per_second",
        "ack_timeout_seconds",
        "availability_topic",
        "birth_message",
        "will_message",
        "discovery_enabled",
        "discovery_prefix",
        "discovery_format",
        "activity_seconds",
    ];

    /// Returns the settings of a new installation. `client_id` is generated once and kept.
    pub fn defaults(client_id: &str) -> Self {
        let prefix = |text: &str| TopicPrefix::parse(text).expect("the default prefixes are valid");
        Self {
            enabled: false,
            broker_host: String::new(),
            broker_port: 1883,
            username: None,
            password: None,
            protocol: Protocol::default(),
            transport: Transport::default(),
            websocket_path: "/mqtt".to_owned(),
            use_tls: false,
            ca_certificate: None,
            client_certificate: None,
            client_key: None,
            tls_server_name: None,
            tls_insecure: false,
            client_id: client_id.to_owned(),
            keep_alive_seconds: 25,
            connect_timeout_seconds: 10,
            wait_for_subscribers: true,
            topic_prefix: prefix("liveobject"),
            qos: QoS::default(),
            retain_messages: false,
            message_expiry_seconds: 0,
            late_after_seconds: 300,
            max_events_per_second: 0,
            ack_timeout_seconds: 30,
            availability_topic: String::new(),
            birth_message: "online".to_owned(),
            will_message: "offline".to_owned(),
            discovery_enabled: true,
            discovery_prefix: prefix("homeassistant"),
            discovery_format: DiscoveryFormat::default(),
            activity_seconds: 300,
        }
    }

    /// Generates a client id for a new installation: `liveobject-` and 8 hex digits.
    pub fn new_client_id() -> String {
        format!("liveobject-{:08x}", rand::random::<u32>())
    }

    /// Returns the topic on which `birth_message` and `will_message` are published.
    pub fn availability_topic(&self) -> String {
        if self.availability_topic.is_empty() {
            self.topic_prefix.status()
        } else {
            self.availability_topic.clone()
        }
    }

    /// Returns `host:port`, with brackets around an IPv6 address.
    pub fn broker(&self) -> String {
        if self.broker_host.contains(':') {
            format!("[{}]:{}", self.broker_host, self.broker_port)
        } else {
            format!("{}:{}", self.broker_host, self.broker_port)
        }
    }

    /// Returns whether `broker` (`host:port`) is the broker of these settings.
    pub fn is_broker(&self, broker: &str) -> bool {
        self.broker().eq_ignore_ascii_case(broker)
    }

    /// The names of the settings that apply without a new connection.
    const WITHOUT_RECONNECT: [&'static str; 1] = ["wait_for_subscribers"];

    /// Returns what changes when `new` replaces `self`, which differs in these fields.
    pub fn change_to(&self, new: &Self, changed: &[&str]) -> SettingsChange {
        let needs_no_connection = |field: &&str| Self::WITHOUT_RECONNECT.contains(field);
        if !changed.is_empty() && changed.iter().all(needs_no_connection) {
            SettingsChange::Outbox
        } else if !new.is_broker(&self.broker()) {
            SettingsChange::Broker
        } else if self.topic_prefix != new.topic_prefix {
            SettingsChange::Topics
        } else {
            SettingsChange::Other
        }
    }

    /// Returns whether a secret that is stored for `self` may be sent to the destination of `other`: host,
    /// port, user and TLS settings must be the same, so that nobody can redirect the secret to another
    /// server. Our own certificate has no influence on who the server is, and it is renewed regularly.
    pub fn same_destination(&self, other: &Self) -> bool {
        self.destination_changes(other).is_empty()
    }

    /// Returns the names of the settings because of which a secret that is stored for `self` must not be sent to the
    /// destination of `other`. See [`same_destination`](Self::same_destination).
    pub fn destination_changes(&self, other: &Self) -> Vec<&'static str> {
        let (ca, other_ca) = (self.ca_certificate.as_deref(), other.ca_certificate.as_deref());
        let changes = [
            ("broker_host", self.broker_host != other.broker_host),
            ("broker_port", self.broker_port != other.broker_port),
            ("username", self.username != other.username),
            ("transport", self.transport != other.transport),
            ("websocket_path", self.websocket_path != other.websocket_path),
            ("use_tls", self.use_tls != other.use_tls),
            ("ca_certificate", !same_certificates(ca, other_ca)),
            ("tls_server_name", self.tls_server_name != other.tls_server_name),
            ("tls_insecure", self.tls_insecure != other.tls_insecure),
        ];
        changes.into_iter().filter_map(|(name, has_changed)| has_changed.then_some(name)).collect()
    }

    /// Returns whether the client key that is stored for `self` may still belong to the client certificate of
    /// `other`: the certificate is the same or was renewed for the same key, or there is none to compare.
    pub fn keeps_client_key(&self, other: &Self) -> bool {
        match (&self.client_certificate, &other.client_certificate) {
            (Some(one), Some(other)) => one == other || certificate::have_same_key(one, other),
            _ => true,
        }
    }

    /// Returns the password in plain text. Only the code that passes it to the MQTT client may call this.
    pub(crate) fn exposed_password(&self) -> Option<&str> {
        self.password.as_ref().map(ExposeSecret::expose_secret)
    }

    /// Returns the client key in plain text. Only the code that passes it to TLS may call this.
    pub(crate) fn exposed_client_key(&self) -> Option<&str> {
        self.client_key.as_ref().map(ExposeSecret::expose_secret)
    }
}

fn same_certificates(one: Option<&str>, other: Option<&str>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => certificate::are_same(one, other),
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests;
