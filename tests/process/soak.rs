//! The soak test: events arrive at varying rates, over REST and from actors, while brokers, network, clock,
//! disk and both processes fail at random and settings, keys and cameras change. It ends with an account of
//! every event.
//!
//! The system under test consists of two processes: the service, and a classifier that embeds the same actors.
//! Both publish to two brokers. `tests/soak` runs the test for half an hour.

mod classifier;
mod clock;
mod ledgers;
mod load;
mod monitor;
mod network;
mod report;
mod system_under_test;
mod tokens;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use liveobject_test_support::FaultLog;
use tokio::time::{Instant, sleep};

use self::{
    classifier::Embedded,
    clock::Clock,
    ledgers::{Ledgers, Origin},
    load::{Demand, Load, lock},
    network::Network,
    report::Report,
    system_under_test::SystemUnderTest,
};
use crate::helpers::{Dice, LONG_TIMEOUT, SmallDisk};

const SECONDS: u64 = 25;
/// More than all events need. Only the part in use takes memory.
const DISK_BYTES: usize = 4 << 30;
/// Maximum average number of events per second, so that half an hour of them fits on the disk and in the
/// ledgers.
const AVERAGE_PER_SECOND: u64 = 600;
/// Number of events that are allowed on top of the average, so that a short test sees high rates too.
const BUDGET_AT_START: u64 = 5000;
/// Events per second: none, a house with a few cameras, a city, and as many as the service accepts.
const RATES: [u32; 7] = [0, 20, 100, 100, 500, 2000, FLOOD];
const FLOOD: u32 = 50_000;
const RATE_OVER_BUDGET: u32 = 50;
const STEADY_RATE: u32 = 60;
const POLL: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_lost_or_overtaken_under_random_faults() {
    let seconds = std::env::var("SOAK_SECONDS");
    let seconds = seconds.map_or(SECONDS, |text| text.parse().expect("SOAK_SECONDS is a number"));
    let dice = Dice::new("soak");
    let (ledgers, clock, fault_log) = (
        Arc::<Mutex<Ledgers>>::default(),
        Arc::new(Clock::new()),
        FaultLog::start("SOAK_LOG", Instant::now()),
    );
    let mut network = Network::start(Arc::clone(&ledgers), Arc::clone(&clock)).await;
    let mut system = SystemUnderTest::start(SmallDisk::mount(DISK_BYTES), clock, &network).await;
    let load = Load::start(
        system.service.api(),
        Arc::clone(&system.tokens),
        Arc::clone(&ledgers),
        Arc::clone(&system.demand),
    );

    let begin = Instant::now();
    let end = begin + Duration::from_secs(seconds);
    system.longest_fault = (end - begin) / 2;
    let (rate, demand) = (Mutex::default(), Arc::clone(&system.demand));
    let faults = async {
        tokio::join!(
            inject_network_faults(&mut network, dice.sibling(1 << 20), end, &fault_log),
            inject_system_faults(
                &mut system,
                dice.sibling(2 << 20),
                (begin, end),
                &fault_log,
                &ledgers,
                &rate
            ),
        )
    };
    // The last faults end after `end`, and they need events until then.
    tokio::select! {
        ((), ()) = faults => {}
        () = vary_rates(&load, dice.sibling(3 << 20), &ledgers, &rate, &demand) => {}
    }
    load.stop().await;
    system.heal().await;
    settle(&mut system, &ledgers).await;
    system.check_event_log().await;
    system.check_replays().await;
    system.check_warnings().await;

    let report = Report::new(&ledgers, &mut system).await;
    println!("{} faults in {seconds} s\n{report}", fault_log.count());
    println!("{} seed={}", report.summary(), dice.seed());
    assert_eq!(report.violations(), Vec::<String>::new());
}

/// Injects one fault after another into the network until `end`.
///
/// Each fault has its own dice, so that it does not depend on how long the previous one took or on what was
/// exempt.
async fn inject_network_faults(network: &mut Network, dice: Dice, end: Instant, fault_log: &FaultLog) {
    for number in 1.. {
        if Instant::now() >= end {
            break;
        }
        let mut dice = dice.sibling(number);
        sleep(dice.millis(100, 6000)).await;
        network.inject_fault(&mut dice, fault_log).await;
    }
}

/// Injects one fault after another into both processes. The service is exempt from restarts in the second
/// third of the time, the classifier in the last third.
async fn inject_system_faults(
    system: &mut SystemUnderTest,
    dice: Dice,
    (begin, end): (Instant, Instant),
    fault_log: &FaultLog,
    ledgers: &Mutex<Ledgers>,
    rate: &Mutex<u32>,
) {
    let third = (end - begin) / 3;
    for number in 1.. {
        if Instant::now() >= end {
            break;
        }
        let mut dice = dice.sibling(number);
        let pause = dice.millis(100, 5000);
        let until = Instant::now() + pause;
        while Instant::now() < until {
            system.embedded.set_rate(*rate.lock().expect("no holder of the lock panics"));
            record_receipts(&mut system.embedded, ledgers);
            sleep(POLL).await;
        }
        system.exempt = match begin.elapsed() {
            elapsed if elapsed < third => None,
            elapsed if elapsed < third * 2 => Some(Origin::Rest),
            _ => Some(Origin::Actors),
        };
        system.inject_fault(&mut dice, fault_log).await;
    }
}

fn record_receipts(embedded: &mut Embedded, ledgers: &Mutex<Ledgers>) {
    for (number, seq) in embedded.new_receipts() {
        lock(ledgers).accepted(Origin::Actors, number, seq);
    }
}

/// Changes the rates every few seconds, without end, and keeps them low while the number of accepted events exceeds the
/// budget.
async fn vary_rates(
    load: &Load,
    mut dice: Dice,
    ledgers: &Mutex<Ledgers>,
    embedded: &Mutex<u32>,
    demand: &Mutex<Demand>,
) {
    let begin = Instant::now();
    let set_rates = |rest: u32, actors: u32| {
        load.set_rate(rest);
        *embedded.lock().expect("no holder of the lock panics") = actors;
    };
    loop {
        let (rest, actors) = (*dice.pick(&RATES), *dice.pick(&RATES));
        let longest_ms = if rest.max(actors) == FLOOD { 2000 } else { 5000 };
        let until = Instant::now() + dice.millis(500, longest_ms);
        let budget = BUDGET_AT_START + begin.elapsed().as_secs() * AVERAGE_PER_SECOND;
        let is_within_budget = lock(ledgers).accepted_count() < usize::try_from(budget).expect("small");
        while Instant::now() < until {
            let demand = *demand.lock().expect("no holder of the lock panics");
            match demand {
                Demand::Flood => set_rates(FLOOD, FLOOD),
                Demand::Steady => set_rates(STEADY_RATE, STEADY_RATE),
                Demand::Random if is_within_budget => set_rates(rest, actors),
                Demand::Random => set_rates(rest.min(RATE_OVER_BUDGET), actors.min(RATE_OVER_BUDGET)),
            }
            sleep(POLL).await;
        }
    }
}

/// Waits until every accepted event was delivered, and stops the classifier. The report lists the events that
/// were not delivered in time.
async fn settle(system: &mut SystemUnderTest, ledgers: &Mutex<Ledgers>) {
    system.embedded.set_rate(0);
    let deadline = Instant::now() + LONG_TIMEOUT * 2;
    loop {
        sleep(POLL).await;
        record_receipts(&mut system.embedded, ledgers);
        let outbox = system.service.status().await["outbox"].clone();
        let missing: usize = Origin::ALL.into_iter().map(|origin| lock(ledgers).missing(origin)).sum();
        if (missing == 0 && outbox["pending"] == 0) || Instant::now() >= deadline {
            break;
        }
    }
    let stopped = system.embedded.stop().await;
    assert!(stopped, "the classifier did not stop: {}", system_under_test::tail(&system.embedded.log()));
    // The classifier may have written its last receipts just before it stopped.
    record_receipts(&mut system.embedded, ledgers);
}
