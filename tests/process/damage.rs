//! A database that is damaged, or from the future: the service refuses to start, says how to mend it, and leaves it as
//! it is.

use std::{fs, path::PathBuf};

use liveobject_test_support::Service;

use crate::helpers::{Database, accept, ids, service};

/// SQLite's own.
const PAGE: usize = 4096;

fn file(service: &Service) -> PathBuf {
    service.data_dir().join("liveobject.db")
}

/// A service with a few events, stopped in good order.
async fn stopped() -> Service {
    let mut service = service().start().await;
    let _ledger = accept(&service, ids("kept", 50)).await;
    service.sigterm();
    assert_eq!(service.wait().await, 0);
    service
}

/// It ends with 1 and says all this, and the file is what it was.
async fn assert_refuses(service: &mut Service, says: &[&str]) {
    let before = fs::read(file(service)).expect("the database can be read");
    let logged = service.log_text().len();
    service.spawn();
    let code = service.wait().await;
    let log = service.log_text();
    let said = &log[logged..];
    assert_eq!(code, 1, "{said}");
    for part in says {
        assert!(said.contains(part), "{part:?} is missing in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    assert!(fs::read(file(service)).expect("the database can be read") == before, "the file was changed");
}

const DAMAGED: [&str; 3] =
    ["liveobject.db", "is damaged or not a SQLite database", "restore it from a backup"];

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let mut service = service().build();
    fs::create_dir_all(service.data_dir()).expect("the data directory can be made");
    let garbage: Vec<u8> =
        (0..20_000_u32).map(|i| u8::try_from(i * 7919 % 251).expect("below 256")).collect();
    fs::write(file(&service), garbage).expect("the garbage can be written");
    assert_refuses(&mut service, &DAMAGED).await;
}

#[tokio::test]
async fn a_database_with_a_damaged_schema_is_refused_and_left_alone() {
    let mut service = stopped().await;
    let mut bytes = fs::read(file(&service)).expect("the database can be read");
    // The header stays, so that it still looks like a database; the schema behind it does not.
    bytes[100..PAGE].fill(0xa5);
    fs::write(file(&service), bytes).expect("the database can be written");
    assert_refuses(&mut service, &DAMAGED).await;
}

#[tokio::test]
async fn a_database_whose_tables_are_damaged_is_refused_and_left_alone() {
    let mut service = stopped().await;
    let mut bytes = fs::read(file(&service)).expect("the database can be read");
    bytes[PAGE..].fill(0xa5);
    fs::write(file(&service), bytes).expect("the database can be written");
    assert_refuses(&mut service, &DAMAGED).await;
}

#[tokio::test]
async fn a_database_that_was_cut_short_is_refused_and_left_alone() {
    let mut service = stopped().await;
    let bytes = fs::read(file(&service)).expect("the database can be read");
    fs::write(file(&service), &bytes[..2 * PAGE]).expect("the database can be written");
    assert_refuses(&mut service, &DAMAGED).await;
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_and_left_alone() {
    let mut service = stopped().await;
    let database = Database::of(&service).await;
    database.run("INSERT INTO seaql_migrations VALUES ('m20990101_000001_teleport', 4070908800)").await;
    database.close().await;
    let says =
        ["newer version", "m20990101_000001_teleport", "run that version again, or restore the backup"];
    assert_refuses(&mut service, &says).await;

    let database = Database::of(&service).await;
    database.run("DELETE FROM seaql_migrations WHERE version LIKE 'm2099%'").await;
    database.close().await;
    service.start().await;
    assert_eq!(service.status().await["outbox"]["pending"], 50);
}
