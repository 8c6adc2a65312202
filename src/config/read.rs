//! Validates the values, and reports every fault.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use actix_web::http::Uri;
use ipnet::IpNet;
use liveobject_actors::{
    MqttSettings,
    config::identity::PublicKey,
    domain::{
        calendar::Calendar,
        fields::{Faults, FieldError, Fields, Invalid, bytes_within, no_control},
        image::MAX_THUMBNAIL_BYTES,
    },
    store::{Location, OpenError},
};
use secrecy::SecretString;
use serde_json::{Map, Value};

use super::{
    fault::{Fault, Origin},
    keys::{self, Key},
    source::Source,
    values::{Config, InitialSettings, MqttSource},
};
use crate::{
    finder::BrokerAddress,
    http::tls::{Certificates, TlsError, TlsFiles},
    telemetry::{self, LogFormat},
};

const MAX_PATH_BYTES: usize = 4096;
const MAX_URL_BYTES: usize = 2048;
const MAX_NODE_NAME_BYTES: usize = 100;
const MAX_ADDRESSES: usize = 16;
const MAX_HOSTS: usize = 64;
const MAX_RECIPIENTS: usize = 16;
const MAX_HOST_BYTES: usize = 255;

/// Returns the configuration in `source`. For an invalid value, uses the default and adds a fault.
pub(super) fn read(mut source: Source, faults: &mut Vec<Fault>) -> Config {
    let mut config = Config::default();
    section(&mut source, "", faults, |f| {
        set(&mut config.data_dir, text(f, keys::DATA_DIR, path));
    });
    let mut unusable = None;
    section(&mut source, keys::HTTP, faults, |f| {
        set(&mut config.http.bind, addresses(f, keys::BIND));
        config.http.public_url = text(f, keys::PUBLIC_URL, public_url);
        set(&mut config.http.allowed_hosts, hosts(f, keys::ALLOWED_HOSTS));
        config.http.tls = tls(f, &mut unusable);
        set(&mut config.http.failed_logins_per_minute, integer(f, keys::FAILED_LOGINS_PER_MINUTE, 1, 10_000));
        set(&mut config.http.max_connections, integer(f, keys::MAX_CONNECTIONS, 16, 100_000));
        let per_address = integer(f, keys::MAX_CONNECTIONS_PER_ADDRESS, 4, 100_000);
        set(&mut config.http.max_connections_per_address, per_address);
        set(&mut config.http.max_restore_mib, integer(f, keys::MAX_RESTORE_MIB, 0, 10_000_000));
        config.http.ingress = text(f, keys::INGRESS, |text| address(&text));
        set(&mut config.http.ingress_from, ips(f, keys::INGRESS_FROM));
        set(&mut config.http.trusted_proxies, networks(f, keys::TRUSTED_PROXIES));
    });
    let of_files = faults.iter_mut().filter(|fault| unusable.as_ref() == Some(&fault.message));
    of_files.for_each(|fault| fault.may_pass = true);
    section(&mut source, keys::DATABASE, faults, |f| {
        config.database.url = text(f, keys::DATABASE_URL, database_url);
        config.database.node_name = text(f, keys::NODE_NAME, node_name);
        config.database.node_url = text(f, keys::NODE_URL, node_url);
    });
    section(&mut source, keys::SECRETS, faults, |f| {
        config.secrets.identity_file = text(f, keys::IDENTITY_FILE, path);
        set(&mut config.secrets.recipients, recipients(f, keys::RECIPIENTS));
    });
    section(&mut source, keys::OUTBOX, faults, |f| {
        set(&mut config.outbox.max_pending, integer(f, keys::MAX_PENDING, 1, 100_000_000));
        set(&mut config.outbox.window, integer(f, keys::WINDOW, 1, 10_000));
        set(&mut config.outbox.retention_days, integer(f, keys::RETENTION_DAYS, 1, 3650));
    });
    section(&mut source, keys::CAMERAS, faults, |f| {
        config.cameras.time_zone = text(f, keys::TIME_ZONE, |name| Calendar::named(&name));
        set(&mut config.cameras.max, integer(f, keys::MAX_CAMERAS, 1, 10_000));
    });
    section(&mut source, keys::PICTURES, faults, |f| {
        let size = integer(f, keys::MAX_PICTURE_BYTES, 10_000_000, 10_000_000_000_000);
        set(&mut config.pictures.max_bytes, size);
        let published = integer(f, keys::MAX_PUBLISHED_PICTURE_BYTES, 32 * 1024, MAX_THUMBNAIL_BYTES as u64);
        set(&mut config.pictures.max_picture_bytes, published);
    });
    section(&mut source, keys::LOG, faults, |f| {
        set(&mut config.log.format, text(f, keys::LOG_FORMAT, log_format));
        set(&mut config.log.filter, text(f, keys::LOG_FILTER, |t| telemetry::check_filter(&t).map(|()| t)));
    });
    section(&mut source, keys::HOME_ASSISTANT, faults, |f| {
        config.home_assistant.app_dir = text(f, keys::APP_DIR, path);
        set(&mut config.home_assistant.supervisor, text(f, keys::SUPERVISOR_URL, supervisor));
    });
    mqtt(&mut source, faults, &mut config);
    config
}

/// Reads one section, and adds its faults with their locations.
fn section(source: &mut Source, name: &str, faults: &mut Vec<Fault>, read: impl FnOnce(&mut Fields)) {
    let (object, origins) = source.take_section(name);
    let checked = Fields::of(Value::Object(object)).and_then(|mut fields| {
        read(&mut fields);
        fields.finish().finish()
    });
    add_faults(name, &origins, checked, faults);
}

/// Reads the settings, and the keys that are not settings.
fn mqtt(source: &mut Source, faults: &mut Vec<Fault>, config: &mut Config) {
    let (mut object, origins) = source.take_section(keys::MQTT);
    let others = [keys::MANAGED, keys::SOURCE, keys::CANDIDATES];
    let others: Map<String, Value> = others.iter().filter_map(|key| object.remove_entry(key.name)).collect();
    let checked = Fields::of(Value::Object(others)).and_then(|mut fields| {
        set(&mut config.mqtt_managed, fields.boolean(keys::MANAGED.name));
        let is_managed = config.mqtt_managed;
        set(&mut config.mqtt_source, text(&mut fields, keys::SOURCE, |text| mqtt_source(&text, is_managed)));
        set(&mut config.mqtt_candidates, candidates(&mut fields, keys::CANDIDATES));
        fields.finish().finish()
    });
    add_faults(keys::MQTT, &origins, checked, faults);
    if object.is_empty() {
        return;
    }
    let settings = InitialSettings::unchecked(object);
    // The client id of this installation is generated later; any id will do for validation. The settings are
    // used while the database has none, or replace all of them, so a stored client key does not count.
    let checked = MqttSettings::read(settings.to_json(), "liveobject").and_then(|update| {
        let mut faults = Faults::default();
        update.check_client_identity(false, &mut faults);
        faults.finish()
    });
    add_faults(keys::MQTT, &origins, checked, faults);
    config.mqtt = Some(settings);
}

fn mqtt_source(text: &str, is_managed: bool) -> Result<MqttSource, String> {
    match text {
        "settings" => Ok(MqttSource::Settings),
        "supervisor" if is_managed => Err("cannot be \"supervisor\" while managed is true".to_owned()),
        "supervisor" => Ok(MqttSource::Supervisor),
        _ => Err("must be \"settings\" or \"supervisor\"".to_owned()),
    }
}

/// Reads addresses of brokers.
fn candidates(fields: &mut Fields, key: Key) -> Option<Vec<BrokerAddress>> {
    list(fields, key, 0, MAX_ADDRESSES, |text| {
        BrokerAddress::parse(&text).map_err(|fault| {
            format!("{text:?} is not an address of a broker, such as broker.lan:1883 or mqtts://broker.lan: {fault}")
        })
    })
}

fn add_faults(
    section: &str,
    origins: &BTreeMap<String, Origin>,
    checked: Result<(), Invalid>,
    faults: &mut Vec<Fault>,
) {
    let Err(Invalid(errors)) = checked else { return };
    for FieldError { field, message } in errors {
        let key = keys::dotted(section, &field);
        faults.push(match (origins.get(&field), origins.get("enabled")) {
            // The variable's name already names the key.
            (Some(origin @ Origin::Variable(_)), _) => Fault::new(origin.clone(), "", message),
            // A missing key has no location. It is only missing because `enabled` requires it, so the fault
            // is reported there.
            (Some(origin), _) | (None, Some(origin)) => Fault::new(origin.clone(), &key, message),
            (None, None) => Fault::new(Origin::Variable(key), "", message),
        });
    }
}

fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

/// Reads an integer. The callers choose a `max` that fits into `T`, so the conversion never fails.
fn integer<T: TryFrom<u64>>(fields: &mut Fields, key: Key, min: u64, max: u64) -> Option<T> {
    fields.integer(key.name, min, max).and_then(|n| T::try_from(n).ok())
}

fn text<T>(fields: &mut Fields, key: Key, check: impl FnOnce(String) -> Result<T, String>) -> Option<T> {
    let text = fields.text(key.name)?;
    fields.faults.check(key.name, check(text))
}

fn path(text: String) -> Result<PathBuf, String> {
    bytes_within(text, 1, MAX_PATH_BYTES).and_then(no_control).map(PathBuf::from)
}

/// Reads and validates the certificate and its key. Without both of them there is no TLS. Sets `unusable` to the
/// message about files that cannot be used.
fn tls(fields: &mut Fields, unusable: &mut Option<String>) -> Option<TlsFiles> {
    let (has_certificate, has_key) = (fields.has(keys::TLS_CERTIFICATE.name), fields.has(keys::TLS_KEY.name));
    let (certificate, key) = (text(fields, keys::TLS_CERTIFICATE, path), text(fields, keys::TLS_KEY, path));
    if has_certificate != has_key {
        let (given, missing) = if has_certificate {
            (keys::TLS_CERTIFICATE, keys::TLS_KEY)
        } else {
            (keys::TLS_KEY, keys::TLS_CERTIFICATE)
        };
        fields.faults.push(given.name, format!("requires {missing} to be set too"));
    }
    let files = TlsFiles { certificate: certificate?, key: key? };
    let (at_fault, error) = match Certificates::load(files.clone()) {
        Ok(_) => return Some(files),
        Err(error @ TlsError::Key { .. }) => (keys::TLS_KEY, error),
        Err(error) => (keys::TLS_CERTIFICATE, error),
    };
    fields.faults.push(at_fault.name, unusable.insert(error.to_string()).clone());
    None
}

fn log_format(text: String) -> Result<LogFormat, String> {
    match text.as_str() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be \"text\" or \"json\"".to_owned()),
    }
}

fn database_url(text: String) -> Result<SecretString, String> {
    let text = bytes_within(text, 1, MAX_PATH_BYTES).and_then(no_control)?;
    if text.strip_prefix("sqlite://").is_some_and(|path| !path.is_empty()) {
        return Ok(text.into());
    }
    match Location::parse(&text) {
        Ok(Location::Server(_)) => Ok(text.into()),
        Err(OpenError::ServerUrl(fault)) => {
            Err(format!("{fault}; write it as postgres://USER:PASSWORD@HOST/DATABASE"))
        }
        _ => {
            Err("must be sqlite:// followed by a file path, or postgres://USER:PASSWORD@HOST/DATABASE"
                .to_owned())
        }
    }
}

/// Validates the name of a node, which other nodes show.
fn node_name(text: String) -> Result<String, String> {
    bytes_within(text, 1, MAX_NODE_NAME_BYTES).and_then(no_control)
}

/// Validates the URL at which other nodes reach this one.
fn node_url(text: String) -> Result<String, String> {
    let url = public_url(text)?;
    // The path of each forwarded request follows it.
    if url.splitn(4, '/').nth(3).is_some() { Err("must not contain a path".to_owned()) } else { Ok(url) }
}

/// Validates the URL of the service; a trailing `/` is removed.
fn public_url(text: String) -> Result<String, String> {
    let text = bytes_within(text, 1, MAX_URL_BYTES)?;
    let url: Uri =
        text.parse().map_err(|_| "must be a URL, such as https://cameras.example.org".to_owned())?;
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return Err("must start with http:// or https://".to_owned());
    }
    if url.authority().is_none_or(|a| a.as_str().contains('@')) {
        return Err("must not contain a user name or a password".to_owned());
    }
    if text.contains(['?', '#']) {
        return Err("must not contain ? or #".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Returns `host:port` of the URL of Home Assistant's Supervisor.
fn supervisor(text: String) -> Result<String, String> {
    let url: Uri =
        public_url(text)?.parse().map_err(|_| "must be a URL, such as http://supervisor".to_owned())?;
    let authority = url.authority().filter(|_| url.scheme_str() == Some("http") && url.path() == "/");
    let authority = authority.ok_or("must be http:// followed by a host, without a path")?;
    Ok(format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)))
}

/// Reads one address as a string, or several as a list.
fn addresses(fields: &mut Fields, key: Key) -> Option<Vec<SocketAddr>> {
    list(fields, key, 1, MAX_ADDRESSES, |text| address(&text))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let invalid = |_| format!("{text:?} is not an address with a port, such as 127.0.0.1:8080 or [::]:8080");
    text.parse().map_err(invalid)
}

/// Reads one address without a port as a string, or several as a list.
fn ips(fields: &mut Fields, key: Key) -> Option<Vec<IpAddr>> {
    list(fields, key, 1, MAX_ADDRESSES, |text| {
        text.parse().map_err(|_| format!("{text:?} is not an IP address, such as 172.30.32.2"))
    })
}

/// Reads addresses and networks, such as 192.168.1.2 and 172.16.0.0/12.
fn networks(fields: &mut Fields, key: Key) -> Option<Vec<IpNet>> {
    list(fields, key, 0, MAX_ADDRESSES, |text| network(&text))
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let network = network.ok_or_else(|| {
        format!("{text:?} is not an address or a network, such as 127.0.0.1 or 172.16.0.0/12")
    })?;
    if network.prefix_len() == 0 {
        return Err(format!(
            "{text:?} contains all addresses, so every client could claim to have any of them"
        ));
    }
    Ok(network.trunc())
}

/// Reads allowed values of the `Host` header.
fn hosts(fields: &mut Fields, key: Key) -> Option<Vec<String>> {
    list(fields, key, 0, MAX_HOSTS, host)
}

/// Validates a name or an address, optionally with a port. Returns it as in a `Host` header: in lower case,
/// an IPv6 address in brackets.
fn host(text: String) -> Result<String, String> {
    let text = bytes_within(text, 1, MAX_HOST_BYTES)?.to_lowercase();
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Ok(format!("[{address}]"));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text.as_str(), None),
    };
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_host = match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)),
    };
    if !is_host || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(format!("{text:?} is not a host name, such as cameras.example.org"));
    }
    Ok(text)
}

/// Reads age public keys.
fn recipients(fields: &mut Fields, key: Key) -> Option<Vec<PublicKey>> {
    let texts = one_or_more(fields, key)?;
    // The error gives the position, not the text, which might be a secret key that was entered by mistake.
    let parse = |(i, text): (usize, String)| {
        PublicKey::parse(text.trim()).map_err(|fault| format!("entry {} {fault}", i + 1))
    };
    let keys = texts.into_iter().enumerate().map(parse).collect();
    fields.faults.check(key.name, keys).and_then(|list| counted(fields, key, list, 0, MAX_RECIPIENTS))
}

/// Reads one text or a list of `min` to `max` texts, and parses each.
fn list<T>(
    fields: &mut Fields,
    key: Key,
    min: usize,
    max: usize,
    parse: impl FnMut(String) -> Result<T, String>,
) -> Option<Vec<T>> {
    let parsed = one_or_more(fields, key)?.into_iter().map(parse).collect();
    fields.faults.check(key.name, parsed).and_then(|list| counted(fields, key, list, min, max))
}

fn one_or_more(fields: &mut Fields, key: Key) -> Option<Vec<String>> {
    let value = match fields.take(key.name)? {
        Value::String(text) => Value::Array(vec![Value::String(text)]),
        other => other,
    };
    let list = serde_json::from_value(value).map_err(|_| "expected an array of strings".to_owned());
    fields.faults.check(key.name, list)
}

fn counted<T>(fields: &mut Fields, key: Key, list: Vec<T>, min: usize, max: usize) -> Option<Vec<T>> {
    if !(min..=max).contains(&list.len()) {
        fields.faults.push(key.name, format!("has {} entries, must have {min} to {max}", list.len()));
        return None;
    }
    Some(list)
}
