//! Loads the configuration from its file and the environment.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use liveobject_actors::{domain::calendar::Calendar, store::ServerLocation};
use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::{
    app_options,
    fault::{ConfigError, Fault, Origin},
    file::{self, Text},
    given::{self, Variables},
    keys::{self, DATABASE_URL, MQTT, TLS_KEY},
    location::{self, DEFAULT_FILES, Options},
    read,
    source::Source,
    values::{Config, Database, SECRET_SETTINGS},
    variables,
};
use crate::owner;

/// Returns the environment variables that belong to the configuration, and those that look as if they should.
/// Invalid UTF-8 in them is replaced here and refused later; in other variables it does no harm.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter(|(name, _)| {
            name.as_encoded_bytes().to_ascii_uppercase().starts_with(keys::PROGRAM.as_bytes())
                || given::FOREIGN.iter().any(|known| name == known)
        })
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

impl Config {
    /// Loads the file, the environment and the options of the command line. If a file is given, it must exist;
    /// otherwise, the first of these that exists is read: `config.toml` in a directory of
    /// `CONFIGURATION_DIRECTORY`, in the working directory, and in `/etc/liveobject`. Variables other than those
    /// of [`environment`] are ignored.
    pub fn load(options: &Options, env: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        Self::load_from(&DEFAULT_FILES, options, env)
    }

    /// Returns `[home_assistant] app_dir`, even if other values are invalid.
    pub fn app_dir(options: &Options, env: impl Iterator<Item = (String, String)>) -> Option<PathBuf> {
        // Faults are reported when the configuration is loaded.
        app_dir(&Given::read(&DEFAULT_FILES, options, env, &mut Vec::new()).source)
    }

    /// Like [`Config::load`], with these files instead of those in the working directory and in `/etc`.
    pub(super) fn load_from(
        defaults: &[impl AsRef<Path>],
        options: &Options,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut faults = Vec::new();
        let Given { mut source, variables, in_files, file, mut warnings } =
            Given::read(defaults, options, env, &mut faults);
        source.read_options(options);
        source.set_data_dir_unless_set(location::first(variables.state.as_deref()));
        // Without the file, checks that involve several values would report false faults.
        let file = file.map_err(|more| ConfigError::new(faults.iter().cloned().chain(more).collect()))?;
        if let Some(app_dir) = app_dir(&source) {
            app_options::read(&app_dir, &mut source, &mut faults);
        }
        let exposed = match &file {
            Some((_, true)) => secrets_in_file(&source),
            _ => Vec::new(),
        };
        let tls_key = source.origin(TLS_KEY.section, TLS_KEY.name).cloned();
        let fingerprint = source.fingerprint();
        let mut config = read::read(source, &mut faults);
        config.fingerprint = fingerprint;
        if let Some((path, _)) = &file {
            let warning =
                |(origin, key): &(Origin, String)| world_readable(origin, key, path, &config.data_dir);
            warnings.extend(exposed.iter().map(warning));
        }
        if let (Some(tls), Some(origin)) = (&config.http.tls, tls_key) {
            warnings.extend(world_readable_key(&tls.key, &origin, &config.data_dir));
        }
        config.file = file.map(|(path, _)| path);
        config.warnings = warnings;
        let print = &mut config.fingerprint;
        config.secrets.identity = variables.identity(print, &mut faults);
        config.secrets.api_token = variables.api_token(print, &mut faults);
        config.secrets.link_key = variables.link_key(print, &mut faults);
        config.database.password = variables.database_password(print, &mut faults);
        config.database.move_password = variables.move_password(print, &mut faults);
        config.home_assistant.token = variables.supervisor_token(&mut faults);
        let of_files = faults.iter_mut().filter(|fault| in_files.contains(&fault.origin));
        of_files.for_each(|fault| fault.may_pass = true);
        config.warnings.extend(unknown_time_zone(&config));
        config.warnings.extend(unused_password(&config.database));
        if faults.is_empty() { Ok(config) } else { Err(ConfigError::new(faults)) }
    }
}

/// What the file and the environment contain.
struct Given {
    source: Source,
    variables: Variables,
    /// The variables whose values are in files.
    in_files: Vec<Origin>,
    /// The file, if there is one, and whether every user can read it; or why it cannot be used.
    file: Result<Option<(PathBuf, bool)>, Vec<Fault>>,
    warnings: Vec<String>,
}

impl Given {
    fn read(
        defaults: &[impl AsRef<Path>],
        options: &Options,
        env: impl Iterator<Item = (String, String)>,
        faults: &mut Vec<Fault>,
    ) -> Self {
        let mut source = Source::default();
        let variables = variables::resolve(env, faults);
        let in_files = variables.iter().filter(|variable| variable.is_in_file());
        let in_files = in_files.map(|variable| Origin::Variable(variable.origin.clone())).collect();
        let (variables, env) = Variables::take(variables);
        let found = find(options.file.as_deref(), || {
            location::candidates(variables.configuration.as_deref(), defaults)
        });
        let file = found.map_err(|fault| vec![fault]).and_then(|found| {
            found.map_or(Ok(None), |(path, text)| {
                text.parse(&mut source, faults).map(|()| Some((path, text.is_world_readable)))
            })
        });
        let warnings = source.read_environment(env, faults);
        Self { source, variables, in_files, file, warnings }
    }
}

fn app_dir(source: &Source) -> Option<PathBuf> {
    source.value(keys::APP_DIR).and_then(Value::as_str).map(PathBuf::from)
}

/// Returns the given file, or the first candidate that exists.
fn find(
    given: Option<&Path>,
    candidates: impl FnOnce() -> Vec<PathBuf>,
) -> Result<Option<(PathBuf, Text)>, Fault> {
    if let Some(path) = given {
        let text = Text::read(path)?;
        let text = text.ok_or_else(|| Fault::new(file::whole(path), "", "does not exist"))?;
        return Ok(Some((path.to_owned(), text)));
    }
    for path in candidates() {
        if let Some(text) = Text::read(&path)? {
            return Ok(Some((path, text)));
        }
    }
    Ok(None)
}

/// Returns a warning if every user can read the key of the server's certificate.
fn world_readable_key(path: &Path, origin: &Origin, data_dir: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o004 != 0).then(|| world_readable(origin, &TLS_KEY.to_string(), path, data_dir))
}

/// Returns the secrets that are in the file.
fn secrets_in_file(source: &Source) -> Vec<(Origin, String)> {
    let url = source.value(DATABASE_URL).and_then(Value::as_str);
    let has_password = |url| ServerLocation::parse(url).is_ok_and(|location| location.password().is_some());
    let url = url.filter(|url| has_password(url)).map(|_| (DATABASE_URL.section, DATABASE_URL.name));
    SECRET_SETTINGS
        .iter()
        .map(|name| (MQTT, *name))
        .chain(url)
        .filter_map(|(section, name)| match source.origin(section, name)? {
            origin @ Origin::File { .. } => Some((origin.clone(), keys::dotted(section, name))),
            Origin::Variable(_) => None,
        })
        .collect()
}

/// Returns a warning if there is a password for a database that is not on a server.
fn unused_password(database: &Database) -> Option<String> {
    database.password.as_ref()?;
    let is_on_server = database.url.as_ref().is_some_and(|url| ServerLocation::is_url(url.expose_secret()));
    (!is_on_server).then(|| {
        format!(
            "the database password has no effect, because {DATABASE_URL} is not that of a PostgreSQL server"
        )
    })
}

fn world_readable(origin: &Origin, key: &str, path: &Path, data_dir: &Path) -> String {
    let cure = owner::make_private(path, data_dir);
    format!("{origin}: {key}: every user of this machine can read it; run `{cure}`")
}

/// Returns a warning if UTC is used only because the system's time zone is unknown.
fn unknown_time_zone(config: &Config) -> Option<String> {
    let (None, (_, Some(reason))) = (config.cameras.time_zone, Calendar::system()) else { return None };
    Some(format!("cannot determine the system's time zone ({reason}); using UTC. Set [cameras] time_zone"))
}
