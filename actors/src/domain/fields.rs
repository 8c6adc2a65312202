//! Reading a JSON object field by field, so that every fault is reported at once and named by its field.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

/// What is wrong with one field of an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field's name as the sender wrote it; `""` for the input as a whole.
    pub field: String,
    /// The bound, and what is wrong with the value. Never contains a secret's value.
    pub message: String,
}

/// An input that was refused: every fault that was found, never empty. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Invalid(pub Vec<FieldError>);

impl Invalid {
    /// One fault, of one field.
    pub fn one(field: &str, message: impl Into<String>) -> Self {
        Self(vec![FieldError { field: field.to_owned(), message: message.into() }])
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, FieldError { field, message }) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            if field.is_empty() {
                write!(f, "{separator}{message}")?;
            } else {
                write!(f, "{separator}{field}: {message}")?;
            }
        }
        Ok(())
    }
}

/// Collects the faults of one input.
#[derive(Debug, Default)]
pub struct Faults(Vec<FieldError>);

impl Faults {
    /// Notes that `field` is at fault.
    pub fn push(&mut self, field: &str, message: impl Into<String>) {
        self.0.push(FieldError { field: field.to_owned(), message: message.into() });
    }

    /// Passes on a good value; notes the fault of a bad one.
    pub fn check<T>(&mut self, field: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.push(field, message)).ok()
    }

    /// Whether `field` was already found at fault.
    pub fn has(&self, field: &str) -> bool {
        self.0.iter().any(|e| e.field == field)
    }

    /// `Ok` when nothing was at fault.
    pub fn finish(self) -> Result<(), Invalid> {
        if self.0.is_empty() { Ok(()) } else { Err(Invalid(self.0)) }
    }
}

/// The fields of one JSON object, taken out one by one.
#[derive(Debug)]
pub struct Fields {
    object: Map<String, Value>,
    /// What was wrong so far.
    pub faults: Faults,
}

impl Fields {
    /// The fields of `value`, which must be an object.
    pub fn of(value: Value) -> Result<Self, Invalid> {
        match value {
            Value::Object(object) => Ok(Self { object, faults: Faults::default() }),
            other => Err(Invalid::one("", format!("expected a JSON object, found {}", kind(&other)))),
        }
    }

    /// Whether the field is there at all, `null` included.
    pub fn has(&self, field: &str) -> bool {
        self.object.contains_key(field)
    }

    /// The field's value; `None` when it is absent.
    pub fn take(&mut self, field: &str) -> Option<Value> {
        self.object.remove(field)
    }

    fn typed<T>(
        &mut self,
        field: &str,
        expected: &str,
        read: impl FnOnce(Value) -> Result<T, Value>,
    ) -> Option<T> {
        match self.take(field)? {
            Value::Null => None,
            value => match read(value) {
                Ok(value) => Some(value),
                Err(value) => {
                    self.faults.push(field, format!("expected {expected}, found {}", kind(&value)));
                    None
                }
            },
        }
    }

    /// A text; `None` when absent, `null` or at fault.
    pub fn text(&mut self, field: &str) -> Option<String> {
        self.typed(field, "a text", |v| match v {
            Value::String(s) => Ok(s),
            other => Err(other),
        })
    }

    /// A truth value; `None` when absent, `null` or at fault.
    pub fn boolean(&mut self, field: &str) -> Option<bool> {
        self.typed(field, "true or false", |v| v.as_bool().ok_or(v))
    }

    /// A whole number within `min..=max`; `None` when absent, `null` or at fault.
    pub fn integer(&mut self, field: &str, min: u64, max: u64) -> Option<u64> {
        let value = self.take(field)?;
        if value.is_null() {
            return None;
        }
        match value.as_u64() {
            Some(n) if (min..=max).contains(&n) => Some(n),
            _ if value.is_number() => {
                self.faults.push(field, format!("{value} is not a whole number from {min} to {max}"));
                None
            }
            _ => {
                let found = kind(&value);
                self.faults
                    .push(field, format!("expected a whole number from {min} to {max}, found {found}"));
                None
            }
        }
    }

    /// A list of texts; `None` when absent, `null` or at fault.
    pub fn texts(&mut self, field: &str) -> Option<Vec<String>> {
        self.typed(field, "a list of texts", |v| match serde_json::from_value(v.clone()) {
            Ok(list) => Ok(list),
            Err(_) => Err(v),
        })
    }

    /// Every field that is left is one that nobody knows: a fault.
    pub fn finish(mut self) -> Faults {
        for name in self.object.keys() {
            self.faults.push(name, "unknown field");
        }
        self.faults
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Checks a text's length in bytes.
pub fn bytes_within(text: String, min: usize, max: usize) -> Result<String, String> {
    match text.len() {
        n if n < min && n == 0 => Err("must not be empty".to_owned()),
        n if n < min || n > max => Err(format!("{n} bytes, must be {min} to {max}")),
        _ => Ok(text),
    }
}

/// Checks that a text has no control characters (which would break one-line logs and Home Assistant's names).
pub fn no_control(text: String) -> Result<String, String> {
    if text.chars().any(char::is_control) {
        return Err("must not contain control characters".to_owned());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_faults_are_reported_at_once() {
        let mut fields = Fields::of(json!({"a": 1, "b": 7.5, "c": [1], "d": "x"})).unwrap();
        assert_eq!(fields.text("a"), None);
        assert_eq!(fields.integer("b", 0, 100), None);
        assert_eq!(fields.texts("c"), None);
        let Invalid(faults) = fields.finish().finish().unwrap_err();
        let named: Vec<_> = faults.iter().map(|f| (f.field.as_str(), f.message.as_str())).collect();
        assert_eq!(
            named,
            [
                ("a", "expected a text, found a number"),
                ("b", "7.5 is not a whole number from 0 to 100"),
                ("c", "expected a list of texts, found a list"),
                ("d", "unknown field"),
            ]
        );
    }

    #[test]
    fn null_and_absent_are_the_same() {
        let mut fields = Fields::of(json!({"a": null})).unwrap();
        assert!(fields.has("a"));
        assert_eq!(fields.text("a"), None);
        assert_eq!(fields.boolean("b"), None);
        assert!(fields.finish().finish().is_ok());
    }
}
