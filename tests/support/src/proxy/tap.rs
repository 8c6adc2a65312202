//! What events and answers pass a proxy, in their order: the proof of who brought them out of order.
//!
//! Only what is not encrypted can be read: a connection that does not begin with an MQTT CONNECT is left alone.

use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use tokio::sync::mpsc::UnboundedSender;

use crate::mqtt5::{Packet, Publish, Version, take_packet};

const CONNECT: u8 = 0x10;
const PUBACK: u8 = 4;
const PUBREC: u8 = 5;
const PUBCOMP: u8 = 7;

/// Something that passed on a connection; they are counted from 1 in the order in which they were accepted.
#[derive(Clone, Debug)]
pub struct Passed {
    /// Which connection.
    pub connection: usize,
    /// What it was.
    pub what: Piece,
}

/// What passed.
#[derive(Clone, Debug)]
pub enum Piece {
    /// The client published an event; noted when it has left the client, whatever then becomes of it.
    Event(Publish),
    /// The target has received what was published with QoS 2 under this packet id: PUBREC.
    Received(u16),
    /// The client releases it: PUBREL.
    Released(u16),
    /// The target's last word on what the client published under this packet id: PUBACK or PUBCOMP.
    Settled(u16),
}

/// An ear at one direction of a connection.
#[derive(Debug)]
pub(super) struct Ear {
    connection: usize,
    version: Arc<OnceLock<Version>>,
    heard: BytesMut,
    /// `None`: it does not listen (any more).
    to: Option<UnboundedSender<Passed>>,
}

impl Ear {
    /// For both directions of a connection.
    pub(super) fn pair(connection: usize, to: Option<UnboundedSender<Passed>>) -> [Self; 2] {
        let version = Arc::<OnceLock<Version>>::default();
        let ear =
            || Self { connection, version: Arc::clone(&version), heard: BytesMut::new(), to: to.clone() };
        [ear(), ear()]
    }

    pub(super) fn hear(&mut self, bytes: &[u8]) {
        if self.to.is_none() {
            return;
        }
        self.heard.extend_from_slice(bytes);
        if self.listen().is_none() {
            self.to = None;
            self.heard = BytesMut::new();
        }
    }

    /// `None`: this is nothing that can be read.
    fn listen(&mut self) -> Option<()> {
        let to = self.to.clone()?;
        if self.version.get().is_none() && self.heard.first() != Some(&CONNECT) {
            return None;
        }
        loop {
            let version = self.version.get().copied().unwrap_or_default();
            let what = match take_packet(version, &mut self.heard).ok()? {
                None => return Some(()),
                Some(Packet::Connect(connect)) => {
                    let _known = self.version.set(connect.version);
                    continue;
                }
                Some(Packet::Publish(publish)) if publish.is_event() => Piece::Event(publish),
                Some(Packet::Answer { kind: PUBREC, packet_id }) => Piece::Received(packet_id),
                Some(Packet::PubRel { packet_id }) => Piece::Released(packet_id),
                Some(Packet::Answer { kind: PUBACK | PUBCOMP, packet_id }) => Piece::Settled(packet_id),
                Some(_) => continue,
            };
            // Whoever listened may have gone.
            let _gone = to.send(Passed { connection: self.connection, what });
        }
    }
}
