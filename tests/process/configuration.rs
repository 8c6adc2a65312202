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

#[tokio::test]
async fn managed_settings_follow_the_configuration_at_each_start_and_cannot_be_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let data_dir = dir.path().join("data");
    let with = |host: &str, managed: bool| {
        let config =
            format!("[mqtt]\nmanaged = {managed}\nbroker_host = \"{host}\"\npassword = \"hunter2\"\n");
        service().config(&config).data_dir(&data_dir)
    };
    let path = "/api/v1/integrations/mqtt/config";
    let mut running = with("first", false).start().await;
    assert_eq!(running.get(path).await.expect(200)["managed"], false);
    running.sigterm();
    running.wait().await;

    let mut running = with("second", true).start().await;
    let settings = running.get(path).await.expect(200);
    assert_eq!((&settings["broker_host"], &settings["managed"]), (&"second".into(), &true.into()));
    let problem = running.put_config(&serde_json::json!({ "broker_host": "third" })).await.expect(409);
    assert!(
        problem["detail"].as_str().is_some_and(|detail| detail.contains("[mqtt] managed")),
        "{problem:?}"
    );
    assert_eq!(running.status().await["warnings"], serde_json::json!([]));
    running.sigterm();
    running.wait().await;

    // Another command does not store them; the next start does.
    let checked = with("third", true).build().run(&["check"]).await;
    assert!(checked.stdout.contains("second:1883"), "{checked:?}");
    let running = with("third", true).start().await;
    assert_eq!(running.get(path).await.expect(200)["broker_host"], "third");
    assert!(!running.log_text().contains("hunter2"));
}

#[tokio::test]
async fn completions_and_manual_pages_are_generated() {
    let service = service().build();
    for shell in ["bash", "zsh", "fish"] {
        let finished = service.run(&["completions", shell]).await;
        assert_eq!(finished.code, 0, "{finished:?}");
        assert!(finished.stdout.contains("data-dir") && finished.stdout.contains("rotate"), "{shell}");
    }
    assert_eq!(service.run(&["completions", "abacus"]).await.code, 2);
    let page = service.run(&["man"]).await;
    assert!(page.code == 0 && page.stdout.contains(".TH liveobject 1"), "{page:?}");
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("man");
    let finished = service.run(&["man", "--out", &out.display().to_string()]).await;
    assert_eq!((finished.code, finished.stdout.as_str()), (0, ""), "{finished:?}");
    let pages = crate::helpers::names(&out);
    for page in ["liveobject.1", "liveobject-serve.1", "liveobject-token-create.1"] {
        assert!(pages.iter().any(|name| name == page), "{pages:?}");
    }
    assert!(!service.data_dir().exists());
}

#[tokio::test]
async fn secrets_can_be_in_files_that_variables_name_and_never_appear_in_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("{text}\n")).expect("the file can be written");
        path.display().to_string()
    };
    let token = "t".repeat(40);
    let with = |password: &str| {
        service()
            .env("LIVEOBJECT_API_TOKEN_FILE", file("token", &token))
            .env("LIVEOBJECT__MQTT__PASSWORD_FILE", password)
            .env("LIVEOBJECT__MQTT__USERNAME", "ann")
            .env("LIVEOBJECT__LOG__FILTER", "trace")
    };
    let mut service = with(&file("password", "hunter2")).build();
    assert_eq!(service.run(&["token"]).await.stdout.trim(), token);
    service.spawn();
    let api = liveobject_test_support::Api::on_port(service.port(), &token);
    let has_password = async || {
        let settings = api.try_get("/api/v1/integrations/mqtt/config").await;
        settings.is_ok_and(|settings| settings.status == 200 && settings.expect(200)["has_password"] == true)
    };
    liveobject_test_support::wait_until("the password is stored", crate::helpers::TIMEOUT, has_password)
        .await;
    assert!(!service.log_text().contains("hunter2") && !service.log_text().contains(&token));
    let missing = dir.path().join("missing").display().to_string();
    let parts = ["LIVEOBJECT__MQTT__PASSWORD_FILE", &missing, "No such file or directory"];
    assert_refused(with(&missing), &parts).await;
}
