//! Killed in mid-stream, at any moment: what was answered with 202 arrives, in order.

use std::time::Duration;

use liveobject_test_support::Proxy;
use tokio::time::sleep;

use crate::helpers::{Dice, Load, assert_kept, broker_and_subscriber, service, settle};

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
