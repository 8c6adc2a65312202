//! Recognizes which keys of the configuration have changed, without keeping their values, some of which are secrets.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::LazyLock,
};

use serde_json::Value;

/// Its keys are random and differ in each process, so that a hash reveals nothing about a secret.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The hash of each value that was set. Only fingerprints of the same process can be compared.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fingerprint(BTreeMap<String, u64>);

impl Fingerprint {
    /// Takes the fingerprint of these keys and their values.
    pub(super) fn of<'a>(values: impl Iterator<Item = (String, &'a Value)>) -> Self {
        Self(values.map(|(key, value)| (key, HASHER.hash_one(value))).collect())
    }

    /// Adds a secret that is not a key, under the name of its variable.
    pub(super) fn add(&mut self, name: &str, secret: &str) {
        self.0.insert(name.to_owned(), HASHER.hash_one(secret));
    }

    /// Returns the keys whose values differ, including those that are set in only one of the two.
    pub fn changed(&self, other: &Self) -> Vec<String> {
        let differs = |key: &&String| self.0.get(*key) != other.0.get(*key);
        let removed = self.0.keys().filter(|key| !other.0.contains_key(*key));
        let mut changed: Vec<String> = other.0.keys().filter(differs).chain(removed).cloned().collect();
        changed.sort_unstable();
        changed
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(…)")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_that_were_changed_added_or_removed_are_found() {
        let of = |values: Value| {
            Fingerprint::of(values.as_object().unwrap().iter().map(|(key, value)| (key.clone(), value)))
        };
        let before = of(json!({"a": 1, "b": "x", "c": [1, 2]}));
        assert_eq!(before.changed(&before.clone()), [""; 0]);
        assert_eq!(before.changed(&of(json!({"b": "y", "c": [1, 2], "d": true}))), ["a", "b", "d"]);
    }
}
