//! The age identity (X25519) that the secrets in the database are encrypted with.
//!
//! Ciphertexts are ordinary age files: `age --decrypt -i identity.age` decrypts them. Plaintext exists only
//! in buffers that are wiped. These buffers never grow, because growing would leave a copy of the old bytes
//! behind.

use std::{
    collections::BTreeSet,
    fmt,
    io::{Read, Write as _},
    iter, str,
};

use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};

/// A key pair that encrypts and decrypts. Its debug output contains only the public key.
#[derive(Clone)]
pub struct Identity(age::x25519::Identity);

/// Why a ciphertext could not be decrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    /// It was encrypted with another identity.
    #[error("it was encrypted with another identity")]
    OtherIdentity,
    /// Its bytes were changed.
    #[error("its ciphertext is damaged")]
    Damaged,
}

/// What is wrong with the text of an identity file. Never contains the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed {
    /// The number of the line, or 0 for the text as a whole.
    pub line: usize,
    pub what: &'static str,
}

impl Identity {
    /// Generates a new identity.
    pub fn generate() -> Self {
        Self(age::x25519::Identity::generate())
    }

    /// Parses the text of an identity file as `age-keygen` writes it: comments, empty lines and exactly one
    /// key.
    pub(super) fn parse(text: &str) -> Result<Self, Malformed> {
        let mut found = None;
        for (line, content) in (1..).zip(text.lines()) {
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            if content.starts_with("age-encryption.org/") || content.starts_with("-----BEGIN AGE") {
                return Err(Malformed { line, what: "the file itself is encrypted with a passphrase" });
            }
            let key =
                content.parse().map_err(|_| Malformed { line, what: "expected AGE-SECRET-KEY-1…" })?;
            if found.replace(Self(key)).is_some() {
                return Err(Malformed { line, what: "a second key, but only one is allowed" });
            }
        }
        found.ok_or(Malformed { line: 0, what: "there is no line with AGE-SECRET-KEY-1…" })
    }

    /// Returns the text of an identity file.
    pub(super) fn to_text(&self, created: &str) -> Zeroizing<String> {
        let key = self.0.to_string();
        let public = self.0.to_public().to_string();
        let key = key.expose_secret();
        let mut text = Zeroizing::new(String::with_capacity(64 + created.len() + public.len() + key.len()));
        for part in ["# created: ", created, "\n# public key: ", &public, "\n", key, "\n"] {
            text.push_str(part);
        }
        text
    }

    /// Encrypts a secret to this identity and to `others`. The ciphertext is different each time.
    pub fn encrypt(&self, secret: &SecretString, others: &[PublicKey]) -> Result<Vec<u8>, age::EncryptError> {
        let own = self.0.to_public();
        let all = iter::once(&own).chain(others.iter().map(|other| &other.0));
        let encryptor =
            age::Encryptor::with_recipients(all.map(|recipient| recipient as &dyn age::Recipient))?;
        let mut ciphertext = Vec::new();
        let mut writer = encryptor.wrap_output(&mut ciphertext)?;
        writer.write_all(secret.expose_secret().as_bytes())?;
        writer.finish()?;
        Ok(ciphertext)
    }

    /// Decrypts the result of [`encrypt`](Self::encrypt).
    pub fn decrypt(&self, ciphertext: &[u8]) -> Result<SecretString, DecryptError> {
        let reader = age::Decryptor::new_buffered(ciphertext)
            .and_then(|decryptor| decryptor.decrypt(iter::once(&self.0 as &dyn age::Identity)));
        let mut reader = reader.map_err(|error| match error {
            age::DecryptError::NoMatchingKeys => DecryptError::OtherIdentity,
            _ => DecryptError::Damaged,
        })?;
        // The plaintext is shorter than the ciphertext, so the buffer never grows.
        let mut plain = Zeroizing::new(Vec::with_capacity(ciphertext.len()));
        reader.read_to_end(&mut plain).map_err(|_| DecryptError::Damaged)?;
        let text = str::from_utf8(&plain).map_err(|_| DecryptError::Damaged)?;
        Ok(SecretString::from(text))
    }
}

/// An additional recipient of the secrets: a public key (`age1…`). The owner of its private key can decrypt
/// them.
#[derive(Clone)]
pub struct PublicKey(age::x25519::Recipient);

impl PublicKey {
    /// Parses a public key. The error does not contain the text, which may be a private key entered by
    /// mistake.
    pub fn parse(text: &str) -> Result<Self, String> {
        let message = "is not an age public key: expected age1 followed by 58 letters and digits, as printed by \
                       age-keygen";
        text.parse().map(Self).map_err(|_| message.to_owned())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Returns the recipients as the database stores them: sorted, without duplicates, separated by commas.
pub(super) fn recipients_text(recipients: &[PublicKey]) -> String {
    let texts: BTreeSet<_> = recipients.iter().map(ToString::to_string).collect();
    texts.into_iter().collect::<Vec<_>>().join(",")
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.0.to_public().to_string()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYGEN: &str = "# created: 2026-11-23T23:00:00Z\n\
        # public key: age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa\n\
        AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33\n";

    fn fault(text: &str) -> (usize, &'static str) {
        let Malformed { line, what } = Identity::parse(text).unwrap_err();
        (line, what)
    }

    #[test]
    fn a_file_written_by_age_keygen_can_be_parsed() {
        let identity = Identity::parse(KEYGEN).unwrap();
        assert_eq!(*identity.to_text("2026-11-23T23:00:00Z"), KEYGEN);
    }

    #[test]
    fn anything_else_is_rejected_with_the_line_number() {
        assert_eq!(fault("# nothing\n").0, 0);
        assert_eq!(fault("# a\n\nAGE-SECRET-KEY-1AAAA\n"), (3, "expected AGE-SECRET-KEY-1…"));
        assert_eq!(fault(&KEYGEN.repeat(2)), (6, "a second key, but only one is allowed"));
        assert!(fault("age-encryption.org/v1\n-> scrypt\n").1.contains("passphrase"));
    }

    #[test]
    fn a_secret_can_be_decrypted_only_with_its_key() {
        let (one, other) = (Identity::generate(), Identity::generate());
        let ciphertext = one.encrypt(&SecretString::from("pässword"), &[]).unwrap();
        assert_eq!(one.decrypt(&ciphertext).unwrap().expose_secret(), "pässword");
        assert_eq!(other.decrypt(&ciphertext).unwrap_err(), DecryptError::OtherIdentity);
        let mut cut = ciphertext.clone();
        cut.truncate(ciphertext.len() - 1);
        assert_eq!(one.decrypt(&cut).unwrap_err(), DecryptError::Damaged);
        assert_eq!(one.decrypt(b"nothing").unwrap_err(), DecryptError::Damaged);
        assert!(!ciphertext.windows(8).any(|part| part == "pässword".as_bytes()[..8].as_ref()));
    }

    #[test]
    fn additional_recipients_can_also_decrypt_a_secret() {
        let (own, other, stranger) = (Identity::generate(), Identity::generate(), Identity::generate());
        let recipient = PublicKey::parse(&other.0.to_public().to_string()).unwrap();
        let ciphertext = own.encrypt(&SecretString::from("x"), std::slice::from_ref(&recipient)).unwrap();
        for reader in [own, other] {
            assert_eq!(reader.decrypt(&ciphertext).unwrap().expose_secret(), "x");
        }
        assert_eq!(stranger.decrypt(&ciphertext).unwrap_err(), DecryptError::OtherIdentity);
        let again = PublicKey::parse(&recipient.to_string()).unwrap();
        assert_eq!(recipients_text(&[again, recipient.clone()]), recipient.to_string());
        for invalid in ["", "age1", KEYGEN, "AGE-SECRET-KEY-1GQ9", "ssh-ed25519 AAAA"] {
            assert!(!PublicKey::parse(invalid).unwrap_err().contains("SECRET"), "{invalid}");
        }
    }

    #[test]
    fn the_debug_output_contains_no_private_key() {
        let identity = Identity::parse(KEYGEN).unwrap();
        assert!(!format!("{identity:?}").contains("AGE-SECRET"));
    }
}
