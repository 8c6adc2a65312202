//! Obstacles to a start: another instance on the data directory, another program on the port, no write
//! permission.

use std::{fs, net::TcpListener, os::unix::fs::symlink};

use liveobject_test_support::wait_until;

use crate::helpers::{
    Database, TIMEOUT, accept, assert_exits, assert_kept, broker_and_subscriber, event, ids, service, settle,
    stop,
};

#[tokio::test]
async fn a_second_instance_on_the_same_data_directory_is_refused_and_the_first_is_not_disturbed() {
    let (broker, subscriber) = broker_and_subscriber().await;
    let first = service().start().await;
    first.connect_to(broker.port()).await;
    let mut ledger = accept(&first, ids("before", 3)).await;

    let mut second = service().data_dir(first.data_dir()).build();
    let directory = first.data_dir().display().to_string();
    let parts = ["another liveobject process is using the data directory", &directory, "stop it first"];
    assert_exits(&mut second, 1, &parts).await;

    ledger.accepted_receipt(&first.post_event(&event("after")).await.expect(202));
    settle(&first, &subscriber, &mut ledger, 4).await;
    assert_kept(&ledger);
    let connections = subscriber.on("liveobject/status").len();
    assert_eq!(connections, 1, "the connection of the first instance was disturbed");
}

#[tokio::test]
async fn a_killed_instance_leaves_no_lock_behind() {
    let mut first = service().start().await;
    first.kill9().await;
    let second = service().data_dir(first.data_dir()).start().await;
    let _ = second.post_event(&event("taken")).await.expect(202);
}

#[tokio::test]
async fn a_port_in_use_is_reported_with_a_hint_on_how_to_fix_it() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut service = service().port(address.port()).build();
    let parts = [&address.to_string(), "[http] bind", "choose another port in [http] bind"];
    assert_exits(&mut service, 1, &parts).await;
    drop(listener);
    service.start().await;
    let _ = service.post_event(&event("taken")).await.expect(202);
    wait_until("ready", TIMEOUT, async || service.get("/health/ready").await.status == 200).await;
}

#[tokio::test]
async fn a_command_that_holds_the_lock_for_a_moment_does_not_prevent_the_start() {
    let mut service = service().start().await;
    stop(&mut service).await;
    let before = service.log_text().matches("configuration read").count();
    let lock = fs::File::open(service.data_dir().join("liveobject.lock")).expect("the file exists");
    lock.lock().expect("nobody else has the lock");
    service.spawn();
    wait_until("the service starts", TIMEOUT, async || {
        service.log_text().matches("configuration read").count() > before
    })
    .await;
    drop(lock);
    wait_until("events are accepted", TIMEOUT, async || service.run(&["health"]).await.code == 0).await;
}

#[tokio::test]
async fn a_data_directory_that_may_be_mounted_later_is_tried_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mounted, link) = (dir.path().join("mounted"), dir.path().join("data"));
    symlink(&mounted, &link).expect("the link can be created");
    let mut service = service().data_dir(&link).build();
    assert_exits(&mut service, 1, &[&link.display().to_string()]).await;
    assert!(!mounted.exists(), "nothing must be created where the disk will be mounted");
    fs::create_dir(&mounted).expect("the directory can be created");
    service.start().await;
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_created_is_reported() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be created");
    let directory = file.path().join("data");
    let mut service = service().data_dir(&directory).build();
    assert_exits(&mut service, 78, &[&directory.display().to_string()]).await;
}

#[tokio::test]
async fn a_fault_that_a_restart_cannot_fix_has_its_own_exit_code() {
    let mut service = service().start().await;
    stop(&mut service).await;
    for name in ["api-token", "thumbnail-key"] {
        let path = service.data_dir().join(name);
        let good = fs::read(&path).expect("the file can be read");
        fs::write(&path, "?").expect("the file can be written");
        assert_exits(&mut service, 78, &[&path.display().to_string()]).await;
        fs::write(&path, good).expect("the file can be written");
    }
    let database = service.data_dir().join("liveobject.db");
    fs::remove_file(&database).expect("the file can be removed");
    fs::create_dir(&database).expect("the directory can be created");
    assert_exits(&mut service, 78, &["cannot be created or opened for writing"]).await;
    // Commands report a failure as always.
    assert_eq!(service.run(&["token", "list"]).await.code, 1);
}

#[tokio::test]
async fn a_command_does_not_upgrade_the_database_of_a_running_service() {
    let service = service().start().await;
    let database = Database::open(&service).await;
    database
        .execute("DELETE FROM seaql_migrations WHERE version = (SELECT MAX(version) FROM seaql_migrations)")
        .await;
    database.close().await;
    for command in [&["token", "list"][..], &["check"]] {
        let finished = service.run(command).await;
        assert!(finished.code == 1 && finished.stderr.contains("restart the service"), "{finished:?}");
    }
    assert!(!service.data_dir().join("liveobject.db.before-upgrade").exists(), "the database was upgraded");
}

#[tokio::test]
async fn a_database_that_another_service_uses_is_not_upgraded() {
    let mut service = service().start().await;
    stop(&mut service).await;
    let database = Database::open(&service).await;
    database
        .execute("DELETE FROM seaql_migrations WHERE version = (SELECT MAX(version) FROM seaql_migrations)")
        .await;
    database.close().await;
    let path = service.data_dir().join("liveobject.db");
    let lock = path.with_extension("db.lock");
    let lock = fs::File::create(lock).expect("the file can be created");
    lock.lock().expect("nobody else has the lock");
    assert_exits(&mut service, 1, &["another liveobject process is using the database"]).await;
    assert!(!path.with_extension("db.before-upgrade").exists(), "the database was upgraded");
}
