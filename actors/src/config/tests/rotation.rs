//! Key rotation, interrupted after each step.

use super::{
    rotate::{Recovery, RotateError, Step, recover, rotate, rotate_file},
    *,
};
use crate::domain::{link_key::LinkKey, session_key::SessionKey};

/// Returns a home with a stored password and client key, and its open database.
async fn with_secrets() -> (Home, Store) {
    let home = Home::new();
    let config = home.start().await;
    config.put(secured()).await.unwrap();
    config.stop().await;
    let store = home.store().await;
    (home, store)
}

async fn stored_password(home: &Home) -> String {
    let config = home.start().await;
    let (password, unreadable) = config.last_notification().await;
    assert_eq!(unreadable, None);
    config.stop().await;
    password.unwrap()
}

fn leftovers(home: &Home) -> Vec<PathBuf> {
    let secret = |path: &PathBuf| path.to_string_lossy().contains("identity.age.");
    home.files().into_iter().filter(secret).collect()
}

#[actix_rt::test(system = "crate::System")]
async fn a_rotation_keeps_the_secrets_and_removes_the_old_key() {
    let (home, store) = with_secrets().await;
    let (file, row) = (fs::read(home.identity()).unwrap(), store.load_settings().await.unwrap().unwrap());
    let rotated = rotate(&store, &IdentitySource::File(home.identity()), None, &[]).await.unwrap();
    assert_eq!(rotated.secrets, 2);
    let now = store.load_settings().await.unwrap().unwrap();
    assert_ne!(fs::read(home.identity()).unwrap(), file);
    assert!(now.password != row.password && now.client_key != row.client_key);
    assert_eq!((now.settings, now.updated_at), (row.settings, row.updated_at));
    store.close().await;
    assert_eq!(leftovers(&home), Vec::<PathBuf>::new());
    assert_eq!(stored_password(&home).await, PASSWORD);
}

#[actix_rt::test(system = "crate::System")]
async fn a_rotation_that_is_interrupted_after_any_step_is_finished_or_undone() {
    for (last, outcome) in [
        (Step::Written, Recovery::Undone),
        (Step::Committed, Recovery::Finished),
        (Step::Retired, Recovery::Finished),
        (Step::Installed, Recovery::Finished),
        (Step::Done, Recovery::Nothing),
    ] {
        let (home, store) = with_secrets().await;
        rotate_file(&store, &home.identity(), &[], last).await.unwrap();
        assert_eq!(leftovers(&home).is_empty(), last == Step::Done, "{last:?}");
        assert_eq!(recover(&store, &home.identity()).await.unwrap(), outcome, "{last:?}");
        assert_eq!(recover(&store, &home.identity()).await.unwrap(), Recovery::Nothing, "{last:?}");
        store.close().await;
        assert_eq!(leftovers(&home), Vec::<PathBuf>::new(), "{last:?}");
        assert_eq!(stored_password(&home).await, PASSWORD, "{last:?}");
    }
}

#[actix_rt::test(system = "crate::System")]
async fn an_interrupted_rotation_is_recovered_at_the_next_start() {
    for last in [Step::Written, Step::Committed, Step::Retired, Step::Installed] {
        let (home, store) = with_secrets().await;
        rotate_file(&store, &home.identity(), &[], last).await.unwrap();
        store.close().await;
        assert_eq!(stored_password(&home).await, PASSWORD, "{last:?}");
        assert_eq!(leftovers(&home), Vec::<PathBuf>::new(), "{last:?}");
    }
}

#[actix_rt::test(system = "crate::System")]
async fn an_interrupted_recovery_is_finished_by_the_next_one() {
    let (home, store) = with_secrets().await;
    let path = home.identity();
    rotate_file(&store, &path, &[], Step::Committed).await.unwrap();
    // The first step of a recovery.
    fs::rename(&path, home.dir.path().join("identity.age.bak")).unwrap();
    assert_eq!(recover(&store, &path).await.unwrap(), Recovery::Finished);
    store.close().await;
    assert_eq!((leftovers(&home), stored_password(&home).await.as_str()), (Vec::new(), PASSWORD));
}

#[actix_rt::test(system = "crate::System")]
async fn a_partly_written_key_is_removed() {
    let (home, store) = with_secrets().await;
    fs::write(home.dir.path().join("identity.age.new"), "# created").unwrap();
    fs::write(home.dir.path().join("identity.age.tmp"), "AGE-SECRET").unwrap();
    assert_eq!(recover(&store, &home.identity()).await.unwrap(), Recovery::Undone);
    assert_eq!(leftovers(&home), Vec::<PathBuf>::new());
}

#[actix_rt::test(system = "crate::System")]
async fn a_rotation_works_without_secrets() {
    for last in [Step::Written, Step::Committed, Step::Retired, Step::Installed, Step::Done] {
        let home = Home::new();
        home.start().await.stop().await;
        let store = home.store().await;
        assert_eq!(rotate_file(&store, &home.identity(), &[], last).await.unwrap().secrets, 0);
        store.close().await;
        home.start().await.stop().await;
        assert!(home.identity().exists() && leftovers(&home).is_empty(), "{last:?}");
    }
}

/// Reads the settings without starting the actor.
async fn open(home: &Home, store: &Store, recipients: &[PublicKey]) -> StoredSettings {
    let options = ConfigOptions {
        store: store.clone(),
        identity: IdentitySource::File(home.identity()),
        recipients: recipients.to_vec(),
        initial: None,
        managed: false,
        provided: false,
        probe: |settings, _| Box::pin(echo(settings)),
        crashed: unbounded_channel().0,
    };
    StoredSettings::open(options).await.unwrap()
}

async fn shared(settings: &StoredSettings) -> ([u8; 32], [u8; 32]) {
    let SharedKeys { link, session } = settings.shared_keys().await.unwrap();
    match (link, session) {
        (SharedKey::Known(link), SharedKey::Known(session)) => (*link.expose(), *session.expose()),
        other => panic!("{other:?}"),
    }
}

/// Stores new keys for all nodes, and returns them.
async fn share_new(settings: &StoredSettings) -> ([u8; 32], [u8; 32]) {
    let (link, session) = (LinkKey::generate().unwrap(), SessionKey::generate().unwrap());
    settings.share_keys(Some(&link), Some(&session)).await.unwrap();
    (*link.expose(), *session.expose())
}

#[actix_rt::test(system = "crate::System")]
async fn a_rotation_and_other_recipients_keep_the_keys_that_the_nodes_share() {
    for last in [Step::Written, Step::Committed, Step::Retired, Step::Installed, Step::Done] {
        let home = Home::new();
        let store = home.store().await;
        if !store.is_on_server() {
            return;
        }
        let settings = open(&home, &store, &[]).await;
        let absent = settings.shared_keys().await.unwrap();
        assert!(matches!((absent.link, absent.session), (SharedKey::Absent, SharedKey::Absent)));
        let keys = share_new(&settings).await;
        let before = store.load_shared_keys().await.unwrap();
        rotate_file(&store, &home.identity(), &[], last).await.unwrap();
        assert_eq!(shared(&open(&home, &store, &[]).await).await, keys, "{last:?}");
        assert!(leftovers(&home).is_empty(), "{last:?}");
        let (other, recipient) = (identity::Identity::generate(), home.dir.path().join("other"));
        identity_file::write_new(&recipient, &other).unwrap();
        let text = fs::read_to_string(&recipient).unwrap();
        let recipient = PublicKey::parse(text.lines().nth(1).unwrap().rsplit(' ').next().unwrap()).unwrap();
        assert_eq!(shared(&open(&home, &store, &[recipient]).await).await, keys);
        let now = store.load_shared_keys().await.unwrap();
        assert!(other.decrypt(now.link_key.as_ref().unwrap()).is_ok() && now != before, "{last:?}");
        store.close().await;
    }
}

#[actix_rt::test(system = "crate::System")]
async fn a_rotation_keeps_the_shared_keys_if_there_are_no_settings() {
    for last in [Step::Written, Step::Committed, Step::Retired, Step::Installed, Step::Done] {
        let home = Home::new();
        let store = home.store().await;
        if !store.is_on_server() {
            return;
        }
        let settings = open(&home, &store, &[]).await;
        let keys = share_new(&settings).await;
        store.execute("DELETE FROM mqtt_config").await.unwrap();
        rotate_file(&store, &home.identity(), &[], last).await.unwrap();
        assert_eq!(shared(&open(&home, &store, &[]).await).await, keys, "{last:?}");
        assert!(leftovers(&home).is_empty(), "{last:?}");
        store.close().await;
    }
}

#[actix_rt::test(system = "crate::System")]
async fn shared_keys_of_another_identity_are_reported_and_not_replaced() {
    let home = Home::new();
    let store = home.store().await;
    if !store.is_on_server() {
        return;
    }
    let settings = open(&home, &store, &[]).await;
    settings.share_keys(Some(&LinkKey::generate().unwrap()), None).await.unwrap();
    fs::remove_file(home.identity()).unwrap();
    let missing = open(&home, &store, &[]).await;
    assert!(!home.identity().exists(), "no identity is created while a key needs the missing one");
    let SharedKeys { link, .. } = missing.shared_keys().await.unwrap();
    assert!(matches!(link, SharedKey::Unreadable(reason) if reason.contains("is missing; put it back")));
    identity_file::create(&home.identity()).unwrap();
    let SharedKeys { link, .. } = open(&home, &store, &[]).await.shared_keys().await.unwrap();
    let SharedKey::Unreadable(reason) = link else { panic!("{link:?}") };
    assert!(reason.contains("restore the correct file and restart, or copy identity.age"), "{reason}");
    let refused = rotate_file(&store, &home.identity(), &[], Step::Done).await.unwrap_err();
    assert!(matches!(refused, RotateError::SharedKey { key: "link key", .. }), "{refused:?}");
    store.close().await;
}

#[actix_rt::test(system = "crate::System")]
async fn keys_that_decrypt_nothing_are_not_changed() {
    let (home, store) = with_secrets().await;
    fs::remove_file(home.identity()).unwrap();
    identity_file::create(&home.identity()).unwrap();
    let stranger = home.dir.path().join("identity.age.new");
    identity_file::create(&stranger).unwrap();
    let before = home.files();
    assert_eq!(recover(&store, &home.identity()).await.unwrap(), Recovery::Undecided);
    assert_eq!(home.files(), before);
    let refused = rotate(&store, &IdentitySource::File(home.identity()), None, &[]).await.unwrap_err();
    assert!(matches!(refused, RotateError::Secret { secret: "password", .. }), "{refused:?}");
    assert!(stranger.exists());
}
