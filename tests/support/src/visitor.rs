//! A short-lived MQTT client: it connects, does one thing and disconnects. It leaves no session behind.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::mqtt5::{Connect, Encoder, Packet, Publish, Version, read_packet};

const TIMEOUT: Duration = Duration::from_secs(20);
const PACKET_ID: u16 = 1;
const KEEP_ALIVE_SECONDS: u16 = 60;
const NORMAL: u8 = 0;
const MQTT: Encoder = Encoder(Version::V5);

/// Publishes a message to the broker on this loopback port, and waits until the broker acknowledges it.
///
/// # Panics
///
/// Panics if the broker does not acknowledge it within 20 s.
pub async fn publish(port: u16, topic: &str, payload: &str, retain: bool) {
    let publish = Publish {
        topic: topic.to_owned(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        qos: 1,
        retain,
        packet_id: PACKET_ID,
        ..Publish::default()
    };
    within_timeout("publish a message", async {
        let mut visitor = Visitor::connect(port).await;
        visitor.send(&MQTT.publish(&publish)).await;
        while !matches!(visitor.next().await, Packet::Answer { kind: 4, packet_id: PACKET_ID }) {}
        visitor.disconnect().await;
    })
    .await;
}

/// Returns all retained messages of the broker on this loopback port, by topic.
///
/// # Panics
///
/// Panics if the broker does not send them within 20 s.
pub async fn retained(port: u16) -> BTreeMap<String, Vec<u8>> {
    within_timeout("read the retained messages", async {
        let mut visitor = Visitor::connect(port).await;
        // With QoS 0 the broker does not wait for acknowledgements, so its response to a ping follows the
        // last message.
        visitor.send(&MQTT.subscribe(PACKET_ID, &["#".to_owned()], 0)).await;
        let (mut retained, mut subscribed) = (BTreeMap::new(), false);
        loop {
            match visitor.next().await {
                Packet::Publish(message) if message.retain => {
                    retained.insert(message.topic, message.payload.to_vec());
                }
                Packet::SubAck { .. } if !subscribed => {
                    subscribed = true;
                    visitor.send(&Encoder::pingreq()).await;
                }
                Packet::PingResp => break,
                _ => {}
            }
        }
        visitor.disconnect().await;
        retained
    })
    .await
}

async fn within_timeout<T>(task: &str, work: impl Future<Output = T>) -> T {
    timeout(TIMEOUT, work).await.unwrap_or_else(|_| panic!("did not {task} within {TIMEOUT:?}"))
}

struct Visitor(BufReader<TcpStream>);

impl Visitor {
    async fn connect(port: u16) -> Self {
        static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
        let number = CONNECTIONS.fetch_add(1, Ordering::SeqCst);
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        let mut visitor = Self(BufReader::new(stream.expect("the broker accepts connections")));
        let connect = Connect {
            client_id: format!("visitor-{}-{number}", process::id()),
            clean_start: true,
            keep_alive: KEEP_ALIVE_SECONDS,
            ..Connect::default()
        };
        visitor.send(&Encoder::connect(&connect)).await;
        let conn_ack = visitor.next().await;
        assert!(matches!(conn_ack, Packet::ConnAck { reason: 0, .. }), "not accepted: {conn_ack:?}");
        visitor
    }

    async fn send(&mut self, packet: &[u8]) {
        self.0.write_all(packet).await.expect("the connection stays open");
    }

    async fn next(&mut self) -> Packet {
        read_packet(Version::V5, &mut self.0)
            .await
            .expect("a valid packet")
            .expect("the connection stays open")
    }

    async fn disconnect(mut self) {
        self.send(&MQTT.disconnect(NORMAL)).await;
    }
}
