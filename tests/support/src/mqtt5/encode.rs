//! Encodes packets as bytes.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Connect, Publish, Version};

/// The broker's response to CONNECT: its limits, or the reason for a refusal.
#[derive(Clone, Debug, Default)]
pub struct ConnAck {
    /// 0: accepted; 0x80 and above: refused, such as 0x86 (bad user name or password).
    pub reason: u8,
    /// Whether the broker claims to have kept the client's session.
    pub session_present: bool,
    /// The maximum number of unacknowledged messages that the broker accepts.
    pub receive_maximum: Option<u16>,
    /// The largest packet that the broker accepts, in bytes.
    pub maximum_packet_size: Option<u32>,
    /// 0 or 1; if absent, 2.
    pub maximum_qos: Option<u8>,
    /// Whether the broker supports retained messages; if absent, it does.
    pub retain_available: Option<bool>,
    /// The keep alive that the client must use, in seconds.
    pub server_keep_alive: Option<u16>,
    /// The client id that the broker assigns to a client without one.
    pub assigned_client_id: Option<String>,
    /// A description of the reason.
    pub reason_string: Option<String>,
}

/// Encodes packets of a protocol version. With 3.1.1, everything specific to MQTT 5 is omitted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Encoder(pub Version);

impl Encoder {
    /// Encodes a CONNACK.
    #[must_use]
    pub fn connack(self, answer: &ConnAck) -> Bytes {
        let mut properties = BytesMut::new();
        if let Some(messages) = answer.receive_maximum {
            properties.put_u8(0x21);
            properties.put_u16(messages);
        }
        if let Some(bytes) = answer.maximum_packet_size {
            properties.put_u8(0x27);
            properties.put_u32(bytes);
        }
        if let Some(qos) = answer.maximum_qos {
            properties.put_slice(&[0x24, qos]);
        }
        if let Some(available) = answer.retain_available {
            properties.put_slice(&[0x25, available.into()]);
        }
        if let Some(seconds) = answer.server_keep_alive {
            properties.put_u8(0x13);
            properties.put_u16(seconds);
        }
        if let Some(id) = &answer.assigned_client_id {
            properties.put_u8(0x12);
            put_text(&mut properties, id);
        }
        if let Some(text) = &answer.reason_string {
            properties.put_u8(0x1f);
            put_text(&mut properties, text);
        }
        let mut body = BytesMut::new();
        body.put_slice(&[answer.session_present.into(), answer.reason]);
        self.put_properties(&mut body, &properties);
        packet(0x20, &body)
    }

    /// Encodes a CONNECT in the client's own version. A will has no properties.
    #[must_use]
    pub fn connect(connect: &Connect) -> Bytes {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let mut body = BytesMut::new();
        put_text(&mut body, "MQTT");
        body.put_u8(if connect.version == Version::V5 { 5 } else { 4 });
        body.put_u8(
            flag(connect.clean_start, 0x02)
                | connect.will.as_ref().map_or(0, |will| 0x04 | will.qos << 3 | flag(will.retain, 0x20))
                | flag(connect.username.is_some(), 0x80)
                | flag(connect.password.is_some(), 0x40),
        );
        body.put_u16(connect.keep_alive);
        let mut properties = BytesMut::new();
        if let Some(seconds) = connect.session_expiry {
            properties.put_u8(0x11);
            properties.put_u32(seconds);
        }
        if let Some(messages) = connect.receive_maximum {
            properties.put_u8(0x21);
            properties.put_u16(messages);
        }
        Self(connect.version).put_properties(&mut body, &properties);
        put_text(&mut body, &connect.client_id);
        if let Some(will) = &connect.will {
            Self(connect.version).put_properties(&mut body, &[]);
            put_text(&mut body, &will.topic);
            put_binary(&mut body, &will.payload);
        }
        if let Some(username) = &connect.username {
            put_text(&mut body, username);
        }
        if let Some(password) = &connect.password {
            put_binary(&mut body, password);
        }
        packet(0x10, &body)
    }

    /// Encodes a SUBSCRIBE to each filter with the same QoS.
    #[must_use]
    pub fn subscribe(self, packet_id: u16, filters: &[String], qos: u8) -> Bytes {
        let mut body = BytesMut::new();
        body.put_u16(packet_id);
        self.put_properties(&mut body, &[]);
        for filter in filters {
            put_text(&mut body, filter);
            body.put_u8(qos);
        }
        packet(0x82, &body)
    }

    /// Encodes a PINGREQ.
    #[must_use]
    pub fn pingreq() -> Bytes {
        packet(0xc0, &[])
    }

    /// Encodes a PUBACK (4), PUBREC (5), PUBREL (6) or PUBCOMP (7) with a reason code.
    #[must_use]
    pub fn answer(self, kind: u8, packet_id: u16, reason: u8) -> Bytes {
        let mut body = BytesMut::new();
        body.put_u16(packet_id);
        if reason != 0 && self.0 == Version::V5 {
            body.put_u8(reason);
        }
        packet(kind << 4 | if kind == 6 { 2 } else { 0 }, &body)
    }

    /// Encodes a SUBACK (9) or UNSUBACK (11) with a reason code for each filter.
    #[must_use]
    pub fn filters_answer(self, kind: u8, packet_id: u16, reasons: &[u8]) -> Bytes {
        let mut body = BytesMut::new();
        body.put_u16(packet_id);
        self.put_properties(&mut body, &[]);
        if kind == 9 || self.0 == Version::V5 {
            body.put_slice(reasons);
        }
        packet(kind << 4, &body)
    }

    /// Encodes a PUBLISH without properties.
    #[must_use]
    pub fn publish(self, message: &Publish) -> Bytes {
        let mut body = BytesMut::new();
        put_text(&mut body, &message.topic);
        if message.qos > 0 {
            body.put_u16(message.packet_id);
        }
        self.put_properties(&mut body, &[]);
        body.put_slice(&message.payload);
        let flags = u8::from(message.dup) << 3 | message.qos << 1 | u8::from(message.retain);
        packet(0x30 | flags, &body)
    }

    /// Encodes a PINGRESP.
    #[must_use]
    pub fn pingresp() -> Bytes {
        packet(0xd0, &[])
    }

    /// Encodes a DISCONNECT with a reason code, such as 0x8E (session taken over). With MQTT 3.1.1 only
    /// clients may send one.
    #[must_use]
    pub fn disconnect(self, reason: u8) -> Bytes {
        let body: &[u8] = if self.0 == Version::V5 { &[reason, 0] } else { &[] };
        packet(0xe0, body)
    }

    fn put_properties(self, into: &mut BytesMut, properties: &[u8]) {
        if self.0 == Version::V5 {
            put_variable(into, properties.len());
            into.put_slice(properties);
        }
    }
}

fn packet(first: u8, body: &[u8]) -> Bytes {
    let mut packet = BytesMut::with_capacity(body.len() + 5);
    packet.put_u8(first);
    put_variable(&mut packet, body.len());
    packet.put_slice(body);
    packet.freeze()
}

fn put_text(into: &mut BytesMut, text: &str) {
    put_binary(into, text.as_bytes());
}

fn put_binary(into: &mut BytesMut, bytes: &[u8]) {
    into.put_u16(u16::try_from(bytes.len()).expect("at most 65535 bytes"));
    into.put_slice(bytes);
}

fn put_variable(into: &mut BytesMut, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits");
        value >>= 7;
        if value == 0 {
            return into.put_u8(low);
        }
        into.put_u8(low | 0x80);
    }
}
