//! Stopping: in order, in time, and with nothing left unsaid.

use std::time::Duration;

use liveobject_test_support::{Acks, Proxy, ScriptedBroker, Service, Subscriber};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::helpers::{Load, SOON, accept, assert_kept, broker_and_subscriber, event, ids, service, settle};

const AT_MOST: Duration = Duration::from_secs(8);
const IDLE_AT_MOST: Duration = Duration::from_secs(2);
const AT_ONCE: Duration = Duration::from_secs(1);

/// SIGTERM, and how it ends: exit code and time.
async fn stop(service: &mut Service) -> (i32, Duration) {
    let start = Instant::now();
    service.sigterm();
    let code = service.wait().await;
    (code, start.elapsed())
}

#[track_caller]
fn assert_said_goodbye(subscriber: &Subscriber) {
    let last = subscriber.on("liveobject/status").last().map(liveobject_test_support::Message::text);
    assert_eq!(last.as_deref(), Some("offline"));
}

#[tokio::test]
async fn an_idle_service_stops_at_once_whatever_connections_are_kept_alive() {
    let (broker, subscriber) = broker_and_subscriber().await;
    let mut service = service().start().await;
    service.connect_to(broker.port()).await;
    let _ledger = accept(&service, ids("e", 3)).await;
    service.wait_outbox_empty(SOON).await;
    let mut fresh = TcpStream::connect(("127.0.0.1", service.port())).await.expect("a connection");
    let mut used = TcpStream::connect(("127.0.0.1", service.port())).await.expect("a connection");
    used.write_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("written");
    assert!(used.read(&mut [0; 1024]).await.expect("an answer") > 0);

    let (code, took) = stop(&mut service).await;
    println!("an idle service stopped in {took:?}");
    assert_eq!(code, 0);
    assert!(took < IDLE_AT_MOST, "{took:?}");
    for connection in [&mut fresh, &mut used] {
        assert!(matches!(connection.read(&mut [0; 1024]).await, Ok(0) | Err(_)), "still open");
    }
    subscriber.wait_for(|messages| messages.len() >= 5, "the goodbye", SOON).await;
    assert_said_goodbye(&subscriber);
}

#[tokio::test]
async fn a_stop_under_load_loses_nothing_and_sends_nothing_twice() {
    let (broker, subscriber) = broker_and_subscriber().await;
    let proxy = Proxy::start(broker.port()).await;
    // There is always something in flight.
    proxy.delay(Duration::from_millis(150));
    let mut service = service().start().await;
    service.connect_to(proxy.port()).await;
    let load = Load::start(&service, 300);
    for _ in 0..3 {
        sleep(Duration::from_millis(700)).await;
        let (code, took) = stop(&mut service).await;
        println!("under load it stopped in {took:?}");
        assert_eq!(code, 0, "{}", service.log_text());
        assert!(took < AT_MOST, "{took:?}");
        subscriber
            .wait_for(
                |messages| {
                    messages
                        .iter()
                        .rfind(|m| m.topic == "liveobject/status")
                        .is_some_and(|m| m.text() == "offline")
                },
                "the goodbye",
                SOON,
            )
            .await;
        service.start().await;
    }
    service.wait_connected(SOON).await;
    let (mut ledger, accepted) = load.stop().await;
    settle(&service, &subscriber, &mut ledger, accepted).await;
    println!("{}", ledger.summary());
    assert_kept(&ledger);
    assert_eq!(ledger.duplicates(), 0, "what was acknowledged had been noted: {}", ledger.summary());
}

/// A service with events in flight that nobody acknowledges.
async fn in_flight() -> (ScriptedBroker, Service) {
    let broker = ScriptedBroker::start().await;
    let service = service().start().await;
    service.connect_to(broker.port()).await;
    broker.set_acks(Acks::Withhold);
    let _ledger = accept(&service, ids("e", 3)).await;
    broker.wait_for_publishes(3, SOON).await;
    (broker, service)
}

#[tokio::test]
async fn acknowledgements_are_waited_for_but_not_for_ever() {
    let (broker, mut service) = in_flight().await;
    let (code, took) = stop(&mut service).await;
    println!("with unacknowledged events it stopped in {took:?}");
    assert_eq!(code, 0);
    assert!((Duration::from_secs(4)..AT_MOST).contains(&took), "{took:?}");
    broker.set_acks(Acks::All);
    service.start().await;
    service.wait_outbox_empty(SOON).await;
}

#[tokio::test]
async fn acknowledgements_that_come_while_it_stops_count() {
    let (broker, mut service) = in_flight().await;
    service.sigterm();
    sleep(Duration::from_secs(3)).await;
    assert!(service.is_running());
    broker.release();
    assert_eq!(service.wait().await, 0);
    let sent = broker.received().len();
    service.start().await;
    service.wait_connected(SOON).await;
    assert_eq!(service.status().await["outbox"]["pending"], 0);
    assert_eq!(broker.received().iter().filter(|r| r.publish.is_event()).count(), 3, "after {sent}");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (_broker, mut service) = in_flight().await;
    service.sigterm();
    sleep(Duration::from_millis(500)).await;
    assert!(service.is_running());
    let (code, took) = stop(&mut service).await;
    println!("after the second signal it ended in {took:?}");
    assert_ne!(code, 0);
    assert!(took < AT_ONCE, "{took:?}");
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_hold_up_the_stop() {
    let mut service = service().start().await;
    let mut slow = TcpStream::connect(("127.0.0.1", service.port())).await.expect("a connection");
    let head = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{",
        service.token()
    );
    slow.write_all(head.as_bytes()).await.expect("written");
    sleep(Duration::from_millis(300)).await;
    let (code, took) = stop(&mut service).await;
    println!("with an unfinished request it stopped in {took:?}");
    assert_eq!(code, 0);
    assert!(took < AT_MOST, "{took:?}");
}

#[tokio::test]
async fn a_service_without_a_broker_stops_at_once() {
    let mut service = service().start().await;
    let _ = service.post_event(&event("waits")).await.expect(202);
    let (code, took) = stop(&mut service).await;
    assert_eq!(code, 0);
    assert!(took < IDLE_AT_MOST, "{took:?}");
    service.start().await;
    assert_eq!(service.status().await["outbox"]["pending"], 1);
}
