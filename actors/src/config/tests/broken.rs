//! Identities that are missing, wrong or readable by other users, and rows that cannot be read.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::store::SecretColumn;

/// Returns a home with a stored password and client key, in which nothing is running.
async fn with_secrets() -> Home {
    let home = Home::new();
    let config = home.start().await;
    config.put(secured()).await.unwrap();
    config.stop().await;
    home
}

async fn with_password() -> Home {
    let home = Home::new();
    let config = home.start().await;
    config.put(broker()).await.unwrap();
    config.stop().await;
    home
}

async fn ciphertext(config: &Running) -> Option<Vec<u8>> {
    config.store.load_settings().await.unwrap().unwrap().password
}

async fn unreadable(config: &Running) -> String {
    let (password, unreadable) = config.last_notification().await;
    assert_eq!(password, None);
    unreadable.expect("something is unreadable")
}

#[actix_rt::test(system = "crate::System")]
async fn a_missing_identity_is_reported_and_not_recreated() {
    let home = with_password().await;
    fs::remove_file(home.identity()).unwrap();
    let config = home.start().await;
    let view = config.view().await;
    assert!(view.has_password);
    assert_eq!(view.settings.broker_host, "broker.lan");
    let reason = unreadable(&config).await;
    assert!(
        reason.contains("identity.age is missing") && reason.contains("enter the password again"),
        "{reason}"
    );
    assert_eq!(reason.contains("if no other node uses the database"), config.store.is_on_server());
    assert!(!home.identity().exists());
    // A secret that cannot be read can be kept, but not tested.
    let before = ciphertext(&config).await;
    config.put(with(without_password(), "qos", 2)).await.unwrap();
    assert_eq!(ciphertext(&config).await, before);
    assert!(unreadable(&config).await.contains("missing"));
    assert!(
        config
            .test_connection(json!({}))
            .await
            .unwrap_err()
            .to_string()
            .starts_with("password: the stored password")
    );
    assert!(!home.identity().exists());
}

#[actix_rt::test(system = "crate::System")]
async fn entering_the_password_again_replaces_a_missing_identity() {
    let home = with_password().await;
    fs::remove_file(home.identity()).unwrap();
    let config = home.start().await;
    config.put(with(broker(), "password", "new password")).await.unwrap();
    assert_eq!(config.last_notification().await, (Some("new password".to_owned()), None));
    config.stop().await;
    assert_eq!(home.start().await.last_notification().await, (Some("new password".to_owned()), None));
}

#[actix_rt::test(system = "crate::System")]
async fn clearing_the_password_needs_no_identity() {
    let home = with_password().await;
    fs::remove_file(home.identity()).unwrap();
    let config = home.start().await;
    config.put(with(broker(), "password", Value::Null)).await.unwrap();
    assert_eq!(config.last_notification().await, (None, None));
}

#[actix_rt::test(system = "crate::System")]
async fn no_identity_is_created_while_another_secret_needs_the_missing_one() {
    let home = with_secrets().await;
    fs::remove_file(home.identity()).unwrap();
    let config = home.start().await;
    let refused = config.put(with(secured_without_key(), "password", "new password")).await.unwrap_err();
    assert!(
        matches!(&refused, ReplaceError::Identity(reason) if reason.contains("another stored secret")),
        "{refused}"
    );
    assert!(!home.identity().exists());
    let both = with(with(broker(), "password", "new password"), "client_key", Value::Null);
    config.put(both).await.unwrap();
    assert_eq!(config.last_notification().await, (Some("new password".to_owned()), None));
}

#[actix_rt::test(system = "crate::System")]
async fn a_restored_identity_is_used_when_the_settings_are_next_replaced() {
    let home = with_password().await;
    let aside = home.dir.path().join("aside");
    fs::rename(home.identity(), &aside).unwrap();
    let config = home.start().await;
    assert!(unreadable(&config).await.contains("missing"));
    fs::rename(&aside, home.identity()).unwrap();
    config.put(with(without_password(), "qos", 2)).await.unwrap();
    assert_eq!(config.last_notification().await, (Some(PASSWORD.to_owned()), None));
}

#[actix_rt::test(system = "crate::System")]
async fn a_different_identity_is_reported_and_used_for_new_secrets() {
    let home = with_secrets().await;
    fs::remove_file(home.identity()).unwrap();
    identity_file::create(&home.identity()).unwrap();
    let file = fs::read(home.identity()).unwrap();
    let config = home.start().await;
    let reason = unreadable(&config).await;
    assert!(reason.contains("identity other than") && reason.contains("client key"), "{reason}");
    config.put(with(secured_without_key(), "password", "new password")).await.unwrap();
    let (password, reason) = config.last_notification().await;
    assert_eq!(password.as_deref(), Some("new password"));
    assert!(reason.is_some_and(|reason| reason.contains("client key") && !reason.contains("password")));
    let cleared = with(with(broker(), "password", "new password"), "client_key", Value::Null);
    config.put(cleared).await.unwrap();
    assert_eq!(config.last_notification().await, (Some("new password".to_owned()), None));
    assert_eq!(fs::read(home.identity()).unwrap(), file);
}

#[actix_rt::test(system = "crate::System")]
async fn an_identity_that_other_users_can_read_is_made_private_and_used() {
    let home = with_password().await;
    fs::set_permissions(home.identity(), PermissionsExt::from_mode(0o644)).unwrap();
    let config = home.start().await;
    assert_eq!(config.last_notification().await, (Some(PASSWORD.to_owned()), None));
    assert_eq!(fs::metadata(home.identity()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[actix_rt::test(system = "crate::System")]
async fn initial_settings_whose_password_cannot_be_stored_are_not_stored() {
    let home = Home::new();
    fs::write(home.identity(), "not an identity").unwrap();
    fs::set_permissions(home.identity(), PermissionsExt::from_mode(0o600)).unwrap();
    let first = home.start_with(Some(broker())).await;
    assert!(unreadable(&first).await.contains("[mqtt] cannot be stored"));
    assert_eq!(first.view().await.updated_at, None);
    first.stop().await;
    assert_eq!(fs::read(home.identity()).unwrap(), b"not an identity");
    fs::remove_file(home.identity()).unwrap();
    let again = home.start_with(Some(broker())).await;
    assert_eq!(again.last_notification().await, (Some(PASSWORD.to_owned()), None));
}

#[actix_rt::test(system = "crate::System")]
async fn invalid_initial_settings_are_reported() {
    let home = Home::new();
    let config = home.start_with(Some(json!({"qos": 9}))).await;
    assert!(unreadable(&config).await.contains("qos: 9"));
    config.put(broker()).await.unwrap();
    assert_eq!(config.last_notification().await, (Some(PASSWORD.to_owned()), None));
}

#[actix_rt::test(system = "crate::System")]
async fn unreadable_stored_settings_are_reported_and_can_be_replaced() {
    let home = with_password().await;
    let store = home.store().await;
    let keep = || SecretColumn::Keep;
    store.save_settings("{\"later\": 1}".to_owned(), keep(), keep(), 1).await.unwrap();
    store.close().await;
    let config = home.start().await;
    let (_, reason) = config.last_notification().await;
    assert!(reason.is_some_and(|reason| reason.contains("later: unknown field")));
    config.put(broker()).await.unwrap();
    assert_eq!(config.last_notification().await, (Some(PASSWORD.to_owned()), None));
}
