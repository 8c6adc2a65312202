//! The MQTT settings, valid by construction.
//!
//! The settings are read from a JSON object (from the REST API, or converted from `[mqtt]` of the
//! configuration file), checked field by field, and stored as JSON. The two secrets are kept apart from the
//! rest, in types that are not printed.

pub mod provided;
pub mod revision;
mod tls;

use std::net::Ipv6Addr;

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::Value;

use crate::domain::{
    certificate,
    fields::{Fields, Invalid, bytes_within, no_control},
    topic::{TopicPrefix, is_quotation_mark, topic_name},
};

const MAX_TOPIC_BYTES: usize = 256;
const MAX_MESSAGE_BYTES: usize = 256;
const MAX_PEM_BYTES: usize = 64 * 1024;
// The maximum length of a string in MQTT 5, section 1.5.4.
const MAX_CREDENTIAL_BYTES: usize = 65_535;
const MAX_CLIENT_ID_BYTES: usize = 128;

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
    fn read(fields: &mut Fields, field: &str, max: usize) -> Self {
        if !fields.has(field) {
            return Self::Keep;
        }
        match fields.text(field) {
            None => Self::Clear,
            // A form sends an empty field if no password was entered.
            Some(text) if text.is_empty() => Self::Clear,
            Some(text) => match bytes_within(text, 1, max) {
                Ok(text) => Self::Set(SecretString::from(text)),
                Err(message) => {
                    fields.faults.push(field, message);
                    Self::Keep
                }
            },
        }
    }

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

    /// Fields that responses contain in addition to the settings. They are ignored if a client sends them
    /// back.
    const READ_ONLY: [&'static str; 6] =
        ["has_password", "has_client_key", "updated_at", "managed", "provided", "revision"];

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

    /// Reads settings from a JSON object. Absent fields get their defaults. The error reports every fault.
    pub fn read(value: Value, client_id: &str) -> Result<SettingsUpdate, Invalid> {
        let mut fields = Fields::of(value)?;
        let mut settings = Self::defaults(client_id);
        let f = &mut fields;
        set(&mut settings.enabled, f.boolean("enabled"));
        set(&mut settings.broker_host, checked(f, "broker_host", host));
        let port = narrow(f.integer("broker_port", 1, 65_535));
        settings.username =
            checked(f, "username", |t| bytes_within(t, 0, MAX_CREDENTIAL_BYTES).and_then(no_control))
                .filter(|t| !t.is_empty());
        let password = SecretUpdate::read(f, "password", MAX_CREDENTIAL_BYTES);
        set(&mut settings.protocol, checked(f, "protocol", protocol));
        set(&mut settings.transport, checked(f, "transport", transport));
        set(&mut settings.websocket_path, checked(f, "websocket_path", tls::websocket_path));
        set(&mut settings.use_tls, f.boolean("use_tls"));
        settings.ca_certificate = checked(f, "ca_certificate", tls::authorities);
        settings.client_certificate = checked(f, "client_certificate", tls::certificates);
        let client_key = SecretUpdate::read(f, "client_key", MAX_PEM_BYTES);
        settings.tls_server_name = checked(f, "tls_server_name", tls::server_name).filter(|t| !t.is_empty());
        set(&mut settings.tls_insecure, f.boolean("tls_insecure"));
        settings.broker_port = port.unwrap_or_else(|| tls::usual_port(settings.transport, settings.use_tls));
        set(&mut settings.client_id, checked(f, "client_id", client_id_text));
        set(&mut settings.keep_alive_seconds, narrow(f.integer("keep_alive_seconds", 5, 65_535)));
        set(&mut settings.connect_timeout_seconds, narrow(f.integer("connect_timeout_seconds", 1, 60)));
        set(&mut settings.wait_for_subscribers, f.boolean("wait_for_subscribers"));
        set(&mut settings.topic_prefix, checked(f, "topic_prefix", TopicPrefix::parse));
        set(&mut settings.qos, f.integer("qos", 0, 2).map(QoS::from_level));
        set(&mut settings.retain_messages, f.boolean("retain_messages"));
        set(&mut settings.message_expiry_seconds, zero_or(f, "message_expiry_seconds", 60, 604_800));
        set(&mut settings.late_after_seconds, zero_or(f, "late_after_seconds", 5, 604_800));
        set(&mut settings.max_events_per_second, narrow(f.integer("max_events_per_second", 0, 1_000_000)));
        set(&mut settings.ack_timeout_seconds, narrow(f.integer("ack_timeout_seconds", 5, 600)));
        set(&mut settings.availability_topic, checked(f, "availability_topic", availability_topic));
        set(&mut settings.birth_message, checked(f, "birth_message", message));
        set(&mut settings.will_message, checked(f, "will_message", message));
        set(&mut settings.discovery_enabled, f.boolean("discovery_enabled"));
        set(&mut settings.discovery_prefix, checked(f, "discovery_prefix", TopicPrefix::parse));
        set(&mut settings.discovery_format, checked(f, "discovery_format", discovery_format));
        set(&mut settings.activity_seconds, narrow(f.integer("activity_seconds", 5, 86_400)));
        for field in Self::READ_ONLY {
            f.take(field);
        }
        if settings.enabled && settings.broker_host.is_empty() && !f.faults.has("broker_host") {
            f.faults.push("broker_host", "must not be empty while enabled is true");
        }
        tls::check(&settings, &client_key, &mut f.faults);
        fields.finish().finish()?;
        Ok(SettingsUpdate { settings, password, client_key })
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

fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

/// Converts to a narrower integer type. `Fields::integer` has checked the bounds, so the conversion never
/// fails.
fn narrow<T: TryFrom<u64>>(value: Option<u64>) -> Option<T> {
    value.and_then(|n| T::try_from(n).ok())
}

fn checked<T>(
    fields: &mut Fields,
    field: &str,
    check: impl FnOnce(String) -> Result<T, String>,
) -> Option<T> {
    let text = fields.text(field)?;
    fields.faults.check(field, check(text))
}

fn zero_or(fields: &mut Fields, field: &str, min: u64, max: u64) -> Option<u32> {
    let n = fields.integer(field, 0, max)?;
    if n != 0 && n < min {
        fields.faults.push(field, format!("{n} is neither 0 nor a whole number from {min} to {max}"));
        return None;
    }
    narrow(Some(n))
}

/// Checks a host name or an IP address. Returns an IPv6 address without its brackets.
///
/// Common mistakes get an error that explains them: the connection would fail only later, because the name
/// cannot be resolved.
fn host(text: String) -> Result<String, String> {
    const A_HOST: &str = "must be a host name or an IP address";
    let text = text.trim();
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(format!("{A_HOST}, without {scheme}://"));
    }
    if text.contains(is_quotation_mark) {
        return Err(format!("{A_HOST}, without quotation marks"));
    }
    if text.contains('@') {
        return Err(format!("{A_HOST}, without @: the user name belongs in username"));
    }
    if text.contains(|c: char| c.is_whitespace() || c == '/' || c.is_control()) {
        return Err(format!("{A_HOST}, without spaces or /"));
    }
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (name, behind) = bracketed.unwrap_or((text, ""));
    // An IPv6 address may name the network interface: fe80::1%eth0.
    let is_v6 = name.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    if behind.starts_with(':') || (!is_v6 && name.contains(':')) {
        return Err(format!("{A_HOST}, without a port: the port belongs in broker_port"));
    }
    // Names that the system resolves may be in any language, and underscores are common.
    let is_name = |c: char| c.is_alphanumeric() || "-._".contains(c) || !c.is_ascii();
    if !behind.is_empty() || (bracketed.is_some() && !is_v6) || !(is_v6 || name.chars().all(is_name)) {
        return Err(A_HOST.to_owned());
    }
    bytes_within(name.to_owned(), 0, 255)
}

fn protocol(text: String) -> Result<Protocol, String> {
    match text.as_str() {
        "auto" => Ok(Protocol::Auto),
        "5" => Ok(Protocol::V5),
        "3.1.1" => Ok(Protocol::V311),
        _ => Err("must be \"auto\", \"5\" or \"3.1.1\"".to_owned()),
    }
}

fn transport(text: String) -> Result<Transport, String> {
    match text.as_str() {
        "tcp" => Ok(Transport::Tcp),
        "websocket" => Ok(Transport::Websocket),
        _ => Err("must be \"tcp\" or \"websocket\"".to_owned()),
    }
}

fn discovery_format(text: String) -> Result<DiscoveryFormat, String> {
    match text.as_str() {
        "device" => Ok(DiscoveryFormat::Device),
        "component" => Ok(DiscoveryFormat::Component),
        _ => Err("must be \"device\" or \"component\"".to_owned()),
    }
}

fn client_id_text(text: String) -> Result<String, String> {
    bytes_within(text, 1, MAX_CLIENT_ID_BYTES).and_then(no_control)
}

fn availability_topic(text: String) -> Result<String, String> {
    if text.is_empty() { Ok(text) } else { topic_name(text, MAX_TOPIC_BYTES) }
}

fn message(text: String) -> Result<String, String> {
    bytes_within(text, 1, MAX_MESSAGE_BYTES).and_then(no_control)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<SettingsUpdate, Invalid> {
        MqttSettings::read(value, "liveobject-00000000")
    }

    fn fault(value: Value) -> String {
        read(value).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_object_means_the_defaults() {
        let update = read(json!({})).unwrap();
        let defaults = MqttSettings::defaults("liveobject-00000000");
        assert_eq!(serde_json::to_value(&update.settings).unwrap(), serde_json::to_value(&defaults).unwrap());
        assert!(matches!(update.password, SecretUpdate::Keep));
    }

    #[test]
    fn a_response_can_be_sent_back() {
        let defaults = MqttSettings::defaults("liveobject-00000000");
        let settings = serde_json::to_value(&defaults).unwrap();
        let mut response = settings.clone();
        for field in MqttSettings::READ_ONLY {
            response[field] = json!(true);
        }
        let read_back = read(response).unwrap().settings;
        assert_eq!(serde_json::to_value(&read_back).unwrap(), settings);
    }

    #[test]
    fn every_setting_is_in_the_list_of_fields() {
        let defaults = serde_json::to_value(MqttSettings::defaults("x")).unwrap();
        let mut written: Vec<_> = defaults.as_object().unwrap().keys().cloned().collect();
        written.extend(["password".to_owned(), "client_key".to_owned()]);
        written.sort();
        let mut listed = MqttSettings::FIELDS.map(str::to_owned).to_vec();
        listed.sort();
        assert_eq!(written, listed);
    }

    #[test]
    fn each_bound_has_a_clear_error() {
        for (value, message) in [
            (json!({"qos": 3}), "qos: 3 is not a whole number from 0 to 2"),
            (json!({"broker_port": 0}), "broker_port: 0 is not a whole number from 1 to 65535"),
            (json!({"topic_prefix": "a/#"}), "topic_prefix: must not contain '#'"),
            (json!({"topic_prefix": "$a"}), "topic_prefix: must not start with $"),
            (json!({"keep_alive_seconds": 4}), "keep_alive_seconds: 4 is not a whole number from 5 to 65535"),
            (
                json!({"message_expiry_seconds": 59}),
                "message_expiry_seconds: 59 is neither 0 nor a whole number from 60 to 604800",
            ),
            (json!({"enabled": true}), "broker_host: must not be empty while enabled is true"),
            (
                json!({"broker_host": "mqtt://x"}),
                "broker_host: must be a host name or an IP address, without mqtt://",
            ),
            (
                json!({"broker_host": "broker.lan:1883"}),
                "broker_host: must be a host name or an IP address, without a port: \
                 the port belongs in broker_port",
            ),
            (
                json!({"broker_host": "\"broker.lan\""}),
                "broker_host: must be a host name or an IP address, without quotation marks",
            ),
            (
                json!({"broker_host": "me@broker.lan"}),
                "broker_host: must be a host name or an IP address, without @: \
                 the user name belongs in username",
            ),
            (
                json!({"topic_prefix": "\"cams\""}),
                "topic_prefix: must not start or end with a quotation mark",
            ),
            (json!({"birth_message": "on\u{0}"}), "birth_message: must not contain control characters"),
            (json!({"colour": 1}), "colour: unknown field"),
            (json!({"protocol": "4"}), "protocol: must be \"auto\", \"5\" or \"3.1.1\""),
        ] {
            assert_eq!(fault(value), message);
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_nothing_else() {
        for (text, host) in [
            ("broker", "broker"),
            (" homeassistant.local ", "homeassistant.local"),
            ("core_mosquitto", "core_mosquitto"),
            ("bücher.example", "bücher.example"),
            ("192.168.1.20", "192.168.1.20"),
            ("::1", "::1"),
            ("[fd00::1]", "fd00::1"),
            ("fe80::1%eth0", "fe80::1%eth0"),
            ("", ""),
        ] {
            assert_eq!(super::host(text.to_owned()).as_deref(), Ok(host), "{text}");
        }
        for text in [
            "broker:1883",
            "[::1]:1883",
            "192.168.1.20:8883",
            "broker:",
            "::1:x",
            "[broker]",
            "[::1",
            "a,b",
            "a b",
            "a/b",
            "'broker'",
            "“broker”",
            "`broker`",
            "tcp://broker",
            "u:p@broker",
            "a\u{0}b",
            "broker?",
            "<broker>",
        ] {
            assert!(super::host(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_is_kept_cleared_or_set() {
        let stored = || Some(SecretString::from("old"));
        let after = |value| {
            let password = read(value).unwrap().password.apply(stored());
            password.map(|s| s.expose_secret().to_owned())
        };
        assert_eq!(after(json!({})).as_deref(), Some("old"));
        assert_eq!(after(json!({"password": null})), None);
        assert_eq!(after(json!({"password": "new"})).as_deref(), Some("new"));
    }

    #[test]
    fn an_invalid_password_is_not_repeated_in_the_error() {
        let long = "s3cret".repeat(20_000);
        assert!(!fault(json!({"password": long})).contains("s3cret"));
    }

    #[test]
    fn secrets_are_neither_printed_nor_serialized() {
        let mut settings = MqttSettings::defaults("x");
        settings.password = Some(SecretString::from("hunter2"));
        assert!(!format!("{settings:?}").contains("hunter2"));
        assert!(!serde_json::to_string(&settings).unwrap().contains("hunter2"));
    }

    #[test]
    fn a_change_of_broker_outranks_one_of_topics_and_the_host_name_ignores_case() {
        let change = |broker_host: &str, broker_port, prefix| {
            let old = MqttSettings { broker_host: "broker".to_owned(), ..MqttSettings::defaults("c") };
            let new = MqttSettings {
                broker_host: broker_host.to_owned(),
                broker_port,
                topic_prefix: TopicPrefix::parse(prefix).unwrap(),
                qos: QoS::ExactlyOnce,
                ..old.clone()
            };
            old.change_to(&new, &["wait_for_subscribers", "qos"])
        };
        assert_eq!(change("BROKER", 1883, "liveobject"), SettingsChange::Other);
        assert_eq!(change("broker", 1883, "house"), SettingsChange::Topics);
        assert_eq!(change("other", 1883, "house"), SettingsChange::Broker);
        assert_eq!(change("broker", 1884, "liveobject"), SettingsChange::Broker);
    }

    #[test]
    fn a_change_that_needs_no_new_connection_is_recognized() {
        let old = MqttSettings::defaults("c");
        let new = MqttSettings { wait_for_subscribers: false, ..old.clone() };
        assert_eq!(old.change_to(&new, &["wait_for_subscribers"]), SettingsChange::Outbox);
        assert_eq!(old.change_to(&new, &["wait_for_subscribers", "password"]), SettingsChange::Other);
        assert_eq!(old.change_to(&old, &[]), SettingsChange::Other, "saving again connects again");
    }
}
