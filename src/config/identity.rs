//! An identity that lies in no file of ours: in the environment, or among what systemd hands over.

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

/// The variable that holds an identity itself. It goes before what systemd hands over, and that before `identity_file`.
const VARIABLE: &str = "LIVEOBJECT_IDENTITY";
/// The variable that names the directory of what systemd hands over (`LoadCredential=`).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// The name of ours there.
const CREDENTIAL: &str = "liveobject-identity";
const MAX_BYTES: u64 = 64 * 1024;

/// The variables that are looked at here.
pub(super) const VARIABLES: [&str; 2] = [VARIABLE, CREDENTIALS];

/// What the variables say of an identity.
#[derive(Default)]
pub(super) struct Variables {
    identity: Option<Zeroizing<String>>,
    credentials: Option<String>,
}

impl Variables {
    /// Takes what is meant for it out of the environment's variables.
    pub(super) fn take(env: impl Iterator<Item = (String, String)>) -> (Self, Vec<(String, String)>) {
        let (mut ours, mut others) = (Self::default(), Vec::new());
        for (name, value) in env {
            match name.as_str() {
                VARIABLE => ours.identity = Some(value.into()),
                CREDENTIALS => ours.credentials = Some(value),
                _ => others.push((name, value)),
            }
        }
        (ours, others)
    }

    /// The identity that they lead to; `None`: it lies in a file of ours.
    pub(super) fn identity(&self, faults: &mut Vec<Fault>) -> Option<GivenIdentity> {
        if let Some(text) = &self.identity {
            let parsed = GivenIdentity::parse(text, VARIABLE);
            return note(parsed, Origin::Variable(VARIABLE.to_owned()), faults);
        }
        let path = Path::new(self.credentials.as_ref()?).join(CREDENTIAL);
        let parsed = match read(&path) {
            Ok(text) => GivenIdentity::parse(&text, format!("systemd's credential {CREDENTIAL}")),
            // systemd hands over something else.
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => Err(format!("cannot be read: {error}")),
        };
        note(parsed, whole(&path), faults)
    }
}

fn note(
    parsed: Result<GivenIdentity, String>,
    origin: Origin,
    faults: &mut Vec<Fault>,
) -> Option<GivenIdentity> {
    parsed.map_err(|fault| faults.push(Fault::new(origin, "", format!("no age identity: {fault}")))).ok()
}

/// Who may read the file is systemd's care.
fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(4096));
    File::open(path)?.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}
