//! From what was written to what is meant: every value is checked, every fault is noted.

use std::{
    collections::BTreeMap,
    net::{Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use actix_web::http::Uri;
use liveobject_actors::{
    MqttSettings,
    config::identity::PublicKey,
    domain::{
        calendar::Calendar,
        fields::{Faults, FieldError, Fields, Invalid, bytes_within, no_control},
    },
};
use serde_json::Value;

use super::{
    Config, FirstSettings, LogFormat,
    fault::{Fault, Origin},
    source::Source,
};
use crate::{
    http::tls::{Certificates, TlsError, TlsFiles},
    telemetry,
};

const MAX_PATH_BYTES: usize = 4096;
const MAX_URL_BYTES: usize = 2048;
const MAX_ADDRESSES: usize = 16;
const MAX_HOSTS: usize = 64;
const MAX_RECIPIENTS: usize = 16;
const MAX_HOST_BYTES: usize = 255;

/// The configuration that `source` describes; what is at fault keeps its default and is noted.
pub(super) fn read(mut source: Source, faults: &mut Vec<Fault>) -> Config {
    let mut config = Config::default();
    section(&mut source, "", faults, |f| {
        set(&mut config.data_dir, text(f, "data_dir", path));
    });
    section(&mut source, "http", faults, |f| {
        set(&mut config.http.bind, addresses(f, "bind"));
        config.http.public_url = text(f, "public_url", public_url);
        set(&mut config.http.allowed_hosts, hosts(f, "allowed_hosts"));
        config.http.tls = tls(f);
        let failed_logins = f.integer("failed_logins_per_minute", 1, 10_000);
        set(&mut config.http.failed_logins_per_minute, narrow(failed_logins));
    });
    section(&mut source, "database", faults, |f| {
        config.database.url = text(f, "url", database_url);
    });
    section(&mut source, "secrets", faults, |f| {
        config.secrets.identity_file = text(f, "identity_file", path);
        set(&mut config.secrets.recipients, recipients(f, "recipients"));
    });
    section(&mut source, "outbox", faults, |f| {
        set(&mut config.outbox.max_pending, f.integer("max_pending", 1, 100_000_000));
        set(&mut config.outbox.window, narrow(f.integer("window", 1, 10_000)));
        set(&mut config.outbox.retention_days, narrow(f.integer("retention_days", 1, 3650)));
    });
    section(&mut source, "cameras", faults, |f| {
        config.cameras.time_zone = text(f, "time_zone", |name| Calendar::named(&name));
        set(&mut config.cameras.max, narrow(f.integer("max", 1, 10_000)));
    });
    section(&mut source, "log", faults, |f| {
        set(&mut config.log.format, text(f, "format", log_format));
        set(&mut config.log.filter, text(f, "filter", |t| telemetry::check_filter(&t).map(|()| t)));
    });
    config.mqtt = mqtt(&mut source, faults);
    config
}

/// Reads one section; notes what was wrong with it, and where that stands.
fn section(source: &mut Source, name: &str, faults: &mut Vec<Fault>, read: impl FnOnce(&mut Fields)) {
    let (object, origins) = source.take_section(name);
    let checked = Fields::of(Value::Object(object)).and_then(|mut fields| {
        read(&mut fields);
        fields.finish().finish()
    });
    note(name, &origins, checked, faults);
}

fn mqtt(source: &mut Source, faults: &mut Vec<Fault>) -> Option<FirstSettings> {
    let (object, origins) = source.take_section("mqtt");
    if object.is_empty() {
        return None;
    }
    let settings = FirstSettings(Value::Object(object));
    // The installation's own client id is made later; any will do to check the rest. They are used while nothing is stored.
    let checked = MqttSettings::read(settings.to_json(), "liveobject").and_then(|update| {
        let mut faults = Faults::default();
        update.check_client_identity(false, &mut faults);
        faults.finish()
    });
    note("mqtt", &origins, checked, faults);
    Some(settings)
}

fn note(
    section: &str,
    origins: &BTreeMap<String, Origin>,
    checked: Result<(), Invalid>,
    faults: &mut Vec<Fault>,
) {
    let Err(Invalid(errors)) = checked else { return };
    for FieldError { field, message } in errors {
        let separator = if section.is_empty() { "" } else { "." };
        let key = format!("{section}{separator}{field}");
        faults.push(match (origins.get(&field), origins.get("enabled")) {
            // The variable's name says which key it is.
            (Some(origin @ Origin::Variable(_)), _) => Fault::new(origin.clone(), "", message),
            // What is at fault because it is missing stands nowhere: `enabled` asks for it.
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

/// The readers bound a number before it is narrowed, so the conversion never fails.
fn narrow<T: TryFrom<u64>>(value: Option<u64>) -> Option<T> {
    value.and_then(|n| T::try_from(n).ok())
}

fn text<T>(fields: &mut Fields, key: &str, check: impl FnOnce(String) -> Result<T, String>) -> Option<T> {
    let text = fields.text(key)?;
    fields.faults.check(key, check(text))
}

fn path(text: String) -> Result<PathBuf, String> {
    bytes_within(text, 1, MAX_PATH_BYTES).and_then(no_control).map(PathBuf::from)
}

/// A certificate and its key, which must be usable; neither of them is no TLS.
fn tls(fields: &mut Fields) -> Option<TlsFiles> {
    let (has_certificate, has_key) = (fields.has("tls_certificate"), fields.has("tls_key"));
    let (certificate, key) = (text(fields, "tls_certificate", path), text(fields, "tls_key", path));
    if has_certificate != has_key {
        let (given, missing) =
            if has_certificate { ("tls_certificate", "tls_key") } else { ("tls_key", "tls_certificate") };
        fields.faults.push(given, format!("needs {missing} beside it"));
    }
    let files = TlsFiles { certificate: certificate?, key: key? };
    let (field, error) = match Certificates::load(files.clone()) {
        Ok(_) => return Some(files),
        Err(error @ TlsError::Key { .. }) => ("tls_key", error),
        Err(error) => ("tls_certificate", error),
    };
    fields.faults.push(field, error.to_string());
    None
}

fn log_format(text: String) -> Result<LogFormat, String> {
    match text.as_str() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be \"text\" or \"json\"".to_owned()),
    }
}

fn database_url(text: String) -> Result<String, String> {
    let text = bytes_within(text, 1, MAX_PATH_BYTES).and_then(no_control)?;
    if text.strip_prefix("sqlite://").is_none_or(str::is_empty) {
        return Err("must be sqlite:// and the path of a file".to_owned());
    }
    Ok(text)
}

/// An address of the service as others reach it, without the last `/`.
fn public_url(text: String) -> Result<String, String> {
    let text = bytes_within(text, 1, MAX_URL_BYTES)?;
    let url: Uri =
        text.parse().map_err(|_| "must be a URL, such as https://cameras.example.org".to_owned())?;
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return Err("must start with http:// or https://".to_owned());
    }
    if url.authority().is_none_or(|a| a.as_str().contains('@')) {
        return Err("must not hold a user name or a password".to_owned());
    }
    if text.contains(['?', '#']) {
        return Err("must not contain ? or #".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// One address as a text, or several as a list.
fn addresses(fields: &mut Fields, key: &str) -> Option<Vec<SocketAddr>> {
    let address = |text: &str| {
        let wrong =
            |_| format!("{text:?} is not an address with a port, such as 127.0.0.1:8080 or [::]:8080");
        text.parse().map_err(wrong)
    };
    let texts = one_or_more(fields, key)?;
    let addresses = texts.iter().map(|text| address(text)).collect();
    fields.faults.check(key, addresses).and_then(|list| counted(fields, key, list, 1, MAX_ADDRESSES))
}

/// Names that a `Host` header may hold.
fn hosts(fields: &mut Fields, key: &str) -> Option<Vec<String>> {
    let texts = one_or_more(fields, key)?;
    let hosts = texts.into_iter().map(host).collect();
    fields.faults.check(key, hosts).and_then(|list| counted(fields, key, list, 0, MAX_HOSTS))
}

/// A name or an address in lower case, perhaps with a port; an IPv6 address stands in brackets, as in a `Host` header.
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

/// age public keys.
fn recipients(fields: &mut Fields, key: &str) -> Option<Vec<PublicKey>> {
    let texts = one_or_more(fields, key)?;
    // Which one is at fault is told by its place: a secret key, put here by mistake, is not to be repeated.
    let parse = |(i, text): (usize, String)| {
        PublicKey::parse(text.trim()).map_err(|fault| format!("number {} {fault}", i + 1))
    };
    let keys = texts.into_iter().enumerate().map(parse).collect();
    fields.faults.check(key, keys).and_then(|list| counted(fields, key, list, 0, MAX_RECIPIENTS))
}

fn one_or_more(fields: &mut Fields, key: &str) -> Option<Vec<String>> {
    let value = match fields.take(key)? {
        Value::String(text) => Value::Array(vec![Value::String(text)]),
        other => other,
    };
    let list = serde_json::from_value(value).map_err(|_| "expected an array of strings".to_owned());
    fields.faults.check(key, list)
}

fn counted<T>(fields: &mut Fields, key: &str, list: Vec<T>, min: usize, max: usize) -> Option<Vec<T>> {
    if !(min..=max).contains(&list.len()) {
        fields.faults.push(key, format!("{} entries, must be {min} to {max}", list.len()));
        return None;
    }
    Some(list)
}
