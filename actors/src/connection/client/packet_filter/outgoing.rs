//! The packets to the broker, as far as the filter must understand them: the packet ids of published messages.

const PUBLISH: u8 = 0x30;

#[derive(Debug, Clone, Copy, Default)]
enum State {
    /// At the beginning of a packet.
    #[default]
    Start,
    /// In the *remaining length* of a packet with this first byte.
    Length { first: u8, value: usize, shift: u32 },
    /// In the length of the topic of a message with a packet id.
    Topic { remaining: usize, high: Option<u8> },
    /// In the topic.
    SkipTopic { remaining: usize, topic: usize },
    /// In the packet id.
    PacketId { remaining: usize, high: Option<u8> },
    /// In the rest of the packet.
    Skip { remaining: usize },
}

/// A parser that follows the packets in a stream of bytes. The work is per packet, not per byte.
#[derive(Debug, Default)]
pub struct Outgoing(State);

impl Outgoing {
    /// Examines the next bytes, and calls `published` with the packet id of each message in them.
    pub fn written(&mut self, mut bytes: &[u8], mut published: impl FnMut(u16)) {
        while let Some((&byte, rest)) = bytes.split_first() {
            let mut used = 1;
            self.0 = match self.0 {
                State::Start => State::Length { first: byte, value: 0, shift: 0 },
                State::Length { first, value, shift } => {
                    let value = value | usize::from(byte & 0x7F) << shift;
                    let has_packet_id = first & 0xF0 == PUBLISH && first & 0x06 != 0;
                    match (byte & 0x80 != 0, has_packet_id) {
                        (true, _) if shift < 21 => State::Length { first, value, shift: shift + 7 },
                        (_, true) => State::Topic { remaining: value, high: None },
                        _ => State::skip(value),
                    }
                }
                State::Topic { remaining, high: None } => {
                    State::Topic { remaining: remaining.saturating_sub(1), high: Some(byte) }
                }
                State::Topic { remaining, high: Some(high) } => {
                    State::skip_topic(remaining.saturating_sub(1), u16::from_be_bytes([high, byte]).into())
                }
                State::SkipTopic { remaining, topic } => {
                    used = topic.min(bytes.len());
                    State::skip_topic(remaining.saturating_sub(used), topic - used)
                }
                State::PacketId { remaining, high: None } => {
                    State::PacketId { remaining: remaining.saturating_sub(1), high: Some(byte) }
                }
                State::PacketId { remaining, high: Some(high) } => {
                    published(u16::from_be_bytes([high, byte]));
                    State::skip(remaining.saturating_sub(1))
                }
                State::Skip { remaining } => {
                    used = remaining.min(bytes.len());
                    State::skip(remaining - used)
                }
            };
            bytes = if used == 1 { rest } else { &bytes[used..] };
        }
    }
}

impl State {
    fn skip(remaining: usize) -> Self {
        if remaining == 0 { Self::Start } else { Self::Skip { remaining } }
    }

    fn skip_topic(remaining: usize, topic: usize) -> Self {
        if topic == 0 {
            Self::PacketId { remaining, high: None }
        } else {
            Self::SkipTopic { remaining, topic }
        }
    }
}
