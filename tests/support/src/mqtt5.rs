//! The parts of MQTT 5 and 3.1.1 that the scripted broker and the subscriber need. They are implemented
//! independently of any client library, so that a bug in the library under test is not repeated here. Errors
//! describe what is wrong with the received bytes.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

mod encode;
mod fields;

pub use encode::{ConnAck, Encoder};
use fields::{Fields, invalid};

/// A protocol version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1: no properties, no reason codes.
    V311,
    /// MQTT 5.
    #[default]
    V5,
}

/// A packet, with the fields that tests need.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet {
    /// CONNECT.
    Connect(Connect),
    /// PUBLISH.
    Publish(Publish),
    /// PUBACK, PUBREC or PUBCOMP: the reply to a packet from the other side.
    Answer {
        /// The packet type, 4, 5 or 7.
        kind: u8,
        /// The packet id.
        packet_id: u16,
    },
    /// CONNACK, without its properties.
    ConnAck {
        /// Whether the broker has kept the session.
        session_present: bool,
        /// 0 if the connection is accepted.
        reason: u8,
    },
    /// SUBACK.
    SubAck {
        /// The granted QoS, or a failure code, for each filter.
        reasons: Bytes,
    },
    /// PINGRESP.
    PingResp,
    /// PUBREL.
    PubRel {
        /// The packet id.
        packet_id: u16,
    },
    /// SUBSCRIBE: packet id, then each filter with the requested QoS.
    Subscribe(u16, Vec<(String, u8)>),
    /// UNSUBSCRIBE: packet id and number of filters.
    Unsubscribe(u16, usize),
    /// PINGREQ.
    PingReq,
    /// DISCONNECT with its reason code (0: normal, 4: with will).
    Disconnect(u8),
}

/// The contents of a CONNECT packet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Connect {
    /// The version that the client speaks.
    pub version: Version,
    /// The client id; empty if the broker should assign one.
    pub client_id: String,
    /// Whether to discard an earlier session.
    pub clean_start: bool,
    /// Keep alive, in seconds.
    pub keep_alive: u16,
    /// How long to keep the session after the connection ends, in seconds.
    pub session_expiry: Option<u32>,
    /// The maximum number of unacknowledged messages that the client accepts.
    pub receive_maximum: Option<u16>,
    /// The user name.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Bytes>,
    /// The last will.
    pub will: Option<Will>,
}

/// A last will.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Will {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Bytes,
    /// Its QoS.
    pub qos: u8,
    /// Whether to retain it.
    pub retain: bool,
}

/// Returns whether detection events are published to this topic, live or late. The connection test publishes to
/// the topics of a camera that cannot exist.
#[must_use]
pub fn is_event_topic(topic: &str) -> bool {
    (topic.ends_with("/event") || topic.ends_with("/history")) && !topic.contains("/~test/")
}

/// A PUBLISH packet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Publish {
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Whether to retain it.
    pub retain: bool,
    /// Whether the sender marks it as a possible duplicate.
    pub dup: bool,
    /// The packet id; 0 with QoS 0.
    pub packet_id: u16,
    /// Message Expiry Interval in seconds, if present.
    pub message_expiry: Option<u32>,
    /// Size of the whole packet in bytes.
    pub packet_size: usize,
}

impl Publish {
    /// Returns whether this is a detection event, live or late.
    #[must_use]
    pub fn is_event(&self) -> bool {
        is_event_topic(&self.topic)
    }
}

/// Reads one packet of this version (a CONNECT of any version). Returns `None` if the other side has closed
/// the connection between two packets.
///
/// # Errors
///
/// Returns an error if the connection fails, or if the other side violates the protocol.
pub async fn read_packet(
    version: Version,
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<Packet>> {
    let mut first = [0];
    if from.read(&mut first).await? == 0 {
        return Ok(None);
    }
    let (length, prefix) = read_length(from).await?;
    let mut body = vec![0; length];
    from.read_exact(&mut body).await?;
    let body = Fields { version, left: Bytes::from(body) };
    parse(first[0], body, 1 + prefix + length).map(Some)
}

async fn read_length(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(usize, usize)> {
    let mut length = 0;
    for position in 0..4 {
        let byte = from.read_u8().await?;
        length |= usize::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return Ok((length, position + 1));
        }
    }
    Err(invalid("a remaining length of more than four bytes"))
}

/// Removes one packet from the front of the received bytes. Returns `None` if it is not complete yet.
///
/// # Errors
///
/// Returns an error if the bytes violate the protocol.
pub fn take_packet(version: Version, received: &mut BytesMut) -> io::Result<Option<Packet>> {
    let (mut length, mut prefix) = (0, 0);
    loop {
        let Some(byte) = received.get(1 + prefix) else { return Ok(None) };
        length |= usize::from(byte & 0x7f) << (7 * prefix);
        prefix += 1;
        if byte & 0x80 == 0 {
            break;
        }
        if prefix == 4 {
            return Err(invalid("a remaining length of more than four bytes"));
        }
    }
    if received.len() < 1 + prefix + length {
        return Ok(None);
    }
    let first = received[0];
    let mut packet = received.split_to(1 + prefix + length).freeze();
    packet.advance(1 + prefix);
    parse(first, Fields { version, left: packet }, 1 + prefix + length).map(Some)
}

fn parse(first: u8, mut body: Fields, packet_size: usize) -> io::Result<Packet> {
    let flags = first & 0x0f;
    let packet = match first >> 4 {
        1 => Packet::Connect(connect(&mut body)?),
        2 => Packet::ConnAck { session_present: body.u8()? & 1 != 0, reason: body.u8()? },
        3 => Packet::Publish(publish(flags, &mut body, packet_size)?),
        kind @ (4 | 5 | 7) => Packet::Answer { kind, packet_id: body.u16()? },
        6 if flags == 2 => Packet::PubRel { packet_id: body.u16()? },
        8 if flags == 2 => subscribe(&mut body)?,
        9 => {
            body.u16()?;
            body.properties()?;
            Packet::SubAck { reasons: body.rest() }
        }
        10 if flags == 2 => unsubscribe(&mut body)?,
        12 => Packet::PingReq,
        13 => Packet::PingResp,
        14 => Packet::Disconnect(if body.left.is_empty() { 0 } else { body.u8()? }),
        kind => return Err(invalid(format!("packet type {kind} with flags {flags:#x}"))),
    };
    Ok(packet)
}

fn connect(body: &mut Fields) -> io::Result<Connect> {
    body.version = match (body.text()?.as_str(), body.u8()?) {
        ("MQTT", 4) => Version::V311,
        ("MQTT", 5) => Version::V5,
        (name, level) => return Err(invalid(format!("{name:?} {level} is neither MQTT 5 nor 3.1.1"))),
    };
    let flags = body.u8()?;
    let keep_alive = body.u16()?;
    let properties = body.properties()?;
    let client_id = body.text()?;
    let will = if flags & 0x04 != 0 {
        body.properties()?;
        let (topic, payload) = (body.text()?, body.binary()?);
        Some(Will { topic, payload, qos: flags >> 3 & 3, retain: flags & 0x20 != 0 })
    } else {
        None
    };
    Ok(Connect {
        version: body.version,
        client_id,
        clean_start: flags & 0x02 != 0,
        keep_alive,
        session_expiry: properties.session_expiry,
        receive_maximum: properties.receive_maximum,
        username: (flags & 0x80 != 0).then(|| body.text()).transpose()?,
        password: (flags & 0x40 != 0).then(|| body.binary()).transpose()?,
        will,
    })
}

fn publish(flags: u8, body: &mut Fields, packet_size: usize) -> io::Result<Publish> {
    let qos = flags >> 1 & 3;
    if qos == 3 {
        return Err(invalid("QoS 3"));
    }
    let topic = body.text()?;
    let packet_id = if qos == 0 { 0 } else { body.u16()? };
    if qos > 0 && packet_id == 0 {
        return Err(invalid("packet id 0"));
    }
    let properties = body.properties()?;
    Ok(Publish {
        topic,
        payload: body.rest(),
        qos,
        retain: flags & 1 != 0,
        dup: flags & 8 != 0,
        packet_id,
        message_expiry: properties.message_expiry,
        packet_size,
    })
}

fn subscribe(body: &mut Fields) -> io::Result<Packet> {
    let packet_id = body.u16()?;
    body.properties()?;
    let mut filters = Vec::new();
    while body.left.has_remaining() {
        filters.push((body.text()?, body.u8()? & 3));
    }
    Ok(Packet::Subscribe(packet_id, filters))
}

fn unsubscribe(body: &mut Fields) -> io::Result<Packet> {
    let packet_id = body.u16()?;
    body.properties()?;
    let mut filters = 0;
    while body.left.has_remaining() {
        body.text()?;
        filters += 1;
    }
    Ok(Packet::Unsubscribe(packet_id, filters))
}
