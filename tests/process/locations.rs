//! Where the configuration file and the data are, and that commands without data create nothing.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
    process::{Child, Command, Stdio},
};

use liveobject_test_support::{free_port, wait_until};
use serde_json::Value;
use tempfile::TempDir;

use crate::helpers::{TIMEOUT, names, service, stop};

const BINARY: &str = env!("CARGO_BIN_EXE_liveobject");

/// The result of a command.
struct Finished {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory can be created")
}

fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).current_dir(directory).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"LIVEOBJECT_") {
            command.env_remove(name);
        }
    }
    command.env_remove("CONFIGURATION_DIRECTORY").env_remove("STATE_DIRECTORY");
    command
}

fn finish(command: &mut Command) -> Finished {
    let output = command.output().expect("the program can be started");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn run(directory: &Path, arguments: &[&str]) -> Finished {
    finish(&mut command(directory, arguments))
}

/// A running service that is killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// Starts the service and returns its log lines up to the one that names its address.
async fn started(command: &mut Command, directory: &Path) -> (Running, Vec<Value>) {
    let log = directory.join("log.txt");
    let file = fs::File::create(&log).expect("the log can be created");
    command.stdout(Stdio::null()).stderr(file).env("LIVEOBJECT__LOG__FORMAT", "json");
    let child = Running(command.spawn().expect("the service can be started"));
    let lines = || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect::<Vec<Value>>()
    };
    wait_until("the service listens", TIMEOUT, async || {
        lines().iter().any(|line| line["message"] == "listening")
    })
    .await;
    (child, lines())
}

fn logged<'a>(lines: &'a [Value], message: &str) -> &'a Value {
    lines.iter().find(|line| line["message"] == message).unwrap_or_else(|| panic!("{lines:#?}"))
}

/// Returns the configuration file and the data directory that `config check` prints.
fn locations(finished: &Finished) -> (String, String) {
    let value = |name: &str| {
        let line = finished.stdout.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{}{}", finished.stdout, finished.stderr)).trim().to_owned()
    };
    (value("Configuration file:"), value("Data directory:"))
}

#[test]
fn commands_in_an_empty_directory_create_nothing_and_name_the_directory_that_they_searched() {
    for arguments in [
        &["token"][..],
        &["token", "list"],
        &["token", "rotate"],
        &["token", "create", "door", "--scope", "read"],
        &["token", "revoke", "door"],
        &["key", "rotate"],
        &["check"],
        &["replay", "--since", "1h"],
    ] {
        for option in [&[][..], &["--data-dir", "elsewhere"]] {
            let empty = directory();
            let finished = run(empty.path(), &[arguments, option].concat());
            let searched = empty.path().join(option.get(1).unwrap_or(&"data"));
            assert_eq!(finished.code, Some(1), "{arguments:?}: {}", finished.stderr);
            for part in [&searched.display().to_string(), "--config", "--data-dir"] {
                assert!(finished.stderr.contains(part), "{arguments:?}: {part}: {}", finished.stderr);
            }
            assert_eq!(finished.stdout, "", "{arguments:?}");
            assert_eq!(names(empty.path()), Vec::<String>::new(), "{arguments:?}");
        }
    }
}

#[tokio::test]
async fn the_command_line_overrides_the_environment_and_the_file_and_the_log_names_the_locations() {
    let (dir, port) = (directory(), free_port());
    let file = dir.path().join("own.toml");
    fs::write(&file, "data_dir = \"of-the-file\"\n[http]\nbind = \"192.0.2.1:1\"\n").expect("a file");
    let (bind, data) = (format!("127.0.0.1:{port}"), dir.path().join("given"));
    let arguments = ["serve", "--config", "own.toml", "--data-dir", "given", "--bind", &bind];
    let mut command = command(dir.path(), &arguments);
    command.env("LIVEOBJECT__HTTP__BIND", "192.0.2.2:2").env("LIVEOBJECT__DATA_DIR", "of-the-environment");
    let (_service, lines) = started(&mut command, dir.path()).await;
    let configured = logged(&lines, "configuration read");
    assert_eq!(configured["file"], file.display().to_string());
    assert_eq!(configured["data_dir"], data.display().to_string());
    assert_eq!(logged(&lines, "listening")["address"], bind);
    let created = names(dir.path());
    assert_eq!(created, ["given", "log.txt", "own.toml"]);
    assert_eq!(run(dir.path(), &["token", "--data-dir", "given"]).code, Some(0));
    assert_eq!(run(dir.path(), &["token"]).code, Some(1));
}

#[test]
fn the_configuration_is_the_first_file_that_exists() {
    let dir = directory();
    let path = |name: &str| dir.path().join(name);
    let write = |name: &str, data: &str| {
        fs::create_dir_all(path(name)).expect("a directory");
        fs::write(path(name).join("config.toml"), format!("data_dir = \"/{data}\"\n")).expect("a file");
    };
    fs::create_dir_all(path("empty")).expect("a directory");
    write("systemd", "systemd-data");
    write("here", "here-data");
    fs::write(path("own.toml"), "data_dir = \"/own-data\"\n").expect("a file");
    let systemd = format!("{}:{}", path("empty").display(), path("systemd").display());
    let (own, here) = (path("own.toml").display().to_string(), path("here"));
    let check = |arguments: &[&str], variable: &str| {
        let arguments = [&["config", "check"], arguments].concat();
        let finished = finish(command(&here, &arguments).env("CONFIGURATION_DIRECTORY", variable));
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        locations(&finished)
    };
    let file = |name: &str| path(name).join("config.toml").display().to_string();
    let expect = |file: String, data: &str| (file, data.to_owned());
    assert_eq!(check(&["--config", &own], &systemd), expect(own.clone(), "/own-data"));
    assert_eq!(check(&[], &systemd), expect(file("systemd"), "/systemd-data"));
    assert_eq!(check(&[], &path("empty").display().to_string()), expect(file("here"), "/here-data"));
    assert_eq!(check(&["--data-dir", "/given"], &systemd), expect(file("systemd"), "/given"));
}

#[test]
fn the_data_is_in_the_state_directory_of_systemd_unless_a_directory_is_configured() {
    let dir = directory();
    let check = |variables: &[(&str, &str)]| {
        let finished = finish(command(dir.path(), &["config", "check"]).envs(variables.iter().copied()));
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        locations(&finished).1
    };
    let state = ("STATE_DIRECTORY", "/var/lib/one:/var/lib/two");
    assert_eq!(check(&[]), dir.path().join("data").display().to_string());
    assert_eq!(check(&[state]), "/var/lib/one");
    assert_eq!(check(&[state, ("LIVEOBJECT__DATA_DIR", "/srv")]), "/srv");
}

#[test]
fn config_check_reports_every_error_and_warning_and_creates_nothing() {
    let dir = directory();
    let finished = run(dir.path(), &["config", "check"]);
    assert_eq!((finished.code, finished.stdout.lines().last()), (Some(0), Some("OK")));
    fs::write(dir.path().join("config.toml"), "[outbox]\nwindow = 0\n[mqtt]\nqos = 3\n").expect("a file");
    let finished = run(dir.path(), &["config", "check"]);
    assert_eq!(finished.code, Some(2));
    for part in ["config.toml:2: outbox.window", "config.toml:4: mqtt.qos"] {
        assert!(finished.stderr.contains(part), "{}", finished.stderr);
    }
    fs::remove_file(dir.path().join("config.toml")).expect("the file can be removed");
    let finished = finish(command(dir.path(), &["config", "check"]).env("LIVEOBJECT_COLOUR", "red"));
    assert_eq!(finished.code, Some(0));
    assert!(finished.stdout.contains("Warning: LIVEOBJECT_COLOUR: unknown variable"), "{}", finished.stdout);
    let finished = run(dir.path(), &["config", "check", "--config", "missing.toml"]);
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("missing.toml: does not exist"), "{}", finished.stderr);
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

/// The user `nobody`.
const OTHER: u32 = 65534;

#[tokio::test]
async fn commands_run_as_root_act_as_the_owner_of_the_data() {
    let dir = directory();
    if dir.path().metadata().expect("the directory exists").uid() != 0 {
        println!("skipped: this test must be run as root");
        return;
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("the mode can be changed");
    let data_dir = dir.path().join("data");
    let mut service = service().data_dir(&data_dir).start().await;
    stop(&mut service).await;
    let give = |path: &Path| chown(path, Some(OTHER), Some(OTHER)).expect("the owner can be changed");
    give(&data_dir);
    for name in names(&data_dir) {
        give(&data_dir.join(name));
    }
    // A key that only root can read. The command acts as another user, so it cannot read the key.
    let key = dir.path().join("key.age");
    fs::write(&key, "").expect("the file can be written");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("the mode can be changed");
    for arguments in [
        &["token"][..],
        &["token", "create", "door", "--scope", "read"],
        &["token", "list"],
        &["token", "rotate"],
        &["key", "rotate"],
    ] {
        let finished = service.run(arguments).await;
        assert_eq!(finished.code, 0, "{arguments:?}: {finished:?}");
        for name in names(&data_dir) {
            let owner = data_dir.join(&name).metadata().expect("the file exists").uid();
            assert_eq!(owner, OTHER, "{arguments:?}: {name}");
        }
    }
    let given = service.run(&["check", "--data-dir", &data_dir.display().to_string()]).await;
    assert_eq!(given.code, 1, "{given:?}");
    assert!(given.stdout.contains("No broker configured"), "{given:?}");
    let identity = ("LIVEOBJECT__SECRETS__IDENTITY_FILE", key.display().to_string());
    let mut command = command(dir.path(), &["key", "rotate", "--data-dir", "data"]);
    let refused = finish(command.env(identity.0, &identity.1));
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.to_lowercase().contains("permission denied"), "{}", refused.stderr);
}
