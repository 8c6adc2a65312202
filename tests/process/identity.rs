//! The key that encrypts the password: missing, incorrect, or readable by others.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
};

use liveobject_test_support::{Mosquitto, Service};

use crate::helpers::{
    Database, PASSWORD, TIMEOUT, assert_exits, connected_with_login, contains_bytes, event, login_settings,
    mode, names, service, stop,
};

/// Returns a broker that requires a password, and a stopped service that stores it.
async fn with_stopped_service() -> (Mosquitto, Service) {
    let (broker, mut service) = connected_with_login(service()).await;
    stop(&mut service).await;
    (broker, service)
}

fn file(service: &Service) -> PathBuf {
    service.data_dir().join("identity.age")
}

/// Asserts that the service accepts an event, reports why it cannot read the password, and keeps the
/// ciphertext.
async fn assert_reports(service: &Service, parts: &[&str], ciphertext: Option<&[u8]>) {
    let receipt = service.post_event(&event("during-outage")).await.expect(202);
    assert_eq!(receipt["seq"], 1, "{receipt}");
    let kind = "secret_unreadable";
    let status = service.wait_status(kind, TIMEOUT, |status| status["last_error"]["kind"] == kind).await;
    assert_eq!(status["connected"], false);
    let message = status["last_error"]["message"].as_str().expect("a message");
    for part in parts {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
    let config = service.get("/api/v1/integrations/mqtt/config").await.expect(200);
    assert_eq!(config["has_password"], true);
    assert_eq!(stored_password(service).await.as_deref(), ciphertext, "the ciphertext was changed");
}

async fn stored_password(service: &Service) -> Option<Vec<u8>> {
    let database = Database::open(service).await;
    let password = database.password().await;
    database.close().await;
    password
}

#[tokio::test]
async fn a_missing_identity_is_reported_and_not_replaced_until_it_is_put_back() {
    let (_broker, mut service) = with_stopped_service().await;
    let ciphertext = stored_password(&service).await;
    let elsewhere = service.data_dir().with_file_name("elsewhere");
    fs::rename(file(&service), &elsewhere).expect("the file can be moved");
    service.start().await;
    let parts =
        ["password", "identity.age is missing", "put it back and restart", "enter the password again"];
    assert_reports(&service, &parts, ciphertext.as_deref()).await;
    assert!(!file(&service).exists(), "a new identity would hide that the old one is missing");

    stop(&mut service).await;
    fs::rename(&elsewhere, file(&service)).expect("the file can be moved back");
    service.start().await;
    service.wait_until_delivered("during-outage", TIMEOUT).await;
}

#[tokio::test]
async fn entering_the_password_again_replaces_a_missing_identity() {
    let (broker, mut service) = with_stopped_service().await;
    let ciphertext = stored_password(&service).await;
    fs::remove_file(file(&service)).expect("the file can be removed");
    service.start().await;
    assert_reports(&service, &["missing"], ciphertext.as_deref()).await;

    let _ = service.put_config(&login_settings(&broker)).await.expect(200);
    service.wait_until_delivered("during-outage", TIMEOUT).await;
    assert_eq!(mode(&file(&service)), 0o600);
    service.restart().await;
    service.wait_connected(TIMEOUT).await;
}

#[tokio::test]
async fn the_identity_of_another_installation_is_reported_and_never_overwritten() {
    let (broker, mut service) = with_stopped_service().await;
    let ciphertext = stored_password(&service).await;
    let own = fs::read(file(&service)).expect("the file can be read");
    let other = crate::helpers::service().start().await;
    fs::copy(file(&other), file(&service)).expect("the file can be copied");
    let foreign = fs::read(file(&service)).expect("the file can be read");
    assert_ne!(own, foreign);

    service.start().await;
    let parts = [
        "password",
        "identity other than",
        "restore the correct file and restart",
        "enter the password again",
    ];
    assert_reports(&service, &parts, ciphertext.as_deref()).await;
    assert_eq!(fs::read(file(&service)).expect("the file can be read"), foreign);

    let _ = service.put_config(&login_settings(&broker)).await.expect(200);
    service.wait_until_delivered("during-outage", TIMEOUT).await;
    assert_eq!(fs::read(file(&service)).expect("the file can be read"), foreign);
    service.restart().await;
    service.wait_connected(TIMEOUT).await;
}

#[tokio::test]
async fn an_identity_that_others_can_read_is_made_private_and_used() {
    let (_broker, mut service) = with_stopped_service().await;
    let before = fs::read(file(&service)).expect("the file can be read");
    fs::set_permissions(file(&service), Permissions::from_mode(0o644)).expect("the mode can be changed");
    service.start().await;
    service.wait_connected(TIMEOUT).await;
    assert_eq!(fs::read(file(&service)).expect("the file can be read"), before);
    assert_eq!(crate::helpers::mode(&file(&service)), 0o600);
}

#[tokio::test]
async fn an_unreadable_identity_file_is_reported_and_not_changed() {
    let (_broker, mut service) = with_stopped_service().await;
    let ciphertext = stored_password(&service).await;
    fs::write(file(&service), "# key\nnot-a-key-but-perhaps-a-secret\n").expect("the file can be written");
    service.start().await;
    let parts = ["identity.age", "(line 2)", "replace it with the correct file"];
    assert_reports(&service, &parts, ciphertext.as_deref()).await;
    assert!(!service.log_text().contains("not-a-key"), "the file's content is in the log");
}

/// Returns the key of another installation, in the format of `age-keygen`.
async fn other_key() -> String {
    let other = crate::helpers::service().start().await;
    fs::read_to_string(file(&other)).expect("the file can be read")
}

#[tokio::test]
async fn a_key_from_the_environment_is_used_and_never_written_to_a_file_or_the_log() {
    let key = other_key().await;
    let (_broker, mut service) = connected_with_login(service().env("LIVEOBJECT_IDENTITY", &key)).await;
    service.restart().await;
    service.wait_connected(TIMEOUT).await;
    assert!(!file(&service).exists());
    let secret = key.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).expect("a key");
    assert!(!service.log_text().contains(secret));
    for name in names(service.data_dir()) {
        assert!(!contains_bytes(&service.data_dir().join(&name), secret.as_bytes()), "the key is in {name}");
    }
}

#[tokio::test]
async fn a_systemd_credential_is_used_as_the_key_and_can_be_rotated_to_a_key_from_the_administrator() {
    let credentials = tempfile::tempdir().expect("a directory");
    let credential = credentials.path().join("liveobject-identity");
    fs::write(&credential, other_key().await).expect("the file can be written");
    let directory = credentials.path().display();
    let (_broker, mut service) =
        connected_with_login(service().env("CREDENTIALS_DIRECTORY", directory)).await;
    stop(&mut service).await;

    let output = service.run(&["key", "rotate"]).await;
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains("liveobject key rotate --new-identity new.age"), "{output:?}");
    let new = credentials.path().join("new.age");
    fs::write(&new, other_key().await).expect("the file can be written");
    fs::set_permissions(&new, Permissions::from_mode(0o600)).expect("the mode can be changed");
    let rotated = service.run(&["key", "rotate", "--new-identity", new.to_str().expect("a path")]).await;
    assert_eq!(rotated.code, 0, "{rotated:?}");
    assert!(rotated.stdout.starts_with("Re-encrypted 1 secret with the key in "), "{rotated:?}");

    service.start().await;
    let parts = ["password", "identity other than the one in systemd's credential liveobject-identity"];
    assert_reports(&service, &parts, stored_password(&service).await.as_deref()).await;
    fs::rename(&new, &credential).expect("the file can be moved");
    service.restart().await;
    service.wait_until_delivered("during-outage", TIMEOUT).await;
}

#[tokio::test]
async fn an_invalid_key_prevents_startup_with_exit_code_2_and_is_not_repeated_in_the_log() {
    let mut service = service().env("LIVEOBJECT_IDENTITY", "AGE-SECRET-KEY-1OOPS").build();
    let log = assert_exits(&mut service, 2, &["LIVEOBJECT_IDENTITY: not a valid age identity"]).await;
    assert!(!log.contains("OOPS"), "{log}");
}

#[tokio::test]
async fn a_recipient_can_decrypt_the_password_without_the_identity() {
    let recovery = age::x25519::Identity::generate();
    let recipient = recovery.to_public().to_string();
    let builder = service().env("LIVEOBJECT__SECRETS__RECIPIENTS", &recipient);
    let (_broker, mut service) = connected_with_login(builder).await;
    let recovered = async |service: &Service| {
        let ciphertext = stored_password(service).await.expect("a password");
        let password = age::decrypt(&recovery, &ciphertext).expect("the recipient's key fits");
        String::from_utf8(password).expect("a string")
    };
    assert_eq!(recovered(&service).await, PASSWORD);
    stop(&mut service).await;
    assert_eq!(service.run(&["key", "rotate"]).await.code, 0);
    assert_eq!(recovered(&service).await, PASSWORD);
    fs::remove_file(file(&service)).expect("the file can be removed");
    assert_eq!(recovered(&service).await, PASSWORD);
}
