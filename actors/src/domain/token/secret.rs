//! Generates tokens, and computes the hashes that are stored.

use std::fmt;

use rand::{
    TryRng,
    rngs::{SysError, SysRng},
};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use serde::Serialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::domain::hex;

/// 256 random bits cannot be guessed, so a plain hash reveals nothing about them.
const RANDOM_BYTES: usize = 32;
/// Identifies a leaked token as a token of liveobject.
const PREFIX: &str = "lo_";
const MAX_NAME: usize = 64;

/// The SHA-256 of a token, by which the service recognizes it.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Computes the hash of a token that a caller presents.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Restores a stored hash. Returns `None` unless there are 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Returns the bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Compares in constant time.
impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// The name of a token: 1–64 characters of `A-Z a-z 0-9 . _ -`, the first one alphanumeric.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct TokenName(String);

impl TokenName {
    /// Parses a name. The error describes what is wrong with it.
    pub fn parse(text: impl Into<String>) -> Result<Self, String> {
        let text = text.into();
        let is_permitted = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        if !(1..=MAX_NAME).contains(&text.len()) {
            return Err(format!("{} characters, must have 1 to {MAX_NAME}", text.chars().count()));
        }
        if !text.bytes().all(is_permitted) || !text.as_bytes()[0].is_ascii_alphanumeric() {
            return Err(
                "may contain only A-Z a-z 0-9 . _ - and must start with a letter or a digit".to_owned()
            );
        }
        Ok(Self(text))
    }

    /// Returns the name as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Generates a token. Returns it with the hash to store.
pub(crate) fn generate() -> Result<(SecretString, TokenHash), SysError> {
    let mut bytes = Zeroizing::new([0_u8; RANDOM_BYTES]);
    SysRng.try_fill_bytes(bytes.as_mut_slice())?;
    let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 2 * RANDOM_BYTES));
    text.push_str(PREFIX);
    hex::push(&mut text, bytes.as_slice());
    let secret = SecretString::from(text.as_str());
    let hash = TokenHash::of(secret.expose_secret());
    Ok((secret, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tokens_differ_and_each_is_recognized_by_its_hash() {
        let ((one, one_hash), (_, other_hash)) = (generate().unwrap(), generate().unwrap());
        assert_eq!(one.expose_secret().len(), 67);
        assert!(one.expose_secret().starts_with("lo_"));
        assert!(TokenHash::of(one.expose_secret()) == one_hash && one_hash != other_hash);
        assert!(!format!("{one:?} {one_hash:?}").contains(&one.expose_secret()[3..]));
    }

    #[test]
    fn names_can_be_used_in_a_path_and_in_a_command() {
        for good in ["a", "classifier-2", "Front.Door_1", &"x".repeat(64)] {
            assert_eq!(TokenName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", ".", "a b", "a/b", "ä", "a\n", &"x".repeat(65)] {
            assert!(TokenName::parse(bad).is_err(), "{bad}");
        }
    }
}
