//! Key rotation, interrupted after each step.

use super::{
    rotate::{Recovery, RotateError, Step, recover, rotate, rotate_file},
    *,
};

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

#[actix_rt::test]
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

#[actix_rt::test]
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

#[actix_rt::test]
async fn an_interrupted_rotation_is_recovered_at_the_next_start() {
    for last in [Step::Written, Step::Committed, Step::Retired, Step::Installed] {
        let (home, store) = with_secrets().await;
        rotate_file(&store, &home.identity(), &[], last).await.unwrap();
        store.close().await;
        assert_eq!(stored_password(&home).await, PASSWORD, "{last:?}");
        assert_eq!(leftovers(&home), Vec::<PathBuf>::new(), "{last:?}");
    }
}

#[actix_rt::test]
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

#[actix_rt::test]
async fn a_partly_written_key_is_removed() {
    let (home, store) = with_secrets().await;
    fs::write(home.dir.path().join("identity.age.new"), "# created").unwrap();
    fs::write(home.dir.path().join("identity.age.tmp"), "AGE-SECRET").unwrap();
    assert_eq!(recover(&store, &home.identity()).await.unwrap(), Recovery::Undone);
    assert_eq!(leftovers(&home), Vec::<PathBuf>::new());
}

#[actix_rt::test]
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

#[actix_rt::test]
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
