//! The values of the file, the environment and the command line in one form, each with its location.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};
use toml::de::{DeInteger, DeValue};

use super::{
    fault::{Fault, Origin},
    fingerprint::Fingerprint,
    keys::{self, Key, Kind, PREFIX},
    location::Options,
    variables::{FILE_SUFFIX, Variable},
};

/// A value, and where it was set.
#[derive(Debug)]
struct Entry {
    value: Value,
    origin: Origin,
}

/// All values that were set.
#[derive(Default)]
pub(super) struct Source {
    entries: BTreeMap<(&'static str, &'static str), Entry>,
}

impl Source {
    /// Sets a key. Overrides an earlier value.
    pub(super) fn insert(&mut self, key: Key, value: Value, origin: Origin) {
        self.entries.insert((key.section, key.name), Entry { value, origin });
    }

    /// Sets a key unless it is set.
    pub(super) fn insert_unless_set(&mut self, key: Key, value: Value, origin: Origin) {
        self.entries.entry((key.section, key.name)).or_insert(Entry { value, origin });
    }

    /// Returns the value of a key, before it is checked.
    pub(super) fn value(&self, key: Key) -> Option<&Value> {
        self.entries.get(&(key.section, key.name)).map(|entry| &entry.value)
    }

    /// Returns where a key was set.
    pub(super) fn origin(&self, section: &'static str, name: &'static str) -> Option<&Origin> {
        self.entries.get(&(section, name)).map(|entry| &entry.origin)
    }

    /// Returns the fingerprint of all values.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let entries = self.entries.iter();
        Fingerprint::of(entries.map(|((section, name), entry)| (keys::dotted(section, name), &entry.value)))
    }

    /// Removes and returns the values of a section as a JSON object, and where each was set.
    pub(super) fn take_section(&mut self, section: &str) -> (Map<String, Value>, BTreeMap<String, Origin>) {
        self.entries
            .extract_if(.., |(its_section, _), _| *its_section == section)
            .map(|((_, name), Entry { value, origin })| ((name.to_owned(), value), (name.to_owned(), origin)))
            .unzip()
    }

    /// Adds the values of the environment variables, which override those of the file. Adds a fault for each misspelt
    /// variable. Returns a warning for each other unknown variable.
    pub(super) fn read_environment(
        &mut self,
        variables: Vec<Variable>,
        faults: &mut Vec<Fault>,
    ) -> Vec<String> {
        let keys = keys::all();
        let mut warnings = Vec::new();
        for Variable { name, text, origin } in variables {
            let origin = Origin::Variable(origin.escape_debug().to_string());
            let suffix = name.strip_suffix(FILE_SUFFIX).filter(|name| keys::similar(&keys, name).is_some());
            let suffix_in_message = suffix.map_or("", |_| FILE_SUFFIX);
            let key = keys.iter().find(|key| key.variable() == name);
            match (key, keys::similar(&keys, suffix.unwrap_or(&name))) {
                (None, Some(similar)) => {
                    let message =
                        format!("unknown variable; did you mean {}{suffix_in_message}?", similar.variable());
                    faults.push(Fault::new(origin, "", message));
                }
                (None, None) if name.starts_with(PREFIX) => {
                    faults.push(Fault::new(origin, "", "unknown variable"));
                }
                (None, None) if is_from_kubernetes(&name, &text) => {}
                (None, None) => warnings.push(format!(
                    "{origin}: unknown variable; it has no effect. Variables of the configuration are called \
                     LIVEOBJECT__SECTION__KEY, such as {}",
                    keys::BIND.variable()
                )),
                (Some(_), _) if text.contains(char::REPLACEMENT_CHARACTER) => {
                    faults.push(Fault::new(origin, "", "must be UTF-8 text"));
                }
                (Some(key), _) => self.insert(*key, from_text(key.kind, text), origin),
            }
        }
        warnings
    }

    /// Adds the options of the command line, which override everything else.
    pub(super) fn read_options(&mut self, options: &Options) {
        if let Some(directory) = &options.data_dir {
            self.insert(keys::DATA_DIR, directory.as_str().into(), Origin::Variable("--data-dir".to_owned()));
        }
        if !options.bind.is_empty() {
            self.insert(keys::BIND, options.bind.clone().into(), Origin::Variable("--bind".to_owned()));
        }
    }

    /// Sets the data directory to the one that systemd has created, unless one was configured.
    pub(super) fn set_data_dir_unless_set(&mut self, directory: Option<&str>) {
        let is_set = self.origin(keys::DATA_DIR.section, keys::DATA_DIR.name).is_some();
        if let Some(directory) = directory.filter(|_| !is_set) {
            let origin = Origin::Variable("STATE_DIRECTORY".to_owned());
            self.insert(keys::DATA_DIR, directory.into(), origin);
        }
    }
}

/// Returns whether Kubernetes sets this variable for a service whose name begins with `liveobject`, such as
/// `LIVEOBJECT_SERVICE_HOST` or `LIVEOBJECT_PORT=tcp://10.0.0.1:8080`.
fn is_from_kubernetes(name: &str, text: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.rsplit_once("_PORT_").is_some_and(|(_, port)| port.starts_with(|c: char| c.is_ascii_digit()))
        || (name.ends_with("_PORT") && text.contains("://"))
}

/// Returns the value of a variable. Text that does not parse stays a string: a key that expects another type
/// refuses it later.
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

/// Converts a TOML value to JSON. Dates are refused, because no key accepts one.
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
