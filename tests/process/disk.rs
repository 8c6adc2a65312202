//! A full disk. The tests mount a small file system and fill it up.

use std::time::Duration;

use liveobject_test_support::{Answer, Api, Ledger, Service, wait_until};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::helpers::{
    BATCH, PNG, SmallDisk, TIMEOUT, accept, assert_error_logged, assert_kept, broker_and_subscriber, event,
    ids, service, settle,
};

const DISK_BYTES: usize = 16 << 20;
const BALLAST_BYTES: usize = 9 << 20;
/// Time within which startup on a full disk has either failed or succeeded.
const START_OBSERVED: Duration = Duration::from_millis(1500);
/// Far more batches than fit on the disk.
const MAX_BATCHES: usize = 500;

fn batch(number: usize) -> Value {
    let event = |i| {
        let mut event = event(&format!("b{number}-{i}"));
        event["description"] = json!("x".repeat(1000));
        event
    };
    (0..100).map(event).collect()
}

/// Sends batches until one is refused. Returns the response to that batch and its number.
async fn fill(service: &Service, ledger: &mut Ledger, from: usize) -> (Answer, usize) {
    for number in from..from + MAX_BATCHES {
        let response = service.post(BATCH, &batch(number)).await;
        if response.status != 202 {
            return (response, number);
        }
        record_receipts(ledger, &response.body);
    }
    panic!("the disk never filled up");
}

/// Sends events one by one until one is refused, because single events may still fit where a batch did not.
async fn fill_with_single_events(service: &Service, ledger: &mut Ledger) {
    for number in 0..MAX_BATCHES * 100 {
        let response = service.post_event(&event(&format!("s{number}"))).await;
        if response.status != 202 {
            let _ = response.expect(503);
            return;
        }
        ledger.accepted_receipt(&response.body);
    }
    panic!("the disk never filled up");
}

fn record_receipts(ledger: &mut Ledger, body: &Value) {
    let receipts = body["accepted"].as_array().expect("receipts");
    for receipt in receipts {
        ledger.accepted_receipt(receipt);
    }
}

/// Asserts that the log reports how many events were refused in total, and does not mention each request.
fn assert_logged_once_per_outage(service: &Service, refused: u64) {
    let lines = service.log_lines();
    let ends = lines.iter().filter_map(|line| line["refused"].as_u64()).collect::<Vec<_>>();
    let begins = lines.iter().filter(|line| line["level"] == "ERROR").count();
    assert_eq!((ends.iter().sum::<u64>(), ends.len()), (refused, begins), "{lines:#?}");
    assert!(!lines.iter().any(|line| line["level"] == "WARN"), "{lines:#?}");
}

#[tokio::test]
async fn a_full_disk_loses_no_event_and_events_are_accepted_again_once_there_is_space() {
    let Some(disk) = SmallDisk::mount(DISK_BYTES) else { return };
    let mut service = service().data_dir(disk.data_dir()).start().await;
    let mut ledger = Ledger::new();
    disk.add_ballast(BALLAST_BYTES);
    let (response, number) = fill(&service, &mut ledger, 0).await;
    assert_eq!(response.header("content-type"), "application/problem+json");
    assert!(!response.header("retry-after").is_empty());
    let _ = response.expect(503);
    disk.fill_up();
    fill_with_single_events(&service, &mut ledger).await;
    let accepted = ledger.lost().len();
    println!("the disk was full after {accepted} events");
    // A failed write must not corrupt the database.
    for _ in 0..3 {
        let _ = service.post_event(&event("late-comer")).await.expect(503);
        let _ = service.post(BATCH, &batch(number)).await.expect(503);
    }

    let _ = service.get("/health/live").await.expect(200);
    assert_eq!(service.status().await["outbox"]["pending"], accepted);
    assert_error_logged(&service, "full");

    disk.remove_filler();
    disk.remove_ballast();
    record_receipts(&mut ledger, &service.post(BATCH, &batch(number)).await.expect(202));
    let _ = service.post_event(&event("late-comer")).await.expect(202);
    assert!(service.is_running());
    assert_logged_once_per_outage(&service, 100 + 1 + 3 * (1 + 100));
    service.kill9().await;
    service.start().await;
    ledger.accepted_receipt(&service.post_event(&event("late-comer")).await.expect(202));

    let (broker, subscriber) = broker_and_subscriber().await;
    service.connect_to(broker.port()).await;
    settle(&service, &subscriber, &mut ledger, accepted + 101).await;
    assert_kept(&ledger);
}

#[tokio::test]
async fn the_service_is_not_ready_while_its_disk_is_full() {
    let Some(disk) = SmallDisk::mount(DISK_BYTES) else { return };
    let service = service().data_dir(disk.data_dir()).start().await;
    let _ = service.post_event(&event("first")).await.expect(202);
    let _ = service.get("/health/ready").await.expect(200);
    disk.add_ballast(BALLAST_BYTES);
    let (_refused, _) = fill(&service, &mut Ledger::new(), 0).await;
    disk.fill_up();
    fill_with_single_events(&service, &mut Ledger::new()).await;
    let _ = service.post_event(&event("second")).await.expect(503);
    let _ = service.get("/health/ready").await.expect(503);
    disk.remove_filler();
    disk.remove_ballast();
    wait_until("ready again", TIMEOUT, async || service.get("/health/ready").await.status == 200).await;
}

#[tokio::test]
async fn events_are_delivered_while_the_disk_is_full() {
    let Some(disk) = SmallDisk::mount(DISK_BYTES) else { return };
    let (broker, subscriber) = broker_and_subscriber().await;
    let mut service = service().data_dir(disk.data_dir()).start().await;
    let mut ledger = Ledger::new();
    disk.add_ballast(BALLAST_BYTES);
    let (_refused, _) = fill(&service, &mut ledger, 0).await;
    let accepted = ledger.lost().len();
    // Storing the settings needs space as well.
    disk.remove_ballast();
    service.connect_to(broker.port()).await;
    disk.fill_up();
    subscriber.wait_for_events(accepted, TIMEOUT).await;

    service.kill9().await;
    service.spawn();
    let started = wait_or_run(&mut service).await;
    disk.remove_filler();
    if let Some(code) = started {
        let log = service.log_text();
        assert_eq!(code, 1, "{log}");
        assert!(log.contains("full: free some space and start again"), "{log}");
    } else {
        service.kill9().await;
    }
    service.start().await;
    settle(&service, &subscriber, &mut ledger, accepted).await;
    assert_kept(&ledger);
}

/// Returns the exit code if the process exits while its startup is observed, or `None` if it keeps running.
async fn wait_or_run(service: &mut Service) -> Option<i32> {
    let end = Instant::now() + START_OBSERVED;
    while Instant::now() < end {
        if !service.is_running() {
            return Some(service.wait().await);
        }
        sleep(Duration::from_millis(15)).await;
    }
    None
}

/// Stores a picture of this size for an event.
async fn put_picture(service: &Service, event_id: &str, bytes: usize) -> u16 {
    let mut picture = PNG.to_vec();
    picture.resize(bytes, 0);
    let path = format!("/api/v1/events/{event_id}/thumbnail");
    let request = service.request(reqwest::Method::PUT, &path).header("content-type", "image/png");
    Api::try_send(request.body(picture)).await.expect("a response").status
}

#[tokio::test]
async fn pictures_leave_room_for_events_and_make_room_when_the_disk_is_full() {
    let Some(disk) = SmallDisk::mount(DISK_BYTES) else { return };
    let service = service().data_dir(disk.data_dir()).start().await;
    let has_picture = async |number: usize| {
        service.get(&format!("/api/v1/events/p-{number}/thumbnail")).await.status == 200
    };
    for number in 0..40 {
        let id = format!("p-{number}");
        let _ = service.post_event(&event(&id)).await.expect(202);
        assert_eq!(put_picture(&service, &id, 1_000_000).await, 204, "{number}");
    }
    assert!(!has_picture(0).await, "the oldest pictures made room");
    assert!(has_picture(39).await);
    let warns = |status: &Value| status["warnings"][0]["kind"] == "disk_almost_full";
    service.wait_status("the warning", TIMEOUT, warns).await;
    let _ledger = accept(&service, ids("accepted", 50)).await;

    // Something else takes the rest of the disk.
    disk.fill_up();
    let mut refused = 0;
    for number in 0..300 {
        refused += usize::from(service.post_event(&event(&format!("full-{number}"))).await.status == 503);
    }
    println!("{refused} events were refused");
    let is_accepted = async || service.post_event(&event("last")).await.status == 202;
    wait_until("events are accepted again", TIMEOUT, is_accepted).await;
    let log = service.log_text();
    assert!(!log.contains("panicked"), "{log}");
}
