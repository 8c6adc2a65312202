//! Observes the events and acknowledgements that pass through a proxy, in order, to prove which side
//! reordered them.
//!
//! Only unencrypted connections can be parsed. A connection that does not begin with an MQTT CONNECT is
//! ignored.

use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use tokio::sync::mpsc::UnboundedSender;

use crate::mqtt5::{Packet, Publish, Version, take_packet};

const CONNECT: u8 = 0x10;
const PUBACK: u8 = 4;
const PUBREC: u8 = 5;
const PUBCOMP: u8 = 7;

/// A packet that passed on a connection. Connections are numbered from 1 in the order in which they were
/// accepted.
#[derive(Clone, Debug)]
pub struct TappedPacket {
    /// The number of the connection.
    pub connection: usize,
    /// The packet.
    pub what: PacketKind,
}

/// The kind of packet that passed.
#[derive(Clone, Debug)]
pub enum PacketKind {
    /// The client published an event. It is recorded once it has left the client, even if it does not arrive.
    Event(Publish),
    /// The target received the QoS 2 message with this packet id: PUBREC.
    Received(u16),
    /// The client released the message with this packet id: PUBREL.
    Released(u16),
    /// The target completed the message with this packet id: PUBACK or PUBCOMP.
    Settled(u16),
}

/// The sender of the packets that a tap observes.
#[derive(Clone, Copy, Debug)]
enum Side {
    Client,
    Target,
}

/// The observer of one direction of a connection.
#[derive(Debug)]
pub(super) struct Tap {
    connection: usize,
    from: Side,
    version: Arc<OnceLock<Version>>,
    received: BytesMut,
    /// `None` if this direction is not (or no longer) observed.
    to: Option<UnboundedSender<TappedPacket>>,
}

impl Tap {
    /// Returns the observers of both directions of a connection.
    pub(super) fn pair(connection: usize, to: Option<UnboundedSender<TappedPacket>>) -> [Self; 2] {
        let version = Arc::<OnceLock<Version>>::default();
        [Side::Client, Side::Target].map(|from| Self {
            connection,
            from,
            version: Arc::clone(&version),
            received: BytesMut::new(),
            to: to.clone(),
        })
    }

    pub(super) fn observe(&mut self, bytes: &[u8]) {
        if self.to.is_none() {
            return;
        }
        self.received.extend_from_slice(bytes);
        if self.parse().is_none() {
            self.to = None;
            self.received = BytesMut::new();
        }
    }

    /// Parses the received bytes. Returns `None` if it cannot be parsed.
    fn parse(&mut self) -> Option<()> {
        let to = self.to.clone()?;
        if self.version.get().is_none() && self.received.first() != Some(&CONNECT) {
            return None;
        }
        loop {
            let version = self.version.get().copied().unwrap_or_default();
            let Some(packet) = take_packet(version, &mut self.received).ok()? else { return Some(()) };
            // Each side numbers its own messages, so an answer belongs to a message of the other side.
            let what = match (self.from, packet) {
                (Side::Client, Packet::Connect(connect)) => {
                    let _known = self.version.set(connect.version);
                    continue;
                }
                (Side::Client, Packet::Publish(publish)) if publish.is_event() => PacketKind::Event(publish),
                (Side::Client, Packet::PubRel { packet_id }) => PacketKind::Released(packet_id),
                (Side::Target, Packet::Answer { kind: PUBREC, packet_id }) => PacketKind::Received(packet_id),
                (Side::Target, Packet::Answer { kind: PUBACK | PUBCOMP, packet_id }) => {
                    PacketKind::Settled(packet_id)
                }
                _ => continue,
            };
            // The receiver may have been dropped.
            let _gone = to.send(TappedPacket { connection: self.connection, what });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_of_the_client_does_not_settle_its_own_message_with_the_same_id() {
        let connect = [CONNECT, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 0];
        let puback = [PUBACK << 4, 2, 0, 7];
        let (to, mut passed) = tokio::sync::mpsc::unbounded_channel();
        let [mut client, mut target] = Tap::pair(1, Some(to));
        client.observe(&connect);
        client.observe(&puback);
        assert!(passed.try_recv().is_err());
        target.observe(&puback);
        assert!(matches!(
            passed.try_recv(),
            Ok(TappedPacket { connection: 1, what: PacketKind::Settled(7) })
        ));
    }
}
