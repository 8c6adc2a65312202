//! Revisions of the settings, so that nobody undoes a change that they have not seen.

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::domain::hex;

/// Half of the digest is enough to tell revisions apart.
const DIGEST_BYTES: usize = 16;

/// Returns a short text that identifies this state of the settings: 32 hexadecimal digits. `view` contains no
/// secrets, but when the settings were stored, so it differs even if only a secret was replaced.
pub fn revision_of(view: &impl Serialize) -> String {
    let json = serde_json::to_vec(view).expect("settings consist of strings, numbers and booleans");
    let mut text = String::with_capacity(2 * DIGEST_BYTES);
    hex::push(&mut text, &Sha256::digest(json)[..DIGEST_BYTES]);
    text
}

/// What a replacement requires of the settings that it replaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    #[default]
    None,
    /// That their revision is one of these. An empty list never matches.
    OneOf(Vec<String>),
}

impl Precondition {
    /// Returns whether settings with this revision may be replaced.
    pub fn allows(&self, revision: &str) -> bool {
        match self {
            Self::None => true,
            Self::OneOf(revisions) => revisions.iter().any(|expected| expected == revision),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_difference_gives_another_revision_and_equal_settings_give_the_same() {
        let first = revision_of(&json!({"qos": 1, "updated_at": "2026-05-01T12:00:00.000001Z"}));
        assert_eq!(first.len(), 2 * DIGEST_BYTES);
        assert_eq!(first, revision_of(&json!({"qos": 1, "updated_at": "2026-05-01T12:00:00.000001Z"})));
        assert_ne!(first, revision_of(&json!({"qos": 1, "updated_at": "2026-05-01T12:00:00.000002Z"})));
        assert_ne!(first, revision_of(&json!({"qos": 2, "updated_at": "2026-05-01T12:00:00.000001Z"})));
    }

    #[test]
    fn only_a_listed_revision_may_be_replaced_unless_nothing_is_required() {
        let one_of = |revisions: &[&str]| {
            Precondition::OneOf(revisions.iter().map(|revision| (*revision).to_owned()).collect())
        };
        assert!(Precondition::None.allows("b"));
        assert!(one_of(&["a", "b"]).allows("b"));
        assert!(!one_of(&["a"]).allows("b"));
        assert!(!one_of(&[]).allows("b"));
    }
}
