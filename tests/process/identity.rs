//! The key that the password is encrypted with: missing, not the right one, or readable by others.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
};

use liveobject_test_support::{Mosquitto, Service};
use serde_json::{Value, json};

use crate::helpers::{Database, SOON, event, mode, service};

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
