//! The MQTT settings, as they are written and as they are answered.

use std::borrow::Cow;

use serde::Deserialize;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type, schema::SchemaType},
};

/// Which MQTT to speak.
#[derive(Deserialize, ToSchema)]
pub(in crate::http) enum Protocol {
    #[serde(rename = "auto")]
    Auto,
    #[serde(rename = "5")]
    V5,
    #[serde(rename = "3.1.1")]
    V311,
}

/// What carries MQTT.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::http) enum Transport {
    Tcp,
    Websocket,
}

/// How Home Assistant discovery is published.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::http) enum DiscoveryFormat {
    Device,
    Component,
}

/// MQTT settings. A field that is left out takes its default; a secret that is left out is kept.
#[derive(Deserialize, ToSchema)]
#[schema(as = MqttSettingsInput)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of the contract")]
pub(in crate::http) struct SettingsInput {
    /// Connect at all.
    #[schema(required = false, default = false)]
    enabled: bool,
    /// A name or an address; may be empty while not enabled.
    #[schema(required = false, max_length = 255, default = "", example = "homeassistant.local")]
    broker_host: String,
    /// When it is left out, the usual one: 1883, with TLS 8883; for WebSockets 80, with TLS 443.
    #[schema(required = false, minimum = 1, maximum = 65535, default = 1883)]
    broker_port: u16,
    #[schema(max_length = 65535, default = json!(null))]
    username: Option<String>,
    /// Absent: the stored one is kept; `null`: cleared. Never answered.
    #[schema(max_length = 65535, write_only)]
    password: Option<String>,
    /// `auto`: MQTT 5, or 3.1.1 where the broker refuses 5; it is asked for 5 again a day later, when the settings change,
    /// and at the start.
    #[schema(required = false, default = "auto")]
    protocol: Protocol,
    /// `websocket` for a broker behind a web proxy.
    #[schema(required = false, default = "tcp")]
    transport: Transport,
    #[schema(
        required = false,
        min_length = 1,
        max_length = 256,
        pattern = "^/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*$",
        default = "/mqtt"
    )]
    websocket_path: String,
    /// Encrypt the connection; what is given for TLS below is refused without it.
    #[schema(required = false, default = false)]
    use_tls: bool,
    /// Trust these authorities (PEM) instead of the system's; a self-signed certificate is its own authority.
    #[schema(min_length = 1, max_length = 65536, default = json!(null))]
    ca_certificate: Option<String>,
    /// Our certificate (PEM), with its chain, for brokers that want one; only together with its key.
    #[schema(min_length = 1, max_length = 65536, default = json!(null))]
    client_certificate: Option<String>,
    /// The key of our certificate (PEM: PKCS#8, PKCS#1 or SEC1, without passphrase). Absent: the stored one is kept; `null`: cleared. Never answered.
    #[schema(max_length = 65536, write_only)]
    client_key: Option<String>,
    /// The name that the broker's certificate must have, when it is not `broker_host`.
    #[schema(max_length = 255, default = json!(null))]
    tls_server_name: Option<String>,
    /// Do not verify the broker's certificate. Status and log warn of it.
    #[schema(required = false, default = false)]
    tls_insecure: bool,
    /// Made once per installation when absent.
    #[schema(required = false, min_length = 1, max_length = 128)]
    client_id: String,
    #[schema(required = false, minimum = 5, maximum = 65535, default = 60)]
    keep_alive_seconds: u16,
    #[schema(required = false, minimum = 1, maximum = 60, default = 10)]
    connect_timeout_seconds: u16,
    /// The start of all topics: no `+`, `#` or control characters, no `/` at either end, no `$` first.
    #[schema(
        required = false,
        min_length = 1,
        max_length = 100,
        pattern = "^[^+#$/]([^+#]*[^+#/])?$",
        default = "liveobject"
    )]
    topic_prefix: String,
    /// Of events.
    #[schema(required = false, minimum = 0, maximum = 2, default = 1)]
    qos: u8,
    /// Whether brokers keep events for later subscribers; state is always kept.
    #[schema(required = false, default = false)]
    retain_messages: bool,
    /// How long a broker may keep an event for a subscriber (MQTT 5): 0 (for ever) or 60–604800.
    #[schema(required = false, minimum = 0, maximum = 604_800, default = 0)]
    message_expiry_seconds: u32,
    /// From when an event counts as late and goes to `history`: 0 (never) or 5–604800.
    #[schema(required = false, minimum = 0, maximum = 604_800, default = 300)]
    late_after_seconds: u32,
    /// Events leave no faster; 0: no limit.
    #[schema(required = false, minimum = 0, maximum = 1_000_000, default = 0)]
    max_events_per_second: u32,
    /// How long a broker may acknowledge nothing while events are in flight.
    #[schema(required = false, minimum = 5, maximum = 600, default = 30)]
    ack_timeout_seconds: u16,
    /// Empty: `{prefix}/status`.
    #[schema(required = false, max_length = 256, default = "")]
    availability_topic: String,
    #[schema(required = false, min_length = 1, max_length = 256, default = "online")]
    birth_message: String,
    #[schema(required = false, min_length = 1, max_length = 256, default = "offline")]
    will_message: String,
    /// Publish Home Assistant discovery.
    #[schema(required = false, default = true)]
    discovery_enabled: bool,
    #[schema(
        required = false,
        min_length = 1,
        max_length = 100,
        pattern = "^[^+#$/]([^+#]*[^+#/])?$",
        default = "homeassistant"
    )]
    discovery_prefix: String,
    /// One message a device (Home Assistant 2024.11 and newer), or one an entity.
    #[schema(required = false, default = "device")]
    discovery_format: DiscoveryFormat,
    /// How long a camera's activity stays ON after an event.
    #[schema(required = false, minimum = 5, maximum = 86400, default = 300)]
    activity_seconds: u32,
}

/// The settings as they are answered: what can be written, without the secrets.
pub(in crate::http) struct Settings;

impl ToSchema for Settings {
    fn name() -> Cow<'static, str> {
        "MqttSettings".into()
    }
}

impl PartialSchema for Settings {
    fn schema() -> RefOr<Schema> {
        let mut answered = match SettingsInput::schema() {
            RefOr::T(Schema::Object(written)) => written,
            other => return other,
        };
        for secret in ["password", "client_key"] {
            answered.properties.remove(secret);
        }
        for shown in ["has_password", "has_client_key"] {
            answered
                .properties
                .insert(shown.to_owned(), ObjectBuilder::new().schema_type(Type::Boolean).into());
        }
        let updated_at = ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("`null` for defaults"));
        answered.properties.insert("updated_at".to_owned(), updated_at.into());
        answered.required = answered.properties.keys().cloned().collect();
        answered.additional_properties = None;
        answered.description = Some("The MQTT settings, without the secrets".to_owned());
        RefOr::T(Schema::Object(answered))
    }
}
