//! A client that comes, does one thing, and goes; it leaves no session behind.

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

const VISIT: Duration = Duration::from_secs(20);
const PACKET_ID: u16 = 1;
const KEEP_ALIVE_SECONDS: u16 = 60;
const NORMAL: u8 = 0;
const MQTT: Encoder = Encoder(Version::V5);

/// Publishes a message, retained or not, to the broker on this loopback port; returns when the broker has acknowledged
/// it.
///
/// # Panics
///
/// When the broker has not within 20 s.
pub async fn publish(port: u16, topic: &str, payload: &str, retain: bool) {
    let publish = Publish {
        topic: topic.to_owned(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        qos: 1,
        retain,
        packet_id: PACKET_ID,
        ..Publish::default()
    };
    bounded("a message is published", async {
        let mut visitor = Visitor::connect(port).await;
        visitor.send(&MQTT.publish(&publish)).await;
        while !matches!(visitor.next().await, Packet::Answer { kind: 4, packet_id: PACKET_ID }) {}
        visitor.leave().await;
    })
    .await;
}

/// All that stands retained at the broker on this loopback port: what a subscriber that starts now is told.
///
/// # Panics
///
/// When the broker has not told it within 20 s.
pub async fn retained(port: u16) -> BTreeMap<String, Vec<u8>> {
    bounded("what is retained is told", async {
        let mut visitor = Visitor::connect(port).await;
        // With QoS 0 nothing waits at the broker for acknowledgements: the answer to a ping comes after the last message.
        visitor.send(&MQTT.subscribe(PACKET_ID, &["#".to_owned()], 0)).await;
        let (mut standing, mut subscribed) = (BTreeMap::new(), false);
        loop {
            match visitor.next().await {
                Packet::Publish(message) if message.retain => {
                    standing.insert(message.topic, message.payload.to_vec());
                }
                Packet::SubAck { .. } if !subscribed => {
                    subscribed = true;
                    visitor.send(&Encoder::pingreq()).await;
                }
                Packet::PingResp => break,
                _ => {}
            }
        }
        visitor.leave().await;
        standing
    })
    .await
}

async fn bounded<T>(what: &str, visit: impl Future<Output = T>) -> T {
    timeout(VISIT, visit).await.unwrap_or_else(|_| panic!("did not happen within {VISIT:?}: {what}"))
}

struct Visitor(BufReader<TcpStream>);

impl Visitor {
    async fn connect(port: u16) -> Self {
        static VISITS: AtomicUsize = AtomicUsize::new(0);
        let visit = VISITS.fetch_add(1, Ordering::SeqCst);
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        let mut visitor = Self(BufReader::new(stream.expect("the broker accepts connections")));
        let connect = Connect {
            client_id: format!("visitor-{}-{visit}", process::id()),
            clean_start: true,
            keep_alive: KEEP_ALIVE_SECONDS,
            ..Connect::default()
        };
        visitor.send(&Encoder::connect(&connect)).await;
        let welcome = visitor.next().await;
        assert!(matches!(welcome, Packet::ConnAck { reason: 0, .. }), "no welcome: {welcome:?}");
        visitor
    }

    async fn send(&mut self, packet: &[u8]) {
        self.0.write_all(packet).await.expect("the broker reads");
    }

    async fn next(&mut self) -> Packet {
        read_packet(Version::V5, &mut self.0).await.expect("a good packet").expect("the broker stays")
    }

    async fn leave(mut self) {
        self.send(&MQTT.disconnect(NORMAL)).await;
    }
}
