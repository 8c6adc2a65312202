//! Reads the settings from JSON, field by field.

use std::net::Ipv6Addr;

use secrecy::SecretString;
use serde_json::Value;

use super::{
    DiscoveryFormat, MAX_CREDENTIAL_BYTES, MqttSettings, Protocol, QoS, SecretUpdate, SettingsUpdate,
    Transport, tls,
};
use crate::domain::{
    fields::{Fields, Invalid, bytes_within, no_control},
    topic::{TopicPrefix, is_quotation_mark, topic_name},
};

pub(super) const MAX_TOPIC_BYTES: usize = 256;
const MAX_MESSAGE_BYTES: usize = 256;
pub(super) const MAX_PEM_BYTES: usize = 64 * 1024;
const MAX_CLIENT_ID_BYTES: usize = 128;

impl MqttSettings {
    /// Fields that responses contain in addition to the settings. They are ignored if a client sends them
    /// back.
    pub(super) const READ_ONLY: [&'static str; 6] =
        ["has_password", "has_client_key", "updated_at", "managed", "provided", "revision"];

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
pub(super) fn host(text: String) -> Result<String, String> {
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
