//! Killed in mid-stream, at any moment: what was answered with 202 arrives, in order.

use std::time::Duration;

use liveobject_test_support::{Api, Proxy};
use reqwest::Method;
use tokio::time::sleep;

use crate::helpers::{Dice, Load, assert_kept, broker_and_subscriber, event, names, service, settle};

const KILLS: usize = 20;
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
            // What was under way never arrives.
            0 => proxy.stall(),
            // It arrives after the service's death, or not.
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
            // Recovery is no safer moment.
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
    assert!(accepted > KILLS * 10, "too little came in between to mean much: {accepted}");
    assert!(ledger.resends() >= 1, "no kill hit anything that was under way: {}", ledger.summary());
}

/// A red pixel.
const PNG: &[u8] = &[
    0x89, b'P', b'N', b'G', 13, 10, 26, 10, 0, 0, 0, 13, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0, 0, 1, 8,
    2, 0, 0, 0, 0x90, 0x77, 0x53, 0xde, 0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82,
];

fn picture(n: usize) -> Vec<u8> {
    [PNG, &n.to_le_bytes().repeat(10_000)].concat()
}

/// Stores one picture after another, in turn for two events, until the service is gone; answers which was the last one
/// that was answered as stored, and how many were.
async fn store_pictures(api: Api, first: usize) -> (Option<usize>, usize) {
    let mut last = None;
    for n in first.. {
        let path = format!("/api/v1/events/p{}/thumbnail", n % 2);
        match Api::try_send(api.request(Method::PUT, &path).body(picture(n))).await {
            Ok(answer) => assert_eq!(answer.status, 204, "{answer:?}"),
            Err(_) => return (last, n - first),
        }
        last = Some(n);
    }
    unreachable!("the service is killed before")
}

#[tokio::test]
async fn a_stored_picture_is_there_whole_after_a_kill() {
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
        let (last, count) = storing.await.expect("it was stored");
        service.start().await;
        for n in last.into_iter().chain(last.filter(|_| count > 1).map(|n| n - 1)) {
            let path = format!("/api/v1/events/p{}/thumbnail", n % 2);
            let answer = service.request(Method::GET, &path).send().await.expect("an answer");
            let image = answer.bytes().await.expect("a picture");
            // The one that was under way took the place of the older one, or it did not.
            assert!(image == picture(n) || (Some(n) != last && image == picture(n + 2)), "{n} of {last:?}");
        }
        let left = names(&service.data_dir().join("thumbnails"));
        assert_eq!(left, ["0"], "nothing is left half done");
        next = last.map_or(next, |n| n + 2);
        stored += count;
    }
    assert!(stored > 20, "too few pictures to mean much: {stored}");
}
