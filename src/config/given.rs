//! Secrets from the environment or from systemd credentials, instead of from files of the data directory.

use std::{
    fs::File,
    io::{self, ErrorKind, Read as _},
    path::Path,
};

use liveobject_actors::{config::GivenIdentity, domain::link_key::LinkKey};
use secrecy::zeroize::Zeroizing;

use super::{
    fault::{Fault, Origin},
    file::whole,
};
use crate::token::{self, ApiToken};

/// The variable that names the directory of the systemd credentials (`LoadCredential=`).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
const MAX_BYTES: u64 = 64 * 1024;

/// A secret. The variable overrides the credential, which overrides the file.
struct Secret {
    variable: &'static str,
    /// The name of the file in the directory of the systemd credentials.
    credential: &'static str,
    /// Its name in messages.
    name: &'static str,
}

const IDENTITY: Secret = Secret {
    variable: "LIVEOBJECT_IDENTITY",
    credential: "liveobject-identity",
    name: "not a valid age identity",
};
const API_TOKEN: Secret = Secret {
    variable: "LIVEOBJECT_API_TOKEN",
    credential: "liveobject-api-token",
    name: "not a valid API token",
};
const LINK_KEY: Secret = Secret {
    variable: "LIVEOBJECT_THUMBNAIL_KEY",
    credential: "liveobject-thumbnail-key",
    name: "not a valid key",
};

/// The variables that this module reads.
pub(super) const VARIABLES: [&str; 4] =
    [IDENTITY.variable, API_TOKEN.variable, LINK_KEY.variable, CREDENTIALS];

/// The values of these variables.
#[derive(Default)]
pub(super) struct Variables {
    secrets: Vec<(String, Zeroizing<String>)>,
    credentials: Option<String>,
}

impl Variables {
    /// Separates these variables from the others.
    pub(super) fn take(env: impl Iterator<Item = (String, String)>) -> (Self, Vec<(String, String)>) {
        let (mut taken, mut others) = (Self::default(), Vec::new());
        for (name, value) in env {
            match name.as_str() {
                CREDENTIALS => taken.credentials = Some(value),
                known if VARIABLES.contains(&known) => taken.secrets.push((name, value.into())),
                _ => others.push((name, value)),
            }
        }
        (taken, others)
    }

    /// Returns the identity, or `None` if it is in the identity file.
    pub(super) fn identity(&self, faults: &mut Vec<Fault>) -> Option<GivenIdentity> {
        self.read(&IDENTITY, faults, GivenIdentity::parse)
    }

    /// Returns the admin token, or `None` if it is in its file.
    pub(super) fn api_token(&self, faults: &mut Vec<Fault>) -> Option<ApiToken> {
        self.read(&API_TOKEN, faults, |text, _| token::parse(text.as_bytes()))
    }

    /// Returns the key that signs links to pictures, or `None` if it is in its file.
    pub(super) fn link_key(&self, faults: &mut Vec<Fault>) -> Option<LinkKey> {
        self.read(&LINK_KEY, faults, |text, _| LinkKey::parse(text))
    }

    /// Reads a secret with `parse`, which also receives the name of its source.
    fn read<T>(
        &self,
        secret: &Secret,
        faults: &mut Vec<Fault>,
        parse: impl FnOnce(&str, String) -> Result<T, String>,
    ) -> Option<T> {
        let variable = self.secrets.iter().find(|(name, _)| name == secret.variable);
        let (parsed, origin) = match (variable, &self.credentials) {
            (Some((name, text)), _) => (parse(text, name.clone()), Origin::Variable(name.clone())),
            (None, Some(directory)) => {
                let path = Path::new(directory).join(secret.credential);
                let parsed = match read(&path) {
                    Ok(text) => parse(&text, format!("systemd's credential {}", secret.credential)),
                    // The directory contains other credentials only.
                    Err(error) if error.kind() == ErrorKind::NotFound => return None,
                    Err(error) => Err(format!("cannot be read: {error}")),
                };
                (parsed, whole(&path))
            }
            (None, None) => return None,
        };
        let message = |fault| format!("{}: {fault}", secret.name);
        parsed.map_err(|fault| faults.push(Fault::new(origin, "", message(fault)))).ok()
    }
}

/// Reads the credential. Its permissions are systemd's responsibility.
fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(4096));
    File::open(path)?.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}
