//! Observes the events and acknowledgements that pass through a proxy, in order, to prove which side
//! reordered them.
//!
//! Only unencrypted connections can be parsed. A connection that does not begin with an MQTT CONNECT is
//! ignored.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

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

type Matches = Box<dyn Fn(&Publish) -> bool + Send>;

/// The messages over which the proxy closes the connection, like a broker that does not permit them.
#[derive(Clone, Default)]
pub(super) struct CloseRule(Arc<Mutex<Option<Matches>>>);

impl CloseRule {
    pub(super) fn set(&self, matches: Option<Matches>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = matches;
    }

    fn matches(&self, publish: &Publish) -> bool {
        let matches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        matches.as_ref().is_some_and(|matches| matches(publish))
    }
}

impl fmt::Debug for CloseRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CloseRule")
    }
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
    /// Applies to the messages of the client only.
    close_rule: CloseRule,
}

impl Tap {
    /// Returns the observers of both directions of a connection: from the client, and to it.
    pub(super) fn pair(
        connection: usize,
        to: Option<UnboundedSender<TappedPacket>>,
        close_rule: &CloseRule,
    ) -> [Self; 2] {
        let version = Arc::<OnceLock<Version>>::default();
        [Side::Client, Side::Target].map(|from| Self {
            connection,
            from,
            version: Arc::clone(&version),
            received: BytesMut::new(),
            to: to.clone(),
            close_rule: close_rule.clone(),
        })
    }

    /// Observes the next bytes. Returns how many of them to forward before the connection is closed, or `None`
    /// if it stays open.
    pub(super) fn observe(&mut self, bytes: &[u8]) -> Option<usize> {
        self.to.as_ref()?;
        self.received.extend_from_slice(bytes);
        match self.parse() {
            Ok(None) => None,
            // A packet that began with earlier bytes stays incomplete.
            Ok(Some(unparsed)) => Some(bytes.len().saturating_sub(unparsed)),
            Err(Unreadable) => {
                self.to = None;
                self.received = BytesMut::new();
                None
            }
        }
    }

    /// Parses the received bytes up to the end, or up to a message that closes the connection. Returns how many
    /// bytes were not parsed in the latter case.
    fn parse(&mut self) -> Result<Option<usize>, Unreadable> {
        let to = self.to.clone().ok_or(Unreadable)?;
        if self.version.get().is_none() && self.received.first() != Some(&CONNECT) {
            return Err(Unreadable);
        }
        loop {
            let version = self.version.get().copied().unwrap_or_default();
            let unparsed = self.received.len();
            let packet = take_packet(version, &mut self.received).map_err(|_| Unreadable)?;
            let Some(packet) = packet else { return Ok(None) };
            let closes = match (self.from, &packet) {
                (Side::Client, Packet::Publish(publish)) => self.close_rule.matches(publish),
                _ => false,
            };
            // Each side numbers its own messages, so an answer belongs to a message of the other side.
            let what = match (self.from, packet) {
                (Side::Client, Packet::Connect(connect)) => {
                    let _known = self.version.set(connect.version);
                    None
                }
                (Side::Client, Packet::Publish(publish)) if publish.is_event() => {
                    Some(PacketKind::Event(publish))
                }
                (Side::Client, Packet::PubRel { packet_id }) => Some(PacketKind::Released(packet_id)),
                (Side::Target, Packet::Answer { kind: PUBREC, packet_id }) => {
                    Some(PacketKind::Received(packet_id))
                }
                (Side::Target, Packet::Answer { kind: PUBACK | PUBCOMP, packet_id }) => {
                    Some(PacketKind::Settled(packet_id))
                }
                _ => None,
            };
            if let Some(what) = what {
                // The receiver may have been dropped.
                let _gone = to.send(TappedPacket { connection: self.connection, what });
            }
            if closes {
                return Ok(Some(unparsed));
            }
        }
    }
}

/// The bytes are not MQTT.
struct Unreadable;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_of_the_client_does_not_settle_its_own_message_with_the_same_id() {
        let connect = [CONNECT, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 0];
        let puback = [PUBACK << 4, 2, 0, 7];
        let (to, mut passed) = tokio::sync::mpsc::unbounded_channel();
        let [mut client, mut target] = Tap::pair(1, Some(to), &CloseRule::default());
        assert_eq!((client.observe(&connect), client.observe(&puback)), (None, None));
        assert!(passed.try_recv().is_err());
        assert_eq!(target.observe(&puback), None);
        assert!(matches!(
            passed.try_recv(),
            Ok(TappedPacket { connection: 1, what: PacketKind::Settled(7) })
        ));
    }

    #[test]
    fn what_precedes_a_message_that_closes_the_connection_is_forwarded() {
        let connect = [CONNECT, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 0];
        let good = [0x30, 4, 0, 1, b'a', b'x'];
        let bad = [0x30, 4, 0, 1, b'b', b'x'];
        let rule = CloseRule::default();
        rule.set(Some(Box::new(|publish| publish.topic == "b")));
        let (to, _passed) = tokio::sync::mpsc::unbounded_channel();
        let [mut client, _] = Tap::pair(1, Some(to), &rule);
        assert_eq!(client.observe(&connect), None);
        assert_eq!(client.observe(&[good, bad, good].concat()), Some(good.len()));
        let [mut client, _] = Tap::pair(2, client.to.take(), &rule);
        assert_eq!(client.observe(&connect), None);
        assert_eq!(client.observe(&bad[..3]), None);
        assert_eq!(client.observe(&bad[3..]), Some(0), "the rest of it is not forwarded");
    }
}
