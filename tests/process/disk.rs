//! A disk without room: a small file system of the test's own, filled up.

use liveobject_test_support::{Answer, Ledger, Service, wait_until};
use serde_json::{Value, json};

use crate::helpers::{BATCH, SOON, SmallDisk, assert_kept, broker_and_subscriber, event, service, settle};

const DISK_BYTES: usize = 16 << 20;
const BALLAST_BYTES: usize = 9 << 20;
/// Far more than fits.
const MOST_BATCHES: usize = 500;

fn batch(number: usize) -> Value {
    let event = |i| {
        let mut event = event(&format!("b{number}-{i}"));
        event["description"] = json!("x".repeat(1000));
        event
    };
    (0..100).map(event).collect()
}

/// Sends batches until one is refused; the refused one, and its number.
async fn fill(service: &Service, ledger: &mut Ledger, from: usize) -> (Answer, usize) {
    for number in from..from + MOST_BATCHES {
        let answer = service.post(BATCH, &batch(number)).await;
        if answer.status != 202 {
            return (answer, number);
        }
        enter(ledger, &answer.body);
    }
    panic!("the disk never filled up");
}

/// Sends events one by one until one is refused: where a batch found no room, a few of them still may.
async fn crowd(service: &Service, ledger: &mut Ledger) {
    for number in 0..MOST_BATCHES * 100 {
        let answer = service.post_event(&event(&format!("s{number}"))).await;
        if answer.status != 202 {
            let _ = answer.expect(503);
            return;
        }
        ledger.accepted_receipt(&answer.body);
    }
    panic!("the disk never filled up");
}

fn enter(ledger: &mut Ledger, body: &Value) {
    let receipts = body["accepted"].as_array().expect("receipts");
    for receipt in receipts {
        ledger.accepted_receipt(receipt);
    }
}

/// Asserts that the log tells how many events were refused, and not of each request by itself.
fn assert_told_once(service: &Service, refused: u64) {
    let lines = service.log_lines();
    let ends = lines.iter().filter_map(|line| line["refused"].as_u64()).collect::<Vec<_>>();
    let begins = lines.iter().filter(|line| line["level"] == "ERROR").count();
    assert_eq!((ends.iter().sum::<u64>(), ends.len()), (refused, begins), "{lines:#?}");
    assert!(!lines.iter().any(|line| line["level"] == "WARN"), "{lines:#?}");
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_works_again_when_there_is_room() {
    let Some(disk) = SmallDisk::mount(DISK_BYTES) else { return };
    let mut service = service().data_dir(disk.data_dir()).start().await;
    let mut ledger = Ledger::new();
    disk.take_room(BALLAST_BYTES);
    let (refused, number) = fill(&service, &mut ledger, 0).await;
    assert_eq!(refused.header("content-type"), "application/problem+json");
    assert!(!refused.header("retry-after").is_empty());
    let _ = refused.expect(503);
    disk.fill_up();
    crowd(&service, &mut ledger).await;
    let accepted = ledger.lost().len();
    println!("the disk was full after {accepted} events");
    // Each failure leaves the database in order.
    for _ in 0..3 {
        let _ = service.post_event(&event("late-comer")).await.expect(503);
        let _ = service.post(BATCH, &batch(number)).await.expect(503);
    }

    let _ = service.get("/health/live").await.expect(200);
    assert_eq!(service.status().await["outbox"]["pending"], accepted);
    let told =
        service.log_lines().into_iter().find(|line| line["level"] == "ERROR").expect("an error in the log");
    assert!(told.to_string().contains("full"), "{told}");

    disk.empty_again();
    disk.give_room();
    enter(&mut ledger, &service.post(BATCH, &batch(number)).await.expect(202));
    let _ = service.post_event(&event("late-comer")).await.expect(202);
    assert!(service.is_running());
    assert_told_once(&service, 100 + 1 + 3 * (1 + 100));
    service.kill9().await;
    service.start().await;
    ledger.accepted_receipt(&service.post_event(&event("late-comer")).await.expect(202));

    let (broker, subscriber) = broker_and_subscriber().await;
    service.connect_to(broker.port()).await;
    settle(&service, &subscriber, &mut ledger, accepted + 101).await;
    assert_kept(&ledger);
}

#[tokio::test]
async fn a_service_that_is_not_ready_says_so_while_its_disk_is_full() {
    let Some(disk) = SmallDisk::mount(DISK_BYTES) else { return };
    let service = service().data_dir(disk.data_dir()).start().await;
    let _ = service.post_event(&event("first")).await.expect(202);
    let _ = service.get("/health/ready").await.expect(200);
    disk.take_room(BALLAST_BYTES);
    let (_refused, _) = fill(&service, &mut Ledger::new(), 0).await;
    disk.fill_up();
    crowd(&service, &mut Ledger::new()).await;
    let _ = service.post_event(&event("second")).await.expect(503);
    let _ = service.get("/health/ready").await.expect(503);
    disk.empty_again();
    disk.give_room();
    wait_until("ready again", SOON, async || service.get("/health/ready").await.status == 200).await;
}

#[tokio::test]
async fn events_are_delivered_while_the_disk_is_full() {
    let Some(disk) = SmallDisk::mount(DISK_BYTES) else { return };
    let (broker, subscriber) = broker_and_subscriber().await;
    let mut service = service().data_dir(disk.data_dir()).start().await;
    let mut ledger = Ledger::new();
    disk.take_room(BALLAST_BYTES);
    let (_refused, _) = fill(&service, &mut ledger, 0).await;
    let accepted = ledger.lost().len();
    // The settings need a row of their own.
    disk.give_room();
    service.connect_to(broker.port()).await;
    disk.fill_up();
    subscriber.wait_for_events(accepted, SOON).await;

    service.kill9().await;
    service.spawn();
    let started = wait_or_run(&mut service).await;
    disk.empty_again();
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

/// The exit code, when it ends within a second or so.
async fn wait_or_run(service: &mut Service) -> Option<i32> {
    for _ in 0..100 {
        if !service.is_running() {
            return Some(service.wait().await);
        }
        tokio::time::sleep(std::time::Duration::from_millis(15)).await;
    }
    None
}
