//! Tests of the faults that are reported.

use std::{fs, io::ErrorKind, path::Path};

use super::{tests::Case, *};

#[test]
fn all_faults_are_reported_at_once_with_their_locations() {
    let case = Case::file(
        r#"
data_dir = 7
color = "red"
[http]
bind = "localhost"
public_url = "cameras.example.org"
allowed_hosts = ["https://a"]
[outbox]
window = 0
max_pending = 99999999999999999999
retention = 7
[loging]
format = "text"
[log]
filter = "wran"
format = "xml"
[database]
url = "mysql://me:hunter2@db/x"
[mqtt]
qos = 3
"#,
    )
    .env("LIVEOBJECT__OUTBOX__RETENTION_DAYS", "week")
    .env("LIVEOBJECT__OUTBOX__WINDOWS", "7")
    .env("LIVEOBJECT__MQTT__TOPIC_PREFIX", "a/#")
    .env("LIVEOBJECT__SECRETS__IDENTITY_FILE", "\u{FFFD}");
    assert_eq!(
        case.faults(),
        r#"config.toml:2: data_dir: expected a string, found a number
config.toml:3: color: unknown key
config.toml:5: http.bind: "localhost" is not an address with a port, such as 127.0.0.1:8080 or [::]:8080
config.toml:6: http.public_url: must start with http:// or https://
config.toml:7: http.allowed_hosts: "https://a" is not a host name, such as cameras.example.org
config.toml:9: outbox.window: 0 is not a whole number from 1 to 10000
config.toml:10: outbox.max_pending: the number is too large
config.toml:11: outbox.retention: unknown key
config.toml:12: loging: unknown section
config.toml:15: log.filter: "wran" is neither a level (error, warn, info, debug, trace, off) nor target=level
config.toml:16: log.format: must be "text" or "json"
config.toml:18: database.url: must be sqlite:// followed by a file path, or postgres://USER:PASSWORD@HOST/DATABASE
config.toml:20: mqtt.qos: 3 is not a whole number from 0 to 2
LIVEOBJECT__MQTT__TOPIC_PREFIX: must not contain '#'
LIVEOBJECT__OUTBOX__RETENTION_DAYS: expected a whole number from 1 to 3650, found a string
LIVEOBJECT__OUTBOX__WINDOWS: unknown variable
LIVEOBJECT__SECRETS__IDENTITY_FILE: must be UTF-8 text"#
    );
}

#[test]
fn a_missing_key_is_reported_at_the_key_that_requires_it() {
    let fault = "mqtt.broker_host: must not be empty while enabled is true";
    assert_eq!(Case::file("[mqtt]\nenabled = true").faults(), format!("config.toml:2: {fault}"));
    let case = Case::file("").env("LIVEOBJECT__MQTT__ENABLED", "true");
    assert_eq!(case.faults(), format!("LIVEOBJECT__MQTT__ENABLED: {fault}"));
}

#[test]
fn a_section_must_be_a_table() {
    for text in ["http = 1", "[[http]]\nbind = \"x\""] {
        assert_eq!(Case::file(text).faults(), "config.toml:1: http: must be a section: [http]");
    }
    assert_eq!(
        Case::file("[data_dir]").faults(),
        "config.toml:1: data_dir: expected a string, found an object"
    );
}

#[test]
fn a_syntax_error_is_reported_without_the_text_of_its_line() {
    for text in [
        "[mqtt]\npassword = \"hunter2\n",
        "[mqtt]\npassword = hunter2\n",
        "[mqtt]\nusername = \"a\" password = \"hunter2\"\n",
        "[mqtt]\npassword = 'hunter2\n[http]\nbind = 1\n",
        "[mqtt]\npassword = \"a\"\npassword = \"hunter2\"\n",
        "[mqtt]\npassword \"hunter2\"\n",
    ] {
        let faults = Case::file(text).env("LIVEOBJECT__X", "hunter2").faults();
        assert!(!faults.contains("hunter2"), "{faults}");
        assert!(faults.starts_with("config.toml:2: ") || faults.starts_with("config.toml:3: "), "{faults}");
        assert!(faults.ends_with("LIVEOBJECT__X: unknown variable"), "{faults}");
    }
}

#[test]
fn a_secret_is_never_repeated() {
    for line in
        ["password = 1234567", "password = [\"1234567\"]", "client_key = 1234567", "password = 1234567-01-01"]
    {
        let faults = Case::file(&format!("[mqtt]\n{line}\n")).faults();
        assert!(faults.starts_with("config.toml:2: ") && !faults.contains("1234567"), "{faults}");
    }
    let long = "hunter2".repeat(20_000);
    let case =
        Case::file("").env("LIVEOBJECT__MQTT__PASSWORD", &long).env("LIVEOBJECT__MQTT__CLIENT_KEY", &long);
    assert!(!case.faults().contains("hunter2"));
    let config = Case::file("[mqtt]\npassword = \"hunter2\"\n").config();
    assert!(!format!("{config:?}").contains("hunter2"));
    assert_eq!(config.mqtt.as_ref().unwrap().to_json()["password"], "hunter2");
}

#[test]
fn an_unreadable_file_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let fault = |path: &Path| {
        let options = Options { file: Some(path.to_owned()), ..Options::default() };
        Config::load(&options, std::iter::empty()).unwrap_err().to_string()
    };
    assert!(fault(dir.path()).contains(": cannot be read: "));
    assert!(fault(Path::new("/dev/zero")).contains("the file is larger than 1048576 bytes"));
    let path = dir.path().join("latin1.toml");
    fs::write(&path, b"data_dir = \"\xe9\"").unwrap();
    assert!(fault(&path).contains("UTF-8"), "{}", fault(&path));
    // Root can read every file.
    let denied = file::cannot_read(&ErrorKind::PermissionDenied.into());
    assert_eq!(
        denied,
        "cannot be read: permission denied; run the command with sudo, or as a user who can read the file"
    );
}

#[test]
fn host_names_are_validated() {
    let hosts = |list: &str| Case::file(&format!("http.allowed_hosts = [{list}]"));
    let good = hosts(r#""::1", "[::1]:80", "A.example", "a:80""#).config().http.allowed_hosts;
    assert_eq!(good, ["[::1]", "[::1]:80", "a.example", "a:80"]);
    for bad in ["", "a b", "a/b", "a:", ":80", "a:b", "a:99999", "[evil]", "*", "http://a"] {
        assert!(hosts(&format!("{bad:?}")).load().is_err(), "{bad}");
    }
}

#[test]
fn public_urls_are_validated() {
    for good in ["http://a", "https://a:8443/live", "http://[::1]:80"] {
        let config = Case::file(&format!("http.public_url = \"{good}\"")).config();
        assert_eq!(config.http.public_url.as_deref(), Some(good));
    }
    for bad in
        ["", "a", "/a", "ftp://a", "http://", "http://me:hunter2@a", "http://a?x", "http://a#x", "http://a b"]
    {
        let faults = Case::file(&format!("http.public_url = \"{bad}\"")).faults();
        assert!(
            faults.starts_with("config.toml:1: http.public_url: ") && !faults.contains("hunter2"),
            "{faults}"
        );
    }
}
