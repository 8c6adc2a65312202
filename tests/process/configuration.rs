//! An invalid configuration or command line: exit code 2, and an error message that shows what to change and
//! where.

use liveobject_test_support::ServiceBuilder;

use crate::helpers::{assert_exits, service};

/// Asserts that the service exits with 2 before it creates the data directory, and that its log contains
/// every part.
async fn assert_refused(builder: ServiceBuilder, parts: &[&str]) {
    let mut service = builder.build();
    assert_exits(&mut service, 2, parts).await;
    assert!(!service.data_dir().exists(), "the data directory was created");
}

#[tokio::test]
async fn an_unknown_key_is_reported_with_its_file_and_line() {
    let config = "[outbox]\nwindow = 10\nmax_pendings = 5\n";
    assert_refused(service().config(config), &["config.toml:3", "outbox.max_pendings", "unknown"]).await;
}

#[tokio::test]
async fn an_invalid_value_is_reported_with_its_file_and_line() {
    let config = "[outbox]\n\nwindow = 0\n";
    assert_refused(service().config(config), &["config.toml:3", "outbox.window", "1 to 10000"]).await;
}

#[tokio::test]
async fn all_errors_are_reported_at_once() {
    let config = "colour = 1\n[log]\nfilter = \"loud\"\n[mqtt]\nqos = 3\n";
    let parts = ["config.toml:1", "colour", "config.toml:3", "log.filter", "config.toml:5", "mqtt.qos"];
    assert_refused(service().config(config), &parts).await;
}

#[tokio::test]
async fn a_file_that_is_not_toml_is_reported_with_the_line() {
    assert_refused(service().config("[outbox]\nwindow =\n"), &["config.toml:2"]).await;
}

#[tokio::test]
async fn unknown_and_invalid_variables_are_reported_by_name() {
    let builder =
        service().env("LIVEOBJECT__OUTBOX__MAX_PENDINGS", 5).env("LIVEOBJECT__OUTBOX__WINDOW", "many");
    assert_refused(builder, &["LIVEOBJECT__OUTBOX__MAX_PENDINGS", "unknown", "LIVEOBJECT__OUTBOX__WINDOW"])
        .await;
}

#[tokio::test]
async fn an_invalid_password_is_refused_and_not_repeated_in_the_log() {
    let password = "hunter2".repeat(20_000);
    let mut service = service().config(&format!("[mqtt]\npassword = [\"{password}\"]\n")).build();
    let log = assert_exits(&mut service, 2, &["mqtt.password"]).await;
    assert!(!log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn the_environment_overrides_the_file() {
    let config = "[outbox]\nmax_pending = 1\n[http]\nbind = \"192.0.2.1:1\"\n";
    let service = service().config(config).env("LIVEOBJECT__OUTBOX__MAX_PENDING", 2).start().await;
    for (id, status) in [("one", 202), ("two", 202), ("three", 503)] {
        let _ = service.post_event(&crate::helpers::event(id)).await.expect(status);
    }
}

#[tokio::test]
async fn the_initial_settings_apply_until_others_are_stored() {
    let config = "[mqtt]\ntopic_prefix = \"first\"\nusername = \"ann\"\npassword = \"hunter2\"\n";
    let mut service = service().config(config).start().await;
    let path = "/api/v1/integrations/mqtt/config";
    let settings = service.get(path).await.expect(200);
    assert_eq!((&settings["topic_prefix"], &settings["has_password"]), (&"first".into(), &true.into()));
    let _ = service
        .put_config(&serde_json::json!({ "username": "ann", "topic_prefix": "second" }))
        .await
        .expect(200);
    service.restart().await;
    assert_eq!(service.get(path).await.expect(200)["topic_prefix"], "second");
}

#[tokio::test]
async fn usage_errors_exit_with_2_and_show_the_usage() {
    let service = service().build();
    for arguments in
        [&["fly"][..], &["serve", "--fast"], &["serve", "now"], &["key"], &["demo", "--for", "1s"], &[]]
    {
        let finished = service.run(arguments).await;
        assert_eq!(finished.code, 2, "{arguments:?}: {finished:?}");
        assert!(finished.stderr.contains("Usage:") || finished.stderr.contains("--help"), "{finished:?}");
    }
    let missing = service.run(&["serve", "--config", "missing.toml"]).await;
    assert_eq!(missing.code, 2, "{missing:?}");
    assert!(missing.stderr.contains("missing.toml: does not exist"), "{missing:?}");
}

#[tokio::test]
async fn help_and_version_exit_with_0() {
    let service = service().build();
    for argument in ["--help", "--version"] {
        let finished = service.run(&[argument]).await;
        assert_eq!(finished.code, 0, "{finished:?}");
        assert!(finished.stdout.contains("liveobject"), "{finished:?}");
    }
}
