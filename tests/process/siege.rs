//! A siege: events at a varying rate, over REST and from actors, while brokers, network, clock, disk and both services fail
//! at random, and settings, keys and cameras change; then the account of every event.
//!
//! Two processes are besieged: the service, and a classifier that has the same actors in it. Their events go to two brokers.
//! QoS 0 is left out: it promises nothing that could be counted. `tests/siege` runs it for half an hour.

mod books;
mod classifier;
mod clock;
mod diary;
mod garrison;
mod load;
mod network;
mod report;
mod watch;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};

use self::{
    books::{Books, By},
    classifier::Embedded,
    clock::Clock,
    diary::Diary,
    garrison::Garrison,
    load::{Load, lock},
    network::Network,
    report::Report,
};
use crate::helpers::{Dice, LATER, SmallDisk};

const SECONDS: u64 = 25;
/// More than all events need: only what is used of it takes memory.
const DISK_BYTES: usize = 4 << 30;
/// How many events an average second may bring, so that half an hour fits on the disk and in the ledger.
const AVERAGE_PER_SECOND: u64 = 600;
/// What a short siege may bring more.
const AT_FIRST: u64 = 5000;
/// Events a second: quiet, as a house with some cameras, as a city, and as much as the service takes.
const RATES: [u32; 7] = [0, 20, 100, 100, 500, 2000, FLOOD];
const FLOOD: u32 = 50_000;
const POOR: u32 = 50;
const LOOK: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_siege_loses_nothing_and_nothing_overtakes() {
    let seconds = std::env::var("SIEGE_SECONDS");
    let seconds = seconds.map_or(SECONDS, |text| text.parse().expect("SIEGE_SECONDS is a number"));
    let dice = Dice::new("siege");
    let (books, clock, diary) = (Arc::<Mutex<Books>>::default(), Arc::new(Clock::new()), Diary::begin());
    let mut network = Network::start(Arc::clone(&books), Arc::clone(&clock)).await;
    let mut garrison = Garrison::start(SmallDisk::mount(DISK_BYTES), clock, &network).await;
    // A handle that looks the token up would have none while the service starts.
    let api = garrison.service.api().with_token(&garrison.service.token());
    let load = Load::start(api, Arc::clone(&books));

    let begin = Instant::now();
    let end = begin + Duration::from_secs(seconds);
    let (rate, flood) = (Mutex::default(), Arc::clone(&garrison.flood));
    tokio::join!(
        besiege_network(&mut network, dice.sibling(1 << 20), end, &diary),
        besiege_garrison(&mut garrison, dice.sibling(2 << 20), (begin, end), &diary, &books, &rate),
        vary(&load, dice.sibling(3 << 20), end, &books, &rate, &flood),
    );
    load.stop().await;
    garrison.relieve().await;
    settle(&mut garrison, &books).await;

    let report = Report::new(&books, &mut garrison).await;
    println!("{} misfortunes in {seconds} s\n{report}", diary.count());
    println!("{} seed={}", report.line(), dice.seed());
    assert_eq!(report.faults(), Vec::<String>::new());
}

/// Each misfortune has dice of its own: how long the one before took, or whom it spared, does not change it.
async fn besiege_network(network: &mut Network, dice: Dice, end: Instant, diary: &Diary) {
    for number in 1.. {
        if Instant::now() >= end {
            break;
        }
        let mut dice = dice.sibling(number);
        sleep(dice.millis(100, 6000)).await;
        network.misfortune(&mut dice, diary).await;
    }
}

/// In its second third the service lives on, in the last one the classifier does.
async fn besiege_garrison(
    garrison: &mut Garrison,
    dice: Dice,
    (begin, end): (Instant, Instant),
    diary: &Diary,
    books: &Mutex<Books>,
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
            garrison.embedded.rate(*rate.lock().expect("nobody panics with it"));
            enter(&mut garrison.embedded, books);
            sleep(LOOK).await;
        }
        garrison.spared = match begin.elapsed() {
            past if past < third => None,
            past if past < third * 2 => Some(By::Rest),
            _ => Some(By::Actors),
        };
        garrison.misfortune(&mut dice, diary).await;
    }
}

fn enter(embedded: &mut Embedded, books: &Mutex<Books>) {
    for (number, seq) in embedded.receipts() {
        lock(books).accepted(By::Actors, number, seq);
    }
}

/// Another rate every few seconds; a low one when more has come than may have by now.
async fn vary(
    load: &Load,
    mut dice: Dice,
    end: Instant,
    books: &Mutex<Books>,
    embedded: &Mutex<u32>,
    flood: &AtomicBool,
) {
    let begin = Instant::now();
    let set = |rest: u32, actors: u32| {
        load.rate(rest);
        *embedded.lock().expect("nobody panics with it") = actors;
    };
    while Instant::now() < end {
        let (rest, actors) = (*dice.pick(&RATES), *dice.pick(&RATES));
        let most = if rest.max(actors) == FLOOD { 2000 } else { 5000 };
        let until = (Instant::now() + dice.millis(500, most)).min(end);
        let budget = AT_FIRST + begin.elapsed().as_secs() * AVERAGE_PER_SECOND;
        let is_rich = lock(books).accepted_count() < usize::try_from(budget).expect("small");
        while Instant::now() < until {
            match (flood.load(Ordering::Relaxed), is_rich) {
                (true, _) => set(FLOOD, FLOOD),
                (false, true) => set(rest, actors),
                (false, false) => set(rest.min(POOR), actors.min(POOR)),
            }
            sleep(LOOK).await;
        }
    }
    set(0, 0);
}

/// Waits until everything that was accepted has been seen; the report tells what has not in time.
async fn settle(garrison: &mut Garrison, books: &Mutex<Books>) {
    garrison.embedded.rate(0);
    let deadline = Instant::now() + LATER * 2;
    loop {
        sleep(LOOK).await;
        enter(&mut garrison.embedded, books);
        let outbox = garrison.service.status().await["outbox"].clone();
        let missing: usize = By::ALL.into_iter().map(|by| lock(books).missing(by)).sum();
        if (missing == 0 && outbox["pending"] == 0) || Instant::now() >= deadline {
            break;
        }
    }
    // What is under way to the witness when the last receipt is read.
    let stopped = garrison.embedded.stop().await;
    assert!(stopped, "the classifier did not stop: {}", garrison::tail(&garrison.embedded.log()));
    enter(&mut garrison.embedded, books);
}
