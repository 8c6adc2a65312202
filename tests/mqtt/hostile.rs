//! A broker that breaks the protocol in every way: the service stays up, its memory stays bounded, and no
//! event is lost.

use liveobject_test_support::{
    Attack, HostileBroker, Ledger, Mosquitto, Subscriber, Then, memory, wait_until,
};
use serde_json::json;
use tokio::time::{Duration, sleep};

use crate::helpers::{LONG_TIMEOUT, TIMEOUT, assert_all_arrive, connect, service, settings, submit_batch};

/// An idle debug build uses about 37 MiB.
const MAX_MIB: u64 = 64;

/// Time for an attack to take effect before the test checks that it did no harm. A repeated attack lasts up
/// to three seconds, in which memory would grow.
const SINGLE_ATTACK: Duration = Duration::from_millis(300);
const REPEATED_ATTACK: Duration = Duration::from_millis(1500);

fn attack(name: &'static str, after_login: bool, bytes: impl Into<Vec<u8>>, then: Then) -> Attack {
    Attack { name, after_login, bytes: bytes.into(), then }
}

/// Encodes a PUBLISH of QoS 0 with this payload. `properties` is empty for MQTT 3.1.1.
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

fn attacks(version: &str) -> Vec<Attack> {
    let properties: &[u8] = if version == "5" { &[0] } else { &[] };
    let garbage: Vec<u8> =
        (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    let endless_packet = [[0x30, 0xff, 0xff, 0xff, 0x7f].as_slice(), &vec![0; 65_536]].concat();
    vec![
        attack("an empty response", false, [], Then::Close),
        attack("half a CONNACK, then a close", false, [0x20, 3, 0], Then::Close),
        attack("half a CONNACK, then silence", false, [0x20, 3, 0], Then::Stay),
        attack("a CONNACK that is too long", false, [0x20, 0x7f], Then::Stay),
        attack("a CONNACK with an unknown property", false, [0x20, 6, 0, 0, 3, 0x7e, 1, 1], Then::Stay),
        attack("a CONNACK with a session that was not requested", false, [0x20, 3, 1, 0, 0], Then::Close),
        attack("a CONNACK with an unknown reason code", false, [0x20, 3, 0, 0x55, 0], Then::Stay),
        attack("an incomplete CONNACK, byte by byte", false, [0x20, 3, 0, 0], Then::Drip),
        attack("an endless length", false, [0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Then::Stay),
        attack("a packet of the reserved type 0", false, [0x00, 0x00], Then::Stay),
        attack("an acknowledgement before the login", false, [0x40, 2, 0, 1], Then::Stay),
        attack("a message before the login", false, publish(properties, b"online"), Then::Stay),
        attack(
            "a CONNECT from the broker",
            false,
            b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00".to_vec(),
            Then::Stay,
        ),
        attack("noise", false, garbage.clone(), Then::Close),
        attack("endless noise", false, garbage.clone(), Then::Repeat),
        attack("an endless packet before the login", false, endless_packet.clone(), Then::Repeat),
        attack("endless zeros", false, vec![0; 65_536], Then::Repeat),
        attack("a second CONNACK", true, [0x20, 2, 0, 0], Then::Stay),
        attack("an acknowledgement of an unknown message", true, [0x40, 2, 0xea, 0x60], Then::Stay),
        attack("a PUBREC of an unknown exchange", true, [0x50, 2, 0xea, 0x60], Then::Stay),
        attack("a PUBCOMP of an unknown exchange", true, [0x70, 2, 0xea, 0x60], Then::Stay),
        attack("a PUBREL of an unknown message", true, [0x62, 2, 0xea, 0x60], Then::Stay),
        attack("an acknowledgement of packet 0", true, [0x40, 2, 0, 0], Then::Stay),
        attack("half an acknowledgement", true, [0x40, 2, 0], Then::Close),
        attack("a SUBACK without a SUBSCRIBE", true, [0x90, 4, 0xea, 0x60, 0, 0], Then::Stay),
        attack(
            "a message with a topic that is not UTF-8",
            true,
            [0x30, 6, 0, 3, 0xff, 0xfe, 0xfd, 0],
            Then::Stay,
        ),
        attack("a message that is shorter than its topic", true, [0x30, 4, 0x7f, 0xff, 0x61, 0], Then::Stay),
        attack("a message of QoS 3", true, [0x36, 7, 0, 1, 0x61, 0, 1, 0, 0], Then::Stay),
        attack("a message of a megabyte", true, publish(properties, &vec![b'x'; 1 << 20]), Then::Stay),
        attack("an endless packet", true, endless_packet, Then::Repeat),
        attack("endless messages", true, publish(properties, b"online"), Then::Repeat),
        attack("endless ping responses", true, [0xd0, 0], Then::Repeat),
        attack("noise after the login", true, garbage, Then::Repeat),
        attack("a close right after the login", true, [], Then::Close),
    ]
}

/// Returns the peak memory usage of the process in MiB.
fn peak_mib(pid: u32) -> u64 {
    memory::peak_kib(pid).expect("the process is running") / 1024
}

async fn assert_survives(version: &str) {
    let mut ledger = Ledger::new();
    let service = service().start().await;
    let attacks = attacks(version);
    let hostile = HostileBroker::start(attacks[0].clone()).await;
    // Short timeouts, so that silent connections do not prolong the test.
    let short_timeout =
        json!({ "protocol": version, "connect_timeout_seconds": 1, "ack_timeout_seconds": 5 });
    for (i, attack) in attacks.into_iter().enumerate() {
        let (name, then) = (attack.name, attack.then);
        hostile.set_attack(attack);
        let before = hostile.attacked();
        let _ = service.put_config(&settings(hostile.port(), &short_timeout)).await.expect(200);
        submit_batch(&service, &mut ledger, &format!("e{i}"), 3).await;
        wait_until(name, TIMEOUT, async || hostile.attacked() > before).await;
        sleep(if then == Then::Repeat { REPEATED_ATTACK } else { SINGLE_ATTACK }).await;
        let live = service.get("/health/live").await;
        assert_eq!(live.status, 200, "after {name}: {live:?}");
        let used = peak_mib(service.pid());
        assert!(used < MAX_MIB, "{name}: the service uses {used} MiB");
    }
    let broker = Mosquitto::builder().upgrade_outgoing_qos().start().await;
    let subscriber = Subscriber::start(broker.port()).await;
    connect(&service, broker.port(), &json!({ "protocol": version })).await;
    service.wait_outbox_empty(LONG_TIMEOUT).await;
    assert_all_arrive(&service, &[&subscriber], &mut ledger).await;
}

#[tokio::test]
async fn a_hostile_broker_does_no_harm_over_mqtt_5() {
    assert_survives("5").await;
}

#[tokio::test]
async fn a_hostile_broker_does_no_harm_over_mqtt_3_1_1() {
    assert_survives("3.1.1").await;
}
