//! A large backlog: how fast the service starts with it, and how much memory it uses.
//!
//! The guarantee is for a release build with 100,000 events: live within a second, at most 30 MiB idle and 60
//! MiB while the backlog drains. Run `cargo test --release --test process backlog -- --nocapture` to check
//! it. A debug build has a smaller backlog and wider bounds.

use std::time::Duration;

use liveobject_test_support::{Ledger, Service, Subscriber, memory};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::helpers::{BATCH, LONG_TIMEOUT, assert_kept, broker_and_subscriber, event, service, settle};

struct Bounds {
    batches: usize,
    /// The contract states one second, so this bound has to be a time.
    live_within: Duration,
    idle_mib: u64,
    draining_mib: u64,
}

const BOUNDS: Bounds = if cfg!(debug_assertions) {
    Bounds { batches: 20, live_within: Duration::from_secs(5), idle_mib: 60, draining_mib: 120 }
} else {
    Bounds { batches: 100, live_within: Duration::from_secs(1), idle_mib: 30, draining_mib: 60 }
};
const BATCH_EVENTS: usize = 1000;
/// Time after startup within which the service releases the memory that only startup needs. The test measures
/// idle memory after it.
const STARTED_UP: Duration = Duration::from_secs(1);

fn batch(number: usize) -> Value {
    (0..BATCH_EVENTS).map(|i| event(&format!("b{number}-{i}"))).collect()
}

fn mib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).expect("less than 4 TiB")) / 1024.0
}

/// Waits until the outbox is empty. Returns the maximum memory in that time, in KiB.
async fn drain(service: &Service) -> u64 {
    let deadline = Instant::now() + LONG_TIMEOUT;
    let mut max = 0;
    loop {
        max = max.max(service.rss_kib());
        let status = service.status().await;
        if status["outbox"]["pending"] == 0 {
            return max;
        }
        assert!(Instant::now() < deadline, "not drained within {LONG_TIMEOUT:?}: {status}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_service_with_a_large_backlog_starts_fast_and_uses_little_memory() {
    let mut service = service().start().await;
    sleep(STARTED_UP).await;
    let idle = service.rss_kib();
    let mut ledger = Ledger::new();
    for number in 0..BOUNDS.batches {
        let accepted = service.post(BATCH, &batch(number)).await.expect(202);
        let receipts = accepted["accepted"].as_array().expect("receipts");
        for receipt in receipts {
            ledger.accepted_receipt(receipt);
        }
    }
    let (events, filled) = (BOUNDS.batches * BATCH_EVENTS, service.rss_kib());
    service.kill9().await;

    let start = Instant::now();
    service.start().await;
    let live = start.elapsed();
    assert_eq!(service.status().await["outbox"]["pending"], events);
    let with_backlog = service.rss_kib();

    let (broker, subscriber) = broker_and_subscriber().await;
    service.connect_to(broker.port()).await;
    let start = Instant::now();
    let draining = drain(&service).await;
    let took = start.elapsed();
    check(&service, &subscriber, ledger, events).await;
    println!(
        "{events} events: live after {live:?}, drained in {took:?}; memory: idle {:.1} MiB, \
         after accepting {:.1} MiB, after the restart {:.1} MiB, maximum while draining {:.1} MiB, \
         afterwards {:.1} MiB",
        mib(idle),
        mib(filled),
        mib(with_backlog),
        mib(draining),
        mib(service.rss_kib()),
    );
    assert!(live < BOUNDS.live_within, "{live:?}");
    assert!(idle < BOUNDS.idle_mib * 1024, "{idle} KiB");
    assert!(draining < BOUNDS.draining_mib * 1024, "{draining} KiB");
}

async fn check(service: &Service, subscriber: &Subscriber, mut ledger: Ledger, events: usize) {
    settle(service, subscriber, &mut ledger, events).await;
    assert_kept(&ledger);
    assert_eq!(ledger.duplicates(), 0, "{}", ledger.summary());
}

#[tokio::test]
async fn a_batch_of_nothing_but_faults_takes_little_memory_and_delays_no_health_check() {
    const BATCH_BYTES: usize = 8 * 1024 * 1024 - 100_000;
    let service = service().start().await;
    let fields: serde_json::Map<_, _> = (0..5000).map(|i| (format!("f{i}"), json!(0))).collect();
    let fields = json!(fields);
    let count = BATCH_BYTES / fields.to_string().len();
    let before = memory::peak_kib(service.pid()).expect("it runs");
    let batch = json!(vec![fields; count]);
    let health = async {
        for _ in 0..10 {
            let live = timeout(Duration::from_secs(1), service.get("/health/live")).await;
            let _ = live.expect("a response within a second").expect(200);
            sleep(Duration::from_millis(50)).await;
        }
    };
    let (answer, ()) = tokio::join!(service.post(BATCH, &batch), health);
    let _ = answer.expect(422);
    let took = memory::peak_kib(service.pid()).expect("it runs") - before;
    assert!(took < 64 * 1024, "{took} KiB");
}
