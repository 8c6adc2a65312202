//! The state of the identity: usable, missing or unusable.

use std::path::PathBuf;

use super::identity::Identity;

/// The state of the identity when it was loaded.
#[derive(Debug, Clone)]
pub enum IdentityState {
    /// A usable identity in a file.
    Ready(Identity),
    /// A usable identity that the process was started with.
    Given(GivenIdentity),
    /// The file does not exist.
    Missing {
        /// The file's path.
        path: PathBuf,
    },
    /// The file cannot be used.
    Unusable {
        /// What is wrong with it, and how to fix it.
        reason: String,
    },
}

impl IdentityState {
    /// Returns the identity if it is usable.
    pub(super) fn usable(&self) -> Option<&Identity> {
        match self {
            Self::Ready(identity) | Self::Given(GivenIdentity { identity, .. }) => Some(identity),
            Self::Missing { .. } | Self::Unusable { .. } => None,
        }
    }
}

/// An identity that the process was started with.
#[derive(Debug, Clone)]
pub struct GivenIdentity {
    pub(super) identity: Identity,
    /// The source of the identity, in words that an administrator understands.
    pub(super) from: String,
}

impl GivenIdentity {
    /// Parses the text of an identity: `AGE-SECRET-KEY-1…`, optionally with the comments that `age-keygen`
    /// writes. The error never contains the text.
    pub fn parse(text: &str, from: impl Into<String>) -> Result<Self, String> {
        match Identity::parse(text.trim()) {
            Ok(identity) => Ok(Self { identity, from: from.into() }),
            Err(malformed) if malformed.line == 0 => Err(malformed.what.to_owned()),
            Err(malformed) => Err(format!("line {}: {}", malformed.line, malformed.what)),
        }
    }
}
