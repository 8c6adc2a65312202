//! A database that is damaged, or that a newer version created: the service refuses to start, reports how to
//! fix the problem, and does not change the file.

use std::{fs, path::PathBuf};

use liveobject_test_support::Service;

use crate::helpers::{Database, accept, assert_exits, ids, service, stop};

/// SQLite's page size.
const PAGE: usize = 4096;

fn file(service: &Service) -> PathBuf {
    service.data_dir().join("liveobject.db")
}

/// Returns a service that has accepted a few events and was stopped gracefully.
async fn stopped_service() -> Service {
    let mut service = service().start().await;
    let _ledger = accept(&service, ids("kept", 50)).await;
    stop(&mut service).await;
    service
}

/// Asserts that the service exits with 1, that its log contains every part, and that the file is unchanged.
async fn assert_refuses(service: &mut Service, parts: &[&str]) {
    let before = fs::read(file(service)).expect("the database can be read");
    let log = assert_exits(service, 1, parts).await;
    assert!(!log.contains("panicked"), "{log}");
    assert!(fs::read(file(service)).expect("the database can be read") == before, "the file was changed");
}

const DAMAGED: [&str; 3] =
    ["liveobject.db", "is damaged or not a SQLite database", "restore it from a backup"];

#[tokio::test]
async fn a_file_that_is_not_a_database_is_refused_and_not_changed() {
    let mut service = service().build();
    fs::create_dir_all(service.data_dir()).expect("the data directory can be created");
    let garbage: Vec<u8> =
        (0..20_000_u32).map(|i| u8::try_from(i * 7919 % 251).expect("below 256")).collect();
    fs::write(file(&service), garbage).expect("the garbage can be written");
    assert_refuses(&mut service, &DAMAGED).await;
}

#[tokio::test]
async fn a_database_with_a_damaged_schema_is_refused_and_not_changed() {
    let mut service = stopped_service().await;
    let mut bytes = fs::read(file(&service)).expect("the database can be read");
    // The header stays intact, so that the file is still recognized as a database. The schema behind it is
    // damaged.
    bytes[100..PAGE].fill(0xa5);
    fs::write(file(&service), bytes).expect("the database can be written");
    assert_refuses(&mut service, &DAMAGED).await;
}

#[tokio::test]
async fn a_database_with_damaged_tables_is_refused_and_not_changed() {
    let mut service = stopped_service().await;
    let mut bytes = fs::read(file(&service)).expect("the database can be read");
    bytes[PAGE..].fill(0xa5);
    fs::write(file(&service), bytes).expect("the database can be written");
    assert_refuses(&mut service, &DAMAGED).await;
}

#[tokio::test]
async fn a_truncated_database_is_refused_and_not_changed() {
    let mut service = stopped_service().await;
    let bytes = fs::read(file(&service)).expect("the database can be read");
    fs::write(file(&service), &bytes[..2 * PAGE]).expect("the database can be written");
    assert_refuses(&mut service, &DAMAGED).await;
}

#[tokio::test]
async fn a_database_from_a_newer_version_is_refused_and_not_changed() {
    let mut service = stopped_service().await;
    let database = Database::open(&service).await;
    database.execute("INSERT INTO seaql_migrations VALUES ('m20990101_000001_teleport', 4070908800)").await;
    database.close().await;
    let parts =
        ["newer version", "m20990101_000001_teleport", "run that version again, or restore the backup"];
    assert_refuses(&mut service, &parts).await;

    let database = Database::open(&service).await;
    database.execute("DELETE FROM seaql_migrations WHERE version LIKE 'm2099%'").await;
    database.close().await;
    service.start().await;
    assert_eq!(service.status().await["outbox"]["pending"], 50);
}
