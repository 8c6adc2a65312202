//! `kill -9` at any moment under load: every event that was accepted with 202 arrives, in order.

use std::time::Duration;

use liveobject_test_support::{Api, Proxy, served_database};
use reqwest::Method;
use tokio::time::sleep;

use crate::helpers::{
    Database, Dice, Load, assert_kept, broker_and_subscriber, event, names, picture, service, settle,
};

const KILLS: usize = 20;
const PICTURE_BYTES: usize = 80_000;
const EVENTS_PER_SECOND: u32 = 500;

#[tokio::test]
async fn every_accepted_event_arrives_in_order_over_20_kills_in_a_row() {
    let mut dice = Dice::new("20 kills");
    let (broker, subscriber) = broker_and_subscriber().await;
    let proxy = Proxy::start(broker.port()).await;
    let mut service = service().start().await;
    service.connect_to(proxy.port()).await;
    let load = Load::start(&service, EVENTS_PER_SECOND);
    for _ in 0..KILLS {
        sleep(dice.millis(20, 600)).await;
        match dice.below(3) {
            // Packets in transit never arrive.
            0 => proxy.stall(),
            // Packets in transit may arrive after the service was killed.
            1 => proxy.delay(dice.millis(0, 100)),
            _ => proxy.delay(Duration::ZERO),
        }
        sleep(dice.millis(0, 200)).await;
        service.kill9().await;
        if dice.below(3) > 0 {
            proxy.cut().await;
        }
        proxy.flow();
        if dice.below(3) == 0 {
            // A kill during recovery must be safe as well.
            service.spawn();
            sleep(dice.millis(0, 150)).await;
            service.kill9().await;
        }
        service.start().await;
    }
    let (mut ledger, accepted) = load.stop().await;
    settle(&service, &subscriber, &mut ledger, accepted).await;
    println!("{KILLS} kills: {}", ledger.summary());
    assert_kept(&ledger);
    assert!(accepted > KILLS * 10, "too few events were accepted for a meaningful test: {accepted}");
    assert!(ledger.resends() >= 1, "no kill happened while an event was in flight: {}", ledger.summary());

    if served_database(service.data_dir()).is_some() {
        // The tests of the actors count on both engines.
        return;
    }
    service.kill9().await;
    service.start().await;
    let database = Database::open(&service).await;
    let events = database.number("SELECT COUNT(*) AS value FROM events").await;
    let counted = database.number("SELECT CAST(SUM(count) AS INTEGER) AS value FROM camera_days").await;
    assert_eq!(counted, events, "each event is counted once");
    database.close().await;
}

/// Stores one picture after another, alternately for two events, until the service is gone. Returns the
/// number of the last picture that was confirmed as stored, and how many were confirmed.
async fn store_pictures(api: Api, first: usize) -> (Option<usize>, usize) {
    let mut last = None;
    for n in first.. {
        let path = format!("/api/v1/events/p{}/thumbnail", n % 2);
        match Api::try_send(api.request(Method::PUT, &path).body(picture(n, PICTURE_BYTES))).await {
            Ok(response) => assert_eq!(response.status, 204, "{response:?}"),
            Err(_) => return (last, n - first),
        }
        last = Some(n);
    }
    unreachable!("the service is killed before the numbers run out")
}

#[tokio::test]
async fn a_stored_picture_is_complete_after_a_kill() {
    let mut dice = Dice::new("pictures");
    let mut service = service().start().await;
    for id in ["p0", "p1"] {
        let _ = service.post_event(&event(id)).await.expect(202);
    }
    let (mut next, mut stored) = (0, 0);
    for _ in 0..10 {
        #[expect(clippy::disallowed_methods, reason = "it is awaited below")]
        let storing = tokio::spawn(store_pictures((*service).clone(), next));
        sleep(dice.millis(10, 200)).await;
        service.kill9().await;
        let (last, count) = storing.await.expect("the task does not panic");
        service.start().await;
        for n in last.into_iter().chain(last.filter(|_| count > 1).map(|n| n - 1)) {
            let path = format!("/api/v1/events/p{}/thumbnail", n % 2);
            let response = service.request(Method::GET, &path).send().await.expect("a response");
            let image = response.bytes().await.expect("a picture");
            // The unconfirmed picture may or may not have replaced the older one.
            assert!(
                image == picture(n, PICTURE_BYTES)
                    || (Some(n) != last && image == picture(n + 2, PICTURE_BYTES)),
                "{n} of {last:?}"
            );
        }
        // On a server, the pictures are not files.
        let directory = service.data_dir().join("thumbnails");
        let files = if directory.exists() { names(&directory) } else { Vec::new() };
        assert!(files.iter().all(|file| file == "0"), "a temporary file was left behind: {files:?}");
        next = last.map_or(next, |n| n + 2);
        stored += count;
    }
    assert!(stored > 20, "too few pictures for a meaningful test: {stored}");
}
