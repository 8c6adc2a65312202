//! A program among other programs: signals, closed pipes, the environment, the working directory, the time zone.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path, process::Command, process::Stdio};

use liveobject_test_support::{Service, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::helpers::{
    Pair, TIMEOUT, assert_exits, broker_and_subscriber, event, names, service, stop, try_get,
};

const BINARY: &str = env!("CARGO_BIN_EXE_liveobject");
/// The commands that print something, and need the data of a service.
const COMMANDS: [&[&str]; 6] = [
    &["token", "create", "door", "--scope", "read"],
    &["token", "list"],
    &["token", "revoke", "door"],
    &["token"],
    &["check"],
    &["key", "rotate"],
];

/// Returns an executable script. The directory must be kept.
fn script(text: &str) -> (TempDir, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("script");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("the script can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the mode can be changed");
    let path = path.display().to_string();
    (dir, path)
}

#[tokio::test]
async fn sighup_reads_the_certificate_again_and_the_service_keeps_running() {
    let pair = Pair::new();
    let certificate = pair.renew();
    let mut service = service().config(&pair.config()).build();
    service.spawn();
    let port = service.port();
    let responds = async || try_get(port, &certificate, "/health/live", "").await.is_ok();
    wait_until("the service responds over TLS", TIMEOUT, responds).await;
    service.sighup();
    wait_until("the certificate is read again", TIMEOUT, async || {
        service.log_text().contains("using the new TLS certificate")
    })
    .await;
    assert!(responds().await && service.is_running());
    stop(&mut service).await;
}

#[tokio::test]
async fn sighup_does_not_end_a_service_without_a_certificate() {
    let mut service = service().start().await;
    service.sighup();
    wait_until("the signal is logged", TIMEOUT, async || service.log_text().contains("SIGHUP")).await;
    let _ = service.post_event(&event("e")).await.expect(202);
    stop(&mut service).await;
}

#[tokio::test]
async fn a_terminal_that_is_closed_stops_the_service_in_order() {
    let (broker, subscriber) = broker_and_subscriber().await;
    // `script` gives the service a terminal of its own, which is closed when `script` is killed.
    let (_dir, terminal) = script(&format!("exec 3>&2\nexec script -qec \"{BINARY} $* 2>&3\" /dev/null"));
    let mut service = Service::builder(terminal).start().await;
    service.connect_to(broker.port()).await;
    service.kill9().await;
    wait_until("the service has stopped", TIMEOUT, async || {
        let messages: Vec<_> = service.log_lines().into_iter().map(|line| line["message"].clone()).collect();
        messages.contains(&json!("stopping")) && messages.contains(&json!("stopped"))
    })
    .await;
    let is_offline =
        |m: &liveobject_test_support::Message| m.topic == "liveobject/status" && m.text() == "offline";
    subscriber.wait_for(|messages| messages.iter().any(is_offline), "the status `offline`", TIMEOUT).await;
}

/// Returns a pipe whose reader has already closed it.
fn closed_pipe() -> Stdio {
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

#[tokio::test]
async fn a_command_whose_reader_closes_the_pipe_ends_quietly() {
    let mut service = service().start().await;
    stop(&mut service).await;
    for arguments in COMMANDS.into_iter().chain([&["setup"][..], &["setup", "--json"]]) {
        let finished = service.run_with_output(arguments, Some(closed_pipe())).await;
        assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["--version"]] {
        let finished = service.run_with_output(arguments, Some(closed_pipe())).await;
        assert_eq!(finished.stderr, "", "{arguments:?}");
    }
}

#[tokio::test]
async fn the_demo_ends_when_nobody_reads_its_output() {
    let finished = service().build().run_with_output(&["demo", "--for", "10m"], Some(closed_pipe())).await;
    assert_eq!((finished.code, finished.stderr.as_str()), (0, ""));
}

#[tokio::test]
async fn a_command_that_cannot_write_its_output_fails_with_a_message() {
    let mut service = service().start().await;
    stop(&mut service).await;
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("the device exists");
    let finished = service.run_with_output(&["token"], Some(full.into())).await;
    assert_eq!(finished.code, 1);
    assert!(finished.stderr.contains("cannot write to standard output"), "{}", finished.stderr);
}

#[tokio::test]
async fn a_command_without_data_reports_where_it_looked_and_creates_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let data_dir = dir.path().join("data");
    for exists in [false, true] {
        if exists {
            fs::create_dir(&data_dir).expect("the directory can be created");
        }
        let service = service().data_dir(&data_dir).build();
        for arguments in COMMANDS {
            let finished = service.run(arguments).await;
            assert_eq!((finished.code, finished.stdout.as_str()), (1, ""), "{arguments:?}");
            let expected = format!("there is no data of a liveobject service in {}: ", data_dir.display());
            assert!(finished.stderr.contains(&expected), "{arguments:?}: {}", finished.stderr);
            assert!(finished.stderr.contains("LIVEOBJECT__DATA_DIR"), "{}", finished.stderr);
        }
        assert_eq!(data_dir.exists(), exists);
        assert!(!exists || names(&data_dir).is_empty(), "{:?}", names(&data_dir));
    }
}

/// Returns the fields that the warning `settings_ignored` names.
async fn ignored(service: &Service) -> Option<String> {
    let status = service.status().await;
    let warnings = status["warnings"].as_array().expect("an array").clone();
    let warning = warnings.into_iter().find(|warning| warning["kind"] == "settings_ignored")?;
    Some(warning["message"].as_str().expect("a message").to_owned())
}

#[tokio::test]
async fn initial_settings_that_differ_from_the_stored_ones_are_reported_until_they_agree() {
    let given = || {
        service()
            .config("[mqtt]\nbroker_host = \"first\"\nusername = \"u\"\npassword = \"hunter2\"\n")
            .env("LIVEOBJECT__MQTT__TOPIC_PREFIX", "a")
    };
    let dir = tempfile::tempdir().expect("a directory");
    let data_dir = dir.path().join("data");
    let mut service = given().data_dir(&data_dir).start().await;
    assert_eq!(ignored(&service).await, None);
    stop(&mut service).await;

    let mut service = given()
        .data_dir(&data_dir)
        .env("LIVEOBJECT__MQTT__BROKER_HOST", "second")
        .env("LIVEOBJECT__MQTT__PASSWORD", "hunter3")
        .start()
        .await;
    let message = ignored(&service).await.expect("a warning");
    assert!(message.contains("the stored settings for broker_host, password. "), "{message}");
    let logged = |service: &Service| -> Vec<Value> {
        let lines = service.log_lines().into_iter();
        lines.filter(|line| line["level"] == "WARN" && !line["settings"].is_null()).collect()
    };
    wait_until("the warning is logged", TIMEOUT, async || !logged(&service).is_empty()).await;
    assert_eq!(logged(&service)[0]["settings"], "broker_host,password");
    let _ = service
        .put_config(
            &json!({"broker_host": "second", "username": "u", "password": "hunter3", "topic_prefix": "a"}),
        )
        .await
        .expect(200);
    assert_eq!(ignored(&service).await, None);
    let _ = service
        .put_config(
            &json!({"broker_host": "second", "username": "u", "password": "hunter3", "topic_prefix": "b"}),
        )
        .await
        .expect(200);
    let message = ignored(&service).await.expect("a warning");
    assert!(message.contains("the stored settings for topic_prefix. "), "{message}");
    assert_eq!(logged(&service).len(), 1, "it is logged once: {:?}", service.log_text());
    assert!(!service.log_text().contains("hunter"), "{}", service.log_text());
    stop(&mut service).await;
}

#[tokio::test]
async fn a_misspelt_variable_is_refused_with_the_right_name_and_an_unknown_one_is_logged() {
    let mut service = service().env("LIVEOBJECT_HTTP_ALLOWED_HOSTS", "nas.lan").build();
    let parts =
        ["LIVEOBJECT_HTTP_ALLOWED_HOSTS: unknown variable; did you mean LIVEOBJECT__HTTP__ALLOWED_HOSTS?"];
    assert_exits(&mut service, 2, &parts).await;
    let mut service = crate::helpers::service().env("LIVEOBJECT_COLOUR", "red").start().await;
    assert!(service.log_text().contains("LIVEOBJECT_COLOUR: unknown variable"), "{}", service.log_text());
    stop(&mut service).await;
}

/// Returns the file of a time zone.
fn zone_file(name: &str) -> String {
    let path = format!("/usr/share/zoneinfo/{name}");
    assert!(Path::new(&path).is_file(), "{path} is missing: install tzdata");
    path
}

/// Returns the time zone of a running service.
fn time_zone(service: &Service) -> Value {
    let line = service.log_lines().into_iter().find(|line| line["message"] == "cameras loaded");
    line.expect("the service has started")["time_zone"].clone()
}

#[tokio::test]
async fn the_zone_is_found_by_the_content_of_a_file_that_has_no_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("localtime");
    fs::copy(zone_file("America/New_York"), &file).expect("the file can be copied");
    for (variable, zone) in [
        (format!(":{}", file.display()), "America/New_York"),
        ("CET-1CEST,M3.5.0,M10.5.0/3".to_owned(), "Europe/"),
        ("Asia/Tokyo".to_owned(), "Asia/Tokyo"),
    ] {
        let mut service = service().env("TZ", &variable).start().await;
        let found = time_zone(&service);
        assert!(found.as_str().expect("a name").starts_with(zone), "{variable}: {found}");
        assert!(!service.log_text().contains("cannot determine"), "{}", service.log_text());
        stop(&mut service).await;
    }
}

#[tokio::test]
async fn a_file_mounted_over_etc_localtime_determines_the_zone() {
    let mount = format!(
        "exec unshare -m sh -c 'mount --bind {} /etc/localtime && exec {BINARY} \"$@\"' sh \"$@\"",
        zone_file("Asia/Kolkata")
    );
    let (_dir, mounted) = script(&mount);
    let can_mount =
        Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    if !can_mount || !Path::new("/etc/localtime").exists() {
        println!("SKIPPED: cannot mount a file over /etc/localtime");
        return;
    }
    let mut service = Service::builder(mounted).start().await;
    // This zone has two names.
    let zone = time_zone(&service);
    assert!(["Asia/Kolkata", "Asia/Calcutta"].map(Value::from).contains(&zone), "{}", service.log_text());
    stop(&mut service).await;
}
