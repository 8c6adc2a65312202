//! Live events wait while Home Assistant is away, so that a restart of the broker or of Home Assistant loses no
//! automation.

use std::time::Duration;

use chrono::TimeDelta;
use liveobject_test_support::{Message, Mosquitto, Proxy, Service, Subscriber, visitor::publish};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::helpers::{
    TIMEOUT, assert_metrics, connect, connected_service, delivery, event, event_ids, metric, settings, time,
    warnings, with,
};

const STATUS: &str = "homeassistant/status";
const EVENT: &str = "liveobject/camera/door/event";

/// How long live events wait for Home Assistant at most, and how long it is given after it has come back.
const HOLD_AT_MOST: Duration = Duration::from_secs(30);
const SETTLE: Duration = Duration::from_secs(5);

/// A client with the subscriptions of Home Assistant. Dropping it publishes its will.
struct HomeAssistant {
    port: u16,
    client: Subscriber,
}

impl HomeAssistant {
    /// Subscribes as Home Assistant does, without the birth message.
    async fn connect(port: u16) -> Self {
        let discovery = ["homeassistant/sensor/+/config", "homeassistant/device/+/config"];
        let builder = Subscriber::builder(port).client_id("home-assistant").without_session();
        let builder = builder.will(STATUS, "offline").qos(1);
        let [sensors, devices] = discovery;
        let builder = builder.filter(sensors).filter(devices);
        Self { port, client: builder.filter(EVENT).start().await }
    }

    /// Connects and publishes the birth message.
    async fn start(port: u16) -> Self {
        let it = Self::connect(port).await;
        it.announce().await;
        it
    }

    async fn announce(&self) {
        publish(self.port, STATUS, "online", false).await;
    }

    /// Returns the ids of the events that have arrived, in order.
    fn events(&self) -> Vec<String> {
        let ids = self.client.events().into_iter();
        ids.map(|event| event["event_id"].as_str().expect("an id").to_owned()).collect()
    }

    async fn wait_for(&self, count: usize, timeout: Duration) -> Vec<String> {
        self.client.wait_for_events(count, timeout).await;
        self.events()
    }
}

/// Submits these events one after the other.
async fn submit(service: &Service, ids: &[String]) {
    for id in ids {
        let _ = service.post_event(&event(id)).await.expect(202);
    }
}

/// Waits until the service has recorded that Home Assistant uses this broker.
async fn learn(service: &Service, home_assistant: &HomeAssistant) {
    submit(service, &event_ids("first", 1)).await;
    home_assistant.wait_for(1, TIMEOUT).await;
    service.wait_outbox_empty(TIMEOUT).await;
    home_assistant.client.clear();
    sleep(Duration::from_secs(2)).await;
}

/// Starts Home Assistant, and a service that has seen it: by its birth message if nothing else shows it.
async fn scene(broker: &Mosquitto, other: &Value, by_birth: bool) -> (Service, HomeAssistant) {
    let home_assistant = HomeAssistant::start(broker.port()).await;
    let service = connected_service(broker.port(), other).await;
    if by_birth {
        // The service may not have subscribed yet, and the message is not retained.
        for _ in 0..3 {
            home_assistant.announce().await;
            sleep(Duration::from_millis(500)).await;
        }
        sleep(SETTLE + Duration::from_secs(1)).await;
    }
    learn(&service, &home_assistant).await;
    (service, home_assistant)
}

fn with_version(version: &str) -> Value {
    json!({ "protocol": version })
}

async fn wait_until_held(service: &Service, events: u64) -> Value {
    let held = |status: &Value| status["outbox"]["held"] == events;
    service.wait_status(&format!("{events} held events"), TIMEOUT, held).await
}

/// Restarts the broker and lets Home Assistant come back 8 s after the service. Returns what it received.
async fn events_of_a_gap(broker: &mut Mosquitto, other: &Value, by_birth: bool) -> (Service, Vec<String>) {
    let (service, home_assistant) = scene(broker, other, by_birth).await;
    drop(home_assistant);
    broker.stop().await;
    let ids = event_ids("gap", 20);
    submit(&service, &ids[..10]).await;
    broker.resume().await;
    service.wait_connected(TIMEOUT).await;
    submit(&service, &ids[10..]).await;
    let status = wait_until_held(&service, 20).await;
    assert!(warnings(&status).contains(&"waiting_for_subscriber"), "{status}");
    assert_metrics(&service, &[("liveobject_events_held", 20.0)]).await;
    sleep(Duration::from_secs(5)).await;
    let home_assistant = HomeAssistant::connect(broker.port()).await;
    if by_birth {
        sleep(Duration::from_secs(2)).await;
        assert_eq!(home_assistant.events(), Vec::<String>::new(), "only the birth message counts");
        home_assistant.announce().await;
    }
    let received = home_assistant.wait_for(20, SETTLE + Duration::from_secs(5)).await;
    assert_eq!(received, ids);
    service.wait_outbox_empty(TIMEOUT).await;
    let status = service.status().await;
    assert!(!warnings(&status).contains(&"waiting_for_subscriber"), "{status}");
    assert_metrics(
        &service,
        &[("liveobject_events_held", 0.0), ("liveobject_events_heard_after_waiting_total", 20.0)],
    )
    .await;
    assert_metrics(
        &service,
        &[("liveobject_events_late_total", 0.0), ("liveobject_events_unheard_total", 0.0)],
    )
    .await;
    (service, received)
}

#[tokio::test]
async fn after_a_restart_of_the_broker_live_events_wait_until_home_assistant_is_back() {
    let mut broker = Mosquitto::start().await;
    events_of_a_gap(&mut broker, &json!({}), false).await;
}

#[tokio::test]
async fn with_mqtt_3_1_1_live_events_wait_for_the_birth_message_after_a_restart_of_the_broker() {
    let mut broker = Mosquitto::start().await;
    events_of_a_gap(&mut broker, &with_version("3.1.1"), true).await;
}

#[tokio::test]
async fn a_logger_on_all_topics_of_the_service_does_not_hide_that_home_assistant_is_away() {
    let mut broker = Mosquitto::start().await;
    let logger = Subscriber::builder(broker.port()).client_id("logger").filter("liveobject/#");
    let _logger = logger.start().await;
    events_of_a_gap(&mut broker, &json!({}), false).await;
}

#[tokio::test]
async fn with_a_logger_on_every_topic_the_birth_message_shows_that_home_assistant_is_back() {
    let mut broker = Mosquitto::start().await;
    let _logger = Subscriber::builder(broker.port()).client_id("logger").start().await;
    events_of_a_gap(&mut broker, &json!({}), true).await;
}

#[tokio::test]
async fn live_events_wait_while_home_assistant_restarts() {
    for version in ["5", "3.1.1"] {
        let broker = Mosquitto::start().await;
        let (service, home_assistant) = scene(&broker, &with_version(version), version == "3.1.1").await;
        let other = Subscriber::builder(broker.port()).client_id("other").filter(STATUS).start().await;
        drop(home_assistant);
        let is_offline = |messages: &[Message]| messages.iter().any(|message| message.text() == "offline");
        other.wait_for(is_offline, "last will", TIMEOUT).await;
        sleep(Duration::from_millis(500)).await;
        let ids = event_ids("gap", 5);
        submit(&service, &ids).await;
        wait_until_held(&service, 5).await;
        sleep(Duration::from_secs(3)).await;
        let home_assistant = HomeAssistant::start(broker.port()).await;
        let received = home_assistant.wait_for(5, SETTLE + Duration::from_secs(3)).await;
        assert_eq!(received, ids, "MQTT {version}");
        assert_metrics(&service, &[("liveobject_events_heard_after_waiting_total", 5.0)]).await;
    }
}

#[tokio::test]
async fn home_assistant_is_remembered_over_a_restart_of_the_service() {
    let broker = Mosquitto::start().await;
    let (mut service, home_assistant) = scene(&broker, &json!({}), false).await;
    drop(home_assistant);
    service.restart().await;
    service.wait_connected(TIMEOUT).await;
    submit(&service, &event_ids("gap", 1)).await;
    wait_until_held(&service, 1).await;
    let home_assistant = HomeAssistant::start(broker.port()).await;
    home_assistant.wait_for(1, SETTLE + Duration::from_secs(3)).await;
}

#[tokio::test]
async fn a_short_disconnect_of_the_service_delays_nothing() {
    let broker = Mosquitto::start().await;
    let proxy = Proxy::start(broker.port()).await;
    let home_assistant = HomeAssistant::start(broker.port()).await;
    let service = connected_service(proxy.port(), &json!({})).await;
    learn(&service, &home_assistant).await;
    for round in 0..3 {
        proxy.cut().await;
        let ids = event_ids(&format!("round-{round}"), 1);
        submit(&service, &ids).await;
        home_assistant.wait_for(round + 1, TIMEOUT).await;
        service.wait_until_delivered(&ids[0], TIMEOUT).await;
        let delivered_at = time(&delivery(&service, &ids[0]).await["delivered_at"]);
        let waited = delivered_at - time(&service.status().await["last_connected_at"]);
        assert!(waited < TimeDelta::milliseconds(300), "{waited}");
    }
    assert_metrics(&service, &[("liveobject_events_heard_after_waiting_total", 0.0)]).await;
}

#[tokio::test]
async fn without_home_assistant_nothing_waits() {
    for version in ["5", "3.1.1"] {
        let mut broker = Mosquitto::start().await;
        let other = Subscriber::builder(broker.port()).filter("liveobject/#").start().await;
        let service = connected_service(broker.port(), &with_version(version)).await;
        for round in 0..2 {
            let connected = Instant::now();
            submit(&service, &event_ids(&format!("round-{round}"), 1)).await;
            let is_there = |messages: &[Message]| messages.iter().filter(|m| m.is_event()).count() > round;
            other.wait_for(is_there, "the event", TIMEOUT).await;
            assert!(
                connected.elapsed() < Duration::from_secs(1),
                "MQTT {version}: {:?}",
                connected.elapsed()
            );
            broker.restart().await;
            service.wait_connected(TIMEOUT).await;
        }
    }
}

#[tokio::test]
async fn live_events_wait_for_home_assistant_at_most_30_seconds() {
    let mut broker = Mosquitto::start().await;
    let (service, home_assistant) = scene(&broker, &json!({}), false).await;
    drop(home_assistant);
    broker.stop().await;
    broker.resume().await;
    service.wait_connected(TIMEOUT).await;
    let connected = Instant::now();
    let camera_client = Subscriber::builder(broker.port()).filter(EVENT).start().await;
    submit(&service, &event_ids("gap", 1)).await;
    camera_client.wait_for_events(1, HOLD_AT_MOST + Duration::from_secs(5)).await;
    let waited = connected.elapsed();
    let difference = waited.abs_diff(HOLD_AT_MOST);
    assert!(difference < Duration::from_secs(2), "{waited:?}");
}

#[tokio::test]
async fn with_wait_for_subscribers_off_nothing_waits_and_the_change_keeps_the_connection() {
    let broker = Mosquitto::start().await;
    let (service, home_assistant) = scene(&broker, &json!({}), false).await;
    let connected_at = service.status().await["last_connected_at"].clone();
    drop(home_assistant);
    sleep(Duration::from_secs(1)).await;
    submit(&service, &event_ids("gap", 1)).await;
    wait_until_held(&service, 1).await;
    let off = json!({ "wait_for_subscribers": false });
    let _ = service.put_config(&settings(broker.port(), &off)).await.expect(200);
    service.wait_outbox_empty(Duration::from_secs(2)).await;
    let status = service.status().await;
    assert_eq!((&status["outbox"]["held"], &status["last_connected_at"]), (&json!(0), &connected_at));
    connect(&service, broker.port(), &with(off, json!({ "qos": 2 }))).await;
    submit(&service, &event_ids("without", 1)).await;
    service.wait_outbox_empty(Duration::from_secs(2)).await;
    assert!(metric(&service, "liveobject_events_held").await < 1.0);
}

#[tokio::test]
async fn late_events_do_not_wait_for_home_assistant() {
    let mut broker = Mosquitto::start().await;
    let (service, home_assistant) = scene(&broker, &json!({}), false).await;
    drop(home_assistant);
    broker.stop().await;
    let old = crate::helpers::old_event("old", 3600);
    let _ = service.post_event(&old).await.expect(202);
    submit(&service, &event_ids("live", 1)).await;
    broker.resume().await;
    service.wait_connected(TIMEOUT).await;
    service.wait_until_delivered("old", Duration::from_secs(3)).await;
    wait_until_held(&service, 1).await;
}
