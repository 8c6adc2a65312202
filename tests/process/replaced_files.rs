//! Certificates and secrets that are being replaced while the service starts or reads its configuration again.

use std::{fs, path::Path};

use age::secrecy::ExposeSecret as _;
use liveobject_test_support::{Api, Service, wait_until};

use crate::helpers::{Pair, TIMEOUT, assert_exits, event, service, stop, try_get};

const FIRST: &str = "first-token-first-token-first-token";
const SECOND: &str = "second-token-second-token-second-token";

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("the file can be written");
}

fn new_identity() -> String {
    age::x25519::Identity::generate().to_string().expose_secret().to_owned()
}

/// Returns the API with this token.
fn api(service: &Service, token: &str) -> Api {
    Api::on_port(service.port(), token)
}

/// Waits until the log of the service contains `part`.
async fn logged(service: &Service, part: &str) {
    wait_until(part, TIMEOUT, async || service.log_text().contains(part)).await;
}

#[tokio::test]
async fn a_start_waits_for_a_certificate_whose_key_is_not_there_yet() {
    let (pair, other) = (Pair::new(), Pair::new());
    for incomplete in [fs::read(&other.key).expect("the key can be read"), Vec::new()] {
        let certificate = pair.renew();
        let key_of_certificate = fs::read(&pair.key).expect("the key can be read");
        fs::write(&pair.key, &incomplete).expect("the file can be written");
        let mut service = service().config(&pair.config()).build();
        service.spawn();
        logged(&service, "waiting for files that seem to be incomplete").await;
        fs::write(&pair.key, &key_of_certificate).expect("the file can be written");
        let port = service.port();
        wait_until("the service responds over TLS", TIMEOUT, async || {
            try_get(port, &certificate, "/health/live", "").await.is_ok()
        })
        .await;
        let log = service.log_text();
        assert_eq!(log.matches("waiting for files").count(), 1, "{log}");
        assert!(log.contains(&pair.key.display().to_string()), "{log}");
        stop(&mut service).await;
    }
}

#[tokio::test]
async fn a_start_waits_for_a_secret_whose_file_is_empty_or_missing() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("liveobject-api-token");
    for by_credential in [false, true] {
        let service = service();
        let service = if by_credential {
            service.env("CREDENTIALS_DIRECTORY", dir.path().display())
        } else {
            service.env("LIVEOBJECT_API_TOKEN_FILE", file.display())
        };
        let mut service = service.build();
        write(&file, "");
        service.spawn();
        logged(&service, "waiting for files that seem to be incomplete").await;
        write(&file, FIRST);
        logged(&service, "listening").await;
        let _ = api(&service, FIRST).post_event(&event("a")).await.expect(202);
        stop(&mut service).await;
    }
}

#[tokio::test]
async fn a_start_waits_for_the_admin_token_in_the_data_directory() {
    let mut service = service().start().await;
    stop(&mut service).await;
    let file = service.data_dir().join("api-token");
    write(&file, "");
    service.spawn();
    logged(&service, "waiting for files").await;
    write(&file, FIRST);
    wait_until("the service accepts the token", TIMEOUT, async || {
        api(&service, FIRST).try_get("/api/v1/events").await.is_ok_and(|response| response.status == 200)
    })
    .await;
    stop(&mut service).await;
}

#[tokio::test]
async fn a_file_that_stays_unusable_is_an_error_and_other_errors_are_reported_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("token");
    write(&file, "short");
    let mut waits = service().env("LIVEOBJECT_API_TOKEN_FILE", file.display()).build();
    let log = assert_exits(&mut waits, 2, &["LIVEOBJECT_API_TOKEN_FILE: not a valid API token"]).await;
    assert!(log.contains("waiting for files"), "{log}");
    let both = service().env("LIVEOBJECT_API_TOKEN_FILE", file.display());
    let mut both = both.config("[outbox]\nwindow = 0\n").build();
    let log = assert_exits(&mut both, 2, &["config.toml:2: outbox.window"]).await;
    assert!(!log.contains("waiting for files"), "{log}");
}

#[tokio::test]
async fn sigterm_ends_a_start_that_waits_for_a_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("token");
    write(&file, "");
    let mut service = service().env("LIVEOBJECT_API_TOKEN_FILE", file.display()).build();
    service.spawn();
    logged(&service, "waiting for files").await;
    stop(&mut service).await;
}

#[tokio::test]
async fn sighup_waits_for_a_secret_that_is_being_replaced_and_applies_the_admin_token() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("token");
    write(&file, FIRST);
    let mut service = service().env("LIVEOBJECT_API_TOKEN_FILE", file.display()).build();
    service.spawn();
    logged(&service, "listening").await;
    let (first, second) = (api(&service, FIRST), api(&service, SECOND));
    let _ = first.post_event(&event("a")).await.expect(202);
    write(&file, "");
    service.sighup();
    logged(&service, "waiting for files").await;
    let _ = first.post_event(&event("b")).await.expect(202);
    write(&file, SECOND);
    logged(&service, "using the new admin token").await;
    let _ = second.post_event(&event("c")).await.expect(202);
    let _ = first.post_event(&event("d")).await.expect(401);
    stop(&mut service).await;
}

#[tokio::test]
async fn sighup_names_a_changed_identity_and_a_changed_key_for_links() {
    let dir = tempfile::tempdir().expect("a directory");
    let (identity, link_key) = (dir.path().join("identity"), dir.path().join("link-key"));
    write(&identity, &new_identity());
    write(&link_key, &"0a".repeat(32));
    let service = service().env("LIVEOBJECT_IDENTITY_FILE", identity.display());
    let mut service = service.env("LIVEOBJECT_THUMBNAIL_KEY_FILE", link_key.display()).start().await;
    write(&identity, &new_identity());
    write(&link_key, &"0b".repeat(32));
    service.sighup();
    logged(&service, "restart the service to apply them").await;
    let names = "\"keys\":\"LIVEOBJECT_IDENTITY, LIVEOBJECT_THUMBNAIL_KEY\"";
    assert!(service.log_text().contains(names), "{}", service.log_text());
    stop(&mut service).await;
}
