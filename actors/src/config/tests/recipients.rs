//! Additional recipients, and identities that do not come from a file.

use secrecy::ExposeSecret as _;

use super::{
    rotate::{RotateError, Step, rotate, rotate_file},
    *,
};
use crate::store::MqttConfigRow;

/// Returns a recovery key that an administrator keeps elsewhere, and its public key.
fn recovery() -> (age::x25519::Identity, PublicKey) {
    let identity = age::x25519::Identity::generate();
    let recipient = PublicKey::parse(&identity.to_public().to_string()).unwrap();
    (identity, recipient)
}

fn given(identity: &age::x25519::Identity) -> GivenIdentity {
    GivenIdentity::parse(identity.to_string().expose_secret(), "$IDENTITY").unwrap()
}

async fn row(home: &Home) -> MqttConfigRow {
    let store = home.store().await;
    let row = store.load_settings().await.unwrap().unwrap();
    store.close().await;
    row
}

/// Decrypts the stored password with a key, as the `age` command would.
async fn read(home: &Home, key: &age::x25519::Identity) -> Option<String> {
    let ciphertext = row(home).await.password.unwrap();
    age::decrypt(key, &ciphertext).ok().map(|plain| String::from_utf8(plain).unwrap())
}

async fn start_and_stop(home: &Home) {
    home.start().await.stop().await;
}

#[actix_rt::test(system = "crate::System")]
async fn a_recipient_can_decrypt_secrets_that_were_entered_before_and_after_it_was_added() {
    let (key, recipient) = recovery();
    let mut home = Home::new();
    let config = home.start().await;
    config.put(broker()).await.unwrap();
    config.stop().await;
    assert_eq!(read(&home, &key).await, None);

    home.recipients = vec![recipient];
    start_and_stop(&home).await;
    assert_eq!(read(&home, &key).await.as_deref(), Some(PASSWORD));

    let config = home.start().await;
    config.put(with(broker(), "password", "another one")).await.unwrap();
    config.stop().await;
    assert_eq!(read(&home, &key).await.as_deref(), Some("another one"));
}

#[actix_rt::test(system = "crate::System")]
async fn a_removed_recipient_can_no_longer_decrypt_the_secrets() {
    let (key, recipient) = recovery();
    let mut home = Home::new();
    home.recipients = vec![recipient];
    let config = home.start_with(Some(broker())).await;
    config.stop().await;
    assert_eq!(read(&home, &key).await.as_deref(), Some(PASSWORD));
    home.recipients = Vec::new();
    start_and_stop(&home).await;
    assert_eq!(read(&home, &key).await, None);
    let config = home.start().await;
    assert_eq!(config.last_notification().await, (Some(PASSWORD.to_owned()), None));
}

#[actix_rt::test(system = "crate::System")]
async fn reordering_the_recipients_changes_nothing() {
    let ((_, one), (_, other)) = (recovery(), recovery());
    let mut home = Home::new();
    home.recipients = vec![one.clone(), other.clone()];
    home.start_with(Some(broker())).await.stop().await;
    let before = row(&home).await;
    home.recipients = vec![other, one];
    start_and_stop(&home).await;
    assert_eq!(row(&home).await, before);
}

#[actix_rt::test(system = "crate::System")]
async fn a_rotation_keeps_the_recipients_wherever_it_is_interrupted() {
    for last in [Step::Written, Step::Committed, Step::Retired, Step::Installed, Step::Done] {
        let (key, recipient) = recovery();
        let mut home = Home::new();
        home.recipients = vec![recipient];
        home.start_with(Some(broker())).await.stop().await;
        let store = home.store().await;
        rotate_file(&store, &home.identity(), &home.recipients, last).await.unwrap();
        store.close().await;
        assert_eq!(read(&home, &key).await.as_deref(), Some(PASSWORD), "{last:?}");
        let config = home.start().await;
        assert_eq!(config.last_notification().await, (Some(PASSWORD.to_owned()), None), "{last:?}");
        config.stop().await;
    }
}

#[actix_rt::test(system = "crate::System")]
async fn new_recipients_do_not_change_unreadable_secrets() {
    let mut home = Home::new();
    home.start_with(Some(broker())).await.stop().await;
    std::fs::remove_file(home.identity()).unwrap();
    home.recipients = vec![recovery().1];
    let before = row(&home).await;
    start_and_stop(&home).await;
    assert_eq!(row(&home).await, before);
}

#[actix_rt::test(system = "crate::System")]
async fn a_given_identity_needs_no_file_and_creates_none() {
    let (key, _) = recovery();
    let mut home = Home::new();
    home.given = Some(given(&key));
    home.start_with(Some(broker())).await.stop().await;
    assert_eq!(read(&home, &key).await.as_deref(), Some(PASSWORD));
    assert!(!home.identity().exists());
    let config = home.start().await;
    assert_eq!(config.last_notification().await, (Some(PASSWORD.to_owned()), None));
}

#[actix_rt::test(system = "crate::System")]
async fn the_error_for_a_wrong_given_identity_names_its_source() {
    let mut home = Home::new();
    home.given = Some(given(&recovery().0));
    home.start_with(Some(broker())).await.stop().await;
    home.given = Some(given(&recovery().0));
    let config = home.start().await;
    let (password, unreadable) = config.last_notification().await;
    let reason = unreadable.unwrap();
    assert!(
        password.is_none() && reason.contains("than the one in $IDENTITY; put the correct one there"),
        "{reason}"
    );
}

#[actix_rt::test(system = "crate::System")]
async fn a_given_identity_is_rotated_to_one_that_the_administrator_created() {
    let ((old, _), (new, _), (key, recipient)) = (recovery(), recovery(), recovery());
    let mut home = Home::new();
    home.given = Some(given(&old));
    home.start_with(Some(broker())).await.stop().await;
    let store = home.store().await;
    let source = IdentitySource::Given(given(&old));
    let refused = rotate(&store, &source, None, &[]).await.unwrap_err().to_string();
    assert!(refused.contains("comes from $IDENTITY") && refused.contains("--new-identity"), "{refused}");

    let file = home.dir.path().join("new.age");
    fs::write(&file, new.to_string().expose_secret()).unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let rotated = rotate(&store, &source, Some(&file), &[recipient]).await.unwrap();
    assert_eq!(rotated.secrets, 1);
    store.close().await;
    for (key, reads) in [(&old, false), (&new, true), (&key, true)] {
        assert_eq!(read(&home, key).await.is_some(), reads);
    }
    let in_a_file =
        rotate(&home.store().await, &IdentitySource::File(home.identity()), Some(&file), &[]).await;
    assert!(matches!(in_a_file, Err(RotateError::NewIdentityNotAllowed { .. })), "{in_a_file:?}");
}

#[actix_rt::test(system = "crate::System")]
async fn a_given_identity_may_contain_comments_and_never_appears_in_an_error() {
    let (key, _) = recovery();
    let text = key.to_string();
    let bare = text.expose_secret();
    for good in [bare.to_owned(), format!("# public key\n{bare}\n"), format!("\n  {bare}  \n")] {
        assert!(GivenIdentity::parse(&good, "x").is_ok());
    }
    for bad in ["", "hunter2", &bare[1..], &format!("{bare}\n{bare}")] {
        let fault = GivenIdentity::parse(bad, "x").unwrap_err();
        assert!(!fault.contains("hunter2") && !fault.contains(&bare[20..]), "{fault}");
    }
    assert!(!format!("{:?}", given(&key)).contains("AGE-SECRET"));
}
