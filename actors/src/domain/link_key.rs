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
    fn the_key_is_not_printed() {
        let key = LinkKey::from_bytes([0xab; LINK_KEY_BYTES]);
        let text = format!("{key:?}");
        assert!(!text.contains("171") && !text.contains("ab, "), "{text}");
    }
}
