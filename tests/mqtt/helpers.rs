//! What these tests share: the binary, a scene to begin with, events, and what is read from status and metrics.

mod retained;
mod stream;

use std::{collections::HashSet, time::Duration};

use liveobject_actors::domain::clock;
use liveobject_test_support::{
    Api, Ledger, Message, Mosquitto, ScriptedBroker, Service, ServiceBuilder, Subscriber, scripted::Received,
    wait_until,
};
use reqwest::Method;
use serde_json::{Value, json};

pub use self::{
    retained::{
        SERVICE_DEVICE, STATES, Standing, all_topics, is_discovery_of, is_state_of, seen, state, wait_all,
    },
    stream::Stream,
};

pub const EVENTS: &str = "/api/v1/events";
pub const BATCH: &str = "/api/v1/events/batch";

/// What takes a moment, on a machine that is busy.
pub const SOON: Duration = Duration::from_secs(20);

/// What takes a while: some attempts to connect, with the waits between them.
pub const LATER: Duration = Duration::from_mins(1);

/// The shortest `ack_timeout_seconds`, and the shortest time after which an event is late.
pub const SHORTEST: u64 = 5;

/// A grey pixel.
const JPEG: &[u8] = &[
    0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 1, 0xff, 0xc0, 0, 11, 8, 0, 1, 0, 1, 1, 1, 0x11, 0, 0xff, 0xda, 0, 8, 1,
    1, 0, 0, 63, 0, 0x7f, 0xff, 0x00, 0xff, 0xd9,
];
/// Where in it something lies that no decoder looks at.
const LOOK: usize = 7;

/// The service, to be started.
pub fn service() -> ServiceBuilder {
    Service::builder(env!("CARGO_BIN_EXE_liveobject"))
}

/// A broker, a subscriber to everything that sees no repeats of the broker's making, and a service that is connected.
pub struct Scene {
    pub broker: Mosquitto,
    pub subscriber: Subscriber,
    pub service: Service,
}

impl Scene {
    pub async fn start() -> Self {
        Self::with(&json!({})).await
    }

    /// With other settings than the defaults.
    pub async fn with(other: &Value) -> Self {
        let broker = Mosquitto::builder().upgrade_outgoing_qos().start().await;
        let subscriber = Subscriber::start(broker.port()).await;
        let service = connected(broker.port(), other).await;
        Self { broker, subscriber, service }
    }

    /// The broker restarts twice while events keep coming in; afterwards all have arrived, in order.
    pub async fn outlive_restarts(&mut self) -> Ledger {
        let stream = Stream::start(&self.service);
        for _ in 0..2 {
            stream.more(50).await;
            self.broker.stop().await;
            stream.more(50).await;
            self.broker.resume().await;
            self.service.wait_connected(SOON).await;
        }
        stream.more(50).await;
        let mut ledger = stream.stop().await;
        self.assert_all_arrive(&mut ledger).await;
        ledger
    }

    /// Waits until the outbox is empty and every accepted event has been seen: none lost, none overtaken.
    pub async fn assert_all_arrive(&self, ledger: &mut Ledger) {
        settle(&self.service, &[&self.subscriber], ledger).await;
        ledger.assert_nothing_lost();
        ledger.assert_in_order();
    }
}

/// A scripted broker and a service that is connected to it, with other settings than the defaults.
pub async fn scripted(other: &Value) -> (ScriptedBroker, Service) {
    let broker = ScriptedBroker::start().await;
    let service = connected(broker.port(), other).await;
    (broker, service)
}

/// A service that is connected to the broker on this port, with other settings than the defaults.
pub async fn connected(port: u16, other: &Value) -> Service {
    let service = service().start().await;
    connect(&service, port, other).await;
    service
}

/// Puts settings in force and waits until the service is connected.
pub async fn connect(service: &Service, port: u16, other: &Value) {
    let _ = service.put_config(&settings(port, other)).await.expect(200);
    service.wait_connected(SOON).await;
}

/// Settings for the broker on this port; `other` changes them.
pub fn settings(port: u16, other: &Value) -> Value {
    let mut settings = json!({ "enabled": true, "broker_host": "127.0.0.1", "broker_port": port });
    let other = other.as_object().expect("an object").clone();
    settings.as_object_mut().expect("an object").extend(other);
    settings
}

/// Puts these settings in force, and answers with the status once its last error has this kind.
pub async fn fails_with(service: &Service, settings: &Value, kind: &str) -> Value {
    let _ = service.put_config(settings).await.expect(200);
    wait_for_error(service, kind).await
}

/// Waits until the last error has this kind.
pub async fn wait_for_error(service: &Service, kind: &str) -> Value {
    let what = format!("last_error.kind {kind}");
    service.wait_status(&what, SOON, |status| status["last_error"]["kind"] == kind).await
}

/// An event of the camera `door` with an id of the test's own.
pub fn event(event_id: &str) -> Value {
    json!({ "event_id": event_id, "camera_id": "door", "description": "Person at the door with a package" })
}

/// The same, which happened so many seconds ago.
pub fn old_event(event_id: &str, seconds: u64) -> Value {
    let mut event = event(event_id);
    event["timestamp"] = clock::rfc3339(clock::now() - Duration::from_secs(seconds)).into();
    event
}

/// The same, with a description of so many bytes.
pub fn large_event(event_id: &str, bytes: usize) -> Value {
    let mut event = event(event_id);
    event["description"] = "x".repeat(bytes).into();
    event
}

/// Gives an event a picture, another one for each `look`, and returns it.
pub async fn put_picture(service: &Service, event_id: &str, look: u8) -> Vec<u8> {
    put_large_picture(service, event_id, look, 0).await
}

/// The same, larger by so many bytes.
pub async fn put_large_picture(service: &Service, event_id: &str, look: u8, more: usize) -> Vec<u8> {
    let mut picture = JPEG.to_vec();
    picture[LOOK] = look;
    picture.resize(picture.len() + more, 0);
    let request = service.request(Method::PUT, &format!("{EVENTS}/{event_id}/thumbnail"));
    let request = request.header("content-type", "image/jpeg").body(picture.clone());
    let answer = Api::try_send(request).await.expect("an answer");
    assert!((200..300).contains(&answer.status), "{answer:?}");
    picture
}

/// `{prefix}-1`, `{prefix}-2` …
pub fn ids(prefix: &str, count: usize) -> Vec<String> {
    (1..=count).map(|i| format!("{prefix}-{i}")).collect()
}

/// Submits these events, one after the other, into the account.
pub async fn accept(service: &Service, ledger: &mut Ledger, events: impl IntoIterator<Item = Value>) {
    for event in events {
        ledger.accepted_receipt(&service.post_event(&event).await.expect(202));
    }
}

/// Submits so many events, `{prefix}-1` and on, in one batch.
pub async fn accept_batch(service: &Service, ledger: &mut Ledger, prefix: &str, count: usize) {
    let events: Vec<_> = ids(prefix, count).iter().map(|id| event(id)).collect();
    let answer = service.post(BATCH, &Value::from(events)).await.expect(202);
    answer["accepted"]
        .as_array()
        .expect("receipts")
        .iter()
        .for_each(|receipt| ledger.accepted_receipt(receipt));
}

/// Waits until the outbox is empty and the subscribers have seen every accepted event that is not dead; then the
/// account holds what they saw, one subscriber after the other.
pub async fn settle(service: &Service, subscribers: &[&Subscriber], ledger: &mut Ledger) {
    service.wait_outbox_empty(LATER).await;
    let missing = || {
        let mut account = ledger.clone();
        subscribers.iter().flat_map(|one| one.events()).for_each(|event| account.delivered_event(&event));
        account.lost()
    };
    let seen = async || missing().is_empty();
    wait_until("all that was accepted has been seen", SOON, seen).await;
    subscribers.iter().flat_map(|one| one.events()).for_each(|event| ledger.delivered_event(&event));
}

/// Waits for the event with this id, and returns the first message that brings it.
pub async fn wait_for_event(subscriber: &Subscriber, event_id: &str) -> Message {
    let brings = |message: &Message| message.is_event() && message.json()["event_id"] == event_id;
    let what = format!("event {event_id}");
    let messages = subscriber.wait_for(|messages| messages.iter().any(brings), &what, SOON).await;
    messages.into_iter().find(brings).expect("it was waited for")
}

/// Waits until a scripted broker has received every one of these events, and returns all that it has received.
pub async fn wait_for_ids(broker: &ScriptedBroker, ids: &[String]) -> Vec<Received> {
    let all = |broker: &ScriptedBroker| {
        let received: HashSet<_> = events_received(broker).iter().map(event_id).collect();
        ids.iter().all(|id| received.contains(id))
    };
    broker.wait_for(&format!("{} events", ids.len()), LATER, all).await;
    events_received(broker)
}

/// The events that a scripted broker has received.
pub fn events_received(broker: &ScriptedBroker) -> Vec<Received> {
    broker.received().into_iter().filter(|received| received.publish.is_event()).collect()
}

/// The id of an event that a scripted broker has received.
pub fn event_id(received: &Received) -> String {
    let event: Value = serde_json::from_slice(&received.publish.payload).expect("an event is JSON");
    event["event_id"].as_str().expect("an event has an id").to_owned()
}

/// The kinds of the warnings in a status.
pub fn warnings(status: &Value) -> Vec<&str> {
    let warnings = status["warnings"].as_array().expect("a list of warnings");
    warnings.iter().map(|warning| warning["kind"].as_str().expect("a kind")).collect()
}

/// The value of one metric, such as `events_dead_total{reason="expired"}`; 0 when it is not there.
pub async fn metric(service: &Service, name: &str) -> f64 {
    let text = service.get("/metrics").await.expect(200);
    let mut lines = text.as_str().expect("metrics are text").lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().expect("a metric is a number"))
}

/// Asserts the values of metrics.
pub async fn assert_metrics(service: &Service, expected: &[(&str, f64)]) {
    for (name, value) in expected {
        let actual = metric(service, name).await;
        assert!((actual - value).abs() < f64::EPSILON, "{name} is {actual}, not {value}");
    }
}

/// Where an event stands: `delivery` of the API.
pub async fn delivery(service: &Service, event_id: &str) -> Value {
    service.get(&format!("{EVENTS}/{event_id}")).await.expect(200)["delivery"].clone()
}

/// Waits until the API lists so many events as dead, and returns them, newest first.
pub async fn wait_for_dead(service: &Service, count: usize) -> Vec<Value> {
    let list = async || service.get(&format!("{EVENTS}?state=dead")).await.expect(200)["events"].clone();
    let listed = async || list().await.as_array().is_some_and(|dead| dead.len() == count);
    wait_until(&format!("{count} dead events"), LATER, listed).await;
    list().await.as_array().expect("a list").clone()
}

/// The log lines of a level, such as `WARN`.
pub fn logged(service: &Service, level: &str) -> Vec<Value> {
    service.log_lines().into_iter().filter(|line| line["level"] == level).collect()
}
