//! Replays run during all other faults, each to a topic of its own.

use std::{collections::HashMap, time::Duration};

use liveobject_test_support::{Api, wait_until};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Dice, FaultLog, LONG_TIMEOUT, Origin, POLL, SystemUnderTest, lock};
use crate::soak::{ledgers::REPLAY_TOPIC, load::CAMERAS};

/// A replay begins with an event that at most this many others follow.
const NEWEST: u32 = 5000;
const REPLAYS: &str = "/api/v1/replays";
/// Time in which the last events of a replay reach the subscriber.
const ARRIVAL: Duration = Duration::from_secs(15);

impl SystemUnderTest {
    /// Requests a replay of the newest events of a camera, or cancels one.
    pub(super) async fn replay(&mut self, dice: &mut Dice, fault_log: &FaultLog) {
        let (back, camera, rate) =
            (dice.below(NEWEST) as usize, dice.below(20), *dice.pick(&[20, 100, 1000]));
        if dice.below(4) == 0 {
            fault_log.record("replays: all cancelled");
            return self.cancel_replays().await;
        }
        let Some(first) = lock(&self.ledgers).receipts(Origin::Rest).iter().rev().nth(back).copied() else {
            return;
        };
        let event = self.service.get(&format!("/api/v1/events/{}", Origin::Rest.event_id(first.0))).await;
        // The disk may be full.
        let Some(from) = event.body["timestamp"].as_str() else { return };
        let topic = format!("{REPLAY_TOPIC}{}", self.replays.len());
        // The clock may have shown a later time than now.
        let body = json!({
            "from": from, "to": "2100-01-01T00:00:00Z", "topic": topic, "max_per_second": rate,
            "camera_id": format!("cam-{}", u64::from(camera) % CAMERAS),
        });
        let request = self.service.request(reqwest::Method::POST, REPLAYS).json(&body);
        let Ok(response) = Api::try_send(request).await else { return };
        fault_log
            .record(&format!("replay to {topic}, {rate} a second: {} {}", response.status, response.body));
        match response.status {
            202 => {
                let id = response.body["id"].as_u64().expect("an id");
                self.replays.insert(id, topic);
            }
            409 | 503 => {}
            _ => self.violation(format!("a replay was refused: {response:?}, {body}")),
        }
    }

    pub(super) async fn cancel_replays(&self) {
        for replay in self.unfinished_replays().await {
            let answer = self.service.delete(&format!("{REPLAYS}/{}", replay["id"])).await;
            if !matches!(answer.status, 200 | 503) {
                self.violation(format!("a replay could not be cancelled: {answer:?}"));
            }
        }
    }

    async fn unfinished_replays(&self) -> Vec<Value> {
        let list = self.service.get(REPLAYS).await;
        let replays = list.body["replays"].as_array().cloned().unwrap_or_default();
        replays.into_iter().filter(|replay| replay["ended_at"].is_null()).collect()
    }

    /// Returns how many events of a replay arrived. The subscriber receives the last ones after the broker has
    /// acknowledged them.
    async fn arrived_of_replay(&self, topic: &str, published: u64) -> u64 {
        let deadline = Instant::now() + ARRIVAL;
        loop {
            let arrived = lock(&self.ledgers).replayed(topic);
            if arrived >= published || Instant::now() >= deadline {
                return arrived;
            }
            sleep(POLL).await;
        }
    }

    /// Waits until all replays are over. A finished one must have published each of its events.
    pub async fn check_replays(&self) {
        let are_over = async || self.unfinished_replays().await.is_empty();
        wait_until("the replays are over", LONG_TIMEOUT * 3, are_over).await;
        let list = self.service.get(REPLAYS).await.expect(200);
        let mut known: HashMap<_, _> = self.replays.iter().collect();
        for replay in list["replays"].as_array().expect("an array") {
            let Some(topic) = replay["id"].as_u64().and_then(|id| known.remove(&id)) else { continue };
            let count = |name: &str| replay[name].as_u64().unwrap_or(u64::MAX);
            let (events, published, skipped) = (count("events"), count("published"), count("skipped"));
            let arrived = self.arrived_of_replay(topic, published).await;
            let is_complete = published + skipped == events;
            let state = replay["state"].as_str().unwrap_or_default();
            // A replay ends if the connection ends over its messages again and again, as it does here.
            let reason = replay["reason"].as_str().unwrap_or_default();
            let failed = state == "failed" && !reason.starts_with("The connection to");
            if arrived < published || failed || (state == "finished" && !is_complete) {
                self.violation(format!("{arrived} events arrived of a replay: {replay}"));
            }
        }
    }
}
