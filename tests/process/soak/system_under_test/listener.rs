//! The only listener of a camera leaves and keeps no session. The camera's live events wait for it. If it does not
//! come back, they go to the history topic.

use std::time::Duration;

use liveobject_test_support::{Subscriber, wait_until};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{Demand, Dice, FaultLog, LONG_TIMEOUT, NOTICED_WITHIN, SystemUnderTest, TIMEOUT, lock};
use crate::soak::{
    clock::LATE_AFTER,
    ledgers::PORCH,
    load::CAMERAS,
    network::{PASSWORD, USER},
};

/// Number of events in the absence of the listener.
const EVENTS: u32 = 5;
/// Maximum time that an event of another camera may take in the meantime.
const OTHERS_WITHIN: Duration = Duration::from_secs(20);

impl SystemUnderTest {
    /// Lets the listener of a camera leave. No other fault affects the network in the meantime.
    pub(super) async fn let_a_listener_leave(&mut self, dice: &mut Dice, fault_log: &FaultLog) {
        let _network = self.alone_with(&self.plain_settings()).await;
        // A clock that seems to jump makes events late.
        sleep(NOTICED_WITHIN).await;

        let (away, is_patient) = (dice.millis(500, 15_000), dice.below(3) != 0);
        let comes_back = is_patient || self.longest_fault < LATE_AFTER * 2;
        let fault = *dice.pick(&["nothing else", "connection cut", "kill -9"]);
        let text = if comes_back { format!("away for {away:?}") } else { "gone for good".to_owned() };
        fault_log.record(&format!("listener: {text}, {fault}"));

        let listener = self.listen_to_the_porch().await;
        let known = self.post_from_the_porch().await;
        listener.wait_for_events(1, TIMEOUT).await;
        self.service.wait_until_delivered(&known, TIMEOUT).await;
        drop(listener);
        // Gives the broker time to notice the end of the connection.
        sleep(Duration::from_secs(1)).await;

        lock(&self.ledgers).watch_all_except(CAMERAS);
        let (accepted, mut ids) = (Instant::now(), Vec::new());
        for _ in 0..EVENTS {
            ids.push(self.post_from_the_porch().await);
        }
        self.wait_until_held(EVENTS).await;
        match fault {
            "connection cut" => self.proxies[0].cut().await,
            "kill -9" if self.can_restart() => {
                self.kill_service().await;
                self.start_service().await;
            }
            _ => {}
        }
        self.service.wait_connected(LONG_TIMEOUT).await;
        if comes_back {
            sleep(away).await;
            self.check_that_the_listener_hears(&ids).await;
        } else {
            self.check_that_they_go_to_history(&ids, accepted).await;
        }
        let are_delivered = async || lock(&self.ledgers).all_watched_are_delivered();
        wait_until("the other cameras' events are delivered", LONG_TIMEOUT, are_delivered).await;
        let longest = lock(&self.ledgers).end_watch();
        if longest > OTHERS_WITHIN {
            self.violation(format!("an event took {longest:?} while another camera had no listener"));
        }
        self.wait_until_held(0).await;
        self.set_demand(Demand::Random);
    }

    async fn listen_to_the_porch(&self) -> Subscriber {
        let subscriber = Subscriber::builder(self.broker_port).login(USER, PASSWORD).client_id(PORCH);
        subscriber.without_session().filter(&format!("liveobject/camera/{PORCH}/event")).start().await
    }

    /// Returns the id of the event.
    async fn post_from_the_porch(&mut self) -> String {
        self.porch_events += 1;
        let id = format!("{PORCH}-{}", self.porch_events);
        self.service
            .submit(&json!({ "event_id": id, "camera_id": PORCH, "description": "Person" }), TIMEOUT)
            .await;
        id
    }

    async fn wait_until_held(&self, count: u32) {
        let status = || self.service.status();
        wait_until(&format!("{count} events are held"), TIMEOUT, async || {
            status().await["outbox"]["held"] == count
        })
        .await;
        let is_warned = super::storage::has_warning(&status().await, "waiting_for_subscriber");
        if is_warned != (count > 0) {
            self.violation(format!("{count} held events, but the warning is {is_warned}"));
        }
    }

    /// Lets the listener come back. It must hear each event once, in order, as a live one.
    async fn check_that_the_listener_hears(&self, ids: &[String]) {
        let listener = self.listen_to_the_porch().await;
        let mut heard = Vec::new();
        for event in listener.wait_for_events(ids.len(), TIMEOUT).await {
            heard.push(event["event_id"].as_str().unwrap_or_default().to_owned());
        }
        for id in ids {
            self.service.wait_until_delivered(id, TIMEOUT).await;
        }
        heard.extend(listener.events().iter().skip(heard.len()).map(|event| event["event_id"].to_string()));
        if heard != ids {
            self.violation(format!("the listener heard {heard:?} after its return, not {ids:?}"));
        }
        let late = lock(&self.ledgers).porch_history(ids);
        if !late.is_empty() {
            self.violation(format!("events went to the history topic although they were heard: {late:?}"));
        }
    }

    /// Waits until the events are late. Each must then be on the history topic, once and in order.
    async fn check_that_they_go_to_history(&self, ids: &[String], accepted: Instant) {
        let are_there = async || lock(&self.ledgers).porch_history(ids).len() >= ids.len();
        wait_until("the events go to the history topic", LATE_AFTER + TIMEOUT, are_there).await;
        for id in ids {
            self.service.wait_until_delivered(id, TIMEOUT).await;
        }
        let (elapsed, late) = (accepted.elapsed(), lock(&self.ledgers).porch_history(ids));
        if late != ids || elapsed < LATE_AFTER {
            self.violation(format!("the history topic got {late:?} after {elapsed:?}, not {ids:?}"));
        }
    }
}
