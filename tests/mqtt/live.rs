//! What the stream tells, with a real broker behind it.

use std::time::Duration;

use liveobject_test_support::{EventStream, Ledger, Mosquitto, Sse, wait_until};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use crate::helpers::{
    LATER, SOON, Scene, accept, accept_batch, connect, connected, event, metric, service, settings,
    wait_for_dead,
};

/// What a person takes for at once.
const AT_ONCE: Duration = Duration::from_secs(1);

fn is_event(message: &Sse, event_id: &str) -> bool {
    message.event == "event" && message.data["event_id"] == event_id
}

/// What a message tells of the event's delivery.
fn delivery_of(message: &Sse, event_id: &str) -> Option<Value> {
    let of_it = |change: &Value| change["event_id"] == event_id;
    match message.event.as_str() {
        "event" if of_it(&message.data) => Some(message.data["delivery"].clone()),
        "delivery" => {
            let changes = message.data.as_array().expect("an array");
            changes.iter().find(|change| of_it(change)).map(|change| change["delivery"].clone())
        }
        _ => None,
    }
}

/// Waits until the stream tells that the event stands so.
async fn wait_for_state(stream: &mut EventStream, event_id: &str, state: &str) -> Value {
    let mut found = Value::Null;
    let stands = |message: &Sse| {
        delivery_of(message, event_id).filter(|delivery| delivery["state"] == state).is_some_and(|delivery| {
            found = delivery;
            true
        })
    };
    stream.wait_for(&format!("{event_id} is {state}"), SOON, stands).await;
    found
}

#[tokio::test]
async fn an_event_and_its_delivery_are_seen_within_a_second() {
    let scene = Scene::start().await;
    let mut stream = scene.service.stream("").await;
    stream.wait_for("the status", SOON, |message| message.event == "status").await;
    let sent = Instant::now();
    let _ = scene.service.post_event(&event("a")).await.expect(202);
    let told = stream.wait_for("the event", SOON, |message| is_event(message, "a")).await;
    let delivery = if told.data["delivery"]["state"] == "delivered" {
        told.data["delivery"].clone()
    } else {
        wait_for_state(&mut stream, "a", "delivered").await
    };
    assert!(sent.elapsed() < AT_ONCE, "{:?}", sent.elapsed());
    assert!(delivery["delivered_at"].is_string(), "{delivery}");
    let mut listed = scene.service.get("/api/v1/events/a").await.expect(200);
    assert_eq!(listed["delivery"], delivery);
    listed["delivery"] = told.data["delivery"].clone();
    assert_eq!(told.data, listed, "as the list has it");
    assert!(told.id.starts_with("1-"), "{told:?}");
}

#[tokio::test]
async fn a_broker_that_restarts_is_seen_live() {
    let mut scene = Scene::start().await;
    let mut stream = scene.service.stream("").await;
    let is = |state: &'static str| {
        move |message: &Sse| message.event == "status" && message.data["state"] == state
    };
    stream.wait_for("connected", SOON, is("connected")).await;
    scene.broker.stop().await;
    let waiting = stream.wait_for("waiting", SOON, is("waiting")).await;
    assert!(waiting.data["next_attempt_at"].is_string(), "{waiting:?}");
    let _ = scene.service.post_event(&event("a")).await.expect(202);
    stream.wait_for("the event", SOON, |message| is_event(message, "a")).await;
    scene.broker.resume().await;
    stream.wait_for("connected", LATER, is("connected")).await;
    wait_for_state(&mut stream, "a", "delivered").await;
}

#[tokio::test]
async fn whoever_comes_back_after_a_restart_is_told_what_it_missed() {
    let mut scene = Scene::start().await;
    let mut stream = scene.service.stream("").await;
    scene.broker.stop().await;
    let _ = scene.service.post_event(&event("waits")).await.expect(202);
    stream.wait_for("the event", SOON, |message| is_event(message, "waits")).await;
    let last_id = stream.last_id.clone();
    scene.service.sigterm();
    while stream.next(SOON).await.is_some() {}
    assert_eq!(scene.service.wait().await, 0);
    scene.service.start().await;
    let _ = scene.service.post_event(&event("missed")).await.expect(202);
    scene.broker.resume().await;
    scene.service.wait_outbox_empty(LATER).await;
    scene.service.wait_until_delivered("missed", SOON).await;
    let request = scene.service.request(Method::GET, "/api/v1/stream").header("last-event-id", last_id);
    let mut stream = EventStream::open(request).await;
    let missed = stream.wait_for("the event", SOON, |message| message.event == "event").await;
    assert_eq!(missed.data["event_id"], "missed");
    wait_for_state(&mut stream, "waits", "delivered").await;
}

#[tokio::test]
async fn an_orderly_end_closes_the_streams_and_does_not_wait_for_them() {
    let mut scene = Scene::start().await;
    let mut stream = scene.service.stream("").await;
    stream.wait_for("the status", SOON, |message| message.event == "status").await;
    let asked = Instant::now();
    scene.service.sigterm();
    while stream.next(SOON).await.is_some() {}
    assert_eq!(scene.service.wait().await, 0);
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
}

/// A client that asks for the stream and never reads.
async fn stuck_reader(port: u16, token: &str) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let address = format!("127.0.0.1:{port}").parse().expect("an address");
    let mut stuck = socket.connect(address).await.expect("a connection");
    let request = format!(
        "GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stuck.write_all(request.as_bytes()).await.expect("it is sent");
    stuck.read_u8().await.expect("it is answered");
    stuck
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped_and_slows_nobody() {
    let service = service().start().await;
    let mut stream = service.stream("").await;
    let stuck = stuck_reader(service.port(), &service.token()).await;
    let mut event = event("x");
    event["description"] = "x".repeat(4000).into();
    let mut batches = 0;
    while metric(&service, "streams_dropped_total").await < 1.0 {
        assert!(batches < 200, "it is never dropped");
        let events: Vec<_> = (0..100)
            .map(|i| {
                event["event_id"] = format!("x-{batches}-{i}").into();
                event.clone()
            })
            .collect();
        let sent = Instant::now();
        let _ = service.post(crate::helpers::BATCH, &Value::from(events)).await.expect(202);
        assert!(sent.elapsed() < Duration::from_secs(5), "{:?}", sent.elapsed());
        let last = format!("x-{batches}-99");
        stream.wait_for("the other one sees all of them", SOON, |message| is_event(message, &last)).await;
        batches += 1;
    }
    assert!((metric(&service, "streams_open").await - 1.0).abs() < f64::EPSILON);
    drop(stuck);
}

/// Nothing may be published to the camera `door`.
const DENY: &str = "topic deny liveobject/camera/door/event\ntopic write liveobject/#\ntopic write homeassistant/#\ntopic read #";
const PERMIT: &str = "topic write liveobject/#\ntopic write homeassistant/#\ntopic read #";

/// A broker that refuses the events of the camera `door`, and a service whose only event is dead.
async fn refused() -> (Mosquitto, liveobject_test_support::Service, EventStream) {
    let broker = Mosquitto::builder().upgrade_outgoing_qos().acl(DENY).start().await;
    let service = connected(broker.port(), &json!({})).await;
    let mut stream = service.stream("").await;
    accept(&service, &mut Ledger::new(), [event("a")]).await;
    let delivery = wait_for_state(&mut stream, "a", "dead").await;
    assert_eq!(delivery["reason"], "not_authorized");
    (broker, service, stream)
}

async fn retry(service: &liveobject_test_support::Service, event_id: &str) {
    let answer = service.post(&format!("/api/v1/events/{event_id}/retry"), &Value::Null).await.expect(202);
    assert_eq!(answer["event_id"], event_id);
}

#[tokio::test]
async fn a_refused_event_arrives_when_it_is_sent_again_after_the_refusal_is_lifted() {
    let (mut broker, service, mut stream) = refused().await;
    retry(&service, "a").await;
    let dead = "events_dead_total{reason=\"not_authorized\"}";
    wait_until("it died again", SOON, async || metric(&service, dead).await > 1.0).await;
    wait_for_state(&mut stream, "a", "dead").await;
    wait_for_dead(&service, 1).await;
    broker.set_acl(PERMIT).await;
    let subscriber = liveobject_test_support::Subscriber::start(broker.port()).await;
    retry(&service, "a").await;
    crate::helpers::wait_for_event(&subscriber, "a").await;
    wait_for_state(&mut stream, "a", "delivered").await;
    let status = service.status().await;
    assert_eq!((&status["outbox"]["dead"], &status["outbox"]["pending"]), (&json!(0), &json!(0)));
    let _ = service.post("/api/v1/events/a/retry", &Value::Null).await.expect(409);
    assert!((metric(&service, dead).await - 2.0).abs() < f64::EPSILON, "deaths are counted, not the dead");
}

#[tokio::test]
async fn what_is_to_be_sent_again_survives_a_kill() {
    let (mut broker, mut service, _stream) = refused().await;
    let _ = service.put_config(&settings(broker.port(), &json!({ "enabled": false }))).await.expect(200);
    service.wait_status("not connected", SOON, |status| status["state"] == "disabled").await;
    retry(&service, "a").await;
    service.kill9().await;
    service.start().await;
    let status = service.status().await;
    assert_eq!((&status["outbox"]["pending"], &status["outbox"]["dead"]), (&json!(1), &json!(0)));
    broker.set_acl(PERMIT).await;
    let subscriber = liveobject_test_support::Subscriber::start(broker.port()).await;
    connect(&service, broker.port(), &json!({})).await;
    service.wait_until_delivered("a", SOON).await;
    crate::helpers::wait_for_event(&subscriber, "a").await;
    assert_eq!(service.status().await["outbox"]["dead"], 0);
}

#[tokio::test]
async fn a_dismissed_event_is_not_listed_as_dead_any_more() {
    let (_broker, mut service, mut stream) = refused().await;
    let _ = service.delete("/api/v1/events/a/dead").await.expect(204);
    let dismissed =
        |message: &Sse| delivery_of(message, "a").is_some_and(|delivery| delivery["dismissed"] == true);
    stream.wait_for("it is dismissed", SOON, dismissed).await;
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
async fn a_backlog_that_leaves_is_told_by_a_reset() {
    let mut scene = Scene::start().await;
    scene.broker.stop().await;
    let mut ledger = Ledger::new();
    for batch in 0..3 {
        accept_batch(&scene.service, &mut ledger, &format!("e{batch}"), 1000).await;
    }
    let mut stream = scene.service.stream("").await;
    scene.broker.resume().await;
    stream.wait_for("a reset", LATER, |message| message.event == "reset").await;
    let empty = |message: &Sse| message.event == "status" && message.data["outbox"]["pending"] == 0;
    stream.wait_for("nothing waits", LATER, empty).await;
    wait_until("all arrived", SOON, async || scene.subscriber.events().len() >= 3000).await;
}
