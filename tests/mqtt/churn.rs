//! Cameras come and go, settings change, the broker and the service stop and start, in any order: in the end there stands
//! what is to stand, and nothing else. A failure tells the seed by which the lots were drawn; `MQTT_SEED` sets it.

use std::{collections::BTreeMap, time::Duration};

use liveobject_test_support::{Mosquitto, Service};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use tokio::time::sleep;

use crate::helpers::{
    SOON, Standing, all_topics, connect, event, is_discovery_of, is_state_of, service, settings,
};

const STEPS: usize = 40;
const CAMERAS: [&str; 3] = ["door", "yard", "pool"];
const PAUSES_MS: [u64; 6] = [0, 0, 0, 20, 300, 1200];

/// What a camera has only from its first event on.
const OF_EVENTS: [&str; 2] = ["last_event", "description"];

/// What was said of a camera that is known.
#[derive(Clone, Copy, Debug)]
struct Known {
    enabled: bool,
    events: u64,
}

struct Churn {
    random: StdRng,
    broker: Mosquitto,
    broker_runs: bool,
    service: Service,
    cameras: BTreeMap<&'static str, Known>,
    /// What was done, for those who read why it failed.
    story: Vec<String>,
}

impl Churn {
    async fn start(seed: u64) -> Self {
        let broker = Mosquitto::start().await;
        let service = service().start().await;
        connect(&service, broker.port(), &json!({})).await;
        let (cameras, story) = (BTreeMap::new(), vec![format!("MQTT_SEED={seed}")]);
        Self { random: StdRng::seed_from_u64(seed), broker, broker_runs: true, service, cameras, story }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.random_range(0..from.len())]
    }

    async fn step(&mut self) {
        let id = self.pick(&CAMERAS);
        match self.random.random_range(0..12) {
            0..4 => self.event(id).await,
            4 | 5 => self.delete(id).await,
            6 | 7 => self.switch(id).await,
            8 | 9 => self.change_settings().await,
            10 => self.switch_broker().await,
            _ => self.restart().await,
        }
        let pause = self.pick(&PAUSES_MS);
        sleep(Duration::from_millis(pause)).await;
    }

    async fn event(&mut self, id: &'static str) {
        let mut event = event(&format!("e{}", self.story.len()));
        event["camera_id"] = id.into();
        let _ = self.service.post_event(&event).await.expect(202);
        self.cameras.entry(id).or_insert(Known { enabled: true, events: 0 }).events += 1;
        self.story.push(format!("event of {id}"));
    }

    async fn delete(&mut self, id: &'static str) {
        let answer = self.service.delete(&path(id)).await;
        assert_eq!(answer.status != 404, self.cameras.remove(id).is_some(), "{id}: {:#?}", self.story);
        self.story.push(format!("{id} removed"));
    }

    async fn switch(&mut self, id: &'static str) {
        let enabled = self.random.random();
        let _ = self.service.put(&path(id), &json!({"enabled": enabled})).await.expect(200);
        self.cameras.entry(id).or_insert(Known { enabled, events: 0 }).enabled = enabled;
        self.story.push(format!("{id} enabled: {enabled}"));
    }

    async fn change_settings(&mut self) {
        let other = json!({
            "topic_prefix": self.pick(&["liveobject", "house"]),
            "discovery_prefix": self.pick(&["homeassistant", "ha"]),
            "discovery_format": self.pick(&["device", "component"]),
            "discovery_enabled": self.pick(&[true, true, false]),
        });
        let _ = self.service.put_config(&settings(self.broker.port(), &other)).await.expect(200);
        self.story.push(other.to_string());
    }

    async fn switch_broker(&mut self) {
        if self.broker_runs {
            self.broker.stop().await;
        } else {
            self.broker.resume().await;
        }
        self.broker_runs = !self.broker_runs;
        self.story.push(format!("the broker runs: {}", self.broker_runs));
    }

    async fn restart(&mut self) {
        if self.random.random() {
            self.service.kill9().await;
            self.service.start().await;
        } else {
            self.service.restart().await;
        }
        self.story.push("the service restarted".to_owned());
    }

    /// Asserts that in the end, with the settings of the beginning, exactly that stands which is to.
    async fn assert_in_step(mut self) {
        if !self.broker_runs {
            self.broker.resume().await;
        }
        connect(&self.service, self.broker.port(), &json!({})).await;
        let expected = self.expected();
        let is_counted = |standing: &Standing| {
            let mut enabled = self.cameras.iter().filter(|(_, known)| known.enabled);
            enabled.all(|(id, known)| {
                let counts = standing.json(&format!("liveobject/camera/{id}/counts"));
                counts["events_today"] == known.events
            })
        };
        let what = format!("{expected:#?} and the counts of {:?} after {:#?}", self.cameras, self.story);
        let stands = |standing: &Standing| standing.topics() == expected && is_counted(standing);
        Standing::wait_within(SOON, self.broker.port(), &what, stands).await;
    }

    fn expected(&self) -> Vec<String> {
        let is_expected = |topic: &String| {
            let of = |id: &str| is_state_of(topic, id) || is_discovery_of(topic, id);
            CAMERAS.into_iter().find(|id| of(id)).is_none_or(|id| {
                let saw =
                    |known: &Known| known.events > 0 || !OF_EVENTS.iter().any(|name| topic.ends_with(name));
                self.cameras.get(id).is_some_and(|known| known.enabled && saw(known))
            })
        };
        all_topics(&CAMERAS).into_iter().filter(is_expected).collect()
    }
}

fn path(id: &str) -> String {
    format!("/api/v1/cameras/{id}")
}

#[tokio::test]
async fn whatever_happens_in_the_end_the_right_things_stand() {
    let given = std::env::var("MQTT_SEED").ok().map(|seed| seed.parse().expect("MQTT_SEED is a number"));
    let mut churn = Churn::start(given.unwrap_or_else(|| rand::random_range(0..1_000_000))).await;
    for _ in 0..STEPS {
        churn.step().await;
    }
    churn.assert_in_step().await;
}
