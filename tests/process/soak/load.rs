//! Events over REST, one by one and in batches, at a rate that can be changed at any time.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use liveobject_test_support::Api;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    ledgers::{Ledgers, Origin},
    tokens::Tokens,
};
use crate::helpers::{BATCH, picture};

const SINGLES: u64 = 24;
const BATCHES: u64 = 4;
const BATCH_EVENTS: u32 = 50;
/// Number of cameras. Event `r17` comes from `cam-17`, as does `r37`.
pub const CAMERAS: u64 = 20;
const TICK: Duration = Duration::from_millis(10);
const RETRY_DELAY: Duration = Duration::from_millis(50);
/// One sender in this many gives up on an event if the first response is not a receipt. Whether the event was
/// accepted is then unknown.
const IMPATIENT: u64 = 8;
/// One single event in this many has a picture.
const WITH_PICTURE: u64 = 16;
const PICTURE_BYTES: usize = 1600;
/// How often a picture is requested from a service that may be down.
const PICTURE_ATTEMPTS: u32 = 100;
/// Maximum number of due events, and therefore the maximum burst after the service was slow or down.
const MAX_DUE: usize = 2000;

/// The rates that a fault needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Demand {
    /// Any rate.
    #[default]
    Random,
    /// A low rate, so that it is plain what the fault does to each event.
    Steady,
    /// As many events as possible, because otherwise a full disk goes unnoticed.
    Flood,
}

/// State that the senders share.
#[derive(Debug)]
struct Shared {
    api: Api,
    tokens: Arc<Tokens>,
    ledgers: Arc<Mutex<Ledgers>>,
    /// Pictures may be removed unless any rate is permitted.
    demand: Arc<Mutex<Demand>>,
    due: Semaphore,
    per_second: AtomicU32,
    next: AtomicU64,
    stopping: AtomicBool,
}

/// Running senders.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    pacer: JoinSet<()>,
    senders: JoinSet<()>,
}

pub fn lock(ledgers: &Mutex<Ledgers>) -> MutexGuard<'_, Ledgers> {
    ledgers.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn demand(&self) -> Demand {
        *self.demand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Load {
    pub fn start(
        api: Api,
        tokens: Arc<Tokens>,
        ledgers: Arc<Mutex<Ledgers>>,
        demand: Arc<Mutex<Demand>>,
    ) -> Self {
        let shared = Arc::new(Shared {
            api,
            tokens,
            ledgers,
            demand,
            due: Semaphore::new(0),
            per_second: AtomicU32::new(0),
            next: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        });
        let (mut pacer, mut senders) = (JoinSet::new(), JoinSet::new());
        pacer.spawn(pace(Arc::clone(&shared)));
        for sender in 0..SINGLES + BATCHES {
            senders.spawn(send(Arc::clone(&shared), sender));
        }
        Self { shared, pacer, senders }
    }

    pub fn set_rate(&self, per_second: u32) {
        self.shared.per_second.store(per_second, Ordering::Relaxed);
    }

    /// Stops sending new events and waits for the receipts of those already sent.
    pub async fn stop(mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.pacer.shutdown().await;
        self.shared.due.close();
        self.senders.join_all().await;
    }
}

async fn pace(shared: Arc<Shared>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last = Instant::now();
    let mut due = 0.0;
    loop {
        ticks.tick().await;
        let per_second = shared.per_second.load(Ordering::Relaxed);
        due += last.elapsed().as_secs_f64() * f64::from(per_second);
        last = Instant::now();
        while due >= 1.0 && shared.due.available_permits() < MAX_DUE {
            shared.due.add_permits(1);
            due -= 1.0;
        }
        due = due.min(1.0);
    }
}

async fn send(shared: Arc<Shared>, sender: u64) {
    let is_patient = !sender.is_multiple_of(IMPATIENT);
    while !shared.stopping.load(Ordering::Relaxed) {
        // A batch is sent only if enough events are due. Waiting for them would block the other senders.
        let count = if sender < SINGLES { 1 } else { BATCH_EVENTS };
        if sender >= SINGLES && shared.due.available_permits() < 100 {
            sleep(TICK).await;
            continue;
        }
        let Ok(permit) = shared.due.acquire_many(count).await else { break };
        permit.forget();
        let first = shared.next.fetch_add(count.into(), Ordering::Relaxed);
        if count == 1 {
            send_one(&shared, first, is_patient).await;
        } else {
            send_batch(&shared, first..first + u64::from(count), is_patient).await;
        }
    }
}

async fn send_one(shared: &Shared, number: u64, is_patient: bool) {
    let has_picture = number.is_multiple_of(WITH_PICTURE);
    let mut event = event(number);
    if has_picture {
        event["thumbnail"] = STANDARD.encode(picture_of(number)).into();
    }
    lock(&shared.ledgers).sent(Origin::Rest, number);
    loop {
        let begin = Instant::now();
        let token = shared.tokens.current();
        let demand = shared.demand();
        let response = shared.api.with_token(&token).try_post("/api/v1/events", &event).await;
        match response {
            Ok(response) if response.status == 202 => {
                let elapsed = begin.elapsed();
                record_receipt(&mut lock(&shared.ledgers), number, &response.body);
                if has_picture {
                    return check_picture(shared, number, demand).await;
                }
                let micros = u32::try_from(elapsed.as_micros()).unwrap_or(u32::MAX);
                return lock(&shared.ledgers).posts.push(micros);
            }
            Ok(response) => record_refusal(shared, &token, response.status, &response.body),
            Err(_) => {}
        }
        if !is_patient {
            return;
        }
        sleep(RETRY_DELAY).await;
    }
}

/// Reads back the picture of an event that was just accepted with it. Only while the disk is full, the picture may be
/// gone already.
async fn check_picture(shared: &Shared, number: u64, demand: Demand) {
    let path = format!("/api/v1/events/{}/thumbnail", Origin::Rest.event_id(number));
    for _ in 0..PICTURE_ATTEMPTS {
        let request = shared.api.with_token(&shared.tokens.current()).request(Method::GET, &path);
        let Ok(response) = request.send().await else {
            sleep(RETRY_DELAY).await;
            continue;
        };
        let status = response.status().as_u16();
        let Ok(bytes) = response.bytes().await else { continue };
        if status == 200 && bytes == picture_of(number) {
            lock(&shared.ledgers).pictures += 1;
            return;
        }
        if matches!(status, 200 | 404) {
            if demand == Demand::Random && shared.demand() == Demand::Random {
                let text = format!("the picture of event {number}: {status}, {} bytes", bytes.len());
                lock(&shared.ledgers).other_violations.push(text);
            }
            return;
        }
        sleep(RETRY_DELAY).await;
    }
}

fn picture_of(number: u64) -> Vec<u8> {
    picture(usize::try_from(number).expect("small"), PICTURE_BYTES)
}

async fn send_batch(shared: &Shared, numbers: std::ops::Range<u64>, is_patient: bool) {
    let events: Vec<Value> = numbers.clone().map(event).collect();
    let events = Value::Array(events);
    numbers.clone().for_each(|number| lock(&shared.ledgers).sent(Origin::Rest, number));
    loop {
        let token = shared.tokens.current();
        match shared.api.with_token(&token).try_post(BATCH, &events).await {
            Ok(response) if response.status == 202 => {
                let receipts = response.body["accepted"].as_array().expect("receipts");
                let mut ledgers = lock(&shared.ledgers);
                return numbers
                    .zip(receipts)
                    .for_each(|(number, receipt)| record_receipt(&mut ledgers, number, receipt));
            }
            Ok(response) => record_refusal(shared, &token, response.status, &response.body),
            Err(_) => {}
        }
        if !is_patient {
            return;
        }
        sleep(RETRY_DELAY).await;
    }
}

fn record_receipt(ledgers: &mut Ledgers, number: u64, receipt: &Value) {
    assert_eq!(receipt["event_id"], Origin::Rest.event_id(number), "the receipt is for another event");
    ledgers.accepted(Origin::Rest, number, receipt["seq"].as_u64().expect("a seq"));
}

fn record_refusal(shared: &Shared, token: &str, status: u16, body: &Value) {
    let is_permitted = match status {
        503 | 429 => true,
        401 => shared.tokens.is_revoked(token),
        _ => false,
    };
    assert!(is_permitted, "a valid event was refused with {status}: {body}");
    lock(&shared.ledgers).refused += 1;
}

pub fn event(number: u64) -> Value {
    json!({
        "event_id": Origin::Rest.event_id(number),
        "camera_id": format!("cam-{}", number % CAMERAS),
        "description": "Person at the door with a package, seen for some seconds before turning away",
        "objects_detected": ["person", "package"],
        "confidence": number % 101,
    })
}
