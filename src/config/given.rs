//! Secrets from the environment or from systemd credentials, instead of from files of the data directory.

use std::{
    fs::File,
    io::{self, ErrorKind, Read as _},
    path::Path,
};

use liveobject_actors::{config::GivenIdentity, domain::link_key::LinkKey};
use secrecy::{SecretString, zeroize::Zeroizing};

use super::{
    fault::{Fault, Origin},
    file::whole,
    fingerprint::Fingerprint,
    variables::Variable,
};
use crate::token::{self, ApiToken};

/// The variable that names the directory of the systemd credentials (`LoadCredential=`).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// The variable that names the directories of the configuration (`ConfigurationDirectory=`).
const CONFIGURATION: &str = "CONFIGURATION_DIRECTORY";
/// The variable that names the directories for data (`StateDirectory=`).
const STATE: &str = "STATE_DIRECTORY";
/// The variable with the token for Home Assistant's Supervisor, which sets it for its apps.
const SUPERVISOR_TOKEN: &str = "SUPERVISOR_TOKEN";
const MAX_BYTES: u64 = 64 * 1024;
const MAX_TOKEN_BYTES: usize = 4096;

/// A secret. The variable overrides the credential, which overrides the file.
struct Secret {
    variable: &'static str,
    /// The name of the file in the directory of the systemd credentials.
    credential: &'static str,
    /// The beginning of messages about an invalid one.
    name: &'static str,
}

const IDENTITY: Secret = Secret {
    variable: "LIVEOBJECT_IDENTITY",
    credential: "liveobject-identity",
    name: "not a valid age identity",
};
/// The variable with the admin token.
pub const API_TOKEN_VARIABLE: &str = "LIVEOBJECT_API_TOKEN";

const API_TOKEN: Secret = Secret {
    variable: API_TOKEN_VARIABLE,
    credential: "liveobject-api-token",
    name: "not a valid API token",
};
const DATABASE_PASSWORD: Secret = Secret {
    variable: "LIVEOBJECT_DATABASE_PASSWORD",
    credential: "liveobject-database-password",
    name: "not a valid password",
};
/// The password of the new database, for `liveobject move`.
const MOVE_PASSWORD: Secret = Secret {
    variable: "LIVEOBJECT_MOVE_PASSWORD",
    credential: "liveobject-move-password",
    name: "not a valid password",
};
const LINK_KEY: Secret = Secret {
    variable: "LIVEOBJECT_THUMBNAIL_KEY",
    credential: "liveobject-thumbnail-key",
    name: "not a valid key",
};

/// The variables that contain a secret.
pub(super) const SECRETS: [&str; 5] = [
    IDENTITY.variable,
    API_TOKEN.variable,
    DATABASE_PASSWORD.variable,
    MOVE_PASSWORD.variable,
    LINK_KEY.variable,
];

/// The variables that systemd or Home Assistant's Supervisor sets.
pub(super) const FOREIGN: [&str; 4] = [CREDENTIALS, CONFIGURATION, STATE, SUPERVISOR_TOKEN];

/// The values of these variables.
#[derive(Default)]
pub(super) struct Variables {
    secrets: Vec<GivenSecret>,
    credentials: Option<String>,
    /// The directories of the configuration, separated by colons.
    pub(super) configuration: Option<String>,
    /// The directories for data, separated by colons.
    pub(super) state: Option<String>,
    supervisor_token: Option<Zeroizing<String>>,
}

struct GivenSecret {
    name: String,
    text: Zeroizing<String>,
    origin: String,
}

impl Variables {
    /// Separates these variables from the others.
    pub(super) fn take(env: Vec<Variable>) -> (Self, Vec<Variable>) {
        let (mut taken, mut others) = (Self::default(), Vec::new());
        for variable in env {
            match variable.name.as_str() {
                CREDENTIALS => taken.credentials = Some(variable.text),
                CONFIGURATION => taken.configuration = Some(variable.text),
                STATE => taken.state = Some(variable.text),
                SUPERVISOR_TOKEN => taken.supervisor_token = Some(variable.text.into()),
                known if SECRETS.contains(&known) => {
                    let Variable { name, text, origin } = variable;
                    taken.secrets.push(GivenSecret { name, text: text.into(), origin });
                }
                _ => others.push(variable),
            }
        }
        (taken, others)
    }

    /// Returns the identity, or `None` if it is in the identity file.
    pub(super) fn identity(&self, print: &mut Fingerprint, faults: &mut Vec<Fault>) -> Option<GivenIdentity> {
        self.read(&IDENTITY, print, faults, GivenIdentity::parse)
    }

    /// Returns the admin token, or `None` if it is in its file.
    pub(super) fn api_token(&self, print: &mut Fingerprint, faults: &mut Vec<Fault>) -> Option<ApiToken> {
        self.read(&API_TOKEN, print, faults, |text, _| token::parse(text.as_bytes()))
    }

    /// Returns the key that signs links to pictures, or `None` if it is in its file.
    pub(super) fn link_key(&self, print: &mut Fingerprint, faults: &mut Vec<Fault>) -> Option<LinkKey> {
        self.read(&LINK_KEY, print, faults, |text, _| LinkKey::parse(text))
    }

    /// Returns the password for the database server, or `None` if there is none or if the URL contains it.
    pub(super) fn database_password(
        &self,
        print: &mut Fingerprint,
        faults: &mut Vec<Fault>,
    ) -> Option<SecretString> {
        self.read(&DATABASE_PASSWORD, print, faults, |text, _| parse_password(text))
    }

    /// Returns the password for the server to which `liveobject move` moves.
    pub(super) fn move_password(
        &self,
        print: &mut Fingerprint,
        faults: &mut Vec<Fault>,
    ) -> Option<SecretString> {
        self.read(&MOVE_PASSWORD, print, faults, |text, _| parse_password(text))
    }

    /// Returns the token for Home Assistant's Supervisor.
    pub(super) fn supervisor_token(&self, faults: &mut Vec<Fault>) -> Option<SecretString> {
        let token =
            self.supervisor_token.as_ref().map(|token| token.trim()).filter(|token| !token.is_empty())?;
        if token.len() > MAX_TOKEN_BYTES || !token.chars().all(|c| c.is_ascii_graphic()) {
            let origin = Origin::Variable(SUPERVISOR_TOKEN.to_owned());
            faults.push(Fault::new(origin, "", "is not a valid token"));
            return None;
        }
        Some(token.into())
    }

    /// Reads a secret with `parse`, which also receives the name of its source, and adds it to the fingerprint.
    fn read<T>(
        &self,
        secret: &Secret,
        print: &mut Fingerprint,
        faults: &mut Vec<Fault>,
        parse: impl FnOnce(&str, String) -> Result<T, String>,
    ) -> Option<T> {
        let parse = |text: &str, source| {
            print.add(secret.variable, text.trim());
            parse(text, source)
        };
        let variable = self.secrets.iter().find(|given| given.name == secret.variable);
        let (parsed, origin) = match (variable, &self.credentials) {
            (Some(GivenSecret { text, origin, .. }), _) => {
                (parse(text, origin.clone()), Origin::Variable(origin.clone()))
            }
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
        let fault = |fault| {
            let fault = Fault::new(origin, "", message(fault));
            // For a variable, the caller knows whether the value is in a file.
            if variable.is_none() { fault.in_a_file_that_may_change() } else { fault }
        };
        parsed.map_err(|message| faults.push(fault(message))).ok()
    }
}

fn parse_password(text: &str) -> Result<SecretString, String> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    match text.strip_suffix('\r').unwrap_or(text) {
        "" => Err("it is empty".to_owned()),
        text if text.len() > MAX_TOKEN_BYTES => Err("it is too long".to_owned()),
        text if text.contains('\0') => Err("it contains a NUL character".to_owned()),
        text => Ok(text.into()),
    }
}

/// Reads the credential. Its permissions are systemd's responsibility.
fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(4096));
    File::open(path)?.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}
