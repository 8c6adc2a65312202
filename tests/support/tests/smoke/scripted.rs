//! The scripted broker, with a real client library as its client.

use std::time::Duration;

use liveobject_test_support::mqtt5::{ConnAck, Publish};
use liveobject_test_support::{Acks, Reply, Rule, ScriptedBroker};
use rumqttc::{Event, LastWill, Packet, PublishOptions, PublishProperties, QoS};
use tokio::time::timeout;

use crate::client::{Client, TIMEOUT, options};

/// How long the tests wait for packets that must not arrive. Over loopback they would arrive within a few
/// milliseconds.
const SILENCE: Duration = Duration::from_millis(300);

fn is_ack(event: &Event) -> bool {
    matches!(event, Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)))
}

async fn ack_ids(client: &mut Client, count: usize) -> Vec<u16> {
    let mut ids = Vec::new();
    while ids.len() < count {
        if let Event::Incoming(Packet::PubAck(ack)) = client.until(is_ack).await {
            ids.push(ack.pkid);
        }
    }
    ids
}

#[tokio::test]
async fn the_broker_records_packets_and_acknowledges_each_qos() {
    let broker = ScriptedBroker::start().await;
    let mut settings = options(broker.port());
    settings.set_credentials("ann", "secret");
    settings.set_last_will(LastWill::new("status", "offline", QoS::AtLeastOnce, true, None));
    let mut client = Client::try_connect(settings).await.expect("accepted");
    client.publish("zero", "0", QoS::AtMostOnce).await;
    client.publish("one", "1", QoS::AtLeastOnce).await;
    client.publish("two", "2", QoS::ExactlyOnce).await;
    let properties = PublishProperties { message_expiry_interval: Some(90), ..PublishProperties::default() };
    let options = PublishOptions::new(QoS::AtLeastOnce).retained().properties(properties);
    client.queue.publish("kept", "3", options).await.expect("queued");
    client.until(is_ack).await;
    let received: Vec<Publish> =
        broker.wait_for_publishes(4, TIMEOUT).await.into_iter().map(|received| received.publish).collect();
    let topics: Vec<_> = received.iter().map(|publish| (publish.topic.as_str(), publish.qos)).collect();
    assert_eq!(topics, [("zero", 0), ("one", 1), ("two", 2), ("kept", 1)]);
    assert_eq!((received[3].message_expiry, received[3].retain, received[2].retain), (Some(90), true, false));
    assert_eq!(&received[2].payload[..], b"2");
    let connect = &broker.connects()[0];
    assert_eq!((connect.client_id.as_str(), connect.keep_alive, connect.clean_start), ("smoke", 5, true));
    assert_eq!(
        (connect.username.as_deref(), connect.password.as_deref()),
        (Some("ann"), Some(&b"secret"[..]))
    );
    let will = connect.will.as_ref().expect("a will");
    assert_eq!(
        (will.topic.as_str(), &will.payload[..], will.qos, will.retain),
        ("status", &b"offline"[..], 1, true)
    );
    client.queue.disconnect().await.expect("queued");
    client.end().await;
    broker
        .wait_for("a DISCONNECT", TIMEOUT, |broker| broker.disconnects() == [0] && broker.open() == 0)
        .await;
    assert!(broker.violations().is_empty(), "{:?}", broker.violations());
}

#[tokio::test]
async fn the_connack_follows_the_script() {
    let broker = ScriptedBroker::start().await;
    broker.set_connack(ConnAck {
        receive_maximum: Some(3),
        maximum_packet_size: Some(512),
        maximum_qos: Some(1),
        retain_available: Some(false),
        server_keep_alive: Some(9),
        ..ConnAck::default()
    });
    let client = Client::connect(broker.port()).await;
    let properties = client.connack.properties.expect("properties");
    assert_eq!(
        (properties.receive_max, properties.max_packet_size, properties.max_qos),
        (Some(3), Some(512), Some(1))
    );
    assert_eq!((properties.retain_available, properties.server_keep_alive), (Some(0), Some(9)));
    broker.set_connack(ConnAck { reason: 0x86, ..ConnAck::default() });
    let error = Client::try_connect(options(broker.port())).await.err().expect("refused");
    assert!(format!("{error:?}").contains("BadUserNamePassword"), "{error:?}");
    broker.answer_connect(false);
    assert!(timeout(SILENCE, Client::try_connect(options(broker.port()))).await.is_err());
    assert_eq!(broker.connects().len(), 3);
}

#[tokio::test]
async fn acknowledgements_are_withheld_and_released_in_either_order() {
    let broker = ScriptedBroker::start().await;
    broker.set_acks(Acks::Withhold);
    let mut client = Client::connect(broker.port()).await;
    for payload in ["a", "b", "c"] {
        client.queue("t", payload, QoS::AtLeastOnce).await;
    }
    assert!(timeout(SILENCE, client.until(is_ack)).await.is_err());
    broker.wait_for("three withheld", TIMEOUT, |broker| broker.withheld() == 3).await;
    broker.release_reversed();
    assert_eq!(ack_ids(&mut client, 3).await, [3, 2, 1]);
    broker.set_acks(Acks::ReverseWithin(2));
    for payload in ["d", "e", "f"] {
        client.queue("t", payload, QoS::AtLeastOnce).await;
    }
    let ids = ack_ids(&mut client, 2).await;
    assert!(ids[0] > ids[1], "{ids:?}");
    broker.set_acks(Acks::All);
    ack_ids(&mut client, 1).await;
    assert_eq!(broker.withheld(), 0);
}

#[tokio::test]
async fn rules_refuse_disconnect_and_close() {
    let broker = ScriptedBroker::start().await;
    broker.rule(Rule::topic("no", Reply::Reason(0x87)));
    broker.rule(Rule::payload("poison", Reply::Reason(0x99)).times(1));
    broker.rule(Rule::payload("taken", Reply::Disconnect(0x8e)));
    broker.rule(Rule::when(|publish| publish.payload.is_empty(), Reply::Close));
    let mut client = Client::connect(broker.port()).await;
    for (topic, payload, reason) in [
        ("no", "x", "NotAuthorized"),
        ("yes", "a poisoned b", "PayloadFormatInvalid"),
        ("yes", "a poisoned c", "Success"),
    ] {
        client.queue(topic, payload, QoS::AtLeastOnce).await;
        let ack = format!("{:?}", client.until(is_ack).await);
        assert!(ack.contains(reason), "{ack}");
    }
    client.queue("yes", "taken", QoS::AtLeastOnce).await;
    let end = format!("{:?}", client.end().await);
    assert!(end.contains("SessionTakenOver"), "{end}");
    let mut client = Client::connect(broker.port()).await;
    client.queue("yes", "", QoS::ExactlyOnce).await;
    client.end().await;
    assert_eq!(broker.received().len(), 5);
}

#[tokio::test]
async fn the_broker_acknowledges_subscriptions_responds_to_pings_and_sends_messages() {
    let broker = ScriptedBroker::start().await;
    let mut client = Client::connect(broker.port()).await;
    client.queue.subscribe("a/#", QoS::ExactlyOnce).await.expect("queued");
    client.until(|event| matches!(event, Event::Incoming(Packet::SubAck(_)))).await;
    assert_eq!(broker.subscriptions(), [("a/#".to_owned(), 2)]);
    broker.send(&Publish { topic: "a/b".to_owned(), payload: "hello".into(), ..Publish::default() });
    client.until(|event| matches!(event, Event::Incoming(Packet::Publish(_)))).await;
    client.until(|event| matches!(event, Event::Incoming(Packet::PingResp))).await;
    assert!(broker.pings() >= 1);
    client.queue.unsubscribe("a/#").await.expect("queued");
    client.until(|event| matches!(event, Event::Incoming(Packet::UnsubAck(_)))).await;
    broker.disconnect(0x8b);
    let end = format!("{:?}", client.end().await);
    assert!(end.contains("ServerShuttingDown"), "{end}");
}

#[tokio::test]
async fn an_unanswered_pubrel_blocks_qos_2() {
    let broker = ScriptedBroker::start().await;
    broker.answer_pubrel(false);
    let mut client = Client::connect(broker.port()).await;
    client.queue("t", "x", QoS::ExactlyOnce).await;
    client.until(|event| matches!(event, Event::Incoming(Packet::PubRec(_)))).await;
    assert!(timeout(SILENCE, client.until(is_ack)).await.is_err());
    broker.close();
    client.end().await;
}

#[tokio::test]
async fn protocol_violations_are_recorded() {
    use tokio::io::AsyncWriteExt;
    let broker = ScriptedBroker::start().await;
    broker.set_connack(ConnAck { receive_maximum: Some(1), maximum_qos: Some(1), ..ConnAck::default() });
    broker.set_acks(Acks::Withhold);
    let mut client = tokio::net::TcpStream::connect(("127.0.0.1", broker.port())).await.expect("accepted");
    let connect = b"\x10\x0d\0\x04MQTT\x05\x02\0\0\0\0\0";
    let one = b"\x32\x06\0\x01t\0\x01\0";
    let two = b"\x34\x06\0\x01t\0\x02\0";
    for bytes in [&connect[..], one, one, two, b"\x36\0"] {
        client.write_all(bytes).await.expect("written");
    }
    broker
        .wait_for("the closed connection", TIMEOUT, |broker| {
            broker.received().len() == 3 && broker.open() == 0
        })
        .await;
    let violations = broker.violations().join("; ");
    for fault in ["packet id 1 is in use", "QoS 2 is not allowed", "2 in flight, 1 allowed", "QoS 3"] {
        assert!(violations.contains(fault), "{fault}: {violations}");
    }
}
