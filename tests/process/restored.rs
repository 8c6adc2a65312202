//! A database that is restored from a backup or starts empty: no seq is given twice, and the service works.

use std::{collections::BTreeSet, fs, path::PathBuf};

use liveobject_test_support::{Mosquitto, Service, Subscriber, wait_until};
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{Database, TIMEOUT, accept, broker_and_subscriber, event, ids, service, stop};

fn file(service: &Service, suffix: &str) -> PathBuf {
    service.data_dir().join(format!("liveobject.db{suffix}"))
}

/// Removes the database with its write-ahead log, but not the file with the last seq.
fn remove_database(service: &Service) {
    for suffix in ["", "-wal", "-shm"] {
        let _gone = fs::remove_file(file(service, suffix));
    }
}

/// Makes a consistent copy of the database while the service runs.
async fn back_up(service: &Service) -> PathBuf {
    let backup = service.data_dir().join("backup.db");
    let database = Database::open(service).await;
    database.execute(&format!("VACUUM INTO '{}'", backup.display())).await;
    database.close().await;
    backup
}

/// Returns a service that is connected to a broker and has delivered ten events.
async fn with_ten_events() -> (Mosquitto, Subscriber, Service) {
    let (broker, subscriber) = broker_and_subscriber().await;
    let service = service().start().await;
    connect(&service, &broker).await;
    let _ledger = accept(&service, ids("first", 10)).await;
    service.wait_outbox_empty(TIMEOUT).await;
    (broker, subscriber, service)
}

async fn connect(service: &Service, broker: &Mosquitto) {
    let settings = json!({ "enabled": true, "broker_host": "127.0.0.1", "broker_port": broker.port() });
    let _ = service.put_config(&settings).await.expect(200);
    service.wait_connected(TIMEOUT).await;
}

/// Accepts an event, asserts that it gets this seq, and waits until it is delivered.
async fn assert_next(service: &Service, subscriber: &Subscriber, id: &str, seq: i64) {
    let receipt = service.post_event(&event(id)).await.expect(202);
    assert_eq!(receipt["seq"], seq, "{receipt}");
    service.wait_outbox_empty(TIMEOUT).await;
    let is_it = |message: &liveobject_test_support::Message| {
        message.is_event() && message.json()["event_id"] == id && message.json()["seq"] == seq
    };
    subscriber.wait_for(|all| all.iter().any(is_it), id, TIMEOUT).await;
}

/// Asserts that nothing is pending or missing and that the status has only these warnings.
async fn assert_healthy(service: &Service, warnings: &[&str]) {
    assert_eq!(service.get("/health/ready").await.status, 200);
    let status = service.status().await;
    let outbox = &status["outbox"];
    assert_eq!((&outbox["pending"], &outbox["dead"]), (&json!(0), &json!(0)), "{status}");
    let kinds: Vec<&Value> =
        status["warnings"].as_array().expect("a list").iter().map(|w| &w["kind"]).collect();
    assert_eq!(kinds, warnings, "{status}");
    for state in ["pending", "dead"] {
        // The list shows the last checkpoint, which is up to 50 ms old.
        let is_empty = async || {
            let listed = service.get(&format!("/api/v1/events?state={state}")).await.expect(200);
            listed["events"] == json!([])
        };
        wait_until(&format!("no event is {state}"), TIMEOUT, is_empty).await;
    }
}

#[tokio::test]
async fn after_a_backup_is_restored_new_events_follow_those_that_it_does_not_contain() {
    let (_broker, subscriber, mut service) = with_ten_events().await;
    let backup = back_up(&service).await;
    let _ledger = accept(&service, ids("lost", 5)).await;
    service.wait_outbox_empty(TIMEOUT).await;
    stop(&mut service).await;
    remove_database(&service);
    fs::copy(backup, file(&service, "")).expect("the backup can be copied");
    service.start().await;
    service.wait_connected(TIMEOUT).await;
    assert_next(&service, &subscriber, "after", 16).await;
    assert_healthy(&service, &["database_restored"]).await;
    let message = service.status().await["warnings"][0]["message"].to_string();
    assert!(message.contains("5 events that had been accepted (seq 11 to 15) are not in it"), "{message}");
    let logged = |service: &Service| {
        let lines = service.log_lines();
        lines.iter().filter(|line| line.to_string().contains("the database is older")).count()
    };
    assert_eq!(logged(&service), 1, "{}", service.log_text());

    service.restart().await;
    service.wait_connected(TIMEOUT).await;
    assert_next(&service, &subscriber, "later", 17).await;
    assert_healthy(&service, &[]).await;
    assert_eq!(logged(&service), 1, "it is reported once");
    // The backup may be older than the last checkpoint, so that events arrive twice, but always with their own seq.
    let events = subscriber.events();
    let used = |event: &Value| Some((event["seq"].as_i64()?, event["event_id"].to_string()));
    let used: BTreeSet<(i64, String)> = events.iter().filter_map(used).collect();
    let seqs: Vec<_> = used.into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(seqs, (1..=17).collect::<Vec<_>>(), "each seq was given to one event");
}

#[tokio::test]
async fn an_empty_database_continues_after_the_last_seq() {
    let (broker, subscriber, mut service) = with_ten_events().await;
    stop(&mut service).await;
    remove_database(&service);
    service.start().await;
    connect(&service, &broker).await;
    assert_next(&service, &subscriber, "after", 11).await;
    assert_healthy(&service, &["database_restored"]).await;
    service.restart().await;
    service.wait_connected(TIMEOUT).await;
    assert_next(&service, &subscriber, "later", 12).await;
    assert_healthy(&service, &[]).await;
}

#[tokio::test]
async fn after_a_kill_the_seq_goes_on_by_one() {
    let (_broker, subscriber, mut service) = with_ten_events().await;
    for round in 0..5 {
        service.kill9().await;
        service.start().await;
        service.wait_connected(TIMEOUT).await;
        assert_next(&service, &subscriber, &format!("round-{round}"), 11 + round).await;
        assert_healthy(&service, &[]).await;
    }
}

#[tokio::test]
async fn a_damaged_file_with_the_last_seq_is_reported_and_replaced() {
    let (_broker, subscriber, mut service) = with_ten_events().await;
    stop(&mut service).await;
    fs::write(file(&service, ".seq"), "not a seq").expect("the file can be written");
    service.start().await;
    service.wait_connected(TIMEOUT).await;
    let warned = service.log_lines().iter().any(|line| {
        line["level"] == "WARN" && line.to_string().contains("the file with the last seq cannot be read")
    });
    assert!(warned, "{}", service.log_text());
    assert_next(&service, &subscriber, "after", 11).await;
    assert_healthy(&service, &[]).await;
    let content = fs::read_to_string(file(&service, ".seq")).expect("the file can be read");
    assert_eq!(content, "liveobject seq 1\n00000000000000000011 00000000000000000011\n");
}

#[tokio::test]
async fn a_file_with_the_last_seq_that_cannot_be_written_is_a_warning_and_events_are_accepted() {
    let (_broker, subscriber, mut service) = with_ten_events().await;
    stop(&mut service).await;
    fs::remove_file(file(&service, ".seq")).expect("the file can be removed");
    fs::create_dir(file(&service, ".seq")).expect("a directory can be created");
    service.start().await;
    service.wait_connected(TIMEOUT).await;
    assert_next(&service, &subscriber, "after", 11).await;
    assert_healthy(&service, &["seq_file_failed"]).await;
}

#[tokio::test]
async fn the_pictures_of_lost_events_are_removed_when_a_backup_is_restored() {
    let (_broker, subscriber, mut service) = with_ten_events().await;
    let backup = back_up(&service).await;
    let _ledger = accept(&service, ids("lost", 5)).await;
    let picture = service.request(Method::PUT, "/api/v1/events/lost-0/thumbnail").body(crate::helpers::PNG);
    let stored = liveobject_test_support::Api::try_send(picture).await.expect("a response");
    assert_eq!(stored.status, 204, "{stored:?}");
    let picture = service.data_dir().join("thumbnails/0/11");
    assert!(picture.exists());
    stop(&mut service).await;
    remove_database(&service);
    fs::copy(backup, file(&service, "")).expect("the backup can be copied");
    service.start().await;
    assert!(!picture.exists());
    service.wait_connected(TIMEOUT).await;
    assert_next(&service, &subscriber, "after", 16).await;
}
