//! The event stream, with a real broker behind it.

use std::time::Duration;

use liveobject_test_support::{EventStream, Ledger, Mosquitto, Service, Sse, Subscriber, wait_until};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use crate::helpers::{
    BATCH, EVENTS, LONG_TIMEOUT, Scene, TIMEOUT, connect, connected_service, disable, event, event_ids,
    metric, service, submit, submit_batch, wait_for_dead, wait_for_event,
};

/// Maximum delay that a user perceives as immediate.
const IMMEDIATE: Duration = Duration::from_secs(1);

/// If the service did not close open streams, it would wait for them for longer than this.
const STOP: Duration = Duration::from_secs(4);

/// Number of attempts. At least one must be immediate; a busy machine may delay the others.
const ATTEMPTS: usize = 5;

fn is_event(message: &Sse, event_id: &str) -> bool {
    message.event == "event" && message.data["event_id"] == event_id
}

/// Returns the event's delivery state if the message contains it.
fn delivery_of(message: &Sse, event_id: &str) -> Option<Value> {
    let concerns_event = |change: &Value| change["event_id"] == event_id;
    match message.event.as_str() {
        "event" if concerns_event(&message.data) => Some(message.data["delivery"].clone()),
        "delivery" => {
            let changes = message.data.as_array().expect("an array");
            changes.iter().find(|change| concerns_event(change)).map(|change| change["delivery"].clone())
        }
        _ => None,
    }
}

/// Waits until the stream reports this delivery state for the event.
async fn wait_for_state(stream: &mut EventStream, event_id: &str, state: &str) -> Value {
    let mut found = Value::Null;
    let has_state = |message: &Sse| {
        delivery_of(message, event_id).filter(|delivery| delivery["state"] == state).is_some_and(|delivery| {
            found = delivery;
            true
        })
    };
    stream.wait_for(&format!("{event_id} is {state}"), TIMEOUT, has_state).await;
    found
}

#[tokio::test]
async fn an_event_and_its_delivery_are_streamed_immediately() {
    let scene = Scene::start().await;
    let mut stream = scene.service.stream("").await;
    stream.wait_for("the status", TIMEOUT, |message| message.event == "status").await;
    let mut durations = Vec::new();
    for id in event_ids("e", ATTEMPTS) {
        let sent = Instant::now();
        let _ = scene.service.post_event(&event(&id)).await.expect(202);
        let streamed = stream.wait_for("the event", TIMEOUT, |message| is_event(message, &id)).await;
        let delivery = if streamed.data["delivery"]["state"] == "delivered" {
            streamed.data["delivery"].clone()
        } else {
            wait_for_state(&mut stream, &id, "delivered").await
        };
        durations.push(sent.elapsed());
        assert!(delivery["delivered_at"].is_string(), "{delivery}");
        let mut listed = scene.service.get(&format!("{EVENTS}/{id}")).await.expect(200);
        assert_eq!(listed["delivery"], delivery);
        listed["delivery"] = streamed.data["delivery"].clone();
        assert_eq!(streamed.data, listed, "the stream and the list must agree");
        let position = format!("{}-", listed["seq"]);
        assert!(streamed.id.starts_with(&position), "{streamed:?}");
    }
    assert!(durations.iter().any(|duration| *duration < IMMEDIATE), "{durations:?}");
}

#[tokio::test]
async fn the_stream_follows_a_restart_of_the_broker() {
    let mut scene = Scene::start().await;
    let mut stream = scene.service.stream("").await;
    let status_is = |state: &'static str| {
        move |message: &Sse| message.event == "status" && message.data["state"] == state
    };
    stream.wait_for("connected", TIMEOUT, status_is("connected")).await;
    scene.broker.stop().await;
    let waiting = stream.wait_for("waiting", TIMEOUT, status_is("waiting")).await;
    assert!(waiting.data["next_attempt_at"].is_string(), "{waiting:?}");
    let _ = scene.service.post_event(&event("a")).await.expect(202);
    stream.wait_for("the event", TIMEOUT, |message| is_event(message, "a")).await;
    scene.broker.resume().await;
    stream.wait_for("connected", LONG_TIMEOUT, status_is("connected")).await;
    wait_for_state(&mut stream, "a", "delivered").await;
}

#[tokio::test]
async fn a_client_that_reconnects_after_a_restart_receives_what_it_missed() {
    let mut scene = Scene::start().await;
    let mut stream = scene.service.stream("").await;
    scene.broker.stop().await;
    let _ = scene.service.post_event(&event("waits")).await.expect(202);
    stream.wait_for("the event", TIMEOUT, |message| is_event(message, "waits")).await;
    let last_id = stream.last_id.clone();
    scene.service.sigterm();
    while stream.next(TIMEOUT).await.is_some() {}
    assert_eq!(scene.service.wait().await, 0);
    scene.service.start().await;
    let _ = scene.service.post_event(&event("missed")).await.expect(202);
    scene.broker.resume().await;
    scene.service.wait_outbox_empty(LONG_TIMEOUT).await;
    scene.service.wait_until_delivered("missed", TIMEOUT).await;
    let request = scene.service.request(Method::GET, "/api/v1/stream").header("last-event-id", last_id);
    let mut stream = EventStream::open(request).await;
    let missed = stream.wait_for("the event", TIMEOUT, |message| message.event == "event").await;
    assert_eq!(missed.data["event_id"], "missed");
    wait_for_state(&mut stream, "waits", "delivered").await;
}

#[tokio::test]
async fn a_graceful_stop_closes_open_streams_without_waiting_for_them() {
    let mut scene = Scene::start().await;
    let without_stream = stop(&mut scene.service).await;
    scene.service.start().await;
    scene.service.wait_connected(TIMEOUT).await;
    let mut stream = scene.service.stream("").await;
    stream.wait_for("the status", TIMEOUT, |message| message.event == "status").await;
    let with_stream = stop(&mut scene.service).await;
    while stream.next(TIMEOUT).await.is_some() {}
    // On a slow machine, stopping without a stream takes a long time as well.
    let limit = STOP.max(10 * without_stream);
    assert!(with_stream < limit, "{with_stream:?}, and {without_stream:?} without a stream");
}

/// Stops the service gracefully, and returns how long that took.
async fn stop(service: &mut Service) -> Duration {
    let start = Instant::now();
    service.sigterm();
    assert_eq!(service.wait().await, 0);
    start.elapsed()
}

/// Connects a client that requests the stream and never reads it.
async fn stuck_reader(port: u16, token: &str) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let address = format!("127.0.0.1:{port}").parse().expect("an address");
    let mut stuck = socket.connect(address).await.expect("a connection");
    let request = format!(
        "GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stuck.write_all(request.as_bytes()).await.expect("the request is sent");
    stuck.read_u8().await.expect("a response");
    stuck
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped_and_does_not_block_others() {
    let service = service().start().await;
    let mut stream = service.stream("").await;
    let stuck = stuck_reader(service.port(), &service.token()).await;
    let mut event = event("x");
    event["description"] = "x".repeat(4000).into();
    let mut batches = 0;
    while metric(&service, "liveobject_streams_dropped_total").await < 1.0 {
        assert!(batches < 200, "the client is never dropped");
        let events: Vec<_> = (0..100)
            .map(|i| {
                event["event_id"] = format!("x-{batches}-{i}").into();
                event.clone()
            })
            .collect();
        // If the stuck client blocked the service, this request and the other stream would time out.
        let _ = service.post(BATCH, &Value::from(events)).await.expect(202);
        let last = format!("x-{batches}-99");
        stream.wait_for("the last event of the batch", TIMEOUT, |message| is_event(message, &last)).await;
        batches += 1;
    }
    assert!((metric(&service, "liveobject_streams_open").await - 1.0).abs() < f64::EPSILON);
    drop(stuck);
}

/// Access rules that forbid publishing the events from the camera `door`.
const DENY: &str = "topic deny liveobject/camera/door/event\n\
    topic write liveobject/#\ntopic write homeassistant/#\ntopic read #";
const PERMIT: &str = "topic write liveobject/#\ntopic write homeassistant/#\ntopic read #";

/// Starts a broker that refuses the events from the camera `door`, and a service whose only event is dead.
async fn with_refused_event() -> (Mosquitto, Service, EventStream) {
    let broker = Mosquitto::builder().upgrade_outgoing_qos().acl(DENY).start().await;
    let service = connected_service(broker.port(), &json!({})).await;
    let mut stream = service.stream("").await;
    submit(&service, &mut Ledger::new(), [event("a")]).await;
    let delivery = wait_for_state(&mut stream, "a", "dead").await;
    assert_eq!(delivery["reason"], "not_authorized");
    (broker, service, stream)
}

async fn retry(service: &Service, event_id: &str) {
    let answer = service.post(&format!("/api/v1/events/{event_id}/retry"), &Value::Null).await.expect(202);
    assert_eq!(answer["event_id"], event_id);
}

#[tokio::test]
async fn a_refused_event_arrives_when_retried_after_the_access_rules_permit_it() {
    let (mut broker, service, mut stream) = with_refused_event().await;
    retry(&service, "a").await;
    let dead = "liveobject_events_dead_total{reason=\"not_authorized\"}";
    wait_until("the event is dead again", TIMEOUT, async || metric(&service, dead).await > 1.0).await;
    wait_for_state(&mut stream, "a", "dead").await;
    wait_for_dead(&service, 1).await;
    broker.set_acl(PERMIT).await;
    let subscriber = Subscriber::start(broker.port()).await;
    retry(&service, "a").await;
    wait_for_event(&subscriber, "a").await;
    wait_for_state(&mut stream, "a", "delivered").await;
    let status = service.status().await;
    assert_eq!((&status["outbox"]["dead"], &status["outbox"]["pending"]), (&json!(0), &json!(0)));
    let _ = service.post("/api/v1/events/a/retry", &Value::Null).await.expect(409);
    assert!(
        (metric(&service, dead).await - 2.0).abs() < f64::EPSILON,
        "the metric counts each time that an event becomes dead"
    );
}

#[tokio::test]
async fn a_requested_retry_survives_a_kill() {
    let (mut broker, mut service, _stream) = with_refused_event().await;
    disable(&service, broker.port(), &json!({})).await;
    service.wait_status("not connected", TIMEOUT, |status| status["state"] == "disabled").await;
    retry(&service, "a").await;
    service.kill9().await;
    service.start().await;
    let status = service.status().await;
    assert_eq!((&status["outbox"]["pending"], &status["outbox"]["dead"]), (&json!(1), &json!(0)));
    broker.set_acl(PERMIT).await;
    let subscriber = Subscriber::start(broker.port()).await;
    connect(&service, broker.port(), &json!({})).await;
    service.wait_until_delivered("a", TIMEOUT).await;
    wait_for_event(&subscriber, "a").await;
    assert_eq!(service.status().await["outbox"]["dead"], 0);
}

#[tokio::test]
async fn a_dismissed_event_is_no_longer_listed_as_dead() {
    let (_broker, mut service, mut stream) = with_refused_event().await;
    let _ = service.delete("/api/v1/events/a/dead").await.expect(204);
    let dismissed =
        |message: &Sse| delivery_of(message, "a").is_some_and(|delivery| delivery["dismissed"] == true);
    stream.wait_for("the dismissal", TIMEOUT, dismissed).await;
    for _ in 0..2 {
        let dead = service.get("/api/v1/events?state=dead").await.expect(200);
        assert_eq!(dead["events"], json!([]));
        assert_eq!(service.status().await["outbox"]["dead"], 0);
        let event = service.get("/api/v1/events/a").await.expect(200);
        assert_eq!(
            (&event["delivery"]["state"], &event["delivery"]["dismissed"]),
            (&json!("dead"), &json!(true))
        );
        service.restart().await;
    }
    let _ = service.delete("/api/v1/events/nobody/dead").await.expect(404);
}

#[tokio::test]
async fn the_delivery_of_a_backlog_resets_the_stream() {
    let mut scene = Scene::start().await;
    scene.broker.stop().await;
    let mut ledger = Ledger::new();
    for batch in 0..3 {
        submit_batch(&scene.service, &mut ledger, &format!("e{batch}"), 1000).await;
    }
    let mut stream = scene.service.stream("").await;
    scene.broker.resume().await;
    stream.wait_for("a reset", LONG_TIMEOUT, |message| message.event == "reset").await;
    let empty = |message: &Sse| message.event == "status" && message.data["outbox"]["pending"] == 0;
    stream.wait_for("an empty outbox", LONG_TIMEOUT, empty).await;
    wait_until("all events have arrived", TIMEOUT, async || scene.subscriber.events().len() >= 3000).await;
}
