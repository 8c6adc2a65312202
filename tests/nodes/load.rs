//! The sources of events. Each sends one event after the other to any node, and repeats it until it has the receipt.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use liveobject_test_support::Api;
use reqwest::Method;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    cluster::{Cluster, lock},
    dice::Dice,
    records::{Receipt, Records},
};

const SENDERS: u64 = 12;
const CAMERAS: u32 = 6;
/// A frozen node does not respond. Its sender then asks another one.
const REQUEST: Duration = Duration::from_secs(2);
/// Time until a sender without a receipt gives up after the end of the test.
const GIVE_UP: Duration = Duration::from_mins(1);

/// What the senders have seen.
#[derive(Debug, Default)]
struct Seen {
    sent: HashMap<String, String>,
    receipts: Vec<Receipt>,
    /// The responses without a receipt, by status.
    refused: BTreeMap<u16, usize>,
    without_response: usize,
    problems: Vec<String>,
}

#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    senders: JoinSet<()>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug)]
struct Sender {
    number: usize,
    apis: Vec<Api>,
    start: Instant,
    dice: Dice,
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
}

impl Load {
    pub fn start(cluster: &Cluster, dice: &Dice) -> Self {
        let (stop, seen) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Seen>>::default());
        let mut senders = JoinSet::new();
        for number in 0..SENDERS {
            let sender = Sender {
                number: usize::try_from(number).expect("small"),
                apis: cluster.apis.clone(),
                start: cluster.start,
                dice: dice.sibling(number),
                stop: Arc::clone(&stop),
                seen: Arc::clone(&seen),
            };
            senders.spawn(sender.run());
        }
        Self { stop, senders, seen }
    }

    /// Returns whether an event was accepted that was sent after this time.
    pub fn has_accepted_since(&self, time: Duration) -> bool {
        lock(&self.seen).receipts.iter().rev().take(100).any(|receipt| receipt.began >= time)
    }

    /// Stops the senders, and adds what they have seen to the records. Returns a line of figures.
    pub async fn stop(mut self, records: &mut Records) -> String {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.senders.join_next().await {
            ended.expect("a sender does not panic");
        }
        let seen = std::mem::take(&mut *lock(&self.seen));
        let Seen { sent, receipts, refused, without_response, problems } = seen;
        let line = format!(
            "{} events sent, {} receipts, {without_response} requests without a response, refused: {refused:?}",
            sent.len(),
            receipts.len(),
        );
        records.sent = sent;
        records.receipts = receipts;
        records.problems.extend(problems);
        line
    }
}

impl Sender {
    async fn run(mut self) {
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let event = format!("e{}-{number}", self.number);
            let camera = format!("cam-{}", self.dice.below(CAMERAS));
            lock(&self.seen).sent.insert(event.clone(), camera.clone());
            if !self.send(&event, &camera, true).await {
                return;
            }
            // Sometimes again, although it has been accepted, at any node.
            if self.dice.below(10) == 0 && !self.send(&event, &camera, false).await {
                return;
            }
            sleep(self.dice.millis(50, 250)).await;
        }
    }

    /// Sends an event until it is accepted. Returns false if it gives up.
    async fn send(&mut self, event: &str, camera: &str, is_first: bool) -> bool {
        let body = json!({ "event_id": event, "camera_id": camera, "description": "Person at the door" });
        let mut give_up = None;
        loop {
            let node = usize::try_from(self.dice.below(u32::try_from(self.apis.len()).expect("small")))
                .expect("small");
            let began = self.start.elapsed();
            let request =
                self.apis[node].request(Method::POST, "/api/v1/events").timeout(REQUEST).json(&body);
            match Api::try_send(request).await {
                Ok(answer) if answer.status == 202 => {
                    let (Some(id), Some(seq)) =
                        (answer.body["event_id"].as_str(), answer.body["seq"].as_u64())
                    else {
                        lock(&self.seen)
                            .problems
                            .push(format!("{event}: an incomplete receipt: {}", answer.body));
                        return true;
                    };
                    let at = self.start.elapsed();
                    let (event, sender) = (id.to_owned(), self.number);
                    lock(&self.seen).receipts.push(Receipt { event, seq, sender, node, is_first, began, at });
                    return true;
                }
                Ok(answer) => {
                    let mut seen = lock(&self.seen);
                    *seen.refused.entry(answer.status).or_default() += 1;
                    // 408: the node was paused in the middle of the request.
                    if answer.status < 500 && !matches!(answer.status, 408 | 429) {
                        seen.problems.push(format!("node {node} refused {event}: {answer:?}"));
                    }
                }
                Err(_) => lock(&self.seen).without_response += 1,
            }
            let stopped = self.stop.load(Ordering::Relaxed);
            if stopped && give_up.get_or_insert_with(Instant::now).elapsed() > GIVE_UP {
                lock(&self.seen).problems.push(format!("{event} was not accepted within {GIVE_UP:?}"));
                return false;
            }
            sleep(self.dice.millis(10, 60)).await;
        }
    }
}
