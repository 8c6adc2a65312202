//! The configuration: one tree of valid values, from a TOML file and the environment.
//!
//! A key that is not there takes its default; a variable of the environment wins over the file. An unknown key and a
//! bad value are refused, all of them at once, each with the place where it stands. Nothing here is changed while the
//! service runs: what can be is a *setting*, and belongs to `ConfigActor`.

mod fault;
mod file;
mod identity;
mod read;
mod source;

#[cfg(test)]
mod example_tests;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod tests;

use std::{
    fmt, fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use liveobject_actors::{
    Invalid, MqttSettings, ServiceOptions,
    config::{GivenIdentity, identity::PublicKey},
    domain::calendar::Calendar,
};
use secrecy::zeroize::Zeroize;
use serde_json::Value;

use crate::http::{FAILED_LOGINS, tls::TlsFiles};

pub use self::fault::ConfigError;
use self::{
    fault::{Fault, Origin},
    file::Text,
    identity::Variables,
    source::{PREFIX, Source},
};

/// What is read when no file is named, if it is there.
pub const DEFAULT_FILE: &str = "config.toml";

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Holds the database, the identity, the API token and the lock.
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
    /// `[log]`
    pub log: Log,
    /// `[mqtt]`, if it holds anything.
    pub mqtt: Option<FirstSettings>,
    /// What is not wrong enough to be refused; for the log, once it is set up.
    pub warnings: Vec<String>,
}

/// Where the API is served, and under which names.
#[derive(Debug, Clone)]
pub struct Http {
    /// The addresses to listen on: 1–16.
    pub bind: Vec<SocketAddr>,
    /// How others reach the service, without a trailing `/`.
    pub public_url: Option<String>,
    /// What the `Host` header may say, besides addresses and `localhost`: `name` or `name:port`, in lower case.
    pub allowed_hosts: Vec<String>,
    /// With what the API is served over TLS; `None`: without.
    pub tls: Option<TlsFiles>,
    /// How many wrong tokens an address may show in a minute: 1–10,000.
    pub failed_logins_per_minute: u32,
}

/// Where the database lies.
#[derive(Debug, Clone, Default)]
pub struct Database {
    /// `sqlite://PATH`; `None`: `liveobject.db` in the data directory.
    pub url: Option<String>,
}

/// What secrets are encrypted with.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// The age identity; `None`: `identity.age` in the data directory.
    pub identity_file: Option<PathBuf>,
    /// The age identity itself, from the environment or from systemd: it goes before a file.
    pub identity: Option<GivenIdentity>,
    /// Who else can read the secrets: at most 16.
    pub recipients: Vec<PublicKey>,
}

/// The bounds of the log of events.
#[derive(Debug, Clone)]
pub struct Outbox {
    /// How many events may wait: 1–100,000,000.
    pub max_pending: u64,
    /// How many events may be in flight: 1–10,000.
    pub window: u16,
    /// For how many days delivered and dead events are kept: 1–3650.
    pub retention_days: u32,
}

/// What holds for all cameras.
#[derive(Debug, Clone)]
pub struct Cameras {
    /// In which zone their days begin; `None`: the system's.
    pub time_zone: Option<Calendar>,
    /// How many may be known: 1–10,000.
    pub max: u32,
}

/// What is logged, and how.
#[derive(Debug, Clone)]
pub struct Log {
    /// Text for people or JSON for machines.
    pub format: LogFormat,
    /// A level, and levels of parts of the program: `info,liveobject_actors=debug`.
    pub filter: String,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// The first MQTT settings, checked. They may hold a password: they do not print, and their secrets are wiped on drop.
#[derive(Clone)]
pub struct FirstSettings(Value);

impl FirstSettings {
    /// Checks settings that do not come from a file.
    pub fn check(value: Value) -> Result<Self, Invalid> {
        MqttSettings::read(value.clone(), "first").map(|_| Self(value))
    }

    /// The settings as the JSON object that `MqttSettings::read` takes, secrets included.
    pub fn to_json(&self) -> Value {
        self.0.clone()
    }
}

impl fmt::Debug for FirstSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FirstSettings(…)")
    }
}

impl Drop for FirstSettings {
    fn drop(&mut self) {
        for secret in SECRETS {
            if let Some(Value::String(text)) = self.0.get_mut(secret) {
                text.zeroize();
            }
        }
    }
}

/// The settings in `[mqtt]` that are secrets.
const SECRETS: [&str; 2] = ["password", "client_key"];

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data"),
            http: Http {
                bind: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))],
                public_url: None,
                allowed_hosts: Vec::new(),
                tls: None,
                failed_logins_per_minute: FAILED_LOGINS,
            },
            database: Database::default(),
            secrets: Secrets::default(),
            outbox: Outbox { max_pending: 1_000_000, window: 500, retention_days: 7 },
            cameras: Cameras { time_zone: None, max: 1000 },
            log: Log { format: LogFormat::default(), filter: "info".to_owned() },
            mqtt: None,
            warnings: Vec::new(),
        }
    }
}

/// The variables of the environment that are meant for the configuration. What is not UTF-8 in them is refused when it
/// is read; what is not UTF-8 in others does no harm.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter(|(name, _)| {
            name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
                || identity::VARIABLES.iter().any(|known| name == known)
        })
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

impl Config {
    /// Reads the file and the environment. A file that is named must be there; when none is, [`DEFAULT_FILE`] in the
    /// working directory is read if it exists. Variables whose name does not start with `LIVEOBJECT__` are passed over.
    pub fn load(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        Self::from_file(path.unwrap_or(Path::new(DEFAULT_FILE)), path.is_some(), env)
    }

    fn from_file(
        path: &Path,
        required: bool,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let (mut source, mut faults) = (Source::default(), Vec::new());
        let (variables, env) = Variables::take(env);
        let file = match Text::read(path) {
            Ok(None) if required => Err(vec![Fault::new(file::whole(path), "", "does not exist")]),
            Ok(text) => Ok(text),
            Err(fault) => Err(vec![fault]),
        };
        let file = file.and_then(|text| {
            let is_open = text.as_ref().is_some_and(|text| text.is_open);
            text.map_or(Ok(()), |text| text.parse(&mut source, &mut faults)).map(|()| is_open)
        });
        source.read_environment(env.into_iter(), &mut faults);
        // Without the file, nothing can be said of values that depend on others.
        let is_open = file.map_err(|more| ConfigError::new(faults.iter().cloned().chain(more).collect()))?;
        let mut warnings = if is_open { open_secrets(&source, path) } else { Vec::new() };
        let tls_key = source.origin("http", "tls_key").cloned();
        let mut config = read::read(source, &mut faults);
        if let (Some(tls), Some(origin)) = (&config.http.tls, tls_key) {
            warnings.extend(open_key(&tls.key, &origin));
        }
        config.warnings = warnings;
        config.secrets.identity = variables.identity(&mut faults);
        if let (None, (_, Some(why))) = (config.cameras.time_zone, Calendar::system()) {
            let told = format!(
                "the system's time zone cannot be told ({why}): days are those of UTC; set [cameras] time_zone"
            );
            config.warnings.push(told);
        }
        if faults.is_empty() { Ok(config) } else { Err(ConfigError::new(faults)) }
    }

    /// What the service needs to know. `public_url` is that of the first address in `http.bind`; where its port is 0,
    /// ask [`Config::public_url`] again once it is known.
    pub fn service_options(&self) -> ServiceOptions {
        let bind = self.http.bind.first().copied();
        ServiceOptions {
            data_dir: self.data_dir.clone(),
            database_url: self.database.url.clone(),
            identity_file: self.secrets.identity_file.clone(),
            identity: self.secrets.identity.clone(),
            recipients: self.secrets.recipients.clone(),
            public_url: self
                .public_url(bind.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)))),
            max_pending: self.outbox.max_pending,
            window: self.outbox.window,
            retention_days: self.outbox.retention_days,
            max_cameras: self.cameras.max,
            calendar: self.cameras.time_zone.unwrap_or_else(|| Calendar::system().0),
            initial_mqtt: self.mqtt.as_ref().map(FirstSettings::to_json),
        }
    }

    /// How others reach the service that listens on `bound`: `http.public_url`, else that address; for one that stands
    /// for all addresses, this machine's name.
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

/// This machine's name as the kernel tells it; `None` where it does not, or where it cannot stand in a URL.
fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    (!name.is_empty() && name != "(none)" && name.chars().all(is_plain)).then(|| name.to_owned())
}

/// A warning for the key of the server's certificate, where everybody can read it.
fn open_key(path: &Path, origin: &Origin) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    let path = path.display();
    (mode & 0o004 != 0)
        .then(|| format!("{origin}: http.tls_key: everybody on this machine can read it; chmod 600 {path}"))
}

/// A warning for each secret in a file that everybody can read.
fn open_secrets(source: &Source, path: &Path) -> Vec<String> {
    let path = path.display();
    SECRETS
        .iter()
        .filter_map(|name| match source.origin("mqtt", name)? {
            origin @ Origin::File { .. } => Some(format!(
                "{origin}: mqtt.{name}: everybody on this machine can read it; chmod 600 {path}"
            )),
            Origin::Variable(_) => None,
        })
        .collect()
}
