//! The proxy in front of a real broker and of a plain listener.

use std::time::Duration;

use liveobject_test_support::{Mosquitto, Proxy, wait_until};
use rumqttc::{Event, Packet, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use crate::client::{Client, TIMEOUT, in_time, options};

/// The delay under test, and how long the tests wait for bytes that must not arrive. Over loopback they would
/// arrive within a few milliseconds.
const SILENCE: Duration = Duration::from_millis(300);

/// Opens a connection through a proxy and returns both ends.
async fn pair() -> (Proxy, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let proxy = Proxy::start(listener.local_addr().expect("an address").port()).await;
    let client = TcpStream::connect(("127.0.0.1", proxy.port())).await.expect("the proxy accepts");
    let (target, _) = in_time(listener.accept()).await.expect("the proxy connects");
    (proxy, client, target)
}

async fn assert_passes(from: &mut TcpStream, to: &mut TcpStream, text: &str) {
    from.write_all(text.as_bytes()).await.expect("written");
    let mut bytes = vec![0; text.len()];
    in_time(to.read_exact(&mut bytes)).await.expect("read");
    assert_eq!(bytes, text.as_bytes());
}

#[tokio::test]
async fn bytes_and_closes_are_forwarded_both_ways() {
    let (proxy, mut client, mut target) = pair().await;
    assert_passes(&mut client, &mut target, "there").await;
    assert_passes(&mut target, &mut client, "back").await;
    assert_eq!((proxy.accepted(), proxy.open()), (1, 1));
    client.shutdown().await.expect("shut down");
    assert_eq!(in_time(target.read(&mut [0])).await.expect("an end"), 0);
    assert_passes(&mut target, &mut client, "still here").await;
    drop(target);
    assert_eq!(in_time(client.read(&mut [0])).await.expect("an end"), 0);
    wait_until("the connection is over", TIMEOUT, async || proxy.open() == 0).await;
}

#[tokio::test]
async fn a_stall_delays_bytes_without_losing_them() {
    let (proxy, mut client, mut target) = pair().await;
    proxy.stall();
    client.write_all(b"later").await.expect("written");
    let mut bytes = [0; 5];
    assert!(timeout(SILENCE, target.read_exact(&mut bytes)).await.is_err());
    proxy.flow();
    in_time(target.read_exact(&mut bytes)).await.expect("read");
    assert_eq!(&bytes, b"later");
    assert_passes(&mut target, &mut client, "on").await;
}

#[tokio::test]
async fn a_stalled_writer_blocks() {
    let (proxy, mut client, mut target) = pair().await;
    proxy.stall();
    let block = vec![7; 1 << 20];
    let mut written = 0;
    while let Ok(result) = timeout(SILENCE, client.write(&block)).await {
        written += result.expect("written");
        assert!(written < 64 << 20, "a stalled connection must not accept bytes without limit");
    }
    proxy.flow();
    client.shutdown().await.expect("shut down");
    let mut all = Vec::new();
    in_time(target.read_to_end(&mut all)).await.expect("read");
    assert_eq!(all.len(), written);
}

#[tokio::test]
async fn a_half_open_connection_swallows_bytes_and_never_recovers() {
    let (proxy, mut client, mut target) = pair().await;
    proxy.half_open();
    client.write_all(&vec![1; 8 << 20]).await.expect("swallowed");
    assert!(timeout(SILENCE, target.read(&mut [0])).await.is_err());
    assert!(timeout(SILENCE, client.read(&mut [0])).await.is_err());
    proxy.flow();
    assert!(matches!(in_time(client.read(&mut [0])).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_cut_ends_connections_and_new_ones_are_accepted() {
    let (proxy, mut client, mut target) = pair().await;
    proxy.cut().await;
    assert_eq!(in_time(client.read(&mut [0])).await.expect("an end"), 0);
    assert_eq!(in_time(target.read(&mut [0])).await.expect("an end"), 0);
    assert_eq!(proxy.open(), 0);
    TcpStream::connect(("127.0.0.1", proxy.port())).await.expect("accepted");
    wait_until("accepted", TIMEOUT, async || proxy.accepted() == 2).await;
}

#[tokio::test]
async fn a_stalled_connection_can_be_reset() {
    let (proxy, mut client, _target) = pair().await;
    proxy.stall();
    proxy.reset().await;
    let error = in_time(client.read(&mut [0])).await.expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn connections_are_refused_until_accepted_again() {
    let (proxy, mut client, mut target) = pair().await;
    proxy.refuse().await;
    let error = TcpStream::connect(("127.0.0.1", proxy.port())).await.expect_err("refused");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_passes(&mut client, &mut target, "open ones stay").await;
    proxy.cut().await;
    proxy.accept().await;
    TcpStream::connect(("127.0.0.1", proxy.port())).await.expect("accepted");
}

#[tokio::test]
async fn delays_do_not_add_up() {
    let (proxy, mut client, mut target) = pair().await;
    proxy.delay(SILENCE);
    let start = Instant::now();
    assert_passes(&mut client, &mut target, "x").await;
    let one = start.elapsed();
    assert!(one >= SILENCE, "{one:?}");
    let start = Instant::now();
    for _ in 0..5 {
        client.write_all(b"x").await.expect("written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    in_time(target.read_exact(&mut [0; 5])).await.expect("read");
    let five = start.elapsed();
    assert!(five >= SILENCE, "{five:?}");
    assert!(five < one * 4, "delays must not add up: {one:?} for one byte, {five:?} for five");
}

#[tokio::test]
async fn a_throttled_connection_is_limited_to_the_given_rate() {
    let (proxy, mut client, mut target) = pair().await;
    proxy.throttle(Some(1000));
    let start = Instant::now();
    client.write_all(&[b'x'; 300]).await.expect("written");
    in_time(target.read_exact(&mut [0; 300])).await.expect("read");
    client.write_all(b"y").await.expect("written");
    in_time(target.read_exact(&mut [0; 1])).await.expect("read");
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    proxy.throttle(None);
    assert_passes(&mut client, &mut target, "without a limit").await;
}

#[tokio::test]
async fn an_unreachable_target_ends_the_connection_and_is_counted() {
    let proxy = Proxy::start(liveobject_test_support::free_port()).await;
    let mut client = TcpStream::connect(("127.0.0.1", proxy.port())).await.expect("accepted");
    assert!(matches!(in_time(client.read(&mut [0])).await, Ok(0) | Err(_)));
    assert_eq!((proxy.unreachable(), proxy.open()), (1, 0));
}

#[tokio::test]
async fn mqtt_is_forwarded_and_a_stall_withholds_acknowledgements() {
    let broker = Mosquitto::start().await;
    let proxy = Proxy::start(broker.port()).await;
    let mut client = Client::connect(proxy.port()).await;
    client.publish("a", "1", QoS::ExactlyOnce).await;
    proxy.stall();
    assert!(timeout(SILENCE, client.publish("a", "2", QoS::AtLeastOnce)).await.is_err());
    proxy.flow();
    client.until(|event| matches!(event, Event::Incoming(Packet::PubAck(_)))).await;
    proxy.cut().await;
    client.end().await;
    proxy.refuse().await;
    assert!(Client::try_connect(options(proxy.port())).await.is_err());
}
