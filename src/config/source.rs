//! The values of the file and of the environment in one form, each with its location.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};
use toml::de::{DeInteger, DeValue};

use super::{
    fault::{Fault, Origin},
    keys::{self, Key, Kind, PREFIX},
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

    /// Returns where a key was set.
    pub(super) fn origin(&self, section: &'static str, name: &'static str) -> Option<&Origin> {
        self.entries.get(&(section, name)).map(|entry| &entry.origin)
    }

    /// Removes and returns the values of a section as a JSON object, and where each was set.
    pub(super) fn take_section(&mut self, section: &str) -> (Map<String, Value>, BTreeMap<String, Origin>) {
        self.entries
            .extract_if(.., |(its_section, _), _| *its_section == section)
            .map(|((_, name), Entry { value, origin })| ((name.to_owned(), value), (name.to_owned(), origin)))
            .unzip()
    }

    /// Adds the values of the environment variables, which override those of the file.
    pub(super) fn read_environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
        faults: &mut Vec<Fault>,
    ) {
        let keys = keys::all();
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
