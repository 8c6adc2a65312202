//! The files in the data directory and their permissions. Also checks that secrets appear only where they
//! belong.

use std::{
    fs,
    path::{Path, PathBuf},
};

use liveobject_test_support::{Api, Mosquitto, wait_until};
use reqwest::Method;
use serde_json::json;

use crate::helpers::{PNG, TIMEOUT, accept, contains_bytes, event, ids, mode, names, service, stop};

const PASSWORD: &str = "correct-horse-battery-staple";

#[tokio::test]
async fn only_the_owner_can_access_the_data_directory() {
    let mut service = service().start().await;
    let _ledger = accept(&service, ids("e", 10)).await;
    let directory = service.data_dir().to_owned();
    let check = || {
        assert_eq!(mode(&directory), 0o700);
        let names = names(&directory);
        for name in &names {
            let expected = if directory.join(name).is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode(&directory.join(name)), expected, "{name}");
        }
        names
    };
    let names = check();
    for name in [
        "api-token",
        "identity.age",
        "liveobject.db",
        "liveobject.db-wal",
        "liveobject.db.seq",
        "thumbnail-key",
        "thumbnails",
    ] {
        assert!(names.iter().any(|present| present == name), "{name} is not among {names:?}");
    }
    service.restart().await;
    check();
}

/// Returns all files and directories below a directory.
fn all_entries(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in names(directory) {
        let path = directory.join(name);
        if path.is_dir() {
            found.extend(all_entries(&path));
        }
        found.push(path);
    }
    found
}

#[tokio::test]
async fn other_users_have_no_access_even_if_the_umask_would_allow_it() {
    let mut service = service().umask(0).start().await;
    let _ = accept(&service, ids("e", 3)).await;
    let picture = service.request(Method::PUT, "/api/v1/events/e-1/thumbnail").body(PNG);
    let response = Api::try_send(picture).await.expect("a response");
    assert_eq!(response.status, 204, "{response:?}");
    assert_eq!(service.run(&["token", "create", "door", "--scope", "read"]).await.code, 0);
    let directory = service.data_dir().to_owned();
    let check = || {
        assert_eq!(mode(&directory), 0o700);
        let all = all_entries(&directory);
        for path in &all {
            let expected = if path.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode(path), expected, "{}", path.display());
        }
        all.len()
    };
    // api-token, identity, lock file, database with -wal and -shm, thumbnail-key, and thumbnails/0/2.
    assert!(check() >= 10, "{:?}", all_entries(&directory));
    stop(&mut service).await;
    assert_eq!(service.run(&["key", "rotate"]).await.code, 0);
    check();
}

#[tokio::test]
async fn the_token_command_prints_a_token_that_works() {
    let mut service = service().start().await;
    stop(&mut service).await;
    let printed = service.run(&["token"]).await;
    assert_eq!((printed.code, printed.stderr.as_str()), (0, ""), "{printed:?}");
    let token = printed.stdout.trim();
    assert_eq!(printed.stdout, format!("{token}\n"));
    service.start().await;
    assert_eq!(service.run(&["token"]).await.stdout.trim(), token, "the token of the running service");
    let path = "/api/v1/events";
    let _ = service.with_token(token).get(path).await.expect(200);
    let _ = service.with_token(&token.to_uppercase()).get(path).await.expect(401);
    let _ = service.without_token().post(path, &event("refused")).await.expect(401);
}

#[tokio::test]
async fn files_to_which_the_group_was_given_access_are_made_private_with_a_warning() {
    let mut service = service().start().await;
    stop(&mut service).await;
    let files = ["api-token", "identity.age", "thumbnail-key"].map(|name| service.data_dir().join(name));
    for file in &files {
        // As Kubernetes does for `fsGroup`.
        fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o660))
            .expect("the mode can be changed");
    }
    service.start().await;
    for file in &files {
        assert_eq!(mode(file), 0o600, "{}", file.display());
        let path = file.display().to_string();
        let warned =
            service.log_lines().into_iter().any(|line| line["level"] == "WARN" && line["file"] == path);
        assert!(warned, "{}", service.log_text());
    }
}

#[tokio::test]
async fn all_secrets_can_come_from_the_environment_and_then_no_file_is_created() {
    let token = "t".repeat(40);
    let key = age::x25519::Identity::generate().to_string();
    let mut service = service()
        .env("LIVEOBJECT_IDENTITY", age::secrecy::ExposeSecret::expose_secret(&key))
        .env("LIVEOBJECT_API_TOKEN", &token)
        .env("LIVEOBJECT_THUMBNAIL_KEY", "0a".repeat(32))
        .build();
    service.spawn();
    let api = Api::on_port(service.port(), &token);
    let is_live = async || api.try_get("/health/live").await.is_ok_and(|answer| answer.status == 200);
    wait_until("the service responds", TIMEOUT, is_live).await;
    let _ = api.get("/api/v1/events").await.expect(200);
    assert_eq!(service.run(&["token"]).await.stdout.trim(), token);
    let files = names(service.data_dir());
    for name in ["api-token", "identity.age", "thumbnail-key"] {
        assert!(!files.iter().any(|file| file == name), "{files:?}");
    }
}

#[tokio::test]
async fn secrets_never_appear_in_files_the_log_responses_or_the_process_list() {
    let broker = Mosquitto::builder().user("ann", PASSWORD).start().await;
    let mut service = service().env("LIVEOBJECT__LOG__FILTER", "trace,actix_http=trace").start().await;
    let mut settings = json!({
        "enabled": true, "broker_host": "127.0.0.1", "broker_port": broker.port(),
        "username": "ann", "password": format!("{PASSWORD}-wrong"),
    });
    let _ = service.put_config(&settings).await.expect(200);
    service.wait_status("a failed login", TIMEOUT, |status| !status["last_error"].is_null()).await;
    settings["password"] = json!(PASSWORD);
    let _ = service.post("/api/v1/integrations/mqtt/test", &settings).await.expect(200);
    let _ = service.put_config(&settings).await.expect(200);
    service.wait_connected(TIMEOUT).await;
    let _ = service.post_event(&event("e")).await.expect(202);
    service.wait_outbox_empty(TIMEOUT).await;
    settings["password"] = json!([PASSWORD]);
    let _ = service.put_config(&settings).await.expect(422);

    let paths = ["/integrations/mqtt/config", "/integrations/mqtt/status", "/service", "/log?level=trace"];
    for path in paths.map(|path| format!("/api/v1{path}")).into_iter().chain(["/metrics".to_owned()]) {
        let response = format!("{:?}", service.get(&path).await);
        assert!(!response.contains(PASSWORD), "{response}");
        assert!(!response.contains(&service.token()), "{response}");
        assert!(!path.contains("/log?") || response.contains("trace"), "the log has no lines");
    }
    let event = service.get("/api/v1/events/e").await.expect(200);
    let (_, link) = event["thumbnail_url"].as_str().and_then(|url| url.split_once("/api/")).expect("a link");
    let _ = service.without_token().get(&format!("/api/{link}")).await.expect(404);
    let (_, signature) = link.split_once("signature=").expect("a signature");
    let proc = format!("/proc/{}", service.pid());
    let token = service.token();
    let proc_files = [format!("{proc}/cmdline"), format!("{proc}/environ"), format!("{proc}/comm")];
    let assert_clean = |directory: &Path| {
        for name in names(directory) {
            let file = directory.join(&name);
            assert!(!contains_bytes(&file, PASSWORD.as_bytes()), "the password is in {name}");
            assert!(
                name == "api-token" || !contains_bytes(&file, token.as_bytes()),
                "the token is in {name}"
            );
        }
    };
    for file in proc_files {
        assert!(!contains_bytes(file.as_ref(), PASSWORD.as_bytes()), "the password is in {file}");
        assert!(!contains_bytes(file.as_ref(), token.as_bytes()), "the token is in {file}");
    }
    assert_clean(service.data_dir());
    service.restart().await;
    service.wait_connected(TIMEOUT).await;
    assert_clean(service.data_dir());
    stop(&mut service).await;
    assert_clean(service.data_dir());
    assert_eq!(service.run(&["key", "rotate"]).await.code, 0);
    assert_clean(service.data_dir());
    let logged = service.log_text() + &service.stdout_text();
    assert!(logged.contains("TRACE"), "the log has no TRACE lines, so the following assertions prove little");
    assert!(!logged.contains(PASSWORD), "the password is in the log");
    assert!(!logged.contains(&token), "the token is in the log");
    assert!(!logged.contains(signature), "the signature of a picture link is in the log");
}
