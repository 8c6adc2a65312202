//! Tests of the values that result from a file and an environment.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use liveobject_actors::ServiceOptions;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::telemetry::LogFormat;

pub(super) struct Case {
    dir: TempDir,
    env: Vec<(String, String)>,
}

impl Case {
    pub(super) fn file(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.toml"), text).unwrap();
        Self { dir, env: Vec::new() }
    }

    pub(super) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }

    pub(super) fn load(&self) -> Result<Config, ConfigError> {
        let options = Options { file: Some(self.path()), ..Options::default() };
        Config::load(&options, self.env.iter().cloned())
    }

    pub(super) fn config(&self) -> Config {
        self.load().unwrap()
    }

    /// Returns the faults, one per line, without the file's directory.
    pub(super) fn faults(&self) -> String {
        self.load().unwrap_err().to_string().replace(&format!("{}/", self.dir.path().display()), "")
    }
}

fn same(one: &Config, other: &Config) -> bool {
    let text = |config: &Config| format!("{:?}", Config { file: None, ..config.clone() });
    text(one) == text(other)
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let config = Case::file("").config();
    assert!(same(&config, &Config::default()));
    assert!(config.mqtt.is_none());
}

#[test]
fn a_byte_order_mark_before_the_file_is_ignored() {
    let config = Case::file("\u{feff}data_dir = \"elsewhere\"\n").config();
    assert_eq!(config.data_dir, Path::new("elsewhere"));
}

#[test]
fn the_defaults_are_those_of_the_library() {
    let options = Config::default().service_options();
    let library = ServiceOptions::in_dir("data");
    assert_eq!(
        (options.data_dir, options.public_url, options.max_pending, options.window),
        (library.data_dir, library.public_url, library.max_pending, library.window)
    );
    assert_eq!(
        (options.retention_days, options.max_cameras, options.initial_mqtt),
        (library.retention_days, library.max_cameras, library.initial_mqtt)
    );
}

#[test]
fn only_a_file_that_is_given_by_its_path_must_exist() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let config = Config::load_from(&[&path], &Options::default(), std::iter::empty()).unwrap();
    assert_eq!(config.file, None);
    assert!(same(&config, &Config::default()));
    let options = Options { file: Some(path.clone()), ..Options::default() };
    let error = Config::load(&options, std::iter::empty()).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: does not exist", path.display()));
}

#[test]
fn every_key_is_read_from_the_file() {
    let config = Case::file(
        r#"
        data_dir = "/var/lib/liveobject"
        [http]
        bind = ["127.0.0.1:1", "[::1]:2"]
        public_url = "https://cameras.example.org/live/"
        allowed_hosts = ["Cameras.example.org", "nas:8443", "10.0.0.1"]
        failed_logins_per_minute = 3
        [database]
        url = "sqlite:///var/lib/events.db"
        [secrets]
        identity_file = "/etc/liveobject/identity.age"
        recipients = ["age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa"]
        [outbox]
        max_pending = 5
        window = 10_000
        retention_days = 30
        [pictures]
        max_bytes = 20_000_000
        max_picture_bytes = 100_000
        [log]
        format = "json"
        filter = "warn,liveobject=debug"
        [mqtt]
        qos = 2
        "#,
    )
    .config();
    assert_eq!(config.http.allowed_hosts, ["cameras.example.org", "nas:8443", "10.0.0.1"]);
    assert_eq!(config.http.bind.len(), 2);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.log.filter, "warn,liveobject=debug");
    let options = config.service_options();
    assert_eq!(options.data_dir, Path::new("/var/lib/liveobject"));
    assert_eq!(options.database().unwrap().to_string(), "/var/lib/events.db");
    assert_eq!(options.identity_file.as_deref(), Some(Path::new("/etc/liveobject/identity.age")));
    assert_eq!(
        format!("{:?}", options.recipients),
        "[age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa]"
    );
    assert_eq!(config.http.failed_logins_per_minute, 3);
    assert_eq!(options.public_url, "https://cameras.example.org/live");
    assert_eq!((options.max_pending, options.window, options.retention_days), (5, 10_000, 30));
    assert_eq!((options.max_picture_bytes, options.max_published_picture_bytes), (20_000_000, 100_000));
    assert_eq!(options.initial_mqtt, Some(json!({"qos": 2})));
}

#[test]
fn an_invalid_value_of_every_key_is_reported() {
    for key in keys::all() {
        let header = if key.section.is_empty() { String::new() } else { format!("[{}]\n", key.section) };
        let faults = Case::file(&format!("{header}{} = [[]]\n", key.name)).faults();
        assert!(faults.contains(key.name), "{key}: {faults}");
    }
}

#[test]
fn the_environment_overrides_the_file() {
    let config = Case::file("outbox.window = 1\n[mqtt]\nbroker_host = \"file\"\nqos = 0\n")
        .env("LIVEOBJECT__DATA_DIR", "42")
        .env("LIVEOBJECT__HTTP__BIND", "127.0.0.1:1, [::1]:2")
        .env("LIVEOBJECT__HTTP__ALLOWED_HOSTS", r#"["a", "b"]"#)
        .env("LIVEOBJECT__OUTBOX__WINDOW", "2")
        .env("LIVEOBJECT__MQTT__BROKER_HOST", "env")
        .env("LIVEOBJECT__MQTT__PASSWORD", "[0")
        .env("LIVEOBJECT__MQTT__PROTOCOL", "5")
        .env("LIVEOBJECT__MQTT__ENABLED", "true")
        .config();
    assert_eq!(config.data_dir, Path::new("42"));
    assert_eq!(config.http.bind, ["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()]);
    assert_eq!(config.http.allowed_hosts, ["a", "b"]);
    assert_eq!(config.outbox.window, 2);
    assert_eq!(
        config.mqtt.as_ref().unwrap().to_json(),
        json!({"broker_host": "env", "qos": 0, "password": "[0", "protocol": "5", "enabled": true})
    );
}

#[test]
fn a_misspelt_variable_is_reported_with_the_right_name() {
    for (name, meant) in [
        ("LIVEOBJECT_HTTP_BIND", "LIVEOBJECT__HTTP__BIND"),
        ("LIVEOBJECT__HTTP_BIND", "LIVEOBJECT__HTTP__BIND"),
        ("liveobject__http__bind", "LIVEOBJECT__HTTP__BIND"),
        ("LIVEOBJECT_DATA_DIR", "LIVEOBJECT__DATA_DIR"),
        ("LIVEOBJECT_MQTT_BROKER_HOST", "LIVEOBJECT__MQTT__BROKER_HOST"),
    ] {
        let faults = Case::file("").env(name, "x").faults();
        assert_eq!(faults, format!("{name}: unknown variable; did you mean {meant}?"));
    }
    assert_eq!(
        Case::file("").env("LIVEOBJECT__HTTP__BINT", "x").faults(),
        "LIVEOBJECT__HTTP__BINT: unknown variable"
    );
    let warnings = Case::file("").env("LIVEOBJECT_COLOUR", "red").config().warnings;
    assert!(warnings[0].starts_with("LIVEOBJECT_COLOUR: unknown variable; it has no effect"), "{warnings:?}");
    assert!(!warnings[0].contains("red"), "it may be a secret");
}

#[test]
fn the_variables_that_kubernetes_sets_for_a_service_cause_no_warning() {
    let case = Case::file("")
        .env("LIVEOBJECT_SERVICE_HOST", "10.0.0.1")
        .env("LIVEOBJECT_SERVICE_PORT", "8080")
        .env("LIVEOBJECT_SERVICE_PORT_HTTP", "8080")
        .env("LIVEOBJECT_PORT", "tcp://10.0.0.1:8080")
        .env("LIVEOBJECT_PORT_8080_TCP", "tcp://10.0.0.1:8080")
        .env("LIVEOBJECT_PORT_8080_TCP_ADDR", "10.0.0.1")
        .env("LIVEOBJECT_HTTP_PORT", "tcp://10.0.0.2:80");
    assert_eq!(case.config().warnings, Vec::<String>::new());
}

#[test]
fn a_single_address_needs_no_list_and_may_be_ipv6() {
    let config = Case::file("http.bind = \"0.0.0.0:80\"").config();
    assert_eq!(config.http.bind, ["0.0.0.0:80".parse().unwrap()]);
    let config = Case::file("").env("LIVEOBJECT__HTTP__BIND", "[::1]:80").config();
    assert_eq!(config.http.bind, ["[::1]:80".parse().unwrap()]);
}

#[test]
fn a_password_that_every_user_can_read_causes_a_warning() {
    let case = Case::file("[mqtt]\npassword = \"hunter2\"\n");
    let chmod = |mode| fs::set_permissions(case.path(), fs::Permissions::from_mode(mode)).unwrap();
    chmod(0o640);
    assert!(case.config().warnings.is_empty());
    chmod(0o644);
    let path = case.path().display().to_string();
    assert_eq!(
        case.config().warnings,
        [format!("{path}:2: mqtt.password: every user of this machine can read it; run `chmod 600 {path}`")]
    );
    let other = Case::file("[mqtt]\nqos = 1\n").env("LIVEOBJECT__MQTT__PASSWORD", "hunter2");
    assert!(other.config().warnings.is_empty());
}

#[test]
fn the_public_url_follows_from_the_bound_address() {
    let url = |config: &Config, bound: &str| config.public_url(bound.parse().unwrap());
    let mut config = Config::default();
    assert_eq!(config.service_options().public_url, "http://127.0.0.1:8080");
    assert_eq!(url(&config, "[::1]:81"), "http://[::1]:81");
    for all in ["0.0.0.0:81", "[::]:81"] {
        let url = url(&config, all);
        assert!(url.starts_with("http://") && url.ends_with(":81") && !url.contains(all), "{url}");
    }
    config.http.public_url = Some("https://cameras.example.org".to_owned());
    assert_eq!(url(&config, "0.0.0.0:81"), "https://cameras.example.org");
}

const KEY: &str = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
const PUBLIC: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";

#[test]
fn an_identity_from_the_environment_overrides_one_from_systemd_and_both_override_the_file() {
    let credentials = tempfile::tempdir().unwrap();
    let directory = credentials.path().display().to_string();
    let source = |case: Case| {
        let config = case.config();
        assert!(!format!("{config:?}").contains("AGE-SECRET"));
        format!("{:?}", config.service_options().identity_source())
    };
    let file = || Case::file("secrets.identity_file = \"own.age\"");
    assert_eq!(source(file()), "File(\"own.age\")");
    assert_eq!(
        source(file().env("CREDENTIALS_DIRECTORY", &directory)),
        "File(\"own.age\")",
        "the credential is missing"
    );
    fs::write(credentials.path().join("liveobject-identity"), format!("# mine\n{KEY}\n")).unwrap();
    let credential = source(file().env("CREDENTIALS_DIRECTORY", &directory));
    assert!(credential.contains("systemd's credential") && credential.contains(PUBLIC), "{credential}");
    let both = file().env("CREDENTIALS_DIRECTORY", &directory).env("LIVEOBJECT_IDENTITY", KEY);
    assert!(source(both).contains("\"LIVEOBJECT_IDENTITY\""));
}

#[test]
fn the_token_and_the_link_key_can_come_from_the_environment_or_from_systemd() {
    let credentials = tempfile::tempdir().unwrap();
    let directory = credentials.path().display().to_string();
    let (token, key) = ("t".repeat(32), "0a".repeat(32));
    fs::write(credentials.path().join("liveobject-api-token"), format!("{token}\n")).unwrap();
    fs::write(credentials.path().join("liveobject-thumbnail-key"), &key).unwrap();
    let config = Case::file("").env("CREDENTIALS_DIRECTORY", &directory).config();
    assert!(config.secrets.api_token.as_ref().unwrap().matches(&token));
    assert!(config.service_options().link_key.is_some());
    assert!(!format!("{config:?}").contains("tttt"));
    let other = "u".repeat(32);
    let config = Case::file("")
        .env("CREDENTIALS_DIRECTORY", &directory)
        .env("LIVEOBJECT_API_TOKEN", &other)
        .env("LIVEOBJECT_THUMBNAIL_KEY", &key)
        .config();
    assert!(config.secrets.api_token.unwrap().matches(&other), "the variable overrides the credential");
    let faults = Case::file("")
        .env("LIVEOBJECT_API_TOKEN", "hunter2")
        .env("LIVEOBJECT_THUMBNAIL_KEY", "hunter2")
        .faults();
    assert_eq!(
        faults,
        "LIVEOBJECT_API_TOKEN: not a valid API token: has 7 characters, must have 32 to 512\n\
         LIVEOBJECT_THUMBNAIL_KEY: not a valid key: must be 64 hexadecimal digits (`openssl rand -hex 32`)"
    );
}

#[test]
fn the_error_for_an_invalid_identity_names_its_source_and_does_not_repeat_it() {
    let faults = Case::file("").env("LIVEOBJECT_IDENTITY", &KEY[..40]).faults();
    assert_eq!(faults, "LIVEOBJECT_IDENTITY: not a valid age identity: line 1: expected AGE-SECRET-KEY-1…");
    let credentials = tempfile::tempdir().unwrap();
    let path = credentials.path().join("liveobject-identity");
    fs::write(&path, "hunter2").unwrap();
    let faults =
        Case::file("").env("CREDENTIALS_DIRECTORY", &credentials.path().display().to_string()).faults();
    assert_eq!(
        faults,
        format!("{}: not a valid age identity: line 1: expected AGE-SECRET-KEY-1…", path.display())
    );
}

#[test]
fn recipients_are_public_keys_and_a_secret_key_is_not_repeated() {
    let with = |text: &str| Case::file(&format!("[secrets]\nrecipients = {text}\n"));
    assert_eq!(with(&format!("\"{PUBLIC}\"")).config().secrets.recipients.len(), 1);
    let faults = with(&format!("[\"{PUBLIC}\", \"{KEY}\"]")).faults();
    assert!(
        faults.starts_with("config.toml:2: secrets.recipients: entry 2 is not an age public key"),
        "{faults}"
    );
    assert!(!faults.contains(KEY), "{faults}");
    let many = vec![format!("\"{PUBLIC}\""); 17].join(",");
    assert_eq!(
        with(&format!("[{many}]")).faults(),
        "config.toml:2: secrets.recipients: has 17 entries, must have 0 to 16"
    );
    let by_variable = Case::file("").env("LIVEOBJECT__SECRETS__RECIPIENTS", &format!("{PUBLIC}, {PUBLIC}"));
    assert_eq!(by_variable.config().secrets.recipients.len(), 2);
}

/// Returns the paths of a certificate and its key, and the directory that they are in.
fn certificate_and_key() -> (TempDir, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["a.lan".to_owned()]).unwrap();
    let (certificate, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let texts = (certificate.display().to_string(), key.display().to_string());
    (dir, texts.0, texts.1)
}

#[test]
fn trusted_proxies_are_addresses_or_networks() {
    let networks = |list: &str| {
        let config = Case::file(&format!("[http]\ntrusted_proxies = {list}\n")).config();
        config.http.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(networks("[]"), [""; 0]);
    assert_eq!(networks("\"127.0.0.1\""), ["127.0.0.1/32"]);
    assert_eq!(
        networks("[\"172.16.5.5/12\", \"fd00::/8\", \"::1\"]"),
        ["172.16.0.0/12", "fd00::/8", "::1/128"]
    );
    for (list, expected) in [
        ("[\"nginx\"]", "\"nginx\" is not an address or a network, such as 127.0.0.1 or 172.16.0.0/12"),
        ("[\"::/0\"]", "\"::/0\" contains all addresses, so every client could claim to have any of them"),
    ] {
        let faults = Case::file(&format!("[http]\ntrusted_proxies = {list}\n")).faults();
        assert_eq!(faults, format!("config.toml:2: http.trusted_proxies: {expected}"));
    }
}

#[test]
fn candidates_are_addresses_of_brokers_and_no_initial_settings() {
    let config = |list: &str| Case::file(&format!("[mqtt]\ncandidates = {list}\n")).config();
    let read = config("[\"broker.lan\", \"mqtts://10.0.0.1\"]");
    let shown = read.mqtt_candidates.iter().map(|address| (address.to_string(), address.use_tls));
    let expected = [("broker.lan:1883".to_owned(), false), ("10.0.0.1:8883".to_owned(), true)];
    assert_eq!(shown.collect::<Vec<_>>(), expected);
    assert!(read.mqtt.is_none());
    assert_eq!(config("\"a:1\"").mqtt_candidates.len(), 1);
    for list in ["[\"http://a\"]", "[\"a:0\"]", "[\"\"]"] {
        let faults = Case::file(&format!("[mqtt]\ncandidates = {list}\n")).faults();
        assert!(faults.starts_with("config.toml:2: mqtt.candidates: "), "{faults}");
        assert!(faults.contains("is not an address of a broker"), "{faults}");
    }
    let many = format!("{:?}", vec!["a"; 17]);
    let faults = Case::file(&format!("[mqtt]\ncandidates = {many}\n")).faults();
    assert!(faults.contains("has 17 entries, must have 0 to 16"), "{faults}");
}

#[test]
fn with_a_certificate_the_public_url_is_https() {
    let (_dir, certificate, key) = certificate_and_key();
    let case = Case::file(&format!("[http]\ntls_certificate = \"{certificate}\"\ntls_key = \"{key}\"\n"));
    let config = case.config();
    assert_eq!(config.service_options().public_url, "https://127.0.0.1:8080");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = case.config().warnings;
    assert!(
        warnings[0].contains("config.toml:3: http.tls_key: every user of this machine can read it"),
        "{warnings:?}"
    );
}

#[test]
fn the_error_for_an_unusable_certificate_names_the_key_and_the_line() {
    let (_dir, certificate, key) = certificate_and_key();
    let (_other, _, other_key) = certificate_and_key();
    let faults = |one: &str, other: &str| Case::file(&format!("[http]\n{one}\n{other}\n")).faults();
    let (certificate_line, key_line) =
        (format!("tls_certificate = \"{certificate}\""), format!("tls_key = \"{key}\""));
    for (found, expected) in [
        (
            faults(&certificate_line, ""),
            "config.toml:2: http.tls_certificate: requires http.tls_key to be set too".to_owned(),
        ),
        (
            faults("", &key_line),
            "config.toml:3: http.tls_key: requires http.tls_certificate to be set too".to_owned(),
        ),
        (
            faults(&certificate_line, &format!("tls_key = \"{other_key}\"")),
            format!(
                "config.toml:3: http.tls_key: {other_key} is not the key of the certificate in {certificate}"
            ),
        ),
        (
            faults("tls_certificate = \"/nowhere\"", &key_line),
            "config.toml:2: http.tls_certificate: /nowhere cannot be read: \
             No such file or directory (os error 2)"
                .to_owned(),
        ),
    ] {
        assert_eq!(found, expected);
    }
}

#[test]
fn a_variable_can_name_a_file_with_its_value() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name).display().to_string()
    };
    let token = "t".repeat(32);
    let config = Case::file("[mqtt]\npassword = \"of the file\"\n")
        .env("LIVEOBJECT__MQTT__PASSWORD_FILE", &file("password", "secret word\n\n"))
        .env("LIVEOBJECT__OUTBOX__WINDOW_FILE", &file("window", "7\r\n"))
        .env("LIVEOBJECT_IDENTITY_FILE", &file("identity", KEY))
        .env("LIVEOBJECT_API_TOKEN_FILE", &file("token", &format!("{token}\n")))
        .env("LIVEOBJECT_THUMBNAIL_KEY_FILE", &file("link-key", &"0a".repeat(32)))
        .env("LIVEOBJECT__SECRETS__IDENTITY_FILE", "kept.age")
        .config();
    assert_eq!(
        config.mqtt.as_ref().unwrap().to_json()["password"],
        "secret word\n",
        "one line ending is cut"
    );
    assert_eq!(config.outbox.window, 7);
    assert!(config.secrets.api_token.as_ref().unwrap().matches(&token));
    assert!(config.secrets.link_key.is_some());
    assert_eq!(config.secrets.identity_file.as_deref(), Some(Path::new("kept.age")), "this is a key itself");
    assert!(format!("{:?}", config.service_options().identity_source()).contains("LIVEOBJECT_IDENTITY_FILE"));
    assert!(!format!("{config:?}").contains("secret word"));
}

#[test]
fn a_variable_that_names_an_unusable_file_is_refused_and_the_content_is_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("large"), "hunter2".repeat(200_000)).unwrap();
    fs::write(path("short"), "hunter2").unwrap();
    fs::write(path("binary"), b"\xff").unwrap();
    for (variable, value, expected) in [
        (
            "LIVEOBJECT__MQTT__PASSWORD",
            path("none"),
            "cannot be read: No such file or directory (os error 2)",
        ),
        (
            "LIVEOBJECT__MQTT__PASSWORD",
            path("large"),
            "cannot be read: the file is larger than 1048576 bytes",
        ),
        ("LIVEOBJECT__MQTT__PASSWORD", path("binary"), "cannot be read: it is not UTF-8 text"),
        ("LIVEOBJECT__OUTBOX__WINDOW", path("short"), ""),
        (
            "LIVEOBJECT_API_TOKEN",
            path("short"),
            "not a valid API token: has 7 characters, must have 32 to 512",
        ),
    ] {
        let faults = Case::file("").env(&format!("{variable}_FILE"), &value).faults();
        assert!(faults.starts_with(&format!("{variable}_FILE: ")) && faults.contains(expected), "{faults}");
        assert!(expected.starts_with("not a") || expected.is_empty() || faults.contains(&value), "{faults}");
        assert!(!faults.contains("hunter2"), "{faults}");
    }
    for variable in ["LIVEOBJECT__MQTT__PASSWORD", "LIVEOBJECT_API_TOKEN"] {
        let case = Case::file("").env(variable, "hunter2").env(&format!("{variable}_FILE"), &path("short"));
        let faults = case.faults();
        let expected = format!("{variable}_FILE: {variable} is set too; set only one of them");
        assert!(faults.contains(&expected) && !faults.contains("hunter2"), "{faults}");
    }
    assert_eq!(
        Case::file("").env("LIVEOBJECT_MQTT_PASSWORD_FILE", "x").faults(),
        "LIVEOBJECT_MQTT_PASSWORD_FILE: unknown variable; did you mean LIVEOBJECT__MQTT__PASSWORD_FILE?"
    );
}

#[test]
fn the_options_of_the_command_line_override_the_environment() {
    let case = Case::file("data_dir = \"file\"").env("LIVEOBJECT__HTTP__BIND", "127.0.0.1:1");
    let load = |data_dir: &str, bind: &str| {
        let options =
            Options { file: Some(case.path()), data_dir: Some(data_dir.into()), bind: vec![bind.into()] };
        Config::load(&options, case.env.iter().cloned())
    };
    let config = load("given", "127.0.0.1:2").unwrap();
    assert_eq!(
        (config.data_dir.as_path(), config.http.bind),
        (Path::new("given"), vec!["127.0.0.1:2".parse().unwrap()])
    );
    let faults = load("", "here").unwrap_err().to_string();
    assert!(faults.contains("--bind: \"here\" is not an address with a port"), "{faults}");
    assert!(faults.contains("--data-dir: "), "{faults}");
}
