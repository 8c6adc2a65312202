//! The key that links to pictures are signed with.

use std::sync::Arc;

use rand::{
    TryRng as _,
    rngs::{SysError, SysRng},
};
use secrecy::{ExposeSecret as _, ExposeSecretMut as _, SecretBox};

/// Length of the key in bytes.
pub const LINK_KEY_BYTES: usize = 32;

/// The secret key that signs links. It is not printed, and is wiped when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct LinkKey(Arc<SecretBox<[u8; LINK_KEY_BYTES]>>);

impl LinkKey {
    /// Generates a random key. Fails if the system provides no random numbers.
    pub fn generate() -> Result<Self, SysError> {
        let mut key = SecretBox::new(Box::new([0; LINK_KEY_BYTES]));
        SysRng.try_fill_bytes(key.expose_secret_mut())?;
        Ok(Self(Arc::new(key)))
    }

    /// Parses a key of 64 hexadecimal digits. White space around it is ignored. The error does not repeat it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let invalid = || {
            format!(
                "must be {} hexadecimal digits (`openssl rand -hex {LINK_KEY_BYTES}`)",
                2 * LINK_KEY_BYTES
            )
        };
        let digits = text.trim();
        if digits.len() != 2 * LINK_KEY_BYTES || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(invalid());
        }
        let mut key = SecretBox::new(Box::new([0; LINK_KEY_BYTES]));
        for (i, byte) in key.expose_secret_mut().iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).map_err(|_| invalid())?;
        }
        Ok(Self(Arc::new(key)))
    }

    /// Wraps a key that was stored.
    pub(crate) fn from_bytes(bytes: [u8; LINK_KEY_BYTES]) -> Self {
        Self(Arc::new(SecretBox::new(Box::new(bytes))))
    }

    pub(crate) fn expose(&self) -> &[u8; LINK_KEY_BYTES] {
        self.0.expose_secret()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_parsed_from_hexadecimal_digits() {
        let key = LinkKey::parse(&format!(" 00ff{}\n", "0A".repeat(30))).unwrap();
        assert_eq!(key.expose()[..3], [0, 0xff, 0x0a]);
        for invalid in ["", "00", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"é".repeat(32)] {
            let error = LinkKey::parse(invalid).unwrap_err();
            assert!(error.starts_with("must be 64 hexadecimal digits"), "{error}");
        }
    }

    #[test]
    fn the_key_is_not_printed() {
        let key = LinkKey::from_bytes([0xab; LINK_KEY_BYTES]);
        let text = format!("{key:?}");
        assert!(!text.contains("171") && !text.contains("ab, "), "{text}");
    }
}
