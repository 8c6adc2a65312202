//! Where values come from: the file and the environment, brought into one form.
//!
//! Knows which keys there are and of what kind, not what a good value is. Every value keeps the place where it was
//! written.

use std::collections::BTreeMap;

use liveobject_actors::MqttSettings;
use serde_json::{Map, Number, Value};
use toml::de::{DeInteger, DeValue};

use super::fault::{Fault, Origin};

/// What every variable's name starts with.
pub(super) const PREFIX: &str = "LIVEOBJECT__";

/// How a variable's text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// As it stands.
    Text,
    /// As a TOML list, or separated by commas.
    List,
    /// As a TOML value.
    Plain,
}

/// One key of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    /// Empty for a key that stands before all sections.
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

const KEYS: [Key; 17] = [
    Key { section: "", name: "data_dir", kind: Kind::Text },
    Key { section: "http", name: "bind", kind: Kind::List },
    Key { section: "http", name: "public_url", kind: Kind::Text },
    Key { section: "http", name: "allowed_hosts", kind: Kind::List },
    Key { section: "http", name: "tls_certificate", kind: Kind::Text },
    Key { section: "http", name: "tls_key", kind: Kind::Text },
    Key { section: "http", name: "failed_logins_per_minute", kind: Kind::Plain },
    Key { section: "database", name: "url", kind: Kind::Text },
    Key { section: "secrets", name: "identity_file", kind: Kind::Text },
    Key { section: "secrets", name: "recipients", kind: Kind::List },
    Key { section: "outbox", name: "max_pending", kind: Kind::Plain },
    Key { section: "outbox", name: "window", kind: Kind::Plain },
    Key { section: "outbox", name: "retention_days", kind: Kind::Plain },
    Key { section: "cameras", name: "time_zone", kind: Kind::Text },
    Key { section: "cameras", name: "max", kind: Kind::Plain },
    Key { section: "log", name: "format", kind: Kind::Text },
    Key { section: "log", name: "filter", kind: Kind::Text },
];

/// All keys, those of the MQTT settings included.
pub(super) fn keys() -> Vec<Key> {
    let defaults = serde_json::to_value(MqttSettings::defaults("")).unwrap_or_default();
    let kind = |name| match &defaults[name] {
        Value::Bool(_) | Value::Number(_) => Kind::Plain,
        // Those that are absent by default and the secrets are texts, too.
        _ => Kind::Text,
    };
    let mqtt = MqttSettings::FIELDS.map(|name| Key { section: "mqtt", name, kind: kind(name) });
    KEYS.into_iter().chain(mqtt).collect()
}

impl Key {
    /// The variable that sets this key.
    pub(super) fn variable(self) -> String {
        let Self { section, name, .. } = self;
        let separator = if section.is_empty() { "" } else { "__" };
        PREFIX.to_owned() + &format!("{section}{separator}{name}").to_uppercase()
    }
}

/// One value, and where it was written.
#[derive(Debug)]
struct Entry {
    value: Value,
    origin: Origin,
}

/// Everything that was written.
#[derive(Default)]
pub(super) struct Source {
    entries: BTreeMap<(&'static str, &'static str), Entry>,
}

impl Source {
    /// Sets a key, in place of what was set before.
    pub(super) fn insert(&mut self, key: Key, value: Value, origin: Origin) {
        self.entries.insert((key.section, key.name), Entry { value, origin });
    }

    /// Where a key was written, if it was.
    pub(super) fn origin(&self, section: &'static str, name: &'static str) -> Option<&Origin> {
        self.entries.get(&(section, name)).map(|entry| &entry.origin)
    }

    /// The values of a section, as a JSON object, and where each was written.
    pub(super) fn take_section(&mut self, section: &str) -> (Map<String, Value>, BTreeMap<String, Origin>) {
        self.entries
            .extract_if(.., |(of, _), _| *of == section)
            .map(|((_, name), Entry { value, origin })| ((name.to_owned(), value), (name.to_owned(), origin)))
            .unzip()
    }

    /// Adds what stands in the environment.
    pub(super) fn read_environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
        faults: &mut Vec<Fault>,
    ) {
        let keys = keys();
        for (name, text) in variables.filter(|(name, _)| name.starts_with(PREFIX)) {
            let origin = Origin::Variable(name.escape_debug().to_string());
            let key = keys.iter().find(|key| key.variable() == name);
            match key {
                None => faults.push(Fault::new(origin, "", "unknown variable")),
                Some(_) if text.contains(char::REPLACEMENT_CHARACTER) => {
                    faults.push(Fault::new(origin, "", "must be UTF-8 text"));
                }
                Some(key) => self.insert(*key, from_text(key.kind, text), origin),
            }
        }
    }
}

/// A variable's value. What does not parse stays a text, and is refused by the key that wants something else.
fn from_text(kind: Kind, text: String) -> Value {
    let parsed = || DeValue::parse(text.trim()).ok().and_then(|value| to_json(value.get_ref()).ok());
    match kind {
        Kind::Text => Value::String(text),
        Kind::Plain => parsed().unwrap_or(Value::String(text)),
        Kind::List => parsed()
            .filter(Value::is_array)
            .unwrap_or_else(|| text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()),
    }
}

/// A TOML value as JSON. Dates have no place in either.
pub(super) fn to_json(value: &DeValue) -> Result<Value, String> {
    match value {
        DeValue::String(text) => Ok(Value::String(text.to_string())),
        DeValue::Boolean(truth) => Ok(Value::Bool(*truth)),
        DeValue::Integer(number) => whole(number).map(Value::Number),
        DeValue::Float(number) => {
            let number = number.as_str().parse().ok().and_then(Number::from_f64);
            number.map(Value::Number).ok_or_else(|| "must be a finite number".to_owned())
        }
        DeValue::Datetime(_) => Err("must not be a date or a time".to_owned()),
        DeValue::Array(items) => items.iter().map(|item| to_json(item.get_ref())).collect(),
        DeValue::Table(table) => table
            .iter()
            .map(|(key, value)| Ok((key.get_ref().to_string(), to_json(value.get_ref())?)))
            .collect(),
    }
}

fn whole(number: &DeInteger) -> Result<Number, String> {
    i64::from_str_radix(number.as_str(), number.radix())
        .map(Number::from)
        .map_err(|_| "the number is too large".to_owned())
}
