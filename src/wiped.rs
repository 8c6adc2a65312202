//! Texts with secrets, in memory that is wiped.

use std::io::{self, Write};

use secrecy::zeroize::Zeroizing;
use serde::Serialize;

/// Serializes a value with secrets into a buffer that is wiped. It does not grow, so that no copy is left behind.
pub fn to_json(value: &impl Serialize) -> serde_json::Result<Zeroizing<Vec<u8>>> {
    let mut length = Length(0);
    serde_json::to_writer(&mut length, value)?;
    let mut text = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer(&mut *text, value)?;
    Ok(text)
}

/// Counts what is written to it.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_buffer_has_exactly_the_length_of_the_text() {
        let value = json!({"password": "\u{1}\"ä".repeat(1000)});
        let text = to_json(&value).unwrap();
        assert_eq!(text.as_slice(), value.to_string().as_bytes());
        assert_eq!(text.capacity(), text.len());
    }
}
