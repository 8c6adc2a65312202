//! The first broker closes the connection over everything that the service publishes about one camera, so that
//! its events become dead. Afterwards they are sent again or dismissed.

use std::{collections::BTreeSet, time::Duration};

use liveobject_test_support::wait_until;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Demand, Dice, FaultLog, LONG_TIMEOUT, Origin, POLL, SystemUnderTest, lock, merged};
use crate::soak::load::CAMERAS;

const REASON: &str = "connection_closed_by_broker";
/// If the broker closes on a topic for at least this long, an event must be dead.
const DEAD_WITHIN: Duration = Duration::from_secs(30);
/// Time within which an event on another topic must be delivered.
const OTHERS_WITHIN: Duration = Duration::from_mins(1);
/// Number of dead events from which on the status must have named the topic.
const WARNED_FROM: usize = 3;

impl SystemUnderTest {
    pub(super) async fn close_on_a_camera(&mut self, dice: &mut Dice, fault_log: &FaultLog) {
        let changes = json!({ "qos": dice.pick(&[1, 1, 2]), "protocol": dice.pick(&["5", "3.1.1"]) });
        let (camera, pause) = (u64::from(dice.below(20)) % CAMERAS, dice.millis(5000, 75_000));
        let pause = pause.min(self.longest_fault);
        let only_events = dice.below(3) != 0;
        let settings = merged(&self.plain_settings(), changes.clone());
        let _network = self.alone_with(&settings).await;

        let what = if only_events { "events" } else { "messages" };
        fault_log.record(&format!("broker 0: closes on the {what} of cam-{camera} for {pause:?}, {changes}"));
        let topic = format!("/camera/cam-{camera}/");
        self.proxies[0].close_on({
            let topic = topic.clone();
            move |publish| publish.topic.contains(&topic) && (publish.is_event() || !only_events)
        });
        lock(&self.ledgers).watch_all_except(camera);
        let is_named = self.wait_for_warning(&topic, pause).await;
        self.proxies[0].close_on_nothing();
        // Saving the settings tries everything again.
        self.put_settings(&settings).await;
        self.service.wait_connected(LONG_TIMEOUT).await;
        self.check_the_others().await;

        let dead = self.dead_events().await;
        fault_log.record(&format!("service: {} dead events", dead.len()));
        let unexplained: Vec<_> =
            dead.iter().filter(|event| !is_explained(event, &format!("cam-{camera}"))).collect();
        if !unexplained.is_empty() {
            self.violation(format!("{} wrongly dead: {:?}", unexplained.len(), unexplained[0]));
        }
        if pause > DEAD_WITHIN && dead.is_empty() {
            self.violation(format!("no event of cam-{camera} was dead after {pause:?}"));
        }
        if dead.len() >= WARNED_FROM && !is_named {
            self.violation(format!("{} dead events, but no warning named {topic}", dead.len()));
        }
        self.decide(&dead, dice, fault_log).await;
        self.set_demand(Demand::Random);
    }

    /// Waits until almost no event is pending.
    pub(super) async fn wait_for_backlog(&self) {
        let is_small = async || {
            let status = self.service.status().await;
            status["outbox"]["pending"].as_u64().is_some_and(|pending| pending < 50)
        };
        wait_until("the backlog is delivered", LONG_TIMEOUT * 2, is_small).await;
    }

    /// Waits this long. Returns whether a warning named the topic in the meantime.
    async fn wait_for_warning(&self, topic: &str, pause: Duration) -> bool {
        let end = Instant::now() + pause;
        let mut is_named = false;
        while Instant::now() < end {
            let status = self.service.status().await;
            let warnings = status["warnings"].as_array().expect("an array");
            is_named |= warnings.iter().any(|warning| {
                warning["kind"] == "messages_left_out"
                    && warning["message"].as_str().is_some_and(|message| message.contains(topic))
            });
            sleep(POLL * 5).await;
        }
        is_named
    }

    /// Waits until the events of all other cameras are delivered, and checks how long that took.
    async fn check_the_others(&self) {
        let are_delivered = async || lock(&self.ledgers).all_watched_are_delivered();
        wait_until("the other cameras' events are delivered", LONG_TIMEOUT, are_delivered).await;
        let longest = lock(&self.ledgers).end_watch();
        if longest > OTHERS_WITHIN {
            self.violation(format!("an event on another topic took {longest:?}"));
        }
    }

    /// Returns all dead events that are not dismissed.
    async fn dead_events(&self) -> Vec<Value> {
        let (mut all, mut before) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/v1/events?state=dead&limit=500{before}");
            let page = self.service.get(&path).await.expect(200);
            let events = page["events"].as_array().expect("an array");
            all.extend_from_slice(events);
            let Some(last) = events.last() else { return all };
            before = format!("&before={}", last["seq"]);
        }
    }

    /// Sends one dead event again, dismisses another one, and does either with the rest, sometimes across a
    /// kill.
    async fn decide(&mut self, dead: &[Value], dice: &mut Dice, fault_log: &FaultLog) {
        let (sends_again, kills) = (dice.below(2) == 0, dice.below(3) == 0 && self.can_restart());
        let (mut rest, mut retried) = (dead, BTreeSet::new());
        if let [one, other, others @ ..] = dead {
            lock(&self.ledgers).retry(&[seq(one)]);
            let path = format!("/api/v1/events/{}/retry", id(one));
            let _pending = self.service.post(&path, &json!(null)).await.expect(202);
            lock(&self.ledgers).dismiss(&[seq(other)]);
            let path = format!("/api/v1/events/{}/dead", id(other));
            let _none = self.service.delete(&path).await.expect(204);
            retried.insert(seq(one));
            rest = others;
        }
        let seqs: Vec<_> = rest.iter().map(seq).collect();
        fault_log.record(if sends_again {
            "service: dead events sent again"
        } else {
            "service: dead events dismissed"
        });
        if sends_again {
            retried.extend(&seqs);
            lock(&self.ledgers).retry(&seqs);
        } else {
            lock(&self.ledgers).dismiss(&seqs);
        }
        let decided = self.decide_on_all(sends_again).await;
        if decided != seqs.len() {
            self.violation(format!("{decided} dead events were decided on instead of {}", seqs.len()));
        }
        if kills {
            fault_log.record("service: kill -9, after the decision about dead events");
            self.kill_service().await;
            self.start_service().await;
            self.service.wait_connected(LONG_TIMEOUT).await;
        }
        let are_delivered = async || {
            let ledgers = lock(&self.ledgers);
            retried.iter().all(|seq| ledgers.is_delivered(Origin::Rest, *seq))
        };
        wait_until("the events that were sent again are delivered", LONG_TIMEOUT, are_delivered).await;
        let status = self.service.status().await;
        if status["outbox"]["dead"] != 0 {
            self.violation(format!("events are still dead: {status}"));
        }
    }

    /// Sends all dead events again, or dismisses them. Returns how many there were.
    async fn decide_on_all(&self, sends_again: bool) -> usize {
        let (mut decided, mut query) = (0, format!("reason={REASON}"));
        loop {
            let body = if sends_again {
                let path = format!("/api/v1/events/dead/retry?{query}");
                self.service.post(&path, &json!(null)).await.expect(202)
            } else {
                self.service.delete(&format!("/api/v1/events/dead?{query}")).await.expect(200)
            };
            decided += usize::try_from(body["events"].as_u64().expect("a number")).expect("small");
            if body["complete"] == true {
                return decided;
            }
            query = format!("reason={REASON}&after={}", body["next_after"]);
        }
    }
}

fn is_explained(event: &Value, camera: &str) -> bool {
    event["camera_id"] == camera && event["delivery"]["reason"] == REASON
}

fn id(event: &Value) -> &str {
    event["event_id"].as_str().expect("an id")
}

fn seq(event: &Value) -> u64 {
    event["seq"].as_u64().expect("a seq")
}
