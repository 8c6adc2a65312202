//! The source of the identity: a file, the environment or systemd.

use std::path::PathBuf;

use super::{
    identity_file,
    identity_state::{GivenIdentity, IdentityState},
};

/// The source of the identity.
#[derive(Debug, Clone)]
pub enum IdentitySource {
    /// A file. It is created if it is missing and no ciphertext depends on a previous identity. `key rotate`
    /// replaces it.
    File(PathBuf),
    /// The environment or systemd, read when the process starts. No file is read or written.
    Given(GivenIdentity),
}

impl IdentitySource {
    /// Loads the current identity.
    pub(super) fn load(&self) -> IdentityState {
        match self {
            Self::File(path) => identity_file::load(path),
            Self::Given(given) => IdentityState::Given(given.clone()),
        }
    }
}
