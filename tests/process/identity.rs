//! The key that the password is encrypted with: missing, not the right one, or readable by others.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
};

use liveobject_test_support::{Mosquitto, Service};
use serde_json::{Value, json};

use crate::helpers::{Database, SOON, event, holds, mode, names, service};

const PASSWORD: &str = "correct horse battery staple";

/// A broker that wants a password, and a stopped service that knows it.
async fn stopped() -> (Mosquitto, Service) {
    let broker = Mosquitto::builder().user("ann", PASSWORD).start().await;
    let mut service = service().start().await;
    let _ = service.put_config(&settings(&broker)).await.expect(200);
    service.wait_connected(SOON).await;
    service.sigterm();
    assert_eq!(service.wait().await, 0);
    (broker, service)
}

fn settings(broker: &Mosquitto) -> Value {
    json!({
        "enabled": true, "broker_host": "127.0.0.1", "broker_port": broker.port(),
        "username": "ann", "password": PASSWORD,
    })
}

fn file(service: &Service) -> PathBuf {
    service.data_dir().join("identity.age")
}

/// It runs, takes events, and says what is wrong; the ciphertext stays.
async fn assert_tells(service: &Service, says: &[&str], ciphertext: Option<&[u8]>) {
    let receipt = service.post_event(&event("meanwhile")).await.expect(202);
    assert_eq!(receipt["seq"], 1, "{receipt}");
    let what = "secret_unreadable";
    let status = service.wait_status(what, SOON, |status| status["last_error"]["kind"] == what).await;
    assert_eq!(status["connected"], false);
    let message = status["last_error"]["message"].as_str().expect("a message");
    for part in says {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
    let config = service.get("/api/v1/integrations/mqtt/config").await.expect(200);
    assert_eq!(config["has_password"], true);
    assert_eq!(stored(service).await.as_deref(), ciphertext, "the ciphertext was touched");
}

async fn stored(service: &Service) -> Option<Vec<u8>> {
    let database = Database::of(service).await;
    let password = database.password().await;
    database.close().await;
    password
}

#[tokio::test]
async fn a_missing_identity_is_told_never_replaced_and_mended_by_putting_it_back() {
    let (_broker, mut service) = stopped().await;
    let ciphertext = stored(&service).await;
    let elsewhere = service.data_dir().with_file_name("elsewhere");
    fs::rename(file(&service), &elsewhere).expect("it can be moved");
    service.start().await;
    let says = ["password", "identity.age is missing", "put it back and restart", "enter the password again"];
    assert_tells(&service, &says, ciphertext.as_deref()).await;
    assert!(!file(&service).exists(), "a new identity would hide that the old one is missing");

    service.sigterm();
    assert_eq!(service.wait().await, 0);
    fs::rename(&elsewhere, file(&service)).expect("it can be put back");
    service.start().await;
    service.wait_until_delivered("meanwhile", SOON).await;
}

#[tokio::test]
async fn a_missing_identity_is_mended_by_entering_the_password_again() {
    let (broker, mut service) = stopped().await;
    let ciphertext = stored(&service).await;
    fs::remove_file(file(&service)).expect("it can be removed");
    service.start().await;
    assert_tells(&service, &["missing"], ciphertext.as_deref()).await;

    let _ = service.put_config(&settings(&broker)).await.expect(200);
    service.wait_until_delivered("meanwhile", SOON).await;
    assert_eq!(mode(&file(&service)), 0o600);
    service.restart().await;
    service.wait_connected(SOON).await;
}

#[tokio::test]
async fn the_identity_of_another_installation_is_told_and_never_overwritten() {
    let (broker, mut service) = stopped().await;
    let ciphertext = stored(&service).await;
    let own = fs::read(file(&service)).expect("it can be read");
    let other = crate::helpers::service().start().await;
    fs::copy(file(&other), file(&service)).expect("it can be copied");
    let foreign = fs::read(file(&service)).expect("it can be read");
    assert_ne!(own, foreign);

    service.start().await;
    let says =
        ["password", "another identity", "put the right file back and restart", "enter the password again"];
    assert_tells(&service, &says, ciphertext.as_deref()).await;
    assert_eq!(fs::read(file(&service)).expect("it can be read"), foreign);

    let _ = service.put_config(&settings(&broker)).await.expect(200);
    service.wait_until_delivered("meanwhile", SOON).await;
    assert_eq!(fs::read(file(&service)).expect("it can be read"), foreign);
    service.restart().await;
    service.wait_connected(SOON).await;
}

#[tokio::test]
async fn an_identity_that_others_can_read_is_not_used_until_that_is_mended() {
    let (_broker, mut service) = stopped().await;
    let ciphertext = stored(&service).await;
    let before = fs::read(file(&service)).expect("it can be read");
    fs::set_permissions(file(&service), Permissions::from_mode(0o644)).expect("it can be opened up");
    service.start().await;
    assert_tells(&service, &["mode 644", "chmod 600", "restart"], ciphertext.as_deref()).await;
    assert_eq!(fs::read(file(&service)).expect("it can be read"), before);

    fs::set_permissions(file(&service), Permissions::from_mode(0o600)).expect("it can be closed");
    service.restart().await;
    service.wait_until_delivered("meanwhile", SOON).await;
}

#[tokio::test]
async fn an_identity_file_of_garbage_is_told_and_left_alone() {
    let (_broker, mut service) = stopped().await;
    let ciphertext = stored(&service).await;
    fs::write(file(&service), "# key\nnot-a-key-but-perhaps-a-secret\n").expect("it can be written");
    service.start().await;
    assert_tells(&service, &["identity.age", "(line 2)", "put the right file"], ciphertext.as_deref()).await;
    assert!(!service.log_text().contains("not-a-key"), "the file's text is in the log");
}

/// The key of another installation, as `age-keygen` writes it.
async fn key() -> String {
    let other = crate::helpers::service().start().await;
    fs::read_to_string(file(&other)).expect("it can be read")
}

/// A broker that wants a password, and a service that was handed this key and knows it.
async fn connected_with(name: &str, value: &str) -> (Mosquitto, Service) {
    let broker = Mosquitto::builder().user("ann", PASSWORD).start().await;
    let service = service().env(name, value).start().await;
    let _ = service.put_config(&settings(&broker)).await.expect(200);
    service.wait_connected(SOON).await;
    (broker, service)
}

#[tokio::test]
async fn a_key_in_the_environment_is_used_and_is_in_no_file_and_no_log() {
    let key = key().await;
    let (_broker, mut service) = connected_with("LIVEOBJECT_IDENTITY", &key).await;
    service.restart().await;
    service.wait_connected(SOON).await;
    assert!(!file(&service).exists());
    let secret = key.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).expect("a key");
    assert!(!service.log_text().contains(secret));
    for name in names(service.data_dir()) {
        assert!(!holds(&service.data_dir().join(&name), secret.as_bytes()), "the key is in {name}");
    }
}

#[tokio::test]
async fn a_key_that_systemd_hands_over_is_used_and_changed_for_one_that_the_administrator_made() {
    let credentials = tempfile::tempdir().expect("a directory");
    let credential = credentials.path().join("liveobject-identity");
    fs::write(&credential, key().await).expect("it can be written");
    let directory = credentials.path().display().to_string();
    let (_broker, mut service) = connected_with("CREDENTIALS_DIRECTORY", &directory).await;
    service.sigterm();
    assert_eq!(service.wait().await, 0);

    let refused = service.run(&["key", "rotate"]).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("liveobject key rotate --new-identity new.age"), "{refused:?}");
    let new = credentials.path().join("new.age");
    fs::write(&new, key().await).expect("it can be written");
    fs::set_permissions(&new, Permissions::from_mode(0o600)).expect("it can be closed");
    let rotated = service.run(&["key", "rotate", "--new-identity", new.to_str().expect("a path")]).await;
    assert_eq!(rotated.code, 0, "{rotated:?}");
    assert!(rotated.stdout.starts_with("Re-encrypted 1 secret with the key in "), "{rotated:?}");

    service.start().await;
    let says = ["password", "another identity than the one in systemd's credential liveobject-identity"];
    assert_tells(&service, &says, stored(&service).await.as_deref()).await;
    fs::rename(&new, &credential).expect("it can be put there");
    service.restart().await;
    service.wait_until_delivered("meanwhile", SOON).await;
}

#[tokio::test]
async fn a_key_that_is_none_ends_the_start_with_2_and_is_not_repeated() {
    let mut service = service().env("LIVEOBJECT_IDENTITY", "AGE-SECRET-KEY-1OOPS").build();
    service.spawn();
    assert_eq!(service.wait().await, 2);
    let said = service.log_text();
    assert!(
        said.contains("LIVEOBJECT_IDENTITY: not a valid age identity") && !said.contains("OOPS"),
        "{said}"
    );
}

#[tokio::test]
async fn a_recipient_gets_the_password_back_without_the_identity() {
    let recovery = age::x25519::Identity::generate();
    let recipient = recovery.to_public().to_string();
    let broker = Mosquitto::builder().user("ann", PASSWORD).start().await;
    let mut service = service().env("LIVEOBJECT__SECRETS__RECIPIENTS", &recipient).start().await;
    let _ = service.put_config(&settings(&broker)).await.expect(200);
    service.wait_connected(SOON).await;
    let recovered = async |service: &Service| {
        let ciphertext = stored(service).await.expect("a password");
        String::from_utf8(age::decrypt(&recovery, &ciphertext).expect("it is for this key, too"))
            .expect("a text")
    };
    assert_eq!(recovered(&service).await, PASSWORD);
    service.sigterm();
    assert_eq!(service.wait().await, 0);
    assert_eq!(service.run(&["key", "rotate"]).await.code, 0);
    assert_eq!(recovered(&service).await, PASSWORD);
    fs::remove_file(file(&service)).expect("it can be lost");
    assert_eq!(recovered(&service).await, PASSWORD);
}
