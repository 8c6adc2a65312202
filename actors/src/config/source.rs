//! Where the identity comes from.

use std::path::PathBuf;

use super::{
    identity::Identity,
    identity_file::{self, IdentityState},
};

/// Where the identity comes from.
#[derive(Debug, Clone)]
pub enum IdentitySource {
    /// A file: made when it is missing and nothing needs another one, changed by `key rotate`.
    File(PathBuf),
    /// The process's start: never written, and no file is looked at.
    Given(GivenIdentity),
}

impl IdentitySource {
    /// What is there now.
    pub(super) fn load(&self) -> IdentityState {
        match self {
            Self::File(path) => identity_file::load(path),
            Self::Given(given) => IdentityState::Given(given.clone()),
        }
    }
}

/// An identity that the process was started with.
#[derive(Debug, Clone)]
pub struct GivenIdentity {
    pub(super) identity: Identity,
    /// What it came in, as an administrator knows it.
    pub(super) from: String,
}

impl GivenIdentity {
    /// Reads the text of an identity: `AGE-SECRET-KEY-1…`, and perhaps what `age-keygen` writes around it. The error never
    /// contains the text.
    pub fn parse(text: &str, from: impl Into<String>) -> Result<Self, String> {
        match Identity::parse(text.trim()) {
            Ok(identity) => Ok(Self { identity, from: from.into() }),
            Err(malformed) if malformed.line == 0 => Err(malformed.what.to_owned()),
            Err(malformed) => Err(format!("line {}: {}", malformed.line, malformed.what)),
        }
    }
}
