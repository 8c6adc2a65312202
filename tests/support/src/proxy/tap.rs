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

/// The observer of one direction of a connection.
#[derive(Debug)]
pub(super) struct Tap {
    connection: usize,
    version: Arc<OnceLock<Version>>,
    received: BytesMut,
    /// `None` if this direction is not (or no longer) observed.
    to: Option<UnboundedSender<TappedPacket>>,
    /// Applies to the messages of the client only.
    close_rule: Option<CloseRule>,
}

impl Tap {
    /// Returns the observers of both directions of a connection: from the client, and to it.
    pub(super) fn pair(
        connection: usize,
        to: Option<UnboundedSender<TappedPacket>>,
        close_rule: &CloseRule,
    ) -> [Self; 2] {
        let version = Arc::<OnceLock<Version>>::default();
        let tap = |close_rule| Self {
            connection,
            version: Arc::clone(&version),
            received: BytesMut::new(),
            to: to.clone(),
            close_rule,
        };
        [tap(Some(close_rule.clone())), tap(None)]
    }

    /// Observes the next bytes. Returns how many of them to forward before the connection is closed, or `None`
    /// if it is not to be closed.
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
            let closes = match (&packet, &self.close_rule) {
                (Some(Packet::Publish(publish)), Some(rule)) => rule.matches(publish),
                _ => false,
            };
            let what = match packet {
                None => return Ok(None),
                Some(Packet::Connect(connect)) => {
                    let _known = self.version.set(connect.version);
                    continue;
                }
                Some(Packet::Publish(publish)) if publish.is_event() => Some(PacketKind::Event(publish)),
                Some(Packet::Answer { kind: PUBREC, packet_id }) => Some(PacketKind::Received(packet_id)),
                Some(Packet::PubRel { packet_id }) => Some(PacketKind::Released(packet_id)),
                Some(Packet::Answer { kind: PUBACK | PUBCOMP, packet_id }) => {
                    Some(PacketKind::Settled(packet_id))
                }
                Some(_) => None,
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
