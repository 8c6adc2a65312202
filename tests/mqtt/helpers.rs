//! Helpers that these tests share: the service binary, a basic setup, events, and access to status and
//! metrics.

mod retained;
mod stream;

use std::{collections::HashSet, time::Duration};

use chrono::{DateTime, FixedOffset};
use liveobject_actors::domain::clock;
use liveobject_test_support::{
    Api, JPEG, Ledger, Message, Mosquitto, ScriptedBroker, Service, ServiceBuilder, Subscriber,
    scripted::Received, wait_until,
};
use reqwest::Method;
use serde_json::{Value, json};

pub use self::{
    retained::{
        Retained, SERVICE_DEVICE, STATES, expected_topics, is_discovery_of, is_state_of, messages_since,
        state_topic, wait_for_cameras,
    },
    stream::Stream,
};

pub const EVENTS: &str = "/api/v1/events";
pub const BATCH: &str = "/api/v1/events/batch";

/// Time limit for a short operation, on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// Time limit for several connection attempts, with the waits between them.
pub const LONG_TIMEOUT: Duration = Duration::from_mins(1);

/// The minimum of `ack_timeout_seconds` and of `late_after_seconds`.
pub const SHORTEST: u64 = 5;

/// The index of a byte in [`JPEG`] that no decoder reads.
const VARIANT_OFFSET: usize = 7;

/// Returns a builder for the service.
pub fn service() -> ServiceBuilder {
    Service::builder(env!("CARGO_BIN_EXE_liveobject"))
}

/// A broker, a connected service, and a subscriber to everything that sees no duplicates created by the
/// broker.
pub struct Scene {
    pub broker: Mosquitto,
    pub subscriber: Subscriber,
    pub service: Service,
}

impl Scene {
    pub async fn start() -> Self {
        Self::with(&json!({})).await
    }

    /// Starts with settings that differ from the defaults.
    pub async fn with(other: &Value) -> Self {
        let broker = Mosquitto::builder().upgrade_outgoing_qos().start().await;
        let subscriber = Subscriber::start(broker.port()).await;
        let service = connected_service(broker.port(), other).await;
        Self { broker, subscriber, service }
    }

    /// Restarts the broker twice while events keep arriving, and asserts that all of them are delivered in
    /// order.
    pub async fn restart_broker_under_load(&mut self) -> Ledger {
        let stream = Stream::start(&self.service);
        for _ in 0..2 {
            stream.wait_for_more(50).await;
            self.broker.stop().await;
            stream.wait_for_more(50).await;
            self.broker.resume().await;
            self.service.wait_connected(TIMEOUT).await;
        }
        stream.wait_for_more(50).await;
        let mut ledger = stream.stop().await;
        self.assert_all_arrive(&mut ledger).await;
        ledger
    }

    /// Waits until the outbox is empty, and asserts that every accepted event has arrived in order.
    pub async fn assert_all_arrive(&self, ledger: &mut Ledger) {
        assert_all_arrive(&self.service, &[&self.subscriber], ledger).await;
    }
}

/// Starts a scripted broker and a service that is connected to it, with these changes to the default
/// settings.
pub async fn scripted_broker(other: &Value) -> (ScriptedBroker, Service) {
    let broker = ScriptedBroker::start().await;
    let service = connected_service(broker.port(), other).await;
    (broker, service)
}

/// Starts a service that is connected to the broker on this port, with these changes to the default settings.
pub async fn connected_service(port: u16, other: &Value) -> Service {
    let service = service().start().await;
    connect(&service, port, other).await;
    service
}

/// Applies settings and waits until the service is connected.
pub async fn connect(service: &Service, port: u16, other: &Value) {
    let _ = service.put_config(&settings(port, other)).await.expect(200);
    service.wait_connected(TIMEOUT).await;
}

/// Applies the same settings with the connection disabled.
pub async fn disable(service: &Service, port: u16, other: &Value) {
    let disabled = with(settings(port, other), json!({ "enabled": false }));
    let _ = service.put_config(&disabled).await.expect(200);
}

/// Returns settings for the broker on this port; `other` changes the defaults.
pub fn settings(port: u16, other: &Value) -> Value {
    with(json!({ "enabled": true, "broker_host": "127.0.0.1", "broker_port": port }), other.clone())
}

/// Applies these settings, and returns the status once its last error has this kind.
pub async fn fails_with(service: &Service, settings: &Value, kind: &str) -> Value {
    let _ = service.put_config(settings).await.expect(200);
    wait_for_error(service, kind).await
}

/// Waits until the last error has this kind, and returns the status.
pub async fn wait_for_error(service: &Service, kind: &str) -> Value {
    let what = format!("last_error.kind {kind}");
    service.wait_status(&what, TIMEOUT, |status| status["last_error"]["kind"] == kind).await
}

/// Returns these settings with some changed.
pub fn with(mut settings: Value, other: Value) -> Value {
    let Value::Object(other) = other else { panic!("{other} is not an object") };
    settings.as_object_mut().expect("an object").extend(other);
    settings
}

/// Returns the settings for TLS with this certificate authority.
pub fn tls(authority: &str) -> Value {
    json!({ "use_tls": true, "ca_certificate": authority })
}

/// Returns the message of the last error in a status.
pub fn error_message(status: &Value) -> &str {
    status["last_error"]["message"].as_str().expect("an error message")
}

/// Parses a time from the API.
pub fn time(value: &Value) -> DateTime<FixedOffset> {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is not a time"));
    DateTime::parse_from_rfc3339(text).expect("RFC 3339")
}

/// Returns an event from this camera with this id.
pub fn event_of(camera_id: &str, event_id: &str) -> Value {
    let mut event = event(event_id);
    event["camera_id"] = camera_id.into();
    event
}

/// Returns an event from the camera `door` with this id.
pub fn event(event_id: &str) -> Value {
    json!({ "event_id": event_id, "camera_id": "door", "description": "Person at the door with a package" })
}

/// Returns the same event, with a timestamp this many seconds ago.
pub fn old_event(event_id: &str, seconds: u64) -> Value {
    let mut event = event(event_id);
    event["timestamp"] = clock::rfc3339(clock::now() - Duration::from_secs(seconds)).into();
    event
}

/// Returns the same event, with a description of this many bytes.
pub fn large_event(event_id: &str, bytes: usize) -> Value {
    let mut event = event(event_id);
    event["description"] = "x".repeat(bytes).into();
    event
}

/// Stores a picture for an event and returns it. Each `variant` is a different picture.
pub async fn put_picture(service: &Service, event_id: &str, variant: u8) -> Vec<u8> {
    put_large_picture(service, event_id, variant, 0).await
}

/// Stores a picture that is this many bytes larger.
pub async fn put_large_picture(service: &Service, event_id: &str, variant: u8, more: usize) -> Vec<u8> {
    let mut picture = JPEG.to_vec();
    picture[VARIANT_OFFSET] = variant;
    picture.resize(picture.len() + more, 0);
    let request = service.request(Method::PUT, &format!("{EVENTS}/{event_id}/thumbnail"));
    let request = request.header("content-type", "image/jpeg").body(picture.clone());
    let answer = Api::try_send(request).await.expect("a response");
    assert!((200..300).contains(&answer.status), "{answer:?}");
    picture
}

/// Returns `{prefix}-1`, `{prefix}-2` …
pub fn event_ids(prefix: &str, count: usize) -> Vec<String> {
    (1..=count).map(|i| format!("{prefix}-{i}")).collect()
}

/// Submits these events one after the other, and records their receipts.
pub async fn submit(service: &Service, ledger: &mut Ledger, events: impl IntoIterator<Item = Value>) {
    for event in events {
        ledger.accepted_receipt(&service.post_event(&event).await.expect(202));
    }
}

/// Submits this many events, `{prefix}-1` and so on, in one batch, and records their receipts.
pub async fn submit_batch(service: &Service, ledger: &mut Ledger, prefix: &str, count: usize) {
    submit_batch_of(service, ledger, "door", prefix, count).await;
}

/// Like [`submit_batch`], with events from this camera.
pub async fn submit_batch_of(
    service: &Service,
    ledger: &mut Ledger,
    camera_id: &str,
    prefix: &str,
    count: usize,
) {
    let events: Vec<_> = event_ids(prefix, count).iter().map(|id| event_of(camera_id, id)).collect();
    let answer = service.post(BATCH, &Value::from(events)).await.expect(202);
    answer["accepted"]
        .as_array()
        .expect("receipts")
        .iter()
        .for_each(|receipt| ledger.accepted_receipt(receipt));
}

/// Waits until the outbox is empty and the subscribers have seen every accepted event that is not dead. Then
/// records what they saw, one subscriber after the other.
pub async fn settle(service: &Service, subscribers: &[&Subscriber], ledger: &mut Ledger) {
    service.wait_outbox_empty(LONG_TIMEOUT).await;
    let missing = || {
        let mut preview = ledger.clone();
        subscribers
            .iter()
            .flat_map(|subscriber| subscriber.events())
            .for_each(|event| preview.delivered_event(&event));
        preview.lost()
    };
    let all_seen = async || missing().is_empty();
    wait_until("every accepted event has been seen", TIMEOUT, all_seen).await;
    subscribers
        .iter()
        .flat_map(|subscriber| subscriber.events())
        .for_each(|event| ledger.delivered_event(&event));
}

/// Calls [`settle`], and asserts that no event was lost or overtaken.
pub async fn assert_all_arrive(service: &Service, subscribers: &[&Subscriber], ledger: &mut Ledger) {
    settle(service, subscribers, ledger).await;
    ledger.assert_nothing_lost();
    ledger.assert_in_order();
}

/// Waits for the event with this id, and returns the first message that contains it.
pub async fn wait_for_event(subscriber: &Subscriber, event_id: &str) -> Message {
    let is_wanted = |message: &Message| message.is_event() && message.json()["event_id"] == event_id;
    let what = format!("event {event_id}");
    let messages = subscriber.wait_for(|messages| messages.iter().any(is_wanted), &what, TIMEOUT).await;
    messages.into_iter().find(is_wanted).expect("the wait succeeded")
}

/// Waits until a scripted broker has received all of these events, and returns all events that it has
/// received.
pub async fn wait_for_ids(broker: &ScriptedBroker, ids: &[String]) -> Vec<Received> {
    let all = |broker: &ScriptedBroker| {
        let received: HashSet<_> = events_received(broker).iter().map(event_id).collect();
        ids.iter().all(|id| received.contains(id))
    };
    broker.wait_for(&format!("{} events", ids.len()), LONG_TIMEOUT, all).await;
    events_received(broker)
}

/// Returns the events that a scripted broker has received.
pub fn events_received(broker: &ScriptedBroker) -> Vec<Received> {
    broker.received().into_iter().filter(|received| received.publish.is_event()).collect()
}

/// Returns the id of an event that a scripted broker has received.
pub fn event_id(received: &Received) -> String {
    let event: Value = serde_json::from_slice(&received.publish.payload).expect("an event is JSON");
    event["event_id"].as_str().expect("an event has an id").to_owned()
}

/// Returns the kinds of the warnings in a status.
pub fn warnings(status: &Value) -> Vec<&str> {
    let warnings = status["warnings"].as_array().expect("a list of warnings");
    warnings.iter().map(|warning| warning["kind"].as_str().expect("a kind")).collect()
}

/// Returns the value of one metric, such as `liveobject_events_dead_total{reason="expired"}`; 0 if it is missing.
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

/// Returns an event's delivery state (`delivery` in the API).
pub async fn delivery(service: &Service, event_id: &str) -> Value {
    service.get(&format!("{EVENTS}/{event_id}")).await.expect(200)["delivery"].clone()
}

/// Waits until the API lists this many dead events, and returns them, newest first.
pub async fn wait_for_dead(service: &Service, count: usize) -> Vec<Value> {
    let list = async || service.get(&format!("{EVENTS}?state=dead")).await.expect(200)["events"].clone();
    let listed = async || list().await.as_array().is_some_and(|dead| dead.len() == count);
    wait_until(&format!("{count} dead events"), LONG_TIMEOUT, listed).await;
    list().await.as_array().expect("an array").clone()
}

/// Returns the log lines with this level, such as `WARN`.
pub fn logged(service: &Service, level: &str) -> Vec<Value> {
    service.log_lines().into_iter().filter(|line| line["level"] == level).collect()
}
