//! An identity from the environment or from a systemd credential, instead of from the identity file.

use std::{
    fs::File,
    io::{self, ErrorKind, Read as _},
    path::Path,
};

use liveobject_actors::config::GivenIdentity;
use secrecy::zeroize::Zeroizing;

use super::{
    fault::{Fault, Origin},
    file::whole,
};

/// The variable that contains an identity. It overrides the systemd credential, which overrides
/// `identity_file`.
const VARIABLE: &str = "LIVEOBJECT_IDENTITY";
/// The variable that names the directory of the systemd credentials (`LoadCredential=`).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// The name of our credential in that directory.
const CREDENTIAL: &str = "liveobject-identity";
const MAX_BYTES: u64 = 64 * 1024;

/// The variables that this module reads.
pub(super) const VARIABLES: [&str; 2] = [VARIABLE, CREDENTIALS];

/// The values of the two variables.
#[derive(Default)]
pub(super) struct Variables {
    identity: Option<Zeroizing<String>>,
    credentials: Option<String>,
}

impl Variables {
    /// Separates the two variables from the others.
    pub(super) fn take(env: impl Iterator<Item = (String, String)>) -> (Self, Vec<(String, String)>) {
        let (mut taken, mut others) = (Self::default(), Vec::new());
        for (name, value) in env {
            match name.as_str() {
                VARIABLE => taken.identity = Some(value.into()),
                CREDENTIALS => taken.credentials = Some(value),
                _ => others.push((name, value)),
            }
        }
        (taken, others)
    }

    /// Returns the identity, or `None` if it is in the identity file.
    pub(super) fn identity(&self, faults: &mut Vec<Fault>) -> Option<GivenIdentity> {
        if let Some(text) = &self.identity {
            let parsed = GivenIdentity::parse(text, VARIABLE);
            return valid_or_fault(parsed, Origin::Variable(VARIABLE.to_owned()), faults);
        }
        let path = Path::new(self.credentials.as_ref()?).join(CREDENTIAL);
        let parsed = match read(&path) {
            Ok(text) => GivenIdentity::parse(&text, format!("systemd's credential {CREDENTIAL}")),
            // The directory contains other credentials only.
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => Err(format!("cannot be read: {error}")),
        };
        valid_or_fault(parsed, whole(&path), faults)
    }
}

fn valid_or_fault(
    parsed: Result<GivenIdentity, String>,
    origin: Origin,
    faults: &mut Vec<Fault>,
) -> Option<GivenIdentity> {
    parsed
        .map_err(|fault| faults.push(Fault::new(origin, "", format!("not a valid age identity: {fault}"))))
        .ok()
}

/// Reads the credential. Its permissions are systemd's responsibility.
fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(4096));
    File::open(path)?.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}
