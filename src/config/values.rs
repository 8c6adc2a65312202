//! The values of the configuration, their defaults, and the options derived from them.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;
use liveobject_actors::{
    Invalid, MqttSettings, ServiceOptions,
    config::{GivenIdentity, identity::PublicKey},
    domain::{calendar::Calendar, link_key::LinkKey},
};
use secrecy::{SecretString, zeroize::Zeroize};
use serde_json::{Map, Value};

use super::fingerprint::Fingerprint;
use crate::{
    finder::BrokerAddress,
    http::{FAILED_LOGINS, Limits, tls::TlsFiles},
    telemetry::Log,
    token::ApiToken,
};

/// The port of the API and the page, unless configured.
pub const DEFAULT_PORT: u16 = 8080;

/// Home Assistant's Supervisor, which forwards the requests of ingress, has this address in its apps' network.
const SUPERVISOR: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 30, 32, 2));

/// The name and port of the Supervisor in that network.
const SUPERVISOR_NAME: &str = "supervisor:80";

/// Default of [`Http::max_restore_mib`].
const DEFAULT_MAX_RESTORE_MIB: u64 = 16 * 1024;

const DEFAULT_BIND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT);

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that was read, or `None` if there is none.
    pub file: Option<PathBuf>,
    /// The directory for the database, the identity, the API token and the lock.
    pub data_dir: PathBuf,
    /// `[http]`
    pub http: Http,
    /// `[database]`
    pub database: Database,
    /// `[secrets]`
    pub secrets: Secrets,
    /// `[outbox]`
    pub outbox: Outbox,
    /// `[cameras]`
    pub cameras: Cameras,
    /// `[pictures]`
    pub pictures: Pictures,
    /// `[log]`
    pub log: Log,
    /// `[mqtt]`, unless it is empty.
    pub mqtt: Option<InitialSettings>,
    /// `[mqtt] managed`: whether `mqtt` replaces the stored settings at each start and cannot be changed at run time.
    pub mqtt_managed: bool,
    /// `[mqtt] source`: where the broker comes from.
    pub mqtt_source: MqttSource,
    /// `[home_assistant]`
    pub home_assistant: HomeAssistant,
    /// `[mqtt] candidates`: addresses that the search for brokers also tries, 0–16.
    pub mqtt_candidates: Vec<BrokerAddress>,
    /// Problems that are not errors, to be logged once logging is set up.
    pub warnings: Vec<String>,
    /// Recognizes which keys have changed when the configuration is read again.
    pub fingerprint: Fingerprint,
}

/// `[http]`: where the API is served, and under which names.
#[derive(Debug, Clone)]
pub struct Http {
    /// The addresses to listen on, 1–16.
    pub bind: Vec<SocketAddr>,
    /// The URL of the service as clients see it, without a trailing `/`.
    pub public_url: Option<String>,
    /// Allowed values of the `Host` header in addition to addresses and `localhost`: `name` or `name:port`,
    /// in lower case.
    pub allowed_hosts: Vec<String>,
    /// The certificate for HTTPS; `None` means plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Number of wrong tokens per client address and minute after which it is asked to wait, 1–10,000.
    pub failed_logins_per_minute: u32,
    /// Maximum number of connections from other machines, 16–100,000.
    pub max_connections: usize,
    /// Maximum number of connections from one address, 4–100,000.
    pub max_connections_per_address: usize,
    /// Maximum size in MiB of a backup that is uploaded to be restored, 0–10,000,000.
    pub max_restore_mib: u64,
    /// The address on which Home Assistant's ingress is served, which needs no token.
    pub ingress: Option<SocketAddr>,
    /// The addresses from which the ingress may be used, 1–16.
    pub ingress_from: Vec<IpAddr>,
    /// The networks of the reverse proxies that report the addresses of their clients, 0–16.
    pub trusted_proxies: Vec<IpNet>,
}

/// `[database]`
#[derive(Debug, Clone, Default)]
pub struct Database {
    /// `sqlite://PATH` or `postgres://USER:PASSWORD@HOST/DATABASE`; `None` means `liveobject.db` in the data directory.
    pub url: Option<SecretString>,
    /// The password of a database on a server, from the environment or from systemd. It overrides the one in the URL.
    pub password: Option<SecretString>,
    /// How other services with the same database show this one; `None` means the host name.
    pub node_name: Option<String>,
    /// The URL at which they reach this one, without a trailing `/`; `None` means the first address in `http.bind`, or
    /// the host name if that is unspecified.
    pub node_url: Option<String>,
    /// The password of the database to which `liveobject move` moves, from the environment or from systemd.
    pub move_password: Option<SecretString>,
}

/// `[secrets]`: the keys that encrypt the secrets in the database.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// The file of the age identity; `None` means `identity.age` in the data directory.
    pub identity_file: Option<PathBuf>,
    /// An age identity from the environment or from systemd. It overrides the file.
    pub identity: Option<GivenIdentity>,
    /// The admin token from the environment or from systemd. It overrides the file.
    pub api_token: Option<ApiToken>,
    /// The key that signs links to pictures, from the environment or from systemd. It overrides the file.
    pub link_key: Option<LinkKey>,
    /// Additional keys that can decrypt the secrets, at most 16.
    pub recipients: Vec<PublicKey>,
}

/// `[outbox]`: the limits of the event log.
#[derive(Debug, Clone)]
pub struct Outbox {
    /// Maximum number of pending events, 1–100,000,000.
    pub max_pending: u64,
    /// Maximum number of events in flight, 1–10,000.
    pub window: u16,
    /// For how many days delivered and dead events are kept, 1–3650.
    pub retention_days: u32,
}

/// `[cameras]`
#[derive(Debug, Clone)]
pub struct Cameras {
    /// The time zone in which days begin; `None` means the system's.
    pub time_zone: Option<Calendar>,
    /// Maximum number of cameras, 1–10,000.
    pub max: u32,
}

/// `[pictures]`
#[derive(Debug, Clone, Copy)]
pub struct Pictures {
    /// Maximum size of all pictures, 10 MB to 10 TB.
    pub max_bytes: u64,
    /// Maximum size of a picture that is published over MQTT, 32 KiB to 2 MiB.
    pub max_picture_bytes: usize,
}

/// Where the broker comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MqttSource {
    /// The settings contain it.
    #[default]
    Settings,
    /// Home Assistant's Supervisor provides it. The settings contain everything else.
    Supervisor,
}

impl MqttSource {
    /// Returns whether Home Assistant's Supervisor provides the broker.
    pub fn is_supervisor(self) -> bool {
        self == Self::Supervisor
    }
}

/// `[home_assistant]`
#[derive(Debug, Clone)]
pub struct HomeAssistant {
    /// The directory that the Supervisor mounts; `None` unless this is the app of Home Assistant.
    pub app_dir: Option<PathBuf>,
    /// `host:port` of the Supervisor.
    pub supervisor: String,
    /// The token for the Supervisor, from the environment.
    pub token: Option<SecretString>,
}

/// The MQTT settings for the first start, or for each start if they are managed; validated. They may contain
/// secrets, so their `Debug` output is redacted and the secrets are wiped on drop.
#[derive(Clone)]
pub struct InitialSettings(Value);

impl InitialSettings {
    /// Validates settings.
    pub fn new(value: Value) -> Result<Self, Invalid> {
        MqttSettings::read(value.clone(), "initial").map(|_| Self(value))
    }

    /// Wraps settings that the caller validates.
    pub(super) fn unchecked(settings: Map<String, Value>) -> Self {
        Self(Value::Object(settings))
    }

    /// Returns the settings as the JSON object that [`MqttSettings::read`] accepts, including the secrets.
    pub fn to_json(&self) -> Value {
        self.0.clone()
    }
}

impl fmt::Debug for InitialSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InitialSettings(…)")
    }
}

impl Drop for InitialSettings {
    fn drop(&mut self) {
        for secret in SECRET_SETTINGS {
            if let Some(Value::String(text)) = self.0.get_mut(secret) {
                text.zeroize();
            }
        }
    }
}

/// The MQTT settings that are secrets.
pub(super) const SECRET_SETTINGS: [&str; 2] = ["password", "client_key"];

impl Default for Config {
    fn default() -> Self {
        Self {
            file: None,
            data_dir: PathBuf::from("data"),
            http: Http {
                bind: vec![DEFAULT_BIND],
                public_url: None,
                allowed_hosts: Vec::new(),
                tls: None,
                failed_logins_per_minute: FAILED_LOGINS,
                max_connections: Limits::MAX_CONNECTIONS,
                max_connections_per_address: Limits::MAX_CONNECTIONS_PER_ADDRESS,
                max_restore_mib: DEFAULT_MAX_RESTORE_MIB,
                ingress: None,
                ingress_from: vec![SUPERVISOR],
                trusted_proxies: Vec::new(),
            },
            database: Database::default(),
            secrets: Secrets::default(),
            outbox: Outbox {
                max_pending: ServiceOptions::MAX_PENDING,
                window: ServiceOptions::WINDOW,
                retention_days: ServiceOptions::RETENTION_DAYS,
            },
            cameras: Cameras { time_zone: None, max: ServiceOptions::MAX_CAMERAS },
            pictures: Pictures {
                max_bytes: ServiceOptions::MAX_PICTURE_BYTES,
                max_picture_bytes: ServiceOptions::MAX_PUBLISHED_PICTURE_BYTES,
            },
            log: Log::default(),
            mqtt: None,
            mqtt_managed: false,
            mqtt_source: MqttSource::default(),
            home_assistant: HomeAssistant {
                app_dir: None,
                supervisor: SUPERVISOR_NAME.to_owned(),
                token: None,
            },
            mqtt_candidates: Vec::new(),
            warnings: Vec::new(),
            fingerprint: Fingerprint::default(),
        }
    }
}

impl Config {
    /// Returns the service's options. Their `public_url` is that of the first address in `http.bind`; if
    /// its port is 0, call [`Config::public_url`] again once the port is known.
    pub fn service_options(&self) -> ServiceOptions {
        let bind = self.http.bind.first().copied().unwrap_or(DEFAULT_BIND);
        ServiceOptions {
            data_dir: self.data_dir.clone(),
            database_url: self.database.url.clone(),
            database_password: self.database.password.clone(),
            identity_file: self.secrets.identity_file.clone(),
            identity: self.secrets.identity.clone(),
            link_key: self.secrets.link_key.clone(),
            recipients: self.secrets.recipients.clone(),
            public_url: self.public_url(bind),
            node_name: self
                .database
                .node_name
                .clone()
                .or_else(host_name)
                .unwrap_or_else(|| "liveobject".to_owned()),
            node_url: self.database.node_url.clone(),
            max_pending: self.outbox.max_pending,
            window: self.outbox.window,
            retention_days: self.outbox.retention_days,
            max_cameras: self.cameras.max,
            max_picture_bytes: self.pictures.max_bytes,
            max_published_picture_bytes: self.pictures.max_picture_bytes,
            calendar: self.cameras.time_zone.unwrap_or_else(|| Calendar::system().0),
            initial_mqtt: self.mqtt.as_ref().map(InitialSettings::to_json),
            mqtt_managed: self.mqtt_managed,
            mqtt_provided: self.mqtt_source.is_supervisor(),
        }
    }

    /// Returns the URL of a service that listens on `bound`: `http.public_url` if it is set, otherwise that
    /// address. An unspecified address (`0.0.0.0`, `::`) is replaced by the host name.
    pub fn public_url(&self, bound: SocketAddr) -> String {
        if let Some(url) = &self.http.public_url {
            return url.clone();
        }
        let scheme = if self.http.tls.is_some() { "https" } else { "http" };
        if bound.ip().is_unspecified() {
            let name = host_name().unwrap_or_else(|| Ipv4Addr::LOCALHOST.to_string());
            return format!("{scheme}://{name}:{}", bound.port());
        }
        format!("{scheme}://{bound}")
    }
}

/// Returns the host name, or `None` if it is unknown or not valid in a URL.
pub fn host_name() -> Option<String> {
    // A service manager may hide /proc/sys, so the name comes from the kernel directly.
    let uname = rustix::system::uname();
    let name = uname.nodename().to_str().ok()?.trim();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    (!name.is_empty() && name != "(none)" && name.chars().all(is_plain)).then(|| name.to_owned())
}
