//! The real broker: logins, access rules, limits, and faults of its process.

use std::time::Duration;

use liveobject_test_support::{Mosquitto, Subscriber};
use rumqttc::{Event, Packet, PubAckReason, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{Client, TIMEOUT, in_time, options};

#[tokio::test]
async fn configured_users_exclude_all_others() {
    let broker = Mosquitto::builder().user("ann", "secret").start().await;
    let mut login = options(broker.port());
    assert!(Client::try_connect(login.clone()).await.is_err());
    login.set_credentials("ann", "wrong");
    assert!(Client::try_connect(login.clone()).await.is_err());
    login.set_credentials("ann", "secret");
    assert!(Client::try_connect(login).await.is_ok(), "{}", broker.log());
}

#[tokio::test]
async fn the_acl_is_enforced_and_can_be_replaced() {
    let mut broker = Mosquitto::builder().acl("topic readwrite open/#").start().await;
    let mut client = Client::connect(broker.port()).await;
    assert_eq!(reason(&mut client, "closed/a").await, PubAckReason::NotAuthorized);
    assert_eq!(reason(&mut client, "open/a").await, PubAckReason::NoMatchingSubscribers);
    broker.set_acl("topic readwrite closed/#").await;
    assert_eq!(reason(&mut client, "closed/a").await, PubAckReason::NoMatchingSubscribers);
}

async fn reason(client: &mut Client, topic: &str) -> PubAckReason {
    client.queue(topic, "x", QoS::AtLeastOnce).await;
    match client.until(|event| matches!(event, Event::Incoming(Packet::PubAck(_)))).await {
        Event::Incoming(Packet::PubAck(ack)) => ack.reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn limits_are_announced_in_the_connack() {
    let limited = Mosquitto::builder().receive_maximum(7).max_qos(1).max_packet_size(2000);
    let client = Client::connect(limited.start().await.port()).await;
    let properties = client.connack.properties.expect("properties");
    assert_eq!(properties.receive_max, Some(7));
    assert_eq!(properties.max_qos, Some(1));
    assert_eq!(properties.max_packet_size, Some(2000));
}

/// Uses raw bytes because MQTT 5 does not define reason 0x95 for PUBACK, and a client library may reject it.
#[tokio::test]
async fn a_message_over_the_size_limit_is_refused() {
    let broker = Mosquitto::builder().message_size_limit(2).start().await;
    let mut stream = TcpStream::connect(("127.0.0.1", broker.port())).await.expect("accepted");
    let connect = b"\x10\x0d\0\x04MQTT\x05\x02\0\0\0\0\0";
    let too_large = b"\x32\x09\0\x01t\0\x01\0xxx";
    stream.write_all(&[&connect[..], too_large].concat()).await.expect("written");
    let mut received = Vec::new();
    while !received.ends_with(b"\x40\x03\0\x01\x95") {
        assert!(in_time(stream.read_buf(&mut received)).await.expect("read") > 0, "{received:x?}");
    }
}

#[tokio::test]
async fn a_restart_keeps_the_port_and_retained_messages() {
    let mut broker = Mosquitto::start().await;
    let port = broker.port();
    Client::connect(port).await.retain("kept", "yes").await;
    broker.restart().await;
    assert_eq!(broker.port(), port);
    let subscriber = Subscriber::start(port).await;
    let messages =
        subscriber.wait_for(|messages| !messages.is_empty(), "the retained message", TIMEOUT).await;
    assert_eq!((messages[0].text().as_str(), messages[0].retain), ("yes", true));
    broker.kill().await;
    assert!(Client::try_connect(options(port)).await.is_err());
    broker.resume().await;
    Client::connect(port).await;
}

#[tokio::test]
async fn without_persistence_a_restart_loses_retained_messages() {
    let mut broker = Mosquitto::builder().persistence(false).start().await;
    Client::connect(broker.port()).await.retain("kept", "yes").await;
    broker.restart().await;
    let subscriber = Subscriber::start(broker.port()).await;
    Client::connect(broker.port()).await.publish("new", "1", QoS::AtLeastOnce).await;
    let messages = subscriber.wait_for(|messages| !messages.is_empty(), "the new message", TIMEOUT).await;
    assert_eq!(messages[0].topic, "new");
}

#[tokio::test]
async fn a_frozen_broker_responds_only_after_it_is_thawed() {
    let mut broker = Mosquitto::start().await;
    let mut client = Client::connect(broker.port()).await;
    broker.freeze();
    let publish = client.publish("a", "x", QoS::AtLeastOnce);
    assert!(timeout(Duration::from_millis(500), publish).await.is_err());
    broker.thaw();
    client.until(|event| matches!(event, Event::Incoming(Packet::PubAck(_)))).await;
    broker.freeze();
    broker.stop().await;
}

#[tokio::test]
async fn many_brokers_run_side_by_side() {
    let brokers = [Mosquitto::start().await, Mosquitto::start().await, Mosquitto::start().await];
    for broker in &brokers {
        Client::connect(broker.port()).await;
    }
}
