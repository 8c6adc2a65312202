//! A broker that breaks the protocol in every way: the service stays up, its memory stays bounded, and no event is lost.

use liveobject_test_support::{Hostile, Ledger, Misdeed, Mosquitto, Subscriber, Then, memory, wait_until};
use serde_json::json;
use tokio::time::{Duration, sleep};

use crate::helpers::{LATER, SOON, accept_batch, connect, service, settings, settle};

/// An idle debug build takes some 37 MiB.
const MAX_MIB: u64 = 64;

fn misdeed(name: &'static str, after_login: bool, bytes: impl Into<Vec<u8>>, then: Then) -> Misdeed {
    Misdeed { name, after_login, bytes: bytes.into(), then }
}

/// A PUBLISH of QoS 0 with this payload, under MQTT 5 where `properties` are there.
fn publish(properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let topic = b"homeassistant/status";
    let mut body = vec![0, u8::try_from(topic.len()).expect("a short topic")];
    body.extend(topic);
    body.extend(properties);
    body.extend(payload);
    let mut packet = vec![0x30];
    let mut length = body.len();
    loop {
        let byte = u8::try_from(length % 128).expect("seven bits");
        length /= 128;
        packet.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

fn misdeeds(version: &str) -> Vec<Misdeed> {
    let properties: &[u8] = if version == "5" { &[0] } else { &[] };
    let garbage: Vec<u8> =
        (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    let endless_packet = [[0x30, 0xff, 0xff, 0xff, 0x7f].as_slice(), &vec![0; 65_536]].concat();
    vec![
        misdeed("an empty answer", false, [], Then::Close),
        misdeed("half a CONNACK, and the end", false, [0x20, 3, 0], Then::Close),
        misdeed("half a CONNACK, and silence", false, [0x20, 3, 0], Then::Stay),
        misdeed("a CONNACK that is too long", false, [0x20, 0x7f], Then::Stay),
        misdeed(
            "a CONNACK with a property that nobody knows",
            false,
            [0x20, 6, 0, 0, 3, 0x7e, 1, 1],
            Then::Stay,
        ),
        misdeed("a CONNACK with a session that we did not ask for", false, [0x20, 3, 1, 0, 0], Then::Close),
        misdeed("a CONNACK with a code that nobody knows", false, [0x20, 3, 0, 0x55, 0], Then::Stay),
        misdeed("a CONNACK byte by byte that ends in the middle", false, [0x20, 3, 0, 0], Then::Drip),
        misdeed("a length that does not end", false, [0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Then::Stay),
        misdeed("a packet of no kind", false, [0x00, 0x00], Then::Stay),
        misdeed("an acknowledgement before the login", false, [0x40, 2, 0, 1], Then::Stay),
        misdeed("a message before the login", false, publish(properties, b"online"), Then::Stay),
        misdeed(
            "a CONNECT of its own",
            false,
            b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00".to_vec(),
            Then::Stay,
        ),
        misdeed("noise", false, garbage.clone(), Then::Close),
        misdeed("endless noise", false, garbage.clone(), Then::Repeat),
        misdeed("a packet that does not end, before the login", false, endless_packet.clone(), Then::Repeat),
        misdeed("endless zeros", false, vec![0; 65_536], Then::Repeat),
        misdeed("a second CONNACK", true, [0x20, 2, 0, 0], Then::Stay),
        misdeed("an acknowledgement of nothing", true, [0x40, 2, 0xea, 0x60], Then::Stay),
        misdeed("the second half of an exchange that never began", true, [0x50, 2, 0xea, 0x60], Then::Stay),
        misdeed("the last word of an exchange that never began", true, [0x70, 2, 0xea, 0x60], Then::Stay),
        misdeed("the release of what was never sent", true, [0x62, 2, 0xea, 0x60], Then::Stay),
        misdeed("an acknowledgement of packet 0", true, [0x40, 2, 0, 0], Then::Stay),
        misdeed("half an acknowledgement", true, [0x40, 2, 0], Then::Close),
        misdeed("a subscription that nobody asked for", true, [0x90, 4, 0xea, 0x60, 0, 0], Then::Stay),
        misdeed(
            "a message with a topic that is no text",
            true,
            [0x30, 6, 0, 3, 0xff, 0xfe, 0xfd, 0],
            Then::Stay,
        ),
        misdeed(
            "a message with a topic that is longer than it",
            true,
            [0x30, 4, 0x7f, 0xff, 0x61, 0],
            Then::Stay,
        ),
        misdeed("a message of QoS 3", true, [0x36, 7, 0, 1, 0x61, 0, 1, 0, 0], Then::Stay),
        misdeed("a message of a megabyte", true, publish(properties, &vec![b'x'; 1 << 20]), Then::Stay),
        misdeed("a packet that does not end", true, endless_packet, Then::Repeat),
        misdeed("endless messages", true, publish(properties, b"online"), Then::Repeat),
        misdeed("endless answers to pings", true, [0xd0, 0], Then::Repeat),
        misdeed("noise after the login", true, garbage, Then::Repeat),
        misdeed("the end right after the login", true, [], Then::Close),
    ]
}

/// What the process takes, in MiB.
fn peak_mib(pid: u32) -> u64 {
    memory::peak_kib(pid).expect("the process runs") / 1024
}

async fn survives(version: &str) {
    let mut ledger = Ledger::new();
    let service = service().start().await;
    let misdeeds = misdeeds(version);
    let hostile = Hostile::start(misdeeds[0].clone()).await;
    // A short wait for an answer, so that silence does not take the test's time.
    let way = json!({ "protocol": version, "connect_timeout_seconds": 1, "ack_timeout_seconds": 5 });
    for (i, misdeed) in misdeeds.into_iter().enumerate() {
        let (name, then) = (misdeed.name, misdeed.then);
        hostile.set(misdeed);
        let before = hostile.done();
        let _ = service.put_config(&settings(hostile.port(), &way)).await.expect(200);
        accept_batch(&service, &mut ledger, &format!("e{i}"), 3).await;
        wait_until(name, SOON, async || hostile.done() > before).await;
        // What it has to bear, it bears while the next events come.
        sleep(Duration::from_millis(if then == Then::Repeat { 1500 } else { 300 })).await;
        let live = service.get("/health/live").await;
        assert_eq!(live.status, 200, "after {name}: {live:?}");
        let took = peak_mib(service.pid());
        assert!(took < MAX_MIB, "{name}: it takes {took} MiB");
    }
    let broker = Mosquitto::builder().upgrade_outgoing_qos().start().await;
    let subscriber = Subscriber::start(broker.port()).await;
    connect(&service, broker.port(), &json!({ "protocol": version })).await;
    service.wait_outbox_empty(LATER).await;
    settle(&service, &[&subscriber], &mut ledger).await;
    ledger.assert_nothing_lost();
    ledger.assert_in_order();
}

#[tokio::test]
async fn a_hostile_broker_does_no_harm_over_mqtt_5() {
    survives("5").await;
}

#[tokio::test]
async fn a_hostile_broker_does_no_harm_over_mqtt_3_1_1() {
    survives("3.1.1").await;
}
