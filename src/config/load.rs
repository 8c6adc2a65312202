//! Loads the configuration from its file and the environment.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use liveobject_actors::domain::calendar::Calendar;

use super::{
    fault::{ConfigError, Fault, Origin},
    file::{self, Text},
    given::{self, Variables},
    keys::{self, MQTT, TLS_KEY},
    read,
    source::Source,
    values::{Config, SECRET_SETTINGS},
};

/// The file that is read if no other one is given, and if it exists.
pub const DEFAULT_FILE: &str = "config.toml";

/// Returns the environment variables that belong to the configuration, and those that probably should. Invalid
/// UTF-8 in them is replaced here and refused later; in other variables it does no harm.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter(|(name, _)| {
            name.as_encoded_bytes().to_ascii_uppercase().starts_with(keys::PROGRAM.as_bytes())
                || given::VARIABLES.iter().any(|known| name == known)
        })
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

impl Config {
    /// Loads the file and the environment. If `path` is given, the file must exist; otherwise,
    /// [`DEFAULT_FILE`] in the working directory is read if it exists. Variables other than those of
    /// [`environment`] are ignored.
    pub fn load(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        Self::from_file(path.unwrap_or(Path::new(DEFAULT_FILE)), path.is_some(), env)
    }

    pub(super) fn from_file(
        path: &Path,
        required: bool,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let (mut source, mut faults) = (Source::default(), Vec::new());
        let (variables, env) = Variables::take(env);
        let file = match Text::read(path) {
            Ok(None) if required => Err(vec![Fault::new(file::whole(path), "", "does not exist")]),
            Ok(text) => Ok(text),
            Err(fault) => Err(vec![fault]),
        };
        let file = file.and_then(|text| {
            let is_world_readable = text.as_ref().is_some_and(|text| text.is_world_readable);
            text.map_or(Ok(()), |text| text.parse(&mut source, &mut faults)).map(|()| is_world_readable)
        });
        let mut warnings = source.read_environment(env.into_iter(), &mut faults);
        // Without the file, checks that involve several values would report false faults.
        let is_world_readable =
            file.map_err(|more| ConfigError::new(faults.iter().cloned().chain(more).collect()))?;
        if is_world_readable {
            warnings.extend(world_readable_secrets(&source, path));
        }
        let tls_key = source.origin(TLS_KEY.section, TLS_KEY.name).cloned();
        let mut config = read::read(source, &mut faults);
        if let (Some(tls), Some(origin)) = (&config.http.tls, tls_key) {
            warnings.extend(world_readable_key(&tls.key, &origin));
        }
        config.warnings = warnings;
        config.secrets.identity = variables.identity(&mut faults);
        config.secrets.api_token = variables.api_token(&mut faults);
        config.secrets.link_key = variables.link_key(&mut faults);
        config.warnings.extend(unknown_time_zone(&config));
        if faults.is_empty() { Ok(config) } else { Err(ConfigError::new(faults)) }
    }
}

/// Returns a warning if every user can read the key of the server's certificate.
fn world_readable_key(path: &Path, origin: &Origin) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o004 != 0).then(|| world_readable(origin, &TLS_KEY.to_string(), path))
}

/// Returns a warning for each secret in a file that every user can read.
fn world_readable_secrets(source: &Source, path: &Path) -> Vec<String> {
    SECRET_SETTINGS
        .iter()
        .filter_map(|name| match source.origin(MQTT, name)? {
            origin @ Origin::File { .. } => Some(world_readable(origin, &keys::dotted(MQTT, name), path)),
            Origin::Variable(_) => None,
        })
        .collect()
}

fn world_readable(origin: &Origin, key: &str, path: &Path) -> String {
    let path = path.display();
    format!("{origin}: {key}: every user of this machine can read it; run `chmod 600 {path}`")
}

/// Returns a warning if UTC is used only because the system's time zone is unknown.
fn unknown_time_zone(config: &Config) -> Option<String> {
    let (None, (_, Some(reason))) = (config.cameras.time_zone, Calendar::system()) else { return None };
    Some(format!("cannot determine the system's time zone ({reason}); using UTC. Set [cameras] time_zone"))
}
