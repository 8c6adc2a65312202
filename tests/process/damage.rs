//! A database that is damaged, or that a newer version created: the service refuses to start, reports how to
//! fix the problem, and does not change the file.

use std::{fs, path::PathBuf};

use liveobject_test_support::{Api, Message, Service, wait_until};
use serde_json::json;

use crate::helpers::{
    Database, TIMEOUT, accept, assert_exits, broker_and_subscriber, event, ids, service, stop,
};

/// The page size of a new database.
const PAGE: usize = 2048;

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

/// Asserts that the service exits with 78, that its log contains every part, and that the file is unchanged.
async fn assert_refuses(service: &mut Service, parts: &[&str]) {
    let before = fs::read(file(service)).expect("the database can be read");
    let log = assert_exits(service, 78, parts).await;
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
        ["newer version", "m20990101_000001_teleport", "run that version again, or go back to a backup"];
    assert_refuses(&mut service, &parts).await;

    let database = Database::open(&service).await;
    database.execute("DELETE FROM seaql_migrations WHERE version LIKE 'm2099%'").await;
    database.close().await;
    service.start().await;
    assert_eq!(service.status().await["outbox"]["pending"], 50);
}

/// Overwrites the page that contains these bytes.
fn damage_page_with(service: &Service, content: &[u8]) {
    let mut bytes = fs::read(file(service)).expect("the database can be read");
    let at = bytes.windows(content.len()).position(|part| part == content).expect("the content is there");
    let page = at / PAGE * PAGE;
    bytes[page..page + 64].fill(0xa5);
    fs::write(file(service), bytes).expect("the database can be written");
}

#[tokio::test]
async fn invariant_12_only_the_events_on_a_damaged_page_are_not_delivered() {
    let (broker, subscriber) = broker_and_subscriber().await;
    let mut service = service().start().await;
    let _ledger = accept(&service, ids("kept", 400)).await;
    stop(&mut service).await;
    damage_page_with(&service, br#""event_id":"kept-200""#);
    service.start().await;
    let settings = json!({ "enabled": true, "broker_host": "127.0.0.1", "broker_port": broker.port() });
    let _ = service.put_config(&settings).await.expect(200);
    service.wait_outbox_empty(TIMEOUT).await;
    let status = service.status().await;
    let dead = status["outbox"]["dead"].as_u64().expect("a number");
    assert!((1..20).contains(&dead), "a page contains a few events: {status}");
    assert_eq!(status["warnings"][0]["kind"], "events_unreadable", "{status}");
    let expected = 400 - usize::try_from(dead).expect("small");
    subscriber
        .wait_for(|all| all.iter().filter(|m| m.is_event()).count() == expected, "the rest", TIMEOUT)
        .await;
    assert_eq!(service.get("/health/ready").await.status, 503);
    let _ = service.post_event(&event("new")).await.expect(202);
    let delivered = |all: &[Message]| all.iter().any(|m| m.is_event() && m.json()["event_id"] == "new");
    subscriber.wait_for(delivered, "a new event", TIMEOUT).await;
    // The remedy that the warning recommends.
    let dismissed = service.request(reqwest::Method::DELETE, "/api/v1/events/dead?reason=unreadable");
    let answer = Api::try_send(dismissed).await.expect("a response");
    assert_eq!((answer.status, answer.body["events"].as_u64()), (200, Some(dead)), "{answer:?}");
    let is_ready = async || service.get("/health/ready").await.status == 200;
    wait_until("the service is ready", TIMEOUT, is_ready).await;
}

#[tokio::test]
async fn a_write_ahead_log_that_is_deleted_under_the_service_is_noticed_even_if_a_reader_creates_another() {
    let mut service = service().start().await;
    let mut ledger = accept(&service, ids("kept", 5)).await;
    fs::remove_file(service.data_dir().join("liveobject.db-wal")).expect("the log can be removed");
    Database::visit(&service).await;
    assert!(service.data_dir().join("liveobject.db-wal").exists(), "the reader has created it");
    let is_ready = async || service.get("/health/ready").await.status == 200;
    wait_until("the service is not ready", TIMEOUT, async || !is_ready().await).await;
    assert_eq!(service.post_event(&event("lost")).await.status, 503);
    let status = service.status().await;
    assert_eq!(status["warnings"][0]["kind"], "database_unavailable", "{status}");
    let message = status["warnings"][0]["message"].as_str().expect("a message");
    assert!(message.contains("restart the service"), "{message}");
    service.restart().await;
    ledger.accepted_receipt(&service.post_event(&event("new")).await.expect(202));
    for id in ids("kept", 5) {
        let _ = service.get(&format!("/api/v1/events/{id}")).await.expect(200);
    }
}

#[tokio::test]
async fn a_database_that_is_replaced_under_the_service_accepts_no_events_until_it_is_back() {
    let service = service().start().await;
    let _ledger = accept(&service, ids("kept", 5)).await;
    let is_ready = async || service.get("/health/ready").await.status == 200;
    let moved = service.data_dir().join("moved.db");
    let others = ["moved", "deleted", "restored"];
    for what in others {
        fs::rename(file(&service), &moved).expect("the file can be moved");
        if what == "restored" {
            fs::copy(&moved, file(&service)).expect("the file can be copied");
        }
        if what == "deleted" {
            // Nothing is written, but the service notices.
            wait_until("the service is not ready", TIMEOUT, async || !is_ready().await).await;
        }
        let answer = service.post_event(&event(what)).await;
        assert_eq!(answer.status, 503, "{what}: {answer:?}");
        let status = service.status().await;
        assert_eq!(status["warnings"][0]["kind"], "database_unavailable", "{what}: {status}");
        let message = status["warnings"][0]["message"].as_str().expect("a message");
        assert!(message.contains("moved, deleted or replaced"), "{message}");
        fs::rename(&moved, file(&service)).expect("the file can be moved back");
        wait_until("the service is ready", TIMEOUT, is_ready).await;
        let _ = service.post_event(&event(&format!("after {what}").replace(' ', "-"))).await.expect(202);
        assert_eq!(service.status().await["warnings"], json!([]), "{what}");
    }
}
