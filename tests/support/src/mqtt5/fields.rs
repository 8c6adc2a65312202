//! Reads the fields of MQTT packets in sequence.

use std::io;

use bytes::{Buf, Bytes};

use super::Version;

/// The unread part of a packet's body.
pub(super) struct Fields {
    pub(super) version: Version,
    pub(super) left: Bytes,
}

/// The properties that tests need; all others are skipped.
#[derive(Default)]
pub(super) struct Properties {
    pub(super) message_expiry: Option<u32>,
    pub(super) session_expiry: Option<u32>,
    pub(super) receive_maximum: Option<u16>,
}

pub(super) fn invalid(fault: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault.into())
}

impl Fields {
    pub(super) fn u8(&mut self) -> io::Result<u8> {
        self.left.try_get_u8().map_err(short)
    }

    pub(super) fn u16(&mut self) -> io::Result<u16> {
        self.left.try_get_u16().map_err(short)
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.left.try_get_u32().map_err(short)
    }

    pub(super) fn binary(&mut self) -> io::Result<Bytes> {
        let length = self.u16()?;
        self.take(length.into())
    }

    pub(super) fn text(&mut self) -> io::Result<String> {
        String::from_utf8(self.binary()?.into()).map_err(|_| invalid("a string that is not UTF-8"))
    }

    pub(super) fn rest(&mut self) -> Bytes {
        self.left.split_to(self.left.len())
    }

    /// Reads the properties; MQTT 3.1.1 has none.
    pub(super) fn properties(&mut self) -> io::Result<Properties> {
        if self.version == Version::V311 {
            return Ok(Properties::default());
        }
        let length = self.variable()?;
        let mut fields = Self { version: self.version, left: self.take(length)? };
        let mut properties = Properties::default();
        while fields.left.has_remaining() {
            fields.property(&mut properties)?;
        }
        Ok(properties)
    }

    fn property(&mut self, into: &mut Properties) -> io::Result<()> {
        match self.u8()? {
            0x02 => into.message_expiry = Some(self.u32()?),
            0x11 => into.session_expiry = Some(self.u32()?),
            0x21 => into.receive_maximum = Some(self.u16()?),
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2a => drop(self.u8()?),
            0x13 | 0x22 | 0x23 => drop(self.u16()?),
            0x18 | 0x27 => drop(self.u32()?),
            0x0b => drop(self.variable()?),
            0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => drop(self.binary()?),
            0x26 => drop((self.text()?, self.text()?)),
            id => return Err(invalid(format!("property {id:#x}"))),
        }
        Ok(())
    }

    fn variable(&mut self) -> io::Result<usize> {
        let mut value = 0;
        for position in 0..4 {
            let byte = self.u8()?;
            value |= usize::from(byte & 0x7f) << (7 * position);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(invalid("a length of more than four bytes"))
    }

    fn take(&mut self, length: usize) -> io::Result<Bytes> {
        if length > self.left.len() {
            return Err(invalid("a packet that ends too early"));
        }
        Ok(self.left.split_to(length))
    }
}

fn short(_: bytes::TryGetError) -> io::Error {
    invalid("a packet that ends too early")
}
