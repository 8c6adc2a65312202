//! The packets from the broker, as far as the filter must understand them.

use crate::domain::mqtt_version::Version;

/// A reason code of DISCONNECT that Mosquitto also uses in PUBACK.
pub const PACKET_TOO_LARGE: u8 = 0x95;

const UNSPECIFIED_ERROR: u8 = 0x80;

/// Acknowledgements and DISCONNECTs above this length are left to the client, which refuses them.
const MAX_EXAMINED: usize = 64 * 1024;

/// Maximum length of the fixed header (section 2.1.4).
const MAX_HEADER: usize = 5;

/// A packet that is examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet {
    PubAck { id: u16, reason: u8 },
    PubRec { id: u16, reason: u8 },
    PubComp { id: u16 },
    Disconnect { reason: Option<u8> },
}

/// The first packet of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed.
    Incomplete,
    /// A packet of this length that is examined.
    Packet { packet: Packet, length: usize },
    /// A packet of this length that is not examined; `usize::MAX` if the bytes are not MQTT.
    Other { length: usize },
}

/// Examines the first packet of a buffer.
pub fn parse(bytes: &[u8], version: Version) -> Parsed {
    let Some(&first) = bytes.first() else { return Parsed::Incomplete };
    let (header, remaining) = match remaining_length(&bytes[1..bytes.len().min(MAX_HEADER)]) {
        Length::Known { bytes, value } => (1 + bytes, value),
        Length::Incomplete => return Parsed::Incomplete,
        Length::Malformed => return Parsed::Other { length: usize::MAX },
    };
    let length = header + remaining;
    let is_examined = matches!(first, 0x40 | 0x50 | 0x70) || (first == 0xE0 && version == Version::V5);
    if !is_examined || length > MAX_EXAMINED {
        return Parsed::Other { length };
    }
    let Some(body) = bytes.get(header..length) else { return Parsed::Incomplete };
    let packet = match (first, body) {
        (0xE0, body) => Packet::Disconnect { reason: body.first().copied() },
        (_, [high, low, rest @ ..]) => {
            let (id, reason) = (u16::from_be_bytes([*high, *low]), rest.first().copied().unwrap_or(0));
            match first {
                0x40 => Packet::PubAck { id, reason },
                0x50 => Packet::PubRec { id, reason },
                _ => Packet::PubComp { id },
            }
        }
        _ => return Parsed::Other { length },
    };
    Parsed::Packet { packet, length }
}

/// A *remaining length*, decoded from the bytes after the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Known { bytes: usize, value: usize },
    Incomplete,
    Malformed,
}

fn remaining_length(bytes: &[u8]) -> Length {
    let mut value = 0;
    for (i, byte) in bytes.iter().enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            return Length::Known { bytes: i + 1, value };
        }
    }
    if bytes.len() == MAX_HEADER - 1 { Length::Malformed } else { Length::Incomplete }
}

/// Returns the reason code to use instead of one that MQTT 5 does not define for PUBACK and PUBREC.
pub fn defined_answer(reason: u8) -> Option<u8> {
    match reason {
        0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99 => None,
        0x01..=0x7F => Some(0),
        _ => Some(UNSPECIFIED_ERROR),
    }
}

/// Returns the reason code, or *unspecified error* if MQTT 5 does not define it for DISCONNECT.
pub fn defined_disconnect(reason: u8) -> u8 {
    match reason {
        0x00 | 0x04 | 0x80..=0x83 | 0x87 | 0x89 | 0x8B | 0x8D..=0x90 | 0x93..=0xA2 => reason,
        _ => UNSPECIFIED_ERROR,
    }
}

/// Replaces the reason code of a PUBACK or PUBREC, if it has one.
pub fn set_reason(packet: &mut [u8], reason: u8) {
    let header = packet.iter().skip(1).position(|byte| byte & 0x80 == 0).map_or(0, |last| last + 2);
    if let Some(byte) = packet.get_mut(header + 2) {
        *byte = reason;
    }
}

/// Replaces the reason code of a DISCONNECT, if it has one.
pub fn set_disconnect_reason(packet: &mut [u8], reason: u8) {
    let header = packet.iter().skip(1).position(|byte| byte & 0x80 == 0).map_or(0, |last| last + 2);
    if let Some(byte) = packet.get_mut(header) {
        *byte = reason;
    }
}
