//! The options of the Home Assistant app, which its user has chosen.

use std::{
    fs::OpenOptions,
    io::{self, ErrorKind, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustix::fs::OFlags;
use serde_json::{Map, Value};

use super::{
    fault::{Fault, Origin},
    file::whole,
    keys::{self, Key},
    source::Source,
};

/// The directory for data in the directory of the app.
const LIVE: &str = "live";
/// The file in the directory of the app that the Supervisor writes.
const FILE: &str = "options.json";
const MAX_BYTES: u64 = 64 * 1024;

/// The options, and the keys that they set.
const OPTIONS: [(&str, Key); 5] = [
    ("log_level", keys::LOG_FILTER),
    ("retention_days", keys::RETENTION_DAYS),
    ("public_url", keys::PUBLIC_URL),
    ("time_zone", keys::TIME_ZONE),
    ("mqtt_source", keys::SOURCE),
];

/// Adds the options to `source`, and the data directory. The file and the environment override them. Unknown options
/// are ignored: the Supervisor has checked them against the schema of the app, which may be newer.
pub(super) fn read(app_dir: &Path, source: &mut Source, faults: &mut Vec<Fault>) {
    let origin = Origin::Variable(keys::APP_DIR.variable());
    source.insert_unless_set(keys::DATA_DIR, app_dir.join(LIVE).to_string_lossy().into(), origin);
    let path = app_dir.join(FILE);
    let options = match load(&path) {
        Ok(options) => options,
        Err(error) => {
            faults.push(Fault::new(whole(&path), "", format!("cannot be read: {error}")));
            return;
        }
    };
    for (name, key) in OPTIONS {
        if let Some(value) = options.get(name).filter(|value| !value.is_null() && *value != "") {
            let origin = Origin::Variable(format!("{}: {name}", path.display()));
            source.insert_unless_set(key, value.clone(), origin);
        }
    }
}

fn load(path: &Path) -> io::Result<Map<String, Value>> {
    // The process may run as root. A link could lead to a file that the service must not read.
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).map_err(io::Error::other)?;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Map::new()),
        opened => opened?,
    };
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text)?;
    serde_json::from_str(&text).map_err(|_| io::Error::other("it is not a JSON object"))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::super::{Config, ConfigError, Options};

    fn load(app_dir: &super::Path, file: &str, options: &str) -> Result<Config, ConfigError> {
        let path = app_dir.join("config.toml");
        fs::write(&path, file).unwrap();
        fs::write(app_dir.join("options.json"), options).unwrap();
        reload(app_dir)
    }

    fn reload(app_dir: &super::Path) -> Result<Config, ConfigError> {
        let env = [
            ("LIVEOBJECT__HOME_ASSISTANT__APP_DIR", app_dir.display().to_string()),
            ("LIVEOBJECT__OUTBOX__WINDOW", "5".to_owned()),
            ("SUPERVISOR_TOKEN", "token".to_owned()),
        ];
        let options = Options { file: Some(app_dir.join("config.toml")), ..Options::default() };
        Config::load(&options, env.into_iter().map(|(name, value)| (name.to_owned(), value)))
    }

    #[test]
    fn the_options_of_the_app_are_below_the_file_and_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let options = r#"{"log_level": "debug", "retention_days": 3, "public_url": "http://ha.local:8080",
            "time_zone": "Europe/Berlin", "mqtt_source": "supervisor", "of_a_newer_version": 1}"#;
        let config = load(dir.path(), "[outbox]\nretention_days = 9\n", options).unwrap();
        assert_eq!((config.log.filter.as_str(), config.outbox.retention_days), ("debug", 9));
        assert_eq!(config.http.public_url.as_deref(), Some("http://ha.local:8080"));
        assert!(config.cameras.time_zone.is_some() && config.mqtt_source.is_supervisor());
        assert_eq!(config.data_dir, dir.path().join("live"));
        assert!(config.home_assistant.token.is_some() && !format!("{config:?}").contains("\"token\""));
        let empty = load(dir.path(), "", r#"{"public_url": "", "time_zone": null}"#).unwrap();
        assert!(empty.http.public_url.is_none() && !empty.mqtt_source.is_supervisor());
        fs::remove_file(dir.path().join("options.json")).unwrap();
        assert!(reload(dir.path()).is_ok());
    }

    #[test]
    fn a_wrong_option_is_named_and_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let fault = |options| load(dir.path(), "", options).unwrap_err().to_string();
        let unknown = fault(r#"{"time_zone": "Mars", "mqtt_source": "elsewhere"}"#);
        assert!(unknown.contains("options.json: time_zone: "), "{unknown}");
        assert!(unknown.contains("options.json: mqtt_source: must be"), "{unknown}");
        assert!(fault("[1]").contains("options.json: cannot be read: it is not a JSON object"));
        let managed = load(dir.path(), "[mqtt]\nmanaged = true\n", r#"{"mqtt_source": "supervisor"}"#);
        assert!(managed.unwrap_err().to_string().contains("while managed is true"));
        let (options, other) = (dir.path().join("options.json"), dir.path().join("other"));
        fs::rename(&options, &other).unwrap();
        symlink(&other, &options).unwrap();
        assert!(reload(dir.path()).unwrap_err().to_string().contains("cannot be read"));
    }
}
