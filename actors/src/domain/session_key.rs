//! The key that the page's sessions are signed with, as several nodes share it.

use std::sync::Arc;

use rand::{
    TryRng as _,
    rngs::{SysError, SysRng},
};
use secrecy::{ExposeSecret as _, ExposeSecretMut as _, SecretBox};

/// The secret key that signs sessions. It is not printed, and is wiped when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct SessionKey(Arc<SecretBox<[u8; 32]>>);

impl SessionKey {
    /// Generates a random key. Fails if the system provides no random numbers.
    pub fn generate() -> Result<Self, SysError> {
        let mut key = SecretBox::new(Box::new([0; 32]));
        SysRng.try_fill_bytes(key.expose_secret_mut())?;
        Ok(Self(Arc::new(key)))
    }

    /// Wraps a key that was stored.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Arc::new(SecretBox::new(Box::new(bytes))))
    }

    /// Returns the key in plain text.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose_secret()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_random_and_not_printed() {
        assert_ne!(SessionKey::generate().unwrap().expose(), SessionKey::generate().unwrap().expose());
        let text = format!("{:?}", SessionKey::from_bytes([0xab; 32]));
        assert!(!text.contains("171") && !text.contains("ab, "), "{text}");
    }
}
