//! The keys of the configuration: section, name, and how the text of an environment variable is parsed.
//!
//! [`read`](super::read) validates the values.

use std::fmt;

use liveobject_actors::MqttSettings;
use serde_json::Value;

/// The beginning of variables that are meant for this program.
pub(super) const PROGRAM: &str = "LIVEOBJECT_";
/// The prefix of all variables.
pub(super) const PREFIX: &str = "LIVEOBJECT__";

pub(super) const HTTP: &str = "http";
pub(super) const DATABASE: &str = "database";
pub(super) const SECRETS: &str = "secrets";
pub(super) const OUTBOX: &str = "outbox";
pub(super) const CAMERAS: &str = "cameras";
pub(super) const PICTURES: &str = "pictures";
pub(super) const LOG: &str = "log";
pub(super) const HOME_ASSISTANT: &str = "home_assistant";
/// The section with the initial MQTT settings. Its keys are the fields of [`MqttSettings`].
pub(super) const MQTT: &str = "mqtt";

pub(super) const DATA_DIR: Key = Key::text("", "data_dir");
pub(super) const BIND: Key = Key::list(HTTP, "bind");
pub(super) const PUBLIC_URL: Key = Key::text(HTTP, "public_url");
pub(super) const ALLOWED_HOSTS: Key = Key::list(HTTP, "allowed_hosts");
pub(super) const TLS_CERTIFICATE: Key = Key::text(HTTP, "tls_certificate");
pub(super) const TLS_KEY: Key = Key::text(HTTP, "tls_key");
pub(super) const FAILED_LOGINS_PER_MINUTE: Key = Key::plain(HTTP, "failed_logins_per_minute");
pub(super) const MAX_CONNECTIONS: Key = Key::plain(HTTP, "max_connections");
pub(super) const MAX_CONNECTIONS_PER_ADDRESS: Key = Key::plain(HTTP, "max_connections_per_address");
pub(super) const MAX_RESTORE_MIB: Key = Key::plain(HTTP, "max_restore_mib");
pub(super) const INGRESS: Key = Key::text(HTTP, "ingress");
pub(super) const INGRESS_FROM: Key = Key::list(HTTP, "ingress_from");
pub(super) const TRUSTED_PROXIES: Key = Key::list(HTTP, "trusted_proxies");
pub(super) const DATABASE_URL: Key = Key::text(DATABASE, "url");
pub(super) const NODE_NAME: Key = Key::text(DATABASE, "node_name");
pub(super) const NODE_URL: Key = Key::text(DATABASE, "node_url");
pub(super) const IDENTITY_FILE: Key = Key::text(SECRETS, "identity_file");
pub(super) const RECIPIENTS: Key = Key::list(SECRETS, "recipients");
pub(super) const MAX_PENDING: Key = Key::plain(OUTBOX, "max_pending");
pub(super) const WINDOW: Key = Key::plain(OUTBOX, "window");
pub(super) const RETENTION_DAYS: Key = Key::plain(OUTBOX, "retention_days");
pub(super) const TIME_ZONE: Key = Key::text(CAMERAS, "time_zone");
pub(super) const MAX_CAMERAS: Key = Key::plain(CAMERAS, "max");
pub(super) const MAX_PICTURE_BYTES: Key = Key::plain(PICTURES, "max_bytes");
pub(super) const MAX_PUBLISHED_PICTURE_BYTES: Key = Key::plain(PICTURES, "max_picture_bytes");
pub(super) const LOG_FORMAT: Key = Key::text(LOG, "format");
pub(super) const LOG_FILTER: Key = Key::text(LOG, "filter");

pub(super) const APP_DIR: Key = Key::text(HOME_ASSISTANT, "app_dir");
pub(super) const SUPERVISOR_URL: Key = Key::text(HOME_ASSISTANT, "supervisor_url");

// Not fields of [`MqttSettings`]: these determine where the settings come from.
pub(super) const MANAGED: Key = Key::plain(MQTT, "managed");
pub(super) const SOURCE: Key = Key::text(MQTT, "source");

/// Not a field of [`MqttSettings`]: addresses that the search for brokers tries.
pub(super) const CANDIDATES: Key = Key::list(MQTT, "candidates");

const KEYS: [Key; 32] = [
    DATA_DIR,
    BIND,
    PUBLIC_URL,
    ALLOWED_HOSTS,
    TLS_CERTIFICATE,
    TLS_KEY,
    FAILED_LOGINS_PER_MINUTE,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_ADDRESS,
    MAX_RESTORE_MIB,
    INGRESS,
    INGRESS_FROM,
    TRUSTED_PROXIES,
    DATABASE_URL,
    NODE_NAME,
    NODE_URL,
    IDENTITY_FILE,
    RECIPIENTS,
    MAX_PENDING,
    WINDOW,
    RETENTION_DAYS,
    TIME_ZONE,
    MAX_CAMERAS,
    MAX_PICTURE_BYTES,
    MAX_PUBLISHED_PICTURE_BYTES,
    LOG_FORMAT,
    LOG_FILTER,
    APP_DIR,
    SUPERVISOR_URL,
    MANAGED,
    SOURCE,
    CANDIDATES,
];

/// How the text of an environment variable is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// As a string, unchanged.
    Text,
    /// As a TOML list, or as strings separated by commas.
    List,
    /// As a TOML value.
    Plain,
}

/// One key of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    /// Empty for a key outside of all sections.
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

impl Key {
    const fn text(section: &'static str, name: &'static str) -> Self {
        Self { section, name, kind: Kind::Text }
    }

    const fn list(section: &'static str, name: &'static str) -> Self {
        Self { section, name, kind: Kind::List }
    }

    const fn plain(section: &'static str, name: &'static str) -> Self {
        Self { section, name, kind: Kind::Plain }
    }

    /// Returns the name of the environment variable that sets this key.
    pub(super) fn variable(self) -> String {
        let Self { section, name, .. } = self;
        let separator = if section.is_empty() { "" } else { "__" };
        PREFIX.to_owned() + &format!("{section}{separator}{name}").to_uppercase()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&dotted(self.section, self.name))
    }
}

/// Returns `section.name`, or `name` outside of all sections.
pub(super) fn dotted(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

/// Returns the key that a misspelt variable probably means: one whose variable differs only in underscores and
/// case.
pub(super) fn similar(keys: &[Key], variable: &str) -> Option<Key> {
    let letters = |name: &str| name.replace('_', "").to_uppercase();
    let meant = letters(variable);
    keys.iter().copied().find(|key| letters(&key.variable()) == meant)
}

/// Returns all keys, including those of the MQTT settings.
pub(super) fn all() -> Vec<Key> {
    let defaults = serde_json::to_value(MqttSettings::defaults("")).unwrap_or_default();
    let key = |name| match &defaults[name] {
        Value::Bool(_) | Value::Number(_) => Key::plain(MQTT, name),
        // Settings without a default and secrets are strings too.
        _ => Key::text(MQTT, name),
    };
    KEYS.into_iter().chain(MqttSettings::FIELDS.map(key)).collect()
}
