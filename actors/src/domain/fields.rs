//! Reads a JSON object field by field and collects all faults, so that they are reported at once, each with
//! its field.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

/// A fault of one field of an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FieldError {
    /// The field's name as the sender wrote it, or `""` for the input as a whole.
    pub field: String,
    /// What is wrong with the value, and what is permitted. Never contains the value of a secret.
    pub message: String,
}

/// The faults of an input that was rejected; at least one. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Invalid(pub Vec<FieldError>);

impl Invalid {
    /// Creates the error for one fault.
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
    /// Adds a fault of `field`.
    pub fn push(&mut self, field: &str, message: impl Into<String>) {
        self.0.push(FieldError { field: field.to_owned(), message: message.into() });
    }

    /// Returns the value, or adds the error as a fault of `field`.
    pub fn check<T>(&mut self, field: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.push(field, message)).ok()
    }

    /// Returns whether `field` has a fault.
    pub fn has(&self, field: &str) -> bool {
        self.0.iter().any(|e| e.field == field)
    }

    /// Returns `Ok` if there are no faults.
    pub fn finish(self) -> Result<(), Invalid> {
        if self.0.is_empty() { Ok(()) } else { Err(Invalid(self.0)) }
    }
}

/// The fields of a JSON object, which are taken out one by one.
#[derive(Debug)]
pub struct Fields {
    object: Map<String, Value>,
    /// The faults found so far.
    pub faults: Faults,
}

impl Fields {
    /// Takes the fields of `value`, which must be an object.
    pub fn of(value: Value) -> Result<Self, Invalid> {
        match value {
            Value::Object(object) => Ok(Self { object, faults: Faults::default() }),
            other => Err(Invalid::one("", format!("expected a JSON object, found {}", kind(&other)))),
        }
    }

    /// Returns whether the field is present, even if it is `null`.
    pub fn has(&self, field: &str) -> bool {
        self.object.contains_key(field)
    }

    /// Takes the field's value. Returns `None` if the field is absent.
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

    /// Takes a string. Returns `None` if it is absent, `null` or has another type, which is a fault.
    pub fn text(&mut self, field: &str) -> Option<String> {
        self.typed(field, "a string", |value| match value {
            Value::String(text) => Ok(text),
            other => Err(other),
        })
    }

    /// Takes a Boolean. Returns `None` if it is absent, `null` or has another type, which is a fault.
    pub fn boolean(&mut self, field: &str) -> Option<bool> {
        self.typed(field, "true or false", |value| value.as_bool().ok_or(value))
    }

    /// Takes a whole number within `min..=max`; `91.0` is one, as in JSON Schema. Returns `None` if it is
    /// absent, `null` or anything else, which is a fault.
    pub fn integer(&mut self, field: &str, min: u64, max: u64) -> Option<u64> {
        let value = self.take(field)?;
        if value.is_null() {
            return None;
        }
        match whole(&value) {
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

    /// Takes an array of strings. Returns `None` if it is absent, `null` or anything else, which is a fault.
    pub fn texts(&mut self, field: &str) -> Option<Vec<String>> {
        self.typed(field, "an array of strings", |value| match serde_json::from_value(value.clone()) {
            Ok(list) => Ok(list),
            Err(_) => Err(value),
        })
    }

    /// Returns all faults. Every field that was not taken is unknown, which is a fault.
    pub fn finish(mut self) -> Faults {
        for name in self.object.keys() {
            self.faults.push(name, "unknown field");
        }
        self.faults
    }
}

/// Returns the value of a whole number. Many languages write a number with a fraction of zero, such as `91.0`
/// or `9.1e1`, after rounding it.
fn whole(value: &Value) -> Option<u64> {
    /// Up to this number, every whole number is exact as a floating-point number.
    const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the number is whole and within 0..=2^53"
    )]
    let from_float = |n: f64| ((0.0..=MAX_EXACT).contains(&n) && n.fract() == 0.0).then_some(n as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(from_float))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Checks the length of a string in bytes.
pub fn bytes_within(text: String, min: usize, max: usize) -> Result<String, String> {
    match text.len() {
        n if n < min && n == 0 => Err("must not be empty".to_owned()),
        n if n < min || n > max => Err(format!("{n} bytes, must be {min} to {max}")),
        _ => Ok(text),
    }
}

/// Checks that a string contains no control characters, which would break log lines and Home Assistant's
/// names.
pub fn no_control(text: String) -> Result<String, String> {
    if text.chars().any(char::is_control) {
        return Err("must not contain control characters".to_owned());
    }
    Ok(text)
}

/// Checks that a string of one or more lines contains no control characters other than line endings and tabs.
pub fn no_control_except_lines(text: String) -> Result<String, String> {
    if text.replace("\r\n", "\n").chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return Err("must not contain control characters other than line endings and tabs".to_owned());
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
                ("a", "expected a string, found a number"),
                ("b", "7.5 is not a whole number from 0 to 100"),
                ("c", "expected an array of strings, found an array"),
                ("d", "unknown field"),
            ]
        );
    }

    #[test]
    fn a_number_with_a_fraction_of_zero_is_a_whole_number() {
        let integer = |number: &str| {
            let value = serde_json::from_str(&format!(r#"{{"a": {number}}}"#)).unwrap();
            let mut fields = Fields::of(value).unwrap();
            let found = fields.integer("a", 0, 100);
            fields.finish().finish().map(|()| found.unwrap()).map_err(|error| error.to_string())
        };
        for (number, expected) in [("91.0", 91), ("9.1e1", 91), ("1E2", 100), ("0.0", 0), ("-0.0", 0)] {
            assert_eq!(integer(number), Ok(expected), "{number}");
        }
        for number in ["91.5", "100.00001", "101.0", "-1.0", "1e300", "18446744073709551616"] {
            let error = integer(number).unwrap_err();
            assert!(error.ends_with(" is not a whole number from 0 to 100"), "{number}: {error}");
        }
    }

    #[test]
    fn only_texts_of_several_lines_may_contain_line_endings_and_tabs() {
        for text in ["", "a b", "é\u{200d}"] {
            assert!(
                no_control(text.into()).is_ok() && no_control_except_lines(text.into()).is_ok(),
                "{text:?}"
            );
        }
        for text in ["a\nb", "a\r\nb\r\n", "\ta"] {
            assert!(
                no_control(text.into()).is_err() && no_control_except_lines(text.into()).is_ok(),
                "{text:?}"
            );
        }
        for text in ["\0", "a\u{1b}[2J", "a\rb", "\r", "\u{7f}", "\u{85}"] {
            assert!(
                no_control(text.into()).is_err() && no_control_except_lines(text.into()).is_err(),
                "{text:?}"
            );
        }
    }

    #[test]
    fn null_is_treated_as_absent() {
        let mut fields = Fields::of(json!({"a": null})).unwrap();
        assert!(fields.has("a"));
        assert_eq!(fields.text("a"), None);
        assert_eq!(fields.boolean("b"), None);
        assert!(fields.finish().finish().is_ok());
    }
}
