//! Graceful shutdown: its duration, its exit code, the last message to the broker, and that no event is lost
//! or repeated.

use std::time::Duration;

use liveobject_test_support::{Acks, Message, Proxy, ScriptedBroker, Service, Subscriber};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::helpers::{
    Load, TIMEOUT, accept, assert_kept, broker_and_subscriber, event, ids, service, settle,
};

/// Time for which a shutdown waits for acknowledgements and for requests that are not finished. The contract
/// states it, so the bounds below have to be times.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// Maximum duration of a shutdown that waits in vain. The margin is for the commit, the last message and a
/// busy machine.
const WAITING_STOP_MAX: Duration = STOP_WAIT.saturating_add(Duration::from_secs(3));
/// Minimum duration of a shutdown that waits in vain. The margin allows for timers that started before the
/// signal.
const WAITING_STOP_MIN: Duration = STOP_WAIT.saturating_sub(Duration::from_secs(1));
/// Maximum duration of a stop that has nothing to wait for. It is well below [`STOP_WAIT`].
const IMMEDIATE_STOP_MAX: Duration = Duration::from_secs(2);
/// Maximum time to the exit after a second signal, which must not wait for anything.
const SECOND_SIGNAL_MAX: Duration = Duration::from_secs(1);

/// Time after a signal in which a service that does not wait for acknowledgements would have exited.
const STILL_WAITING: Duration = Duration::from_secs(3);
/// Time after which the service has handled the first of two signals. It is short compared with
/// [`STOP_WAIT`], so that most of the wait still remains when the second signal arrives.
const SIGNAL_HANDLED: Duration = Duration::from_millis(500);
/// Time after which the service has read the beginning of a request. Nothing shows this from outside.
const REQUEST_BEGUN: Duration = Duration::from_millis(300);
/// Duration of the load before each shutdown.
const LOAD_BETWEEN_STOPS: Duration = Duration::from_millis(700);

/// Sends SIGTERM and waits for the exit. Returns the exit code and the duration.
async fn timed_stop(service: &mut Service) -> (i32, Duration) {
    let start = Instant::now();
    service.sigterm();
    let code = service.wait().await;
    (code, start.elapsed())
}

/// Waits until the last status message that the subscriber received is `offline`.
async fn wait_for_offline(subscriber: &Subscriber) {
    let is_offline = |messages: &[Message]| {
        messages.iter().rfind(|m| m.topic == "liveobject/status").is_some_and(|m| m.text() == "offline")
    };
    subscriber.wait_for(is_offline, "the status `offline`", TIMEOUT).await;
}

#[tokio::test]
async fn an_idle_service_stops_immediately_even_with_open_connections() {
    let (broker, subscriber) = broker_and_subscriber().await;
    let mut service = service().start().await;
    service.connect_to(broker.port()).await;
    let _ledger = accept(&service, ids("e", 3)).await;
    service.wait_outbox_empty(TIMEOUT).await;
    let mut fresh = TcpStream::connect(("127.0.0.1", service.port())).await.expect("a connection");
    let mut used = TcpStream::connect(("127.0.0.1", service.port())).await.expect("a connection");
    used.write_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("written");
    assert!(used.read(&mut [0; 1024]).await.expect("a response") > 0);

    let (code, took) = timed_stop(&mut service).await;
    println!("an idle service stopped in {took:?}");
    assert_eq!(code, 0);
    assert!(took < IMMEDIATE_STOP_MAX, "{took:?}");
    for connection in [&mut fresh, &mut used] {
        assert!(matches!(connection.read(&mut [0; 1024]).await, Ok(0) | Err(_)), "still open");
    }
    wait_for_offline(&subscriber).await;
}

#[tokio::test]
async fn a_stop_under_load_loses_nothing_and_sends_nothing_twice() {
    let (broker, subscriber) = broker_and_subscriber().await;
    let proxy = Proxy::start(broker.port()).await;
    // With this delay there are always events in flight.
    proxy.delay(Duration::from_millis(150));
    let mut service = service().start().await;
    service.connect_to(proxy.port()).await;
    let load = Load::start(&service, 300);
    for _ in 0..3 {
        sleep(LOAD_BETWEEN_STOPS).await;
        let (code, took) = timed_stop(&mut service).await;
        println!("a service under load stopped in {took:?}");
        assert_eq!(code, 0, "{}", service.log_text());
        assert!(took < WAITING_STOP_MAX, "{took:?}");
        wait_for_offline(&subscriber).await;
        service.start().await;
    }
    service.wait_connected(TIMEOUT).await;
    let (mut ledger, accepted) = load.stop().await;
    settle(&service, &subscriber, &mut ledger, accepted).await;
    println!("{}", ledger.summary());
    assert_kept(&ledger);
    assert_eq!(ledger.duplicates(), 0, "an acknowledged event was sent again: {}", ledger.summary());
}

/// Returns a service with three events in flight, and a broker that does not acknowledge them.
async fn with_events_in_flight() -> (ScriptedBroker, Service) {
    let broker = ScriptedBroker::start().await;
    let service = service().start().await;
    service.connect_to(broker.port()).await;
    broker.set_acks(Acks::Withhold);
    let _ledger = accept(&service, ids("e", 3)).await;
    broker.wait_for_publishes(3, TIMEOUT).await;
    (broker, service)
}

#[tokio::test]
async fn a_stop_waits_a_limited_time_for_acknowledgements() {
    let (broker, mut service) = with_events_in_flight().await;
    let (code, took) = timed_stop(&mut service).await;
    println!("a service with unacknowledged events stopped in {took:?}");
    assert_eq!(code, 0);
    assert!((WAITING_STOP_MIN..WAITING_STOP_MAX).contains(&took), "{took:?}");
    broker.set_acks(Acks::All);
    service.start().await;
    service.wait_outbox_empty(TIMEOUT).await;
}

#[tokio::test]
async fn acknowledgements_that_arrive_during_the_stop_are_recorded() {
    let (broker, mut service) = with_events_in_flight().await;
    service.sigterm();
    sleep(STILL_WAITING).await;
    assert!(service.is_running());
    broker.release();
    assert_eq!(service.wait().await, 0);
    let sent = broker.received().len();
    service.start().await;
    service.wait_connected(TIMEOUT).await;
    assert_eq!(service.status().await["outbox"]["pending"], 0);
    assert_eq!(broker.received().iter().filter(|r| r.publish.is_event()).count(), 3, "after {sent}");
}

#[tokio::test]
async fn a_second_signal_stops_the_service_immediately() {
    let (_broker, mut service) = with_events_in_flight().await;
    service.sigterm();
    sleep(SIGNAL_HANDLED).await;
    assert!(service.is_running());
    let (code, took) = timed_stop(&mut service).await;
    println!("a service stopped {took:?} after the second signal");
    assert_ne!(code, 0);
    assert!(took < SECOND_SIGNAL_MAX, "{took:?}");
}

#[tokio::test]
async fn an_unfinished_request_does_not_delay_the_stop_beyond_its_limit() {
    let mut service = service().start().await;
    let mut slow = TcpStream::connect(("127.0.0.1", service.port())).await.expect("a connection");
    let head = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{",
        service.token()
    );
    slow.write_all(head.as_bytes()).await.expect("written");
    sleep(REQUEST_BEGUN).await;
    let (code, took) = timed_stop(&mut service).await;
    println!("a service with an unfinished request stopped in {took:?}");
    assert_eq!(code, 0);
    assert!(took < WAITING_STOP_MAX, "{took:?}");
}

#[tokio::test]
async fn a_service_without_a_broker_stops_immediately() {
    let mut service = service().start().await;
    let _ = service.post_event(&event("waits")).await.expect(202);
    let (code, took) = timed_stop(&mut service).await;
    assert_eq!(code, 0);
    assert!(took < IMMEDIATE_STOP_MAX, "{took:?}");
    service.start().await;
    assert_eq!(service.status().await["outbox"]["pending"], 1);
}
