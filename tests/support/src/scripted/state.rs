//! The state of the [`ScriptedBroker`](super::ScriptedBroker): what it has received, what it withholds, and
//! how it responds. It contains no sockets, so that it reads as a set of rules.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;

use super::script::{Acks, Refusal, Reply, Script};
use crate::mqtt5::{Connect, Encoder, Packet, Publish, Version};

const PUBACK: u8 = 4;
const PUBREC: u8 = 5;
const PUBCOMP: u8 = 7;
const PACKET_ID_NOT_FOUND: u8 = 0x92;
const UNSPECIFIED_FAILURE: u8 = 0x80;

/// A PUBLISH and the connection on which it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// Connections are numbered from 0.
    pub connection: usize,
    /// The packet.
    pub publish: Publish,
    /// When it arrived.
    pub at: SystemTime,
}

#[derive(Debug)]
pub(super) enum Out {
    Packet(Bytes),
    Close,
    Reset,
}

#[derive(Debug)]
pub(super) struct Connection {
    outbox: UnboundedSender<Out>,
    version: Version,
    accepted: bool,
    /// Packet ids that the client must not reuse yet.
    in_flight: BTreeSet<u16>,
    /// Those of them that are in the second half of QoS 2.
    awaiting_release: BTreeSet<u16>,
}

/// An acknowledgement that is withheld.
#[derive(Debug)]
pub(super) struct Held {
    connection: usize,
    packet_id: u16,
    qos: u8,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) script: Script,
    pub(super) received: Vec<Received>,
    pub(super) connects: Vec<Connect>,
    pub(super) disconnects: Vec<u8>,
    pub(super) subscriptions: Vec<(String, u8)>,
    pub(super) pings: usize,
    pub(super) violations: Vec<String>,
    pub(super) held: Vec<Held>,
    pub(super) connections: BTreeMap<usize, Connection>,
    next_id: usize,
}

impl State {
    pub(super) fn open(&mut self, outbox: UnboundedSender<Out>) -> usize {
        let id = self.next_id;
        self.next_id += 1;
        let connection = Connection {
            outbox,
            version: Version::V5,
            accepted: false,
            in_flight: BTreeSet::new(),
            awaiting_release: BTreeSet::new(),
        };
        self.connections.insert(id, connection);
        id
    }

    pub(super) fn closed(&mut self, id: usize, fault: Option<std::io::Error>) {
        self.connections.remove(&id);
        self.held.retain(|held| held.connection != id);
        self.violations.extend(fault.map(|fault| format!("connection {id}: {fault}")));
    }

    pub(super) fn packet(&mut self, id: usize, packet: Packet) {
        let accepted = self.connections.get(&id).is_some_and(|connection| connection.accepted);
        if accepted == matches!(packet, Packet::Connect(_)) {
            self.violation(id, format!("unexpected {packet:?}"));
            return self.end(id, None);
        }
        match packet {
            Packet::Connect(connect) => self.connect(id, connect),
            Packet::Publish(publish) => self.publish(id, publish),
            Packet::PubRel { packet_id } => self.pubrel(id, packet_id),
            // No test needs the client's acknowledgements, except that QoS 2 must continue.
            Packet::Answer { kind: PUBREC, packet_id } => {
                self.send(id, self.encoder(id).answer(6, packet_id, 0));
            }
            Packet::Answer { .. } => {}
            Packet::Subscribe(packet_id, filters) => {
                let granted = self.script.grant_subscriptions;
                let granted: Vec<u8> =
                    filters.iter().map(|(_, qos)| if granted { *qos } else { UNSPECIFIED_FAILURE }).collect();
                self.subscriptions.extend(filters);
                self.send(id, self.encoder(id).filters_answer(9, packet_id, &granted));
            }
            Packet::Unsubscribe(packet_id, filters) => {
                self.send(id, self.encoder(id).filters_answer(11, packet_id, &vec![0; filters]));
            }
            Packet::PingReq => {
                self.pings += 1;
                if self.script.answer_pings {
                    self.send(id, Encoder::pingresp());
                }
            }
            Packet::ConnAck { .. } | Packet::SubAck { .. } | Packet::PingResp => {
                self.violation(id, format!("unexpected {packet:?}"));
                self.end(id, None);
            }
            Packet::Disconnect(reason) => {
                self.disconnects.push(reason);
                self.end(id, None);
            }
        }
    }

    fn connect(&mut self, id: usize, connect: Connect) {
        let version = connect.version;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.version = version;
        }
        self.connects.push(connect);
        if !self.script.answer_connect {
            return;
        }
        match self.script.refusal(version) {
            Some(Refusal::Answer(bytes)) => return self.end(id, Some(&Bytes::from_static(bytes))),
            Some(Refusal::Close) => return self.end(id, None),
            Some(Refusal::Reset) => return self.out(id, Out::Reset),
            None => {}
        }
        self.send(id, self.encoder(id).connack(&self.script.connack));
        if self.script.connack.reason != 0 {
            return self.end(id, None);
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.accepted = true;
        }
    }

    fn publish(&mut self, id: usize, publish: Publish) {
        self.check(id, &publish);
        let reply = self.script.reply(&publish);
        let (packet_id, qos) = (publish.packet_id, publish.qos);
        #[expect(clippy::disallowed_methods, reason = "independent of the clock under test")]
        let at = SystemTime::now();
        self.received.push(Received { connection: id, publish, at });
        match reply {
            Some(Reply::Disconnect(reason)) => self.end(id, Some(&self.encoder(id).disconnect(reason))),
            Some(Reply::ShortDisconnect(reason)) => self.end(id, Some(&Bytes::from(vec![0xE0, 1, reason]))),
            Some(Reply::Close) => self.end(id, None),
            _ if qos == 0 => {}
            Some(Reply::AcknowledgeAndClose(reason)) => {
                let answer = self.first_answer(id, packet_id, qos, reason);
                self.end(id, Some(&answer));
            }
            Some(Reply::AcknowledgeAndReset(reason)) => {
                self.send(id, self.first_answer(id, packet_id, qos, reason));
                self.out(id, Out::Reset);
            }
            Some(Reply::AcknowledgeAndDisconnect(reason)) => {
                let answer = self.first_answer(id, packet_id, qos, 0);
                let both = [answer, self.encoder(id).disconnect(reason)].concat();
                self.end(id, Some(&Bytes::from(both)));
            }
            Some(Reply::AcknowledgeTwice) => {
                self.acknowledge(id, packet_id, qos, 0);
                self.send(id, self.first_answer(id, packet_id, qos, 0));
            }
            Some(Reply::Reason(reason)) => self.acknowledge(id, packet_id, qos, reason),
            None if self.script.acks == Acks::All => self.acknowledge(id, packet_id, qos, 0),
            Some(Reply::Withhold) | None => self.hold(id, packet_id, qos),
        }
    }

    fn hold(&mut self, id: usize, packet_id: u16, qos: u8) {
        self.held.push(Held { connection: id, packet_id, qos });
        if let Acks::ReverseWithin(count) = self.script.acks
            && self.held.iter().filter(|held| held.connection == id).count() >= count
        {
            self.release_where(true, |held| held.connection == id);
        }
    }

    fn acknowledge(&mut self, id: usize, packet_id: u16, qos: u8, reason: u8) {
        self.send(id, self.first_answer(id, packet_id, qos, reason));
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if qos == 2 && reason < 0x80 {
            connection.awaiting_release.insert(packet_id);
        } else {
            connection.in_flight.remove(&packet_id);
        }
    }

    /// Returns a PUBACK or PUBREC.
    fn first_answer(&self, id: usize, packet_id: u16, qos: u8, reason: u8) -> Bytes {
        let kind = if qos == 1 { PUBACK } else { PUBREC };
        self.encoder(id).answer(kind, packet_id, reason)
    }

    fn pubrel(&mut self, id: usize, packet_id: u16) {
        if !self.script.answer_pubrel {
            return;
        }
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.in_flight.remove(&packet_id);
        // A client that resumes a session may release a message of an earlier connection.
        let known = connection.awaiting_release.remove(&packet_id);
        let reason = if known { 0 } else { PACKET_ID_NOT_FOUND };
        self.send(id, self.encoder(id).answer(PUBCOMP, packet_id, reason));
    }

    pub(super) fn release(&mut self, reversed: bool) {
        self.release_where(reversed, |_| true);
    }

    /// Sends the oldest withheld acknowledgement.
    pub(super) fn release_one(&mut self) {
        if !self.held.is_empty() {
            let Held { connection, packet_id, qos } = self.held.remove(0);
            self.acknowledge(connection, packet_id, qos, 0);
        }
    }

    fn release_where(&mut self, reversed: bool, chosen: impl Fn(&Held) -> bool) {
        let (mut now, later): (Vec<_>, _) = std::mem::take(&mut self.held).into_iter().partition(chosen);
        self.held = later;
        if reversed {
            now.reverse();
        }
        for message in now {
            self.acknowledge(message.connection, message.packet_id, message.qos, 0);
        }
    }

    /// Records the violations in this PUBLISH.
    fn check(&mut self, id: usize, publish: &Publish) {
        let allowed = &self.script.connack;
        let mut faults = Vec::new();
        if publish.qos > allowed.maximum_qos.unwrap_or(2) {
            faults.push(format!("QoS {} is not allowed", publish.qos));
        }
        if publish.retain && allowed.retain_available == Some(false) {
            faults.push("retain is not allowed".to_owned());
        }
        if allowed.maximum_packet_size.is_some_and(|limit| publish.packet_size > limit as usize) {
            faults.push(format!("a packet of {} bytes is not allowed", publish.packet_size));
        }
        if publish.qos > 0
            && let Some(connection) = self.connections.get_mut(&id)
        {
            let limit = usize::from(allowed.receive_maximum.unwrap_or(u16::MAX));
            if !connection.in_flight.insert(publish.packet_id) {
                faults.push(format!("packet id {} is in use", publish.packet_id));
            }
            if connection.in_flight.len() > limit {
                faults.push(format!("{} in flight, {limit} allowed", connection.in_flight.len()));
            }
        }
        for fault in faults {
            self.violation(id, fault);
        }
    }

    /// Returns the encoder for the protocol version of this connection.
    fn encoder(&self, id: usize) -> Encoder {
        Encoder(self.connections.get(&id).map(|connection| connection.version).unwrap_or_default())
    }

    fn violation(&mut self, id: usize, fault: String) {
        self.violations.push(format!("connection {id}: {fault}"));
    }

    fn send(&self, id: usize, bytes: Bytes) {
        self.out(id, Out::Packet(bytes));
    }

    fn out(&self, id: usize, out: Out) {
        if let Some(connection) = self.connections.get(&id) {
            // A connection that has just ended accepts nothing more.
            let _ = connection.outbox.send(out);
        }
    }

    fn end(&mut self, id: usize, last_packet: Option<&Bytes>) {
        if let Some(bytes) = last_packet {
            self.send(id, bytes.clone());
        }
        self.out(id, Out::Close);
    }

    /// Ends all connections. With MQTT 3.1.1 a broker cannot send a DISCONNECT.
    pub(super) fn end_all(&mut self, reason: Option<u8>) {
        let all: Vec<_> = self.connections.iter().map(|(id, connection)| (*id, connection.version)).collect();
        for (id, version) in all {
            let last_packet = reason.filter(|_| version == Version::V5);
            self.end(id, last_packet.map(|reason| Encoder(version).disconnect(reason)).as_ref());
        }
    }

    pub(super) fn send_all(&self, bytes: impl Fn(Encoder) -> Bytes) {
        self.connections.keys().for_each(|id| self.send(*id, bytes(self.encoder(*id))));
    }

    pub(super) fn summary(&self) -> String {
        format!(
            "{} connects, {} open, {} PUBLISH received, {} withheld, violations {:?}",
            self.connects.len(),
            self.connections.len(),
            self.received.len(),
            self.held.len(),
            self.violations
        )
    }
}
