//! SIGHUP while the service runs: what takes effect, what needs a restart, and a configuration that is not valid.

use std::{fs, path::Path};

use liveobject_test_support::{Service, wait_until};
use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::Value;

use crate::helpers::{TIMEOUT, event, service, stop};

/// Waits for a log line with this message, and returns it.
async fn logged(service: &Service, message: &str) -> Value {
    let find = || service.log_lines().into_iter().rev().find(|line| line["message"] == message);
    wait_until(message, TIMEOUT, async || find().is_some()).await;
    find().expect("it was found")
}

#[tokio::test]
async fn sighup_applies_the_log_filter_and_names_the_keys_that_need_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let write =
        |text: &str| fs::write(dir.path().join("config.toml"), text).expect("the file can be written");
    write("log.filter = \"info\"\nmqtt.password = \"hunter2\"\n");
    let mut service = service().env("CONFIGURATION_DIRECTORY", dir.path().display()).start().await;
    let has_debug = |service: &Service| service.log_lines().iter().any(|line| line["level"] == "DEBUG");
    assert!(!has_debug(&service));

    write(
        "log.filter = \"debug\"\nmqtt.password = \"hunter3\"\noutbox.window = 7\nhttp.max_connections = 99\n",
    );
    service.sighup();
    let restart = "these keys of the configuration have changed; restart the service to apply them";
    let line = logged(&service, restart).await;
    assert_eq!(
        (&line["level"], &line["keys"]),
        (&"WARN".into(), &"http.max_connections, outbox.window".into())
    );
    assert_eq!(logged(&service, "the log filter was changed").await["filter"], "debug");
    let stored = service.log_lines().into_iter().find(|line| line["keys"] == "mqtt.password");
    let stored = stored.expect("a line about the MQTT settings")["message"].to_string();
    assert!(stored.contains("the stored MQTT settings are in use"), "{stored}");
    assert!(!service.log_text().contains("hunter"), "secrets must not be logged");
    let _ = service.post_event(&event("a")).await.expect(202);
    wait_until("debug lines are logged", TIMEOUT, async || has_debug(&service)).await;
    stop(&mut service).await;
}

#[tokio::test]
async fn an_invalid_configuration_at_sighup_is_reported_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let write =
        |text: &str| fs::write(dir.path().join("config.toml"), text).expect("the file can be written");
    write("");
    let mut service = service().env("CONFIGURATION_DIRECTORY", dir.path().display()).start().await;
    write("log.filter = \"debug\"\nhttp.colour = 1\n");
    service.sighup();
    let line = logged(&service, "the new configuration is not valid; nothing was changed").await;
    let error = line["error"].as_str().expect("an error");
    assert!(line["level"] == "WARN" && error.contains("config.toml:2: http.colour"), "{line}");
    let _ = service.post_event(&event("a")).await.expect(202);
    stop(&mut service).await;
    assert!(!service.log_text().contains("DEBUG"), "{}", service.log_text());
}

/// Replaces the file with a FIFO. Opening it for reading blocks, as on a network drive that does not respond.
fn hang(path: &Path) {
    fs::remove_file(path).expect("the file can be removed");
    mkfifoat(CWD, path, Mode::RUSR).expect("the FIFO can be created");
}

#[tokio::test]
async fn a_reload_that_hangs_delays_neither_events_nor_sigterm() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("password");
    fs::write(&file, "hunter2").expect("the file can be written");
    let mut service = service().env("LIVEOBJECT__MQTT__PASSWORD_FILE", file.display()).start().await;
    hang(&file);
    service.sighup();
    logged(&service, "SIGHUP: reading the configuration again").await;
    let _ = service.post_event(&event("a")).await.expect(202);
    stop(&mut service).await;
    assert!(service.log_text().contains("\"stopped\""), "{}", service.log_text());
}
