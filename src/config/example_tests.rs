//! Tests that `config.example.toml` contains every key, commented out, with its default.

use std::fs;

use liveobject_actors::{MqttSettings, domain::settings::SecretUpdate};

use super::{keys, *};

const EXAMPLE: &str = include_str!("../../config.example.toml");

/// Keys whose default cannot be written as a value: the example shows them in a remark.
const WITHOUT_DEFAULT: [&str; 8] = [
    "app_dir",
    "ca_certificate",
    "client_certificate",
    "client_id",
    "ingress",
    "time_zone",
    "tls_certificate",
    "tls_key",
];

/// Returns the example with its keys uncommented. A remark starts with `# `, a key with `#` alone.
fn uncommented() -> String {
    let line = |line: &'static str| match line.strip_prefix('#') {
        Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest,
        _ => line,
    };
    EXAMPLE.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn load(text: &str) -> Config {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    fs::write(&path, text).unwrap();
    let config =
        Config::load(&Options { file: Some(path), ..Options::default() }, std::iter::empty()).unwrap();
    Config { file: None, ..config }
}

#[test]
fn the_unchanged_example_gives_the_defaults() {
    assert_eq!(format!("{:?}", load(EXAMPLE)), format!("{:?}", Config::default()));
}

#[test]
fn the_values_in_the_example_are_the_defaults() {
    let mut shown = load(&uncommented());
    let defaults = Config::default();
    // If these are not set, they are derived from other keys.
    assert_eq!(shown.http.public_url.take(), Some(defaults.service_options().public_url));
    let database = shown.service_options().database().unwrap();
    assert_eq!(database.to_string(), defaults.service_options().database().unwrap().to_string());
    assert!(shown.database.url.take().is_some());
    assert!(shown.database.node_name.take().is_some() && shown.database.node_url.take().is_some());
    assert_eq!(shown.secrets.identity_file.take(), Some(defaults.data_dir.join("identity.age")));
    shown.warnings.clear();
    let mqtt = shown.mqtt.take().unwrap();
    assert_eq!(format!("{shown:?}"), format!("{defaults:?}"));

    let update = MqttSettings::read(mqtt.to_json(), "liveobject-0a1b2c3d").unwrap();
    let defaults = MqttSettings::defaults("liveobject-0a1b2c3d");
    assert_eq!(serde_json::to_value(&update.settings).unwrap(), serde_json::to_value(&defaults).unwrap());
    assert!(matches!(update.password, SecretUpdate::Clear));
    assert!(matches!(update.client_key, SecretUpdate::Clear));
}

#[test]
fn every_key_is_in_the_example_once() {
    let mut section = "";
    let mut shown = Vec::new();
    for line in EXAMPLE.lines() {
        let text = line.trim_start_matches('#');
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some((name, _)) = text.trim_start().split_once(" = ") {
            assert_eq!(text.starts_with(' '), WITHOUT_DEFAULT.contains(&name), "{line}");
            shown.push((section, name));
        }
    }
    shown.sort_unstable();
    let mut known: Vec<_> = keys::all().iter().map(|key| (key.section, key.name)).collect();
    known.sort_unstable();
    assert_eq!(shown, known);
}

#[test]
fn every_key_can_be_set_by_a_variable() {
    let names: Vec<_> = keys::all().iter().map(|key| key.variable()).collect();
    for name in ["LIVEOBJECT__DATA_DIR", "LIVEOBJECT__HTTP__BIND", "LIVEOBJECT__MQTT__CLIENT_KEY"] {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
    // An empty value is invalid for some keys, but no key is unknown.
    let env = keys::all().into_iter().map(|key| (key.variable(), String::new()));
    let dir = tempfile::tempdir().unwrap();
    let error =
        Config::load_from(&[dir.path().join("none")], &Options::default(), env).unwrap_err().to_string();
    assert!(!error.contains("unknown"), "{error}");
}

#[test]
fn the_variables_in_the_compose_files_are_known() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/container");
    for (name, urls) in [("compose.yaml", 0), ("compose-nodes.yaml", 2)] {
        let text = fs::read_to_string(format!("{directory}/{name}")).unwrap();
        let lines = text.lines().filter_map(|line| line.trim().split_once(": "));
        let variables = lines.filter(|(name, _)| name.starts_with("LIVEOBJECT_"));
        let (in_files, given): (Vec<_>, Vec<_>) = variables.partition(|(name, _)| name.ends_with("_FILE"));
        for (name, _) in in_files {
            let name = name.trim_end_matches("_FILE");
            assert!(given::SECRETS.contains(&name), "{name}");
        }
        let own = given.iter().filter(|(name, _)| *name == "LIVEOBJECT__DATABASE__NODE_URL");
        assert_eq!(own.collect::<std::collections::BTreeSet<_>>().len(), urls, "each node has its own");
        let given =
            given.iter().map(|(name, value)| ((*name).to_owned(), value.trim_matches('"').to_owned()));
        let config = Config::load(&Options::default(), given).unwrap();
        let database = config.service_options().database().unwrap();
        assert_eq!(database.is_on_server(), urls > 0, "{database}");
        assert_eq!(config.mqtt.unwrap().to_json()["broker_host"], "mosquitto");
    }
}
