//! What lies in the data directory, who may read it, and where no secret is.

use std::{
    fs,
    path::{Path, PathBuf},
};

use liveobject_test_support::{Api, Mosquitto};
use reqwest::Method;
use serde_json::json;

use crate::helpers::{SOON, accept, event, holds, ids, mode, names, service};

const PASSWORD: &str = "correct-horse-battery-staple";

/// The smallest picture.
const PNG: &[u8] = &[
    0x89, b'P', b'N', b'G', 13, 10, 26, 10, 0, 0, 0, 13, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0, 0, 1, 8,
    2, 0, 0, 0, 0x90, 0x77, 0x53, 0xde, 0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82,
];

#[tokio::test]
async fn the_data_directory_is_the_owners_alone() {
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
    for name in
        ["api-token", "identity.age", "liveobject.db", "liveobject.db-wal", "thumbnail-key", "thumbnails"]
    {
        assert!(names.iter().any(|one| one == name), "{name} is not among {names:?}");
    }
    service.restart().await;
    check();
}

/// Everything in a directory, and in those in it.
fn everything(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in names(directory) {
        let path = directory.join(name);
        if path.is_dir() {
            found.extend(everything(&path));
        }
        found.push(path);
    }
    found
}

#[tokio::test]
async fn nothing_is_open_to_others_even_with_a_umask_that_permits_it() {
    let mut service = service().umask(0).start().await;
    let _ = accept(&service, ids("e", 3)).await;
    let picture = service.request(Method::PUT, "/api/v1/events/e-1/thumbnail").body(PNG);
    let stored = Api::try_send(picture).await.expect("an answer");
    assert_eq!(stored.status, 204, "{stored:?}");
    assert_eq!(service.run(&["token", "create", "door", "--scope", "read"]).await.code, 0);
    let directory = service.data_dir().to_owned();
    let check = || {
        assert_eq!(mode(&directory), 0o700);
        let all = everything(&directory);
        for path in &all {
            let expected = if path.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode(path), expected, "{}", path.display());
        }
        all.len()
    };
    // api-token, identity, lock, database with -wal and -shm, the links' key, thumbnails/0/2.
    assert!(check() >= 10, "{:?}", everything(&directory));
    service.sigterm();
    assert_eq!(service.wait().await, 0);
    assert_eq!(service.run(&["key", "rotate"]).await.code, 0);
    check();
}

#[tokio::test]
async fn the_token_command_prints_the_token_that_works() {
    let mut service = service().build();
    let made = service.run(&["token"]).await;
    assert_eq!((made.code, made.stderr.as_str()), (0, ""), "{made:?}");
    let token = made.stdout.trim();
    assert_eq!(made.stdout, format!("{token}\n"));
    service.start().await;
    assert_eq!(service.run(&["token"]).await.stdout.trim(), token, "while it runs, too");
    let path = "/api/v1/events";
    let _ = service.with_token(token).get(path).await.expect(200);
    let _ = service.with_token(&token.to_uppercase()).get(path).await.expect(401);
    let _ = service.without_token().post(path, &event("refused")).await.expect(401);
}

#[tokio::test]
async fn a_token_that_others_can_read_is_refused_with_a_remedy() {
    let mut service = service().build();
    assert_eq!(service.run(&["token"]).await.code, 0);
    let file = service.data_dir().join("api-token");
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o640))
        .expect("it can be opened up");
    service.spawn();
    assert_eq!(service.wait().await, 1);
    let said = service.log_text();
    assert!(said.contains(&format!("chmod 600 {}", file.display())), "{said}");
}

#[tokio::test]
async fn no_secret_is_in_a_file_the_log_an_answer_or_the_process_list() {
    let broker = Mosquitto::builder().user("ann", PASSWORD).start().await;
    let mut service = service().env("LIVEOBJECT__LOG__FILTER", "trace,actix_http=trace").start().await;
    let mut settings = json!({
        "enabled": true, "broker_host": "127.0.0.1", "broker_port": broker.port(),
        "username": "ann", "password": format!("{PASSWORD}-wrong"),
    });
    let _ = service.put_config(&settings).await.expect(200);
    service.wait_status("a failed login", SOON, |status| !status["last_error"].is_null()).await;
    settings["password"] = json!(PASSWORD);
    let _ = service.post("/api/v1/integrations/mqtt/test", &settings).await.expect(200);
    let _ = service.put_config(&settings).await.expect(200);
    service.wait_connected(SOON).await;
    let _ = service.post_event(&event("e")).await.expect(202);
    service.wait_outbox_empty(SOON).await;
    settings["password"] = json!([PASSWORD]);
    let _ = service.put_config(&settings).await.expect(422);

    for path in ["/api/v1/integrations/mqtt/config", "/api/v1/integrations/mqtt/status", "/metrics"] {
        let answer = service.get(path).await;
        assert!(!format!("{answer:?}").contains(PASSWORD), "{answer:?}");
    }
    let event = service.get("/api/v1/events/e").await.expect(200);
    let (_, link) = event["thumbnail_url"].as_str().and_then(|url| url.split_once("/api/")).expect("a link");
    let _ = service.without_token().get(&format!("/api/{link}")).await.expect(404);
    let (_, signature) = link.split_once("signature=").expect("a signature");
    let proc = format!("/proc/{}", service.pid());
    let token = service.token();
    let shown = [format!("{proc}/cmdline"), format!("{proc}/environ"), format!("{proc}/comm")];
    let assert_clean = |directory: &std::path::Path| {
        for name in names(directory) {
            let file = directory.join(&name);
            assert!(!holds(&file, PASSWORD.as_bytes()), "the password is in {name}");
            assert!(name == "api-token" || !holds(&file, token.as_bytes()), "the token is in {name}");
        }
    };
    for file in shown {
        assert!(!holds(file.as_ref(), PASSWORD.as_bytes()), "the password is in {file}");
        assert!(!holds(file.as_ref(), token.as_bytes()), "the token is in {file}");
    }
    assert_clean(service.data_dir());
    service.restart().await;
    service.wait_connected(SOON).await;
    assert_clean(service.data_dir());
    service.sigterm();
    assert_eq!(service.wait().await, 0);
    assert_clean(service.data_dir());
    assert_eq!(service.run(&["key", "rotate"]).await.code, 0);
    assert_clean(service.data_dir());
    let logged = service.log_text() + &service.stdout_text();
    assert!(logged.contains("TRACE"), "the log does not tell much");
    assert!(!logged.contains(PASSWORD), "the password is in the log");
    assert!(!logged.contains(&token), "the token is in the log");
    assert!(!logged.contains(signature), "what opens a picture is in the log");
}
