//! The directory of the app of Home Assistant: its owner, and the backups that the Supervisor makes of it.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use liveobject_test_support::{Service, ServiceBuilder, wait_until};
use tempfile::TempDir;

use crate::helpers::{TIMEOUT, accept, assert_exits, ids, names, run, service, stop};

const USER: u32 = 65_532;
const LONGEST_BACKUP: Duration = Duration::from_hours(24);

/// Returns a directory as the Supervisor mounts it. The user of the app can reach it.
fn app_dir() -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().expect("a directory");
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let path = parent.path().join("data");
    fs::create_dir(&path).expect("a directory");
    fs::write(path.join("options.json"), r#"{"log_level": "debug"}"#).expect("the options");
    (parent, path)
}

fn app(dir: &Path) -> ServiceBuilder {
    service().env("LIVEOBJECT__HOME_ASSISTANT__APP_DIR", dir.display()).data_dir(dir.join("live"))
}

/// Copies what the Supervisor restores from a backup of the directory. The copy belongs to the user of the test.
fn back_up_and_restore(from: &Path, to: &Path) {
    for name in names(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if name == "live" {
            continue;
        }
        if from.is_dir() {
            fs::create_dir_all(&to).expect("a directory");
            back_up_and_restore(&from, &to);
        } else {
            fs::copy(&from, &to).expect("a copy");
        }
    }
}

async fn seq(service: &Service, event_id: &str) -> i64 {
    let event = service.get(&format!("/api/v1/events/{event_id}")).await.expect(200);
    event["seq"].as_i64().expect("a position")
}

#[tokio::test]
async fn a_backup_of_the_running_app_contains_a_copy_from_which_the_next_start_continues() {
    let (_parent, dir) = app_dir();
    let mut service = app(&dir).start().await;
    accept(&service, ids("a", 3)).await;
    run(&service, &["app", "before-backup"], 0).await;
    // The hook after the previous backup may not have run.
    run(&service, &["app", "before-backup"], 0).await;
    let (_other_parent, restored) = app_dir();
    back_up_and_restore(&dir, &restored);
    assert_eq!(names(&restored), ["backup", "had-data", "options.json"]);
    assert_eq!(names(&restored.join("backup")), ["liveobject.tar"]);
    run(&service, &["app", "after-backup"], 0).await;
    run(&service, &["app", "after-backup"], 0).await;
    assert_eq!(names(&dir), ["had-data", "live", "options.json"]);
    accept(&service, ids("b", 2)).await;
    let (token, last) = (service.token(), seq(&service, "b-1").await);
    stop(&mut service).await;

    let again = app(&restored).start().await;
    assert_eq!((again.token(), seq(&again, "a-2").await), (token, 3));
    let _ = again.get("/api/v1/events/b-0").await.expect(404);
    accept(&again, ids("c", 1)).await;
    assert!(seq(&again, "c-0").await > last, "a position is never given twice");
    assert_eq!(names(&restored), ["had-data", "live", "options.json"]);
}

#[tokio::test]
async fn a_backup_of_the_stopped_app_contains_its_data() {
    let (_parent, dir) = app_dir();
    let mut service = app(&dir).start().await;
    accept(&service, ids("a", 1)).await;
    stop(&mut service).await;
    assert_eq!(names(&dir), ["had-data", "options.json", "stopped"]);
    let (_other_parent, restored) = app_dir();
    back_up_and_restore(&dir, &restored);
    let mut copy = app(&restored).start().await;
    assert_eq!(seq(&copy, "a-0").await, 1);

    // A process that is killed leaves its data where the next start finds it.
    copy.kill9().await;
    assert_eq!(names(&restored), ["had-data", "live", "options.json"]);
    copy.start().await;
    assert_eq!(seq(&copy, "a-0").await, 1);
    service.start().await;
    assert_eq!(seq(&service, "a-0").await, 1);
}

#[tokio::test]
async fn a_copy_that_was_left_behind_does_not_replace_newer_data() {
    let (_parent, dir) = app_dir();
    let mut service = app(&dir).start().await;
    run(&service, &["app", "before-backup"], 0).await;
    accept(&service, ids("a", 1)).await;
    service.kill9().await;
    // The Supervisor may still be copying it: the service was restarted in the middle of a backup.
    service.start().await;
    assert_eq!(seq(&service, "a-0").await, 1);
    assert_eq!(names(&dir), ["backup", "had-data", "live", "options.json"]);

    service.kill9().await;
    let archive = fs::File::options().write(true).open(dir.join("backup/liveobject.tar")).expect("it exists");
    let modified = archive.metadata().expect("its times").modified().expect("a time");
    archive.set_modified(modified - LONGEST_BACKUP).expect("it is ours");
    service.start().await;
    assert_eq!(seq(&service, "a-0").await, 1);
    assert_eq!(names(&dir), ["had-data", "live", "options.json"]);
}

#[tokio::test]
async fn the_data_is_in_a_backup_of_the_app_after_a_start_that_failed_or_was_stopped() {
    let (_parent, dir) = app_dir();
    let mut service = app(&dir).start().await;
    accept(&service, ids("a", 1)).await;
    stop(&mut service).await;
    let taken = TcpListener::bind(("127.0.0.1", service.port())).expect("the port is free");
    assert_exits(&mut service, 1, &["already in use"]).await;
    assert_eq!(names(&dir), ["had-data", "options.json", "stopped"]);
    drop(taken);

    // The start waits for this lock.
    let lock = fs::File::open(dir.join("stopped/liveobject.lock")).expect("a lock file");
    lock.try_lock().expect("nobody has it");
    service.spawn();
    wait_until("the start waits", TIMEOUT, async || dir.join("live").exists()).await;
    service.sigterm();
    let is_stopping = async || service.log_text().contains("stopped during the start");
    wait_until("it is stopping", TIMEOUT, is_stopping).await;
    drop(lock);
    assert_eq!(service.wait().await, 0, "{}", service.log_text());
    assert_eq!(names(&dir), ["had-data", "options.json", "stopped"]);
    service.start().await;
    assert_eq!(seq(&service, "a-0").await, 1);
}

#[tokio::test]
async fn the_app_does_not_begin_without_data_after_a_backup_that_contains_none() {
    let (_parent, dir) = app_dir();
    let mut service = app(&dir).start().await;
    accept(&service, ids("a", 1)).await;
    service.kill9().await;
    let (_other_parent, restored) = app_dir();
    back_up_and_restore(&dir, &restored);
    assert_eq!(names(&restored), ["had-data", "options.json"]);
    let mut empty = app(&restored).build();
    assert_exits(&mut empty, 78, &["the data of the app is missing", "had-data"]).await;
    assert!(!restored.join("live/liveobject.db").exists());
    fs::remove_file(restored.join("had-data")).expect("it exists");
    empty.start().await;
}

#[tokio::test]
async fn the_commands_for_the_supervisor_are_refused_elsewhere() {
    let service = service().start().await;
    let refused = run(&service, &["app", "before-backup"], 1).await;
    assert!(refused.contains("app_dir is not set"), "{refused}");
}

#[tokio::test]
async fn the_app_takes_over_the_directory_of_root_and_stops_being_root() {
    let (parent, dir) = app_dir();
    if fs::metadata(&dir).expect("it exists").uid() != 0 {
        return;
    }
    let outside = parent.path().join("outside");
    fs::write(&outside, "").expect("a file");
    symlink(&outside, dir.join("link")).expect("a link");
    let service = app(&dir).start().await;
    let status = fs::read_to_string(format!("/proc/{}/status", service.pid())).expect("its status");
    for part in [format!("Uid:\t{USER}\t{USER}\t{USER}\t{USER}"), "CapEff:\t0000000000000000".to_owned()] {
        assert!(status.contains(&part), "{part}: {status}");
    }
    for path in [dir.clone(), dir.join("live/liveobject.db"), dir.join("options.json")] {
        assert_eq!(fs::metadata(&path).expect("it exists").uid(), USER, "{}", path.display());
    }
    assert_eq!(fs::metadata(&outside).expect("it exists").uid(), 0);
    // A command that root runs leaves nothing that the service cannot use.
    run(&service, &["app", "before-backup"], 0).await;
    assert_eq!(fs::metadata(dir.join("backup/liveobject.tar")).expect("it exists").uid(), USER);
}
