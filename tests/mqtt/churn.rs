//! Cameras come and go, settings change, and broker and service stop and start, in random order. Afterwards
//! exactly the right messages are retained. A failure reports the random seed; `MQTT_SEED` sets it.

use std::{collections::BTreeMap, time::Duration};

use liveobject_test_support::{Mosquitto, Service};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use tokio::time::sleep;

use crate::helpers::{
    Retained, TIMEOUT, connect, event_of, expected_topics, is_discovery_of, is_state_of, service, settings,
};

const STEPS: usize = 40;
const CAMERAS: [&str; 3] = ["door", "yard", "pool"];
const PAUSES_MS: [u64; 6] = [0, 0, 0, 20, 300, 1200];

/// The states that a camera has only after its first event.
const EVENT_STATES: [&str; 2] = ["last_event", "description"];

/// A camera's expected state.
#[derive(Clone, Copy, Debug)]
struct ExpectedCamera {
    enabled: bool,
    events: u64,
}

struct Churn {
    random: StdRng,
    broker: Mosquitto,
    broker_is_up: bool,
    service: Service,
    cameras: BTreeMap<&'static str, ExpectedCamera>,
    /// The steps taken, for the failure message.
    steps: Vec<String>,
}

impl Churn {
    async fn start(seed: u64) -> Self {
        let broker = Mosquitto::start().await;
        let service = service().start().await;
        connect(&service, broker.port(), &json!({})).await;
        let (cameras, steps) = (BTreeMap::new(), vec![format!("MQTT_SEED={seed}")]);
        Self { random: StdRng::seed_from_u64(seed), broker, broker_is_up: true, service, cameras, steps }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.random_range(0..from.len())]
    }

    async fn step(&mut self) {
        let id = self.pick(&CAMERAS);
        match self.random.random_range(0..12) {
            0..4 => self.event(id).await,
            4 | 5 => self.delete(id).await,
            6 | 7 => self.set_enabled(id).await,
            8 | 9 => self.change_settings().await,
            10 => self.toggle_broker().await,
            _ => self.restart().await,
        }
        let pause = self.pick(&PAUSES_MS);
        sleep(Duration::from_millis(pause)).await;
    }

    async fn event(&mut self, id: &'static str) {
        let event = event_of(id, &format!("e{}", self.steps.len()));
        let _ = self.service.post_event(&event).await.expect(202);
        self.cameras.entry(id).or_insert(ExpectedCamera { enabled: true, events: 0 }).events += 1;
        self.steps.push(format!("event of {id}"));
    }

    async fn delete(&mut self, id: &'static str) {
        let answer = self.service.delete(&path(id)).await;
        assert_eq!(answer.status != 404, self.cameras.remove(id).is_some(), "{id}: {:#?}", self.steps);
        self.steps.push(format!("{id} removed"));
    }

    async fn set_enabled(&mut self, id: &'static str) {
        let enabled = self.random.random();
        let _ = self.service.put(&path(id), &json!({"enabled": enabled})).await.expect(200);
        self.cameras.entry(id).or_insert(ExpectedCamera { enabled, events: 0 }).enabled = enabled;
        self.steps.push(format!("{id} enabled: {enabled}"));
    }

    async fn change_settings(&mut self) {
        let other = json!({
            "topic_prefix": self.pick(&["liveobject", "house"]),
            "discovery_prefix": self.pick(&["homeassistant", "ha"]),
            "discovery_format": self.pick(&["device", "component"]),
            "discovery_enabled": self.pick(&[true, true, false]),
        });
        let _ = self.service.put_config(&settings(self.broker.port(), &other)).await.expect(200);
        self.steps.push(other.to_string());
    }

    async fn toggle_broker(&mut self) {
        if self.broker_is_up {
            self.broker.stop().await;
        } else {
            self.broker.resume().await;
        }
        self.broker_is_up = !self.broker_is_up;
        self.steps.push(format!("the broker is up: {}", self.broker_is_up));
    }

    async fn restart(&mut self) {
        if self.random.random() {
            self.service.kill9().await;
            self.service.start().await;
        } else {
            self.service.restart().await;
        }
        self.steps.push("the service restarted".to_owned());
    }

    /// Asserts that with the initial settings exactly the expected topics are retained.
    async fn assert_retained(mut self) {
        if !self.broker_is_up {
            self.broker.resume().await;
        }
        connect(&self.service, self.broker.port(), &json!({})).await;
        let expected = self.expected();
        let is_counted = |snapshot: &Retained| {
            let mut enabled = self.cameras.iter().filter(|(_, camera)| camera.enabled);
            enabled.all(|(id, camera)| {
                let counts = snapshot.json(&format!("liveobject/camera/{id}/counts"));
                counts["events_today"] == camera.events
            })
        };
        let what = format!("{expected:#?} and the counts of {:?} after {:#?}", self.cameras, self.steps);
        let matches = |snapshot: &Retained| snapshot.topics() == expected && is_counted(snapshot);
        Retained::wait_within(TIMEOUT, self.broker.port(), &what, matches).await;
    }

    fn expected(&self) -> Vec<String> {
        let is_expected = |topic: &String| {
            let belongs_to = |id: &str| is_state_of(topic, id) || is_discovery_of(topic, id);
            CAMERAS.into_iter().find(|id| belongs_to(id)).is_none_or(|id| {
                let has_data = |camera: &ExpectedCamera| {
                    camera.events > 0 || !EVENT_STATES.iter().any(|name| topic.ends_with(name))
                };
                self.cameras.get(id).is_some_and(|camera| camera.enabled && has_data(camera))
            })
        };
        expected_topics(&CAMERAS).into_iter().filter(is_expected).collect()
    }
}

fn path(id: &str) -> String {
    format!("/api/v1/cameras/{id}")
}

#[tokio::test]
async fn after_random_changes_exactly_the_right_messages_are_retained() {
    let seed = std::env::var("MQTT_SEED").ok().map(|seed| seed.parse().expect("MQTT_SEED is a number"));
    let mut churn = Churn::start(seed.unwrap_or_else(|| rand::random_range(0..1_000_000))).await;
    for _ in 0..STEPS {
        churn.step().await;
    }
    churn.assert_retained().await;
}
